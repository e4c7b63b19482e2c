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
import threading
from collections.abc import Callable
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


_WORD = 8
"""Bytes of an address, and of a whole number."""
_MEMORY = ctypes.cast(_WORD, ctypes.POINTER(ctypes.c_int64))
"""All memory in words, from the second on. XLA's calls are read by it: that takes a fifth of the time that
`ctypes.Structure` needs, and a training step has dozens of them."""

_EXTENSIONS, _INTERFACE, _OPERANDS, _RESULTS, _ATTRIBUTES = 1, 2, 5, 10, 15
"""Words of a call."""
_COUNT, _EACH, _EACH_ATTRIBUTE = 2, 4, 5
"""Words of its lists."""
_DTYPE, _DATA, _END = 2, 3, 6
"""Words of an array: its type, its address, its rank, and where its shape is."""
_VALUE = 1
"""Of an attribute: where its value is."""

_Handler = ctypes.CFUNCTYPE(_Pointer, _Pointer)

_registered: dict[str, Any] = {}
"""What XLA may call must not be collected."""
_settled: set[int] = set()
"""Threads that `_settle_in`."""


@functools.cache
def available() -> bool:
    """Whether this process's JAX has an interface of a known version."""
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    try:
        found = re.findall(r"XLA_FFI_API_(?:MAJOR|MINOR) (\d+)", header.read_text())
    except OSError:
        return False
    return tuple(map(int, found)) in KNOWN


class Call:
    """What XLA asks for: arrays to read, arrays to write, and the operation's attributes.

    It is of use while the function runs.
    """

    __slots__ = ("_address",)

    def __init__(self, address: int) -> None:
        self._address = address

    @property
    def operands(self) -> list[Operand]:
        """The arrays to read."""
        return [_operand(each) for each in self._listed(_OPERANDS, _EACH)]

    @property
    def results(self) -> list[Operand]:
        """The arrays to write."""
        return [_operand(each) for each in self._listed(_RESULTS, _EACH)]

    @property
    def addresses(self) -> list[int]:
        """Of the operands and then of the results: to have these alone takes a third of the time."""
        arrays = self._listed(_OPERANDS, _EACH) + self._listed(_RESULTS, _EACH)
        return [_word(each, _DATA) for each in arrays]

    @property
    def attributes(self) -> list[int]:
        """In the order of their names."""
        scalars = self._listed(_ATTRIBUTES, _EACH_ATTRIBUTE)
        return [_word(_word(each, _VALUE), 0) for each in scalars]

    def _listed(self, place: int, each: int) -> list[int]:
        """Addresses of what a list has whose array stands `each` words behind its place."""
        call = self._address
        return _words(_word(call, place + each), 0, _word(call, place + _COUNT))


def register(
    name: str, function: Callable[[Call], None], entry: Callable[[int], int] | None = None
) -> None:
    """Makes `jax.ffi.ffi_call(name, results)(*operands, **attributes)` call a function.

    Args:
        name: Of the operation; a second registration of the same name does nothing, nor does any
            where the interface is not `available`.
        function: Is called by any of XLA's threads, several at a time. What it raises, JAX raises as
            `JaxRuntimeError`. Attributes are NumPy's `int64`.
        entry: Is given the address of what calls the function, with the address of a call, and returns that of
            what XLA is to call in its place, likewise.
    """
    if name in _registered or not available():
        return

    def handle(call: int) -> int | None:
        try:
            _settle_in()
            if extensions := _word(call, _EXTENSIONS):
                return _describe(extensions, _word(call, _INTERFACE))
            function(Call(call))
        except BaseException as error:  # nothing may leave a function that C calls
            return _error(_word(call, _INTERFACE), f"{name}: {error!r}")
        return None

    if not _registered:
        atexit.register(_settle)
    _registered[name] = _Handler(handle)
    address = ctypes.cast(_registered[name], _Pointer)
    called = _Pointer(entry(address.value or 0)) if entry else address
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(called), platform="cpu")


def _settle_in() -> None:
    """Lets a thread of XLA's keep what Python knows of it, which it would lose with each call's end and
    make anew for the next: that took longer than most functions do.
    """
    thread = threading.get_ident()
    if thread not in _settled:
        _settled.add(thread)
        ctypes.pythonapi.PyGILState_Ensure()


def _settle() -> None:
    """Waits for what is still being computed.

    A process that ended meanwhile would hang: XLA waits for its threads, and they for Python.
    """
    with contextlib.suppress(Exception):  # whatever became of it, nobody asks any more
        jax.block_until_ready(jax.live_arrays())


def _word(address: int, place: int) -> int:
    return _MEMORY[address // _WORD - 1 + place]


def _words(address: int, begin: int, end: int) -> list[int]:
    first = address // _WORD - 1
    return _MEMORY[first + begin : first + end]


def _operand(address: int) -> Operand:
    data, rank, sizes = _words(address, _DATA, _END)
    return Operand(data, tuple(_words(sizes, 0, rank)), _word(address, _DTYPE) & 0xFFFF_FFFF)


def _describe(extensions: int, interface: int) -> int | None:
    """XLA asks for the version before anything else."""
    extension = _Extension.from_address(extensions)
    offered = _Interface.from_address(interface).version
    if extension.type != _METADATA or (offered.major, offered.minor) not in KNOWN:
        message = f"version {offered.major}.{offered.minor} of XLA's foreign functions"
        return _error(interface, message)
    metadata = _MetadataExtension.from_address(extensions).metadata.contents
    metadata.version.major = offered.major
    metadata.version.minor = offered.minor
    metadata.traits = 0
    return None


def _error(interface: int, message: str) -> int | None:
    arguments = _ErrorArguments(
        ctypes.sizeof(_ErrorArguments), None, message.encode(errors="replace"), _INTERNAL
    )
    return _Interface.from_address(interface).create_error(ctypes.byref(arguments))
