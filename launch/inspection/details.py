"""Everything that a run knows of one candidate, as data: what `show` prints and notebooks read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from search.journal import Journal
from search.outcome import Outcome, Trial
from spaces.grid import grid

from ..config import Rung
from .lookup import Found
from .tables import as_record


def details_of(journal: Journal, found: Found, ladder: Sequence[Rung]) -> dict[str, Any]:
    """One candidate as JSON-able data.

    Args:
        journal: The run's journal, opened for reading.
        found: The candidate.
        ladder: The run's rungs.

    Returns:
        The entries of `launch.inspection.tables.COLUMNS`, `trials` aside, which is a list of what
        `trial_record` makes; `latex`; `spelling`, as it was asked for; `aliases`, other spellings
        that were proposed; `proposed`, how often any of them was; `graph`, f and f′ at the initial
        values on the points x, None of one that pre-flight refused.
    """
    row = journal.candidate(found.candidate.row.id)
    spellings = {row.expression, *found.candidate.aliases}
    numbers = {n for text in spellings if (n := journal.number(text)) is not None}
    graph = None
    if row.curve is not None:
        values, slopes = (_numbers(each) for each in row.curve)
        graph = {"x": _numbers(grid()), "f": values, "slope": slopes}
    return {
        **as_record(found.rank, found.candidate),
        "latex": row.latex,
        "spelling": found.spelling,
        "aliases": found.candidate.aliases,
        "proposed": sum(number in numbers for number in journal.proposed()),
        "graph": graph,
        "trials": [trial_record(*pair, ladder) for pair in journal.trials(of=row.id)],
    }


def trial_record(trial: Trial, outcome: Outcome | None, ladder: Sequence[Rung]) -> dict[str, Any]:
    """One trial as JSON-able data; `status` is `planned` before there is an outcome.

    `curve` has a mapping of step, loss and accuracy for each point of the training, `beta` one of
    layer, operator, param, slot, mean, std, min and max for each trainable vector. `taken_from` is
    None, or the `run` (None: this one) and the `trial` in which the very same training was done.
    """
    details: Mapping[str, Any] = {} if outcome is None else outcome.details
    return {
        "trial": trial.id,
        "rung": trial.rung,
        "steps": ladder[trial.rung].steps if trial.rung < len(ladder) else None,
        "replicate": trial.replicate,
        "status": "planned" if outcome is None else outcome.status,
        "reward": None if outcome is None else outcome.reward,
        "loss": None if outcome is None else outcome.loss,
        "seconds": None if outcome is None else round(outcome.seconds, 3),
        "reason": "" if outcome is None else outcome.reason,
        "taken_from": _origin(details),
        "curve": list(details.get("curve") or ()),
        "beta": list(details.get("beta") or ()),
    }


def _origin(details: Mapping[str, Any]) -> dict[str, Any] | None:
    if "known_from" in details:
        return dict(details["known_from"])
    return {"run": None, "trial": details["same_as"]} if "same_as" in details else None


def _numbers(values: Any) -> list[float | None]:
    """Rounded to what a float32 holds; None where JSON has no number."""
    return [float(f"{value:.7g}") if math.isfinite(value) else None for value in values]
