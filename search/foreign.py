"""Refuses a journal that holds more than the tables which this package makes.

SQLite runs what a database file brings along: a view is a query that its author chose, which may
never end, a trigger writes whenever we do, and a virtual table hands crafted bytes to a module in
C. A run's journal has none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .database import Connection, JournalError

_COMMENT = re.compile(r"--[^\n]*")
_VIRTUAL = re.compile(r"\s*CREATE\s+VIRTUAL", re.IGNORECASE)


def check_kinds(db: Connection) -> None:
    """Refuses whatever is no plain table, before any is read.

    Raises:
        JournalError: There is a view, a trigger, a virtual table or an index of somebody's own.
    """
    for kind, name, statement in _objects(db):
        if statement is None and kind == "index":  # of a UNIQUE column
            continue
        if kind != "table" or statement is None or _VIRTUAL.match(statement):
            raise _refused(db, "virtual table" if kind == "table" else str(kind), name)


def check_tables(db: Connection, statements: Iterable[str]) -> None:
    """Refuses tables that are not made by one of these statements, word for word.

    Raises:
        JournalError: There is another one.
    """
    ours = {_words(statement) for statement in statements}
    for kind, name, statement in _objects(db):
        if kind == "table" and _words(statement or "") not in ours:
            raise _refused(db, "table", name)


def _objects(db: Connection) -> list[tuple[str, str, str | None]]:
    """What the file says that it holds; SQLite itself would take a statement of another type."""
    found = list(db.execute("SELECT type, name, sql FROM sqlite_master"))
    for kind, name, statement in found:
        if not (isinstance(kind, str) and isinstance(name, str)) or not (
            statement is None or isinstance(statement, str)
        ):
            raise JournalError(
                f"{db.path} is damaged (its list of tables is not what was written): put a copy in "
                f"its place or begin a new run"
            )
    return found


def _words(statement: str) -> str:
    """A statement without comments, spaced alike."""
    return "".join(_COMMENT.sub("", statement).split()).rstrip(";")


def _refused(db: Connection, kind: str, name: object) -> JournalError:
    return JournalError(
        f"{db.path} is no journal of actsearch: it holds the {kind} {str(name)[:80]!r}, which "
        f"actsearch does not make"
    )
