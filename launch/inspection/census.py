"""How many candidates of a space are invalid, constant or equal: `actsearch space`."""

from __future__ import annotations

import dataclasses
from typing import Any

from spaces import SearchSpace

from ..errors import RequestError
from ..operator_request import checked_operators

ENUMERATED = 100_000
"""Largest space of which every candidate is looked at."""

SAMPLED = 10_000
"""Candidates drawn from a larger one."""


def census_of(spec: str, core_units: int, sample: int | None) -> dict[str, Any]:
    """Counts of a space; they add up to `counted`, which is `size` unless a sample was drawn."""
    from spaces import take_census

    try:
        space = SearchSpace(checked_operators(spec), core_units)
    except ValueError as error:
        raise RequestError(str(error)) from None
    if sample is None and space.size > ENUMERATED:
        sample = SAMPLED
    found = take_census(space, sample=sample)
    return {
        "operators": spec,
        "core_units": core_units,
        "decisions": len(space.decisions),
        **dataclasses.asdict(found),
        "complete": found.complete,
    }


def census_lines(found: dict[str, Any]) -> list[str]:
    """The counts for people."""
    lines = [
        f"{found['size']:,} candidates of {found['core_units']} core units, "
        f"{found['decisions']} decisions each"
    ]
    if not found["complete"]:
        lines.append(f"of {found['counted']:,} drawn uniformly:")
    for name, meaning in (
        ("invalid", "a value or gradient is not finite on [−5, 5]"),
        ("constant", "independent of x"),
        ("duplicate", "equal to one that was counted before"),
        ("distinct", "left to be trained"),
    ):
        share = 100 * found[name] / found["counted"]
        lines.append(f"{found[name]:>9,}  {share:5.1f} %  {name}: {meaning}")
    return lines
