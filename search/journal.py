"""The journal of a run: one SQLite file, written by one driver.

What is committed is on disk: write-ahead log with `synchronous=FULL`, 0.2 ms a commit. Proposals
are committed before their trials are dispatched, each outcome before the next dispatch, and the
strategy's state together with the proposals that it made. Candidates carry their formula and their
sampled curve, so that looking at a run never evaluates anybody's operators. Nothing in the file is
ever executed or unpickled.

Here it is made, opened and guarded: one driver at a time, the file that was opened and no other, the
tables of this version and no others. Rows are written and read by `search.row_writer` and
`search.row_reader`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spaces.scratch import scratch_path

from .database import SAFE, Connection, Cursor, connect, identity, in_memory
from .database import JournalError as JournalError
from .foreign import check_kinds, check_tables
from .lock import RunLock
from .row_writer import RowWriter
from .schema import KNOWN_SCHEMA, SCHEMA, SCHEMA_VERSION, statements
from .schema import CandidateRow as CandidateRow
from .schema import ProposalRow as ProposalRow

FILE_NAME = "journal.sqlite"


class Journal(RowWriter):
    """A run's journal, opened for writing by its only driver, or for reading.

    Use `Journal.create`, `Journal.open` and `Journal.read`.
    """

    def __init__(self, folder: Path, connection: Connection, lock: RunLock | None) -> None:
        super().__init__(connection)
        self.folder = folder
        self._lock = lock
        self._identity = identity(connection.path)

    @classmethod
    def create(
        cls,
        folder: Path,
        meta: Mapping[str, str],
        begin: Callable[[Journal], None] | None = None,
        *,
        lock: RunLock | None = None,
    ) -> Journal:
        """Makes the journal of a new run; where that fails nothing of it is left.

        Args:
            folder: The run's folder; it exists.
            meta: What is written once and never changes, for example the hash of the operators.
            begin: Writes what the run begins with, in the same transaction; None: nothing.
            lock: The folder's lock, if the caller has it; it is the journal's once that is made.

        Raises:
            JournalError: There is one, another driver is making one, or it cannot be written.
        """
        path = folder / FILE_NAME
        if lock is None:
            lock = RunLock.take(folder)
            try:
                return cls.create(folder, meta, begin, lock=lock)
            except BaseException:
                lock.release(remove=not path.exists())
                raise
        # Under another name until it is whole: however this ends, there is a journal or none.
        scratch = path.with_name(f".{FILE_NAME}")
        try:
            if path.exists():
                raise JournalError(f"{path} exists already")
            _remove(scratch)
            connection = connect(scratch)
            try:
                journal = cls(folder, connection, None)
                with journal.transaction():
                    for statement in statements(SCHEMA):
                        journal.execute(statement)
                    facts = {"schema_version": str(SCHEMA_VERSION), "created": repr(time.time())}
                    for key, value in {**facts, **meta}.items():
                        journal.put_meta(key, value)
                    if begin is not None:
                        begin(journal)
                # Closing would leave what a full disk does not take in a log of the wrong name.
                journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()
            scratch.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                _remove(scratch)
            raise
        try:
            _sync(folder)
            return cls(folder, connect(path), lock)
        except BaseException:
            _remove(path)
            raise

    @classmethod
    def open(cls, folder: Path) -> Journal:
        """Opens an existing journal for writing.

        Raises:
            JournalError: It is missing, damaged, of another version, or another driver has it.
        """
        path = _found(folder)
        lock = RunLock.take(folder)
        try:
            journal = cls(folder, connect(path), lock)
        except BaseException:
            lock.release()
            raise
        try:
            journal._check(journal._version())
            journal._check_whole()
        except BaseException:
            journal._db.close()
            lock.release()
            raise
        return journal

    @classmethod
    def read(cls, folder: Path) -> Journal:
        """Opens a journal for looking at it: a finished one, a live one, a read-only copy.

        Nothing is written, and what is committed is seen, though it may stand in a log beside the
        file that only a writer could fold into it.

        Raises:
            JournalError: It is missing, damaged or of another version.
        """
        path = _found(folder)
        problem: JournalError | None = None
        for opened in _ways(path):
            try:
                connection = opened()
            except JournalError as error:
                problem = problem or error
                continue
            version: str | None = None
            try:
                journal = cls(folder, connection, None)
                version = journal._version()
                journal._check(version)
                return journal
            except JournalError as error:
                connection.close()
                problem = problem or error
                if version is not None:
                    break
        assert problem is not None
        raise problem

    def close(self) -> None:
        """Folds the write-ahead log into the file, if that can be, and lets go of the lock."""
        if self._lock is not None:
            with contextlib.suppress(JournalError):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is committed together, or not at all.

        Raises:
            JournalError: It cannot be written, or the file or its lock has been removed or replaced.
        """
        if identity(self.path) != self._identity:
            raise JournalError(
                f"{self.path} was removed or replaced while the run went on, and nothing more is "
                f"written; {SAFE} if the file is somewhere: put it back and repeat the command"
            )
        if self._lock is not None and not self._lock.in_place:
            raise JournalError(
                f"{self._lock.path} was removed or replaced while the run went on, so that another "
                f"driver may be at work; {SAFE}: repeat the command"
            )
        with super().transaction():
            yield

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Cursor:
        """Runs a statement, for tables that have a module of their own."""
        return self._db.execute(statement, values)

    def _version(self) -> str | None:
        check_kinds(self._db)
        # Not by `meta`, whose columns another version may have otherwise.
        query = "SELECT value FROM meta WHERE key = 'schema_version'"
        row = self._db.execute(query).fetchone()
        return None if row is None else str(row[0])

    def _check(self, version: str | None) -> None:
        """Whether the tables are those of this version, and nothing stands beside them."""
        if version is None or not version.isdecimal():
            raise self.damaged("it has no version")
        if int(version) != SCHEMA_VERSION:
            newer = int(version) > SCHEMA_VERSION
            advice = "update actsearch" if newer else "only an older actsearch can go on with it"
            raise JournalError(
                f"{self.path} has schema version {version}, this actsearch reads "
                f"{SCHEMA_VERSION}: {advice}"
            )
        check_tables(self._db, (*statements(SCHEMA), *statements(KNOWN_SCHEMA)))

    def _check_whole(self) -> None:
        """What SQLite can tell of the file's soundness, which is not to be written to otherwise."""
        (found,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise self.damaged(" ".join(found.split()))


_COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite adds to the names of files that it keeps beside a database."""


def _found(folder: Path) -> Path:
    """The journal's file, which is there and no link to another one."""
    path = folder / FILE_NAME
    if path.is_symlink():
        raise JournalError(f"{path} is a link to somewhere else: a run's journal is a file")
    if not path.is_file():
        raise JournalError(f"{folder} holds no {FILE_NAME}: it is no run")
    return path


def _ways(path: Path) -> list[Callable[[], Connection]]:
    """How a journal may be opened for looking, the best way first.

    One that nobody writes is read as a file that does not change, which leaves no trace beside it. A
    log beside it needs files and locks that a folder may refuse: then a copy of both is read.
    """
    shared = lambda: connect(path, mode="mode=ro")  # noqa: E731  # three of a kind
    alone = lambda: connect(path, mode="mode=ro&immutable=1")  # noqa: E731
    copied = lambda: _copied(path)  # noqa: E731
    logs = [path.with_name(path.name + suffix) for suffix in ("-wal", "-journal")]
    if any(log.exists() for log in logs):
        return [shared, copied]
    return [alone, shared] if _logs_ahead(path) else [shared, alone]


def _logs_ahead(path: Path) -> bool:
    """Whether a database says that it is written through a write-ahead log, never in place."""
    try:
        with path.open("rb") as file:
            return file.read(20)[18:] == b"\x02\x02"
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from None


def _copied(path: Path) -> Connection:
    """A connection to a copy in memory of what was committed to a database and to its log."""
    scratch = scratch_path(Path(tempfile.gettempdir()), f"actsearch-look-{next(_LOOKS)}")
    try:
        copy = scratch / path.name
        try:
            scratch.mkdir(mode=0o700)
            for suffix in ("", "-wal", "-journal"):
                beside = path.with_name(path.name + suffix)
                if beside.exists():
                    shutil.copyfile(beside, copy.with_name(beside.name))
        except OSError as error:
            raise JournalError(f"{path} cannot be copied to be read: {error.strerror}") from None
        return in_memory(copy, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


_LOOKS = itertools.count()
"""Two copies of one process must not meet."""


def _remove(path: Path) -> None:
    """Removes a database and what SQLite keeps beside it."""
    for each in (path, *(path.with_name(path.name + suffix) for suffix in _COMPANIONS)):
        each.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Has a folder's entries on disk, where a folder can be asked for that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
