"""The journal of a run: one SQLite file, written by one driver.

What is committed is on disk: write-ahead log with `synchronous=FULL`, 0.2 ms a commit. Proposals
are committed before their trials are dispatched, each outcome before the next dispatch, and the
strategy's state together with the proposals that it made. Candidates carry their formula and their
sampled curve, so that looking at a run never evaluates anybody's operators. Nothing in the file is
ever executed or unpickled.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .database import SAFE, Connection, Cursor, connect, identity
from .database import JournalError as JournalError
from .outcome import BY_CHANCE, Outcome, Trial
from .schema import SCHEMA, SCHEMA_VERSION
from .schema import CandidateRow as CandidateRow
from .schema import ProposalRow as ProposalRow
from .seal import check_seal, seal, sealed, unsealed

FILE_NAME = "journal.sqlite"
LOCK_NAME = "lock"


class Journal:
    """A run's journal, opened for writing by its only driver, or for reading.

    Use `Journal.create`, `Journal.open` and `Journal.read`.
    """

    def __init__(self, folder: Path, connection: Connection, lock: int | None) -> None:
        self.folder = folder
        self._db = connection
        self._lock = lock
        self._identity = identity(connection.path)

    @classmethod
    def create(
        cls,
        folder: Path,
        meta: Mapping[str, str],
        begin: Callable[[Journal], None] | None = None,
    ) -> Journal:
        """Makes the journal of a new run.

        Args:
            folder: The run's folder; it exists.
            meta: What is written once and never changes, for example the hash of the science.
            begin: Writes what the run begins with, in the same transaction; None: nothing.

        Raises:
            JournalError: There is one, another driver is making one, or it cannot be written.
        """
        lock = _lock(folder)
        path = folder / FILE_NAME
        try:
            if path.exists():
                raise JournalError(f"{path} exists already")
            # Under another name until it is whole: however this ends, there is a journal or none.
            scratch = path.with_name(f".{FILE_NAME}")
            for left in (scratch, *_companions(scratch)):
                left.unlink(missing_ok=True)
            journal = cls(folder, connect(scratch), None)
            with journal.transaction():
                for statement in SCHEMA.split(";\n"):
                    if statement.strip():
                        journal._db.execute(statement)
                rows = {"schema_version": str(SCHEMA_VERSION), "created": repr(time.time()), **meta}
                journal._db.executemany("INSERT INTO meta VALUES (?, ?)", rows.items())
                if begin is not None:
                    begin(journal)
            journal._db.close()
            scratch.rename(path)
            return cls(folder, connect(path), lock)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def open(cls, folder: Path) -> Journal:
        """Opens an existing journal for writing.

        Raises:
            JournalError: It is missing, damaged, of another version, or another driver has it.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise JournalError(f"{folder} holds no {FILE_NAME}: it is no run")
        lock = _lock(folder)
        try:
            journal = cls(folder, connect(path), lock)
            journal._check(journal.meta("schema_version"))
            journal._check_whole()
        except BaseException:
            os.close(lock)
            raise
        return journal

    @classmethod
    def read(cls, folder: Path) -> Journal:
        """Opens a journal for looking at it: a finished one, a live one, a read-only copy.

        Raises:
            JournalError: It is missing, damaged or of another version.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise JournalError(f"{folder} holds no {FILE_NAME}: it is no run")
        problem: JournalError | None = None
        modes = ("mode=ro", "mode=ro&immutable=1")
        quiescent = not path.with_name(FILE_NAME + "-wal").exists()
        for mode in reversed(modes) if quiescent else modes:
            try:
                journal = cls(folder, connect(path, mode=mode), None)
                version = journal.meta("schema_version")
            except JournalError as error:
                problem = error
                continue
            journal._check(version)
            return journal
        assert problem is not None
        raise problem

    def _check(self, version: str | None) -> None:
        if version != str(SCHEMA_VERSION):
            raise JournalError(
                f"{self.folder / FILE_NAME} has schema version {version}, this actsearch reads "
                f"{SCHEMA_VERSION}"
            )

    def _check_whole(self) -> None:
        """What SQLite can tell of the file's soundness, which is not to be written to otherwise."""
        (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise self._damaged(" ".join(found.split()))

    def _damaged(self, what: str) -> JournalError:
        return JournalError(
            f"{self.folder / FILE_NAME} is damaged ({what}): put a copy in its place or begin a new run"
        )

    @contextmanager
    def _decoding(self, table: str) -> Iterator[None]:
        """Turns what a damaged row leads to into one line."""
        try:
            yield
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if isinstance(error, JournalError):
                raise
            raise self._damaged(f"a row of {table} is not what was written") from None

    def close(self) -> None:
        """Folds the write-ahead log into the file, if that can be, and lets go of the lock."""
        if self._lock is not None:
            with contextlib.suppress(JournalError):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is committed together, or not at all.

        Raises:
            JournalError: It cannot be written, or the file has been removed or replaced.
        """
        if identity(self._db.path) != self._identity:
            raise JournalError(
                f"{self._db.path} was removed or replaced while the run went on, and nothing more "
                f"is written; {SAFE} if the file is somewhere: put it back and repeat the command"
            )
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Cursor:
        """Runs a statement, for tables that have a module of their own."""
        return self._db.execute(statement, values)

    # Writing: inside a transaction of the caller's.

    def add_candidate(self, row: CandidateRow) -> None:
        """Adds a candidate; its `id` is new."""
        own = (
            row.id,
            row.expression,
            row.formula,
            row.latex,
            row.name,
            row.verdict,
            row.reason,
            row.equal_to,
        )
        arrays = (
            None if row.fingerprint is None else sealed(row.fingerprint.astype("<f8").tobytes()),
            None if row.curve is None else sealed(row.curve.astype("<f4").tobytes()),
        )
        self._db.execute(
            "INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*own, *arrays, seal(*own)),
        )

    def add_proposal(self, row: ProposalRow) -> None:
        """Adds a proposal; its `t` follows the last one."""
        own, details = (row.t, row.candidate, _json(list(row.tokens))), _json(dict(row.details))
        self._db.execute(
            "INSERT INTO proposals VALUES (?, ?, ?, ?, ?, ?)",
            (*own, details, seal(*own), seal(details)),
        )

    def add_trial(self, trial: Trial) -> None:
        """Adds a trial that is to be dispatched."""
        own = (trial.id, trial.candidate, trial.replicate, trial.rung, int(trial.baseline))
        self._db.execute(
            "INSERT INTO trials (id, candidate, replicate, rung, baseline, seal) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (*own, seal(*own, trial.expression)),
        )

    def add_outcome(self, trial: int, outcome: Outcome) -> None:
        """Adds what came of a trial; a second outcome of one trial is refused."""
        own = (trial, outcome.status, *map(_real, (outcome.reward, outcome.loss, outcome.seconds)))
        details = _json(dict(outcome.details))
        self._db.execute(
            "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*own, details, time.time(), seal(*own), seal(details)),
        )

    def add_attempt(self, trial: int) -> int:
        """Counts a worker that died during a trial; returns how many there were."""
        self._db.execute("UPDATE trials SET attempts = attempts + 1 WHERE id = ?", (trial,))
        return int(
            self._db.execute("SELECT attempts FROM trials WHERE id = ?", (trial,)).fetchone()[0]
        )

    def put_snapshot(self, t: int, state: bytes, metrics: Mapping[str, Any]) -> None:
        """Keeps the strategy's state as it is before proposal `t`, and drops the one before it."""
        last = "SELECT max(t) FROM snapshots WHERE t < ?"
        self._db.execute(f"UPDATE snapshots SET state = x'' WHERE t = ({last})", (t,))
        self._db.execute(
            "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)",
            (t, sealed(state), _json(dict(metrics))),
        )

    def put_meta(self, key: str, value: str) -> None:
        """Sets one entry of the run's facts."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def begin_sitting(self, details: Mapping[str, Any]) -> int:
        """Notes that a driver begins to work on the run; returns the sitting's number."""
        cursor = self._db.execute(
            "INSERT INTO sittings (started, details) VALUES (?, ?)",
            (time.time(), _json(dict(details))),
        )
        return int(cursor.lastrowid or 0)

    def update_sitting(self, sitting: int, seconds: float, details: Mapping[str, Any]) -> None:
        """Notes how long the driver has worked and what it has counted so far."""
        self._db.execute(
            "UPDATE sittings SET seconds = ?, details = ? WHERE id = ?",
            (seconds, _json(dict(details)), sitting),
        )

    # Reading.

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Everything read inside is of one moment, though the driver may be writing meanwhile."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    def meta(self, key: str) -> str | None:
        """One entry of the run's facts, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def number(self, expression: str) -> int | None:
        """The number of the candidate of this canonical text, or None."""
        query = "SELECT id FROM candidates WHERE expression = ?"
        row = self._db.execute(query, (expression,)).fetchone()
        return None if row is None else int(row[0])

    def candidate(self, number: int) -> CandidateRow:
        """The candidate of this number, which there is."""
        query = f"SELECT {_CANDIDATE}, fingerprint, curve FROM candidates WHERE id = ?"
        row = self._db.execute(query, (number,)).fetchone()
        with self._decoding("candidates"):
            return _candidate(*row)

    def candidates(self, *, sampled: bool = True) -> Iterator[CandidateRow]:
        """All candidates in the order in which they were met.

        Args:
            sampled: Whether rows carry fingerprint and curve, most of their bytes.
        """
        arrays = "fingerprint, curve" if sampled else "NULL, NULL"
        query = f"SELECT {_CANDIDATE}, {arrays} FROM candidates ORDER BY id"
        with self._decoding("candidates"):
            for row in self._db.execute(query):
                yield _candidate(*row)

    def proposed(self) -> Iterator[int]:
        """For each proposal, in order, the number of its candidate."""
        query = "SELECT seal, t, candidate, tokens FROM proposals ORDER BY t"
        with self._decoding("proposals"):
            for mark, t, candidate, tokens in self._db.execute(query):
                check_seal(mark, t, candidate, tokens)
                yield candidate

    def proposals(self, since: int = 0) -> Iterator[ProposalRow]:
        """Proposals from number `since` on, in order."""
        query = """
            SELECT seal, details_seal, t, candidate, tokens, details FROM proposals
            WHERE t >= ? ORDER BY t
        """
        with self._decoding("proposals"):
            for mark, details_mark, *own, details in self._db.execute(query, (since,)):
                check_seal(mark, *own)
                check_seal(details_mark, details)
                t, candidate, tokens = own
                yield ProposalRow(t, candidate, tuple(json.loads(tokens)), json.loads(details))

    def trials(
        self, *, details: bool = True, of: int | None = None
    ) -> Iterator[tuple[Trial, Outcome | None]]:
        """All trials in the order in which they were planned, with their outcomes if there are.

        Args:
            details: Whether outcomes carry all their details, or only why they have no reward.
            of: Only those of the candidate of this number.
        """
        told = "o.details" if details else "CASE o.status WHEN 'ok' THEN '{}' ELSE o.details END"
        only = "" if of is None else "WHERE t.candidate = ?"
        query = f"""
            SELECT t.id, t.candidate, t.replicate, t.rung, t.baseline, t.seal, c.expression,
                   o.trial, o.status, o.reward, o.loss, o.seconds, o.seal, {told}, o.details_seal
            FROM trials t JOIN candidates c ON c.id = t.candidate
            LEFT JOIN outcomes o ON o.trial = t.id {only} ORDER BY t.id
        """
        with self._decoding("trials or outcomes"):
            for row in self._db.execute(query, () if of is None else (of,)):
                check_seal(row[5], *row[:5], row[6])
                number, candidate, replicate, rung, baseline, _, expression = row[:7]
                trial = Trial(number, candidate, expression, replicate, rung, bool(baseline))
                yield trial, None if row[7] is None else _outcome(*row[7:], whole=details)

    def outcome(self, trial: int) -> Outcome | None:
        """What came of a trial, with all details; None if nothing has yet."""
        query = """
            SELECT trial, status, reward, loss, seconds, seal, details, details_seal
            FROM outcomes WHERE trial = ?
        """
        row = self._db.execute(query, (trial,)).fetchone()
        with self._decoding("outcomes"):
            return None if row is None else _outcome(*row, whole=True)

    def finished(self) -> dict[int, float]:
        """For each trial with an outcome, when that was recorded, Unix time."""
        return dict(self._db.execute("SELECT trial, finished FROM outcomes ORDER BY trial"))

    def pulse(self) -> tuple[int, int, float | None]:
        """Trials planned, trials with an outcome, and when the last one was recorded, Unix time."""
        query = "SELECT (SELECT count(*) FROM trials), count(*), max(finished) FROM outcomes"
        return self._db.execute(query).fetchone()

    def planned(self) -> dict[tuple[int, bool], int]:
        """How many trials are planned, by rung and by whether they are baselines'."""
        query = "SELECT rung, baseline, count(*) FROM trials GROUP BY rung, baseline"
        return {(rung, bool(own)): count for rung, own, count in self._db.execute(query)}

    def snapshot(self) -> tuple[int, bytes] | None:
        """The latest kept state of the strategy and the proposal it stands before."""
        row = self._db.execute("SELECT t, state FROM snapshots ORDER BY t DESC LIMIT 1").fetchone()
        with self._decoding("snapshots"):
            return None if row is None else (int(row[0]), unsealed(row[1]))

    def metrics(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """What the strategy told of itself, by the proposal it stood before."""
        with self._decoding("snapshots"):
            for t, metrics in self._db.execute("SELECT t, metrics FROM snapshots ORDER BY t"):
                yield int(t), json.loads(metrics)

    def sittings(self) -> list[tuple[float, dict[str, Any]]]:
        """Seconds and details of each time a driver worked on the run."""
        query = "SELECT seconds, details FROM sittings ORDER BY id"
        with self._decoding("sittings"):
            return [(float(s), json.loads(details)) for s, details in self._db.execute(query)]

    def worked(self) -> float:
        """Seconds that drivers have worked on the run.

        A sitting that goes on or was killed counts up to its last outcome.
        """
        sittings = self.sitting_times()
        total = 0.0
        for place, (started, seconds) in enumerate(sittings):
            following = [time for time, _ in sittings[place + 1 :]] or [math.inf]
            query = "SELECT max(finished) FROM outcomes WHERE finished >= ? AND finished < ?"
            (last,) = self._db.execute(query, (started, following[0])).fetchone()
            total += seconds or max(0.0, (last or started) - started)
        return total

    def sitting_times(self) -> list[tuple[float, float]]:
        """When each sitting began, Unix time, and its seconds; 0 of one that goes on or was killed."""
        return list(self._db.execute("SELECT started, seconds FROM sittings ORDER BY id"))


_CANDIDATE = "seal, id, expression, formula, latex, name, verdict, reason, equal_to"


def _candidate(mark: int, *row: Any) -> CandidateRow:
    *own, print_, curve = row
    check_seal(mark, *own)
    return CandidateRow(
        *own,
        fingerprint=None if print_ is None else np.frombuffer(unsealed(print_), "<f8"),
        curve=None if curve is None else np.frombuffer(unsealed(curve), "<f4").reshape(2, -1),
    )


def _outcome(*row: Any, whole: bool) -> Outcome:
    """An outcome with all its details, or only with why it has no reward."""
    *own, mark, details, details_mark = row
    check_seal(mark, *own)
    _, status, reward, loss, seconds = own
    if not whole and status == "ok":
        return Outcome(status, reward, loss, seconds)
    check_seal(details_mark, details)
    found = json.loads(details)
    if not whole:
        found = {name: found[name] for name in ("reason", BY_CHANCE) if name in found}
    return Outcome(status, reward, loss, seconds, found)


def _real(value: float | None) -> float | None:
    """A number as a column of reals gives it back."""
    return None if value is None else float(value)


def _companions(path: Path) -> tuple[Path, ...]:
    """Files that SQLite keeps beside a database."""
    return tuple(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))


def _lock(folder: Path) -> int:
    """Takes the run's lock for as long as the process lives, however it ends."""
    path = folder / LOCK_NAME
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise JournalError(f"{path} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise JournalError(f"another driver is working on {folder}") from None
    except OSError as error:
        os.close(handle)
        raise JournalError(f"{path} cannot be locked: {error.strerror}") from None
    return handle


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=True)
