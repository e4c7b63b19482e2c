"""What scoring one candidate gives: plain data."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "diverged", "failed"]

POINTS = 20
"""Points of a training curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Mean over the training steps since the point before."""

    step: int
    """Steps done."""
    loss: float
    """Mean cross-entropy of the training batches."""
    accuracy: float
    """Mean accuracy on them, augmentation included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BetaSummary:
    """One trainable vector of one operator occurrence in one activation layer, after training."""

    layer: str
    """Name of the layer, for example `blocks.0.act1`."""
    operator: str
    """Name of the operator, for example `scale`."""
    param: str
    """Name of the operator's parameter, for example `beta`."""
    slot: int
    """Which occurrence of an operator."""
    mean: float
    """Mean over channels."""
    std: float
    """Standard deviation over channels."""
    min: float
    """Smallest value of a channel."""
    max: float
    """Largest value of a channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """Where the time of a trial went, in seconds."""

    compile: float = 0.0
    """Tracing and compiling."""
    start: float = 0.0
    """Initial weights, the program, and their way to the device."""
    train: float = 0.0
    """Training steps, batches included."""
    first: float = 0.0
    """The part of `train` until the first losses came back: one step, or as many as the driver does
    at once. Memory is touched for the first time in it."""
    evaluate: float = 0.0
    """Evaluation on the validation split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one candidate did as the activation function of one child network."""

    status: Status
    """`ok`; `diverged`: a loss or a trainable vector was not finite; `failed`: the machine could not do it."""
    reason: str | None = None
    """Why the status is not `ok`."""
    accuracy: float | None = None
    """Share of right answers on the validation split; None unless `ok`."""
    loss: float | None = None
    """Mean cross-entropy on the validation split; None unless `ok`."""
    curve: tuple[CurvePoint, ...] = ()
    """About 20 points over the training."""
    beta: tuple[BetaSummary, ...] = ()
    """The trainable vectors which the candidate uses, layer by layer; empty unless `ok`."""
    steps: int = 0
    """Training steps done; of a diverged child the number of the step that diverged."""
    seconds: Seconds = Seconds()
    """Where the time went."""
    compilations: int = 0
    """Training programs that had to be compiled for this candidate."""

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts, lists, strings and numbers that strict JSON can hold.

        A number that is not finite becomes None.
        """
        return _plain(dataclasses.asdict(self))


def curve(
    losses: Sequence[float], accuracies: Sequence[float], total: int
) -> tuple[CurvePoint, ...]:
    """Means over about `POINTS` equal intervals of a training.

    Args:
        losses: Of the steps done, fewer than `total` if the training broke off.
        accuracies: Of the same steps.
        total: Steps that were to be done.

    Returns:
        A point for each interval that was finished and whose losses are finite.
    """
    ends = sorted({math.ceil(total * point / POINTS) for point in range(1, POINTS + 1)})
    points = []
    for start, end in itertools.pairwise([0, *ends]):
        if end <= len(losses) and math.isfinite(loss := sum(losses[start:end]) / (end - start)):
            accuracy = sum(accuracies[start:end]) / (end - start)
            points.append(CurvePoint(step=end, loss=loss, accuracy=accuracy))
    return tuple(points)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
