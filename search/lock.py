"""The lock of a run's folder: one driver at a time, for as long as its process lives.

The kernel holds it (`flock`), so that a driver that is killed leaves none behind. A file system that
has no locks cannot refuse a second driver, so nothing is written there; looking needs no lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from .database import JournalError, identity

LOCK_NAME = "lock"

LOCKLESS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})
"""What a file system without locks answers."""

_SAFELY = os.O_CLOEXEC | os.O_NOFOLLOW
"""Processes that are started do not inherit the lock, and a link to another file is not followed."""


class RunLock:
    """The lock of a folder, held until `release` or the end of the process. Use `RunLock.take`."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle: int | None = handle

    @classmethod
    def take(cls, folder: Path) -> RunLock:
        """Takes the lock at once or not at all.

        Raises:
            JournalError: Another driver has it, or it cannot be had.
        """
        path = folder / LOCK_NAME
        while True:
            try:
                handle = os.open(path, os.O_RDWR | os.O_CREAT | _SAFELY, 0o644)
            except OSError as error:
                raise JournalError(
                    f"{path} cannot be written: {error.strerror}; what the run has is safe and can "
                    f"be looked at: allow writing there, or copy the folder to where it is allowed"
                ) from None
            lock = cls(path, handle)
            try:
                _flock(folder, handle, fcntl.LOCK_EX)
            except JournalError:
                lock.release()
                raise
            # Whoever makes a run in vain takes its lock's file away; the lock of a file that is no
            # longer in the folder keeps nobody out.
            if lock.in_place:
                return lock
            lock.release()

    @property
    def in_place(self) -> bool:
        """Whether the file that is locked is still the one that another driver would find."""
        if self._handle is None:
            return False
        found = os.fstat(self._handle)
        return identity(self.path) == (found.st_dev, found.st_ino)

    def release(self, *, remove: bool = False) -> None:
        """Lets go of it; with `remove` its file goes first."""
        if self._handle is not None:
            if remove and self.in_place:
                self.path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None


def check_unlocked(folder: Path) -> None:
    """Whether a driver could begin to work here, before anything costly is begun.

    Raises:
        JournalError: Another driver is at work, or the file system has no locks.
    """
    try:
        handle = os.open(folder / LOCK_NAME, os.O_RDONLY | _SAFELY)
    except OSError:
        return
    try:
        _flock(folder, handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _flock(folder: Path, handle: int, kind: int) -> None:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JournalError(
            f"another driver is working on {folder}: look at it with `actsearch watch`, or end that "
            f"driver and repeat the command"
        ) from None
    except OSError as error:
        if error.errno in LOCKLESS:
            raise JournalError(
                f"{folder} is on a file system without locks ({error.strerror}), where nothing would "
                f"keep a second driver out; what the run has is safe and can be looked at: copy the "
                f"folder to a local disk and work on it there"
            ) from None
        raise JournalError(
            f"{folder / LOCK_NAME} cannot be locked: {error.strerror}; what the run has is safe: "
            f"repeat the command on a sound disk"
        ) from None
