"""The child's convolutions one by one: XLA's, oneDNN's and PyTorch's, on one core.

    uv run --no-sync python tests/benchmarks/convolutions.py --child resnet20 --image-size 32

XLA's are arranged as this project does where there is no oneDNN; PyTorch's are left out where it is
not installed. For each shape that occurs in the child: the forward pass, the gradient of the input
and the gradient of the kernel, in GFLOP/s, the best of `--times` runs after one to warm up, in turns
in one process with the memory settings of a worker. Products with the zeros around an image are not
counted. The last line has the milliseconds of all convolutions of a step, without the gradient of
the images, which no step needs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest import mock

from launch.worker import environment
from trainers.config import TrainConfig
from trainers.environment import tune_xla
from trainers.floor import Layer, layers

WAYS = ("forward", "input's gradient", "kernel's gradient")
IMAGE_CHANNELS = 3


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--child", default="resnet20")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--times", type=int, default=15)
    asked = parser.parse_args()
    _as_a_worker()
    tune_xla()
    config = TrainConfig(child=asked.child, width=asked.width)
    found = Counter(
        (each.side, each.inputs, each.outputs, each.stride)
        for each in layers(config, image_size=asked.image_size, channels=IMAGE_CHANNELS)
    )
    libraries = {"XLA": _xla, "oneDNN": _onednn}
    if importlib.util.find_spec("torch"):
        libraries["torch"] = _torch
    names = " / ".join(libraries)
    print("| convolution | in the child | " + " | ".join(f"{way}, {names}" for way in WAYS) + " |")
    print("|---" * (2 + len(WAYS)) + "|")
    whole = [0.0] * len(libraries)
    for (side, inputs, outputs, stride), count in found.items():
        layer = Layer(side, inputs, outputs, stride)
        flops = 2 * asked.batch_size * layer.products
        runs = [make(layer, asked.batch_size) for make in libraries.values()]
        cells = []
        for way in WAYS:
            seconds = _best([each[way] for each in runs], asked.times)
            cells.append(" / ".join(f"{flops / each / 1e9:.0f}" for each in seconds))
            if inputs > IMAGE_CHANNELS or way != "input's gradient":
                whole = [sum_ + count * each for sum_, each in zip(whole, seconds, strict=True)]
        shape = f"{inputs} → {outputs}, {side}×{side}" + (", stride 2" if stride == 2 else "")
        print(f"| {shape} | {count} × | " + " | ".join(cells) + " |", flush=True)
    print(f"all, ms: {' / '.join(f'{1e3 * each:.1f}' for each in whole)} ({names})")


def _as_a_worker() -> None:
    """Starts this program again with a worker's environment and on one core."""
    wanted = {**environment("cpu", 0.0), "OMP_NUM_THREADS": "1"}
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        return
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


def _xla(layer: Layer, batch: int) -> dict[str, Callable[[], Any]]:
    with mock.patch("trainers.onednn.computes", return_value=False):
        return _ours(layer, batch)


def _onednn(layer: Layer, batch: int) -> dict[str, Callable[[], Any]]:
    from trainers.onednn import computes

    if not computes("float32"):
        sys.exit("oneDNN does not compute here: it takes its package, libgomp and AVX-512")
    return _ours(layer, batch)


def _ours(layer: Layer, batch: int) -> dict[str, Callable[[], Any]]:
    """Compiled at once, while it is decided who computes."""
    import jax
    import jax.numpy as jnp

    from trainers.convolution import conv3x3

    x = jnp.full((batch, layer.side, layer.side, layer.inputs), 0.5)
    kernel = jnp.full((3, 3, layer.inputs, layer.outputs), 0.01)

    def forward(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv3x3(x, kernel, stride=layer.stride)

    def of_input(x: jax.Array, kernel: jax.Array, back: jax.Array) -> jax.Array:
        return jax.vjp(lambda x: forward(x, kernel), x)[1](back)[0]

    def of_kernel(x: jax.Array, kernel: jax.Array, back: jax.Array) -> jax.Array:
        return jax.vjp(lambda kernel: forward(x, kernel), kernel)[1](back)[0]

    back = forward(x, kernel)
    arguments = [(x, kernel), (x, kernel, back), (x, kernel, back)]
    programs = [
        jax.jit(function).lower(*given).compile()
        for function, given in zip((forward, of_input, of_kernel), arguments, strict=True)
    ]
    return {
        way: lambda program=program, given=given: program(*given).block_until_ready()
        for way, program, given in zip(WAYS, programs, arguments, strict=True)
    }


def _torch(layer: Layer, batch: int) -> dict[str, Callable[[], Any]]:
    import torch

    torch.set_num_threads(1)
    last = torch.channels_last
    x = torch.full((batch, layer.inputs, layer.side, layer.side), 0.5).to(memory_format=last)
    kernel = torch.full((layer.outputs, layer.inputs, 3, 3), 0.01).to(memory_format=last)
    back = torch.conv2d(x, kernel, stride=layer.stride, padding=1)

    def gradient(of_input: bool) -> Any:
        pair = [layer.stride] * 2, [1, 1], [1, 1], False, [0, 0], 1
        wanted = [of_input, not of_input, False]
        return torch.ops.aten.convolution_backward(back, x, kernel, None, *pair, wanted)

    return {
        WAYS[0]: lambda: torch.conv2d(x, kernel, stride=layer.stride, padding=1),
        WAYS[1]: lambda: gradient(True),
        WAYS[2]: lambda: gradient(False),
    }


def _best(runs: list[Callable[[], Any]], times: int) -> list[float]:
    """Seconds of the quickest of so many, in turns."""
    taken: list[list[float]] = [[] for _ in runs]
    for turn in range(times + 1):
        for own, run in zip(taken, runs, strict=True):
            begin = time.perf_counter()
            run()
            if turn:
                own.append(time.perf_counter() - begin)
    return [min(own) for own in taken]


if __name__ == "__main__":
    main()
