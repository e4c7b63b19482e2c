"""The gradient of a 3 x 3 kernel, written in other ways, beside what XLA makes of it by itself.

    taskset -c 0 python tests/benchmarks/kernel_gradients.py --times 30

All are compared with XLA's own before they are timed, in turns, on one core.

Letters: B batch, H W C image, C' output channels, m pixels of a row at once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LAYOUT = ("NHWC", "HWIO", "NHWC")
SHAPES = ((4, 64, 64), (8, 32, 32), (16, 16, 16), (16, 3, 16), (32, 16, 16), (16, 32, 32))
"""H = W, C and C'."""

Way = Callable[[jax.Array, jax.Array], jax.Array]
"""The gradient [3, 3, C, C'] from the image [B, H, W, C] and the cotangent [B, H, W, C']."""


def by_xla(x: jax.Array, cotangent: jax.Array) -> jax.Array:
    """What autodiff asks of XLA."""
    return _wide(x, cotangent, 1)


def in_each_others_place(x: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Image and cotangent exchanged; the kernel comes out turned round."""
    return by_xla(cotangent, x)[::-1, ::-1].swapaxes(2, 3)


def two_pixels_at_once(x: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Two pixels' channels one after the other, so that the kernel is wide."""
    return _wide(x, cotangent, 2)


def nine_shifts(x: jax.Array, cotangent: jax.Array) -> jax.Array:
    """One matrix product of the image shifted nine ways."""
    _, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [
        padded[:, row : row + height, column : column + width]
        for row in range(3)
        for column in range(3)
    ]
    columns = jnp.concatenate(shifted, axis=-1).reshape(-1, 9 * channels)
    return (columns.T @ _flat(cotangent)).reshape(3, 3, channels, -1)


def three_and_three_shifts(x: jax.Array, cotangent: jax.Array) -> jax.Array:
    """One matrix product: columns of the image and rows of the cotangent shifted three ways each."""
    _, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    columns = jnp.concatenate([padded[:, :, k : k + width] for k in range(3)], axis=-1)
    padded = jnp.pad(cotangent, ((0, 0), (1, 1), (0, 0), (0, 0)))
    rows = jnp.concatenate([padded[:, 2 - k : 2 - k + height] for k in range(3)], axis=-1)
    found = (_flat(columns).T @ _flat(rows)).reshape(3, channels, 3, -1)
    return found.transpose(2, 0, 1, 3)


WAYS: tuple[Way, ...] = (
    by_xla,
    in_each_others_place,
    two_pixels_at_once,
    three_and_three_shifts,
    nine_shifts,
)


def main() -> None:
    """Prints milliseconds and GFLOP/s, the best of so many runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    for side, inputs, outputs in SHAPES:
        image = (asked.batch, side, side)
        x = jnp.asarray(rng.normal(size=(*image, inputs)), jnp.float32)
        cotangent = jnp.asarray(rng.normal(size=(*image, outputs)), jnp.float32)
        compiled = {way.__name__: jax.jit(way) for way in WAYS}
        expected = np.asarray(compiled["by_xla"](x, cotangent))
        for way in compiled.values():
            np.testing.assert_allclose(
                way(x, cotangent), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max()
            )
        seconds = dict.fromkeys(compiled, float("inf"))
        for _ in range(asked.times):
            for name, way in compiled.items():
                begin = time.perf_counter()
                way(x, cotangent).block_until_ready()
                seconds[name] = min(seconds[name], time.perf_counter() - begin)
        operations = 2 * 9 * np.prod(image) * inputs * outputs
        print(f"{inputs} → {outputs}, {side}×{side}")
        for name, best in seconds.items():
            rate = operations / best / 1e9
            print(f"  {name:24}{1e3 * best:8.2f} ms{rate:8.0f} GFLOP/s")


def _wide(x: jax.Array, cotangent: jax.Array, m: int) -> jax.Array:
    batch, height, width, outputs = cotangent.shape
    kernel = jnp.zeros((3, m + 2, x.shape[-1], m * outputs), x.dtype)

    def convolved(kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x, kernel, (1, m), ((1, 1), (1, 1)), dimension_numbers=LAYOUT
        )

    _, pull_back = jax.vjp(convolved, kernel)
    (found,) = pull_back(cotangent.reshape(batch, height, width // m, m * outputs))
    found = found.reshape(3, m + 2, -1, m, outputs)
    return jnp.stack([found[:, k : k + 3, :, k] for k in range(m)]).sum(axis=0)


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


if __name__ == "__main__":
    main()
