"""Looks at a candidate before anything is trained: nothing is trained in vain.

A candidate is brought to canonical form, pre-flighted, fingerprinted and compared with every
function met before; equal functions share their trials. What was met before is in the journal,
which finds it again by text and by number; kept here are 40 bytes a candidate.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from spaces import (
    Candidate,
    FingerprintIndex,
    KnownNames,
    OperatorSet,
    OperatorTable,
    Prober,
    canonical,
    fingerprint_of,
    run_preflight,
)
from spaces.formula import formula_and_latex
from spaces.naming import shared_table
from spaces.probe import Probe

from .journal import Journal
from .schema import CandidateRow


class Examiner:
    """Knows every candidate of a run, by text and by values.

    Args:
        operators: The run's operators.
        table: What the run's programs may name.
        journal: The run's journal, with the candidates met so far.
    """

    def __init__(self, operators: OperatorSet, table: OperatorTable, journal: Journal) -> None:
        self._operators = operators
        self._journal = journal
        self._prober = Prober(shared_table(table))
        self._names = KnownNames()
        self._index: FingerprintIndex[int] = FingerprintIndex(self._fingerprint)
        self._roots = array("q")
        """Of candidate n at n − 1; 0 where pre-flight refused it."""
        self._latest: dict[int, CandidateRow] = {}
        for row in journal.candidates():
            self._remember(row)

    def root(self, number: int) -> int | None:
        """The candidate whose trials are this one's too; None if there is nothing to train."""
        return self._roots[number - 1] or None

    def row(self, number: int) -> CandidateRow:
        """The candidate of this number; those that were written last are not read back."""
        return self._latest.get(number) or self._journal.candidate(number)

    def examine(self, candidates: Sequence[Candidate]) -> list[int]:
        """Judges candidates; new ones are written into the journal, within the transaction.

        Returns:
            Their numbers.
        """
        found = [canonical(candidate, self._operators) for candidate in candidates]
        texts = [str(candidate) for candidate in found]
        by_text = dict(zip(texts, found, strict=True))
        known = {text: self._journal.number(text) for text in by_text}
        numbers = {text: number for text, number in known.items() if number is not None}
        new = {text: each for text, each in by_text.items() if text not in numbers}
        self._latest = {}
        probes = self._prober.probe([*new.values()])
        for (text, candidate), probe in zip(new.items(), probes, strict=True):
            row = self._judged(candidate, text, probe)
            self._journal.add_candidate(row)
            self._latest[row.id] = row
            self._remember(row)
            numbers[text] = row.id
        return [numbers[text] for text in texts]

    def _judged(self, candidate: Candidate, text: str, probe: Probe) -> CandidateRow:
        verdict, reason = run_preflight(probe)
        equal_to = name = print_ = curve = None
        if verdict == "ok":
            found = fingerprint_of(probe)
            known = self._names.find(found)
            name = known.title if known else None
            equal_to = self._index.find(found)
            if equal_to is None:
                print_ = found
                curve = np.stack([probe.start_value, probe.start_slope])
        formula, latex = formula_and_latex(candidate, self._operators)
        return CandidateRow(
            id=len(self._roots) + 1,
            expression=text,
            formula=formula,
            latex=latex,
            name=name,
            verdict=verdict,
            reason=reason,
            equal_to=equal_to,
            fingerprint=print_,
            curve=curve,
        )

    def _remember(self, row: CandidateRow) -> None:
        self._roots.append(row.root if row.verdict == "ok" else 0)
        if row.fingerprint is not None:
            self._index.add(row.id, row.fingerprint)

    def _fingerprint(self, number: int) -> np.ndarray:
        found = self._journal.candidate(number).fingerprint
        assert found is not None
        return found
