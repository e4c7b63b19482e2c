"""Whether two bodies are one function: in value and slope, and as good with float32.

Simplification and the recognition of known functions propose another way to write a candidate;
what they propose is taken only if it passes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from .body import INPUT, Apply, Body, Number, Term, Variable, Vector

TOLERANCE = 1e-9
"""Largest difference in float64, relative to 1 + the size: rounding passes, ε = 1e-7 does not."""

_NEAR = np.linspace(-8.0, 8.0, 161) + 0.0123
"""Where candidates are compared: the range of preactivations, off the kinks at round numbers."""
_FAR = np.array([-1e4, -300.0, -90.0, -40.0, -17.0, 17.0, 40.0, 90.0, 300.0, 1e4])
"""Where a new way of writing must not overflow unless the old one does."""
_POINTS = np.concatenate([_NEAR, _FAR]).astype(np.float32)


@lru_cache(maxsize=4096)
def agree(new: Body, old: Body) -> bool:
    """Whether `new` may stand for `old`: both have the same trainable vectors, in one order.

    Values and slopes by x and by each vector agree in float64 where preactivations are, and are
    finite at the same points; in float32 the errors are no larger, and the new way is finite
    wherever the old one is, far out too.
    """
    if [vector.order for vector in new.vectors] != [vector.order for vector in old.vectors]:
        return False
    with np.errstate(all="ignore"):
        exact, found = (_value_and_slopes(body, np.float64) for body in (old, new))
        near = np.s_[:, : _NEAR.size]
        if not np.array_equal(np.isfinite(found[near]), np.isfinite(exact[near])):
            return False
        if np.any(np.abs(found - exact)[near] > TOLERANCE * (1.0 + np.abs(exact[near]))):
            return False
        before, after = (_value_and_slopes(body, np.float32) for body in (old, new))
        if np.any(np.isfinite(before) & ~np.isfinite(after)):
            return False
        known = np.isfinite(before) & np.isfinite(exact)
        scale = 1.0 + np.abs(exact)
        error_before = np.where(known, np.abs(before - exact) / scale, 0.0).max(axis=1)
        error_after = np.where(known, np.abs(after - exact) / scale, 0.0).max(axis=1)
    return bool(np.all(error_after <= 4.0 * error_before + 1e-6))


def _value_and_slopes(body: Body, dtype: type[np.floating[Any]]) -> np.ndarray:
    """f, f′ and ∂f/∂β of each of V vectors as float64 `[2 + V, N]`, computed in `dtype`.

    Each trainable vector has another value that is not 1.
    """
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(dtype == np.float64):
        points = jnp.asarray(_POINTS.astype(dtype))
        values = [jnp.full_like(points, 0.7 + 0.31 * vector.order) for vector in body.vectors]

        @jax.jit
        def value_and_slopes(points: Any, values: list[Any]) -> Any:
            def f(points: Any, values: list[Any]) -> Any:
                betas = {v.order: value for v, value in zip(body.vectors, values, strict=True)}
                return jnp.broadcast_to(evaluate(body, points, betas), points.shape)

            value, pull_back = jax.vjp(f, points, values)
            slope, pulls = pull_back(jnp.ones_like(value))
            return jnp.stack([value, slope, *pulls])

        return np.asarray(value_and_slopes(points, values), np.float64)


def evaluate(body: Body, x: Any, vectors: Mapping[int, Any]) -> Any:
    """f(x) with the operators' own functions.

    Args:
        body: What to evaluate.
        x: A JAX array.
        vectors: Arrays in the shape of x, by the order of their vector.
    """
    import jax.numpy as jnp

    values = {INPUT: x}

    def value(term: Term) -> Any:
        match term:
            case Variable(name):
                return values[name]
            case Number(number):
                return jnp.full_like(x, number)
            case Vector(order):
                return vectors[order]
            case Apply(operator, operands, own):
                named = zip(operator.params, own, strict=True)
                params = {param.name: vectors[vector.order] for param, vector in named}
                return operator(*map(value, operands), params=params)

    for name, term in body.intermediates:
        values[name] = value(term)
    return value(body.result)
