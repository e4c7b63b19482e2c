"""What a pool of real workers says of a few trials, without a driver, as JSON.

    python bare_pool.py FOLDER SCENE

SCENES are `killed idle`: the only worker is killed while it is idle, and the next trial is given to it;
`ready together`: three trials, of which one ends well, one raises and one kills its worker, are over
before the pool looks.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import psutil
from faulty_workers import worker

import launch.pool
from launch.cluster import cluster
from launch.config import PlacementConfig, Science
from launch.pool import ASKED_AFTER_S, Answer, Pool
from launch.prepare import load_data
from search.outcome import Trial

SCENES = {
    "killed idle": ("naps", ["sin(x)"]),
    "ready together": ("each", ["add(x, sin(x))", "add(x, exp(x))", "add(x, tanh(x))"]),
}
"""The workers' faults, see `faulty_workers`, and what they are given, one each."""


def main(folder: Path, scene: str) -> None:
    """Plays a scene and prints what came of each trial."""
    faults, expressions = SCENES[scene]
    placement = PlacementConfig(workers=str(len(expressions)))
    with cluster(placement, data_bytes=0) as room:
        assignment: Any = SimpleNamespace(platform="cpu")  # of which a pool reads this and no more
        room.look()
        data = load_data(Science(), placement)
        pool = Pool(room.workers, placement, assignment, data, None, worker(faults, folder))
        fill(pool)
        if scene == "killed idle":
            told = killed_idle(pool, expressions)
        else:
            told = ready_together(pool, expressions)
        pool.close()
    document = [
        {
            "trial": answer.trial.expression,
            "died": bool(answer.died),
            "began": answer.began,
            "error": answer.error,
            "done": answer.report is not None,
        }
        for answer in told
    ]
    print(json.dumps(document))


def killed_idle(pool: Pool, expressions: Sequence[str]) -> list[Answer]:
    """The trial is begun twice."""
    time.sleep(2 * ASKED_AFTER_S)  # idle for so long that it is asked first
    for process in psutil.Process().children(recursive=True):
        if process.name().startswith("ray::FaultyWork"):
            process.kill()
            process.wait()
    told = []
    for _ in range(2):
        start(pool, expressions)
        while pool.training:
            told += pool.wait(timeout_s=0.5)
        fill(pool)
    return told


def ready_together(pool: Pool, expressions: Sequence[str]) -> list[Answer]:
    """What one look gives, once all are over."""
    import ray  # not before `cluster` has set what it reads

    with mock.patch.object(launch.pool, "ASKED_AFTER_S", math.inf):  # all begin at once
        start(pool, expressions)
    calls = [seat.reference for seat in pool._seats]
    ready, _ = ray.wait(calls, num_returns=len(calls), timeout=60)
    assert len(ready) == len(calls)
    return list(pool.wait(timeout_s=0.0))


def start(pool: Pool, expressions: Sequence[str]) -> None:
    """Gives each to a worker."""
    for number, expression in enumerate(expressions, start=1):
        pool.start(Trial(number, number, expression, 0, 0, baseline=False), seed=0, steps=1)


def fill(pool: Pool) -> None:
    """Waits until every worker is idle."""
    while pool.idle < pool.count:
        assert not list(pool.wait(timeout_s=0.5))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
