"""One seed makes one history: for each strategy, with 1 and 2 workers, and with 4 that die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROGRAM = Path(__file__).with_name("histories.py")
REQUESTS = {
    "exhaustive": {"strategy": "exhaustive", "core_units": 1, "exhaustive_shuffle": True},
    "random": {"strategy": "random", "core_units": 2},
    "controller": {"strategy": "controller", "core_units": 1, "controller_batch_size": 8},
    "evolution": {"strategy": "evolution", "core_units": 2, "evolution_population": 12},
    "rungs": {
        "strategy": "controller",
        "core_units": 1,
        "controller_batch_size": 8,
        "rungs": "5:12,10:4",
        "steps": 10,
        "replicates": 2,
    },
}


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("histories")
    requests = {name: {"trials": 36, **values} for name, values in REQUESTS.items()}
    done = subprocess.run(
        [sys.executable, PROGRAM, folder, json.dumps(requests)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", REQUESTS)
def test_one_seed_makes_one_history(found, name: str):
    *histories, _ = found["histories"][name]
    assert len(histories) == 3 and len(set(histories)) == 1


def test_workers_died_under_trials_meanwhile(found):
    hit = [attempts for *_, attempts in found["histories"].values()]
    assert found["killed"] >= 8 and sum(hit) >= 4
    histories = {name: histories[0] for name, histories in found["histories"].items()}
    assert len(set(histories.values())) == len(REQUESTS)
