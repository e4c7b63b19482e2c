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

_ADVICE = {
    sqlite3.SQLITE_FULL: f"the disk is full; {SAFE}: make room and repeat the command",
    sqlite3.SQLITE_READONLY: f"it may not be written; {SAFE}: allow writing and repeat the command",
    sqlite3.SQLITE_IOERR: f"the disk does not do what it should; {SAFE} as far as the disk is: "
    "repeat the command on a sound one",
    sqlite3.SQLITE_CANTOPEN: "the folder or the right to write there is missing",
    sqlite3.SQLITE_BUSY: "another program holds it: end that one and repeat the command",
    sqlite3.SQLITE_CORRUPT: "it is damaged: put a copy in its place or begin a new run",
    sqlite3.SQLITE_NOTADB: "it is damaged or no journal: put a copy in its place or begin a new run",
}


class JournalError(ValueError):
    """The journal cannot be used; the message is one line that says why."""


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
            with a write-ahead log that is on disk with every commit.

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
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
    return connection


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turns SQLite's errors inside into `JournalError`s that name the file."""
    try:
        yield
    except sqlite3.Error as error:
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
    except sqlite3.Error as error:
        raise _in_words(path, error) from None


def _in_words(path: Path, error: sqlite3.Error) -> JournalError:
    code = getattr(error, "sqlite_errorcode", None)
    advice = None if code is None else _ADVICE.get(code & 0xFF)
    return JournalError(f"{path}: {error}" + ("" if advice is None else f": {advice}"))
