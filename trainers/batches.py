"""Which images a training step and an evaluation see, in which order.

Letters: N images, B batch, E evaluation batch, H W C image.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .dataset import Split


def batch_indices(size: int, *, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Endless batches: a permutation for each epoch, its incomplete last batch dropped.

    Args:
        size: N, images in the training set, at least `batch_size`.
        batch_size: B.
        seed: Equal seeds give equal batches.

    Yields:
        int32 [B], indices into the training set.
    """
    epoch = 0
    while True:
        order = _order(size, seed, epoch) if epoch else _first_order(size, seed)
        for start in range(0, size - batch_size + 1, batch_size):
            yield order[start : start + batch_size]
        epoch += 1


def _order(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(size).astype(np.int32)


@functools.lru_cache(maxsize=4)
def _first_order(size: int, seed: int) -> np.ndarray:
    """Every candidate of a search begins with it."""
    order = _order(size, seed, 0)
    order.flags.writeable = False
    return order


def padded_batches(
    split: Split, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A whole split in batches of one size, the last filled up with images that do not count.

    Yields:
        uint8 [E, H, W, C] images, int32 [E] labels, bool [E] whether they count.
    """
    for start in range(0, len(split.labels), batch_size):
        images = split.images[start : start + batch_size]
        labels = split.labels[start : start + batch_size]
        missing = batch_size - len(labels)
        counted = np.arange(batch_size) < len(labels)
        if missing:
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])
            labels = np.concatenate([labels, np.zeros(missing, np.int32)])
        yield images, labels, counted
