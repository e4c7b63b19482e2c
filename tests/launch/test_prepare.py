"""The driver's own start: what it compiles is there for the next one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _made(run: Path, cache: Path) -> set[str]:
    """Makes a run in a process of its own; returns the names of the programs that are kept then."""
    subprocess.run(
        [sys.executable, ROOT / "tests/launch/made_run.py", run, '{"trials": 2}', "0"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)},
        check=True,
        timeout=120,
    )
    (folder,) = cache.glob("actsearch/compiled/*/driver")
    return {path.name for path in folder.iterdir()}


def test_programs_that_look_at_operators_are_kept_for_the_next_driver(tmp_path: Path) -> None:
    first = _made(tmp_path / "first", tmp_path / "cache")
    assert len(first) > 20 and not [name for name in first if name.startswith("process")]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/**/driver/*")}
    assert _made(tmp_path / "second", tmp_path / "cache") == first  # nothing was compiled
    assert {path: path.stat().st_mtime_ns for path in before} == before
