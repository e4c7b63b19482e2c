"""Recognises known functions: which name a candidate's fingerprint has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .catalogue import CATALOGUE, KnownFunction
from .fingerprint import FingerprintIndex, fingerprint_of
from .operator_set import OperatorSet
from .paper import PAPER
from .probe import Prober
from .program import OperatorTable

_MOST_UNITS = max(len(known.candidate.units) for known in CATALOGUE)


class KnownNames:
    """Maps fingerprints to entries of the catalogue.

    Every entry is evaluated with the paper's operators, whatever set a run uses.
    """

    def __init__(self) -> None:
        prober = Prober(catalogue_table(core_units=_MOST_UNITS))
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


def shared_table(table: OperatorTable) -> OperatorTable:
    """A table in which a table's candidates can be looked at, with one program for all of them.

    It is that of `KnownNames` where all operators are this package's, with more units where the
    table has more. One with an operator of somebody else's is returned as it is.
    """
    if not table.built_in:
        return table
    wide = catalogue_table(core_units=max(table.core_units, _MOST_UNITS))
    return replace(wide, beta_init=table.beta_init)
