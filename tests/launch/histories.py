"""The histories that one seed makes with other numbers of workers, in one real Ray cluster.

    python histories.py FOLDER '{"by random": {"strategy": "random"}}'

prints for each request a list with a `history_sha256` for 1 and 2 workers, and for 4 workers of which
one is killed after every eighth trial; how many trials that hit, and how many were killed. The child
is made up and naps.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
from faulty_workers import worker
from ray.cluster_utils import Cluster

from launch.commands.work import work
from launch.flags import build
from launch.prepare import load_data
from launch.run import start_or_resume
from search.journal import Journal, JournalError


def history(folder: Path, values: dict[str, Any]) -> str:
    """Searches, and returns the history; a run with a failed trial has none to compare."""
    science, placement = build(values)
    run = start_or_resume(folder, science, placement)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = work(run, load_data(science, placement), json=True, worker=worker("naps", folder))
    summary = json.loads(printed.getvalue())["summary"]
    assert (code, summary["failed"]) == (0, 0)
    return summary["history_sha256"]


class Killer(threading.Thread):
    """Kills a worker after every eighth trial of a run, as long as the context lasts."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.killed = 0
        self._folder = folder
        self._over = threading.Event()

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        chance = random.Random(1)
        while not self._over.wait(0.02):
            workers = [p for p in psutil.Process().children(recursive=True) if _trains(p)]
            if workers and _recorded(self._folder) >= 8 * (self.killed + 1):
                with contextlib.suppress(psutil.NoSuchProcess):
                    chance.choice(workers).kill()
                    self.killed += 1


def _recorded(folder: Path) -> int:
    with contextlib.suppress(JournalError), contextlib.closing(Journal.read(folder)) as journal:
        return journal.pulse()[1]
    return 0


def _trains(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name().startswith("ray::FaultyWork")
    return False


def main(folder: Path, requests: dict[str, dict[str, Any]]) -> None:
    """Prints the histories."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 4,
            "include_dashboard": False,
            "object_store_memory": 100 * 2**20,
        },
    )
    found: dict[str, Any] = {}
    killed = 0
    for name, values in requests.items():
        common = {"baselines": "relu", "address": cluster.address, **values}
        place = folder / name.replace(" ", "-")
        found[name] = [
            history(place / str(count), {**common, "workers": str(count)}) for count in (1, 2)
        ]
        with Killer(place / "killed") as killer:
            found[name].append(history(place / "killed", {**common, "workers": "4"}))
        killed += killer.killed
        (attempts,) = Journal.read(place / "killed").execute(
            "SELECT count(*) FROM trials WHERE attempts > 0"
        ).fetchone()  # fmt: skip
        found[name].append(attempts)
    cluster.shutdown()
    print(json.dumps({"histories": found, "killed": killed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
