"""The functions that the page lists: what is ranked, best first, then what has no result, by kind."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search.ranking import RankedCandidate
from search.schema import CandidateRow

from .formulas import FormulaTable

KINDS = ("ranked", "diverged", "failed", "untrained", "invalid", "constant", "equal")
"""What became of a function."""

TYPESET = 2_000
"""So many of the best, and the baselines, have their formula in MathML, the others in plain text:
0.5 ms and 60 bytes each."""

UNRANKED = 5_000
"""Most functions without a result that are listed; all are counted."""

TEXT = 1_900_000
"""Most bytes of text and formulas that are listed, best first: the page stays below 8 MB."""

_PLACE = re.compile(r"(=|\bstep|\bafter|\bepoch) -?\d[\d.e+-]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """A function of the list."""

    row: CandidateRow
    kind: str
    """One of `KINDS`."""
    rank: int
    """From 1; 0 of what has no result."""
    candidate: RankedCandidate | None
    """What was measured of it; None if it was never trained."""

    @property
    def baseline(self) -> bool:
        """Whether it is a known function that was run for comparison."""
        return self.candidate is not None and self.candidate.baseline

    @property
    def reason(self) -> str:
        """Why it has no result; empty if it has one."""
        return self.candidate.reason if self.candidate else self.row.reason


def entries(rows: Sequence[CandidateRow], ranked: Sequence[RankedCandidate]) -> list[Entry]:
    """Every function of a run, in the order of the list."""
    found = []
    for rank, candidate in enumerate(ranked, start=1):
        known = candidate.reward is not None
        kind = "ranked" if known else candidate.status
        found.append(Entry(candidate.row, kind, rank if known else 0, candidate))
    trained = {candidate.row.id for candidate in ranked}
    for row in rows:
        if row.id not in trained:
            kind = row.verdict if row.verdict != "ok" else "equal" if row.equal_to else "untrained"
            found.append(Entry(row, kind, 0, None))
    return sorted(found, key=lambda entry: KINDS.index(entry.kind))


def shortened(found: Sequence[Entry]) -> list[Entry]:
    """What is listed of them: baselines always, the others as far as there is room."""
    shown, size, unranked = [], 0, 0
    for entry in found:
        size += len(entry.row.expression) + len(entry.row.formula.encode())
        unranked += entry.rank == 0
        if entry.baseline or (size <= TEXT and unranked <= UNRANKED):
            shown.append(entry)
    return shown


def counted(found: Sequence[Entry]) -> dict[str, Any]:
    """How many there are of each kind, and the commonest reasons of each.

    Returns:
        `counts` by kind; `reasons`: by kind, up to twelve pairs of reason and number.
    """
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in found:
        if entry.reason:
            # Without the place where it struck: `f(x) is nan at x = …`.
            reasons[entry.kind][_PLACE.sub(r"\1 …", entry.reason)] += 1
    counts = Counter(entry.kind for entry in found)
    return {
        "counts": {kind: counts[kind] for kind in KINDS},
        "reasons": {kind: counter.most_common(12) for kind, counter in reasons.items()},
    }


def columns(shown: Sequence[Entry]) -> dict[str, Any]:
    """The list `[F]`, column by column; formulas in MathML for the best."""
    formulas = FormulaTable()
    places = {entry.row.id: place for place, entry in enumerate(shown)}
    table: dict[str, list[Any]] = defaultdict(list)
    reasons: dict[str, int] = {}
    for entry in shown:
        row, candidate = entry.row, entry.candidate
        typeset = entry.rank and (entry.rank <= TYPESET or entry.baseline)
        table["kind"].append(KINDS.index(entry.kind))
        table["rank"].append(entry.rank)
        table["expression"].append(row.expression)
        table["formula"].append(row.formula)
        table["name"].append(row.name or "")
        table["math"].append(formulas.add(row.latex) if typeset else 0)
        table["reason"].append(reasons.setdefault(entry.reason, len(reasons)))
        table["root"].append(-1 if row.equal_to is None else places.get(row.equal_to, -1))
        table["baseline"].append(int(entry.baseline))
        table["reward"].append(rounded(candidate.reward if candidate else None, 5))
        table["spread"].append(rounded(candidate.spread if candidate else None, 5))
        table["loss"].append(rounded(candidate.loss if candidate else None, 4))
        table["seconds"].append(round(candidate.seconds, 1) if candidate else 0)
        table["rung"].append(candidate.rung + 1 if candidate else 0)
        table["trials"].append(len(candidate.trials) if candidate else 0)
        table["aliases"].append(len(candidate.aliases) if candidate else 0)
    return {"functions": table, "reason_texts": list(reasons), "nodes": formulas.nodes}


def rounded(value: float | None, digits: int) -> float | None:
    """A number as JSON can hold it; None if it is not finite."""
    if value is None or value != value or abs(value) == float("inf"):
        return None
    return round(value, digits)
