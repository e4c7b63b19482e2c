"""Strategy states as bytes: one line of JSON, then the raw bytes of the arrays.

The journal stores a state with the outcomes that made it. What is read back has to be equal bit for
bit, and reading has to be safe for a file that came from elsewhere: there is no pickle here, and
nothing but numbers is ever built from the bytes. JSON holds Python's integers of any size and its
floats exactly; an array stands in it as {"array": [dtype, shape, offset]}.

`encode_state` is strict: what would not come back as it was (a tuple, a NumPy scalar, a key that is
no string, an array of objects) is refused when it is written, not discovered on resume.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from .strategy import State

_ARRAY = "array"
_KINDS = "biuf"


def encode_state(state: State) -> bytes:
    """Returns the state as bytes; equal states give equal bytes.

    Raises:
        ValueError: Something in it is not plain data; the message says where.
    """
    chunks: list[bytes] = []
    offset = 0

    def plain(value: Any, where: str) -> Any:
        nonlocal offset
        kind = type(value)
        if kind is dict:
            if _ARRAY in value or not all(type(key) is str for key in value):
                raise ValueError(
                    f"`{where}` must have string keys other than '{_ARRAY}', got {list(value)}"
                )
            return {key: plain(item, f"{where}.{key}") for key, item in value.items()}
        if kind is list:
            return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
        if kind is np.ndarray and value.dtype.kind in _KINDS:
            entry = [value.dtype.str, list(value.shape), offset]
            chunks.append(value.tobytes())
            offset += value.nbytes
            return {_ARRAY: entry}
        if value is None or kind in (str, bool, int, float):
            return value
        raise ValueError(
            f"`{where}` must be a dict, list, str, bool, int, float, None or a numeric array, "
            f"got {kind.__name__}"
        )

    document = json.dumps(plain(state, "state"), separators=(",", ":"))
    return b"\n".join([document.encode(), b"".join(chunks)])


def decode_state(data: bytes) -> State:
    """Returns the state that `encode_state` was given.

    Raises:
        ValueError: The bytes are damaged.
    """
    end = data.find(b"\n")
    if end < 0:
        raise ValueError("`data` must be an encoded state, got bytes without a header line")
    body = memoryview(data)[end + 1 :]

    def restored(value: Any) -> Any:
        if isinstance(value, list):
            return [restored(item) for item in value]
        if not isinstance(value, dict):
            return value
        if _ARRAY not in value:
            return {key: restored(item) for key, item in value.items()}
        name, shape, offset = value[_ARRAY]
        dtype = np.dtype(name)
        if dtype.kind not in _KINDS or any(length < 0 for length in shape):
            raise ValueError(f"`data` must hold numeric arrays, got {name!r} of shape {shape}")
        # The copy owns its memory and is aligned, which a view into the bytes need not be.
        return np.frombuffer(body, dtype, math.prod(shape), offset).reshape(shape).copy()

    try:
        state = restored(json.loads(data[:end]))
    except (TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"`data` must be an encoded state, got damaged bytes: {error}") from error
    if not isinstance(state, dict):
        raise ValueError(f"`data` must be an encoded state, got a {type(state).__name__}")
    return state
