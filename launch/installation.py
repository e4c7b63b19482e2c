"""Which code a process has: it must be the same on every node, or outcomes are no one's.

Ray itself refuses nodes of another Python or Ray; this project and the libraries that compute are
compared here.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from spaces.source_code import source_digest
from trainers.onednn import PACKAGE as ONEDNN

PACKAGES = ("spaces", "search", "trainers", "launch")
"""The packages of this project."""

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", ONEDNN)
"""Libraries whose version may change an outcome."""


@functools.cache
def installation() -> Mapping[str, str]:
    """What this process has: version and code of actsearch, and versions of the libraries.

    Returns:
        By name; `code` is a SHA-256 over the Python files of the four packages.
    """
    return {
        "actsearch": _version("actsearch"),
        "code": source_digest(PACKAGES),
        **{name: _version(name) for name in LIBRARIES},
    }


def difference(there: object, here: Mapping[str, str]) -> str:
    """In which points another process has other code; empty if in none.

    The version of actsearch alone is none: code that was shipped has no version, and is the same.

    Args:
        there: What the other process said that it has; anything but a mapping is what a process
            of long ago says.
        here: What this one has.
    """
    if not isinstance(there, Mapping):
        return "an older actsearch there"
    found = [
        f"{name} {there.get(name, 'none')} there, {here[name]} here"
        for name in LIBRARIES
        if there.get(name) != here[name]
    ]
    if there.get("code") != here["code"]:
        ours, theirs = (
            f"{each.get('actsearch')} ({str(each.get('code'))[:12]})" for each in (here, there)
        )
        found.insert(0, f"actsearch {theirs} there, {ours} here")
    return "; ".join(found)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "of no version"
