"""SQLite as the journal uses it: what is committed is on disk, and its errors are told in words.

A connection that SQLite's own errors leave as `JournalError`, one line that says what happened to
the file, what of the run is safe, and what to do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SAFE = "every trial that was recorded is safe"

_DAMAGED = "it is damaged: put a copy in its place or begin a new run"

_ADVICE = {
    sqlite3.SQLITE_ERROR: _DAMAGED,
    sqlite3.SQLITE_FULL: f"the disk is full; {SAFE}: make room and repeat the command",
    sqlite3.SQLITE_READONLY: f"it may not be written; {SAFE}: allow writing and repeat the command",
    sqlite3.SQLITE_IOERR: f"the disk does not do what it should; {SAFE} as far as the disk is: "
    "repeat the command on a sound one",
    sqlite3.SQLITE_CANTOPEN: "the folder or the right to write there is missing",
    sqlite3.SQLITE_BUSY: "another program holds it: end that one and repeat the command",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: "it is damaged or no journal: put a copy in its place or begin a new run",
}


_NO_LOG = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL})
"""Errors of a file system that has no memory to share between the users of a write-ahead log."""


class JournalError(ValueError):
    """The journal cannot be used; the message is one line that says why.

    Args:
        message: That line.
        code: SQLite's primary code of the error, where it was SQLite's.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class Connection(sqlite3.Connection):
    """A connection whose errors are `JournalError`s that name the file."""

    path: Path

    def cursor(self, *_: Any) -> Cursor:  # type: ignore[override]  # no other kind is ever asked for
        """A cursor with the same errors."""
        return super().cursor(Cursor)

    def execute(self, *arguments: Any) -> Cursor:  # type: ignore[override]  # likewise
        """Runs a statement."""
        return self.cursor().execute(*arguments)

    def executemany(self, *arguments: Any) -> Cursor:  # type: ignore[override]  # likewise
        """Runs a statement for each of some rows."""
        return self.cursor().executemany(*arguments)


class Cursor(sqlite3.Cursor):
    """A cursor whose errors are `JournalError`s that name the file."""

    @property
    def _path(self) -> Path:
        assert isinstance(self.connection, Connection)
        return self.connection.path

    def execute(self, *arguments: Any) -> Cursor:
        """Runs a statement."""
        return _told(self._path, super().execute, *arguments)

    def executemany(self, *arguments: Any) -> Cursor:
        """Runs a statement for each of some rows."""
        return _told(self._path, super().executemany, *arguments)

    def fetchone(self) -> Any:
        """The next row, or None."""
        return _told(self._path, super().fetchone)

    def __next__(self) -> Any:
        return _told(self._path, super().__next__)


def connect(path: Path, *, mode: str = "") -> Connection:
    """Opens a database.

    Args:
        path: The file; it is made if it is missing and nothing is said of a mode.
        mode: Parameters of an SQLite address, for example `mode=ro`; none opens it for writing,
            so that every commit is on disk before it returns.

    Raises:
        JournalError: It cannot be opened.
    """
    with faults(path):
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?{mode}",
            uri=True,
            isolation_level=None,
            timeout=5.0,
            factory=Connection,
        )
    assert isinstance(connection, Connection)
    connection.path = path
    if not mode:
        try:
            _log(connection)
            connection.execute("PRAGMA foreign_keys=ON")
        except BaseException:
            connection.close()
            raise
    return connection


def in_memory(file: Path, path: Path) -> Connection:
    """A copy in memory of a database whose file may be changed; `path` is what errors name."""
    with faults(path):
        source = sqlite3.connect(file)
        try:
            source.execute("PRAGMA journal_mode=DELETE")  # folds a log into the file
            connection = sqlite3.connect(":memory:", isolation_level=None, factory=Connection)
            source.backup(connection)
        finally:
            source.close()
    connection.path = path
    return connection


def _log(connection: Connection) -> None:
    """Has commits logged ahead, or, on a file system where that cannot be, undone from a journal.

    A write-ahead log needs memory that all who open the file share, which a network's file system
    may refuse, by an error or by keeping the mode that it has. A rollback journal needs none: a
    commit takes some more syncs, its folder is synced too (EXTRA), and a reader can make the driver
    wait, for a minute before that is an error.
    """
    try:
        granted = _log_mode(connection, "WAL")
    except JournalError as error:
        if error.code not in _NO_LOG:
            raise
        granted = ""
    if granted == "wal":
        connection.execute("PRAGMA synchronous=FULL")
        return
    if _log_mode(connection, "DELETE") != "delete":
        raise JournalError(
            f"{connection.path}: its file system can keep neither a write-ahead log nor a rollback "
            f"journal; {SAFE}: copy the folder to a local disk and repeat the command there"
        )
    connection.execute("PRAGMA synchronous=EXTRA")
    connection.execute("PRAGMA busy_timeout=60000")


def _log_mode(connection: Connection, wanted: str) -> str:
    """Asks for a mode; returns the one that is granted."""
    return str(connection.execute(f"PRAGMA journal_mode={wanted}").fetchone()[0])


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turns SQLite's errors inside into `JournalError`s that name the file."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _in_words(path, error) from None


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one that takes its place; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _told(path: Path, call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except sqlite3.IntegrityError:  # a fault of the program that writes, not of the file
        raise
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _in_words(path, error) from None


def _in_words(path: Path, error: sqlite3.Error | UnicodeDecodeError) -> JournalError:
    """The second kind is what Python makes of an SQLite error that quotes damaged bytes."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None and "decode" in str(error):
        return JournalError(f"{path}: a text in it is not what was written: {_DAMAGED}")
    primary = None if code is None else code & 0xFF
    advice = "" if primary is None else _ADVICE.get(primary, "")
    told = "".join(each if each.isprintable() else " " for each in str(error))
    return JournalError(f"{path}: {told}{advice and f': {advice}'}", primary)
