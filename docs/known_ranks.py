"""Where known functions stand in a run over the one-unit space, on every rung: a table and a plot.

uv run --group docs python docs/known_ranks.py RUN docs/rediscovery.png

Functions of a run's `--baselines` are trained on every rung, whatever came of them; the table says
where each stands among all that were trained on a rung, and whether it would have gone on by its
own merit. Diverged functions count as last.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from launch.run import read_run_config
from search.journal import Journal
from search.ranking import standing
from spaces import CATALOGUE, PAPER, canonical, parse

SWISHES = [
    f"gate({inner}, {factor})"
    for inner in ("x", "scale(x)", "shift(x)")
    for factor in ("x", "scale(x)")
]
"""x · σ(x) with a trainable scale or shift where the one-unit space can have one."""


def main(run: Path, destination: Path | None) -> None:
    """Prints the table, and draws the plot if it has a destination."""
    journal = Journal.read(run)
    science, _ = read_run_config(run)
    rungs = science.search.ladder(science.train.steps)
    standings = [_standings(journal, rung) for rung in range(len(rungs))]
    orders = [
        {number: place for place, number in enumerate(sorted(found, key=found.__getitem__), 1)}
        for found in standings
    ]
    wanted = [(known.title, known.expression) for known in CATALOGUE]
    wanted += [("a form of Swish", text) for text in SWISHES]
    seen: dict[int, tuple[str, str]] = {}
    for title, text in wanted:
        number = journal.number(str(canonical(parse(text, PAPER), PAPER)))
        if number is not None:
            row = journal.candidate(number)
            seen.setdefault(row.root, (title, row.formula))
    top = [n for n in sorted(orders[-1], key=orders[-1].__getitem__) if n not in seen]
    for number in top:
        seen[number] = ("found", journal.candidate(number).formula)

    def key(number: int) -> tuple[float, ...]:
        return tuple(order.get(number, math.inf) for order in reversed(orders))

    heads = [f"{rung.steps} steps, {len(orders[place]):,}" for place, rung in enumerate(rungs)]
    print("| function | known as | " + " | ".join(heads) + " |")
    print("|---" * (2 + len(heads)) + "|")
    for number in sorted(seen, key=key):
        title, text = seen[number]
        cells = [
            _cell(order.get(number), found.get(number))
            for order, found in zip(orders, standings, strict=True)
        ]
        print(f"| {text} | {title} | " + " | ".join(cells) + " |")
    if destination is not None:
        _draw(standings, rungs, seen, destination)


def _standings(journal: Journal, rung: int) -> dict[int, tuple[float, float]]:
    """Of each function on a rung, minus its accuracy, then its loss; infinite if it diverged."""
    outcomes: dict[int, list[tuple[float, float | None]]] = {}
    for trial, outcome in journal.trials(details=False):
        if trial.rung == rung and outcome is not None:
            own = outcomes.setdefault(trial.candidate, [])
            if outcome.reward is not None:
                own.append((outcome.reward, outcome.loss))
    return {number: standing(own) for number, own in outcomes.items()}


def _cell(place: int | None, found: tuple[float, float] | None) -> str:
    if place is None or found is None:
        return "–"
    return "diverged" if math.isinf(found[0]) else f"{place} ({-100 * found[0]:.2f} %)"


def _draw(standings, rungs, seen, destination: Path) -> None:
    """One strip a rung: every function a grey point, known functions marked and named."""
    figure, axes = plt.subplots(len(rungs), 1, figsize=(9, 1.9 * len(rungs)))
    for axis, found, rung in zip(axes, standings, rungs, strict=True):
        values = sorted(-100 * key[0] for key in found.values() if math.isfinite(key[0]))
        axis.hist(values, bins=60, color="#c9d3df")
        axis.set_yticks([])
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.set_title(
            f"{rung.steps} steps: {len(values):,} functions with a result", fontsize=9, loc="left"
        )
        marked = [
            (-100 * found[number][0], title)
            for number, (title, _) in seen.items()
            if title in ("ReLU", "Swish", "Swish-1", "GELU", "ELU", "Softplus", "max(x, tanh x)")
            and number in found
            and math.isfinite(found[number][0])
        ]
        height = axis.get_ylim()[1]
        for place, (value, title) in enumerate(sorted(marked)):
            colour = "#d9822b" if title.startswith("Swish") else "#1f5fa8"
            axis.axvline(value, color=colour, linewidth=1)
            axis.text(
                value,
                height * (0.96 - 0.14 * (place % 6)),
                f" {title}",
                fontsize=7,
                color=colour,
                va="top",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
            )
    axes[-1].set_xlabel("validation accuracy, %")
    figure.tight_layout()
    figure.savefig(destination, dpi=130)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
