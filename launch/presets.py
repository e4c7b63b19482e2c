"""Named starting points: values by flag name. An explicit flag or `--config` beats a preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {
        "dataset": "digits",
        "child": "resnet8",
        "width": 8,
        "steps": 200,
        "batch_size": 64,
        "core_units": 1,
        "strategy": "controller",
        "trials": 60,
    },
    "cifar10": {
        "dataset": "cifar10",
        "image_size": 16,
        "child": "resnet8",
        "width": 16,
        "steps": 300,
        "batch_size": 64,
        "core_units": 2,
        "strategy": "controller",
        "trials": 200,
    },
    "paper": {
        "dataset": "cifar10",
        "child": "resnet20",
        "width": 16,
        "steps": 10_000,
        "batch_size": 128,
        "lr": 0.1,
        "core_units": 2,
        "strategy": "controller",
        "controller_hidden": 100,
        "controller_learning_rate": 3.5e-4,
        "controller_entropy_weight": 1e-5,
        "trials": 10_000,
    },
}
"""`quick`: minutes on two cores, on digits that come with the package. `cifar10`: an hour or two on
two cores. `paper`: the paper's child and budget per candidate; its number of candidates and the
controller's hyperparameters are not published, those here are NASNet's."""

DEFAULT = "quick"
