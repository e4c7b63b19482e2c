"""Fingerprints: equal functions are found by their values, however they are written.

A fingerprint is f on the grid in float64, with a different fixed value for every trainable vector,
so that β·x and x differ and x + β₁ − β₂ differs from x; and again, on fewer points, with values
between 0 and 1 and with values below 0, because min(x, x + β) is x as long as β is positive. Values are compared within a tolerance: two
spellings of one function round differently, and ε = 1e-7 in `div` makes x²/x almost x.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import numpy as np

from .probe import Probe

TOLERANCE = 1e-6
"""Largest difference between equal functions, after the values are compressed by asinh."""

_NOT_FINITE = 1e3
"""Stands for values that are not finite; asinh of the largest finite one is 710."""

_WEIGHTS = np.random.default_rng(20171016).standard_normal(4096)

Key = TypeVar("Key", bound=Hashable)


def fingerprint_of(probe: Probe) -> np.ndarray:
    """The fingerprint, float64 `[3 N / 2]`, finite.

    It is asinh of the values, so that large ones do not drown others.
    """
    values = np.arcsinh(np.concatenate([probe.value, probe.elsewhere.ravel()]))
    if np.isfinite(values).all():
        return values
    return np.nan_to_num(values, nan=-_NOT_FINITE, posinf=_NOT_FINITE, neginf=_NOT_FINITE)


class FingerprintIndex(Generic[Key]):
    """Finds among known fingerprints the one that equals a new one.

    Filed by one projection, in cells as wide as equal functions can be apart in it: only those of
    the same and the two neighbouring cells are compared in full.

    Args:
        recall: Gives the fingerprint that was added under a key, for one who has them elsewhere;
            None keeps all of them here, 1,152 bytes each.
    """

    def __init__(self, recall: Callable[[Key], np.ndarray] | None = None) -> None:
        self._keys: list[Key] = []
        self._cells: dict[int, tuple[int, ...]] = {}
        """Cell → places in `_keys`."""
        self._kept: dict[Key, np.ndarray] = {}
        self._keeps = recall is None
        self._recall = recall or self._kept.__getitem__

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, fingerprint: np.ndarray) -> Key | None:
        """The key of the earliest equal function, or None."""
        cell = _cell(fingerprint)
        near = [n for c in (cell - 1, cell, cell + 1) for n in self._cells.get(c, ())]
        for number in sorted(near):
            known = self._recall(self._keys[number])
            if float(np.abs(known - fingerprint).max()) <= TOLERANCE:
                return self._keys[number]
        return None

    def add(self, key: Key, fingerprint: np.ndarray) -> None:
        """Remembers a function under `key`, which is new."""
        cell = _cell(fingerprint)
        self._cells[cell] = (*self._cells.get(cell, ()), len(self._keys))
        self._keys.append(key)
        if self._keeps:
            self._kept[key] = fingerprint


def _cell(fingerprint: np.ndarray) -> int:
    weights = _WEIGHTS[: len(fingerprint)]
    return math.floor(weights @ fingerprint / _width(len(fingerprint)))


@functools.cache
def _width(points: int) -> float:
    """How far apart in the projection equal functions can be, rounding included."""
    return 1.001 * TOLERANCE * float(np.abs(_WEIGHTS[:points]).sum())
