"""Trials and their outcomes, as the search sees them: plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "diverged", "failed"]
"""`diverged`: a loss or a trainable vector was not finite; `failed`: the machinery broke, not the
function."""

BY_CHANCE = "by_chance"
"""Key of an outcome's details: the machine decided it and not the seed, as with a time-out. Runs of
one seed have equal histories as far as there is no such outcome."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate to be trained once: candidate × replicate × rung."""

    id: int
    """Number of the trial within its run, from 1, in the order in which trials were planned."""
    candidate: int
    """The candidate's number in the journal."""
    expression: str
    """The candidate as text."""
    replicate: int
    """Which of the run's seeds the child uses."""
    rung: int
    """Which of the run's fidelities, from 0."""
    baseline: bool
    """Whether it is a known function run for comparison."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trial."""

    status: Status
    """`ok` has a reward; the others have a reason in `details`."""
    reward: float | None = None
    """Validation accuracy, 0 to 1."""
    loss: float | None = None
    """Validation loss."""
    seconds: float = 0.0
    """Wall-clock seconds of the whole trial on its worker."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able: `reason`, the training curve, trainable vectors by layer, seconds by part, …"""

    def __post_init__(self) -> None:
        if self.status not in ("ok", "diverged", "failed"):
            raise ValueError(f"`status` must be ok, diverged or failed, got {self.status!r}")
        if (self.status == "ok") != (self.reward is not None):
            raise ValueError(
                f"`reward` must be given exactly if `status` is ok, got {self.reward!r} with "
                f"{self.status!r}"
            )
        # SQLite has no NaN: a row with one could be written and never be read again.
        for name in ("reward", "loss"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"`{name}` must be finite or None, got {value}")

    @property
    def reason(self) -> str:
        """Why there is no reward; empty if there is one."""
        return str(self.details.get("reason") or "")
