"""Scores one candidate and prints a JSON document: `python -m trainers "gate(scale(x), x)"`.

`python -m trainers bench` times candidates instead. Both are for machines that have only JAX, Flax,
optax and NumPy.

On Linux, glibc gives large arrays back to the system after each step and asks for them again in
the next; with the settings of `trainers.environment` in the environment a step on the CPU takes
about two thirds of the time. `bench` starts itself again with them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from .command import add_train_flags, train_config
from .environment import tune_xla
from .memory import peak_memory_mib


def parser() -> argparse.ArgumentParser:
    """Every field of `TrainConfig` is a flag; its default is the configuration's."""
    result = argparse.ArgumentParser(
        prog="python -m trainers",
        description="Train a child network with an activation function; print the result as JSON.",
        epilog="`python -m trainers bench --help`: time candidates on this machine.",
    )
    result.add_argument(
        "candidate", help="calls over the paper's operators, for example 'gate(scale(x), x)'"
    )
    add_train_flags(result)
    result.add_argument(
        "--execution",
        choices=("traced", "specialised"),
        default="specialised",
        help="default: specialised",
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if the candidate was scored, 1 if that failed, 2 if the request was wrong."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["bench"]:
        from .bench_command import main as bench

        return bench(arguments[1:])
    asked = parser().parse_args(arguments)
    try:
        config = train_config(asked)
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
        from .compile_cache import default_folder
        from .trainer import Trainer

        trainer = Trainer(config, data, table, driver=asked.driver, cache=default_folder())
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
        "peak_memory_mib": peak_memory_mib(),
    }
    print(json.dumps(document, indent=2, allow_nan=False))
    return 1 if result.status == "failed" else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["bench"]:
        from .bench_command import restart_with_allocator

        restart_with_allocator()
    tune_xla()
    sys.exit(main())
