"""Foreign functions that are scripts: when Python is asked, and that threads share nothing."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trainers import scripted
from trainers.foreign import Call, available
from trainers.own_code import runs
from trainers.script import Given, Script
from trainers.scripted import ScriptedFunction

pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu" or not available() or not runs(),
    reason="XLA calls them on an x86-64 processor",
)

NAMES = (f"test_scripted_{number}" for number in itertools.count())
LIBRARY = ctypes.CDLL(None)


def address(function: str) -> int:
    """Of a function of C's library."""
    return ctypes.cast(LIBRARY[function], ctypes.c_void_p).value or 0


def copying(asked: list[list[int]]) -> Callable[[Call], Script]:
    """Copies the last operand to the result, by way of room that is the script's own; after a while."""

    def write(call: Call) -> Script:
        asked.append(call.attributes)
        operands, (result,) = call.operands, call.results
        size = 4 * int(np.prod(result.shape))
        room = np.zeros(size, np.uint8)
        script = Script()
        script.keep(room)
        script.move(room.ctypes.data, Given(len(operands) - 1), size)
        script.call(address("usleep"), 2_000)
        script.move(Given(len(operands)), room.ctypes.data, size)
        return script

    return write


def program(name: str) -> Callable[..., jax.Array]:
    def call(*operands: jax.Array, key: int) -> jax.Array:
        return jax.ffi.ffi_call(name, jax.ShapeDtypeStruct(operands[-1].shape, jnp.float32))(
            *operands, a=np.int64(key), b=np.int64(-key)
        )

    return jax.jit(call, static_argnames="key")


def test_python_is_asked_once_for_a_key_and_a_number():
    asked: list[list[int]] = []
    name = next(NAMES)
    function = ScriptedFunction(name, copying(asked), numbered=True)
    copy = program(name)
    for start, (key, number) in enumerate([(5, 1), (5, 2), (-7, 1), (5, 1), (-7, 1), (5, 2)]):
        x = jnp.arange(start, start + 8, dtype=jnp.float32)
        assert copy(jnp.int32(number), x, key=key).tolist() == x.tolist()
    assert asked == [[5, -5], [5, -5], [-7, 7]]
    function.forget(1)
    assert copy(jnp.int32(2), jnp.ones(8), key=5).tolist() == [1.0] * 8
    assert len(asked) == 3
    # The two that were number 1 are slots for others now.
    assert copy(jnp.int32(3), jnp.ones(8), key=5).tolist() == [1.0] * 8
    assert copy(jnp.int32(1), jnp.ones(8), key=5).tolist() == [1.0] * 8
    assert len(asked) == 5
    assert len(function._slots) == 1 + 3


def test_numbers_count_only_where_the_function_has_them():
    asked: list[list[int]] = []
    name = next(NAMES)
    ScriptedFunction(name, copying(asked), numbered=False)
    copy = program(name)
    for start in range(3):
        x = jnp.arange(start, start + 8, dtype=jnp.float32)
        assert copy(x, key=3).tolist() == x.tolist()
    assert len(asked) == 1


def test_threads_have_scripts_of_their_own():
    """Performed by two at a time, one would copy what the other has."""
    asked: list[list[int]] = []
    name = next(NAMES)
    function = ScriptedFunction(name, copying(asked), numbered=False)
    copy = program(name)
    copy(jnp.zeros(1024), key=1).block_until_ready()

    def right(start: int) -> bool:
        x = np.arange(start, start + 1024, dtype=np.float32)
        return all(np.array_equal(copy(x, key=1), x) for _ in range(30))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(right, range(8)))
    assert 2 <= len(asked) == len(function._slots) - 1 <= 8


def test_a_call_that_fails_is_an_error_every_time_and_leaves_no_script():
    name = next(NAMES)
    failing = [False]

    def write(call: Call) -> Script:
        (result,) = call.results
        script = Script()
        # What abs returns is checked: nothing but 0 is well.
        script.call(address("abs"), 3 if failing[0] else 0, checked=True)
        script.zero(Given(1), 4 * result.shape[0])
        return script

    function = ScriptedFunction(name, write, numbered=False)
    copy = program(name)
    assert copy(jnp.ones(3), key=1).tolist() == [0.0] * 3
    failing[0] = True
    for _ in range(2):
        with pytest.raises(jax.errors.JaxRuntimeError, match=rf"{name}: ScriptError\('status 3'\)"):
            copy(jnp.ones(3), key=2).block_until_ready()
    assert copy(jnp.ones(3), key=1).tolist() == [0.0] * 3
    assert len(function._slots) == 2


def test_a_script_that_fails_later_is_written_anew():
    """XLA's thread finds out, and leaves the call to Python."""
    name = next(NAMES)
    status = np.zeros(1, np.int32)
    written = []

    def write(call: Call) -> Script:
        written.append(call)
        script = Script()
        # memcmp is 0 as long as the two are the same.
        same = np.zeros(1, np.int32)
        script.keep(same)
        script.call(address("memcmp"), status.ctypes.data, same.ctypes.data, 4, checked=True)
        script.zero(Given(1), 4)
        return script

    ScriptedFunction(name, write, numbered=False)
    copy = program(name)
    assert copy(jnp.ones(1), key=1).tolist() == [0.0]
    assert copy(jnp.ones(1), key=1).tolist() == [0.0]
    assert len(written) == 1
    status[0] = 1
    with pytest.raises((jax.errors.JaxRuntimeError, ValueError), match="ScriptError"):
        copy(jnp.ones(1), key=1).block_until_ready()
    assert len(written) == 2
    status[0] = 0
    assert copy(jnp.ones(1), key=1).tolist() == [0.0]
    assert len(written) == 2  # the first is there again


def test_too_many_arrays_are_refused():
    name = next(NAMES)
    ScriptedFunction(name, copying([]), numbered=False)
    with pytest.raises(jax.errors.JaxRuntimeError, match="16 arrays and attributes, where 15"):
        program(name)(*[jnp.ones(2)] * 13, key=1).block_until_ready()


def test_who_gives_up_a_script_waits_for_who_performs_it():
    """Else what the script needs would be gone under its thread."""
    name, performed = next(NAMES), []
    function = ScriptedFunction(name, copying([]), numbered=True)
    copy = program(name)
    copy(jnp.int32(1), jnp.zeros(8), key=1).block_until_ready()
    (_, slot) = function._slots
    slot._words[scripted._LOCK] = 1

    def let_go() -> None:
        performed.append(slot.script is not None)
        slot._words[scripted._LOCK] = 0

    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(function.forget, 1)
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        let_go()
        waiting.result(60)
    assert performed == [True] and slot.script is None
