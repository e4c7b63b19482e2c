"""The long form of fuzzing: as many inputs as one likes, and what they cost.

    uv run python tests/fuzz/long.py --inputs 1000000

tries a million inputs, a third for each target, and prints for each how many were tried, how long
that took, and by how much a single input raised the most memory that the process ever had. It ends
with 1 at the first input that breaks a promise, which it prints as small as it can be made. The
seed decides the inputs; `--target` (may be repeated) and `--processes` say what and how many at
once. What is promised stands in `targets.py` beside this file.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from targets import Target, peak_mb, targets

BATCH = 2_000
"""Inputs of one seed: hypothesis keeps all that it has tried, so that it is begun anew."""

MAKER = Path(__file__).parent.parent / "launch" / "made_run.py"
NAMES = ("expressions", "configurations", "journals")


def made_run(folder: Path) -> Path:
    """A small finished run, made without training."""
    spec = importlib.util.spec_from_file_location("made_run", MAKER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.made_run(folder, trials=8, baselines="relu,swish").folder


def tried(target: Target, inputs: int, first_seed: int) -> tuple[int, float, float]:
    """Tries inputs; returns how many, the seconds, and the most MB that one of them took."""
    count, most, begin = 0, 0.0, time.monotonic()

    def check(given_input: Any) -> None:
        nonlocal count, most
        before = peak_mb()
        target.check(given_input)
        count += 1
        most = max(most, peak_mb() - before)

    number = first_seed
    while count < inputs:
        examples = min(BATCH, inputs - count)
        quiet = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.data_too_large,
                HealthCheck.filter_too_much,
            ],
            verbosity=Verbosity.normal,
        )
        seed(number)(quiet(given(target.inputs)(check)))()
        number += 1
    return count, time.monotonic() - begin, most


def _work(job: tuple[str, Path, int, int]) -> tuple[str, int, float, float]:
    name, sound, inputs, first_seed = job
    with tempfile.TemporaryDirectory() as folder:
        return name, *tried(targets(sound, Path(folder))[name], inputs, first_seed)


def main() -> None:
    """Reads the command line and fuzzes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000, help="inputs in all [1000000]")
    parser.add_argument("--target", action="append", choices=NAMES, help="what to fuzz [all]")
    parser.add_argument("--processes", type=int, default=1, help="how many at once [1]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first inputs [0]")
    asked = parser.parse_args()
    names = asked.target or list(NAMES)
    with tempfile.TemporaryDirectory() as folder:
        sound = made_run(Path(folder) / "sound")
        share = -(-asked.inputs // (len(names) * asked.processes))
        jobs = [
            (name, sound, share, asked.seed + 1_000_000 * place)
            for place in range(asked.processes)
            for name in names
        ]
        context = multiprocessing.get_context("spawn")
        with context.Pool(asked.processes) as pool:
            for name, count, seconds, most in pool.imap_unordered(_work, jobs, chunksize=1):
                rate = count / max(seconds, 1e-9)
                print(
                    f"{name:15} {count:>9,} inputs  {seconds:8.1f} s  {rate:7.0f} a second  "
                    f"{most:6.1f} MB at most by one input",
                    flush=True,
                )


if __name__ == "__main__":
    main()
