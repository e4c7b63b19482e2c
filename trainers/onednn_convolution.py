"""oneDNN's convolutions as an operation of XLA programs, with its gradients.

XLA is told of three foreign functions when this module is imported, so that programs that were
compiled by other processes find them.

Letters: B batch, H W C image, C' output channels.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import jax
import numpy as np

from .foreign import Call
from .onednn import DTYPES, Shapes, convolution
from .parallel import map_over_shares, sum_over_shares
from .script import Given, Script
from .scripted import ScriptedFunction

_DTYPES = {11: DTYPES["float32"], 16: DTYPES["bfloat16"]}
"""By XLA's numbers."""

_FORWARD, _OF_IMAGE, _OF_KERNEL = (
    f"actsearch_onednn_{way}" for way in ("forward", "input", "kernel")
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def convolve(stride: int, arithmetic: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A 3 x 3 convolution with one pixel of zeros around the image.

    Args:
        stride: Of both directions.
        arithmetic: Of the products, a dtype for which `onednn.computes`: that of the arrays, or else
            theirs is float32 and they are rounded to this one before. The kernel's gradient is of products
            in the arrays' own, which takes no longer.
        x: [B, H, W, C].
        kernel: [3, 3, C, C'], of the same dtype.

    Returns:
        [B, ⌈H / stride⌉, ⌈W / stride⌉, C'].
    """
    _, height, width, _ = x.shape
    shape = -(-height // stride), -(-width // stride), kernel.shape[-1]
    images = functools.partial(_images, _FORWARD, stride, arithmetic, shape)
    return map_over_shares(images, (x,), kernel)


def _forward(
    stride: int, arithmetic: str, x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(stride, arithmetic, x, kernel), (x, kernel)


def _backward(
    stride: int, arithmetic: str, saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    of_image = functools.partial(_images, _OF_IMAGE, stride, arithmetic, x.shape[1:])
    of_kernel = functools.partial(_call, _OF_KERNEL, stride, x.dtype.name, kernel.shape)
    return map_over_shares(of_image, (cotangent,), kernel), sum_over_shares(of_kernel, x, cotangent)


convolve.defvjp(_forward, _backward)


def _images(
    name: str,
    stride: int,
    arithmetic: str,
    shape: tuple[int, ...],
    batch: jax.Array,
    kernel: jax.Array,
) -> jax.Array:
    """An image [H, W, C] of that shape for each one of a batch."""
    return _call(name, stride, arithmetic, (len(batch), *shape), batch, kernel)


def _call(
    name: str, stride: int, arithmetic: str, shape: tuple[int, ...], *operands: jax.Array
) -> jax.Array:
    result = jax.ShapeDtypeStruct(shape, operands[0].dtype)
    shapes = [each.shape for each in (*operands, result)], str(result.dtype), stride, arithmetic
    digest = hashlib.sha256(repr((name, *shapes)).encode()).digest()
    plan = np.int64(int.from_bytes(digest[:8], "little", signed=True))
    attributes = {"plan": plan, "stride": np.int64(stride), "type": np.int64(DTYPES[arithmetic])}
    return jax.ffi.ffi_call(name, result)(*operands, **attributes)


def _script(way: str, order: Sequence[str], call: Call) -> Script:
    """What XLA is to do; `order` says which arrays the operands and the result are."""
    arrays = dict(zip(order, (*call.operands, *call.results), strict=True))
    image, kernel, result = (arrays[name] for name in _NAMES)
    _, stride, arithmetic = call.attributes  # in the order of their names
    dtype = _DTYPES[image.dtype]
    shapes = Shapes(image.shape, kernel.shape, result.shape, stride, dtype, arithmetic)
    return convolution(way, shapes, *(Given(order.index(name)) for name in _NAMES))


_NAMES = ("image", "kernel", "result")

for _name, _way, _order in (
    (_FORWARD, "forward", ("image", "kernel", "result")),
    (_OF_IMAGE, "input", ("result", "kernel", "image")),
    (_OF_KERNEL, "kernel", ("image", "result", "kernel")),
):
    ScriptedFunction(_name, functools.partial(_script, _way, _order), numbered=False)
