"""Workers that hang, die or break, in real Ray: the run goes on and says what happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import psutil
import pytest

from search.journal import Journal

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROGRAM = Path(__file__).with_name("faulty_workers.py")
VALUES = {
    "strategy": "exhaustive",
    "exhaustive_shuffle": True,
    "trials": 40,
    "baselines": "relu",
    "workers": "2",
}


def searched(
    folder: Path,
    faults: str,
    *,
    code: int = 0,
    environment: Mapping[str, str] = MappingProxyType({}),
    **values,
) -> tuple[dict, str]:
    """What a search with such workers printed, and its complaints."""
    done = subprocess.run(
        [sys.executable, PROGRAM, folder, faults, json.dumps(VALUES | values)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    return (json.loads(done.stdout) if code == 0 else {}), done.stderr


def outcomes(folder: Path, count: int = 41) -> dict[str, tuple[str, str]]:
    """Status and reason of each expression; every trial must have exactly one outcome."""
    found = list(Journal.read(folder).trials(details=False))
    assert [trial.id for trial, _ in found] == list(range(1, len(found) + 1))
    assert len(found) == count
    return {t.expression: (o.status, o.reason) for t, o in found if o is not None}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict:
    return searched(tmp_path_factory.mktemp("runs") / "sound", "none")[0]["summary"]


REASONS = {
    " sin(x)": ("its worker died 3 times, last: ", 5),
    " cos(x)": ("it took longer than 8s, the trial time-out", 1),
    " tanh(x)": ("LookupError: no ", 1),
    " erf(x)": ("MemoryError", 2),
}
"""By second operand: what is said of a candidate, and how many there are."""


def test_what_a_candidate_does_to_its_worker_is_its_own_outcome(tmp_path, undisturbed):
    """And nobody else's: all others have theirs, though five in a row kill every worker they meet."""
    summary = searched(tmp_path / "run", "each", trial_timeout="8s")[0]["summary"]
    found = outcomes(tmp_path / "run")
    for operand, (reason, count) in REASONS.items():
        met = [found.pop(text) for text in list(found) if operand in text]
        assert len(met) == count
        for status, why in met:
            assert (status, why[: len(reason)]) == ("failed", reason)
    assert {status for status, _ in found.values()} == {"ok"}
    assert (summary["failed"], summary["by_chance"]) == (9, 6)
    assert undisturbed["failed"] == 0


def test_a_death_that_does_not_repeat_leaves_no_trace(tmp_path, undisturbed):
    summary = searched(tmp_path / "run", "once")[0]["summary"]
    assert len(list(tmp_path.glob("*.met"))) == 5
    assert (summary["failed"], summary["by_chance"]) == (0, 0)
    assert summary["history_sha256"] == undisturbed["history_sha256"]


def test_a_candidate_that_takes_all_memory_is_ended_and_its_neighbours_are_not_lost(tmp_path):
    """By Ray's memory monitor, which may end several workers at once."""
    memory = psutil.virtual_memory()
    most = (memory.total - memory.available + 3 * 2**30) / memory.total
    if most > 0.9:
        pytest.skip("less than 3 GiB of memory are free here")
    monitor = {"RAY_memory_usage_threshold": f"{most:.3f}", "RAY_memory_monitor_refresh_ms": "50"}
    searched(tmp_path / "run", "eats", environment=monitor, trials=10)
    found = outcomes(tmp_path / "run", 11)
    eaters = [found.pop(text) for text in list(found) if " erf(x)" in text]
    assert {status for status, _ in found.values()} == {"ok"} and eaters
    for status, why in eaters:
        assert status == "failed"
        assert why.startswith("its worker died 3 times, last: OutOfMemoryError: ")


def test_what_ends_its_neighbours_too_is_found_out_by_its_last_attempt_alone(tmp_path):
    """The neighbour's trial is given back with it each time, and would share all its attempts."""
    searched(tmp_path / "run", "all die", trials=10)
    found = outcomes(tmp_path / "run", 11)
    killers = [found.pop(text) for text in list(found) if " erf(x)" in text]
    assert {status for status, _ in killers} == {"failed"}
    assert {status for status, _ in found.values()} == {"ok"}
    shared = sorted(Journal.read(tmp_path / "run").attempts().values())
    assert shared[: -len(killers)] and shared[-len(killers) :] == [3] * len(killers)


def pool_says(folder: Path, scene: str) -> list[dict]:
    """What a pool says of the trials of a scene, see `bare_pool`."""
    done = subprocess.run(
        [sys.executable, PROGRAM.with_name("bare_pool.py"), folder, scene],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_trial_pays_for_a_worker_that_died_before_it(tmp_path):
    first, second = pool_says(tmp_path, "killed idle")
    assert (first["died"], first["began"], first["done"]) == (True, False, False)
    assert (second["died"], second["began"], second["done"]) == (False, True, True)


def test_of_trials_that_end_together_each_has_its_own_end(tmp_path):
    told = {answer["trial"]: answer for answer in pool_says(tmp_path, "ready together")}
    died, done, raised = (told[f"add(x, {name}(x))"] for name in ("sin", "exp", "tanh"))
    assert (died["died"], died["error"], died["done"]) == (True, "", False)
    assert (done["died"], done["error"], done["done"]) == (False, "", True)
    assert (raised["died"], raised["done"]) == (False, False)
    assert raised["error"] == "LookupError: no add(x, tanh(x))"


def test_without_rays_own_processes_the_driver_ends_and_the_same_command_goes_on(
    tmp_path, undisturbed
):
    """Ray ends the driver, with words of its own."""
    drivers = {}
    for victim in ("raylet", "gcs_server"):
        (tmp_path / victim).mkdir()
        drivers[victim] = subprocess.Popen(
            [sys.executable, PROGRAM, tmp_path / victim / "run", "waits", json.dumps(VALUES)],
            env={**os.environ, **SOON, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    for victim, driver in drivers.items():
        while len(list((tmp_path / victim).glob("begun-*"))) < 2:
            assert driver.poll() is None
            time.sleep(0.1)
        family = psutil.Process(driver.pid).children(recursive=True)
        (found,) = (process for process in family if process.name() == victim)
        found.kill()
    for victim, driver in drivers.items():
        _, errors = driver.communicate(timeout=120)
        assert driver.returncode not in (0, 2, 3) and "Traceback" not in errors, errors
        summary = searched(tmp_path / victim / "run", "none")[0]["summary"]
        assert summary["history_sha256"] == undisturbed["history_sha256"]


SOON = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
"""Ray otherwise waits for a minute."""


def test_one_that_has_not_got_what_it_should_is_refused_and_the_others_go_on(tmp_path, undisturbed):
    found, errors = searched(tmp_path / "run", "one refused")
    said = "is refused: the images that arrived there are not those that were sent\n"
    assert errors.count(" is refused: ") == errors.count(said) == 1
    assert found["summary"]["history_sha256"] == undisturbed["history_sha256"]


def test_a_worker_without_its_accelerator_is_refused_with_the_reason(tmp_path):
    """The resource is there by name; the chip is not. Never a silent run on the CPU."""
    done = subprocess.run(
        [sys.executable, "-m", "launch", "search", "--run-dir", tmp_path / "run", "--workers", "1",
         "--resources", '{"TPU": 1}', "--trials", "3"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    complaint = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "the worker was to compute on tpu, JAX has none (" in complaint
    assert Journal.read(tmp_path / "run").pulse()[1] == 0


def test_workers_that_never_get_to_work_end_the_run_in_one_line(tmp_path):
    _, complaint = searched(tmp_path / "run", "cannot begin", code=1, workers="1")
    assert complaint.splitlines()[-1].startswith("actsearch: workers keep dying: ")
    assert "Traceback" not in complaint
