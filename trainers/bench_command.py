"""`python -m trainers bench`: times candidates on this machine, with JAX, Flax, optax and NumPy."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from .bench import BenchRequest, bench
from .bench_report import as_lines
from .command import add_train_flags, train_config
from .environment import ALLOCATOR
from .timing import FORMS, BenchError


def parser() -> argparse.ArgumentParser:
    """The flags of `bench`."""
    result = argparse.ArgumentParser(
        prog="python -m trainers bench",
        description="Time random candidates in both forms on this machine, as one worker would.",
    )
    result.add_argument("--json", action="store_true", help="print one JSON document")
    result.add_argument("--candidates", type=int, default=5, help="how many to time; default: 5")
    result.add_argument(
        "--seconds", type=float, default=60.0, help="about how long to measure; default: 60"
    )
    result.add_argument(
        "--operators", default="paper", help="paper (the default), FILE.py[:NAME] or module:NAME"
    )
    result.add_argument("--core-units", type=int, default=1, help="of a candidate; default: 1")
    result.add_argument(
        "--baselines",
        default="",
        help="known functions, with commas between, that the traced form can dispatch to as well",
    )
    result.add_argument(
        "--execution",
        choices=FORMS,
        help="the form that headlines; default: the one that does more candidates an hour",
    )
    result.add_argument(
        "--cores",
        help="cores to run on, with commas between; default: the first that may be used",
    )
    add_train_flags(result)
    return result


def main(arguments: Sequence[str]) -> int:
    """Returns 0 if it was measured, 1 if that failed, 2 if the request was wrong."""
    asked = parser().parse_args(arguments)
    try:
        cores = _pin(asked.cores)
        from .parallel import use_cores

        use_cores(cores)
        request = BenchRequest(
            train=train_config(asked),
            operators=asked.operators,
            core_units=asked.core_units,
            baselines=tuple(key.strip() for key in asked.baselines.split(",") if key.strip()),
            execution=asked.execution,
            candidates=asked.candidates,
            seconds=asked.seconds,
            seed=asked.seed,
            data_dir=asked.data_dir,
            driver=asked.driver,
        )
        found = bench(request)
    except ValueError as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2
    except (BenchError, RuntimeError) as error:  # JAX's, of a backend that is not there, too
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 1
    if asked.json:
        print(json.dumps(found, allow_nan=False))
    else:
        print("\n".join(as_lines(found)))
    return 0


def restart_with_allocator() -> None:
    """Starts this process again with `ALLOCATOR` in its environment, unless it is there."""
    if sys.platform == "linux" and not ALLOCATOR.keys() <= os.environ.keys():
        environment = {**ALLOCATOR, **os.environ}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _pin(cores: str | None) -> int:
    """Keeps this process on the cores that were asked for; returns how many there are."""
    if not hasattr(os, "sched_setaffinity"):
        return 1
    allowed = sorted(os.sched_getaffinity(0))
    parts = [str(allowed[0])] if cores is None else cores.split(",")
    wanted = {int(part) for part in parts if part.strip().isdecimal()}
    if not wanted or len(wanted) < len(parts) or not wanted <= set(allowed):
        raise ValueError(
            f"`cores` must be different ones of {','.join(map(str, allowed))}, got {cores!r}"
        )
    os.sched_setaffinity(0, wanted)
    return len(wanted)


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
