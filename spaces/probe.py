"""Evaluates candidates on a fixed grid: what pre-flight and fingerprint look at.

Values depend on nothing but the candidate: not on its company, and not on the size of the table.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from .candidate import Candidate, CoreUnit
from .grid import POINTS, grid
from .instructions import BATCH, Instructions, length, operators
from .interpreter import interpreter
from .program import OperatorTable

_EVERY = 4
"""One point of so many is looked at for further values of the trainable vectors."""

_SIDES = (POINTS, POINTS // _EVERY, POINTS // _EVERY)
"""How many points share their trainable vectors in float64."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A candidate on the grid."""

    value: np.ndarray
    """f(x), float64 `[N]`, every trainable vector at a different fixed value that is not 1 and does
    not depend on the table's `beta_init`."""
    slope: np.ndarray
    """f′(x), float64 `[N]`, likewise."""
    elsewhere: np.ndarray
    """f(x), float64 `[2, N / 4]`, on every fourth point: the trainable vectors between 0 and 1, then
    below 0. It need not be finite."""
    start_value: np.ndarray
    """f(x), float32 `[N]`, trainable vectors at their initial values: what training begins with."""
    start_slope: np.ndarray
    """f′(x), float32 `[N]`, likewise."""
    start_pull: np.ndarray
    """∂f/∂β, float32 `[V, N]`, likewise."""


class Prober:
    """Evaluates candidates of one table.

    Args:
        table: The operators; every candidate must be seatable in it.
    """

    def __init__(self, table: OperatorTable) -> None:
        self.table = table
        self._places = {operator.name: n for n, operator in enumerate(operators(table))}
        self._vectors = (length(table), table.vectors)
        x = grid()
        self._start = x.astype(np.float32).tobytes()
        self._everywhere = np.concatenate([x, x[::_EVERY], x[::_EVERY]]).tobytes()
        """The points, once more for each side of `elsewhere`."""
        self._programs: dict[str, Any] = {}
        """By their type."""

    def probe(self, candidates: Sequence[Candidate]) -> list[Probe]:
        """Evaluates candidates, in their order.

        Raises:
            ValueError: One does not fit the table.
        """
        units = [self._units(candidate) for candidate in candidates]
        batches = [units[begin : begin + BATCH] for begin in range(0, len(units), BATCH)]
        return [probe for batch in batches for probe in self._probed(batch)]

    def _units(self, candidate: Candidate) -> tuple[CoreUnit, ...]:
        units = candidate.pruned().units
        names = {name for unit in units for name in (unit.unary1, unit.unary2, unit.binary)}
        if len(units) > self.table.core_units or not names <= self._places.keys():
            return self.table.seated(candidate).pruned().units  # one fused operator, or an error
        return units

    def _probed(self, batch: Sequence[Sequence[CoreUnit]]) -> list[Probe]:
        code = Instructions(self.table, self._places)
        params = [code.add(units) for units in batch]
        own = np.array([param.init for each in params for param in each], np.float32)
        start = own if self.table.beta_init is None else np.full_like(own, self.table.beta_init)
        apart = np.concatenate([_apart(len(each)) for each in params])
        apart[:, 0] += own
        at_start = self._run(code, self._start, start[:, None], (POINTS,), pulls=True)
        with jax.enable_x64(True):
            everywhere = self._run(code, self._everywhere, apart, _SIDES, pulls=False)
        return [
            Probe(
                value=there[0, :POINTS],
                slope=there[1, :POINTS],
                elsewhere=there[0, POINTS:].reshape(2, -1),
                start_value=here[0],
                start_slope=here[1],
                start_pull=here[2 : 2 + len(each)],
            )
            for here, there, each in zip(at_start, everywhere, params, strict=False)
        ]

    def _run(
        self,
        code: Instructions,
        points: bytes,
        vectors: np.ndarray,
        sides: tuple[int, ...],
        *,
        pulls: bool,
    ) -> np.ndarray:
        """What `interpreter` gives for trainable vectors `[V, sides]`, those of all candidates."""
        beta = np.zeros((*self._vectors, len(sides)), vectors.dtype)
        if code.vectors:
            lines, numbers = zip(*code.vectors, strict=True)
            beta[lines, numbers] = vectors
        program = self._programs.get(vectors.dtype.char)
        if program is None:
            program = interpreter(
                replace(self.table, beta_init=None), points, vectors.dtype.name, sides, pulls
            )
            self._programs[vectors.dtype.char] = program
        return np.asarray(program(np.int32(code.count), code.lines, beta))


@functools.lru_cache(maxsize=256)
def _apart(count: int) -> np.ndarray:
    """For `count` trainable vectors what `spread` says, and both of `elsewhere_of`: `[count, 3]`."""
    moves = [spread(order) for order in range(count)]
    return np.array([moves, *elsewhere_of(count)]).T


def spread(order: int) -> float:
    """What is added to the initial value of the `order`-th trainable vector in a fingerprint."""
    return (0.3719, -0.2143, 0.5877, -0.4391)[order % 4] * (1.0 + 0.1931 * (order // 4))


def elsewhere_of(count: int) -> tuple[list[float], list[float]]:
    """Values of `count` trainable vectors between 0 and 1, and below 0, all different.

    Some functions part only there: max(x, βx) and βx + (1 − β)·max(x, 0), say, agree where β ≥ 1.
    """
    golden, silver = (5**0.5 - 1) / 2, 2**0.5 - 1
    between = [0.15 + 0.7 * ((0.3 + order * golden) % 1.0) for order in range(count)]
    return between, [-0.3 - 1.4 * ((0.6 + order * silver) % 1.0) for order in range(count)]
