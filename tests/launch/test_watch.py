"""`actsearch watch`: a run that another process writes, seen from this one."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.cli import run
from launch.flags import build
from launch.inspection.glance import expected_trials
from search.journal import Journal

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"}
WATCH = [sys.executable, "-m", "launch", "watch"]


def wait_for_outcomes(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (folder / "journal.sqlite").is_file():
            try:
                journal = Journal.read(folder)
            except ValueError:  # its tables are not there yet
                continue
            done = journal.pulse()[1]
            journal.close()
            if done >= count:
                return
        time.sleep(0.05)
    raise AssertionError(f"{folder} has no {count} outcomes")


def live(maker, folder: Path, trials: int, pause_s: float) -> subprocess.Popen:
    command = [*maker, str(folder), f'{{"trials": {trials}}}', str(pause_s)]
    process = subprocess.Popen(command, env=ENVIRONMENT)
    wait_for_outcomes(folder, 1)
    return process


def test_lines_follow_a_live_run_to_its_end(tmp_path, maker):
    """Where standard output is a pipe: a line on each change, no control codes."""
    folder = tmp_path / "live"
    writer = live(maker, folder, trials=30, pause_s=0.15)
    try:
        done = subprocess.run(
            [*WATCH, str(folder), "--interval", "0.05"],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        assert writer.wait(timeout=60) == 0
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout and "\r" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("32/32") and lines[-1].endswith("finished")
    assert len(lines) > 3 and len(set(lines)) == len(lines)
    counts = [tuple(map(int, re.match(r"(\d+)/(\d+)", line).groups())) for line in lines]  # type: ignore[union-attr]  # every line has them
    assert counts == sorted(counts) and {total for _, total in counts} == {32}


def test_ctrl_c_ends_it_and_not_the_run(tmp_path, maker):
    folder = tmp_path / "live"
    writer = live(maker, folder, trials=100_000, pause_s=0.1)
    watcher = subprocess.Popen(
        [*WATCH, str(folder), "--interval", "0.05"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert watcher.stdout is not None and watcher.stdout.readline()
        watcher.send_signal(signal.SIGINT)
        _, errors = watcher.communicate(timeout=60)
        assert (watcher.returncode, errors) == (0, "")
        assert writer.poll() is None
        before = Journal.read(folder).pulse()[1]
        wait_for_outcomes(folder, before + 2)
    finally:
        for process in (watcher, writer):
            process.kill()
            process.wait()


def test_a_terminal_gets_a_table_that_changes(tmp_path, maker):
    """A real pseudo-terminal: the table is drawn again in place, and stands at the end."""
    folder = tmp_path / "live"
    writer = live(maker, folder, trials=25, pause_s=0.15)
    ours, theirs = pty.openpty()
    watcher = subprocess.Popen(
        [*WATCH, str(folder), "--interval", "0.1"], env=ENVIRONMENT, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    drawn, deadline = b"", time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.5)[0]:
                try:
                    chunk = os.read(ours, 65536)
                except OSError:  # the other end has been closed
                    break
                drawn += chunk
        assert watcher.wait(timeout=60) == 0
    finally:
        watcher.kill()
        assert writer.wait(timeout=60) == 0
        os.close(ours)
    text = drawn.decode()
    assert "\x1b[2K" in text  # lines are erased and drawn again
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "27 of 27 trials, finished" in plain and "Swish ▪" in plain
    done = [int(n) for n in re.findall(r"(\d+) of 27 trials", plain)]
    assert len(set(done)) > 2 and done == sorted(done)


def test_once_prints_the_table_and_touches_nothing(a_run, capsys, contents):
    before = contents(a_run)
    assert run(["watch", str(a_run), "--once", "--limit", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "302 of 302 trials, finished" in lines[0]
    assert [line.split()[0] for line in lines[2:5]] == ["1", "2", "3"]
    assert contents(a_run) == before


def test_a_run_that_stands_still_is_no_finished_one(tmp_path, make_run, capsys):
    folder = make_run(tmp_path / "begun", stop_after=5)
    assert run(["watch", str(folder), "--once"]) == 0
    assert "5 of 302 trials, last result 0:00:" in capsys.readouterr().out


@pytest.mark.parametrize("rungs, replicates", [("", 2), ("10:5,20:3,40:2", 3), ("10:5,10:2", 2)])
def test_expected_trials_are_right_from_the_start(tmp_path, make_run, rungs, replicates):
    values = {"rungs": rungs, "replicates": replicates, "trials": 20}
    science, _ = build(values)

    def expected(folder: Path) -> int:
        journal = Journal.read(folder)
        found = expected_trials(journal, science)
        journal.close()
        return found

    folder = tmp_path / "run"
    early = []
    for _ in range(4):
        make_run(folder, stop_after=6, **values)
        early.append(expected(folder))
    whole = expected(make_run(folder, **values))
    assert early == [whole] * 4


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere"], "nowhere does not exist"),
        ([".", "--interval", "0"], "`interval` must be > 0 seconds, got 0"),
        ([".", "--limit", "0"], "`limit` must be ≥ 1, got 0"),
    ],
)
def test_wrong_requests(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["watch", *arguments]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and shown.out == ""
