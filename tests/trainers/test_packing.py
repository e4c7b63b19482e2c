"""A tree of arrays as one array and back."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trainers.packing import Packing

TREE = {
    "b": (np.arange(6, dtype=np.float32).reshape(2, 3), np.float32(7).reshape(())),
    "a": {"x": np.arange(4, dtype=np.float32).reshape(1, 2, 2) - 9, "none": np.zeros((0, 3), "f4")},
}


def same(found: object, expected: object) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.shape == other.shape
        np.testing.assert_array_equal(one, other)


def test_a_tree_is_the_same_afterwards():
    packing = Packing(TREE)
    packed = packing.pack(TREE)
    assert packed.shape == packing.shape.shape == (11,)
    same(packing.unpack(packed), TREE)
    packed[:] = 0.0  # a new array: the tree's own are others
    assert TREE["a"]["x"].min() == -9.0


def test_a_program_packs_in_the_same_order():
    packing = Packing(TREE)

    def doubled(packed: jax.Array) -> jax.Array:
        return packing.traced(jax.tree.map(lambda leaf: 2 * leaf, packing.unpack(packed)))

    found = jax.jit(doubled)(packing.pack(TREE))
    same(packing.unpack(np.asarray(found)), jax.tree.map(lambda leaf: 2 * leaf, TREE))


def test_other_dtypes_are_refused():
    wrong = [np.zeros(2, "f4"), jax.ShapeDtypeStruct((2,), jnp.int32), np.zeros(3, "f8")]
    with pytest.raises(ValueError, match="only arrays of float32 are packed, got float64, int32"):
        Packing(wrong)
