"""Operators on a layer's floats, as the traced form has them: value and slope, on one core.

    python tests/benchmarks/elementwise.py --times 60

Prints microseconds, the best of so many runs, for 64 images of 16 x 16 pixels with 16 channels and for
as many floats in 32 channels; without and with what `trainers.environment.tune_xla` asks of XLA, in two
processes that take turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from trainers.environment import ALLOCATOR, tune_xla

SHAPES = ((64, 16, 16, 16), (64, 16, 8, 32))
WAYS = ("plain", "tuned")


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=60)
    parser.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        _serve(tuned=asked.serve == "tuned")
        return
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    environment = {**os.environ, **ALLOCATOR, "JAX_PLATFORMS": "cpu"}
    served = {
        way: subprocess.Popen(
            [sys.executable, __file__, "--serve", way],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for way in WAYS
    }
    best: dict[str, list[float]] = {}
    for _ in range(asked.times):
        for place, process in enumerate(served.values()):
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("again\n")
            process.stdin.flush()
            for entry in process.stdout.readline().split():
                name, *times = entry.split(",")
                found = best.setdefault(name, [float("inf")] * 4)
                for shape, each in enumerate(times):
                    found[2 * shape + place] = min(found[2 * shape + place], float(each))
    for process in served.values():
        process.communicate()
    columns = [f"{shape[-1]} ch., {way}" for shape in SHAPES for way in WAYS]
    print(" " * 10 + "".join(f"{column:>15}" for column in columns))
    for name, times in best.items():
        print(f"{name:10}" + "".join(f"{each:15.0f}" for each in times))


def _serve(*, tuned: bool) -> None:
    """Times every operator once for each line that comes in."""
    if tuned:
        tune_xla()
    import jax
    import jax.numpy as jnp
    import numpy as np

    from spaces import PAPER
    from spaces.activation import _with_slope

    rng = np.random.default_rng(0)
    calls: dict[str, list[Callable[[], Any]]] = {}
    for operator in (*PAPER.unary, *PAPER.binary):
        for shape in SHAPES:
            inputs = tuple(
                jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(operator.arity)
            )
            vectors = jnp.ones((len(operator.params), shape[-1]))
            program = jax.jit(_with_slope(operator))
            slopes = (None,) if operator.arity == 1 else inputs
            program(vectors, inputs, slopes)
            calls.setdefault(operator.name, []).append(
                lambda p=program, a=(vectors, inputs, slopes): jax.block_until_ready(p(*a))
            )
    for _ in sys.stdin:
        entries = []
        for name, each in calls.items():
            times = []
            for call in each:
                begin = time.perf_counter()
                call()
                times.append(f"{1e6 * (time.perf_counter() - begin):.0f}")
            entries.append(",".join([name, *times]))
        print(" ".join(entries), flush=True)


if __name__ == "__main__":
    main()
