"""What is exported: a candidate, the way in which it is written, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass

from ..candidate import Candidate
from ..canonical import canonical
from ..catalogue import KnownFunction, known_operators
from ..formula import formula, latex
from ..operator_set import OperatorSet
from ..paper import PAPER
from .body import Body, body_of, reserved
from .errors import ExportError
from .recognition import body_of_known, recognised, reference
from .simplify import simplified


@dataclass(frozen=True, slots=True)
class Subject:
    """A candidate on its way to a target."""

    expression: str
    """The canonical text."""
    known: KnownFunction | None
    """The known function that it is."""
    body: Body
    """How it is computed."""
    formula: str
    """Unicode, of the known function if it is one."""
    latex: str
    """LaTeX, likewise."""
    origin: str
    """Where it was found, as it follows `… in actsearch`; may be empty."""
    name: str | None
    """The name that was asked for."""

    @classmethod
    def of(
        cls,
        candidate: Candidate,
        operators: OperatorSet,
        *,
        name: str | None,
        origin: str,
        beta_init: float | None,
    ) -> Subject:
        """Recognises and simplifies a candidate.

        Raises:
            ExportError: `name` cannot be the name of a function.
        """
        if name is not None and (not name.isidentifier() or reserved(name)):
            raise ExportError(
                f"`name` must be a Python name with no meaning of its own, got {name!r}"
            )
        candidate = canonical(candidate, operators)
        body = body_of(candidate, known_operators(operators), beta_init)
        known = recognised(candidate, operators)
        plain = None if known is None else body_of_known(known, body)
        if known is None or plain is None:
            shown, over, known = candidate, operators, None
        else:
            shown, over, body = known.candidate, PAPER, plain
        return cls(
            expression=str(candidate),
            known=known,
            body=simplified(body),
            formula=formula(shown, over),
            latex=latex(shown, over),
            origin=" ".join(origin.split()),
            name=name,
        )

    @property
    def function_name(self) -> str:
        """The name of a function or expression."""
        return self.name or (self.known.key if self.known else "activation")

    @property
    def class_name(self) -> str:
        """The name of a class."""
        if self.name or not self.known:
            return self.name or "Activation"
        title = self.known.title.replace("-", "")
        if title.isidentifier() and title.isascii():
            return title[0].upper() + title[1:]
        return "".join(word.capitalize() for word in self.known.key.split("_"))

    @property
    def summary(self) -> str:
        """One sentence: the name, if it has one, and the formula."""
        where = ", ε = 1e-7" if "ε" in self.formula else ""
        shown = " ".join(self.formula.split())
        return f"{self.known.title + ': ' if self.known else ''}f(x) = {shown}{where}."

    @property
    def source(self) -> str:
        """Where it comes from."""
        found = f"`{self.expression}` in actsearch{', ' if self.origin else ''}{self.origin}."
        come = reference(self.known) if self.known else ""
        return f"{come}. {found}" if come else found


def missing_forms(body: Body, field: str) -> None:
    """Checks that every operator has a source form.

    Args:
        body: What is to be written.
        field: The field of `Operator` that holds it.

    Raises:
        ExportError: One has none; the message names all of them.
    """
    names = [f"`{each.name}`" for each in body.operators if getattr(each, field) is None]
    if names:
        kind = "operator" if len(names) == 1 else "operators"
        have = "has" if len(names) == 1 else "have"
        raise ExportError(
            f"{kind} {', '.join(names)} {have} no {field} form; "
            f"it is the `{field}` of spaces.Operator"
        )
