"""Runs driven from Python, with real Ray workers: results, faults, interrupts, a caller that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import launch
from launch import PlacementConfig, RequestError, Science, SearchConfig, open_run
from search.journal import Journal, JournalError
from trainers import TrainConfig

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]

OPERATORS = """
from spaces import PAPER

OPS = PAPER.only("identity", "neg", "square", "relu", "abs", "add", "mul", "sub", "max")
"""

LONG = """
import sys
import launch
try:
    launch.search("run", operators="ops.py:OPS", strategy="random", trials=10_000, core_units=2,
                  baselines="none", width=4, steps=60, batch_size=32, execution="traced",
                  workers="1", grace=20.0)
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(7)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A folder with an operator file, in which we are; as a user's shell, without JAX's settings."""
    (tmp_path / "ops.py").write_text(OPERATORS)
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("JAX_", "XLA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def outcomes(folder: Path) -> int:
    try:
        journal = Journal.read(folder)
    except JournalError:
        return 0
    try:
        return journal.pulse()[1]
    finally:
        journal.close()


def wait_for_outcomes(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 200
    while outcomes(folder) < count:
        assert time.monotonic() < deadline, f"{folder} has no {count} outcomes"
        time.sleep(0.1)


def drivers_of(folder: Path) -> list[psutil.Process]:
    """Processes of `launch.notebook` that work in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "launch.notebook" in (process.info["cmdline"] or []) and process.cwd() == str(folder):
            found.append(process)
    return found


def test_dataclasses_and_a_thread_will_do_and_the_caller_stays_clean(here, capsys):
    science = Science(
        search=SearchConfig(strategy="random", trials=2, baselines="relu", execution="specialised"),
        train=TrainConfig(width=4, steps=4, batch_size=32),
    )
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    found, said = [], []

    def work() -> None:
        placement = PlacementConfig(workers="2")
        found.append(launch.search("run", science=science, placement=placement))
        said.append(launch.search("run", science=science, placement=placement, progress=False))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=250)
    first, again = *found, *said
    assert first.finished and first.summary().trials == 3
    assert again.summary().sittings == 1  # there was nothing left to do
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
    assert "JAX_PLATFORMS" not in os.environ
    assert capsys.readouterr().err.startswith("run run\n")
    with pytest.raises(RequestError, match=r"`steps` is 4 there, 5 here"):
        launch.search("run", steps=5)
    assert drivers_of(here) == []


def test_an_interrupt_stops_cleanly_and_a_dead_caller_stops_the_driver(here):
    """Then another caller goes on with what there is, until its time limit."""
    run = here / "run"
    caller = subprocess.Popen([sys.executable, "-c", LONG], stdout=subprocess.PIPE, text=True)
    wait_for_outcomes(run, 2)
    (driver,) = drivers_of(here)
    caller.send_signal(signal.SIGINT)
    printed, _ = caller.communicate(timeout=60)
    assert (caller.returncode, printed) == (7, "interrupted\n")
    assert not driver.is_running() and drivers_of(here) == []
    before = outcomes(run)
    assert before >= 2 and not open_run(run).finished

    caller = subprocess.Popen([sys.executable, "-c", LONG])
    wait_for_outcomes(run, before + 1)
    (driver,) = drivers_of(here)
    caller.kill()
    caller.wait()
    gone, _ = psutil.wait_procs([driver], timeout=60)
    assert gone == [driver]
    planned = open_run(run).trials_frame()
    between = outcomes(run)
    assert before < between and (planned.status != "failed").all()

    opened = launch.resume(run, operators="ops.py:OPS", time_limit="12s", workers="1")
    assert not opened.finished and outcomes(run) >= between
    assert opened.summary().sittings == 3 and opened.summary().failed == 0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: launch.search("run", stpes=3), "there is no option `stpes`: did you mean `steps`"),
        (lambda: launch.search("run", steps=0), "`steps` must be ≥ 1, got 0"),
        (lambda: launch.search("run", preset="qiuck"), "`preset` must be one of quick, cifar10"),
        (lambda: launch.search("run", config="nowhere.json"), "cannot read nowhere.json"),
        (lambda: launch.search("run", science=Science(), steps=3), "take the place of"),
        (lambda: launch.search("run", dataset="digts"), "did you mean `digits`"),  # by the driver
        (lambda: launch.resume("run"), "run does not exist"),
        (lambda: launch.resume("run", steps=3), "there is no option `steps`"),
    ],
    ids=range(8),
)
def test_wrong_requests_are_one_line_and_leave_nothing(call, message, here):
    with pytest.raises(RequestError) as caught:
        call()
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (here / "run").exists()
