"""A worker that is killed while it is idle, and what its pool says of the next trial, as JSON.

python idle_worker.py FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
from faulty_workers import worker

from launch.cluster import cluster
from launch.config import PlacementConfig, Science
from launch.pool import ASKED_AFTER_S, Pool
from launch.prepare import load_data
from search.outcome import Trial


def main(folder: Path) -> None:
    """Kills the only worker before its first trial, which the one after it gets."""
    placement = PlacementConfig(workers="1")
    with cluster(placement, data_bytes=0) as room:
        assignment: Any = SimpleNamespace(platform="cpu")  # of which a pool reads this and no more
        room.look()
        data = load_data(Science(), placement)
        pool = Pool(room.workers, placement, assignment, data, None, worker("naps", folder))
        trial, told = Trial(1, 1, "sin(x)", 0, 0, baseline=False), []
        for killed in (True, False):
            while not pool.idle:
                told += pool.wait(timeout_s=0.5)
            if killed:
                time.sleep(2 * ASKED_AFTER_S)
                for process in psutil.Process().children(recursive=True):
                    if process.name().startswith("ray::FaultyWork"):
                        process.kill()
                        process.wait()
            pool.start(trial, seed=0, steps=1)
            while pool.training:
                told += pool.wait(timeout_s=0.5)
        pool.close()
    document = [{"died": bool(a.died), "began": a.began, "done": bool(a.result)} for a in told]
    print(json.dumps(document))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
