"""Recognises known functions: which name a candidate's fingerprint has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .catalogue import CATALOGUE, KnownFunction
from .fingerprint import FingerprintIndex, fingerprint_of
from .operator_set import OperatorSet
from .paper import PAPER
from .probe import Prober
from .program import OperatorTable


class KnownNames:
    """Maps fingerprints to entries of the catalogue.

    The catalogue is evaluated with the paper's operators, whatever set a run uses.
    """

    def __init__(self, functions: Sequence[KnownFunction] = CATALOGUE) -> None:
        self._index = FingerprintIndex()
        self._functions = {known.key: known for known in functions}
        prober = Prober(catalogue_table())
        for known, probe in zip(
            functions, prober.probe([known.candidate for known in functions]), strict=True
        ):
            self._index.add(known.key, fingerprint_of(probe))

    def find(self, fingerprint: np.ndarray) -> KnownFunction | None:
        """The known function that this fingerprint belongs to, or None."""
        key = self._index.find(fingerprint)
        return None if key is None else self._functions[key]


def catalogue_table(operators: OperatorSet = PAPER) -> OperatorTable:
    """A table of one-unit programs that seats every known function."""
    return OperatorTable.for_run(
        operators, core_units=1, extra=[known.candidate for known in CATALOGUE]
    )
