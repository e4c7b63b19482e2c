"""Candidates as instructions for `spaces.interpreter`.

Letters: `B` candidates at most, `S` slots of a candidate, `K = B·S` instructions at most, `P` trainable
vectors of an operator at most. There are `1 + S + B` registers: x, the results within a candidate,
which the next one overwrites, and the candidates' values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .candidate import FIRST, IDENTITY, CoreUnit
from .operator import Operator, Param
from .program import OperatorTable

BATCH = 16
"""`B`. A call costs as much as ten lines or so, a candidate of two core units has five. Beside 8 a
candidate among many takes a sixth less and a lone one a twentieth more; with 32 a third, and a fifth."""

X = 0
"""The register of x."""


def length(table: OperatorTable) -> int:
    """`K`."""
    return BATCH * table.slots


def results(table: OperatorTable) -> int:
    """The register of the first candidate's value; those of the others follow."""
    return 1 + table.slots


def operators(table: OperatorTable) -> tuple[Operator, ...]:
    """Those that lines name by their places."""
    return (*table.unary, *table.binary)


class Instructions:
    """Up to `B` candidates, one after the other.

    Args:
        table: The interpreter's.
        places: The operators' places there, by name.
    """

    def __init__(self, table: OperatorTable, places: dict[str, int]) -> None:
        self.lines = np.zeros((length(table), 5), np.int32)
        """`[K, 5]`: the operator's place, the registers of its operands, the register of its result,
        and how many trainable vectors of its candidate belong to operators before it."""
        self.count = 0
        """How many lines there are."""
        self.vectors: list[tuple[int, int]] = []
        """Where each trainable vector of each candidate belongs: its line, its number there."""
        self._operators = operators(table)
        self._places = places
        self._result = results(table)

    def add(self, units: Sequence[CoreUnit]) -> list[Param]:
        """Adds a candidate; returns its trainable vectors, in the order of their slots."""
        params: list[Param] = []
        outputs = [X]
        begin = self.count
        for unit in units:
            operands = [
                outputs[source]
                if name == IDENTITY
                else self._line(name, (outputs[source],), begin, params)
                for name, source in zip((unit.unary1, unit.unary2), unit.read, strict=False)
            ]
            if unit.binary == FIRST:
                outputs.append(operands[0])
            else:
                outputs.append(self._line(unit.binary, operands, begin, params))
        if self.count == begin or outputs[-1] != self.lines[self.count - 1, 3]:
            self._line(IDENTITY, outputs[-1:], begin, params)
        self.lines[self.count - 1, 3] = self._result
        self._result += 1
        return params

    def _line(self, name: str, operands: Sequence[int], begin: int, params: list[Param]) -> int:
        """Adds a line to the candidate that begins at `begin`; returns the register of its result."""
        place = self._places[name]
        own = self._operators[place].params
        result = 1 + self.count - begin
        self.lines[self.count] = (place, operands[0], operands[-1], result, len(params))
        self.vectors += [(self.count, number) for number in range(len(own))]
        self.count += 1
        params += own
        return result
