"""What Ray's exceptions say, in one line."""

from __future__ import annotations

import textwrap

MAX_CAUSE = 200
"""So many characters of what Ray says of a death are told."""


def brief(error: BaseException) -> str:
    """An exception of Ray's in one line: its class, what it says first, and what a traceback ends with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    traced = any("Traceback (most recent call last)" in line for line in lines)
    told = [*lines[:1], *lines[-1:]] if traced else lines[:1]
    return ": ".join([type(error).__name__, *(each.rstrip(".:") for each in told)])


def cause(error: BaseException) -> str:
    """What Ray says, below its fields, of why an actor is dead, as the rest of a line; else nothing."""
    text = str(error)
    _, fields, rest = text.rpartition("\n\t")
    told = rest.splitlines()[1:2] if fields else []
    return "".join(f": {textwrap.shorten(line, MAX_CAUSE, placeholder=' …')}" for line in told)
