"""One compiled program that evaluates any candidates of a table: its instructions are operators.

It goes through the lines of `spaces.instructions` in a loop and applies the chain rule to each,
forward: nothing is compiled for a new candidate, however large it is.

Letters, beside those of `spaces.instructions`: `N` points, `M = 1 + S·P` tangents (of x, then of each
trainable vector of a candidate).

Whoever starts many processes may keep the programs of this package's operators from one to the next:
their code, and so their names, say what they do.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .instructions import BATCH, X, length, operators, results
from .operator import Operator
from .program import OperatorTable

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


@functools.lru_cache(maxsize=64)
def interpreter(
    table: OperatorTable, points: bytes, dtype: str, sides: tuple[int, ...], pulls: bool
) -> Any:
    """A compiled (number of lines int32 `[]`, lines int32 `[K, 5]`, β `[K, P, sides]`).

    It returns `[B, 1 + M, N]`, or `[B, 2, N]` without pulls: of each candidate the value, then its
    derivatives by x and by each of its trainable vectors.

    Args:
        table: What lines may name, and the size of candidates.
        points: The `N` points, as bytes of `dtype`.
        dtype: Of points, vectors and results: `float32`, or `float64` where JAX is allowed that.
        sides: How many of the points, from the first one on, share each value of the vectors.
        pulls: Whether the trainable vectors have tangents.
    """
    lines = (jax.ShapeDtypeStruct((), "int32"), jax.ShapeDtypeStruct((length(table), 5), "int32"))
    beta = jax.ShapeDtypeStruct((length(table), table.vectors, len(sides)), dtype)

    def make() -> Any:
        x = np.frombuffer(points, dtype)
        run = functools.partial(_run, table, x, sides, pulls)
        return jax.jit(run).lower(*lines, beta).compile()

    if not _keepers or not table.built_in:
        return make()
    names = [operator.name for operator in operators(table)]
    told = repr((names, table.core_units, points, dtype, sides, pulls))
    return _keepers[-1](hashlib.sha256(told.encode()).hexdigest(), make)


def _run(
    table: OperatorTable,
    x: np.ndarray,
    sides: Sequence[int],
    pulls: bool,
    total: jax.Array,
    lines: jax.Array,
    beta: jax.Array,
) -> jax.Array:
    most = table.vectors
    tangents = 1 + pulls * table.slots * most
    registers = jnp.zeros((results(table) + BATCH, 1 + tangents, len(x)), x.dtype)
    registers = registers.at[X, 0].set(x).at[X, 1].set(1.0)
    branches = [_branch(operator, most) for operator in operators(table)]
    binary = np.array([operator.arity == 2 for operator in operators(table)])

    def step(number: jax.Array, registers: jax.Array) -> jax.Array:
        place, first, second, result, used = lines[number]
        vectors = beta[number]
        spread = jnp.concatenate(
            [
                jnp.broadcast_to(vectors[:, side, None], (most, count))
                for side, count in enumerate(sides)
            ],
            axis=1,
        )
        one, other = registers[first], registers[second]
        found = jax.lax.switch(place, branches, one[0], other[0], spread)
        moved = found[1:2] * one[1:]
        # Not 0 · tangents of an operand that is none: they may be infinite.
        moved = jnp.where(jnp.asarray(binary)[place], moved + found[2:3] * other[1:], moved)
        if pulls:
            own = jnp.arange(tangents)[:, None]
            for vector in range(most):
                pull = found[3 + vector : 4 + vector]
                moved = jnp.where(own == 1 + used + vector, moved + pull, moved)
        new = jnp.concatenate([found[:1], moved])
        return jax.lax.dynamic_update_index_in_dim(registers, new, result, 0)

    return jax.lax.fori_loop(0, total, step, registers)[results(table) :]


def _branch(operator: Operator, vectors: int) -> Callable[..., jax.Array]:
    """(operand, operand, β `[P, N]`) → `[3 + P, N]`: the operator's value, its partial derivatives by
    both operands and by each vector; 0 by what it has not.
    """

    def evaluate(one: jax.Array, other: jax.Array, beta: jax.Array) -> jax.Array:
        count = len(operator.params)
        found = _partials(operator, (one, other)[: operator.arity], beta[:count])
        nothing = jnp.zeros_like(one)
        operands = [*found[1 : 1 + operator.arity], nothing][:2]
        own = [*found[1 + operator.arity :], *[nothing] * vectors][:vectors]
        return jnp.stack([found[0], *operands, *own])

    return evaluate


def _partials(
    operator: Operator, inputs: tuple[jax.Array, ...], beta: jax.Array
) -> list[jax.Array]:
    """The value of an element-wise operator and its partial derivatives by each input and vector."""

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
    return [found, *partials]
