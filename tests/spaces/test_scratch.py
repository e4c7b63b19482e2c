"""Scratch files name their owner; what a killed process left goes, what a live one has stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spaces.scratch import remove_abandoned, scratch_path

MAKE = """
import sys
from pathlib import Path
from spaces.scratch import scratch_path
path = scratch_path(Path(sys.argv[1]), "stem")
path.mkdir()
(path / "content").touch()
print(path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path):
    """A process that has a scratch folder, and that folder."""
    with subprocess.Popen(
        [sys.executable, "-c", MAKE, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.stdin.close()


def test_what_a_killed_process_left_is_removed_by_the_next(other, tmp_path: Path):
    process, left = other
    unlike = tmp_path / "stem-other-1"
    unlike.touch()
    remove_abandoned(tmp_path, "stem")
    assert (left / "content").exists()  # it lives
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert left.exists()
    own = scratch_path(tmp_path, "stem")
    assert not left.exists() and not own.exists() and unlike.exists()


def test_a_path_is_free_whatever_stood_there(tmp_path: Path):
    own = scratch_path(tmp_path, "stem")
    own.write_text("from before")
    assert scratch_path(tmp_path, "stem") == own and not own.exists()
    own.mkdir()
    (own / "content").touch()
    assert scratch_path(tmp_path, "stem") == own and not own.exists()
