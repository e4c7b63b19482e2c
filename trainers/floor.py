"""The physical floor of a training step: arithmetic and memory traffic that no program can avoid.

Both are counted from shapes alone, then divided by what this machine was measured to do: the rate
of a large matrix product, and that of passing over an array as large as the maps that a step keeps.
The floor is the longer of the two times; a step can reach it only if arithmetic and traffic overlap
perfectly.

What is counted:

- Arithmetic: convolutions and the dense layer, forward and both gradients, 2 operations for each
  product that is added. Products with the zeros around an image are not counted, nor is the
  gradient of the images, which nobody needs. Element-wise work is left to the traffic.
- Traffic: what remains if everything is fused that can be. Nothing can be normalised before the
  statistics of the whole batch are known, forward and back, so a convolution with its
  normalisation and activation makes at least these passes: read the input, write the output; read
  it, write the activation; read the activation's cotangent and the output, write the output's
  cotangent; read that and the input, write the input's cotangent. A shortcut is read forward and
  back. Each weight is read twice and its gradient written; the update reads weight, gradient and
  momentum and writes two of them.

Letters: B batch, H W C image, V classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .config import TrainConfig, resnet_blocks

_SMALLEST_COPY = 2**20
_LARGEST_COPY = 2**28
"""Bytes of the array that is copied: from what a core's own cache holds to what no cache does."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One 3 x 3 convolution with BatchNorm and activation, for one image."""

    side: int
    """Pixels a side of what goes in."""
    inputs: int
    """Channels in."""
    outputs: int
    """Channels out."""
    stride: int
    """1 or 2."""
    shortcut: int = 0
    """Elements of a block's input that are added before the activation."""
    first: bool = False
    """Whether it reads the images."""

    @property
    def side_out(self) -> int:
        """Pixels a side of what comes out."""
        return -(-self.side // self.stride)

    @property
    def elements_in(self) -> int:
        """Elements of the map that it reads."""
        return self.side**2 * self.inputs

    @property
    def elements_out(self) -> int:
        """Elements of the map that it makes."""
        return self.side_out**2 * self.outputs

    @property
    def products(self) -> int:
        """Products of one convolution, those with padding left out."""
        taps = sum(
            0 <= self.stride * place + tap < self.side
            for place in range(self.side_out)
            for tap in (-1, 0, 1)
        )
        return taps**2 * self.inputs * self.outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one training step has to do at least."""

    flops: int
    """Operations of convolutions and of the dense layer."""
    bytes: int
    """Bytes that are read or written."""
    kept_bytes: int
    """Bytes of the maps that must be kept from the way forward for the way back."""
    activation_elements: int
    """Elements that pass through activations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What this machine does, measured."""

    flops_per_s: float
    """Operations a second of a large matrix product in the convolutions' arithmetic."""
    bytes_per_s: float
    """Bytes a second that a copy reads and writes."""


def layers(config: TrainConfig, *, image_size: int, channels: int) -> Iterator[Layer]:
    """The child's convolutions in order.

    Args:
        config: The child.
        image_size: H = W.
        channels: C.
    """
    side, inputs = image_size, config.width
    yield Layer(side, channels, inputs, 1, first=True)
    for stage in range(3):
        outputs = config.width * 2**stage
        for block in range(resnet_blocks(config.child)):
            stride = 2 if stage and not block else 1
            first = Layer(side, inputs, outputs, stride)
            yield first
            side = first.side_out
            yield Layer(side, outputs, outputs, 1, shortcut=side**2 * inputs)
            inputs = outputs


def training_work(config: TrainConfig, *, image_size: int, channels: int, num_classes: int) -> Work:
    """Counts one training step.

    Args:
        config: Child, batch size and precision.
        image_size: H = W.
        channels: C.
        num_classes: V.
    """
    found = list(layers(config, image_size=image_size, channels=channels))
    features = found[-1].outputs
    # Forward and two gradients, of which the images need but that of the kernel.
    products = sum(each.products * (2 if each.first else 3) for each in found)
    products += 3 * features * num_classes
    width = 2 if config.precision == "bfloat16" else 4
    moved = sum(
        (2 if each.first else 3) * each.elements_in + 7 * each.elements_out + 2 * each.shortcut
        for each in found
    )
    weights = sum(9 * each.inputs * each.outputs + 2 * each.outputs for each in found)
    weights += (features + 1) * num_classes
    kept = sum(each.elements_in + each.elements_out for each in found)
    return Work(
        flops=2 * config.batch_size * products,
        bytes=width * config.batch_size * moved + 4 * 8 * weights,
        kept_bytes=width * config.batch_size * kept,
        activation_elements=config.batch_size * sum(each.elements_out for each in found),
    )


def measure_rates(precision: str, *, kept_bytes: int) -> Rates:
    """Measures what JAX's default device does.

    Args:
        precision: `float32` or `bfloat16`, arithmetic of the matrix product.
        kept_bytes: Size of what is copied, within limits: a child whose maps fit into a cache is
            held against the rate of that cache.
    """
    import jax
    import jax.numpy as jnp

    product = jax.jit(jnp.matmul)

    def seconds_of_product(size: int) -> float:
        matrix = jnp.ones((size, size), precision)
        return _best(lambda: product(matrix, matrix))

    size = 1024
    taken = seconds_of_product(size)
    while taken < 2e-3 and size < 2**14:  # an accelerator needs more to be busy at all
        size *= 2
        taken = seconds_of_product(size)
    elements = min(max(kept_bytes, _SMALLEST_COPY), _LARGEST_COPY) // 4
    times = max(4, 2**26 // elements)  # in one program, so that starting it counts for nothing

    def add_one(array: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, times, lambda _, each: each + 1.0, array)

    # In place: fresh memory would be timed with the system's handing it out.
    in_place = jax.jit(add_one, donate_argnums=0)
    held = [jnp.zeros(elements, jnp.float32)]

    def again() -> jax.Array:
        held.append(in_place(held.pop()))
        return held[0]

    return Rates(flops_per_s=2 * size**3 / taken, bytes_per_s=8 * elements * times / _best(again))


def floor(work: Work, rates: Rates) -> dict[str, float]:
    """The floor and its two parts.

    Returns:
        `floor_ms`, the larger of `compute_ms` and `memory_ms`, and what they were made of.
    """
    compute, memory = work.flops / rates.flops_per_s, work.bytes / rates.bytes_per_s
    return {
        "floor_ms": 1e3 * max(compute, memory),
        "compute_ms": 1e3 * compute,
        "memory_ms": 1e3 * memory,
        "flops": work.flops,
        "bytes": work.bytes,
        "flops_per_s": rates.flops_per_s,
        "bytes_per_s": rates.bytes_per_s,
    }


def _best(run: Callable[[], Any], *, times: int = 5) -> float:
    """Seconds of the quickest of some runs, after one that compiles."""
    run().block_until_ready()
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        run().block_until_ready()
        taken.append(time.perf_counter() - begin)
    return min(taken)
