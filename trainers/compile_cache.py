"""Compiled programs kept between processes, so that a search starts in seconds the second time.

The traced training step serves every candidate of a space and takes 12 to 20 s to compile; read
back, 2 s. The driver's small programs, which look at operators on a grid, take 5 s together; read back,
less than one. A specialised step is used once and not kept.

JAX's persistent cache does the work. It writes its files in place, so that a process that dies in
between leaves a torn one, which nobody repairs. Each process therefore has JAX read and write in a
folder of its own, filled with links to what is known, and publishes what is new by a link, which is
there whole or not at all.

The workers of a machine begin together and want the same program. One of them compiles it, which takes
half a gigabyte besides the time, and the others wait for what it publishes.

A kept program is machine code: it is only read from a folder that belongs to this user and that
nobody else may write. The folder is named by the version of jaxlib and by the processor, because
XLA compiles for the very instructions that it finds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jaxlib.version
from jax.experimental.compilation_cache import compilation_cache

from spaces.scratch import scratch_path

from .processor import processor_facts

KEPT = 64
"""Files that stay unless another number is asked for; the least recently written go first. A traced
step is three, 1 MB in all."""
_PRIVATE = "process"
_TURNS = "turns"
"""The folder of the locks by which processes wait for each other's programs."""
_ABANDONED_S = 24 * 3600.0
"""Age at which a process's own folder is taken for one that a crash left behind."""
_PATIENCE_S = 300.0
"""For so long a process waits for another one's program before it compiles its own."""
_LOOK_EVERY_S = 0.05
"""Seconds between two tries for a lock: one that is waited for could not be given up after a time."""


def default_folder() -> Path | None:
    """Where this machine's programs are kept: in `$XDG_CACHE_HOME` or `~/.cache`, if any."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # nobody's process
        return None
    version = jaxlib.version.__version__
    return root / "actsearch" / "compiled" / f"jaxlib-{version}-{_processor()}"


def _processor() -> str:
    facts = processor_facts()
    told = ("model name", "flags", "Features", "CPU part")
    described = {name: facts[name] for name in told if name in facts} or facts
    return hashlib.sha256(repr(sorted(described.items())).encode()).hexdigest()[:12]


@contextlib.contextmanager
def kept_programs(
    folder: Path | None, *, made: str | None = None, most: int = KEPT
) -> Iterator[None]:
    """Within it, what JAX compiles is read from `folder`, or written to it afterwards.

    A folder that cannot be used is no error: then programs are compiled.

    Args:
        folder: As `default_folder`; None keeps nothing.
        made: Tells programs apart: as long as another process is within for the first that has this
            name, this one waits. It decides who waits and nothing else; None waits for nobody.
        most: How many files may stay there.
    """
    if folder is None or not usable(folder):
        yield
        return
    with turn(folder, made) if made else contextlib.nullcontext():
        own = _private_copy(folder)
        if own is None:
            yield
            return
        settings = {
            "jax_compilation_cache_dir": str(own),
            "jax_persistent_cache_min_compile_time_secs": 0.0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
            # Its folder would be ours, which has another name each time, and a part of the key.
            "jax_persistent_cache_enable_xla_caches": "none",
        }
        try:
            with _configured(settings):
                yield
                with contextlib.suppress(OSError):
                    _publish(own, folder, most)
        finally:
            shutil.rmtree(own, ignore_errors=True)


def all_compiled() -> contextlib.AbstractContextManager[None]:
    """Within it nothing comes from a cache of JAX's, whoever has set one up."""
    return _configured({"jax_enable_compilation_cache": False})


@contextlib.contextmanager
def turn(folder: Path, name: str) -> Iterator[None]:
    """Waits while another process of this machine is the first within for a name.

    A file has bytes once one was through. The kernel holds its lock, which goes with a process that
    is killed. Where it cannot be had, nobody waits.
    """
    file = folder / _TURNS / name
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        yield
        return
    try:
        first = _locked_first(handle)
        yield
        if first:
            with contextlib.suppress(OSError):
                os.write(handle, b"made")
                keep_latest(file.parent, KEPT)
    finally:
        os.close(handle)


def _locked_first(handle: int) -> bool:
    """Whether this process has the lock and is the first within; False: it waits no more."""
    try:
        import fcntl
    except ImportError:  # a system without such locks
        return False
    end = time.monotonic() + _PATIENCE_S
    while not os.fstat(handle).st_size and time.monotonic() < end:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOOK_EVERY_S)
        except OSError:
            return False
        else:
            if not os.fstat(handle).st_size:
                return True
            fcntl.flock(handle, fcntl.LOCK_UN)
    return False


@contextlib.contextmanager
def _configured(settings: dict[str, Any]) -> Iterator[None]:
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        _configure(settings)
        yield
    finally:
        _configure(before)


def _configure(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # it remembers the folder that it found first


def usable(folder: Path) -> bool:
    """Whether the folder is there, this user's, and writable by nobody else."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return False
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        return False
    return not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _private_copy(folder: Path) -> Path | None:
    """A new folder inside `folder` with links to its files; None if that cannot be made."""
    try:
        for left in folder.glob(f"{_PRIVATE}-*"):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:  # another machine's
                shutil.rmtree(left, ignore_errors=True)
        own = scratch_path(folder, _PRIVATE)
        own.mkdir(mode=0o700)
    except OSError:
        return None
    for file in _files(folder):
        with contextlib.suppress(OSError):  # another process may just have dropped it
            os.link(file, own / file.name)
    return own


def _publish(own: Path, folder: Path, most: int) -> None:
    for file in _files(own):
        with contextlib.suppress(FileExistsError):
            os.link(file, folder / file.name)
    keep_latest(folder, most)


def keep_latest(folder: Path, most: int) -> None:
    """Removes the files that were written first, if there are more than `most`."""
    for old in sorted(_files(folder), key=lambda file: -file.stat().st_mtime)[most:]:
        old.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]
