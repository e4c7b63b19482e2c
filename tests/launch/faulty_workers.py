"""A search with real Ray workers that misbehave in one way; the child is made up.

    python faulty_workers.py FOLDER FAULT '{"trials": 12}'

Candidates whose second operand is sin(x) meet the fault: `hangs`, `dies` (SIGKILL, at every attempt), `dies once`,
`raises` (an error that no trainer foresees), `lacks memory`. `cannot begin` is met by no candidate:
no worker gets through its set-up.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from launch.cli import _complain
from launch.commands.work import work
from launch.driver import load_data
from launch.errors import RunFailedError
from launch.flags import build
from launch.run import start_or_resume

MEETS = " sin(x)"
"""What a candidate has to contain to meet the fault: a sine as its second operand."""


def worker(fault: str, folder: Path) -> type:
    """A worker with this fault."""

    class FaultyWorker:
        def place(self) -> str:
            return ""

        def set_up(self, assignment: Any, data: Any, cores: tuple[int, ...] | None) -> str:
            if fault == "cannot begin":
                os.kill(os.getpid(), signal.SIGKILL)
            return "nothing"

        def train(self, expression: str, *, seed: int, steps: int) -> dict[str, Any]:
            if MEETS in expression:
                self.meet(expression)
            digest = hashlib.sha256(f"{expression} {seed} {steps}".encode()).digest()
            accuracy = int.from_bytes(digest[:4], "big") / 2**32
            return {"status": "ok", "accuracy": accuracy, "loss": 1.0, "elapsed": 0.01}

        def meet(self, expression: str) -> None:
            if fault == "hangs":
                time.sleep(3600)
            if fault == "raises":
                raise LookupError(f"no {expression}")
            if fault == "lacks memory":
                raise MemoryError
            mark = folder / f"{hashlib.sha256(expression.encode()).hexdigest()}.met"
            if fault == "dies" or (fault == "dies once" and not mark.exists()):
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    return FaultyWorker


def main(folder: Path, fault: str, values: dict[str, Any]) -> int:
    """Works on the run like `actsearch search --json`; returns the exit code."""
    science, placement = build(values)
    run = start_or_resume(folder, science, placement)
    try:
        return work(
            run, load_data(science, placement), json=True, worker=worker(fault, folder.parent)
        )
    except RunFailedError as error:
        return _complain(str(error), 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])))
