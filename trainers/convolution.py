"""3 x 3 convolutions: on a CPU oneDNN's, or else arranged so that XLA finds its fast kernel.

Where there is none (`trainers.onednn`), XLA's CPU backend hands a float32 convolution to YNNPACK,
which ran at 170 to 210 GFLOP/s on a core, only if it reads or writes more than 16 channels; narrower
ones ran at 20 to 90 in Eigen. A narrow convolution is therefore written as a wide one that computes
`m` neighbouring pixels of a row at once: their channels lie one after the other, so that the result
is the same array, and its kernel [3, m + 2, C, m C'] holds `m` shifted copies of the narrow one. Zeros
are multiplied too, (m + 2) / 3 times the work, and still 16 → 16 channels took 0.56 instead of 0.93 ms
and 3 → 16 took 0.18 instead of 0.75 ms (64 images of 16 x 16, one core of an AMD EPYC of family 26,
jaxlib 0.10.2).

Letters: B batch, H W C image, C' output channels, m pixels computed at once.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from . import onednn, onednn_convolution
from .kernel_gradient import kernel_gradient, pays

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_NARROW = 16
"""Channels up to which XLA leaves a convolution to Eigen."""
_IMAGE_CHANNELS = 4
"""Channels up to which there is so little to sum that still wider outputs pay."""
_IMAGE_OUTPUTS = 64


def conv3x3(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, arithmetic: jnp.dtype | None = None
) -> jax.Array:
    """A 3 x 3 convolution with one pixel of zeros around the image, also for stride 2.

    Windows stay centred on the pixels that a strided slice keeps.

    Args:
        x: [B, H, W, C].
        kernel: [3, 3, C, C'], of the same dtype.
        stride: Of both directions.
        arithmetic: Of the products; both arrays, float32, are rounded to it before. None: their own.

    Returns:
        [B, ⌈H / stride⌉, ⌈W / stride⌉, C'], of the arrays' dtype.
    """
    dtype = arithmetic or x.dtype
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu and onednn.computes(dtype.name):
        return onednn_convolution.convolve(stride, dtype.name, x, kernel)
    if on_cpu and dtype == jnp.float32:
        return _arranged(stride, x, kernel)
    return _plain(x.astype(dtype), kernel.astype(dtype), (stride, stride)).astype(x.dtype)


def pixels_at_once(width: int, inputs: int, outputs: int) -> int:
    """m, a power of two: 1 where a convolution is wide enough as it is.

    Args:
        width: W.
        inputs: C.
        outputs: C'.
    """
    wanted = 1
    if inputs <= _IMAGE_CHANNELS:
        while wanted * outputs < _IMAGE_OUTPUTS:
            wanted *= 2
    elif max(inputs, outputs) <= _NARROW:
        while wanted * outputs <= _NARROW:
            wanted *= 2
    # The row must divide, and XLA wants a kernel no wider than the image.
    while wanted > 1 and (width % wanted or wanted + 2 > width):
        wanted //= 2
    return wanted


def _plain(x: jax.Array, kernel: jax.Array, strides: tuple[int, int]) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, strides, ((1, 1), (1, 1)), dimension_numbers=_LAYOUT)


def _by_rows(x: jax.Array, kernel: jax.Array) -> jax.Array:
    batch, height, width, inputs = x.shape
    outputs = kernel.shape[-1]
    m = pixels_at_once(width, inputs, outputs)
    shifted = [
        jnp.pad(kernel, ((0, 0), (pixel, m - 1 - pixel), (0, 0), (0, 0))) for pixel in range(m)
    ]
    wide = _plain(x, jnp.concatenate(shifted, axis=-1), (1, m))
    return wide.reshape(batch, height, width, outputs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _arranged(stride: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _by_rows(x, kernel) if stride == 1 else _plain(x, kernel, (stride, stride))


def _forward(
    stride: int, x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _arranged(stride, x, kernel), (x, kernel)


def _backward(
    stride: int, saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    _, pull_back = jax.vjp(lambda x, kernel: _plain(x, kernel, (stride, stride)), x, kernel)
    of_x, of_kernel = pull_back(cotangent)
    if stride == 1:
        # The transpose of a convolution with one pixel of padding is one with the kernel turned round.
        of_x = _by_rows(cotangent, kernel[::-1, ::-1].swapaxes(2, 3))
    if pays(*cotangent.shape[:3], *kernel.shape[2:]):
        of_kernel = kernel_gradient(x, cotangent, stride=stride)
    return of_x, of_kernel


_arranged.defvjp(_forward, _backward)
