"""Evaluates candidates on a fixed grid: what pre-flight and fingerprint look at.

One small program for each operator and precision, compiled when it is first needed, gives the
operator's value and its partial derivatives. A candidate is walked operator by operator with the
chain rule applied outside, forward: 12 µs a call, nothing compiled for a new candidate, however
large it is, and values that depend on nothing but the candidate.

Letters: `N` grid points, `V` trainable vectors that a candidate uses, `M = 1 + V` tangents (of x,
then of each vector), `P` trainable vectors of an operator.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .candidate import FIRST, IDENTITY, Candidate, CoreUnit
from .grid import POINTS, grid
from .operator import Operator, Param
from .program import OperatorTable

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
        self._x = {char: grid().astype(char) for char in "fd"}
        """The points by precision."""
        self._operators = {operator.name: operator for operator in (*table.unary, *table.binary)}
        self._derived = {name: _with_partials(op) for name, op in self._operators.items()}
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
        own = np.array([param.init for param in params], np.float32)
        start = own if self.table.beta_init is None else np.full_like(own, self.table.beta_init)
        apart = own.astype(np.float64) + [spread(order) for order in range(len(params))]
        with np.errstate(all="ignore"):  # what is not finite is the pre-flight's to see
            value32, slope32 = self._walk(units, start)
            with jax.enable_x64(True):
                value64, slope64 = self._walk(units, apart)
                elsewhere = [
                    (self._value(units, np.array(values)) if values else value64)[::_EVERY]
                    for values in elsewhere_of(len(params))
                ]
        return Probe(value64, slope64[0], np.stack(elsewhere), value32, slope32[0], slope32[1:])

    def _params(self, name: str) -> tuple[Param, ...]:
        return self._operators[name].params

    def _walk(
        self, units: Sequence[CoreUnit], vectors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """f `[N]` and its tangents `[M, N]` in the precision of `vectors` `[V]`."""
        x = self._x[vectors.dtype.char]
        tangents = np.zeros((1 + len(vectors), POINTS), vectors.dtype)
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

    def _value(self, units: Sequence[CoreUnit], vectors: np.ndarray) -> np.ndarray:
        """f `[N]`, likewise, without the tangents."""
        outputs, used = [self._x[vectors.dtype.char]], 0

        def applied(name: str, inputs: list[np.ndarray]) -> np.ndarray:
            nonlocal used
            if name in (IDENTITY, FIRST):
                return inputs[0]
            own = vectors[used : (used := used + len(self._params(name)))]
            return self._found(name, inputs, own)[0]

        for unit in units:
            sides = zip((unit.unary1, unit.unary2), unit.read, strict=False)
            operands = [applied(name, [outputs[source]]) for name, source in sides]
            outputs.append(applied(unit.binary, operands))
        return outputs[-1]

    def _apply(
        self,
        name: str,
        operands: list[tuple[np.ndarray, np.ndarray]],
        vectors: np.ndarray,
        used: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The value `[N]` and the tangents `[M, N]` of an operator.

        Args:
            name: The operator.
            operands: The same of its operands.
            vectors: All trainable vectors `[V]`.
            used: How many of them belong to operators before this one.
        """
        if name in (IDENTITY, FIRST):
            return operands[0]
        count = len(self._params(name))
        found = self._found(name, [value for value, _ in operands], vectors[used : used + count])
        slope = found[1] * operands[0][1]
        if len(operands) == 2:
            slope += found[2] * operands[1][1]
        slope[1 + used : 1 + used + count] += found[1 + len(operands) :]
        return found[0], slope

    def _found(self, name: str, inputs: list[np.ndarray], vectors: np.ndarray) -> np.ndarray:
        """What `_with_partials` gives, remembered if the input is x."""
        if len(inputs) > 1 or inputs[0] is not self._x[vectors.dtype.char]:
            return np.asarray(self._derived[name](tuple(inputs), vectors[:, None]))
        key = (name, vectors.dtype.char, vectors.tobytes())
        if key not in self._of_x:
            self._of_x[key] = np.asarray(self._derived[name](tuple(inputs), vectors[:, None]))
        return self._of_x[key]


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


@functools.lru_cache(maxsize=512)
def _with_partials(operator: Operator) -> Any:
    """A jitted (inputs, each `[N]`, β `[P, 1]`) of an element-wise operator.

    It returns `[1 + inputs + P, N]`: the value, then its partial derivative by each input and by
    each vector.
    """

    def evaluate(inputs: tuple[jax.Array, ...], beta: jax.Array) -> jax.Array:
        def value(*arguments: jax.Array) -> jax.Array:
            names = (param.name for param in operator.params)
            params = dict(zip(names, arguments[len(inputs) :], strict=True))
            found = operator(*arguments[: len(inputs)], params=params)
            return found.astype(inputs[0].dtype)

        arguments = [*inputs, *beta]
        found, push = jax.linearize(value, *arguments)
        zeros = [jnp.zeros_like(argument) for argument in arguments]
        partials = [
            push(*zeros[:place], jnp.ones_like(argument), *zeros[place + 1 :])
            for place, argument in enumerate(arguments)
        ]
        return jnp.stack([found, *partials])

    return jax.jit(evaluate)
