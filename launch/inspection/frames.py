"""A run as pandas data frames; needs the extra `notebook`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from search.journal import Journal
from search.ranking import RankedCandidate, rank_rows

from ..config import Rung
from ..errors import RequestError
from .tables import as_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

CANDIDATES = (
    "rank",
    "expression",
    "formula",
    "name",
    "reward",
    "spread",
    "loss",
    "rung",
    "trials",
    "seconds",
    "status",
    "reason",
    "baseline",
    "equal_to",
    "proposed",
)
"""Columns of `candidates_frame`."""

TRIALS = (
    "expression",
    "formula",
    "name",
    "rung",
    "steps",
    "replicate",
    "baseline",
    "status",
    "reward",
    "loss",
    "seconds",
    "reason",
    "finished",
)
"""Columns of `trials_frame`."""


def candidates_frame(journal: Journal) -> pd.DataFrame:
    """One row per candidate that was met: ranked ones first, then the others as they were met.

    A spelling that is equal to an earlier one has the status `equal`, the other's expression in
    `equal_to` and no measurements: they stand in the other's row.

    Args:
        journal: Opened for reading.

    Returns:
        Columns `CANDIDATES`, indexed by the candidate's number. `proposed` counts how often the
        strategy proposed just this spelling.

    Raises:
        RequestError: pandas is missing.
    """
    pandas = _pandas()
    rows = {row.id: row for row in journal.candidates(sampled=False)}
    ranked = rank_rows(rows.values(), journal.trials(details=False))
    proposed = Counter(journal.proposed())
    ranks = {candidate.row.id: rank for rank, candidate in enumerate(ranked, start=1)}
    everything = [*ranked]
    everything += [
        RankedCandidate(row, baseline=False) for row in rows.values() if row.id not in ranks
    ]
    records = []
    for candidate in everything:
        row = candidate.row
        record = {
            **as_record(ranks.get(row.id), candidate),
            "equal_to": None if row.equal_to is None else rows[row.equal_to].expression,
            "proposed": proposed[row.id],
        }
        if row.equal_to is not None:
            record["status"] = "equal"
        if not candidate.trials:
            record["rung"] = None
        records.append(record)
    index = pandas.Index([each.row.id for each in everything], name="candidate", dtype="int64")
    frame = pandas.DataFrame.from_records(records, index=index, columns=list(CANDIDATES))
    numbers = dict.fromkeys(("reward", "spread", "loss", "seconds"), "float64")
    whole = {"rank": "Int64", "rung": "Int64", "trials": "int64", "proposed": "int64"}
    return frame.astype({**numbers, **whole, "baseline": "bool"})


def trials_frame(journal: Journal, ladder: Sequence[Rung]) -> pd.DataFrame:
    """One row per trial in the order in which they were planned.

    Args:
        journal: Opened for reading.
        ladder: The run's rungs.

    Returns:
        Columns `TRIALS`, indexed by the trial's number. One that has no outcome yet is `planned`;
        `finished` is the time when the outcome was recorded, UTC.

    Raises:
        RequestError: pandas is missing.
    """
    pandas = _pandas()
    rows = {row.id: row for row in journal.candidates(sampled=False)}
    times = journal.finished()
    records: list[dict[str, Any]] = []
    numbers = []
    for trial, outcome in journal.trials(details=False):
        numbers.append(trial.id)
        records.append(
            {
                "expression": trial.expression,
                "formula": rows[trial.candidate].formula,
                "name": rows[trial.candidate].name,
                "rung": trial.rung,
                "steps": ladder[trial.rung].steps,
                "replicate": trial.replicate,
                "baseline": trial.baseline,
                "status": "planned" if outcome is None else outcome.status,
                "reward": None if outcome is None else outcome.reward,
                "loss": None if outcome is None else outcome.loss,
                "seconds": None if outcome is None else outcome.seconds,
                "reason": "" if outcome is None else outcome.reason,
                "finished": times.get(trial.id),
            }
        )
    index = pandas.Index(numbers, name="trial", dtype="int64")
    frame = pandas.DataFrame.from_records(records, index=index, columns=list(TRIALS))
    frame = frame.astype(
        {
            **dict.fromkeys(("reward", "loss", "seconds"), "float64"),
            **dict.fromkeys(("rung", "steps", "replicate"), "int64"),
            "baseline": "bool",
        }
    )
    frame["finished"] = pandas.to_datetime(frame["finished"].astype("float64"), unit="s", utc=True)
    return frame


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise RequestError(
            "data frames need pandas, which the extra `notebook` brings: "
            "pip install 'actsearch[notebook]', or pandas>=2 by itself"
        ) from None
    return pandas
