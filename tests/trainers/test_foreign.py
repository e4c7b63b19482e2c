"""Functions of Python that XLA calls: what they are given, what they raise, from which threads."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trainers import foreign
from trainers.foreign import Call, Operand, register

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="XLA calls them on a CPU")


def array(operand: Operand) -> np.ndarray:
    """The floats in XLA's memory."""
    pointer = ctypes.cast(operand.address, ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(pointer, operand.shape)


def test_a_function_has_its_operands_its_attributes_and_room_for_its_result():
    seen = []

    def weigh(call: Call) -> None:
        operands, results, attributes = call.operands, call.results, call.attributes
        seen.append((operands, results, attributes, call.addresses))
        left, right = (array(each) for each in operands)
        array(results[0])[:] = left.T * attributes[0] + right * attributes[1]
        array(results[1])[...] = left.sum()

    register("weigh", weigh)
    left = np.arange(6, dtype=np.float32).reshape(2, 3)
    right = np.ones((3, 2), np.float32)

    @jax.jit
    def program(left: jax.Array, right: jax.Array) -> tuple[jax.Array, jax.Array]:
        shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((3, 2), ())]
        call = jax.ffi.ffi_call("weigh", shapes)
        weighed, total = call(left + 1, right, second=np.int64(-5), first=np.int64(2**40))
        return weighed - 1, total * 2

    weighed, total = program(left, right)
    np.testing.assert_array_equal(weighed, (left + 1).T * 2.0**40 - 5 - 1)
    assert total == 2 * (left + 1).sum()
    ((operands, results, attributes, addresses),) = seen
    assert [each.shape for each in operands] == [(2, 3), (3, 2)]
    assert [(each.shape, each.dtype) for each in results] == [((3, 2), 11), ((), 11)]
    assert attributes == [2**40, -5]
    assert addresses == [each.address for each in (*operands, *results)]


def test_what_a_function_raises_jax_raises_and_the_next_call_is_as_good_as_ever():
    calls = []

    def fail_first(call: Call) -> None:
        calls.append(call)
        if len(calls) == 1:
            raise ValueError("no β today")
        array(call.results[0])[:] = array(call.operands[0])

    register("fail_first", fail_first)
    program = jax.jit(lambda x: jax.ffi.ffi_call("fail_first", x)(x))
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"fail_first: ValueError\('no β today'\)"):
        program(jnp.ones(3)).block_until_ready()
    assert program(jnp.ones(3)).tolist() == [1.0, 1.0, 1.0]


def test_a_name_keeps_its_first_function():
    def fill(number: float) -> Callable[[Call], None]:
        def function(call: Call) -> None:
            array(call.results[0])[:] = number

        return function

    register("fill", fill(1.0))
    register("fill", fill(2.0))
    assert jax.jit(lambda x: jax.ffi.ffi_call("fill", x)(x))(jnp.zeros(2)).tolist() == [1.0, 1.0]


def test_another_version_of_the_interface_is_not_spoken_to(monkeypatch: pytest.MonkeyPatch):
    """Its structures may be others: better no answer than one read from the wrong place."""
    monkeypatch.setattr(foreign, "KNOWN", frozenset({(0, 2), (1, 0)}))
    with monkeypatch.context() as patch:
        patch.setattr(foreign, "available", foreign.available.__wrapped__)
        assert not foreign.available()
        register("too_new", lambda call: None)
    assert "too_new" not in foreign._registered
    called = []
    with pytest.raises(jax.errors.JaxRuntimeError, match="of XLA's foreign functions"):
        register("still_too_new", called.append)
        jax.jit(lambda x: jax.ffi.ffi_call("still_too_new", x)(x))(jnp.zeros(2)).block_until_ready()
    assert not called


def test_a_jax_without_its_headers_is_of_no_known_version(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jax.ffi, "include_dir", lambda: "/nonexistent")
    assert foreign.available() and not foreign.available.__wrapped__()


SCRIPT = """
import threading, time
from trainers.parallel import use_cores
use_cores(2)
import jax, jax.numpy as jnp
from trainers.foreign import register
from trainers.parallel import BatchLayout, map_over_shares
meet = threading.Barrier(2, timeout=60)

def wait(call):
    meet.wait()

register("wait", wait)
layout = BatchLayout.over(jax.devices(), 4)
call = lambda x: jax.ffi.ffi_call("wait", jax.ShapeDtypeStruct(x.shape, x.dtype))(x)
program = jax.jit(lambda x: map_over_shares(call, (x,)), in_shardings=layout.split)
program(jnp.zeros((4, 2))).block_until_ready()
last = program(jnp.zeros((4, 2)))
print("met", last.shape)
"""


def test_two_devices_call_at_a_time_and_a_process_may_end_meanwhile():
    """The barrier is for two: called one after the other, the first would wait in vain."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, "met (4, 2)", "")


KEPT = """
import threading
from trainers.parallel import use_cores
use_cores(2)
import jax, jax.numpy as jnp
from trainers.foreign import register
from trainers.parallel import BatchLayout, map_over_shares
known, calls = threading.local(), []

def count(call):
    known.calls = getattr(known, "calls", 0) + 1
    calls.append(known.calls)

register("count", count)
layout = BatchLayout.over(jax.devices(), 4)
call = lambda x: jax.ffi.ffi_call("count", jax.ShapeDtypeStruct(x.shape, x.dtype))(x)
program = jax.jit(lambda x: map_over_shares(call, (x,)), in_shardings=layout.split)
for _ in range(20):
    program(jnp.zeros((4, 2))).block_until_ready()
print(len(calls), max(calls) > 1)
"""


def test_a_thread_of_xlas_is_the_same_to_python_the_next_time():
    """Else Python makes anew what it knows of a thread, with every call, which takes longer than most of them."""
    ran = subprocess.run(
        [sys.executable, "-c", KEPT], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, "40 True", "")
