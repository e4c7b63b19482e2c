r"""LaTeX: the formula as a displayed equation, needs amsmath for `\operatorname`."""

from __future__ import annotations

from .layout import WIDTH, filled
from .subject import Subject


def latex_source(subject: Subject) -> str:
    """The equation, behind comments that say what it is."""
    comments = []
    for paragraph in (subject.summary, subject.source, *_symbols(subject)):
        comments += filled(" ".join(paragraph.split()), WIDTH)
    rows = subject.latex.split(r",\quad ")
    equation = [f"  f(x) = {rows[0]}" + (",\\\\" if rows[1:] else "")]
    for place, row in enumerate(rows[1:], start=2):
        equation.append(f"  {row}" + (",\\\\" if place < len(rows) else ""))
    begin, end = (r"\begin{gather*}", r"\end{gather*}") if rows[1:] else (r"\[", r"\]")
    return "\n".join([*(f"% {line}" for line in comments), begin, *equation, end, ""])


def _symbols(subject: Subject) -> list[str]:
    """What the letters mean."""
    found = []
    if r"\sigma" in subject.latex:
        found.append("σ(z) = 1 / (1 + exp(−z))")
    if r"\varepsilon" in subject.latex:
        found.append("ε = 1e-7")
    if subject.body.vectors:
        found.append(
            "trainable, one value per channel: "
            + ", ".join(
                f"{vector.name}, at first {vector.init:g}" for vector in subject.body.vectors
            )
        )
    return [f"{'; '.join(found)}."] if found else []
