"""What may happen to a run's folder: a full disk, a read-only one, one that goes away, a second driver.

The disks are real: a small tmpfs in a mount namespace of its own, which ends with the test. Where no
such namespace can be made (neither root nor user namespaces), these tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from launch.cli import run
from launch.commands.watch import glance
from launch.errors import RequestError
from launch.flags import build
from launch.inspection.comparison import course_of
from launch.report.gather import gather
from launch.run import check_free, new_folder, read_run_config, start_or_resume
from search.journal import FILE_NAME, Journal
from search.lock import RunLock
from search.ranking import history_sha256

ROOT = Path(__file__).parents[2]
FAULTY = Path(__file__).with_name("faulty_workers.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
SEARCH = {"strategy": "random", "trials": 40, "baselines": "relu", "window": 8, "workers": "2"}
"""A search whose fake child needs no time."""


class SmallDisk:
    """A tmpfs that only commands run here can see, at `folder`."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        root = os.geteuid() == 0
        new = ["unshare", "-m"] if root else ["unshare", "-r", "-m"]
        script = f"mount -t tmpfs -o size={size} none '{folder}' && echo made && exec sleep 1000"
        self._holder = subprocess.Popen(
            [*new, "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None and self._holder.stderr is not None
        self.made = self._holder.stdout.readline() == "made\n"
        self.reason = "" if self.made else self._holder.stderr.read().strip()
        own = [] if root else ["-U", "--preserve-credentials"]
        self._enter = ["nsenter", "-t", str(self._holder.pid), *own, "-m", "--"]

    @property
    def seen(self) -> Path:
        """The folder as this process sees it."""
        return Path(f"/proc/{self._holder.pid}/root{self.folder}")

    def run(self, *command: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Runs a command there."""
        found = subprocess.run(
            [*self._enter, *command],
            env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert code is None or found.returncode == code, found.stderr
        return found

    def actsearch(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs `actsearch` there."""
        return self.run(sys.executable, "-m", "launch", *arguments, code=code)

    def copy(self, name: str, destination: Path) -> Path:
        """Copies a folder of the disk to where this process can open it by its name."""
        return Path(shutil.copytree(self.seen / name, destination))

    def remount(self, options: str) -> None:
        """Gives the disk another size, or makes it read-only."""
        self.run("mount", "-o", f"remount,{options}", str(self.folder))

    def close(self) -> None:
        """Ends the namespace and all that is mounted there."""
        self._holder.kill()
        self._holder.communicate()


@pytest.fixture
def small_disk(tmp_path) -> Iterator[SmallDisk]:
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("there is no unshare or no nsenter")
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = SmallDisk(folder, "1m")
    try:
        if not disk.made:
            pytest.skip(f"no mount namespace can be made: {disk.reason}")
        yield disk
    finally:
        disk.close()


def last_line(found: subprocess.CompletedProcess[str]) -> str:
    """The complaint, which is the last line, and no traceback before it."""
    assert "Traceback" not in found.stderr, found.stderr
    return found.stderr.splitlines()[-1]


def recorded(folder: Path) -> dict[int, str]:
    """Every outcome, with when it was recorded: a second one would differ."""
    journal = Journal.read(folder)
    try:
        with journal.moment():  # a driver may be writing
            times = journal.finished()
            return {t.id: f"{o} {times[t.id]}" for t, o in journal.trials() if o is not None}
    finally:
        journal.close()


def searched(disk: SmallDisk | None, folder: Path, code: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FAULTY), str(folder), "none", json.dumps(SEARCH)]
    if disk is not None:
        return disk.run(*command, code=code)
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=True
    )


@pytest.mark.ray
@pytest.mark.slow
def test_a_disk_that_fills_up_and_a_read_only_one_lose_nothing(small_disk, tmp_path):
    """Full under the driver; looked at full and read-only; room is made, the same command goes on."""
    folder = small_disk.folder / "run"
    small_disk.remount("size=400k")
    told = last_line(searched(small_disk, folder, code=1))
    assert told.endswith(
        "the disk is full; every trial that was recorded is safe: make room and repeat the command"
    )
    before = recorded(small_disk.copy("run", tmp_path / "full"))
    assert 3 < len(before) < 41

    small_disk.remount("ro")
    there = sorted(path.name for path in (small_disk.seen / "run").iterdir())
    found = json.loads(small_disk.actsearch("top", str(folder), "--json").stdout)
    assert sum(candidate["trials"] for candidate in found["candidates"]) == len(before)
    small_disk.actsearch("show", str(folder), "1")
    page = tmp_path / "report.html"
    small_disk.actsearch("report", str(folder), "--output", str(page))
    assert page.stat().st_size > 10_000
    told = small_disk.actsearch("resume", str(folder), code=2).stderr
    assert "cannot be written: Read-only file system; what the run has is safe" in told
    assert len(told.splitlines()) == 1
    assert sorted(path.name for path in (small_disk.seen / "run").iterdir()) == there

    small_disk.remount("rw,size=16m")
    searched(small_disk, folder, code=0)
    finished = small_disk.copy("run", tmp_path / "finished")
    after = recorded(finished)
    assert before.items() <= after.items() and len(after) == 41
    searched(None, tmp_path / "undisturbed", code=0)
    histories = {
        history_sha256(Journal.read(each)) for each in (finished, tmp_path / "undisturbed")
    }
    assert len(histories) == 1


MAKING = """
import json, os, sys
from pathlib import Path
from launch.errors import RequestError
from launch.flags import build
from launch.run import start_or_resume

disk, found = Path(sys.argv[1]), []
for free in range(0, 256, 4):
    filler = disk / "filler"
    with filler.open("wb") as file:
        state = os.statvfs(disk)
        file.write(bytes((state.f_bavail * state.f_bsize) - free * 1024))
    line = ""
    try:
        start_or_resume(disk / "runs/new", *build({})).journal.close()
    except RequestError as error:
        line = str(error)
    filler.unlink()
    left = sorted(str(path.relative_to(disk)) for path in disk.rglob("*"))
    found.append((free, line, left))
    if not line:
        break
print(json.dumps(found))
"""


def test_a_run_that_cannot_be_made_for_want_of_room_leaves_nothing(small_disk):
    """With every number of free pages, from none to enough."""
    *failed, (free, line, left) = json.loads(
        small_disk.run(sys.executable, "-c", MAKING, str(small_disk.folder)).stdout
    )
    assert len(failed) > 10
    for free, line, left in failed:
        assert left == [], (free, left)
        assert line.startswith("`run_dir`: ") and len(line.splitlines()) == 1
        assert "No space left on device" in line or "disk is full" in line or "disk does" in line
    assert line and not left


def test_searching_on_a_full_disk_is_one_line(small_disk):
    small_disk.remount("size=4k")
    (small_disk.seen / "filler").write_bytes(bytes(4096))
    found = small_disk.actsearch("search", "--run-dir", str(small_disk.folder / "run"), code=2)
    assert found.stderr.count("\n") == 1 and "No space left on device" in found.stderr
    assert [path.name for path in small_disk.seen.iterdir()] == ["filler"]


@pytest.mark.ray
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_folder_that_goes_away_ends_the_driver_and_its_workers(how, tmp_path):
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    command = [
        sys.executable,
        str(FAULTY),
        str(folder),
        "none",
        json.dumps({**SEARCH, "trials": 6000}),
    ]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not ((folder / FILE_NAME).exists() and len(recorded(folder)) > 5):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) > 3
    folder.rename(elsewhere)
    if how == "replaced":
        shutil.copytree(elsewhere, folder)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors and "was removed or replaced while the run" in errors
    assert "put it back and repeat the command" in errors.splitlines()[-1]
    assert psutil.wait_procs(family, timeout=20)[1] == []
    assert len(recorded(elsewhere)) > 5
    assert (how == "replaced") == folder.exists()


@pytest.mark.parametrize("command", ["resume", "search"])
def test_a_second_driver_is_refused_before_anything_is_loaded(
    command, a_run, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(a_run, folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}

    def load_data(*_: object) -> None:
        raise AssertionError("images are loaded for a driver that cannot begin")

    monkeypatch.setattr("launch.prepare.load_data", load_data)
    arguments = (
        ["resume", str(folder)] if command == "resume" else ["search", "--run-dir", str(folder)]
    )
    lock = RunLock.take(folder)
    began = time.monotonic()
    assert run(arguments) == 2
    assert time.monotonic() - began < 5.0
    told = capsys.readouterr().err
    assert told.startswith(f"actsearch: another driver is working on {folder}: look at it with")
    assert told.count("\n") == 1
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    lock.release()
    with pytest.raises(AssertionError, match="images are loaded"):
        run(arguments)


def test_of_two_that_make_one_run_at_once_the_second_touches_nothing(tmp_path):
    """The one that comes second to the lock must not take the first one's configuration away."""
    folder = tmp_path / "run"
    first = start_or_resume(folder, *build({"seed": 1}))
    with pytest.raises(RequestError, match="another driver is working on"):
        check_free(folder)
    with pytest.raises(RequestError, match="another driver is working on"):
        start_or_resume(folder, *build({"seed": 1}))
    first.journal.close()
    assert read_run_config(folder)[0] == build({"seed": 1})[0]

    beside = tmp_path / "beside"
    beside.mkdir()
    lock = RunLock.take(beside)
    with pytest.raises(RequestError, match="another driver is working on"):
        start_or_resume(beside, *build({}))
    assert [path.name for path in beside.iterdir()] == ["lock"]
    lock.release()
    # What a kill left of a making is no stranger's folder.
    (beside / ".config.json").write_text("{")
    (beside / f".{FILE_NAME}-wal").write_text("x")
    start_or_resume(beside, *build({})).journal.close()
    assert sorted(path.name for path in beside.iterdir()) == ["config.json", FILE_NAME, "lock"]


def test_a_clock_that_is_put_back_in_the_middle_shows_nowhere(tmp_path, make_run, monkeypatch):
    values = {"trials": 24, "baselines": "relu,swish"}
    straight = make_run(tmp_path / "straight", **values)
    now, asked = time.time, 0

    def put_back() -> float:
        nonlocal asked
        asked += 1
        return now() - (3600.0 if asked > 12 else 0.0)

    with monkeypatch.context() as patch:
        patch.setattr(time, "time", put_back)
        folder = make_run(tmp_path / "back", stop_after=18, **values)
        make_run(folder, **values)
    journal = Journal.read(folder)
    times = list(journal.finished().values())
    assert max(times) - times[-1] > 3000, "the clock was not put back: the test shows nothing"
    assert history_sha256(journal) == history_sha256(Journal.read(straight))
    assert 0.0 <= journal.worked() < 600.0
    seconds = list(journal.worked_until().values())
    assert seconds == sorted(seconds) and seconds[0] >= 0.0 and seconds[-1] <= journal.worked() + 1
    course = course_of(folder).by_seconds()
    assert course and all(0.0 <= second < 600.0 for second, _ in course)
    assert course == sorted(course)
    look = glance(journal, read_run_config(folder)[0])
    assert look.last == times[-1] and look.finished
    data = gather(folder)
    assert "-" not in data["worked"]
    assert data["course"] == gather(straight)["course"]
    # A reader whose clock is behind the driver's.
    assert (
        "last result 0:00:00 ago"
        in type(look)(look.done, look.expected, now() + 3600.0, None, look.ranked).state()
    )


def test_a_name_by_time_is_never_one_that_is_there(tmp_path, monkeypatch):
    """One hour of the year comes twice, and two searches may begin in one second."""
    monkeypatch.chdir(tmp_path)

    class Standing:
        datetime = type("datetime", (), {"now": staticmethod(lambda: _FIXED)})

    from datetime import datetime

    _FIXED = datetime(2026, 10, 25, 2, 30)
    monkeypatch.setattr("launch.run.datetime", Standing)
    names = []
    for _ in range(3):
        folder = new_folder("digits", "random")
        folder.mkdir(parents=True)
        names.append(folder.name)
    stem = "20261025-023000-digits-random"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]
