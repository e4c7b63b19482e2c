"""Whether operators of one name mean the same in a run and in an operator set at hand.

Nothing of a run is executed: its journal has the sampled values and slopes of its candidates, and
those are what the operators at hand must give again. For each operator the shortest candidates that
use it are looked at.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from spaces import (
    ExpressionError,
    OperatorSet,
    OperatorTable,
    Prober,
    fingerprint_of,
    parse,
)
from spaces.fingerprint import TOLERANCE
from spaces.space import MAX_CORE_UNITS

from .journal import Journal
from .schema import CandidateRow

WITNESSES = 4
"""Candidates that are looked at for an operator, where there are so many."""

ALIKE = 0.95
"""Share of the grid on which float32 values and slopes have to agree."""

_CALLED = re.compile(r"([a-z][a-z0-9_]*)\(")


def operators_with_other_meaning(
    journal: Journal, operators: OperatorSet, beta_init: float | None
) -> list[str]:
    """Names of operators that a run has otherwise; what it did not use cannot be told.

    Args:
        journal: The run's journal.
        operators: The set at hand.
        beta_init: Initial value of trainable vectors in both; None: each operator's own.
    """
    table = OperatorTable.for_run(operators, core_units=MAX_CORE_UNITS, beta_init=beta_init)
    prober = Prober(table)
    agreeing: Counter[str] = Counter()
    differing: list[set[str]] = []
    for number, names in _witnesses(journal, operators):
        if _gives(journal.candidate(number), prober, operators):
            agreeing.update(names)
        else:
            differing.append(names)
    found = _suspects(differing, agreeing)
    return [operator.name for operator in operators if operator.name in found]


def _suspects(differing: list[set[str]], agreeing: Counter[str]) -> set[str]:
    """Few operators that explain all differences.

    Args:
        differing: Names of operators in each candidate that differs.
        agreeing: How many candidates with each operator agree: another operand may hide one that
            differs, as in `max(abs(x), sin(x))`.
    """
    found: set[str] = set()
    while differing:
        count = Counter(name for names in differing for name in sorted(names))
        found.add(max(count, key=lambda name: count[name] - agreeing[name]))
        differing = [names for names in differing if not names & found]
    return found


def _witnesses(journal: Journal, operators: OperatorSet) -> list[tuple[int, set[str]]]:
    """Candidates by number, with the names of the operators that they use, the shortest first."""
    here = {operator.name for operator in operators}
    rows = [
        (len(row.expression), row.id, set(_CALLED.findall(row.expression)))
        for row in journal.candidates(sampled=False)
        if row.verdict == "ok" and row.equal_to is None
    ]
    count: Counter[str] = Counter()
    chosen = []
    for _, number, names in sorted(rows, key=lambda row: row[:2]):
        if names <= here and any(count[name] < WITNESSES for name in names):
            count.update(names)
            chosen.append((number, names))
    return chosen


def _gives(row: CandidateRow, prober: Prober, operators: OperatorSet) -> bool:
    """Whether a candidate has the values and slopes that the run noted."""
    assert row.fingerprint is not None and row.curve is not None
    try:
        (probe,) = prober.probe([parse(row.expression, operators, hidden=())])
    except ExpressionError:
        return False
    curve = np.stack([probe.start_value, probe.start_slope])
    found = fingerprint_of(probe)
    if found.shape != row.fingerprint.shape or curve.shape != row.curve.shape:
        return False
    if not np.abs(found - row.fingerprint).max() <= TOLERANCE:
        return False
    # Other processors round float32 otherwise, next to a pole by much.
    return float(np.isclose(curve, row.curve, rtol=1e-3, atol=1e-4).mean()) >= ALIKE
