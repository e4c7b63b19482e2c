"""Reading a run's journal as it is at one moment, while a driver may be writing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.journal import Journal, JournalError

from ..errors import RequestError


@contextmanager
def reading(run: Path) -> Iterator[Journal]:
    """The journal of a run, of one moment; it is opened anew, because a run may have been resumed.

    Args:
        run: The run's folder.

    Raises:
        RequestError: It is missing, damaged or of another version.
    """
    try:
        journal = Journal.read(run)
        try:
            with journal.moment():
                yield journal
        finally:
            journal.close()
    except JournalError as error:
        raise RequestError(str(error)) from None
