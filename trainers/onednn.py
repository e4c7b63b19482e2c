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
_FROM, _TO = 1, 17
_ARGUMENTS: Mapping[str, int] = {"image": 1, "kernel": 33, "result": 17}
_WRITTEN: Mapping[str, str] = {"forward": "result", "input": "image", "kernel": "kernel"}
"""Which of them, in each way."""
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
    """Of the three arrays, one of `DTYPES`."""
    arithmetic: int
    """What is multiplied; sums are float32."""


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
            arguments: From `_list`.
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


class _Array(NamedTuple):
    layout: _Handle
    memory: _Handle


class _Plan:
    """One way of one convolution.

    XLA's kernels are [3, 3, C, C'], and oneDNN has a layout of its own that depends on the
    processor: a kernel is rearranged before, the gradient of one afterwards. What is read is rounded
    before, where arithmetic is of another type.
    """

    def __init__(self, library: _Library, way: str, shapes: Shapes) -> None:
        self._library = library
        self._stream = library.new("dnnl_stream_create", library.engine, _IN_ORDER)
        self._rooms: list[Any] = []
        written = _WRITTEN[way]
        types = dict.fromkeys(_ARGUMENTS, shapes.arithmetic) | {written: shapes.dtype}
        description = _describe(library, way, shapes, types)
        asked = _ASK_WEIGHTS_GRADIENT if written == "kernel" else _ASK_WEIGHTS
        layouts = {name: _layout(library, shapes, name, types[name]) for name in _ARGUMENTS}
        layouts["kernel"] = library.chosen(description, asked)
        self._given = {
            name: self._array(_layout(library, shapes, name, shapes.dtype)) for name in _ARGUMENTS
        }
        moved = {
            name: self._array(layouts[name], room=True)
            for name in _ARGUMENTS
            if name == "kernel" or types[name] != shapes.dtype
        }
        gradients = () if way == "forward" else (written, "result")
        arguments = {
            _ARGUMENTS[name] + _GRADIENT * (name in gradients): array.memory
            for name, array in (self._given | moved).items()
        }
        pairs = [(self._given[name], array) for name, array in moved.items() if name != written]
        self._steps = [self._reordering(*pair) for pair in pairs]
        self._steps.append((library.new("dnnl_primitive_create", description), _list(arguments)))
        if written in moved:
            self._steps.append(self._reordering(moved[written], self._given[written]))

    def _array(self, layout: _Handle, *, room: bool = False) -> _Array:
        """One whose address is said later, or in room of the plan's own."""
        address = 0
        if room:
            self._rooms.append(ctypes.create_string_buffer(self._library.size(layout) + _LINE))
            address = -(-ctypes.addressof(self._rooms[-1]) // _LINE) * _LINE
        return _Array(layout, self._library.memory(layout, address))

    def _reordering(self, before: _Array, after: _Array) -> tuple[_Handle, Any]:
        """A primitive and its arguments."""
        engine = self._library.engine
        description = self._library.new(
            "dnnl_reorder_primitive_desc_create", before.layout, engine, after.layout, engine, None
        )
        arguments = {_FROM: before.memory, _TO: after.memory}
        return self._library.new("dnnl_primitive_create", description), _list(arguments)

    def write(self, script: Script, image: Word, kernel: Word, result: Word) -> None:
        """Computes in a script, on the arrays at three addresses."""
        library = self._library
        library.alone(script)
        for name, address in (("image", image), ("kernel", kernel), ("result", result)):
            library.point(script, self._given[name].memory, address)
        for primitive, arguments in self._steps:
            library.execute(script, primitive, self._stream, arguments)
        script.keep(self)


def _layout(library: _Library, shapes: Shapes, name: str, dtype: int) -> _Handle:
    """Of an image or a result [B, H, W, C], whose axes oneDNN names B, C, H, W, or of a kernel."""
    if name == "kernel":
        *_, inputs, outputs = shapes.kernel
        strides = 1, outputs, 3 * inputs * outputs, inputs * outputs
        return library.layout((outputs, inputs, 3, 3), dtype, strides)
    batch, height, width, channels = shapes.image if name == "image" else shapes.result
    strides = height * width * channels, 1, width * channels, channels
    return library.layout((batch, channels, height, width), dtype, strides)


def _describe(library: _Library, way: str, shapes: Shapes, types: Mapping[str, int]) -> _Handle:
    """A primitive's description; those of gradients are made from that of the forward pass."""
    pair = ctypes.c_int64 * 2
    stride, ones = pair(shapes.stride, shapes.stride), pair(1, 1)
    image, result = (_layout(library, shapes, name, types[name]) for name in ("image", "result"))
    kernel = library.layout((*shapes.kernel[:1:-1], 3, 3), types["kernel"], None)
    window = stride, pair(0, 0), ones, ones
    arrays = (image, kernel, result) if way == "input" else (image, kernel, None, result)
    if way == "forward":
        return library.new(WAYS[way], library.engine, _TRAINING, _DIRECT, *arrays, *window, None)
    same = dict.fromkeys(types, shapes.arithmetic)
    forward = _describe(library, "forward", shapes, same)
    return library.new(WAYS[way], library.engine, _DIRECT, *arrays, *window, forward, None)


class _Argument(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("memory", _Handle)]


def _list(arguments: Mapping[int, _Handle]) -> Any:
    """As oneDNN reads them."""
    return (_Argument * len(arguments))(*(_Argument(*pair) for pair in arguments.items()))


def _address(function: Any) -> int:
    return ctypes.cast(function, _Handle).value or 0
