"""A row of numbers as a line of eight heights, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

HEIGHTS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float]) -> str:
    """One character a value; the lowest of them is the lowest height, equal ones the middle."""
    if not values:
        return ""
    least, most = min(values), max(values)
    if most == least:
        return HEIGHTS[len(HEIGHTS) // 2] * len(values)
    steps = [(value - least) / (most - least) * (len(HEIGHTS) - 1) for value in values]
    return "".join(HEIGHTS[round(step)] for step in steps)
