"""`actsearch top`: the ranked candidates of a run, or some of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from search.journal import Journal
from search.ranking import rank
from spaces.operator_source import BUILT_IN

from ..errors import DONE, RequestError
from ..inspection.reading import reading
from ..inspection.selection import (
    Order,
    Place,
    containing,
    known_as,
    operators_in,
    ordered,
    without_reward,
)
from ..inspection.tables import as_csv, as_json, as_table, stdout, title
from ..run import read_run_config
from .options import WHOLE

Flag = Annotated[bool, Parameter(negative="")]

LISTED = 20
"""Rows of a table where neither the request nor the run says how many."""


def top(
    run: Path,
    *,
    limit: Annotated[int | None, WHOLE] = None,
    by: Order = "reward",
    name: str | None = None,
    contains: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    failed: Flag = False,
    json: Flag = False,
    csv: Flag = False,
) -> int:
    """Ranked candidates of a run, best first, while it goes on or long after.

    Parameters
    ----------
    run
        The run's folder.
    limit
        How many to list; 20 in a table, all in JSON and CSV.
    by
        Another order: lowest loss first, most seconds or trials first. Numbers stay those of the
        ranking.
    name
        Only the function known under this name, as swish or "Swish-1".
    contains
        Only candidates that use this operator; may be repeated, to ask for several at once.
    failed
        Only candidates without a reward, and why: diverged, failed, refused before training.
    json
        Print one JSON document; rungs count from 0 in it.
    csv
        Print comma-separated values, likewise.
    """
    if limit is not None and limit < 1:
        raise RequestError(f"`limit` must be ≥ 1, got {limit}")
    if json and csv:
        raise RequestError("`json` and `csv` exclude each other")
    science, _ = read_run_config(run)
    with reading(run) as journal:
        everything: list[Place] = list(enumerate(rank(journal), start=1))
        places = without_reward(journal, everything) if failed else everything
        own = _operators(journal) if contains and science.space.operators != BUILT_IN else set()
    if name is not None:
        places = known_as(places, name)
    if contains:
        places = containing(places, contains, own)
    places = ordered(places, by)
    found = len(places)
    if not (json or csv):
        limit = limit or science.search.listed or LISTED
    ranks, ranked = [place[0] for place in places[:limit]], [place[1] for place in places[:limit]]
    if json:
        print(as_json(run, ranked, ranks))
        return DONE
    if csv:
        print(as_csv(ranked, ranks), end="")
        return DONE
    out = stdout()
    rungs = len(science.search.ladder(1))
    heading = title(run, [candidate for _, candidate in everything])
    if name is not None or contains or failed:
        heading += f"; {found:,} {'without a result, or refused' if failed else 'of them'} fit"
    out.print(heading, highlight=False, soft_wrap=True)
    if ranked:
        out.print(as_table(ranked, rungs=rungs, ranks=ranks, reasons=failed))
    return DONE


def _operators(journal: Journal) -> set[str]:
    """The operators that occur in a run whose set is not at hand."""
    return {op for row in journal.candidates(sampled=False) for op in operators_in(row.expression)}
