"""A run driven from Python: from a script, a thread or a notebook.

The driver works in a process of its own. So the caller's process gets no Ray, no signal handlers
and no settings of JAX, and may be any thread. An interrupt in the caller (Ctrl-C, a notebook's stop
button) stops the driver as Ctrl-C in a terminal does; if the caller's process dies, however it
does, the driver lets trials under way finish and ends. A run can always be gone on with.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from spaces.suggest import did_you_mean

from .config import PlacementConfig, Science
from .errors import DONE, STOPPED, WRONG_REQUEST, RequestError, RunFailedError
from .flags import build, check_named, flags, read_config, to_json
from .inspection.opened_run import OpenedRun, open_run
from .presets import DEFAULT, PRESETS
from .run import new_folder

_PREFIX = "actsearch: "


def search(
    folder: Path | str | None = None,
    *,
    preset: str | None = None,
    config: Path | str | None = None,
    science: Science | None = None,
    placement: PlacementConfig | None = None,
    progress: bool = True,
    **options: Any,
) -> OpenedRun:
    """Works on a run until it is finished or stopped, as `actsearch search` does.

    Args:
        folder: The run's folder; an existing run goes on if it asked for the same. None: a new
            folder in `runs/`.
        preset: Starting values: quick (the default), cifar10 or paper.
        config: A JSON file in the form of a run's config.json; beats the preset.
        science: Everything that decides what is found, instead of preset, file and options.
        placement: Where and how long to work, likewise.
        progress: Whether to print progress on standard error.
        options: Flags of `actsearch search` by name, for example `core_units=2`; beat the file.

    Returns:
        The run, opened for reading. One that stopped at its time limit is not `finished`; the same
        call goes on with it.

    Raises:
        RequestError: The request is wrong; nothing was written.
        RunFailedError: The run broke.
        KeyboardInterrupt: The caller was interrupted; trials under way were let finish, or given
            up after a second interrupt. The same call goes on with the run.
    """
    _check_names(options, flags())
    if science is not None or placement is not None:
        if preset is not None or config is not None or options:
            raise RequestError(
                "`science` and `placement` take the place of `preset`, `config` and options"
            )
        science, placement = science or Science(), placement or PlacementConfig()
    else:
        name = preset or DEFAULT
        if name not in PRESETS:
            near = did_you_mean(name, PRESETS)
            raise RequestError(f"`preset` must be one of {', '.join(PRESETS)}, got {name!r}{near}")
        values = read_config(Path(config)) if config is not None else {}
        check_named(values, options, str(config))
        science, placement = build({**PRESETS[name], **values, **options})
    target = Path(folder or new_folder(science.train.dataset, science.search.strategy))
    with tempfile.TemporaryFile() as request:  # without a name, so that nothing is ever left
        request.write(json.dumps(to_json(science, placement)).encode())
        request.seek(0)
        config = f"/dev/fd/{request.fileno()}"
        arguments = ["search", "--run-dir", str(target), "--config", config]
        if _own(science) is not None:
            arguments += ["--operators", science.space.operators]
        if placement.address:
            arguments += ["--address", placement.address]
        _drive(arguments, progress=progress, handed=(request.fileno(),))
    return open_run(target, operators=_own(science))


def resume(
    folder: Path | str, *, operators: str | None = None, progress: bool = True, **options: Any
) -> OpenedRun:
    """Goes on with a run exactly where it stopped, as `actsearch resume` does.

    Args:
        folder: The run's folder.
        operators: Where its own operator set is; needed if it has one.
        progress: Whether to print progress on standard error.
        options: Flags of `actsearch resume` by name, for example `workers="2"`.

    Returns:
        As `search`, which raises the same, too.
    """
    placement = {name: flag for name, flag in flags().items() if flag.section == "placement"}
    _check_names(options, placement)
    build(options)
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    if operators is not None:
        given.append(f"--operators={operators}")
    _drive(["resume", str(folder), *given], progress=progress)
    return open_run(folder, operators=operators)


def _own(science: Science) -> str | None:
    return None if science.space.operators == "paper" else science.space.operators


def _check_names(options: dict[str, Any], allowed: Any) -> None:
    for name in options:
        if name not in allowed:
            near = did_you_mean(name, allowed) or f"; there are {', '.join(allowed)}"
            raise RequestError(f"there is no option `{name}`{near}")


def _drive(arguments: Sequence[str], *, progress: bool, handed: Sequence[int] = ()) -> None:
    """Runs a command of `launch.cli` in a process of its own, and waits for it.

    Args:
        arguments: The command's.
        progress: Whether to print what it says.
        handed: Open files that it gets.

    Raises:
        RequestError: It said so.
        RunFailedError: Likewise, or it died.
        KeyboardInterrupt: We were interrupted; it has ended.
    """
    here = str(Path(__file__).parents[1])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        pass_fds=handed,
        start_new_session=True,  # a terminal's Ctrl-C reaches it through us alone, once
    )
    assert process.stdin is not None and process.stderr is not None
    said: list[str] = []
    pump = threading.Thread(target=_pump, args=(process.stderr, said, progress), daemon=True)
    pump.start()
    interrupted = False
    try:
        while process.poll() is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                interrupted = True
                process.send_signal(signal.SIGINT)
    finally:
        process.stdin.close()
    pump.join(timeout=5.0)
    if interrupted and process.returncode in (DONE, STOPPED):
        raise KeyboardInterrupt
    if process.returncode in (DONE, STOPPED):
        return
    complaints = [line.removeprefix(_PREFIX) for line in said if line.startswith(_PREFIX)]
    message = complaints[-1] if complaints else _last_words(process.returncode, said)
    raise (RequestError if process.returncode == WRONG_REQUEST else RunFailedError)(message)


def _last_words(code: int, said: Sequence[str]) -> str:
    last = f": {said[-1]}" if said else ""
    return f"the driver's process ended with exit code {code}{last}"


def _pump(source: IO[str], said: list[str], progress: bool) -> None:
    """Passes on what the driver says, until it has ended; complaints become exceptions."""
    with source:
        for line in source:
            line = line.rstrip("\n")
            if line:
                del said[:-20]
                said.append(line)
            if progress and not line.startswith(_PREFIX):
                print(line, file=sys.stderr, flush=True)


def _end_with_the_caller() -> None:
    """Waits until the caller's end of our standard input is closed, then stops as told to."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    from .cli import main

    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    main()
