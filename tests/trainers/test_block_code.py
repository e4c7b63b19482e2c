"""Functions of blocks as lists of calls: against XLA, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trainers import block_code
from trainers.block_code import compile_function
from trainers.block_program import (
    BlockProgram,
    Listing,
    aligned_floats,
    fixed,
    moving,
)
from trainers.linked_form import links
from trainers.machine_code import CodeError

pytestmark = pytest.mark.skipif(not links(), reason="XLA's machine code is of another kind here")

BLOCK = 64


def filled(values: np.ndarray) -> np.ndarray:
    """The same where XLA's code may have it."""
    room = aligned_floats(values.size)
    room[:] = values.ravel()
    return room


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def program(
    function: Callable[..., tuple[jax.Array, ...]], inputs: list[Any], outputs: dict[int, Any]
) -> BlockProgram:
    compiled, _ = compile_function(function, len(inputs), BLOCK)
    listing = Listing()
    compiled.write(listing, inputs, outputs)
    return BlockProgram(listing, BLOCK)


def addresses(*arrays: np.ndarray) -> list[int]:
    return [each.ctypes.data for each in arrays]


def test_each_block_of_a_long_array_has_its_turn():
    def function(x: jax.Array, y: jax.Array, row: jax.Array) -> tuple[jax.Array, ...]:
        return (jnp.sin(x) * row + jnp.arctan(y),)

    x, y, row = filled(drawn(5, BLOCK)), filled(drawn(5, BLOCK, seed=1)), filled(drawn(BLOCK))
    found = aligned_floats(7 * BLOCK)
    run = program(function, [moving(0), moving(1), fixed(3)], {0: moving(2)})
    for _ in range(2):  # the second time from the beginning again
        found[:] = -1.0
        run.run(addresses(x, y, found, row), 5)
        rows = np.tile(row, 5)
        shape = jax.ShapeDtypeStruct(x.shape, jnp.float32)
        expected = jax.jit(function).lower(shape, shape, shape).compile()(x, y, rows)[0]
        np.testing.assert_array_equal(found[: 5 * BLOCK], expected)
        assert (found[5 * BLOCK :] == -1.0).all()


def test_an_output_may_be_where_an_input_is():
    """Sums over blocks; what another loop writes over its operand goes elsewhere."""

    def function(x: jax.Array, weight: jax.Array, total: jax.Array) -> tuple[jax.Array, ...]:
        gate = jax.nn.sigmoid(x)
        return gate * x, total + gate * (1 - gate) * weight * x

    x, weight = filled(drawn(4, BLOCK)), filled(drawn(4, BLOCK, seed=1))
    total, found = filled(drawn(BLOCK, seed=2)), aligned_floats(4 * BLOCK)
    expected = total.copy()
    for each, heavy in zip(x.reshape(4, BLOCK), weight.reshape(4, BLOCK), strict=True):
        expected = np.asarray(jax.jit(function)(each, heavy, expected)[1])
    inputs = [moving(0), moving(1), fixed(3)]
    run = program(function, inputs, {0: moving(2), 1: fixed(3)})
    run.run(addresses(x, weight, found, total), 4)
    np.testing.assert_allclose(total, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found, jax.nn.sigmoid(x) * x, rtol=1e-6)


def test_what_nobody_asks_for_is_not_computed():
    def function(x: jax.Array) -> tuple[jax.Array, ...]:
        return jnp.sin(x), jnp.exp(x)

    compiled, _ = compile_function(function, 1, BLOCK)
    listing = Listing()
    compiled.write(listing, [moving(0)], {1: moving(1)})
    assert len(listing.calls) == 1
    x, found = filled(drawn(BLOCK)), aligned_floats(BLOCK)
    BlockProgram(listing, BLOCK).run(addresses(x, found), 1)
    np.testing.assert_allclose(found, np.exp(x), rtol=1e-6)


def test_every_part_of_a_loop_that_xla_divides_is_done():
    """An expensive one of many floats, where there is more than one core."""
    block = 1 << 16

    def function(x: jax.Array) -> tuple[jax.Array, ...]:
        return (jnp.sin(jnp.arctan(jnp.cosh(x))),)

    divided, compiled = compile_function(function, 1, block)
    if (os.cpu_count() or 1) > 1 and len(os.sched_getaffinity(0)) > 1:
        assert max(step.groups for step in divided.routine.steps) > 1
    listing = Listing()
    divided.write(listing, [moving(0)], {0: moving(1)})
    x, found = filled(drawn(2, block)), aligned_floats(2 * block)
    BlockProgram(listing, block).run(addresses(x, found), 2)
    for part, expected in zip(found.reshape(2, -1), x.reshape(2, -1), strict=True):
        np.testing.assert_array_equal(part, compiled(expected)[0])


@pytest.mark.parametrize("copies", [1, 2])
def test_an_output_that_is_an_input_is_copied(copies: int):
    x, found = filled(drawn(3, BLOCK)), [aligned_floats(3 * BLOCK) for _ in range(copies)]
    outputs = {number: moving(1 + number) for number in range(copies)}
    run = program(lambda x: (x,) * copies, [moving(0)], outputs)
    run.run(addresses(x, *found), 3)
    for each in found:
        np.testing.assert_array_equal(each, x)


def test_an_output_that_is_there_twice_is_copied():
    def function(x: jax.Array) -> tuple[jax.Array, ...]:
        return jnp.exp(x), jnp.exp(x)

    x, first, second = filled(drawn(BLOCK)), aligned_floats(BLOCK), aligned_floats(BLOCK)
    run = program(function, [moving(0)], {0: moving(1), 1: moving(2)})
    run.run(addresses(x, first, second), 1)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, np.exp(x), rtol=1e-6)


def test_a_constant_has_a_place():
    """XLA broadcasts it in a loop of its own."""
    found = aligned_floats(2 * BLOCK)
    run = program(lambda x: (jnp.full_like(x, 0.3),), [moving(0)], {0: moving(1)})
    run.run(addresses(aligned_floats(2 * BLOCK), found), 2)
    assert (found == np.float32(0.3)).all()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (jnp.sort(x),),
        lambda x: (jax.lax.fori_loop(0, 3, lambda _, y: jnp.sin(y), x),),
        lambda x: (x[:8],),
        lambda x: (x.astype(jnp.int32),),
        lambda x: (jnp.dot(x, x) * x,),
        lambda x: (jnp.cumsum(x),),
    ],
    ids=["sort", "loop", "shorter", "integers", "dot", "cumsum"],
)
def test_what_is_no_list_of_loops_is_refused(function: Callable[..., Any]):
    with pytest.raises(CodeError):
        compile_function(function, 1, BLOCK)


@pytest.mark.parametrize("error", [KeyError(0), IndexError(), ValueError("no number")])
def test_a_text_that_is_not_understood_is_refused(
    monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def fail(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(block_code, "_routine", fail)
    with pytest.raises(CodeError, match="in another way"):
        compile_function(lambda x: (x + 1,), 1, BLOCK)


def test_floats_lie_at_the_beginning_of_a_line():
    for count in (1, 16, 100):
        room = aligned_floats(count)
        assert room.ctypes.data % 64 == 0 and room.shape == (count,)
