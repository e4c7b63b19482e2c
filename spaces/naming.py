"""Recognises known functions: which name a candidate's fingerprint has."""

from __future__ import annotations

import numpy as np

from .catalogue import CATALOGUE, KnownFunction
from .fingerprint import FingerprintIndex, fingerprint_of
from .operator_set import OperatorSet
from .paper import PAPER
from .probe import Prober
from .program import OperatorTable


class KnownNames:
    """Maps fingerprints to entries of the catalogue.

    Every entry is evaluated with the paper's operators, whatever set a run uses.
    """

    def __init__(self) -> None:
        most = max(len(known.candidate.units) for known in CATALOGUE)
        prober = Prober(catalogue_table(core_units=most))
        self._index: FingerprintIndex[KnownFunction] = FingerprintIndex()
        for known in CATALOGUE:
            self._index.add(known, fingerprint_of(prober.probe([known.candidate])[0]))

    def find(self, fingerprint: np.ndarray) -> KnownFunction | None:
        """The known function that this fingerprint belongs to, or None."""
        return self._index.find(fingerprint)


def catalogue_table(operators: OperatorSet = PAPER, *, core_units: int = 1) -> OperatorTable:
    """A table that seats every known function, as one hidden operator if it needs more units."""
    return OperatorTable.for_run(
        operators, core_units=core_units, extra=[known.candidate for known in CATALOGUE]
    )
