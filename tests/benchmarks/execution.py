"""Step and compile times of the traced and the specialised form, alternating on one machine.

    uv run python tests/benchmarks/execution.py --core-units 1 --child resnet8 --image-size 16 \
        --batch-size 64 --steps 60 --candidates 8 [--data-dir DIR]

Random valid candidates of exactly that many core units train the child on CIFAR-10 in both forms,
one after the other. Pin the process to the cores you mean with taskset. The last line is the median
over candidates; `saved_ns_per_element` is what `launch.execution` calls by that name.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

from launch.execution import activation_elements
from launch.worker import ENVIRONMENT


def main() -> None:
    """Prints one JSON object per candidate, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core-units", type=int, default=1)
    parser.add_argument("--child", default="resnet8")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data-dir", type=Path)
    run(parser.parse_args())


def run(asked: argparse.Namespace) -> None:
    """Trains every candidate in both forms."""
    from trainers.config import TrainConfig
    from trainers.dataset import load_dataset
    from trainers.trainer import Trainer

    data = load_dataset(
        "cifar10", data_dir=asked.data_dir, image_size=asked.image_size, valid_size=None, seed=0
    )
    config = TrainConfig(
        dataset="cifar10",
        image_size=asked.image_size,
        child=asked.child,
        width=asked.width,
        batch_size=asked.batch_size,
        steps=asked.steps,
        lr=1e-4,  # so small that hardly anything diverges and stops early
    )
    candidates, table = draw(asked)
    trainer = Trainer(config, data, table)
    rows = []
    for candidate in candidates:
        row: dict[str, object] = {"candidate": str(candidate)}
        for form in ("specialised", "traced"):
            result = trainer.run(candidate, seed=0, execution=form)
            row[f"{form}_ms"] = 1e3 * result.seconds.train / result.steps
            row[f"{form}_compile_s"] = result.seconds.compile
        rows.append(row)
        print(json.dumps(row), flush=True)
    elements = activation_elements(config, asked.image_size) * asked.batch_size

    def median(value) -> float:
        return round(statistics.median(value(row) for row in rows), 3)

    print(
        json.dumps(
            {
                "specialised_ms": median(lambda row: row["specialised_ms"]),
                "traced_ms": median(lambda row: row["traced_ms"]),
                "traced_over_specialised": median(
                    lambda row: row["traced_ms"] / row["specialised_ms"]
                ),
                "saved_ns_per_element": median(
                    lambda row: 1e6 * (row["traced_ms"] - row["specialised_ms"]) / elements
                ),
                "specialised_compile_s": median(lambda row: row["specialised_compile_s"]),
                "traced_compile_s": round(max(row["traced_compile_s"] for row in rows), 3),
            }
        )
    )


def draw(asked: argparse.Namespace):
    """Random valid candidates of exactly `core_units` units, and their operator table."""
    import numpy as np

    from spaces import PAPER, OperatorTable, Prober, SearchSpace, canonical, run_preflight

    space = SearchSpace(PAPER, asked.core_units)
    table = OperatorTable.for_run(PAPER, core_units=asked.core_units)
    prober, rng, found = Prober(table, batch=1), np.random.default_rng(asked.seed), []
    while len(found) < asked.candidates:
        candidate = canonical(space.candidate(space.sample(rng)), PAPER)
        if len(candidate.units) < asked.core_units:
            continue
        if run_preflight(prober.probe([candidate])[0])[0] == "ok":
            found.append(candidate)
    return found, table


if __name__ == "__main__":
    if not set(ENVIRONMENT) <= set(os.environ):  # the allocator reads its settings at the start
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
    main()
