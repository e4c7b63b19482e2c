"""A run's folder: `config.json` says what was asked, `journal.sqlite` what happened."""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import dataclass
from pathlib import Path

from search.journal import FILE_NAME, Journal, JournalError
from spaces import OperatorSource, read_source

from .config import PlacementConfig, Science
from .errors import RequestError
from .flags import build, differences, read_config, to_json

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


def start_or_resume(folder: Path, science: Science, placement: PlacementConfig) -> Run:
    """Makes the run, or takes up the one that is there if it asks the same.

    Raises:
        RequestError: The folder holds something else, or a run that asked for something else.
    """
    if (folder / CONFIG_NAME).exists():
        there, _ = read_run_config(folder)
        found = list(differences(science, there))
        if found:
            raise RequestError(
                f"{folder} holds a run that asked for something else: {'; '.join(found)}"
            )
        if (folder / FILE_NAME).exists():
            return resume(folder, placement, science.space.operators)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestError(
            f"`run_dir` must be a new or empty folder, or a run; {folder} is neither"
        )
    return _create(folder, science, placement, read_source(science.space.operators))


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
    try:
        journal = Journal.open(folder)
    except JournalError as error:
        raise RequestError(str(error)) from None
    there = journal.meta("operators_sha256") or ""
    if there != source.sha256:
        journal.close()
        raise RequestError(
            f"`operators`: {source.spec} is not what {folder} was made with "
            f"(SHA-256 {source.sha256[:12]}…, there {there[:12]}…)"
        )
    return Run(folder, science, placement or before, source, journal, resumed=True)


def read_run_config(folder: Path) -> tuple[Science, PlacementConfig]:
    """What a run was asked to do.

    Raises:
        RequestError: The folder is no run.
    """
    if not (folder / CONFIG_NAME).is_file():
        raise RequestError(f"{folder} holds no {CONFIG_NAME}: it is no run")
    return build(read_config(folder / CONFIG_NAME))


def new_folder(dataset: str, strategy: str) -> Path:
    """A folder for a run that nobody gave a name: by time and by what it does."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return RUNS / f"{stamp}-{dataset}-{strategy}"


def _create(
    folder: Path, science: Science, placement: PlacementConfig, operators: OperatorSource
) -> Run:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = folder / f".{CONFIG_NAME}.{os.getpid()}"
        scratch.write_text(json.dumps(to_json(science, placement), indent=2) + "\n")
        scratch.replace(folder / CONFIG_NAME)
        journal = Journal.create(folder, {"operators_sha256": operators.sha256})
    except OSError as error:
        raise RequestError(f"`run_dir`: cannot write {folder}: {error.strerror}") from None
    except JournalError as error:
        raise RequestError(str(error)) from None
    return Run(folder, science, placement, operators, journal, resumed=False)
