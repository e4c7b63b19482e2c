"""Compiled programs of single operators, one for each number of points and precision.

Whoever starts many processes may keep those of this package's operators from one to the next: their
code, and so their name, says what they do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from .operator import Operator
from .program import is_built_in

Keeper = Callable[[str, Callable[[], Any]], Any]
"""Gives the program that has a name; one that it lacks it has made by what stands second."""

_keepers: list[Keeper] = []
"""Those in whose contexts this process is."""


@contextmanager
def keeping_programs(keeper: Keeper) -> Iterator[None]:
    """Within it, programs of this package's operators that nobody has asked for yet are the keeper's."""
    _keepers.append(keeper)
    try:
        yield
    finally:
        _keepers.remove(keeper)


@functools.lru_cache(maxsize=1024)
def partials_of(operator: Operator, points: int, dtype: str) -> Any:
    """A compiled (inputs, each `[points]`, β `[P, points]`) of an element-wise operator with `P` vectors.

    It returns `[1 + inputs + P, points]`: the value, then its partial derivative by each input and by
    each vector.

    Args:
        operator: The operator.
        points: How many.
        dtype: Of inputs, vectors and results: `float32`, or `float64` where JAX is allowed that.
    """

    def make() -> Any:
        inputs = (jax.ShapeDtypeStruct((points,), dtype),) * operator.arity
        beta = jax.ShapeDtypeStruct((len(operator.params), points), dtype)
        return jax.jit(functools.partial(_partials, operator)).lower(inputs, beta).compile()

    if not _keepers or not is_built_in(operator):
        return make()
    return _keepers[-1](f"{operator.name} {points} {dtype}", make)


def _partials(operator: Operator, inputs: tuple[jax.Array, ...], beta: jax.Array) -> jax.Array:
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
