"""Checks an operator set before a search begins: each fault is one clear line.

What is checked is what the traced program relies on: an operator takes its inputs and vectors, keeps
shape and dtype, works element by element and alike at every place, is pure, has a finite gradient
somewhere, and costs no hundred times what others cost. A name of a built-in operator means that
operator: baselines are written with it.

Letters: `R` rows, `C` channels of the arrays on which operators are tried, `R × C = N` grid points.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .candidate import IDENTITY
from .catalogue import known_operators
from .grid import LIMIT, grid
from .operator import Operator
from .operator_speed import LIMIT as SLOWEST
from .operator_speed import cost_of
from .paper import PAPER

CHANNELS = 8
"""`C`."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What the checks found of one operator."""

    operator: Operator
    passed: tuple[str, ...]
    """Names of the checks that it passed, out of `CHECKS` and in their order."""
    fault: str = ""
    """What is wrong, after the operator's name; empty if nothing is."""
    cost: float | None = None
    """CPU time of value and gradients in multiples of tanh; None if an earlier check failed."""


def check_operators(operators: Iterable[Operator]) -> list[str]:
    """Looks at each operator of a set.

    Returns:
        One line per fault, each beginning with the operator's name; empty if the set is sound.
    """
    found = (examine(operator) for operator in operators)
    return [f"{each.operator.name}: {each.fault}" for each in found if each.fault]


def examine(operator: Operator) -> Examination:
    """All checks of one operator, up to the first that fails."""
    trial, passed = _Trial(operator), []
    for name, check in _CHECKS.items():
        try:
            fault = check(trial)
        except (
            Exception
        ) as error:  # an operator is foreign code: any failure is its author's to see
            fault = f"raises {_described(error)}"
        if fault:
            return Examination(operator, tuple(passed), fault, trial.cost)
        passed.append(name)
    return Examination(operator, tuple(passed), cost=trial.cost)


class _Trial:
    """An operator with the arrays on which it is tried, and what it gave."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.x = grid().astype(np.float32).reshape(-1, CHANNELS)
        """float32 `[R, C]`."""
        self.inputs = (self.x, self.x[::-1].copy())[: operator.arity]
        self.params = {
            param.name: np.full((1, CHANNELS), param.init, np.float32) for param in operator.params
        }
        self.cost: float | None = None

    def call(self, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
        return self.operator(*inputs, params=params)

    def evaluated(self) -> Any:
        """The value, operation by operation."""
        return self.call(*jax.tree.map(jnp.asarray, (self.inputs, self.params)))

    @functools.cached_property
    def found(self) -> Any:
        """The value `[R, C]` as it was returned at first."""
        return self.evaluated()

    @functools.cached_property
    def compiled(self) -> Callable[..., Any]:
        """Value and cotangents, compiled."""

        @jax.jit
        def value_and_slopes(inputs, params):
            result, pull_back = jax.vjp(self.call, inputs, params)
            return result, pull_back(jnp.ones_like(result))

        return value_and_slopes

    def value(self, inputs: tuple[Any, ...], params: dict[str, Any]) -> np.ndarray:
        """The compiled value."""
        return np.asarray(self.compiled(inputs, params)[0])


def _described(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")


def _runs(trial: _Trial) -> str | None:
    """It takes what it is given and returns something."""
    operator = trial.operator
    names = ["x"] if operator.arity == 1 else ["a", "b"]
    names += ["params"] if operator.params else []
    try:
        signature = inspect.signature(operator.fn)
    except (TypeError, ValueError):  # some built-in functions do not tell theirs
        signature = None
    try:
        if signature is not None:
            signature.bind(*names)
    except TypeError as error:
        return f"must take the arguments ({', '.join(names)}), but its function has {error}"
    _ = trial.found
    return None


def _shape(trial: _Trial) -> str | None:
    if getattr(trial.found, "shape", None) != trial.x.shape:
        shape = getattr(trial.found, "shape", type(trial.found).__name__)
        return f"must keep the shape of its input {trial.x.shape}, returned {shape}"
    return None


def _dtype(trial: _Trial) -> str | None:
    if trial.found.dtype != trial.x.dtype:
        return f"must keep the dtype of its input {trial.x.dtype}, returned {trial.found.dtype}"
    return None


def _traced(trial: _Trial) -> str | None:
    """Compiled with its gradient; of other ranks, and in float64, in which functions are compared."""
    try:
        trial.compiled(trial.inputs, trial.params)
    except Exception as error:  # an operator is foreign code: any failure is its author's to see
        return f"cannot be traced and differentiated by JAX ({_described(error)})"
    for shape in ((2, 3, 5, CHANNELS), (CHANNELS,)):
        inputs = tuple(np.ones(shape, np.float32) for _ in trial.inputs)
        vector = (*(1 for _ in shape[1:]), CHANNELS)
        params = {name: np.ones(vector, np.float32) for name in trial.params}
        found = jax.eval_shape(trial.call, inputs, params).shape
        if found != shape:
            return f"must keep the shape of its input {shape}, returned {found}"
    wide = jax.tree.map(lambda array: array.astype(np.float64), (trial.inputs, trial.params))
    with jax.enable_x64(True):
        try:
            jax.eval_shape(trial.call, *wide)
        except Exception as error:  # likewise
            return f"raises in float64, in which functions are compared ({_described(error)})"
    return None


def _pure(trial: _Trial) -> str | None:
    for again, how in (
        (trial.evaluated(), "again"),
        (trial.value(trial.inputs, trial.params), "again under jit"),
    ):
        if not np.allclose(trial.found, again, rtol=1e-4, atol=1e-5, equal_nan=True):
            return f"must be pure, but gives other values when called {how}"
    return None


def _finite(trial: _Trial) -> str | None:
    value = np.asarray(trial.found)
    if np.isnan(value).all():
        return f"is NaN everywhere on [−{LIMIT:g}, {LIMIT:g}]"
    if not np.isfinite(value).any():
        return f"is finite nowhere on [−{LIMIT:g}, {LIMIT:g}]"
    return None


def _meaning(trial: _Trial) -> str | None:
    operator = trial.operator
    if operator.name == IDENTITY and not np.array_equal(trial.found, trial.x):
        return "must return its input, because text leaves it out"
    if operator.commutative:
        turned = trial.value(trial.inputs[::-1], trial.params)
        if not np.allclose(trial.found, turned, rtol=1e-4, atol=1e-5, equal_nan=True):
            return "is declared commutative, but gives other values when its inputs change places"
    built_in = known_operators(PAPER).get(operator.name)
    if built_in is None or built_in is operator:
        return None
    if built_in.signature == operator.signature:
        expected = built_in(*jax.tree.map(jnp.asarray, trial.inputs), params=trial.params)
        if np.allclose(trial.found, expected, rtol=1e-4, atol=1e-5, equal_nan=True):
            return None
    return (
        "is the name of a built-in operator, which known functions are written with, and must have "
        "its values, vectors and initial values; choose another name"
    )


def _gradient(trial: _Trial) -> str | None:
    """Of each input and each vector, element by element, where the value is finite."""
    params = {name: np.repeat(v, len(trial.x), axis=0) for name, v in trial.params.items()}
    value, (by_input, by_vector) = trial.compiled(trial.inputs, params)
    finite = np.isfinite(value)
    sides = ["its input"] if trial.operator.arity == 1 else ["its first input", "its second input"]
    slopes = [*zip(sides, by_input, strict=True)]
    slopes += [(f"its vector `{name}`", slope) for name, slope in by_vector.items()]
    for of, slope in slopes:
        if not (finite & np.isfinite(slope)).any():
            return f"has a finite gradient by {of} nowhere on [−{LIMIT:g}, {LIMIT:g}]"
    return None


def _elementwise(trial: _Trial) -> str | None:
    """Changes one element of each input, then one channel of each vector: nothing else may move."""
    before = trial.value(trial.inputs, trial.params)
    row, channel = before.shape[0] // 2, CHANNELS // 2
    for number in range(trial.operator.arity):
        # A small step, and values beyond all others, which a maximum or minimum would notice.
        for other in (trial.inputs[number][row, channel] + 0.3717, 2.0 * LIMIT, -2.0 * LIMIT):
            moved = [array.copy() for array in trial.inputs]
            moved[number][row, channel] = other
            changed = _changed(before, trial.value(tuple(moved), trial.params))
            changed[row, channel] = False
            if changed.any():
                return (
                    f"must be element-wise, but changing one element of input "
                    f"{number + 1} changed {int(changed.sum())} others"
                )
    for name in trial.params:
        vector = trial.params[name].copy()
        vector[:, channel] += 0.3717
        changed = _changed(before, trial.value(trial.inputs, trial.params | {name: vector}))
        changed[:, channel] = False
        if changed.any():
            return (
                f"must be element-wise, but changing {name!r} of one channel changed other channels"
            )
    turned = trial.value(tuple(array[::-1, ::-1] for array in trial.inputs), trial.params)
    if not np.allclose(turned[::-1, ::-1], before, rtol=1e-4, atol=1e-5, equal_nan=True):
        return "must be element-wise, but gives other values for the same input at another place"
    return None


def _changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return ~np.isclose(before, after, rtol=1e-6, atol=1e-7, equal_nan=True)


def _speed(trial: _Trial) -> str | None:
    trial.cost = cost_of(trial.operator)
    if trial.cost > SLOWEST:
        return (
            f"is too slow: value and gradient take {trial.cost:,.0f} times as long as tanh's, "
            f"at most {SLOWEST:g} times is allowed"
        )
    return None


_CHECKS: dict[str, Callable[[_Trial], str | None]] = {
    "runs": _runs,
    "shape": _shape,
    "dtype": _dtype,
    "traced": _traced,
    "pure": _pure,
    "finite": _finite,
    "meaning": _meaning,
    "gradient": _gradient,
    "element-wise": _elementwise,
    "speed": _speed,
}

CHECKS: tuple[str, ...] = tuple(_CHECKS)
"""Names of the checks, in their order."""
