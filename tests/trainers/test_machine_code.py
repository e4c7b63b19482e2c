"""Object files that XLA wrote, put into memory; and what is refused."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trainers.linked_form import links
from trainers.machine_code import Code, CodeError, functions_of_loops, object_files

pytestmark = pytest.mark.skipif(not links(), reason="XLA's machine code is of another kind here")

COUNT = 256


def compiled(function: Any) -> bytes:
    """What XLA writes down of a function of 256 floats."""
    shape = jax.ShapeDtypeStruct((COUNT,), jnp.float32)
    program: Any = jax.jit(function).lower(shape).compile()
    return program.runtime_executable().serialize()


def call(address: int, *arrays: np.ndarray) -> None:
    """Calls a function of XLA's as its interface says."""
    places = (ctypes.c_uint64 * (2 * len(arrays)))()
    for number, array in enumerate(arrays):
        places[2 * number : 2 * number + 2] = (array.ctypes.data, array.nbytes)
    groups = (ctypes.c_uint64 * 6)(1, 1, 1)
    group = ctypes.addressof(groups) + 24
    frame = (ctypes.c_uint64 * 4)(
        ctypes.addressof(groups), group, len(arrays), ctypes.addressof(places)
    )
    ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(address)(ctypes.addressof(frame))


def test_a_function_of_xla_s_runs_without_xla():
    """It has constants, whose addresses have to be filled in."""
    written = compiled(lambda x: jnp.tanh(x) * 0.3 + 0.7)
    code = Code(object_files(written))
    (name,) = code.addresses
    x = np.linspace(-3, 3, COUNT, dtype=np.float32)
    found = np.zeros_like(x)
    call(code.addresses[name], x, found)
    np.testing.assert_allclose(found, np.tanh(x) * 0.3 + 0.7, rtol=1e-6)


@pytest.mark.parametrize("second", [jnp.exp, jnp.sin], ids=["of its own", "of C's"])
def test_each_loop_is_a_function_of_its_own(second: Any):
    """XLA computes a sine by a function of C's."""
    written = compiled(lambda x: (jnp.tanh(x), second(x)))
    code = Code(object_files(written))
    x = np.linspace(-3, 3, COUNT, dtype=np.float32)
    found = []
    for address in code.addresses.values():
        found.append(np.zeros_like(x))
        call(address, x, found[-1])
    assert len(found) == 2
    for each in (np.tanh(x), second(x)):
        assert any(np.allclose(each, other, rtol=1e-5, atol=1e-6) for other in found)


def changed(content: bytes, place: int, kind: str, value: int) -> bytes:
    """An object file with another number at a place of its header."""
    altered = bytearray(content)
    struct.pack_into(kind, altered, place, value)
    return bytes(altered)


def test_what_is_no_object_file_of_such_a_processor_is_refused():
    content = object_files(compiled(lambda x: jnp.tanh(x)))[0]
    assert Code([content]).addresses
    for wrong, words in (
        (b"MZ" + content[2:], "no object file"),
        (changed(content, 16, "<H", 2), "kind 2"),  # an executable
        (changed(content, 18, "<H", 183), "machine 183"),  # another processor
    ):
        with pytest.raises(CodeError, match=words):
            Code([wrong])


def test_a_relocation_of_another_kind_is_refused():
    """Filled in as if it were a full address it would write over code."""
    content = object_files(compiled(lambda x: jnp.tanh(x)))[0]
    kinds = [place for place in range(0, len(content) - 8, 4) if is_relocation(content, place)]
    assert kinds
    with pytest.raises(CodeError, match="relocation 2"):
        Code([changed(content, kinds[0], "<I", 2)])


def is_relocation(content: bytes, place: int) -> bool:
    """Whether a relocation's kind is at a place: in a table of them, as the header tells."""
    (table,) = struct.unpack_from("<Q", content, 40)
    (count,) = struct.unpack_from("<H", content, 60)
    for number in range(count):
        section = struct.unpack_from("<IIQQQQIIQQ", content, table + 64 * number)
        # .eh_frame is the last that may be executed's neighbour; its relocations are not read.
        kind, offset, size, target = section[1], section[4], section[5], section[7]
        flags = struct.unpack_from("<IIQ", content, table + 64 * target)[2]
        inside = offset <= place - 8 < offset + size and (place - 8 - offset) % 24 == 0
        if kind == 4 and flags & 4 and inside:
            return True
    return False


def test_a_function_that_is_nowhere_is_refused():
    content = object_files(compiled(lambda x: jnp.sin(x)))[0]
    assert content.count(b"\0sinf\0") == 1
    with pytest.raises(CodeError, match="there is no function `si_f`"):
        Code([content.replace(b"\0sinf\0", b"\0si_f\0")])


def test_loops_that_do_the_same_call_the_same_function():
    written = compiled(lambda x: (x + x, jnp.exp(x + x) + jnp.exp(x + x), jnp.tanh(x)))
    functions = functions_of_loops(written)
    assert set(functions.values()) <= set(Code(object_files(written)).addresses)
    shape = jax.ShapeDtypeStruct((COUNT,), jnp.float32)
    twice: Any = jax.jit(lambda x, y: (x + x, y + y)).lower(shape, shape).compile()
    found = functions_of_loops(twice.runtime_executable().serialize())
    assert len(found) == 2 and len(set(found.values())) == 1


@pytest.mark.parametrize(
    "rest", [b"", b"\x12", b"\x12\x04\x0a\x02ab\x5b", b"\x12\x80", b"\x12\x04\x12\x02ab"]
)
def test_what_is_written_down_in_another_way_is_refused(rest: bytes):
    with pytest.raises(CodeError):
        functions_of_loops(b"xyz\x0a\x06kernel" + rest)
