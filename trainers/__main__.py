"""Scores one candidate and prints a JSON document: `python -m trainers "gate(scale(x), x)"`.

For a look at one function, and for machines that have only JAX, Flax, optax and NumPy.

On Linux, glibc gives large arrays back to the system after each step and asks for them again in
the next; with `MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483648
MALLOC_TOP_PAD_=268435456` in the environment a step on the CPU takes about two thirds of the time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_type_hints

from .config import PRECISIONS, SCHEDULES, TrainConfig

_ALLOWED = {"schedule": SCHEDULES, "precision": PRECISIONS}


def parser() -> argparse.ArgumentParser:
    """Every field of `TrainConfig` is a flag; its default is the configuration's."""
    result = argparse.ArgumentParser(
        prog="python -m trainers",
        description="Train a child network with an activation function; print the result as JSON.",
    )
    result.add_argument(
        "candidate", help="calls over the paper's operators, for example 'gate(scale(x), x)'"
    )
    hints = get_type_hints(TrainConfig)
    for field in dataclasses.fields(TrainConfig):
        flag, hint = "--" + field.name.replace("_", "-"), hints[field.name]
        shown = f"default: {field.default}"
        if hint is bool:
            result.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=field.default, help=shown
            )
            continue
        kinds = [
            kind for kind in (int, float, str) if kind in (hint, *getattr(hint, "__args__", ()))
        ]
        result.add_argument(
            flag,
            type=kinds[0],
            choices=_ALLOWED.get(field.name),
            default=field.default,
            help=shown,
        )
    result.add_argument("--data-dir", type=Path, help="folder with the data set's official files")
    result.add_argument(
        "--seed", type=int, default=0, help="weights, batches, augmentation and split; default: 0"
    )
    result.add_argument(
        "--execution",
        choices=("traced", "specialised"),
        default="specialised",
        help="default: specialised",
    )
    result.add_argument(
        "--driver", choices=("loop", "scan"), help="default: loop on a CPU, scan elsewhere"
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if the candidate was scored, 1 if that failed, 2 if the request was wrong."""
    asked = parser().parse_args(arguments)
    try:
        config = TrainConfig(
            **{field.name: getattr(asked, field.name) for field in dataclasses.fields(TrainConfig)}
        )
        from spaces import PAPER, OperatorTable, parse

        from .dataset import load_dataset

        candidate = parse(asked.candidate, PAPER)
        data = load_dataset(
            config.dataset,
            data_dir=asked.data_dir,
            image_size=config.image_size,
            valid_size=config.valid_size,
            seed=asked.seed,
        )
        table = OperatorTable.for_run(
            PAPER,
            core_units=len(candidate.units),
            extra=[candidate],
            beta_init=config.beta_init,
        )
        from .trainer import Trainer

        trainer = Trainer(config, data, table, driver=asked.driver)
        result = trainer.run(candidate, seed=asked.seed, execution=asked.execution)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    document = {
        "candidate": str(candidate),
        "seed": asked.seed,
        "execution": asked.execution,
        "driver": trainer.driver,
        "config": dataclasses.asdict(config),
        "data": {
            "train": len(data.train.labels),
            "valid": len(data.valid.labels),
            "classes": data.num_classes,
            "sha256": data.digest,
        },
        "result": result.to_dict(),
        "peak_memory_mib": _peak_memory_mib(),
    }
    print(json.dumps(document, indent=2, allow_nan=False))
    return 1 if result.status == "failed" else 0


def _peak_memory_mib() -> float | None:
    """The most memory that this process has held on the host, where the system tells."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


if __name__ == "__main__":
    sys.exit(main())
