"""Evaluates candidates on a fixed grid: what pre-flight and fingerprint look at.

Each unit evaluates all operators on the grid and picks the candidates' own, which for so few points
costs less than dispatching them: four small programs (unary and binary, float32 and float64) serve
every candidate of every size. Derivatives are carried forward. The grid leaves out 0, where √|x|
and its like have no gradient, a single point that no preactivation ever hits.

Letters: `K` candidates, `N` grid points, `M` tangents (of x, then of each trainable vector),
`U` core units, `S` slots, `P` vectors per slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .candidate import Candidate
from .operator import Operator
from .program import OperatorTable

LIMIT = 5.0
"""The grid covers [−LIMIT, LIMIT], where nearly all normalised preactivations are."""

POINTS = 96
"""`N`."""

BATCH = 64
"""`K` where many candidates are evaluated at once."""


def grid() -> np.ndarray:
    """The `N` points, float64: evenly spread and irregular, so that no symmetry is special."""
    golden = (np.sqrt(5.0) - 1.0) / 2.0
    places = np.sort((np.arange(1, POINTS + 1) * golden + 0.137) % 1.0)
    return LIMIT * (2.0 * places - 1.0)


@dataclass(frozen=True, slots=True)
class Probe:
    """A candidate on the grid."""

    value: np.ndarray
    """f(x), float64 `[N]`, every trainable vector at a different fixed value that is not 1."""
    slope: np.ndarray
    """f′(x), float64 `[N]`, likewise."""
    start_value: np.ndarray
    """f(x), float32 `[N]`, trainable vectors at their initial values: what training begins with."""
    start_slope: np.ndarray
    """f′(x), float32 `[N]`, likewise."""
    start_pull: np.ndarray
    """∂f/∂β, float32 `[number of trainable vectors, N]`, likewise."""


class Prober:
    """Evaluates candidates of one table.

    Args:
        table: The operators; every candidate must be seatable in it.
        batch: `K`, the number of candidates in one call of a compiled program.
    """

    def __init__(self, table: OperatorTable, *, batch: int = BATCH) -> None:
        self.table = table
        self.batch = batch
        self._points = grid()
        self._unary = _select_one_of(table.unary)
        self._binary = _select_one_of(table.binary)

    def probe(self, candidates: Sequence[Candidate]) -> list[Probe]:
        """Evaluates candidates, in their order.

        Raises:
            ValueError: One does not fit the table.
        """
        found = []
        for begin in range(0, len(candidates), self.batch):
            found += self._batch(candidates[begin : begin + self.batch])
        return found

    def _batch(self, candidates: Sequence[Candidate]) -> list[Probe]:
        programs = [self.table.program(candidate) for candidate in candidates]
        used = [self.table.occurrences(candidate) for candidate in candidates]
        tangents = 1 + max(len(occurrences) for occurrences in used)
        start = np.zeros((self.batch, self.table.slots, self.table.vectors))
        apart = np.zeros_like(start)
        moved = np.zeros((self.batch, tangents, self.table.slots, self.table.vectors))
        unary, binary = self.table.initial_values()
        for k, (program, occurrences) in enumerate(zip(programs, used, strict=True)):
            for order, (slot, vector, _, _) in enumerate(occurrences):
                unit, place = divmod(slot, 3)
                row = (
                    binary[program.binary[unit]]
                    if place == 2
                    else unary[program.unary[unit, place]]
                )
                start[k, slot, vector] = row[vector]
                apart[k, slot, vector] = row[vector] + spread(order)
                moved[k, 1 + order, slot, vector] = 1.0
        padded = programs + [programs[-1]] * (self.batch - len(programs))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *padded)
        value32, slope32 = self._run(stacked, start, moved, np.float32)
        with jax.enable_x64(True):
            value64, slope64 = self._run(stacked, apart, moved, np.float64)
        return [
            Probe(
                value64[k],
                slope64[k, 0],
                value32[k],
                slope32[k, 0],
                slope32[k, 1 : 1 + len(occurrences)],
            )
            for k, occurrences in enumerate(used)
        ]

    def _run(self, program, beta, moved, dtype) -> tuple[np.ndarray, np.ndarray]:
        """f `[K, N]` and its tangents `[K, M, N]` in `dtype`."""
        everyone = np.arange(self.batch)
        x = np.tile(self._points.astype(dtype), (self.batch, 1))
        dx = np.zeros((self.batch, moved.shape[1], POINTS), dtype)
        dx[:, 0] = 1.0
        values, slopes = np.stack([x]), np.stack([dx])
        beta, moved = beta.astype(dtype), moved.astype(dtype)
        for unit in range(self.table.core_units):
            operands = []
            for side in (0, 1):
                source, slot = program.inputs[:, unit, side], 3 * unit + side
                operands += self._unary(
                    program.unary[:, unit, side],
                    (values[source, everyone],),
                    (slopes[source, everyone],),
                    beta[:, slot],
                    moved[:, :, slot],
                )
            value, slope = self._binary(
                program.binary[:, unit],
                (operands[0], operands[2]),
                (operands[1], operands[3]),
                beta[:, 3 * unit + 2],
                moved[:, :, 3 * unit + 2],
            )
            values = np.concatenate([values, np.asarray(value)[None]])
            slopes = np.concatenate([slopes, np.asarray(slope)[None]])
        return values[-1], slopes[-1]


def spread(order: int) -> float:
    """What is added to the initial value of the `order`-th trainable vector in a fingerprint."""
    return (0.3719, -0.2143, 0.5877, -0.4391)[order % 4] * (1.0 + 0.1931 * (order // 4))


def _select_one_of(operators: Sequence[Operator]) -> Any:
    """A jitted (index [K], inputs [K, N], tangents [K, M, N], β [K, P], its tangents [K, M, P]).

    It returns the value `[K, N]` and the tangents `[K, M, N]` of the operator at each index.
    """

    def one(index, inputs, inputs_moved, beta, beta_moved):
        outcomes = []
        for operator in operators:

            def value(inputs, beta, operator=operator):
                params = {
                    param.name: beta[vector].reshape(1)
                    for vector, param in enumerate(operator.params)
                }
                return operator(*inputs, params=params).astype(inputs[0].dtype)

            value_of, push = jax.linearize(value, inputs, beta)
            outcomes.append((value_of, jax.vmap(push)(inputs_moved, beta_moved)))
        return tuple(jnp.stack(parts)[index] for parts in zip(*outcomes, strict=True))

    return jax.jit(jax.vmap(one))
