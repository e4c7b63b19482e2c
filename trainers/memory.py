"""How much memory a process has held."""

from __future__ import annotations

import sys


def peak_memory_mib() -> float | None:
    """The most memory that this process has held on the host, where the system tells."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
