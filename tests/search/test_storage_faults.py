"""What may happen to a journal's file: one clear line, and what was committed before stays whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from search.journal import FILE_NAME, CandidateRow, Journal, JournalError
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
