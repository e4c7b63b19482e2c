"""`actsearch compare`: several runs of one budget, and who found what, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from ..errors import DONE, RequestError
from ..inspection.comparison import NEAR, Comparison, Find, course_of, differences, notes
from ..inspection.plots import check_plot, draw_comparison
from ..inspection.tables import stdout
from ..printable import json_line

Flag = Annotated[bool, Parameter(negative="")]


def compare(
    *runs: Path,
    anyway: Flag = False,
    plot: Path | None = None,
    json: Flag = False,
) -> int:
    """Who found what and when: runs of the same child, data and schedule, side by side.

    Baselines do not count, unless the strategy proposed them.

    Parameters
    ----------
    runs
        The runs' folders, two at least.
    anyway
        Show runs side by side although their children, data or schedules differ.
    plot
        Draw the best accuracy so far by trials and by seconds into this file, .png or .svg.
    json
        Print one JSON document.
    """
    if plot is not None:
        check_plot(plot)
    if len(runs) < 2:
        raise RequestError(f"`runs` must be two folders at least, got {len(runs)}")
    for run in runs:
        if sum(run.resolve() == other.resolve() for other in runs) > 1:
            raise RequestError(f"`runs`: {run} is named twice")
    courses = tuple(course_of(run) for run in runs)
    found = differences(courses)
    if found and not anyway:
        raise RequestError(
            f"these runs cannot be compared: {'; '.join(found)} (`--anyway` shows them side by side)"
        )
    warnings = [f"not comparable: {line}" for line in found]
    comparison = Comparison(courses, (*warnings, *notes(courses)))
    if plot is not None:
        lines = [
            {
                "label": f"{c.run.name} ({c.science.search.strategy}, {c.science.search.seed})",
                "strategy": c.science.search.strategy,
                "by_trials": c.by_trials(),
                "by_seconds": c.by_seconds(),
            }
            for c in courses
        ]
        draw_comparison(lines, plot)
    if json:
        print(json_line(comparison.as_dict()))
        return DONE
    out = stdout()
    out.print(_runs(comparison))
    out.print()
    out.print(_groups(comparison))
    for line in _footnotes(comparison):
        out.print(Text(line), highlight=False, soft_wrap=True)
    return DONE


def _runs(comparison: Comparison) -> Table:
    common = comparison.common
    unequal = any(course.trials != common for course in comparison.courses)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("strategy", no_wrap=True)
    table.add_column("seed", justify="right")
    table.add_column("trials", justify="right")
    table.add_column("best", justify="right", no_wrap=True)
    table.add_column("of", overflow="fold", ratio=2)
    table.add_column("at", justify="right")
    if unequal:
        table.add_column(f"best of {common}", justify="right")
    table.add_column("near at", justify="right")
    table.add_column("after s", justify="right")
    for course in comparison.courses:
        best, near = course.best(), comparison.near(course)
        table.add_row(
            str(course.run),
            course.science.search.strategy,
            str(course.science.search.seed),
            f"{course.trials}{'' if course.finished else ' …'}",
            _accuracy(best),
            Text("–" if best is None else best.candidate.row.name or best.candidate.row.formula),
            "–" if best is None else str(best.trials),
            *([_accuracy(course.best(common))] if unequal else []),
            "–" if near is None else str(near.trials),
            "–" if near is None else f"{near.seconds:.0f}",
        )
    return table


def _groups(comparison: Comparison) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("strategy", "runs", "median best", "spread", "lowest – highest", "near at"):
        table.add_column(column, justify="left" if column == "strategy" else "right")
    for group in comparison.groups():
        near = group.median_near
        table.add_row(
            group.strategy,
            str(len(group.seeds)),
            "–" if group.median is None else f"{100 * group.median:.2f} %",
            "–" if group.spread is None else f"± {100 * group.spread:.2f}",
            f"{100 * min(group.bests):.2f} – {100 * max(group.bests):.2f}" if group.bests else "–",
            "–" if near is None else f"{near:g}",
        )
    return table


def _footnotes(comparison: Comparison) -> list[str]:
    common = comparison.common
    return [
        f"trials count without baselines; … goes on; near: within {100 * NEAR:g} % of the best",
        f"strategies: over the {common} trials that every run has, medians over seeds",
        *comparison.notes,
    ]


def _accuracy(find: Find | None) -> str:
    return "–" if find is None else f"{100 * find.accuracy:.2f} %"
