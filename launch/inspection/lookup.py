"""Which candidate of a run somebody means: by rank, by text, by the name that people know."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from search.journal import Journal
from search.ranking import RankedCandidate, rank_rows
from search.schema import CandidateRow
from spaces import (
    CATALOGUE,
    PAPER,
    Candidate,
    ExpressionError,
    OperatorSet,
    canonical,
    parse,
)
from spaces.catalogue import known_operators
from spaces.suggest import did_you_mean

from ..errors import RequestError
from .selection import operators_in, title_of


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate of a run."""

    candidate: RankedCandidate
    """It has no trials if none has finished."""
    rank: int | None
    """Its place in the ranking, from 1; None if it is not in it."""
    spelling: str
    """The spelling that was asked for, which may be another one than the candidate's."""


class Lookup:
    """Finds candidates of one run.

    Args:
        journal: The run's journal.
        run: Its folder, for messages.
        operators: The run's operators, so that text need not be canonical; None if nobody has them.
        by_value: Finds the number of the candidate that equals one by value; None does not try.
    """

    def __init__(
        self,
        journal: Journal,
        run: Path,
        operators: OperatorSet | None,
        by_value: Callable[[Candidate, Sequence[CandidateRow]], int | None] | None = None,
    ) -> None:
        self._run = run
        self._operators = operators
        self._by_value = by_value
        self._rows = list(journal.candidates(sampled=False))
        self._by_number = {row.id: row for row in self._rows}
        self.ranked = rank_rows(self._rows, journal.trials(details=False))
        """The run's ranking."""

    def find(self, wanted: str) -> Found:
        """The candidate that is meant.

        Args:
            wanted: A rank, an expression in any spelling that is structurally the same, a formula
                as it is shown, or the title or key of a known function.

        Raises:
            RequestError: There is none; a near miss is suggested.
        """
        wanted = wanted.strip()
        if re.fullmatch(r"[+-]?[0-9]{1,18}", wanted):
            return self.at(int(wanted))
        row = self._written(wanted) or self._called(wanted) or self._equal(wanted)
        if row is None:
            raise RequestError(self._complaint(wanted))
        return self._found(row)

    def at(self, rank: int) -> Found:
        """The candidate at a place of the ranking, from 1.

        Raises:
            RequestError: There is no such place.
        """
        if not self.ranked:
            raise RequestError(f"`candidate`: nothing has been trained in {self._run} yet")
        if not 1 <= rank <= len(self.ranked):
            raise RequestError(
                f"`candidate` must be a rank from 1 to {len(self.ranked)}, an expression or a "
                f"name, got {rank}"
            )
        found = self.ranked[rank - 1]
        return Found(found, rank, found.row.expression)

    def _found(self, row: CandidateRow) -> Found:
        for rank, candidate in enumerate(self.ranked, start=1):
            if candidate.row.id == row.root:
                return Found(candidate, rank, row.expression)
        root = self._by_number[row.root]
        aliases = [each.expression for each in self._rows if each.equal_to == root.id]
        return Found(RankedCandidate(root, baseline=False, aliases=aliases), None, row.expression)

    def _written(self, wanted: str) -> CandidateRow | None:
        """The row of this text, however it is spaced, or of its canonical form."""
        compact = "".join(wanted.split())
        by_text = {"".join(row.expression.split()): row for row in self._rows}
        if compact in by_text:
            return by_text[compact]
        candidate = self._parsed(wanted)
        if candidate is not None and self._operators is not None:
            text = str(canonical(candidate, self._operators))
            return by_text.get("".join(text.split()))
        return None

    def _called(self, wanted: str) -> CandidateRow | None:
        """The row of a known function, or of a formula as it is shown."""
        title = title_of(wanted, (row.name for row in self._rows))
        for row in self._rows:
            if (title is not None and row.name == title) or row.formula == wanted:
                return row
        return None

    def _equal(self, wanted: str) -> CandidateRow | None:
        candidate = self._parsed(wanted)
        if self._by_value is None or candidate is None:
            return None
        number = self._by_value(candidate, self._rows)
        return None if number is None else self._by_number[number]

    def _parsed(self, wanted: str) -> Candidate | None:
        if self._operators is None:
            return None
        try:
            return parse(wanted, self._operators)
        except ExpressionError:
            return None

    def _complaint(self, wanted: str) -> str:
        title = title_of(wanted)
        if title is not None:
            return f"`candidate`: {self._run} has met no function known as {title}"
        if "(" in wanted:
            known = [row.expression for row in self._rows]
        else:
            met = {row.name for row in self._rows}
            known = [n for each in CATALOGUE if each.title in met for n in (each.key, each.title)]
        near = did_you_mean(wanted, known)
        if "(" in wanted and (misspelt := self._misspelt(wanted, near)):
            return f"`candidate`: {misspelt}"
        allowed = near or "; give a rank, an expression or a known name"
        shown = wanted if len(wanted) <= 200 else wanted[:200] + "…"
        return f"`candidate`: {self._run} has met no {shown!r}{allowed}"

    def _misspelt(self, wanted: str, near: str) -> str:
        """What is wrong with an expression as text; empty if nothing, or if `near` mends it.

        Where nobody has the run's operators, those that it has met and the paper's are known.
        """
        names = known_operators(PAPER).keys() | set().union(
            *(operators_in(row.expression) for row in self._rows)
        )
        called, offered = operators_in(wanted), operators_in(near)
        unknown = sorted(called - names)
        same = len(offered) == len(called) and called & names <= offered
        if near and same and all(did_you_mean(name, offered) for name in unknown):
            return ""
        if self._operators is not None:
            try:
                parse(wanted, self._operators)
            except ExpressionError as error:
                return str(error)
        elif unknown:
            return f"unknown operator `{unknown[0]}`{did_you_mean(unknown[0], names)}"
        return ""
