"""Flags that the commands of `python -m trainers` share: one for each field of `TrainConfig`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import get_type_hints

from .config import PRECISIONS, SCHEDULES, TrainConfig

_ALLOWED = {"schedule": SCHEDULES, "precision": PRECISIONS}


def add_train_flags(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for each field, and those that say where data come from and who drives.

    A flag's default is the configuration's.
    """
    hints = get_type_hints(TrainConfig)
    for field in dataclasses.fields(TrainConfig):
        flag, hint = "--" + field.name.replace("_", "-"), hints[field.name]
        shown = f"default: {field.default}"
        if hint is bool:
            parser.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=field.default, help=shown
            )
            continue
        kinds = [
            kind for kind in (int, float, str) if kind in (hint, *getattr(hint, "__args__", ()))
        ]
        parser.add_argument(
            flag,
            type=kinds[0],
            choices=_ALLOWED.get(field.name),
            default=field.default,
            help=shown,
        )
    parser.add_argument("--data-dir", type=Path, help="folder with the data set's official files")
    parser.add_argument(
        "--seed", type=int, default=0, help="weights, batches, augmentation and split; default: 0"
    )
    parser.add_argument(
        "--driver", choices=("loop", "scan"), help="default: loop on a CPU, scan elsewhere"
    )


def train_config(asked: argparse.Namespace) -> TrainConfig:
    """The configuration that was asked for; raises ValueError as `TrainConfig` does."""
    return TrainConfig(
        **{field.name: getattr(asked, field.name) for field in dataclasses.fields(TrainConfig)}
    )


def train_arguments(config: TrainConfig) -> list[str]:
    """The flags that ask for `config`: what `train_config` reads."""
    found = []
    for field in dataclasses.fields(TrainConfig):
        value, flag = getattr(config, field.name), field.name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            found.append(f"--{flag}={value}")
    return found
