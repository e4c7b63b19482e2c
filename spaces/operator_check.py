"""Checks an operator set before a search begins: each fault is one clear line.

What is checked is what the traced program relies on: an operator takes its inputs and vectors, keeps
shape and dtype, works element by element, is pure, and has a finite gradient somewhere. A name of a
built-in operator means that operator: baselines are written with it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from .candidate import IDENTITY
from .catalogue import known_operators
from .grid import LIMIT, grid
from .operator import Operator
from .operator_set import OperatorSet
from .paper import PAPER

CHANNELS = 8


def check_operators(operators: OperatorSet) -> list[str]:
    """Looks at each operator of a set.

    Returns:
        One line per fault, each beginning with the operator's name; empty if the set is sound.
    """
    return [fault for operator in operators if (fault := check_operator(operator))]


def check_operator(operator: Operator) -> str | None:
    """The first fault of one operator as a line, or None."""
    x = grid().astype(np.float32).reshape(-1, CHANNELS)
    inputs = (x, x[::-1].copy())[: operator.arity]
    params = {
        param.name: np.full((1, CHANNELS), param.init, np.float32) for param in operator.params
    }

    def value(inputs, params):
        return operator(*inputs, params=params)

    @jax.jit
    def value_and_slopes(inputs, params):
        result, pull_back = jax.vjp(value, inputs, params)
        return result, pull_back(jnp.ones_like(result))

    try:
        found = value(*jax.tree.map(jnp.asarray, (inputs, params)))
        if _sound(found, x):
            again, slopes = value_and_slopes(inputs, params)
        else:
            again = slopes = None
    except Exception as error:  # an operator is foreign code: any failure is its author's to see
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
        return f"{operator.name}: cannot be evaluated and differentiated by JAX ({reason})"
    if not hasattr(found, "shape") or found.shape != x.shape:
        shape = getattr(found, "shape", type(found).__name__)
        return f"{operator.name}: must keep the shape of its input {x.shape}, returned {shape}"
    if found.dtype != x.dtype:
        return (
            f"{operator.name}: must keep the dtype of its input {x.dtype}, returned {found.dtype}"
        )
    assert again is not None
    if not np.allclose(found, again, rtol=1e-4, atol=1e-5, equal_nan=True):
        return f"{operator.name}: must be pure, but gives other values when called again under jit"
    if not np.isfinite(np.asarray(found)).any():
        return f"{operator.name}: is finite nowhere on [−5, 5]"
    if operator.name == IDENTITY and not np.array_equal(found, x):
        return f"{operator.name}: must return its input, because text leaves it out"
    if not _keeps_a_known_name(operator, inputs, params, found):
        return (
            f"{operator.name}: is the name of a built-in operator, which known functions are written "
            f"with, and must have its values, vectors and initial values; choose another name"
        )
    if not any(np.isfinite(np.asarray(leaf)).any() for leaf in jax.tree.leaves(slopes)):
        return f"{operator.name}: has a finite gradient nowhere on [−5, 5]"
    return _mixing(operator, inputs, params, lambda *moved: value_and_slopes(*moved)[0])


def _keeps_a_known_name(operator: Operator, inputs, params, found) -> bool:
    built_in = known_operators(PAPER).get(operator.name)
    if built_in is None or built_in is operator:
        return True
    if built_in.signature != operator.signature:
        return False
    expected = built_in(*jax.tree.map(jnp.asarray, inputs), params=params)
    return bool(np.allclose(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True))


def _sound(found: object, x: np.ndarray) -> bool:
    return getattr(found, "shape", None) == x.shape and getattr(found, "dtype", None) == x.dtype


def _mixing(operator, inputs, params, value) -> str | None:
    """Changes one element of each input, then one channel of each vector: nothing else may move."""
    before = np.asarray(value(inputs, params))
    row, channel = before.shape[0] // 2, CHANNELS // 2
    for number in range(operator.arity):
        # A small step, and values beyond all others, which a maximum or minimum would notice.
        for other in (inputs[number][row, channel] + 0.3717, 2.0 * LIMIT, -2.0 * LIMIT):
            moved = [array.copy() for array in inputs]
            moved[number][row, channel] = other
            changed = _changed(before, value(tuple(moved), params))
            changed[row, channel] = False
            if changed.any():
                return (
                    f"{operator.name}: must be element-wise, but changing one element of input "
                    f"{number + 1} changed {int(changed.sum())} others"
                )
    for name in params:
        vector = params[name].copy()
        vector[:, channel] += 0.3717
        changed = _changed(before, value(inputs, params | {name: vector}))
        changed[:, channel] = False
        if changed.any():
            return (
                f"{operator.name}: must be element-wise, but changing {name!r} of one channel "
                f"changed other channels"
            )
    return None


def _changed(before: np.ndarray, after: jax.Array) -> np.ndarray:
    return ~np.isclose(before, np.asarray(after), rtol=1e-6, atol=1e-7, equal_nan=True)
