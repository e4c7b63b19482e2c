"""Scratch files and folders that say whose they are, so that what a killed process left is removed.

A scratch name ends in the machine and the process that it belongs to. Whoever makes the next one in
the same place removes those whose process is gone; those of other machines, which may share the
folder, are left to them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
from pathlib import Path


def scratch_path(folder: Path, stem: str) -> Path:
    """A path of this process's own, `folder/stem-MACHINE-PROCESS`; what gone ones left is removed.

    Nothing is made. What this process had there before is removed as well.
    """
    remove_abandoned(folder, stem)
    path = folder / f"{stem}-{_machine()}-{os.getpid()}"
    _remove(path)
    return path


def remove_abandoned(folder: Path, stem: str) -> None:
    """Removes what processes of this machine that are gone have left; faults are passed over."""
    for path in folder.glob(f"{stem}-{_machine()}-*"):
        owner = path.name.rpartition("-")[2]
        if owner.isdecimal() and not _lives(int(owner)):
            _remove(path)


def _machine() -> str:
    """Six letters for this machine, because sockets' paths must be short."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
