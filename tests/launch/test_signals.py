"""Stopping a search that works in real Ray: at a signal, at a second one, after the grace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from search.journal import Journal

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROGRAM = Path(__file__).with_name("faulty_workers.py")
VALUES = {
    "strategy": "exhaustive",
    "exhaustive_shuffle": True,
    "trials": 6,
    "baselines": "none",
    "workers": "2",
}


def start(folder: Path, **values) -> subprocess.Popen[str]:
    """A search whose trials go on once there is a file `go` in the folder; its run is `run`."""
    return subprocess.Popen(
        [sys.executable, PROGRAM, folder / "run", "waits", json.dumps(VALUES | values)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(what: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def begun(folder: Path) -> int:
    return len(list(folder.glob("begun-*")))


def recorded(folder: Path) -> int:
    return Journal.read(folder / "run").pulse()[1]


def family_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def ended(process: subprocess.Popen[str], family: list[psutil.Process], within_s: float) -> str:
    """Waits until a search has ended as one that can go on, and with it all that it started."""
    begin = time.monotonic()
    _, errors = process.communicate(timeout=120)
    took = time.monotonic() - begin
    assert process.returncode == 3, errors
    assert took < within_s, f"it took {took:.1f} s"
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    return errors


def test_one_signal_lets_trials_under_way_finish_and_none_begin(tmp_path):
    process = start(tmp_path, grace=600.0)
    wait_until(lambda: begun(tmp_path) == 2)
    family = family_of(process)
    process.send_signal(signal.SIGTERM)
    time.sleep(1.5)  # in which a driver that did not wait would have ended
    assert process.poll() is None and recorded(tmp_path) == 0
    (tmp_path / "go").touch()
    errors = ended(process, family, 30)
    assert "stopped by SIGTERM; go on with: actsearch resume" in errors
    assert (begun(tmp_path), recorded(tmp_path)) == (2, 2)
    # The same command does the rest, and nothing again.
    process = start(tmp_path, grace=600.0)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert (begun(tmp_path), recorded(tmp_path)) == (6, 6)


def test_what_does_not_finish_within_the_grace_is_abandoned_for_the_resume(tmp_path):
    process = start(tmp_path, grace=1.0)
    wait_until(lambda: begun(tmp_path) == 2)
    family = family_of(process)
    process.send_signal(signal.SIGINT)
    ended(process, family, 30)
    assert recorded(tmp_path) == 0
    assert Journal.read(tmp_path / "run").attempts() == {}  # that was no death of a worker
    (tmp_path / "go").touch()
    process = start(tmp_path)
    process.communicate(timeout=120)
    assert process.returncode == 0 and recorded(tmp_path) == 6


def test_a_second_signal_stops_at_once(tmp_path):
    process = start(tmp_path, grace=600.0)
    wait_until(lambda: begun(tmp_path) == 2)
    family = family_of(process)
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)  # signals that come together may be one
    process.send_signal(signal.SIGTERM)
    ended(process, family, 30)
    assert recorded(tmp_path) == 0
    assert list(tmp_path.joinpath("run").glob(".*")) == []


def test_a_signal_before_there_is_anything_to_stop(tmp_path):
    """The command waits for its config, which comes from a pipe into which nobody writes."""
    config = tmp_path / "config.json"
    os.mkfifo(config)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "launch",
            "search",
            "--run-dir",
            tmp_path / "run",
            "--config",
            config,
        ],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    )
    with config.open("w"):  # once the command reads
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (3, "actsearch: interrupted\n")
    assert not (tmp_path / "run").exists()
