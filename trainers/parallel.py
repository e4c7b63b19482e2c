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
    return _over_shares(
        function, (batch, *others), (), lambda found: lax.psum(found, _BATCH), PartitionSpec()
    )


def map_over_shares(
    function: Callable[..., jax.Array], batches: tuple[jax.Array, ...], *shared: jax.Array
) -> jax.Array:
    """Does for each device's share of a batch what XLA cannot split: a foreign function.

    Args:
        function: Of arrays like `batches`, of fewer images, and of `shared`; to one of as many images.
        batches: Arrays whose first axis is the batch, laid out as `BatchLayout` does.
        shared: Arrays that each device needs whole.
    """
    return _over_shares(function, batches, shared, lambda found: found, PartitionSpec(_BATCH))


def map_and_sum_over_shares(
    function: Callable[..., tuple[jax.Array, Any]],
    batches: tuple[jax.Array, ...],
    *shared: jax.Array,
) -> tuple[jax.Array, Any]:
    """Both at once: a function's first result is of each image, what its second has are sums over them.

    Args:
        function: Of arrays like `batches`, of fewer images, and of `shared`.
        batches: Arrays whose first axis is the batch, laid out as `BatchLayout` does.
        shared: Arrays that each device needs whole.
    """
    return _over_shares(
        function,
        batches,
        shared,
        lambda found: (found[0], lax.psum(found[1], _BATCH)),
        (PartitionSpec(_BATCH), PartitionSpec()),
    )


def _over_shares(
    function: Callable[..., Any],
    batches: tuple[jax.Array, ...],
    shared: tuple[jax.Array, ...],
    combine: Callable[[Any], Any],
    out_specs: Any,
) -> Any:
    """`combine` has the devices exchange what they found; a device that is alone has nothing to."""
    devices = jax.devices()
    shares = shares_of(len(batches[0]), len(devices))
    if shares == 1:
        return function(*batches, *shared)
    return jax.shard_map(
        lambda *arrays: combine(function(*arrays)),
        mesh=_mesh(devices[:shares]),
        in_specs=(*(PartitionSpec(_BATCH) for _ in batches), *(PartitionSpec() for _ in shared)),
        out_specs=out_specs,
        check_vma=False,  # a loop may begin with zeros, which are everyone's
    )(*batches, *shared)


def _mesh(devices: Sequence[Any]) -> Mesh:
    return Mesh(np.array(devices), (_BATCH,))
