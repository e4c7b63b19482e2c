"""The ranked candidates of a run as a table, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from search.ranking import RankedCandidate

from ..printable import json_line, printable

COLUMNS: tuple[str, ...] = (
    "rank",
    "expression",
    "formula",
    "name",
    "reward",
    "spread",
    "loss",
    "trials",
    "rung",
    "seconds",
    "status",
    "reason",
    "baseline",
)
"""Entries of one candidate, in JSON and CSV."""


def as_record(rank: int | None, candidate: RankedCandidate) -> dict[str, Any]:
    """`COLUMNS` of one candidate; `reward` and `spread` are shares of 1."""
    return {
        "rank": rank,
        "expression": candidate.row.expression,
        "formula": candidate.row.formula,
        "name": candidate.row.name,
        "reward": candidate.reward,
        "spread": candidate.spread,
        "loss": candidate.loss,
        "trials": len(candidate.trials),
        "rung": candidate.rung,
        "seconds": round(candidate.seconds, 3),
        "status": candidate.status,
        "reason": candidate.reason,
        "baseline": candidate.baseline,
    }


def as_records(
    ranked: Sequence[RankedCandidate], ranks: Sequence[int | None] | None = None
) -> list[dict[str, Any]]:
    """One mapping of `COLUMNS` per candidate.

    Args:
        ranked: The candidates.
        ranks: Their places in the run's ranking, None where there is none; without it they are
            the ranking.
    """
    places = range(1, len(ranked) + 1) if ranks is None else ranks
    return [as_record(rank, each) for rank, each in zip(places, ranked, strict=True)]


def as_json(
    run: Path, ranked: Sequence[RankedCandidate], ranks: Sequence[int | None] | None = None
) -> str:
    """The document that `top --json` prints."""
    document = {"run": str(run), "candidates": as_records(ranked, ranks)}
    return json_line(document)


def as_csv(ranked: Sequence[RankedCandidate], ranks: Sequence[int | None] | None = None) -> str:
    """The same as comma-separated values with a header, printable as they are."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_records(ranked, ranks))
    return printable(text.getvalue())


def as_table(
    ranked: Sequence[RankedCandidate],
    *,
    rungs: int,
    ranks: Sequence[int | None] | None = None,
    reasons: bool = False,
) -> Table:
    """A table for people; candidates without a reward show what became of them.

    Args:
        ranked: The candidates.
        rungs: How many the run has.
        ranks: As for `as_records`.
        reasons: Whether to say why they have no reward, in place of the loss.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("f(x)", overflow="fold", ratio=3)
    table.add_column("name", no_wrap=True)
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column("reason" if reasons else "loss", justify="left" if reasons else "right")
    if rungs > 1:
        table.add_column("rung", justify="right")
    table.add_column("trials", justify="right")
    table.add_column("s", justify="right")
    places = range(1, len(ranked) + 1) if ranks is None else ranks
    for rank, candidate in zip(places, ranked, strict=True):
        lost = loss(None if candidate.reward is None else candidate.loss)
        name = candidate.row.name or ""
        cells = [
            "–" if rank is None else str(rank),
            Text(candidate.row.formula),
            Text(f"{name} ▪".strip() if candidate.baseline else name),
            Text(accuracy(candidate)),
            Text(candidate.reason if reasons else lost),
            *([str(candidate.rung + 1)] if rungs > 1 else []),
            str(len(candidate.trials)),
            f"{candidate.seconds:.1f}",
        ]
        table.add_row(*cells, style="cyan" if candidate.baseline else None)
    if any(candidate.baseline for candidate in ranked):
        table.caption = "▪ baseline, trained beside the candidates"
        table.caption_justify = "left"
    return table


def accuracy(candidate: RankedCandidate) -> str:
    """Accuracy with its spread, or what became of a candidate that has none."""
    if candidate.reward is None:
        return candidate.status
    spread = candidate.spread
    text = f"{100 * candidate.reward:.2f} %"
    return text if spread is None else f"{text} ± {100 * spread:.2f}"


def loss(value: float | None) -> str:
    """A loss; some that learnt nothing are astronomical."""
    if value is None:
        return "–"
    return f"{value:.4f}" if value < 1000 else f"{value:.1e}".replace("e+", "e")


def title(folder: Path, ranked: Sequence[RankedCandidate]) -> Text:
    """The line above a table of some of all `ranked` candidates."""
    lost = sum(candidate.reward is None for candidate in ranked)
    without = f", {lost:,} of them without a result" if lost else ""
    return Text.assemble((str(folder), "bold"), f": {len(ranked):,} functions trained{without}")


class _Output(Console):
    """A console that shows text as text, whoever wrote it.

    No markup is looked for in it, and what would act on the terminal is written as its escape. What
    a reader who has read enough means is left to the caller.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Segments of what is printed, those that rich makes to move the cursor untouched."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def on_broken_pipe(self) -> None:
        """Raises what rich would turn into exit code 1."""
        raise BrokenPipeError


def stdout() -> Console:
    """Standard output, wide enough for a table where it is no terminal."""
    console = _Output()
    return console if console.is_terminal else _Output(width=120)


def stderr() -> Console:
    """Standard error, likewise."""
    return _Output(stderr=True)
