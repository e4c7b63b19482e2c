"""A state as one array: what passes from one training step to the next.

A state has some hundred small arrays. To hand them to XLA and back takes Python and XLA longer than it
takes to write them one behind the other.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Packing:
    """How a tree of arrays becomes one, and a tree again.

    Args:
        shapes: A tree of shapes and dtypes, all of them float32.

    Raises:
        ValueError: One is of another dtype.
    """

    def __init__(self, shapes: Any) -> None:
        leaves, self._tree = jax.tree.flatten(shapes)
        if wrong := {str(leaf.dtype) for leaf in leaves} - {"float32"}:
            raise ValueError(f"only arrays of float32 are packed, got {', '.join(sorted(wrong))}")
        self._shapes = [leaf.shape for leaf in leaves]
        ends = itertools.accumulate((int(np.prod(shape)) for shape in self._shapes), initial=0)
        self._parts = list(itertools.pairwise(ends))
        self.shape = jax.ShapeDtypeStruct((self._parts[-1][1],), jnp.float32)
        """Of the one array."""

    def pack(self, tree: Any) -> np.ndarray:
        """A tree of NumPy's arrays as a new one."""
        packed = np.empty(self.shape.shape, np.float32)
        for (begin, end), leaf in zip(self._parts, jax.tree.leaves(tree), strict=True):
            packed[begin:end] = np.asarray(leaf).reshape(-1)
        return packed

    def traced(self, tree: Any) -> jax.Array:
        """The same within a program."""
        return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])

    def unpack(self, packed: Any) -> Any:
        """The tree, of parts of an array of NumPy's or of a program."""
        parts = zip(self._parts, self._shapes, strict=True)
        leaves = [packed[begin:end].reshape(shape) for (begin, end), shape in parts]
        return jax.tree.unflatten(self._tree, leaves)
