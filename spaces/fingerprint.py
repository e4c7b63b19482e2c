"""Fingerprints: equal functions are found by their values, however they are written.

A fingerprint is f on the grid in float64, with a different fixed value for every trainable vector,
so that β·x and x differ and x + β₁ − β₂ differs from x. Values are compared within a tolerance: two
spellings of one function round differently, and ε = 1e-7 in `div` makes x²/x almost x.
"""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np

from .probe import Probe

TOLERANCE = 1e-6
"""Largest difference between equal functions, after the values are compressed by asinh."""

_WEIGHTS = np.random.default_rng(20171016).standard_normal(4096)


def fingerprint_of(probe: Probe) -> np.ndarray:
    """The fingerprint, float64 `[N]`: asinh of the values, so that large ones do not drown others."""
    return np.arcsinh(probe.value)


class FingerprintIndex:
    """Finds among known fingerprints the one that equals a new one.

    Sorted by one projection: only neighbours in it are compared in full.
    """

    def __init__(self) -> None:
        self._sorted: list[tuple[float, int]] = []
        self._prints: list[np.ndarray] = []
        self._keys: list[str] = []

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, fingerprint: np.ndarray) -> str | None:
        """The key of the earliest equal function, or None."""
        place = _projection(fingerprint)
        margin = TOLERANCE * float(np.abs(_WEIGHTS[: len(fingerprint)]).sum())
        begin = bisect_left(self._sorted, (place - margin, -1))
        matches = []
        for index in range(begin, len(self._sorted)):
            projected, number = self._sorted[index]
            if projected > place + margin:
                break
            if float(np.abs(self._prints[number] - fingerprint).max()) <= TOLERANCE:
                matches.append(number)
        return self._keys[min(matches)] if matches else None

    def add(self, key: str, fingerprint: np.ndarray) -> None:
        """Remembers a function under `key`."""
        insort(self._sorted, (_projection(fingerprint), len(self._keys)))
        self._prints.append(fingerprint)
        self._keys.append(key)


def _projection(fingerprint: np.ndarray) -> float:
    return float(_WEIGHTS[: len(fingerprint)] @ fingerprint)
