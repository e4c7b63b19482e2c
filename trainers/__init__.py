"""Scores one candidate: data sets, child networks, training, results. No Ray, no search.

Names that need NumPy or JAX are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import TrainConfig as TrainConfig
from .result import Result as Result

if TYPE_CHECKING:
    from .dataset import DATASETS as DATASETS
    from .dataset import DataError as DataError
    from .dataset import Dataset as Dataset
    from .dataset import Split as Split
    from .dataset import load_dataset as load_dataset
    from .trainer import Trainer as Trainer

_LAZY = {
    "DATASETS": "dataset",
    "DataError": "dataset",
    "Dataset": "dataset",
    "Split": "dataset",
    "load_dataset": "dataset",
    "Trainer": "trainer",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
