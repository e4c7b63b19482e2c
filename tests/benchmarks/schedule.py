"""Which learning rate and warm-up judge fairly: the baselines trained at each, and nothing else.

    uv run python tests/benchmarks/schedule.py --data-dir DIR --processes 2

No candidate of a search is looked at, so that the judge is not fitted to what it will judge. Every
baseline of the paper trains from scratch at every rate, warm-up and number of steps, with the same
seeds. A rate is good where known functions reach their best accuracy; among rates that are as good
within the noise the lowest is the fairest, because a candidate that is steeper than the baselines
acts like one of them at a higher rate.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import os
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from launch.presets import PRESETS
from spaces.catalogue import CATALOGUE
from trainers.config import TrainConfig
from trainers.environment import ALLOCATOR, tune_xla

BASELINES = tuple(known for known in CATALOGUE if known.group == "baseline")


def main() -> None:
    """Prints one line for each rate and warm-up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="cifar10")
    parser.add_argument("--data-dir")
    parser.add_argument("--rates", type=_floats, default=(0.0125, 0.025, 0.05, 0.1))
    parser.add_argument("--warmups", type=_floats, default=(0.05, 0.2))
    parser.add_argument("--steps", type=_whole, default=(60, 300))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=1, help="one core each")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    asked = parser.parse_args()
    os.environ.update(ALLOCATOR, JAX_PLATFORMS="cpu")
    tune_xla()
    jobs = [
        (asked.preset, asked.data_dir, rate, warmup, asked.steps, asked.seeds)
        for rate, warmup in itertools.product(asked.rates, asked.warmups)
    ]
    fresh = multiprocessing.get_context("spawn")
    cores = fresh.Queue()
    for core in sorted(os.sched_getaffinity(0))[: asked.processes]:
        cores.put(core)
    with ProcessPoolExecutor(asked.processes, fresh, _pin, (cores,)) as pool:
        rows = list(itertools.chain.from_iterable(pool.map(_train, *zip(*jobs, strict=True))))
    if asked.json:
        print(json.dumps(rows))
    else:
        _print(rows)


def _floats(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _whole(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _pin(cores: Any) -> None:
    os.sched_setaffinity(0, {cores.get()})


def _train(
    preset: str, folder: str | None, rate: float, warmup: float, steps: Sequence[int], seeds: int
) -> list[dict[str, Any]]:
    from spaces import OperatorTable
    from spaces.paper import PAPER
    from trainers import Trainer
    from trainers.dataset import load_dataset

    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    chosen = {name: value for name, value in PRESETS[preset].items() if name in fields}
    config = TrainConfig(**{**chosen, "lr": rate, "warmup": warmup})
    data = load_dataset(
        config.dataset,
        data_dir=None if folder is None else Path(folder),
        image_size=config.image_size,
        valid_size=config.valid_size,
        seed=0,
    )
    candidates = [known.candidate for known in BASELINES]
    table = OperatorTable.for_run(PAPER, core_units=1, extra=candidates)
    trainer = Trainer(config, data, table)
    return [
        {
            "lr": rate,
            "warmup": warmup,
            "steps": number,
            "baseline": known.title,
            "seed": seed,
            "accuracy": result.accuracy,
            "status": result.status,
        }
        for number in steps
        for known, candidate in zip(BASELINES, candidates, strict=True)
        for seed in range(seeds)
        for result in [trainer.run(candidate, seed=seed, steps=number)]
    ]


def _print(rows: list[dict[str, Any]]) -> None:
    titles = [known.title for known in BASELINES]
    print("| steps | lr | warm-up | mean | diverged | " + " | ".join(titles) + " |")
    print("|---" * (5 + len(titles)) + "|")
    for key, group in itertools.groupby(
        sorted(rows, key=lambda row: (row["steps"], row["lr"], row["warmup"])),
        key=lambda row: (row["steps"], row["lr"], row["warmup"]),
    ):
        found = list(group)
        means = [
            statistics.mean(row["accuracy"] or 0.1 for row in found if row["baseline"] == title)
            for title in titles
        ]
        diverged = sum(row["status"] != "ok" for row in found)
        cells = " | ".join(f"{mean:.2%}" for mean in means)
        steps, rate, warmup = key
        print(
            f"| {steps} | {rate:g} | {warmup:.0%} | {statistics.mean(means):.2%} "
            f"| {diverged} of {len(found)} | {cells} |"
        )


if __name__ == "__main__":
    main()
