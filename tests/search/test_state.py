"""States come back from bytes exactly as they were, or are refused."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from search.state import decode_state, encode_state


def same(left: Any, right: Any) -> bool:
    """Equal in type, structure and every bit."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, np.ndarray):
        return (left.dtype, left.shape, left.tobytes()) == (
            right.dtype,
            right.shape,
            right.tobytes(),
        )
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right)
    return left == right


numbers = st.integers() | st.floats(allow_nan=False) | st.just(math.nan)
dtypes = hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.unsigned_integer_dtypes()
arrays = hnp.arrays(
    dtypes | hnp.floating_dtypes(sizes=(16, 32, 64)),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
leaves = st.none() | st.booleans() | numbers | st.text() | arrays
keys = st.text().filter(lambda key: key != "array")
trees = st.recursive(
    leaves, lambda tree: st.lists(tree) | st.dictionaries(keys, tree), max_leaves=6
)
states = st.dictionaries(keys, trees, max_size=3)


@settings(max_examples=50, deadline=None)
@given(states)
def test_round_trip_is_exact(state: dict[str, Any]) -> None:
    encoded = encode_state(state)
    assert same(decode_state(encoded), state)
    assert encode_state(decode_state(encoded)) == encoded


def test_layout_of_an_array_in_memory_does_not_matter() -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    strided = np.asfortranarray(array)[:, ::2]
    back = decode_state(encode_state({"a": strided}))["a"]
    np.testing.assert_array_equal(back, [[0, 2], [4, 6], [8, 10]])


def test_arrays_own_their_memory() -> None:
    encoded = encode_state({"a": np.zeros(3), "b": np.zeros(3)})
    state = decode_state(encoded)
    state["a"][:] = 1
    assert state["b"].tolist() == [0, 0, 0]
    assert decode_state(encoded)["a"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": (1, 2)}, r"`state\.a` .* got tuple"),
        ({"a": [0, np.float64(1)]}, r"`state\.a\[1\]` .* got float64"),
        ({"a": {"b": np.array([{}])}}, r"`state\.a\.b` .* got ndarray"),
        ({"a": {1: 2}}, r"`state\.a` must have string keys"),
        ({"array": [1]}, r"`state` must have string keys other than 'array'"),
    ],
)
def test_what_would_come_back_changed_is_refused(value: Any, where: str) -> None:
    with pytest.raises(ValueError, match=where):
        encode_state(value)


def test_truncation_is_noticed_everywhere() -> None:
    encoded = encode_state({"a": 1.5, "b": np.arange(3), "c": [np.ones((2, 2), np.float32), "x"]})
    for length in range(len(encoded)):
        with pytest.raises(ValueError):
            decode_state(encoded[:length])


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":{"array":["|O",[1],0]}}\n01234567',
        b'{"a":{"array":["no dtype",[1],0]}}\n01234567',
        b'{"a":{"array":["<f4",[-1],0]}}\n01234567',
        b'{"a":{"array":["<f4",[1],-4]}}\n01234567',
        b'{"a":{"array":7}}\n',
        b"[1]\n",
        b"\xff\xfe\n",
    ],
)
def test_bytes_from_elsewhere_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_state(data)
