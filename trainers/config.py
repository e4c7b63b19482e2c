"""What a child network is and how it is trained: the part of a run's configuration that judges.

It imports neither JAX nor NumPy, so that a command line can refuse a wrong request at once.
Defaults follow He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385,
section 4.2, scaled down to minutes on a laptop.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

SCHEDULES = ("cosine", "step", "constant")
"""Courses of the learning rate, see `trainers.schedule`."""

PRECISIONS = ("float32", "bfloat16")
"""Arithmetic of the convolutions; everything else is float32 throughout."""

_RESNET = re.compile(r"resnet(\d{1,4})\Z")


def resnet_blocks(child: str) -> int:
    """The number n of residual blocks per stage in a child called `resnet{6n+2}`.

    Args:
        child: Name of a child network, for example `resnet20`.

    Returns:
        n, at least 1: 3 for `resnet20`.

    Raises:
        ValueError: No CIFAR ResNet has this name; the message names its neighbours.
    """
    match = _RESNET.match(child) if isinstance(child, str) else None
    if match is None:
        raise ValueError(
            f"`child` must be resnet8, resnet14, resnet20, … (6n+2 layers), got {child!r}"
        )
    depth = int(match[1])
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        below = max(8, 6 * blocks + 2)
        raise ValueError(
            f"`child` must be resnet8, resnet14, resnet20, … (6n+2 layers), got {child!r}; "
            f"the nearest are resnet{below} and resnet{below + 6}"
        )
    return blocks


_LARGEST_FLOAT = 3.4e38
"""A float32 holds a little more."""

_LARGEST_INTEGER = 2**31 - 1
"""An int32 holds no more."""


def _number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"`{name}` must be a finite number, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"`{name}` must be a finite number, got {value!r}")
    if abs(value) > _LARGEST_FLOAT:
        raise ValueError(f"`{name}` must be a number up to {_LARGEST_FLOAT}, got {value!r}")


def _at_least(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"`{name}` must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"`{name}` must be ≥ {least}, got {value}")
    if value > _LARGEST_INTEGER:
        raise ValueError(f"`{name}` must be ≤ {_LARGEST_INTEGER}, got {value}")


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        from spaces.suggest import did_you_mean

        near = did_you_mean(value, allowed)
        raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, got {value!r}{near}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The child network, its data and its training; equal configurations judge equally.

    Raises:
        ValueError: A field is out of its range; the message names field, value and range.
    """

    dataset: str = "digits"
    """Data set by name: digits, cifar10, cifar100, mnist or fashion_mnist."""
    image_size: int | None = None
    """Images are scaled to this many pixels a side; None keeps their own size."""
    valid_size: int | None = None
    """Images held back from the training files for validation; None: the data set's default."""
    child: str = "resnet8"
    """Child network by name: `resnet{6n+2}`; resnet20 is the paper's."""
    width: int = 16
    """Channels of the first stage; the second and third have twice and four times as many."""
    steps: int = 400
    """Training steps of a full trial."""
    batch_size: int = 64
    """Images per training step."""
    lr: float = 0.05
    """Highest learning rate."""
    momentum: float = 0.9
    """Momentum of stochastic gradient descent, in [0, 1)."""
    nesterov: bool = False
    """Nesterov's form of momentum instead of the classical one."""
    weight_decay: float = 1e-4
    """L2 penalty on kernels of convolutions and of the dense layer, and on nothing else."""
    schedule: str = "cosine"
    """`cosine` to zero, `step` (÷ 10 at 50 % and at 75 % of the steps) or `constant`."""
    warmup: float = 0.05
    """Share of the steps, in [0, 1), over which the learning rate first rises from zero, linearly.
    A share and no number, so that the shape of the schedule is the same on every rung."""
    precision: str = "float32"
    """Arithmetic of the convolutions: `float32` or `bfloat16`."""
    augment: bool = True
    """Random crops after padding and, where the data set allows it, random horizontal flips."""
    beta_init: float | None = None
    """Initial value of every trainable vector of an operator; None: the operator's own."""

    def __post_init__(self) -> None:
        if not isinstance(self.dataset, str) or not self.dataset:
            raise ValueError(f"`dataset` must be the name of a data set, got {self.dataset!r}")
        if self.image_size is not None:
            _at_least("image_size", self.image_size, 1)
        if self.valid_size is not None:
            _at_least("valid_size", self.valid_size, 1)
        resnet_blocks(self.child)
        _at_least("width", self.width, 1)
        _at_least("steps", self.steps, 1)
        _at_least("batch_size", self.batch_size, 1)
        _number("lr", self.lr)
        if self.lr <= 0:
            raise ValueError(f"`lr` must be > 0, got {self.lr}")
        _number("momentum", self.momentum)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1), got {self.momentum}")
        _number("weight_decay", self.weight_decay)
        if self.weight_decay < 0:
            raise ValueError(f"`weight_decay` must be ≥ 0, got {self.weight_decay}")
        _one_of("schedule", self.schedule, SCHEDULES)
        _number("warmup", self.warmup)
        if not 0 <= self.warmup < 1:
            raise ValueError(
                f"`warmup` must be a share of the steps in [0, 1), for example 0.05, "
                f"got {self.warmup}"
            )
        _one_of("precision", self.precision, PRECISIONS)
        for name in ("nesterov", "augment"):
            if getattr(self, name) not in (True, False):
                raise ValueError(f"`{name}` must be true or false, got {getattr(self, name)!r}")
        if self.beta_init is not None:
            _number("beta_init", self.beta_init)
