"""Evaluates candidates on a fixed grid: what pre-flight and fingerprint look at.

Each unit evaluates all operators on the grid and picks the candidates' own, which for so few points
costs less than dispatching them: four small programs (unary and binary, float32 and float64) serve
every candidate of every size. They give values and partial derivatives; the chain rule is applied
outside, forward, so that another number of trainable vectors needs no other program. The grid
leaves out 0, where √|x| and its like have no gradient, a single point that no preactivation ever
hits.

Letters: `K` candidates, `N` grid points, `M` tangents (of x, then of each trainable vector),
`U` core units, `S` slots, `P` vectors per slot.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    """f(x), float64 `[N]`, every trainable vector at a different fixed value that is not 1 and does
    not depend on the table's `beta_init`."""
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
        tangents = 1 + self.table.slots * self.table.vectors
        start = np.zeros((self.batch, self.table.slots, self.table.vectors))
        apart = np.zeros_like(start)
        moved = np.zeros((self.batch, tangents, self.table.slots, self.table.vectors))
        starts = self.table.initial_values()
        owns = replace(self.table, beta_init=None).initial_values()
        for k, (program, occurrences) in enumerate(zip(programs, used, strict=True)):
            for order, (slot, vector, _, _) in enumerate(occurrences):
                unit, place = divmod(slot, 3)
                binary = place == 2
                row = program.binary[unit] if binary else program.unary[unit, place]
                start[k, slot, vector] = starts[binary][row, vector]
                apart[k, slot, vector] = float(owns[binary][row, vector]) + spread(order)
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
            pair = []
            for side in (0, 1):
                source, slot = program.inputs[:, unit, side], 3 * unit + side
                operand = (values[source, everyone], slopes[source, everyone])
                found = self._unary(program.unary[:, unit, side], operand[:1], beta[:, slot])
                pair.append(_chained(found, operand[1:], moved[:, :, slot]))
            slot = 3 * unit + 2
            operands, tangents = zip(*pair, strict=True)
            found = self._binary(program.binary[:, unit], operands, beta[:, slot])
            value, slope = _chained(found, tangents, moved[:, :, slot])
            values = np.concatenate([values, value[None]])
            slopes = np.concatenate([slopes, slope[None]])
        return values[-1], slopes[-1]


def _chained(found, tangents, moved) -> tuple[np.ndarray, np.ndarray]:
    """The chain rule of one operator.

    Args:
        found: Its value `[K, N]` and its partial derivatives `[K, inputs + P, N]`.
        tangents: One `[K, M, N]` for each input.
        moved: Tangents of the vectors, `[K, M, P]`.
    """
    value, partials = np.asarray(found[0]), np.asarray(found[1])[:, :, None]
    slope = np.zeros_like(tangents[0])
    with np.errstate(all="ignore"):  # what is not finite is the pre-flight's to see
        for place, tangent in enumerate(tangents):
            slope += partials[:, place] * tangent
        for vector in range(moved.shape[-1]):
            step = moved[:, :, vector, None]
            slope += np.where(step == 0.0, 0.0, partials[:, len(tangents) + vector] * step)
    return value, slope


def spread(order: int) -> float:
    """What is added to the initial value of the `order`-th trainable vector in a fingerprint."""
    return (0.3719, -0.2143, 0.5877, -0.4391)[order % 4] * (1.0 + 0.1931 * (order // 4))


@functools.lru_cache(maxsize=16)
def _select_one_of(operators: tuple[Operator, ...]) -> Any:
    """A jitted (index [K], inputs [K, N], β [K, P]).

    It returns the value `[K, N]` of the operator at each index, and its partial derivatives by each
    input, then by each vector, `[K, inputs + P, N]`; operators are element-wise.
    """

    def select(index, inputs, beta):
        outcomes = []
        for operator in operators:

            def value(inputs, vectors, operator=operator):
                params = dict(zip((p.name for p in operator.params), vectors, strict=True))
                return operator(*inputs, params=params).astype(inputs[0].dtype)

            vectors = [beta[:, i, None] for i in range(len(operator.params))]
            arguments = [*inputs, *vectors]
            found, push = jax.linearize(
                lambda *a, value=value: value(a[: len(inputs)], a[len(inputs) :]), *arguments
            )
            zeros = [jnp.zeros_like(argument) for argument in arguments]
            partials = [
                push(*zeros[:place], jnp.ones_like(argument), *zeros[place + 1 :])
                for place, argument in enumerate(arguments)
            ]
            partials += [jnp.zeros_like(found)] * (beta.shape[1] - len(vectors))
            outcomes.append((found, jnp.stack(partials, axis=1)))
        everyone = jnp.arange(index.shape[0])
        return tuple(jnp.stack(parts)[index, everyone] for parts in zip(*outcomes, strict=True))

    return jax.jit(select)
