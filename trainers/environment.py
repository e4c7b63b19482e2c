"""Settings that a process which trains must start with: of the memory allocator, and of XLA."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

ALLOCATOR: Mapping[str, str] = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "1099511627776",
    "MALLOC_TOP_PAD_": "67108864",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""A process keeps the memory that a training step gives back, instead of mapping fresh pages for
the next one: ResNet-20 at 32 x 32, batch 128, faulted in 119,000 pages a step without, 200 with,
and took 407 instead of 880 to 930 ms (one of two busy cores, n = 2 each, alternating). The
thresholds that suffice elsewhere do not: glibc ignores any above 32 MiB, and threads other than
the first have arenas of their own. With large pages, where the system has them to give, a traced step
takes 0.94 to 0.98 times as long. glibc reads these once, when a process starts."""

XLA_OPTION = "--xla_backend_extra_options=xla_cpu_disable_loop_unrolling"
"""On a CPU, LLVM unrolls XLA's innermost loop where it is as short as 16 channels, and then finds nothing
left to vectorise but pixels, whose floats it collects one by one. Of the paper's 35 operators with their
slopes 14 took 1.7 to 2.6 times as long on 64 x 16 x 16 x 16 floats as without unrolling, the others 0.97 to
1.4 times; on 32 channels fewer of them (`tests/benchmarks/elementwise.py`, docs/performance.md)."""


def tune_xla() -> None:
    """Asks XLA for `XLA_OPTION`, beside what the environment asks for.

    XLA reads its flags once: in a process that has imported JAX nothing is changed, nor where options
    of this kind are given already.
    """
    given = os.environ.get("XLA_FLAGS", "")
    if "jax" not in sys.modules and XLA_OPTION.partition("=")[0] not in given:
        os.environ["XLA_FLAGS"] = f"{given} {XLA_OPTION}".strip()
