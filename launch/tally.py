"""What one sitting of the driver counted."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .pool import Answer


@dataclass
class Tally:
    """Counts of one sitting; kept in the journal for the summary."""

    workers: int
    execution: str
    reason: str
    began: float = field(default_factory=time.monotonic)
    first_dispatch: float | None = None
    last_answer: float | None = None
    trials: int = 0
    busy_s: float = 0.0
    training_s: float = 0.0
    compile_s: float = 0.0
    compilations: int = 0
    peak_memory_mb: float = 0.0
    devices: list[str] = field(default_factory=list)
    lost_nodes: Counter[int] = field(default_factory=Counter)
    """How many nodes were lost under a trial, by its id."""

    def count(self, answer: Answer) -> None:
        """Adds what a worker reported of its own effort."""
        self.last_answer = time.monotonic()
        self.trials += 1
        if answer.report is None:
            return
        self.busy_s += answer.report.outcome.seconds
        self.training_s += answer.report.training_s
        self.compile_s += answer.report.compile_s
        self.compilations += answer.report.compilations
        self.peak_memory_mb = max(self.peak_memory_mb, answer.report.peak_memory_mb)

    def details(self) -> dict[str, Any]:
        """As the journal keeps it; `wall_s` runs from the first dispatch to the last answer."""
        wall = 0.0
        if self.first_dispatch is not None and self.last_answer is not None:
            wall = self.last_answer - self.first_dispatch
        return {
            "workers": self.workers,
            "execution": self.execution,
            "reason": self.reason,
            "trials": self.trials,
            "wall_s": wall,
            "busy_s": self.busy_s,
            "training_s": self.training_s,
            "compile_s": self.compile_s,
            "compilations": self.compilations,
            "peak_memory_mb": self.peak_memory_mb,
            "devices": self.devices,
        }
