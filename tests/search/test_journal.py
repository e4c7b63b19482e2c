"""The journal: what is committed is there, whole, for whoever opens it next."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.journal import FILE_NAME, CandidateRow, Journal, JournalError, ProposalRow
from search.outcome import Outcome, Trial
from search.schema import SCHEMA_VERSION


def row(number: int = 1, **changes) -> CandidateRow:
    values = {
        "id": number,
        "expression": f"sin(u{number})",
        "formula": "sin(x)",
        "latex": r"\sin x",
        "name": None,
        "verdict": "ok",
        "reason": "",
        "equal_to": None,
        "fingerprint": np.linspace(-1, 1, 5),
        "curve": np.ones((2, 5), np.float32),
    }
    return CandidateRow(**{**values, **changes})


def filled(folder: Path) -> Journal:
    journal = Journal.create(folder, {"operators_sha256": "abc"})
    with journal.transaction():
        journal.add_candidate(row(1))
        journal.add_candidate(row(2, equal_to=1, fingerprint=None, curve=None))
        journal.add_proposal(ProposalRow(0, 2, (1, 2, 3), {"log_probability": [-0.1]}))
        journal.add_trial(Trial(1, 1, "sin(u1)", 0, 0, baseline=True))
        journal.add_trial(Trial(2, 1, "sin(u1)", 1, 0, baseline=True))
        journal.add_outcome(1, Outcome("ok", 0.5, 1.25, 2.0, {"steps": 3}))
        journal.put_snapshot(1, b"state", {"entropy": 1.5})
    return journal


def test_everything_written_is_read_back(tmp_path):
    filled(tmp_path).close()
    journal = Journal.open(tmp_path)
    first, second = journal.candidates()
    assert (first.expression, first.root, second.root) == ("sin(u1)", 1, 1)
    np.testing.assert_array_equal(first.fingerprint, np.linspace(-1, 1, 5))
    assert second.fingerprint is None and second.curve is None
    assert list(journal.proposals()) == [ProposalRow(0, 2, (1, 2, 3), {"log_probability": [-0.1]})]
    (trial, outcome), (waiting, nothing) = journal.trials()
    assert outcome == Outcome("ok", 0.5, 1.25, 2.0, {"steps": 3})
    assert (trial.id, waiting.replicate, nothing) == (1, 1, None)
    assert journal.snapshot() == (1, b"state")
    assert list(journal.metrics()) == [(1, {"entropy": 1.5})]
    assert journal.meta("operators_sha256") == "abc"
    journal.close()


def test_candidates_are_found_by_number_and_by_text(tmp_path):
    journal = filled(tmp_path)
    assert [journal.number(f"sin(u{n})") for n in (1, 2, 3)] == [1, 2, None]
    for number, row_ in enumerate(journal.candidates(), start=1):
        found = journal.candidate(number)
        assert (found.id, found.expression, found.root) == (number, row_.expression, 1)
        np.testing.assert_array_equal(found.fingerprint, row_.fingerprint)
        np.testing.assert_array_equal(found.curve, row_.curve)
    assert list(journal.proposed()) == [proposal.candidate for proposal in journal.proposals()]


def test_reading_without_the_bulk_gives_the_same_but_for_the_bulk(tmp_path):
    journal = filled(tmp_path)
    with journal.transaction():
        reason = {"reason": "loss became nan at step 3", "curve": [1.0]}
        journal.add_outcome(2, Outcome("diverged", seconds=1.0, details=reason))
    whole = [replace(row_, fingerprint=None, curve=None) for row_ in journal.candidates()]
    assert list(journal.candidates(sampled=False)) == whole
    for (trial, outcome), (same, full) in zip(
        journal.trials(details=False), journal.trials(), strict=True
    ):
        assert trial == same and outcome is not None and full is not None
        assert outcome == replace(full, details=outcome.details)
        assert outcome.reason == full.reason and "curve" not in outcome.details


def test_a_transaction_that_fails_leaves_nothing(tmp_path):
    journal = filled(tmp_path)
    with pytest.raises(RuntimeError), journal.transaction():
        journal.add_outcome(2, Outcome("ok", 0.9, 1.0))
        raise RuntimeError
    assert [outcome is None for _, outcome in journal.trials()] == [False, True]


def test_a_second_outcome_of_one_trial_is_refused(tmp_path):
    journal = filled(tmp_path)
    with pytest.raises(sqlite3.IntegrityError), journal.transaction():
        journal.add_outcome(1, Outcome("ok", 0.9, 1.0))
    outcome = next(journal.trials())[1]
    assert outcome is not None and outcome.reward == 0.5


def test_an_older_snapshot_gives_up_its_bytes_and_keeps_its_metrics(tmp_path):
    journal = filled(tmp_path)
    with journal.transaction():
        journal.put_snapshot(2, b"newer", {"entropy": 1.0})
    assert journal.snapshot() == (2, b"newer")
    assert [entropy["entropy"] for _, entropy in journal.metrics()] == [1.5, 1.0]
    sizes = sqlite3.connect(tmp_path / FILE_NAME).execute("SELECT length(state) FROM snapshots")
    assert sizes.fetchall() == [(0,), (5 + 4,)]  # with its seal


def test_attempts_are_counted(tmp_path):
    journal = filled(tmp_path)
    for expected in (1, 2, 3):
        with journal.transaction():
            assert journal.add_attempt(2) == expected


def _try_to_open(folder, answer):
    try:
        Journal.open(Path(folder))
    except JournalError as error:
        answer.put(str(error))
    else:
        answer.put("opened")


def test_a_second_driver_is_refused_until_the_first_has_gone(tmp_path):
    journal = filled(tmp_path)
    context = multiprocessing.get_context("spawn")
    for expected in (f"another driver is working on {tmp_path}", "opened"):
        answer = context.Queue()
        process = context.Process(target=_try_to_open, args=(str(tmp_path), answer))
        process.start()
        assert answer.get(timeout=60).startswith(expected)
        process.join()
        journal.close() if expected != "opened" else None


def test_a_live_journal_and_a_read_only_copy_can_be_read(tmp_path):
    folder = tmp_path / "live"
    folder.mkdir()
    journal = filled(folder)
    assert len(list(Journal.read(folder).trials())) == 2
    journal.close()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(folder / FILE_NAME, copy)
    before = sorted(copy.iterdir())
    outcome = next(Journal.read(copy).trials())[1]
    assert outcome is not None and outcome.reward == 0.5
    assert sorted(copy.iterdir()) == before


def test_what_is_no_journal_is_refused_in_one_line(tmp_path):
    with pytest.raises(JournalError, match=r"holds no journal\.sqlite: it is no run"):
        Journal.read(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(b"no database at all" * 100)
    for opener in (Journal.open, Journal.read):
        with pytest.raises(JournalError, match=r"journal\.sqlite") as caught:
            opener(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "version, message",
    [
        ("99", f"has schema version 99, this actsearch reads {SCHEMA_VERSION}: update actsearch$"),
        ("2", "has schema version 2, .*: only an older actsearch can go on with it$"),
        ("x", r"is damaged \(it has no version\)"),
    ],
)
def test_another_schema_version_is_refused(version, message, tmp_path):
    filled(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (version,))
        # Another version may have other tables, of which nothing is expected.
        database.execute("ALTER TABLE meta DROP COLUMN seal")
    database.close()
    for opener in (Journal.read, Journal.open):
        with pytest.raises(JournalError, match=message):
            opener(tmp_path)


def test_a_clock_that_is_put_back_changes_no_duration_and_no_order(tmp_path, monkeypatch):
    """An hour back in the middle of a sitting, two hours before the second one."""
    clock, elapsed = 1_700_000_000.0, 50.0
    monkeypatch.setattr("search.row_writer.time.time", lambda: clock)
    monkeypatch.setattr("search.row_writer.time.monotonic", lambda: elapsed)
    journal = Journal.create(tmp_path, {})
    with journal.transaction():
        journal.add_candidate(row(1))
        for number in range(1, 7):
            journal.add_trial(Trial(number, 1, "sin(u1)", number, 0, baseline=False))
    expected, times = {}, {}
    for sitting in range(2):
        with journal.transaction():
            number = journal.begin_sitting({})
        for trial in ((2, 1, 3), (6, 4, 5))[sitting]:
            elapsed += 10.0
            clock += 10.0 if trial != 3 else -3600.0
            with journal.transaction():
                journal.add_outcome(trial, Outcome("ok", 0.5, 1.0))
            times[trial] = clock
            expected[trial] = 10.0 * (len(expected) + 1) + 4.0 * sitting
        if sitting == 0:
            assert journal.worked() == 30.0  # as one that was killed
            with journal.transaction():
                journal.update_sitting(number, 34.0, {})
        clock -= 7200.0
        elapsed += 1000.0
    assert journal.worked_until() == pytest.approx(expected)
    assert list(journal.worked_until()) == [2, 1, 3, 6, 4, 5]
    assert journal.worked() == pytest.approx(34.0 + 30.0)
    assert journal.finished() == times
    assert journal.pulse() == (6, 6, times[5])
    assert [trial.id for trial, _ in journal.trials()] == [1, 2, 3, 4, 5, 6]
    journal.close()


@pytest.mark.parametrize("status, reward", [("ok", None), ("diverged", 0.5), ("lost", None)])
def test_an_outcome_is_consistent(status, reward):
    with pytest.raises(ValueError, match=r"`(reward|status)` must be"):
        Outcome(status, reward)
