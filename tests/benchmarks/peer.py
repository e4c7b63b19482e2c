"""What a peer is: something that trains the same child with a candidate, and is timed doing it.

A peer lives in a process of its own and knows one or more forms. It is handed everything as plain
data, because its process starts before anything heavy is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainers.config import TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all peers of a benchmark are told."""

    train: TrainConfig
    """Child, data and training; the precision is that of a form's name."""
    core_units: int
    """Core units of the space that traced programs are made for."""
    expressions: tuple[str, ...]
    """Every candidate that will be asked for, as text."""
    data_dir: Path | None
    """Folder with the data set."""
    device: str
    """`cpu` or `cuda`."""
    threads: int
    """Cores that a process may use."""
    seed: int = 0
    """Of weights, batches and augmentation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One candidate trained and evaluated, and where the time went, in seconds."""

    status: str
    """`ok`, or why there is no reward."""
    accuracy: float | None
    """Share of right answers on the validation split."""
    loss: float | None
    """Mean cross-entropy on the validation split."""
    compile_s: float
    """Tracing and compiling; where that cannot be told apart, the first step."""
    train_s: float
    """Training steps, batches included."""
    evaluate_s: float
    """The validation split."""
    total_s: float
    """All of it: what a search waits for."""
    cpu_s: float = 0.0
    """Processor time of the process and of the compilers that it called. Less than `total_s` on one
    core means that the core had other work to do."""


class Peer(Protocol):
    """One way to train children."""

    def score(self, form: str, expression: str, steps: int) -> Score:
        """Builds, compiles, trains and evaluates a child: everything that a new candidate costs."""
        ...

    def open(self, form: str, expression: str) -> None:
        """Makes a child ready to be trained further; nothing of this is timed."""
        ...

    def advance(self, form: str, steps: int) -> float:
        """Trains the form's open child for some steps and returns the seconds of one."""
        ...

    def close(self) -> None:
        """Forgets every open child."""
        ...


def precision_of(form: str) -> str:
    """Arithmetic of the convolutions in a form."""
    return "bfloat16" if form.endswith("-bf16") else "float32"
