"""The ranked candidates of a run as a table, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from search.ranking import RankedCandidate

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


def as_records(ranked: Sequence[RankedCandidate]) -> list[dict[str, Any]]:
    """One mapping of `COLUMNS` per candidate; `reward` and `spread` are shares of 1."""
    return [
        {
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
        for rank, candidate in enumerate(ranked, start=1)
    ]


def as_json(run: Path, ranked: Sequence[RankedCandidate]) -> str:
    """The document that `top --json` prints."""
    return json.dumps({"run": str(run), "candidates": as_records(ranked)}, ensure_ascii=False)


def as_csv(ranked: Sequence[RankedCandidate]) -> str:
    """The same as comma-separated values with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_records(ranked))
    return text.getvalue()


def as_table(ranked: Sequence[RankedCandidate], *, rungs: int) -> Table:
    """A table for people; candidates without a reward show why."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("f(x)", overflow="fold", ratio=3)
    table.add_column("name", no_wrap=True)
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column("loss", justify="right")
    if rungs > 1:
        table.add_column("rung", justify="right")
    table.add_column("trials", justify="right")
    table.add_column("s", justify="right")
    for rank, candidate in enumerate(ranked, start=1):
        reward = candidate.reward
        if reward is None:
            accuracy, loss = candidate.status, "–"
        else:
            accuracy = f"{100 * reward:.2f} %"
            if candidate.spread is not None:
                accuracy += f" ± {100 * candidate.spread:.2f}"
            loss = "–" if candidate.loss is None else f"{candidate.loss:.4f}"
        name = candidate.row.name or ""
        cells = [
            str(rank),
            Text(candidate.row.formula),
            Text(f"{name} ▪".strip() if candidate.baseline else name),
            Text(accuracy),
            Text(loss),
            *([str(candidate.rung + 1)] if rungs > 1 else []),
            str(len(candidate.trials)),
            f"{candidate.seconds:.1f}",
        ]
        table.add_row(*cells, style="cyan" if candidate.baseline else None)
    if any(candidate.baseline for candidate in ranked):
        table.caption = "▪ baseline, trained beside the candidates"
        table.caption_justify = "left"
    return table
