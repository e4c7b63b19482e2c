"""Pre-flight: what can be known of a candidate to be useless before anything is trained."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .grid import LIMIT, grid
from .probe import Probe

FLAT = 1e-6
"""A function whose values differ by less than this, relative to their size, is constant."""

_LARGEST = float(np.finfo(np.float32).max)

Verdict = Literal["ok", "invalid", "constant"]


def run_preflight(probe: Probe) -> tuple[Verdict, str]:
    """Judges a candidate by its values on the grid.

    Returns:
        The verdict and its reason: `invalid` if a value or gradient is not finite in float32 at
        the initial values, or in float64 at others; `constant` if the function does not depend
        on x; else `ok` and `""`.
    """
    sizes = []
    for what, found in (
        ("f(x)", probe.start_value),
        ("f′(x)", probe.start_slope),
        ("f(x)", probe.value),
        ("f′(x)", probe.slope),
    ):
        size = np.abs(found)
        sizes.append(float(size.max()))
        if not sizes[-1] <= _LARGEST:
            place = int(np.argmax(~(size <= _LARGEST)))
            kind = "nan" if np.isnan(found[place]) else "infinite"
            return "invalid", f"{what} is {kind} at x = {grid()[place]:.2f}"
    if not np.isfinite(probe.start_pull).all():
        return "invalid", "the gradient of a trainable vector is not finite"
    *_, size, slope = sizes
    if np.ptp(probe.value) < FLAT * max(1.0, size) and slope < FLAT * max(1.0, size):
        return "constant", f"f does not change on [−{LIMIT:g}, {LIMIT:g}]"
    return "ok", ""
