"""Runs commands of actsearch one after another and notes what of a stranger's folder they run.

    python audited.py FOLDER MARK < COMMANDS

COMMANDS is a JSON list of argument lists; FOLDER is the stranger's, MARK a word that only stands in
texts of it. Written is a JSON list of `[arguments, code, output, errors, events]`. A search or a
resume ends where its driver would begin, after its planner has taken up the journal.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from types import SimpleNamespace
from typing import Any

FOLDER, MARK = sys.argv[1:] if __name__ == "__main__" else ("", "")

STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pty.spawn",
          "socket.connect", "socket.bind", "ctypes.dlopen", "sqlite3.enable_load_extension",
          "sqlite3.load_extension", "pickle.find_class", "marshal.loads")  # fmt: skip
"""Events of the interpreter that mean that something is started, loaded or reached."""

CODE = (".py", ".pyc", ".so", ".pth", ".pkl", ".npy", "matplotlibrc", ".cfg")
"""Files that are code or as good as code."""

events: list[str] = []
quiet = True


def note(event: str, arguments: tuple[Any, ...]) -> None:
    """Keeps what should not happen."""
    if quiet:
        return
    if event == "exec":
        code = arguments[0]
        name = str(getattr(code, "co_filename", ""))
        if is_inside(name) or MARK in str(getattr(code, "co_consts", "")):
            events.append(f"exec {name}")
    elif event == "compile":
        source = arguments[0]
        text = source.decode(errors="replace") if isinstance(source, bytes) else str(source)
        if MARK in text or is_inside(str(arguments[1])):
            events.append(f"compile {arguments[1]}")
    elif event == "open":
        path = str(arguments[0])
        if is_inside(path) and path.endswith(CODE):
            events.append(f"open {path}")
    elif event == "ctypes.dlopen":
        if is_inside(str(arguments[0])):
            events.append(f"{event} {arguments[0]}")
    elif event == "pickle.find_class" and of_kept_programs():
        pass  # the user's own, in a folder that nobody else may write
    elif event == "marshal.loads":
        pass  # every import does; what is imported from the folder is opened first
    elif event in STARTS and not (event == "subprocess.Popen" and arguments[0] == "fc-list"):
        events.append(f"{event} {arguments}"[:300])


def of_kept_programs() -> bool:
    """Whether it is `trainers.ready_programs` that has something unpickled."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == "trainers.ready_programs":
            return True
        frame = frame.f_back
    return False


def is_inside(path: str) -> bool:
    """Whether a path leads into the stranger's folder."""
    if path.startswith("<"):  # `<string>`: code that has no file
        return False
    return os.path.realpath(path).startswith(os.path.realpath(FOLDER) + os.sep)


def begin_and_stop(run: Any, data: Any, **_: Any) -> str:
    """As `launch.driver.drive`, up to where Ray would be started."""
    from launch import prepare
    from launch.errors import RunFailedError

    prepare.prepare_jax()
    prepare.check_same_data(run, data)
    assignment: Any = SimpleNamespace(
        train=run.science.train,
        operators=run.operators,
        core_units=run.science.space.core_units,
        baselines=run.science.search.baseline_keys,
    )
    with prepare.operators_at_hand():
        prepare.make_planner(run, assignment, chance=0.1)
    raise RunFailedError("the driver would begin")


def main() -> None:
    """Runs what standard input asks for."""
    from launch import driver
    from launch.cli import run

    global quiet
    commands = json.load(sys.stdin)
    driver.drive = begin_and_stop
    found = []
    sys.addaudithook(note)
    for arguments in commands:
        out, err = io.StringIO(), io.StringIO()
        events.clear()
        code: Any = "?"
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            quiet = False
            try:
                code = run(arguments)
            except BaseException as error:
                code = f"{type(error).__name__}: {error}"
            finally:
                quiet = True
        found.append([arguments, code, out.getvalue(), err.getvalue(), list(events)])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
