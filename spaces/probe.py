"""Evaluates candidates on a fixed grid: what pre-flight and fingerprint look at.

One small program for each operator and precision, compiled when it is first needed, gives the
operator's value and its partial derivatives. A candidate is walked operator by operator with the
chain rule applied outside, forward: 12 µs a call, nothing compiled for a new candidate, however
large it is, and values that depend on nothing but the candidate.

Letters: `N` grid points, `V` trainable vectors that a candidate uses, `M = 1 + V` tangents (of x,
then of each vector), `P` trainable vectors of an operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from .candidate import FIRST, IDENTITY, Candidate, CoreUnit
from .grid import POINTS, grid
from .operator import Param
from .operator_programs import partials_of
from .program import OperatorTable

_DTYPES = {"f": "float32", "d": "float64"}
"""By NumPy's letters; NumPy itself takes longer to name a type than JAX to call a program."""
_EVERY = 4
"""One point of so many is looked at for further values of the trainable vectors."""


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
        x = grid()
        self._x = {
            "f": x.astype(np.float32),
            "d": np.concatenate([x, x[::_EVERY], x[::_EVERY]]),
        }
        """The points by precision; in float64 once more for each side of `elsewhere`."""
        self._counts = {"f": [POINTS], "d": [POINTS, POINTS // _EVERY, POINTS // _EVERY]}
        """How many of them share their trainable vectors."""
        self._no_vectors = {char: np.zeros((0, len(x)), x.dtype) for char, x in self._x.items()}
        self._operators = {operator.name: operator for operator in (*table.unary, *table.binary)}
        self._of_x: dict[tuple[str, str, bytes], np.ndarray] = {}
        """What operators of x itself gave, by name, precision and trainable vectors: half of all."""

    def probe(self, candidates: Sequence[Candidate]) -> list[Probe]:
        """Evaluates candidates, in their order.

        Raises:
            ValueError: One does not fit the table.
        """
        return [self._probe(candidate) for candidate in candidates]

    def _probe(self, candidate: Candidate) -> Probe:
        units = candidate.pruned().units
        names = {name for unit in units for name in _slots(unit)}
        if len(units) > self.table.core_units or not names <= self._operators.keys():
            units = self.table.seated(candidate).pruned().units  # one fused operator, or an error
        params = [param for unit in units for name in _slots(unit) for param in self._params(name)]
        count = len(params)
        own = np.array([param.init for param in params], np.float32)
        start = own if self.table.beta_init is None else np.full_like(own, self.table.beta_init)
        apart = own + np.array([spread(order) for order in range(count)])
        with np.errstate(all="ignore"):  # what is not finite is the pre-flight's to see
            value32, tangents = self._walk(units, start[:, None], pulls=True)
            with jax.enable_x64(True):
                everywhere = np.array([apart, *elsewhere_of(count)]).T
                value64, (slope64,) = self._walk(units, everywhere, pulls=False)
        return Probe(
            value64[:POINTS],
            slope64[:POINTS],
            value64[POINTS:].reshape(2, -1),
            value32,
            tangents[0],
            tangents[1:],
        )

    def _params(self, name: str) -> tuple[Param, ...]:
        return self._operators[name].params

    def _walk(
        self, units: Sequence[CoreUnit], vectors: np.ndarray, *, pulls: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """f and its tangents at the points of a precision.

        Args:
            units: The candidate.
            vectors: Its trainable vectors `[V, sides]`, for each of the `_counts` of its precision.
            pulls: Whether there are tangents of the vectors too.

        Returns:
            `[points]`, and `[M, points]` or, of x alone, `[1, points]`.
        """
        x = self._x[vectors.dtype.char]
        tangents = np.zeros((1 + len(vectors) * pulls, len(x)), vectors.dtype)
        tangents[0] = 1.0
        outputs, used = [(x, tangents)], 0
        for unit in units:
            operands = []
            for name, source in zip((unit.unary1, unit.unary2), unit.read, strict=False):
                operands.append(self._apply(name, [outputs[source]], vectors, used))
                used += len(self._params(name))
            outputs.append(self._apply(unit.binary, operands, vectors, used))
            used += len(self._params(unit.binary))
        return outputs[-1]

    def _apply(
        self,
        name: str,
        operands: list[tuple[np.ndarray, np.ndarray]],
        vectors: np.ndarray,
        used: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The value and the tangents of an operator, as `_walk` has them.

        Args:
            name: The operator.
            operands: The same of its operands.
            vectors: All trainable vectors `[V, sides]`.
            used: How many of them belong to operators before this one.
        """
        if name in (IDENTITY, FIRST):
            return operands[0]
        count = len(self._params(name))
        found = self._found(name, [value for value, _ in operands], vectors[used : used + count])
        tangents = found[1] * operands[0][1]
        if len(operands) == 2:
            tangents += found[2] * operands[1][1]
        if count and len(tangents) > 1:
            tangents[1 + used : 1 + used + count] += found[1 + len(operands) :]
        return found[0], tangents

    def _found(self, name: str, inputs: list[np.ndarray], vectors: np.ndarray) -> np.ndarray:
        """What `partials_of` gives, remembered if the input is x."""
        precision = vectors.dtype.char
        of_x = len(inputs) == 1 and inputs[0] is self._x[precision]
        key = (name, precision, vectors.tobytes()) if of_x else None
        if key in self._of_x:
            return self._of_x[key]
        beta = self._no_vectors[precision]
        if len(vectors):
            beta = np.repeat(vectors, self._counts[precision], axis=1)
        program = partials_of(self._operators[name], len(inputs[0]), _DTYPES[precision])
        found = np.asarray(program(tuple(inputs), beta))
        if key is not None:
            self._of_x[key] = found
        return found


def _slots(unit: CoreUnit) -> tuple[str, ...]:
    """The operators of a unit, in the order of their trainable vectors."""
    if unit.binary == FIRST:
        return (unit.unary1,)
    return (unit.unary1, unit.unary2, unit.binary)


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
