"""A run's folder: `config.json` says what was asked, `journal.sqlite` what happened."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.journal import FILE_NAME, Journal, JournalError
from search.lock import LOCK_NAME, RunLock, check_unlocked
from spaces import OperatorSource, read_source

from .config import PlacementConfig, Science
from .errors import RequestError
from .flags import FROM, build, differences, flags, read_config, to_json
from .inspection.reading import reading

if TYPE_CHECKING:
    from .growing import Beginning

CONFIG_NAME = "config.json"
RUNS = Path("runs")


@dataclass(frozen=True, slots=True)
class Run:
    """A run, with its journal open for writing."""

    folder: Path
    science: Science
    placement: PlacementConfig
    operators: OperatorSource
    journal: Journal
    resumed: bool


def start_or_resume(
    folder: Path,
    science: Science,
    placement: PlacementConfig,
    *,
    parent: Path | None = None,
    data_sha256: str = "",
) -> Run:
    """Makes the run, or takes up the one that is there if it asks the same.

    Args:
        folder: The run's folder.
        science: What it is asked to do.
        placement: Where it works.
        parent: The run that a new one grows from, see `launch.growing`; an existing one needs it no
            more.
        data_sha256: Digest of the images, where there is a parent.

    Raises:
        RequestError: The folder holds something else, or a run that asked for something else, or
            the parent's results are not those of the trainings asked for.
    """
    if (folder / CONFIG_NAME).exists():
        there, _ = read_run_config(folder)
        found = list(differences(science, there))
        if found:
            raise RequestError(
                f"{folder} holds a run that asked for something else: {'; '.join(found)}"
            )
        _check_parent(folder, parent)
        if (folder / FILE_NAME).exists():
            return resume(folder, placement, science.space.operators)
    elif folder.exists() and (not folder.is_dir() or any(map(_is_foreign, folder.iterdir()))):
        raise RequestError(
            f"`run_dir` must be a new or empty folder, or a run; {folder} is neither"
        )
    source = read_source(science.space.operators)
    if parent is None:
        return _create(folder, science, placement, source, None)
    from .growing import growing

    with growing(parent, science, source, data_sha256) as beginning:
        return _create(folder, science, placement, source, beginning)


def resume(folder: Path, placement: PlacementConfig | None, operators: str | None) -> Run:
    """Opens an existing run to go on with it.

    Args:
        folder: The run.
        placement: Where it works now; None: as before.
        operators: Where its operators are now; needed for a set of one's own, because nothing that
            a run's folder names is ever loaded by itself.

    Raises:
        RequestError: It is no run, or its operators are missing or others.
    """
    science, before = read_run_config(folder)
    if operators is None and science.space.operators != "paper":
        raise RequestError(
            f"{folder} was made with operators of its own: name them again, "
            f"--operators {science.space.operators}"
        )
    source = read_source(operators or science.space.operators)
    with reading(folder) as journal:
        there = journal.meta("operators_sha256") or ""
    if there != source.sha256:
        raise RequestError(
            f"`operators`: {source.spec} is not what {folder} was made with "
            f"(SHA-256 {source.sha256[:12]}…, there {there[:12]}…)"
        )
    try:
        journal = Journal.open(folder)
    except JournalError as error:
        raise RequestError(str(error)) from None
    return Run(folder, science, placement or before, source, journal, resumed=True)


def check_free(folder: Path) -> None:
    """Whether a driver could begin to work on a run, looked at before anything costly is begun.

    Raises:
        RequestError: Another driver is at work, or nothing would keep one out.
    """
    try:
        check_unlocked(folder)
    except JournalError as error:
        raise RequestError(str(error)) from None


def read_run_config(folder: Path) -> tuple[Science, PlacementConfig]:
    """What a run was asked to do.

    Raises:
        RequestError: The folder is no run.
    """
    check_run(folder)
    return build(read_config(folder / CONFIG_NAME))


def check_run(folder: Path, what: str = "") -> None:
    """Whether a folder is a run's.

    Raises:
        RequestError: It is none; the message begins with `what`.
    """
    if not folder.exists():
        raise RequestError(f"{what}{folder} does not exist")
    if (folder / CONFIG_NAME).is_symlink():
        raise RequestError(
            f"{what}{folder / CONFIG_NAME} is a link to somewhere else: it is no run"
        )
    if not (folder / CONFIG_NAME).is_file():
        raise RequestError(f"{what}{folder} holds no {CONFIG_NAME}: it is no run")


def inherited(parent: Path, run_dir: Path | None, *, operators_named: bool) -> dict[str, Any]:
    """Values by flag name that a search with a parent has where nobody says otherwise.

    Args:
        parent: The run that it grows from; its science is taken.
        run_dir: The new run's folder; if the run exists, its own science is taken, so that the
            parent may be gone.
        operators_named: Whether somebody says which operators; a set of one's own has to be named.

    Raises:
        RequestError: There is no such run, or its operators have to be named.
    """
    exists = run_dir is not None and (run_dir / CONFIG_NAME).is_file()
    folder = run_dir if exists and run_dir is not None else parent
    check_run(folder, "`from`: ")
    values = read_config(folder / CONFIG_NAME)
    own = values.get("operators", "paper")
    if own != "paper" and not operators_named:
        raise RequestError(
            f"{folder} was made with operators of its own: name them, or others, --operators {own}"
        )
    return {name: value for name, value in values.items() if flags()[name].section != "placement"}


def new_folder(dataset: str, strategy: str) -> Path:
    """A folder that is not there yet, for a run that nobody gave a name: by time and what it does."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = f"{stamp}-{dataset}-{strategy}"
    # One hour of the year comes twice, a clock may be put back, and two may begin in one second.
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(path for each in names if not (path := RUNS / each).exists())


def _check_parent(folder: Path, parent: Path | None) -> None:
    """Whether an existing run grew from where it is said to."""
    document = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    origin = document.get(FROM, {}).get("run")
    if parent is not None and parent.resolve().name != origin:
        grew = "from none" if origin is None else f"from {origin}"
        raise RequestError(f"{folder} holds a run that grew {grew}, not from {parent}")
    if parent is None and origin is not None and not (folder / FILE_NAME).exists():
        raise RequestError(f"{folder} was to grow from {origin}: name it again with --from")


def _create(
    folder: Path,
    science: Science,
    placement: PlacementConfig,
    operators: OperatorSource,
    beginning: Beginning | None,
) -> Run:
    """Makes a run; where that fails nothing of it is left.

    Raises:
        RequestError: It cannot be written, or another driver makes it.
    """
    origin, write = (None, None) if beginning is None else (beginning.origin, beginning.write)
    document = json.dumps(to_json(science, placement, origin), indent=2) + "\n"
    meta = {"operators_sha256": operators.sha256}
    begun = (folder / CONFIG_NAME).exists()
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = RunLock.take(folder)
        if (folder / CONFIG_NAME).exists() != begun or (folder / FILE_NAME).exists():
            lock.release()
            raise RequestError(f"another driver has just made {folder}: repeat the command")
        try:
            _write(folder / CONFIG_NAME, document)
            journal = Journal.create(folder, meta, write, lock=lock)
        except BaseException:
            if not begun:
                (folder / CONFIG_NAME).unlink(missing_ok=True)
            lock.release(remove=True)
            raise
    except BaseException as error:
        for each in new:
            with contextlib.suppress(OSError):
                each.rmdir()
        if isinstance(error, JournalError):
            raise RequestError(f"`run_dir`: {error}") from None
        if isinstance(error, OSError):
            told = f"`run_dir`: cannot write {folder}: {error.strerror}; nothing of it was kept"
            raise RequestError(told) from None
        raise
    return Run(folder, science, placement, operators, journal, resumed=False)


def _write(path: Path, text: str) -> None:
    """Writes a file that is whole or not there, and is on disk."""
    scratch = path.with_name(f".{path.name}")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _is_foreign(path: Path) -> bool:
    """Whether a file is no trace of a run whose making was killed."""
    return path.name != LOCK_NAME and not path.name.startswith((f".{CONFIG_NAME}", f".{FILE_NAME}"))
