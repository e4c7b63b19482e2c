"""3 x 3 convolutions by oneDNN, with which PyTorch computes them on a CPU too.

The package `onednn-cpu-gomp` has the library and no binding for Python: its C interface is called
through `ctypes`. Names and numbers are those of oneDNN's `dnnl_types.h`, version 3.

XLA's own took 1.5 times as long for all convolutions of a ResNet-8's step and 1.6 times for a
ResNet-20's (float32, one core of an Intel Xeon of family 6, model 207, jaxlib 0.10.2,
`docs/performance.md`), and bfloat16 makes them no faster.

Letters: B batch, H W C image, C' output channels.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, files
from typing import Any, NamedTuple

from .own_code import runs
from .script import Script, Word

PACKAGE = "onednn-cpu-gomp"
SWITCH = "ACTSEARCH_ONEDNN"
"""An environment variable: with `0` XLA computes convolutions itself."""

_LIBRARY, _OPENMP = "libdnnl.so.3", "libgomp.so.1"

DTYPES: Mapping[str, int] = {"float32": 3, "bfloat16": 2}
"""As oneDNN numbers them."""
_INSTRUCTIONS: Mapping[str, int] = {"float32": 0x27, "bfloat16": 0xE7}
"""What a processor must have for each: AVX-512, for which all of this was measured, and its
instructions for bfloat16, without which it is emulated."""

WAYS: Mapping[str, str] = {
    "forward": "dnnl_convolution_forward_primitive_desc_create",
    "input": "dnnl_convolution_backward_data_primitive_desc_create",
    "kernel": "dnnl_convolution_backward_weights_primitive_desc_create",
}
"""What is computed: the result, what the image gets back, what the kernel gets back."""

_CPU, _IN_ORDER, _TRAINING, _DIRECT, _ANY_LAYOUT = 1, 1, 64, 1, 1
_SOURCE, _WEIGHTS, _DESTINATION, _FROM, _TO = 1, 33, 17, 1, 17
_GRADIENT = 128
"""Is added to an argument's number."""
_ASK_WEIGHTS, _ASK_WEIGHTS_GRADIENT = 131, 132
_LINE = 64
"""Bytes of a cache line, at whose beginning oneDNN likes an array to begin."""

_Handle = ctypes.c_void_p


class OneDnnError(RuntimeError):
    """A call of the library failed; its number is one of `dnnl_status_t`."""


class Shapes(NamedTuple):
    """Of a convolution with one pixel of zeros around the image."""

    image: tuple[int, ...]
    """[B, H, W, C]."""
    kernel: tuple[int, ...]
    """[3, 3, C, C']."""
    result: tuple[int, ...]
    """[B, ⌈H / stride⌉, ⌈W / stride⌉, C']."""
    stride: int
    """Of both directions."""
    dtype: int
    """One of `DTYPES`."""


def computes(dtype: str) -> bool:
    """Whether convolutions of arrays of this type can be left to oneDNN on this machine.

    Args:
        dtype: As NumPy names it.
    """
    needed, library = _INSTRUCTIONS.get(dtype), _library()
    return library is not None and needed is not None and library.instructions & needed == needed


def convolution(way: str, shapes: Shapes, image: Word, kernel: Word, result: Word) -> Script:
    """One way of a convolution on arrays in memory, computed by the thread that asks.

    Args:
        way: One of `WAYS`. Each writes one array: `forward` the result, `input` the image, which
            is a gradient then, as the result is, `kernel` the kernel, likewise.
        shapes: Of the three arrays.
        image: Address of the first.
        kernel: Of the second.
        result: Of the third.

    Raises:
        OneDnnError: The library is missing, or does not compute such a convolution.
    """
    library = _library()
    if library is None:
        raise OneDnnError(f"there is no {_LIBRARY} that this machine can use")
    # oneDNN plans for as many threads as it may use, and sums in another order for each number.
    library.threads(1)
    script = Script()
    _Plan(library, way, shapes).write(script, image, kernel, result)
    return script


class _Library:
    """libdnnl, and the engine that is the processor."""

    def __init__(self, path: str) -> None:
        self._c = ctypes.CDLL(path)
        self._c.dnnl_primitive_desc_query_md.restype = _Handle
        self._c.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
        self.size = self._c.dnnl_memory_desc_get_size
        """Bytes of a layout."""
        self._execute = _address(self._c.dnnl_primitive_execute)
        self._point = _address(self._c.dnnl_memory_set_data_handle)
        self.threads = ctypes.CDLL(_OPENMP).omp_set_num_threads
        """How many may help the thread that asks, itself included."""
        self.instructions: int = self._c.dnnl_get_effective_cpu_isa()
        """The largest set that the processor has; it has the bits of those that it contains."""
        self.engine = self.new("dnnl_engine_create", _CPU, ctypes.c_size_t(0))

    def new(self, function: str, *arguments: Any) -> _Handle:
        """What a function makes, whose first argument is the place for it."""
        made = _Handle()
        self._check(function, getattr(self._c, function)(ctypes.byref(made), *arguments))
        return made

    def layout(self, shape: Sequence[int], dtype: int, strides: Sequence[int] | None) -> _Handle:
        """Of an array; None leaves it to oneDNN."""
        sizes = (ctypes.c_int64 * len(shape))(*shape)
        if strides is None:
            how = "dnnl_memory_desc_create_with_tag", len(shape), sizes, dtype, _ANY_LAYOUT
        else:
            steps = (ctypes.c_int64 * len(shape))(*strides)
            how = "dnnl_memory_desc_create_with_strides", len(shape), sizes, dtype, steps
        return self.new(*how)

    def chosen(self, description: _Handle, what: int) -> _Handle:
        """The layout that oneDNN chose for an argument of a primitive."""
        return _Handle(self._c.dnnl_primitive_desc_query_md(description, what, 0))

    def memory(self, layout: _Handle, address: int = 0) -> _Handle:
        return self.new("dnnl_memory_create", layout, self.engine, _Handle(address))

    def alone(self, script: Script) -> None:
        """Nobody shall help the thread that computes: XLA has one for each of its devices."""
        script.call(_address(self.threads), 1)

    def point(self, script: Script, memory: _Handle, address: Word) -> None:
        """Says where a memory's array lies."""
        script.call(self._point, memory.value or 0, address, checked=True)

    def execute(self, script: Script, primitive: _Handle, stream: _Handle, arguments: Any) -> None:
        """Computes.

        Args:
            script: Where to.
            primitive: What to compute.
            stream: Where.
            arguments: From `_arguments`.
        """
        handles = primitive.value or 0, stream.value or 0
        places = ctypes.addressof(arguments)
        script.call(self._execute, *handles, len(arguments), places, checked=True)

    @staticmethod
    def _check(function: str, status: int) -> None:
        if status:
            raise OneDnnError(f"{function} failed with status {status}")


@functools.cache
def _library() -> _Library | None:
    """None where the package, a library that it needs, or a way for XLA to call it is missing."""
    from .foreign import available

    if not available() or not runs() or os.environ.get(SWITCH) == "0":
        return None
    try:
        found = [each for each in files(PACKAGE) or [] if each.name == _LIBRARY]
        return _Library(str(found[0].locate()))
    except (PackageNotFoundError, IndexError, OSError, AttributeError, OneDnnError):
        return None


class _Plan:
    """One way of one convolution.

    XLA's kernels are [3, 3, C, C'], and oneDNN has a layout of its own that depends on the
    processor: a kernel is rearranged before, the gradient of one afterwards.
    """

    def __init__(self, library: _Library, way: str, shapes: Shapes) -> None:
        self._library = library
        self._stream = library.new("dnnl_stream_create", library.engine, _IN_ORDER)
        inputs, outputs = shapes.kernel[2:]
        sizes, dtype = (outputs, inputs, 3, 3), shapes.dtype
        image, result = (_layout(library, each, dtype) for each in (shapes.image, shapes.result))
        given = library.layout(sizes, dtype, (1, outputs, 3 * inputs * outputs, inputs * outputs))
        description = _describe(library, way, shapes, image, result)
        to_kernel = way == "kernel"
        own = library.chosen(description, _ASK_WEIGHTS_GRADIENT if to_kernel else _ASK_WEIGHTS)
        self._room = ctypes.create_string_buffer(library.size(own) + _LINE)
        begin = -(-ctypes.addressof(self._room) // _LINE) * _LINE
        self._image, self._result = library.memory(image), library.memory(result)
        self._kernel, inner = library.memory(given), library.memory(own, begin)
        convolution = (
            library.new("dnnl_primitive_create", description),
            _arguments(
                (_SOURCE + _GRADIENT * (way == "input"), self._image),
                (_WEIGHTS + _GRADIENT * to_kernel, inner),
                (_DESTINATION + _GRADIENT * (way != "forward"), self._result),
            ),
        )
        outer = (given, self._kernel), (own, inner)
        (before, source), (after, target) = outer[::-1] if to_kernel else outer
        reordering = (
            library.new("dnnl_primitive_create", _describe_reorder(library, before, after)),
            _arguments((_FROM, source), (_TO, target)),
        )
        self._steps = (convolution, reordering) if to_kernel else (reordering, convolution)

    def write(self, script: Script, image: Word, kernel: Word, result: Word) -> None:
        """Computes in a script, on the arrays at three addresses."""
        library = self._library
        library.alone(script)
        for memory, address in zip(
            (self._image, self._kernel, self._result), (image, kernel, result), strict=True
        ):
            library.point(script, memory, address)
        for primitive, arguments in self._steps:
            library.execute(script, primitive, self._stream, arguments)
        script.keep(self)


def _layout(library: _Library, shape: Sequence[int], dtype: int) -> _Handle:
    """Of an array [B, H, W, C], whose axes oneDNN names B, C, H, W."""
    batch, height, width, channels = shape
    strides = height * width * channels, 1, width * channels, channels
    return library.layout((batch, channels, height, width), dtype, strides)


def _describe(
    library: _Library, way: str, shapes: Shapes, image: _Handle, result: _Handle
) -> _Handle:
    """A primitive's description; those of gradients are made from that of the forward pass."""
    pair = ctypes.c_int64 * 2
    stride, ones = pair(shapes.stride, shapes.stride), pair(1, 1)
    kernel = library.layout((*shapes.kernel[:1:-1], 3, 3), shapes.dtype, None)
    window = stride, pair(0, 0), ones, ones
    arrays = (image, kernel, result) if way == "input" else (image, kernel, None, result)
    if way == "forward":
        return library.new(WAYS[way], library.engine, _TRAINING, _DIRECT, *arrays, *window, None)
    forward = _describe(library, "forward", shapes, image, result)
    return library.new(WAYS[way], library.engine, _DIRECT, *arrays, *window, forward, None)


def _describe_reorder(library: _Library, before: _Handle, after: _Handle) -> _Handle:
    engine = library.engine
    return library.new("dnnl_reorder_primitive_desc_create", before, engine, after, engine, None)


class _Argument(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("memory", _Handle)]


def _arguments(*pairs: tuple[int, _Handle]) -> Any:
    return (_Argument * len(pairs))(*(_Argument(*pair) for pair in pairs))


def _address(function: Any) -> int:
    return ctypes.cast(function, _Handle).value or 0
