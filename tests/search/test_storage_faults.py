"""What may happen to a journal's file: one clear line, and what was committed before stays whole."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from search.database import Connection
from search.journal import FILE_NAME, CandidateRow, Journal, JournalError
from search.lock import LOCK_NAME, check_unlocked
from search.outcome import Outcome, Trial


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    folder = tmp_path / "run"
    folder.mkdir()
    made = Journal.create(folder, {})
    with made.transaction():
        made.add_candidate(
            CandidateRow(1, "sin(x)", "sin(x)", r"\sin x", None, "ok", "", None, None, None)
        )
        for number in range(1, 200):
            made.add_trial(Trial(number, 1, "sin(x)", number, 0, baseline=False))
    return made


def record(journal: Journal, trial: int) -> None:
    with journal.transaction():
        journal.add_outcome(trial, Outcome("ok", 0.5, 1.0, 1.0, {"curve": list(range(2000))}))


def recorded(folder: Path) -> list[int]:
    return [trial.id for trial, outcome in Journal.read(folder).trials() if outcome is not None]


def test_a_full_disk_loses_nothing_that_was_recorded(journal: Journal):
    """SQLite's own limit, which it meets as it meets the end of a disk."""
    pages = journal.execute("PRAGMA page_count").fetchone()[0]
    journal.execute(f"PRAGMA max_page_count={pages + 10}")
    with pytest.raises(
        JournalError, match="the disk is full; every trial that was recorded is safe"
    ):
        for number in range(1, 200):
            record(journal, number)
    done = recorded(journal.folder)
    assert 0 < len(done) < 199 and done == list(range(1, len(done) + 1))
    journal.execute("PRAGMA max_page_count=100000")
    record(journal, len(done) + 1)
    assert len(recorded(journal.folder)) == len(done) + 1


@pytest.mark.parametrize("how", ["removed", "replaced", "moved"])
def test_a_folder_that_goes_away_is_noticed_before_the_next_commit(journal: Journal, how: str):
    """SQLite itself would go on writing into a file that nobody can open any more."""
    record(journal, 1)
    folder, elsewhere = journal.folder, journal.folder.with_name("elsewhere")
    if how == "moved":
        folder.rename(elsewhere)
    else:
        shutil.copytree(folder, elsewhere)
        shutil.rmtree(folder)
        if how == "replaced":
            shutil.copytree(elsewhere, folder)
    with pytest.raises(JournalError, match="was removed or replaced while the run went on"):
        record(journal, 2)
    if how != "removed":
        assert recorded(elsewhere if how == "moved" else folder) == [1]


def test_a_run_whose_making_was_killed_is_made_anew(tmp_path: Path):
    """SIGKILL inside the transaction that makes the tables, as late as can be."""
    program = (
        "import os, signal, sys; from pathlib import Path; from search.journal import Journal\n"
        "Journal.create(Path(sys.argv[1]), {}, lambda _: os.kill(os.getpid(), signal.SIGKILL))"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / FILE_NAME).exists()
    journal = Journal.create(tmp_path, {"made": "again"})
    assert journal.meta("made") == "again"
    journal.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE_NAME, "lock"]


def test_a_making_that_fails_lets_go_of_the_lock(tmp_path: Path):
    def fail(_: Journal) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        Journal.create(tmp_path, {}, fail)
    Journal.create(tmp_path, {}).close()


@pytest.mark.skipif(os.geteuid() == 0, reason="this user may write everything, as root does")
def test_a_folder_that_may_not_be_written_is_named(journal: Journal):
    journal.close()
    journal.folder.chmod(0o500)
    try:
        with pytest.raises(JournalError, match="lock cannot be written: Permission denied"):
            Journal.open(journal.folder)
        assert recorded(journal.folder) == []
    finally:
        journal.folder.chmod(0o700)


def test_a_file_that_may_not_be_written_any_more_is_named(journal: Journal):
    record(journal, 1)
    journal.execute("PRAGMA query_only=ON")
    with pytest.raises(JournalError, match="it may not be written; every trial that was recorded"):
        record(journal, 2)
    journal.execute("PRAGMA query_only=OFF")
    assert recorded(journal.folder) == [1]


@pytest.mark.parametrize("kind", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_not_written_to_and_can_be_looked_at(
    kind: int, journal: Journal, tmp_path: Path, monkeypatch
):
    record(journal, 1)
    journal.close()

    def none(*_: object) -> None:
        raise OSError(kind, os.strerror(kind))

    monkeypatch.setattr("search.lock.fcntl.flock", none)
    (tmp_path / "new").mkdir()
    for attempt in (
        lambda: Journal.open(journal.folder),
        lambda: Journal.create(tmp_path / "new", {}),
        lambda: check_unlocked(journal.folder),
    ):
        with pytest.raises(
            JournalError,
            match=r"file system without locks \(.*safe.*copy the folder to a local disk",
        ):
            attempt()
    assert recorded(journal.folder) == [1]
    assert not (tmp_path / "new" / FILE_NAME).exists()


def without_a_log(monkeypatch, how: str) -> None:
    """A file system that refuses the memory that a write-ahead log needs."""
    execute = Connection.execute

    def asked(connection: Connection, statement: str, *values: object):
        if statement == "PRAGMA journal_mode=WAL":
            if how == "by an error":
                raise JournalError("disk I/O error", sqlite3.SQLITE_IOERR)
            statement = "PRAGMA journal_mode"
        return execute(connection, statement, *values)

    monkeypatch.setattr(Connection, "execute", asked)


@pytest.mark.parametrize("how", ["by an error", "silently"])
def test_a_file_system_without_a_write_ahead_log_keeps_a_journal_all_the_same(
    how: str, tmp_path: Path, monkeypatch
):
    """It is as durable, can be read while it is written, and a commit that a kill tore is undone."""
    without_a_log(monkeypatch, how)
    journal = Journal.create(tmp_path, {})
    assert journal.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
    assert journal.execute("PRAGMA synchronous").fetchone()[0] == 3  # EXTRA
    with journal.transaction():
        journal.add_candidate(
            CandidateRow(1, "sin(x)", "sin(x)", "", None, "ok", "", None, None, None)
        )
        for number in (1, 2):
            journal.add_trial(Trial(number, 1, "sin(x)", number, 0, baseline=False))
    reader = Journal.read(tmp_path)
    record(journal, 1)
    assert [outcome is None for _, outcome in reader.trials()] == [False, True]
    reader.close()

    hot = tmp_path / "hot"
    hot.mkdir()
    journal.execute("PRAGMA cache_size=1")  # pages reach the file before the commit
    sound = (tmp_path / FILE_NAME).read_bytes()
    with journal.transaction():
        journal.add_outcome(2, Outcome("ok", 0.9, 1.0))
        for number in range(1000):
            journal.put_meta(f"{number}", "x" * 1000)
        for name in (FILE_NAME, f"{FILE_NAME}-journal"):
            shutil.copy(tmp_path / name, hot)
    assert not (hot / FILE_NAME).read_bytes().startswith(sound)
    assert recorded(hot) == [1]
    again = Journal.open(hot)
    assert [outcome is None for _, outcome in again.trials()] == [False, True]
    again.close()
    journal.close()


def test_a_file_system_that_keeps_no_journal_at_all_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("search.database._log_mode", lambda *_: "memory")
    with pytest.raises(JournalError, match="neither a write-ahead log nor a rollback journal"):
        Journal.create(tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_removed_ends_its_driver_before_the_next_commit(journal: Journal):
    """Another driver could have begun with a new lock file; the first one must not go on."""
    record(journal, 1)
    (journal.folder / LOCK_NAME).unlink()
    other = Journal.open(journal.folder)
    with pytest.raises(JournalError, match=r"another driver may be at work; .* safe: repeat"):
        record(journal, 2)
    journal.close()
    record(other, 3)
    other.close()
    assert recorded(other.folder) == [1, 3]


def test_a_log_beside_the_file_is_read_where_nothing_may_be_written(
    journal: Journal, tmp_path: Path
):
    """A killed run's files copied to where SQLite can make no memory to share: the log counts."""
    record(journal, 1)
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in (FILE_NAME, f"{FILE_NAME}-wal"):
        shutil.copy(journal.folder / name, folder)
    # What cannot be made, whoever one is; a link is not followed.
    (folder / f"{FILE_NAME}-shm").symlink_to(tmp_path / "nowhere" / "shm")
    before = {path.name: path.lstat().st_mtime_ns for path in folder.iterdir()}
    assert recorded(folder) == [1]
    assert {path.name: path.lstat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_making_that_fails_leaves_nothing(tmp_path: Path):
    def fail(_: Journal) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        Journal.create(tmp_path, {}, fail)
    assert list(tmp_path.iterdir()) == []


def test_a_text_that_is_none_is_told_in_one_line(journal: Journal):
    """SQLite's own message quotes it, with whatever ends a line."""
    journal.close()
    with sqlite3.connect(journal.folder / FILE_NAME) as database:
        database.execute("UPDATE candidates SET latex = CAST(x'ff0a1eff' AS TEXT)")
    database.close()
    with pytest.raises(JournalError, match="a text in it is not what was written") as caught:
        list(Journal.read(journal.folder).candidates())
    assert len(str(caught.value).splitlines()) == 1
