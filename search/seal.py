"""Seals of the journal's rows: a byte that is not what was written is noticed when it is read.

SQLite finds a torn page by its write-ahead log and a broken tree by its pointers, not a value that
something else has overwritten. A seal is the CRC-32 of a row's values, a blob's stands at its end: of
four thousand million damages one is overlooked. It is no signature: who means to deceive can.
"""

from __future__ import annotations

import zlib
from typing import Any

_BYTES = 4


class BrokenSealError(ValueError):
    """A row is not as it was written."""


def seal(*values: Any) -> int:
    """The seal of some values: None, int, float and str, as SQLite gives them back."""
    return zlib.crc32(repr(values).encode())


def check_seal(found: int, *values: Any) -> None:
    """Compares values with their seal.

    Raises:
        BrokenSealError: They differ.
    """
    if found != seal(*values):
        raise BrokenSealError


def sealed(blob: bytes) -> bytes:
    """A blob with its seal."""
    return blob + zlib.crc32(blob).to_bytes(_BYTES, "little")


def unsealed(blob: bytes) -> bytes:
    """A blob without its seal.

    Raises:
        BrokenSealError: The seal is not that of the blob.
    """
    content, mark = blob[:-_BYTES], blob[-_BYTES:]
    if mark != zlib.crc32(content).to_bytes(_BYTES, "little"):
        raise BrokenSealError
    return content
