"""Recognises known functions: which name a candidate's fingerprint has."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from .candidate import FIRST, IDENTITY, Candidate, CoreUnit
from .catalogue import CATALOGUE, HIDDEN, KnownFunction
from .fingerprint import FingerprintIndex, fingerprint_of
from .operator import Operator
from .operator_set import OperatorSet
from .paper import PAPER
from .probe import Prober
from .program import OperatorTable, fuse, fused_name


class KnownNames:
    """Maps fingerprints to entries of the catalogue.

    Every entry is evaluated with the paper's operators, whatever set a run uses.

    Args:
        prober: Evaluates the entries; its table is one of `with_known_functions`. None makes one.
    """

    def __init__(self, prober: Prober | None = None) -> None:
        prober = prober or Prober(with_known_functions(catalogue_table()))
        self._index = FingerprintIndex()
        self._functions = {known.key: known for known in CATALOGUE}
        probes = prober.probe([_as_one_operator(known) for known in CATALOGUE])
        for known, probe in zip(CATALOGUE, probes, strict=True):
            self._index.add(known.key, fingerprint_of(probe))

    def find(self, fingerprint: np.ndarray) -> KnownFunction | None:
        """The known function that this fingerprint belongs to, or None."""
        key = self._index.find(fingerprint)
        return None if key is None else self._functions[key]


def with_known_functions(table: OperatorTable) -> OperatorTable:
    """The table, and one hidden operator for every entry of the catalogue."""
    there = {operator.name for operator in table.unary}
    new = (operator for operator in _fused_catalogue() if operator.name not in there)
    return replace(table, unary=(*table.unary, *new))


@functools.cache
def _fused_catalogue() -> tuple[Operator, ...]:
    """Made once, so that what is compiled for them is found again."""
    known = {operator.name: operator for operator in (*HIDDEN, *PAPER)}
    return tuple(fuse(entry.candidate, known) for entry in CATALOGUE)


def catalogue_table(operators: OperatorSet = PAPER) -> OperatorTable:
    """A table of one-unit programs that seats every known function."""
    return OperatorTable.for_run(
        operators, core_units=1, extra=[known.candidate for known in CATALOGUE]
    )


def _as_one_operator(known: KnownFunction) -> Candidate:
    return Candidate((CoreUnit(0, 0, fused_name(known.candidate), IDENTITY, FIRST),))
