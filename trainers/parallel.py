"""Spreads a training step over the cores of a process: one JAX device a core, a part of the batch each.

XLA's fast convolutions and reductions on a CPU run on one thread each, whatever the cores. So the
batch is split instead, as over the devices of a larger machine: every device has all weights and
its part of the images, and XLA sums what BatchNorm and the gradients need of all of them. The step
is the same function; sums in another order make it equal to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def use_cores(count: int) -> None:
    """Gives this process so many CPU devices; to be called before JAX is used if it is not one.

    Args:
        count: Cores of the process, at least 1.

    Raises:
        RuntimeError: JAX has been used before, with another number.
    """
    if count > 1:
        jax.config.update("jax_num_cpu_devices", count)


class BatchLayout(NamedTuple):
    """Where the arrays of a step lie; without shardings, on JAX's default device."""

    parts: int
    """Devices that share a batch."""
    everywhere: NamedSharding | None
    """Of what every device has: state, program, numbers."""
    split: NamedSharding | None
    """Of images and labels, by their first axis."""

    @classmethod
    def over(cls, devices: Sequence[Any], batch_size: int) -> BatchLayout:
        """The layout for batches of one size: as many of the devices as divide it."""
        parts = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
        if parts == 1:
            return cls(1, None, None)
        mesh = Mesh(np.array(devices[:parts]), ("batch",))
        return cls(
            parts,
            NamedSharding(mesh, PartitionSpec()),
            NamedSharding(mesh, PartitionSpec("batch")),
        )
