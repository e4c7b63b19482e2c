"""Looks at a candidate before anything is trained: nothing is trained in vain.

A candidate is brought to canonical form, pre-flighted, fingerprinted and compared with every
function met before; equal functions share their trials.
"""

from __future__ import annotations

from dataclasses import replace

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
    formula,
    latex,
    run_preflight,
)
from spaces.naming import with_known_functions

from .journal import CandidateRow


class Examiner:
    """Knows every candidate of a run, by text and by values.

    Args:
        operators: The run's operators.
        table: What the run's programs may name.
    """

    def __init__(self, operators: OperatorSet, table: OperatorTable) -> None:
        self._operators = operators
        self._prober = Prober(with_known_functions(table), batch=1)
        self._names = KnownNames(self._prober)
        self._index = FingerprintIndex()
        self._by_text: dict[str, CandidateRow] = {}
        self._by_id: dict[int, CandidateRow] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __getitem__(self, number: int) -> CandidateRow:
        """The candidate of this number."""
        return self._by_id[number]

    def restore(self, row: CandidateRow) -> None:
        """Remembers a candidate that the journal has."""
        if row.fingerprint is not None:
            self._index.add(str(row.id), row.fingerprint)
        self._remember(row)

    def examine(self, candidate: Candidate) -> tuple[CandidateRow, bool]:
        """Judges a candidate.

        Returns:
            Its row, and whether it is new.
        """
        candidate = canonical(candidate, self._operators)
        text = str(candidate)
        if text in self._by_text:
            return self._by_text[text], False
        probe = self._prober.probe([candidate])[0]
        verdict, reason = run_preflight(probe)
        equal_to = name = print_ = curve = None
        if verdict == "ok":
            found = fingerprint_of(probe)
            known = self._names.find(found)
            name = known.title if known else None
            earlier = self._index.find(found)
            if earlier is not None:
                equal_to = int(earlier)
            else:
                print_ = found
                curve = np.stack([probe.start_value, probe.start_slope])
                self._index.add(str(len(self) + 1), found)
        row = CandidateRow(
            id=len(self) + 1,
            expression=text,
            formula=formula(candidate, self._operators),
            latex=latex(candidate, self._operators),
            name=name,
            verdict=verdict,
            reason=reason,
            equal_to=equal_to,
            fingerprint=print_,
            curve=curve,
        )
        self._remember(row)
        return row, True

    def _remember(self, row: CandidateRow) -> None:
        light = replace(row, latex="", fingerprint=None, curve=None)
        self._by_text[row.expression] = light
        self._by_id[row.id] = light
