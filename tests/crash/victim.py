"""`actsearch` with a fault point: at its COUNT-th passing the process kills itself, with SIGKILL.

    python victim.py POINT COUNT search --run-dir runs/killed …

Everything else is the real command. The points stand in `POINTS`.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.cli import run

POINTS = {
    "run half made": "search.journal:Journal.create.after",
    "proposal in its transaction": "search.journal:Journal.add_proposal.after",
    "proposals committed": "search.planner:Planner._propose.after",
    "trial dispatched": "launch.pool:Pool.start.after",
    "outcome in its transaction": "search.journal:Journal.add_outcome.after",
    "outcome committed": "launch.tally:Tally.count.after",
    "inside the update": "search.ppo:update.after",
    "state in its transaction": "search.journal:Journal.put_snapshot.after",
    "rung in its transaction": "search.planner:Planner._promote.inside",
    "end in its transaction": "search.planner:Planner.conclude.inside",
    "report half written": "pathlib:Path.replace.halfway",
}
"""By name, where the process dies: after a call, in the journal's transaction inside it, or when a
file is half written."""


def arm(point: str, count: int) -> None:
    """Replaces what the point names by the same with a death in it."""
    module, _, path = POINTS[point].partition(":")
    *owners, name, when = path.split(".")
    owner: Any = importlib.import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    die = _after(count)
    original = getattr(owner, name)
    if when == "inside":
        setattr(owner, name, _with_death_inside(original, die))
    elif when == "halfway":
        setattr(owner, name, _halfway(original, die))
    else:
        setattr(owner, name, _then(original, die))


def _after(count: int) -> Callable[[], None]:
    """What kills the process when it is called for the `count`-th time."""
    passed = 0

    def die() -> None:
        nonlocal passed
        passed += 1
        if passed == count:
            os.kill(os.getpid(), signal.SIGKILL)

    return die


def _then(original: Callable[..., Any], die: Callable[[], None]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        value = original(*arguments, **options)
        if value is not False:  # a planner that had nothing to propose has committed nothing
            die()
        return value

    return call


def _with_death_inside(original: Callable[..., Any], die: Callable[[], None]) -> Callable[..., Any]:
    """The same method of a planner, which dies after everything but the commit."""

    def call(planner: Any, *arguments: Any) -> Any:
        journal = planner._journal
        execute = journal._db.execute

        def watched(statement: str, *values: Any) -> Any:
            if statement == "COMMIT":
                die()
            return execute(statement, *values)

        journal._db.execute = watched
        try:
            return original(planner, *arguments)
        finally:
            del journal._db.execute

    return call


def _halfway(original: Callable[..., Any], die: Callable[[], None]) -> Callable[..., Any]:
    """Instead of taking another file's place, a file loses its second half."""

    def call(path: Path, target: Path) -> Path:
        os.truncate(path, path.stat().st_size // 2)
        die()
        return original(path, target)

    return call


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    sys.exit(run(sys.argv[3:]))
