"""Settings of the memory allocator that a process which trains must start with."""

from __future__ import annotations

from collections.abc import Mapping

ALLOCATOR: Mapping[str, str] = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "1099511627776",
    "MALLOC_TOP_PAD_": "67108864",
}
"""A process keeps the memory that a training step gives back, instead of mapping fresh pages for
the next one: ResNet-20 at 32 x 32, batch 128, faulted in 119,000 pages a step without, 200 with,
and took 407 instead of 880 to 930 ms (one of two busy cores, n = 2 each, alternating). The
thresholds that suffice elsewhere do not: glibc ignores any above 32 MiB, and threads other than
the first have arenas of their own. glibc reads these once, when a process starts."""
