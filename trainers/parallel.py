"""Spreads a training step over the cores of a process: one JAX device a core, a part of the batch each.

XLA's fast convolutions and reductions on a CPU run on one thread each, whatever the cores. So the
batch is split instead, as over the devices of a larger machine: every device has all weights and
its part of the images, and XLA sums what BatchNorm and the gradients need of all of them. The step
is the same function; sums in another order make it equal to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_BATCH = "batch"
"""The axis over which a batch is split."""


def use_cores(count: int) -> None:
    """Gives this process so many CPU devices; to be called before JAX is used if it is not one.

    Args:
        count: Cores of the process, at least 1.

    Raises:
        RuntimeError: JAX has been used before, with another number.
    """
    if count > 1:
        jax.config.update("jax_num_cpu_devices", count)


def shares_of(batch_size: int, devices: int) -> int:
    """How many of so many devices share a batch: the most that divide it."""
    return max(n for n in range(1, devices + 1) if batch_size % n == 0)


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
        parts = shares_of(batch_size, len(devices))
        if parts == 1:
            return cls(1, None, None)
        mesh = _mesh(devices[:parts])
        return cls(
            parts,
            NamedSharding(mesh, PartitionSpec()),
            NamedSharding(mesh, PartitionSpec(_BATCH)),
        )


def sum_over_shares(
    function: Callable[..., jax.Array], batch: jax.Array, *others: jax.Array
) -> jax.Array:
    """Sums what a function finds in each device's share of a batch, as each device goes its own way.

    XLA splits most of a step by itself. It is for what it would split worse: loops over the images.

    Args:
        function: Of arrays like the following, of fewer images.
        batch: An array whose first axis is the batch, laid out as `BatchLayout` does.
        others: Further ones.
    """
    devices = jax.devices()
    shares = shares_of(len(batch), len(devices))
    if shares == 1:
        return function(batch, *others)
    return jax.shard_map(
        lambda *share: lax.psum(function(*share), _BATCH),
        mesh=_mesh(devices[:shares]),
        in_specs=PartitionSpec(_BATCH),
        out_specs=PartitionSpec(),
        check_vma=False,  # a loop may begin with zeros, which are everyone's
    )(batch, *others)


def map_over_shares(
    function: Callable[..., jax.Array], batch: jax.Array, *shared: jax.Array
) -> jax.Array:
    """Does for each device's share of a batch what XLA cannot split: a foreign function.

    Args:
        function: Of an array like `batch`, of fewer images, and of `shared`; to one of as many images.
        batch: An array whose first axis is the batch, laid out as `BatchLayout` does.
        shared: Arrays that each device needs whole.
    """
    devices = jax.devices()
    shares = shares_of(len(batch), len(devices))
    if shares == 1:
        return function(batch, *shared)
    return jax.shard_map(
        function,
        mesh=_mesh(devices[:shares]),
        in_specs=(PartitionSpec(_BATCH), *(PartitionSpec() for _ in shared)),
        out_specs=PartitionSpec(_BATCH),
        check_vma=False,
    )(batch, *shared)


def _mesh(devices: Sequence[Any]) -> Mesh:
    return Mesh(np.array(devices), (_BATCH,))
