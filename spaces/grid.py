"""The points on which functions are looked at; it imports no JAX, so that those who plot can use it.

The grid leaves out 0, where √|x| and its like have no gradient, a single point that no preactivation
ever hits.
"""

from __future__ import annotations

import numpy as np

LIMIT = 5.0
"""The grid covers [−LIMIT, LIMIT], where nearly all normalised preactivations are."""

POINTS = 96
"""`N`."""


def grid() -> np.ndarray:
    """The `N` points, float64: evenly spread and irregular, so that no symmetry is special."""
    golden = (np.sqrt(5.0) - 1.0) / 2.0
    places = np.sort((np.arange(1, POINTS + 1) * golden + 0.137) % 1.0)
    return LIMIT * (2.0 * places - 1.0)
