"""A search with real Ray workers that misbehave; the child is made up.

    python faulty_workers.py FOLDER FAULTS '{"trials": 12}'

FAULTS are `each`: which fault a candidate meets stands in `MEETS`; `once`: those that kill their worker
do so once and never again; `none`; `cannot begin`: no worker gets through its set-up; `waits`:
every trial leaves a file begun-N in the folder above FOLDER and goes on once there is a file `go`;
`eats`: a candidate with an error function takes memory until something stops it;
`one refused`: other images than were sent have arrived where the first worker is;
`all die`: one with an error function kills every worker of the node; `naps`: every trial takes some hundredths of a second.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from launch.cli import _complain
from launch.commands.work import work
from launch.errors import RunFailedError
from launch.flags import build
from launch.prepare import load_data
from launch.run import start_or_resume
from launch.worker import Worker
from trainers.dataset import Dataset

MEETS = {" sin(x)": "dies", " cos(x)": "hangs", " tanh(x)": "raises", " erf(x)": "lacks memory"}
"""What happens to a worker that is given a candidate with such a second operand."""


def worker(faults: str, folder: Path) -> type:
    """A worker with these faults; what it did once is marked in the folder."""

    class FaultyWorker(Worker):
        def check(self, data: Dataset) -> str:
            if faults == "one refused":
                with contextlib.suppress(FileExistsError):
                    (folder / "refused.met").touch(exist_ok=False)
                    return "0" * 64
            return super().check(data)

        def set_up(self, assignment: Any, data: Any, cores: tuple[int, ...] | None) -> str:
            if faults == "cannot begin":
                os.kill(os.getpid(), signal.SIGKILL)
            return "nothing"

        def score(self, expression: str, *, seed: int, steps: int) -> dict[str, Any]:
            fault = next((fault for part, fault in MEETS.items() if part in expression), "")
            digest = hashlib.sha256(f"{expression} {seed} {steps}".encode()).digest()
            mark = folder / f"{digest.hex()}.met"
            if faults == "naps":
                time.sleep(0.02 + 0.04 * digest[5] / 255)
            if faults == "waits":
                (folder / f"begun-{digest.hex()}").touch()
                while not (folder / "go").exists():
                    time.sleep(0.05)
            if faults == "all die":  # the others are at work for long enough to be ended with it
                self.end_all() if fault == "lacks memory" else time.sleep(1)
            if faults == "eats":
                self.eat() if fault == "lacks memory" else time.sleep(0.5)
            if faults == "each" or (faults == "once" and fault == "dies" and not mark.exists()):
                mark.touch()
                self.meet(fault, expression)
            accuracy = int.from_bytes(digest[:4], "big") / 2**32
            return {"status": "ok", "accuracy": accuracy, "loss": 1.0, "elapsed": 0.01}

        def end_all(self) -> None:
            """Every worker on this node, this one last, once another one trains, has been idle for
            1.5 s, or 6 s are over.
            """
            me = psutil.Process()
            others: list[psutil.Process] = []
            idle = 0
            for _ in range(60):
                family = (me.parent() or me).children()
                found = {each: " ".join(each.cmdline()).strip() for each in family if each != me}
                others = [each for each, title in found.items() if "FaultyWorker" in title]
                idle = idle + 1 if "ray::FaultyWorker" in found.values() else 0
                if idle == 15 or any("FaultyWorker.train" in title for title in found.values()):
                    break
                time.sleep(0.1)
            for each in [*others, me]:
                each.kill()

        def eat(self) -> None:
            """12 GiB, in pieces of 64 MiB, and then no more."""
            eaten = []
            for _ in range(192):
                eaten.append(b"x" * 2**26)
                time.sleep(0.02)
            time.sleep(60)

        def meet(self, fault: str, expression: str) -> None:
            if fault == "hangs":
                time.sleep(3600)
            if fault == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "raises":
                raise LookupError(f"no {expression}")
            if fault == "lacks memory":
                raise MemoryError

    return FaultyWorker


def main(folder: Path, faults: str, values: dict[str, Any]) -> int:
    """Works on the run like `actsearch search --json`; returns the exit code."""
    science, placement = build(values)
    run = start_or_resume(folder, science, placement)
    try:
        return work(
            run, load_data(science, placement), json=True, worker=worker(faults, folder.parent)
        )
    except RunFailedError as error:
        return _complain(str(error), 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])))
