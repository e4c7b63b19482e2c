"""The gradient of a 3 x 3 kernel as it is made here, beside XLA's own and other ways to write it.

    taskset -c 0 python tests/benchmarks/kernel_gradients.py --times 30

All are compared with XLA's own before they are timed, in turns, on one core, with the options of a
worker.

Letters: B batch, H W C image, C' output channels, m pixels of a row at once.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from unittest import mock

from trainers.environment import tune_xla

tune_xla()

import jax  # noqa: E402 - the option is read when JAX is imported
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax import lax  # noqa: E402

from trainers import kernel_gradient as project  # noqa: E402

LAYOUT = ("NHWC", "HWIO", "NHWC")
SHAPES = (
    (16, 3, 16, 1),
    (16, 16, 16, 1),
    (16, 16, 32, 2),
    (8, 32, 32, 1),
    (8, 32, 64, 2),
    (4, 64, 64, 1),
    (32, 3, 16, 1),
    (32, 16, 16, 1),
    (32, 16, 32, 2),
    (16, 32, 32, 1),
    (16, 32, 64, 2),
    (8, 64, 64, 1),
)
"""H = W, C, C' and stride: the convolutions of a ResNet at 16 px, then at 32."""

Way = Callable[[jax.Array, jax.Array, int], jax.Array]
"""The gradient [3, 3, C, C'] from the image [B, H, W, C], the cotangent and the stride."""


def by_xla(x: jax.Array, cotangent: jax.Array, stride: int) -> jax.Array:
    """What autodiff asks of XLA."""
    return _wide(x, cotangent, (stride, stride), 1)


def a_few_images_at_a_time(x: jax.Array, cotangent: jax.Array, stride: int) -> jax.Array:
    """What is done here where it pays."""
    return project.kernel_gradient(x, cotangent, stride=stride)


def all_images_at_once(x: jax.Array, cotangent: jax.Array, stride: int) -> jax.Array:
    """The same in one matrix product, of copies that no cache holds."""
    with mock.patch.object(project, "_PIXELS", sys.maxsize):
        return project.kernel_gradient(x, cotangent, stride=stride)


def in_each_others_place(x: jax.Array, cotangent: jax.Array, stride: int) -> jax.Array:
    """Image and cotangent exchanged; the kernel comes out turned round."""
    return by_xla(cotangent, x, stride)[::-1, ::-1].swapaxes(2, 3)


def two_pixels_at_once(x: jax.Array, cotangent: jax.Array, stride: int) -> jax.Array:
    """Two pixels' channels one after the other, so that the kernel is wide."""
    return _wide(x, cotangent, (stride, 2 * stride), 2)


WAYS: tuple[Way, ...] = (by_xla, a_few_images_at_a_time, all_images_at_once)
WITHOUT_STRIDE: tuple[Way, ...] = (in_each_others_place, two_pixels_at_once)


def main() -> None:
    """Prints milliseconds, times over XLA's and GFLOP/s, the best of so many runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    for side, inputs, outputs, stride in SHAPES:
        smaller = side // stride
        shapes = (asked.batch, side, side, inputs), (asked.batch, smaller, smaller, outputs)
        x, cotangent = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)
        ways = WAYS if stride == 2 else WAYS + WITHOUT_STRIDE
        compiled = {way.__name__: jax.jit(way, static_argnums=2) for way in ways}
        expected = np.asarray(compiled["by_xla"](x, cotangent, stride))
        for way in compiled.values():
            np.testing.assert_allclose(
                way(x, cotangent, stride), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
            )
        seconds = dict.fromkeys(compiled, float("inf"))
        for _ in range(asked.times):
            for name, way in compiled.items():
                begin = time.perf_counter()
                way(x, cotangent, stride).block_until_ready()
                seconds[name] = min(seconds[name], time.perf_counter() - begin)
        operations = 2 * 9 * np.prod(shapes[1]) * inputs
        taken = project.pays(asked.batch, smaller, smaller, inputs, outputs)
        print(
            f"{inputs} → {outputs}, {side}×{side}{', stride 2' * (stride == 2)}: the child takes "
            f"{'a_few_images_at_a_time' if taken else 'by_xla'}"
        )
        for name, best in seconds.items():
            print(
                f"  {name:24}{1e3 * best:8.2f} ms{best / seconds['by_xla']:6.2f} ×"
                f"{operations / best / 1e9:8.0f} GFLOP/s"
            )


def _wide(x: jax.Array, cotangent: jax.Array, strides: tuple[int, int], m: int) -> jax.Array:
    batch, height, width, outputs = cotangent.shape
    kernel = jnp.zeros((3, m + 2, x.shape[-1], m * outputs), x.dtype)

    def convolved(kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x, kernel, strides, ((1, 1), (1, 1)), dimension_numbers=LAYOUT
        )

    _, pull_back = jax.vjp(convolved, kernel)
    (found,) = pull_back(cotangent.reshape(batch, height, width // m, m * outputs))
    found = found.reshape(3, m + 2, -1, m, outputs)
    return jnp.stack([found[:, k : k + 3, :, k] for k in range(m)]).sum(axis=0)


if __name__ == "__main__":
    main()
