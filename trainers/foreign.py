"""Functions of this process as operations of XLA programs: what XLA calls its foreign function interface.

XLA hands a function pointers to its operands and to room for its results. The structures here are
those of `xla/ffi/api/c_api.h`, as far as a function of arrays and whole numbers needs them. Versions of the
interface may differ in them: only those that were looked at are spoken to.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

KNOWN = frozenset({(0, 3), (0, 4), (0, 5)})
"""Versions of the interface that have these structures: of jaxlib 0.10 to 0.12."""
_METADATA = 1
_INTERNAL = 13

_Pointer = ctypes.c_void_p


class Operand(NamedTuple):
    """An array in XLA's memory, rows first."""

    address: int
    shape: tuple[int, ...]
    dtype: int
    """As XLA numbers them: 11 is float32, 16 is bfloat16."""


class _Extension(ctypes.Structure):
    pass


_Extension._fields_ = [
    ("struct_size", ctypes.c_size_t),
    ("type", ctypes.c_int),
    ("next", ctypes.POINTER(_Extension)),
]
_HEAD = [("struct_size", ctypes.c_size_t), ("extensions", ctypes.POINTER(_Extension))]


class _Version(ctypes.Structure):
    _fields_ = [*_HEAD, ("major", ctypes.c_int), ("minor", ctypes.c_int)]


class _Metadata(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("version", _Version),
        ("traits", ctypes.c_uint32),
    ]


class _MetadataExtension(ctypes.Structure):
    _fields_ = [("base", _Extension), ("metadata", ctypes.POINTER(_Metadata))]


class _ErrorArguments(ctypes.Structure):
    _fields_ = [*_HEAD, ("message", ctypes.c_char_p), ("code", ctypes.c_int)]


_CreateError = ctypes.CFUNCTYPE(_Pointer, ctypes.POINTER(_ErrorArguments))


class _Interface(ctypes.Structure):
    _fields_ = [
        *_HEAD,
        ("version", _Version),
        ("internal", _Pointer),
        ("create_error", _CreateError),
    ]


class _Buffer(ctypes.Structure):
    _fields_ = [
        *_HEAD,
        ("dtype", ctypes.c_int),
        ("data", _Pointer),
        ("rank", ctypes.c_int64),
        ("sizes", ctypes.POINTER(ctypes.c_int64)),
    ]


class _Buffers(ctypes.Structure):
    _fields_ = [
        *_HEAD,
        ("count", ctypes.c_int64),
        ("types", _Pointer),
        ("each", ctypes.POINTER(ctypes.POINTER(_Buffer))),
    ]


class _Scalar(ctypes.Structure):
    _fields_ = [("dtype", ctypes.c_int), ("value", ctypes.POINTER(ctypes.c_int64))]


class _Numbers(ctypes.Structure):
    _fields_ = [
        *_HEAD,
        ("count", ctypes.c_int64),
        ("types", _Pointer),
        ("names", _Pointer),
        ("each", ctypes.POINTER(ctypes.POINTER(_Scalar))),
    ]


class _Call(ctypes.Structure):
    _fields_ = [
        *_HEAD,
        ("interface", ctypes.POINTER(_Interface)),
        ("context", _Pointer),
        ("stage", ctypes.c_int),
        ("operands", _Buffers),
        ("results", _Buffers),
        ("numbers", _Numbers),
    ]


_Handler = ctypes.CFUNCTYPE(_Pointer, ctypes.POINTER(_Call))

_registered: dict[str, Any] = {}
"""What XLA may call must not be collected."""


@functools.cache
def available() -> bool:
    """Whether this process's JAX has an interface of a known version."""
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    try:
        found = re.findall(r"XLA_FFI_API_(?:MAJOR|MINOR) (\d+)", header.read_text())
    except OSError:
        return False
    return tuple(map(int, found)) in KNOWN


Function = Callable[[Sequence[Operand], Operand, Sequence[int]], None]
"""Reads operands and writes the one result; the last are the operation's attributes, ordered by their
names."""


def register(name: str, function: Function) -> None:
    """Makes `jax.ffi.ffi_call(name, result)(*operands, **attributes)` call a function.

    Args:
        name: Of the operation; a second registration of the same name does nothing, nor does any
            where the interface is not `available`.
        function: Is called by any of XLA's threads, several at a time. What it raises, JAX raises as
            `JaxRuntimeError`. Attributes are NumPy's `int64`.
    """
    if name in _registered or not available():
        return

    def handle(pointer: Any) -> int | None:
        call = pointer.contents
        try:
            if call.extensions:
                return _describe(call)
            operands, numbers = call.operands, call.numbers
            function(
                [_operand(operands.each[n]) for n in range(operands.count)],
                _operand(call.results.each[0]),
                [numbers.each[n].contents.value[0] for n in range(numbers.count)],
            )
        except BaseException as error:  # nothing may leave a function that C calls
            return _error(call, f"{name}: {error!r}")
        return None

    if not _registered:
        atexit.register(_settle)
    _registered[name] = _Handler(handle)
    address = ctypes.cast(_registered[name], _Pointer)
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(address), platform="cpu")


def _settle() -> None:
    """Waits for what is still being computed.

    A process that ended meanwhile would hang: XLA waits for its threads, and they for Python.
    """
    with contextlib.suppress(Exception):  # whatever became of it, nobody asks any more
        jax.block_until_ready(jax.live_arrays())


def _operand(pointer: Any) -> Operand:
    buffer = pointer.contents
    return Operand(buffer.data, tuple(buffer.sizes[: buffer.rank]), buffer.dtype)


def _describe(call: Any) -> int | None:
    """XLA asks for the version before anything else."""
    extension = call.extensions.contents
    offered = call.interface.contents.version
    if extension.type != _METADATA or (offered.major, offered.minor) not in KNOWN:
        return _error(call, f"version {offered.major}.{offered.minor} of XLA's foreign functions")
    found = ctypes.cast(call.extensions, ctypes.POINTER(_MetadataExtension)).contents
    found.metadata.contents.version.major = offered.major
    found.metadata.contents.version.minor = offered.minor
    found.metadata.contents.traits = 0
    return None


def _error(call: Any, message: str) -> int | None:
    arguments = _ErrorArguments(
        ctypes.sizeof(_ErrorArguments), None, message.encode(errors="replace"), _INTERNAL
    )
    return call.interface.contents.create_error(ctypes.byref(arguments))
