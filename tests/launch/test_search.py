"""Whole searches with real Ray workers on real digits: small children, nothing simulated."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from search.journal import Journal, JournalError

pytestmark = [pytest.mark.ray, pytest.mark.slow]

OPERATORS = """
import jax.numpy as jnp
from spaces import PAPER, Operator, Param

OPS = PAPER.only("identity", "scale", "sigmoid", "relu", "sin", "mul", "max").with_unary(
    Operator("bend", 1, lambda x, p: p["a"] * jnp.tanh(p["b"] * x) + p["c"] * x,
             params=(Param("a"), Param("b", 0.5), Param("c", 0.1)))
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with an operator file that the workers do not have on their path.

    The set lacks `gate`, which the baseline Swish needs.
    """
    path = tmp_path_factory.mktemp("searches")
    (path / "my_ops.py").write_text(OPERATORS)
    return path


SCIENCE = [
    *("--operators", "my_ops.py:OPS", "--strategy", "controller", "--controller-batch-size", "5"),
    *("--trials", "14", "--baselines", "relu,swish,gelu", "--width", "4", "--steps", "8"),
    *("--batch-size", "32", "--execution", "traced"),
]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "launch", *arguments]


def environment() -> dict[str, str]:
    """As a user's shell: without what this test run says of JAX."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    return kept | {"PYTHONPATH": str(Path(__file__).parents[2])}


def actsearch(folder: Path, *arguments: str, code: int = 0) -> dict:
    done = subprocess.run(
        command(*arguments, "--json"),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def two_workers(folder) -> dict:
    return actsearch(folder, "search", "--run-dir", "two", "--workers", "2", *SCIENCE)


def test_a_search_trains_what_was_asked_and_ranks_it(two_workers):
    summary, candidates = two_workers["summary"], two_workers["candidates"]
    assert two_workers["stopped"] == ""
    assert (summary["trials"], summary["baselines"], summary["failed"]) == (17, 3, 0)
    rewards = [c["reward"] for c in candidates if c["reward"] is not None]
    assert rewards == sorted(rewards, reverse=True)
    assert all(0 <= reward <= 1 for reward in rewards)
    names = {c["name"]: c["baseline"] for c in candidates if c["name"]}
    assert names.items() >= {"ReLU": True, "Swish": True, "GELU": True}.items()


def test_one_compilation_per_worker_serves_a_traced_run(two_workers):
    effort = two_workers["summary"]["effort"]
    assert effort["execution"] == "traced"
    assert (effort["workers"], effort["compilations"], effort["trials"]) == (2, 2, 17)


def trains(process: psutil.Process) -> bool:
    """Whether it is a worker; what is gone meanwhile is none."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name().startswith("ray::Worker")
    return False


def test_interrupted_and_bereaved_of_a_worker_it_makes_the_same_history(folder, two_workers):
    """Ctrl-C after some trials, then a resume whose worker is killed under a trial."""
    arguments = ("search", "--run-dir", "broken", "--workers", "2", *SCIENCE)
    process = start(folder, *arguments)
    wait_for_outcomes(folder / "broken", 4)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to Ray's processes as well
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    assert "stopped by SIGINT; go on with: actsearch resume broken" in errors
    before = outcomes(folder / "broken")
    assert 4 <= before < 17

    process = start(folder, *arguments)
    wait_for_outcomes(folder / "broken", before + 2)
    driver, deadline = psutil.Process(process.pid), time.monotonic() + 60
    # One worker may have trained both before the other is there.
    while True:
        family = [driver, *driver.children(recursive=True)]
        workers = [child for child in family if trains(child)]
        if len(workers) == 2:
            break
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    assert {address.removeprefix("::ffff:") for address in listening(family)} == {"127.0.0.1"}
    assert not any("monitor.py" in word for word in words(family))  # two of Ray's, of no use here
    if len(os.sched_getaffinity(0)) > 1:
        cores = [tuple(worker.cpu_affinity()) for worker in workers]
        assert sorted(map(len, cores)) == [1, 1] and cores[0] != cores[1]
    workers[0].kill()
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors

    again = actsearch(folder, "search", "--run-dir", "broken", *SCIENCE)
    assert again["summary"]["history_sha256"] == two_workers["summary"]["history_sha256"]
    assert again["summary"]["sittings"] == 2


def test_nothing_is_left_behind(two_workers):
    """No session folder of a driver that is gone, no worker whose Ray is gone."""
    wait_for_none(
        lambda: [
            path
            for path in temporary("actsearch-ray-*")
            if not psutil.pid_exists(int(path.name.rpartition("-")[2]))
        ]
    )
    assert orphans(of_killed=False) == []
    wait_for_none(lambda: orphans(of_killed=True))


def orphans(*, of_killed: bool) -> list[psutil.Process]:
    """Workers whose Ray is gone; one that ends while it is looked at is none.

    Args:
        of_killed: Whether to find those of drivers that the crash test, which runs beside, has killed
            and whose processes need a moment to notice; or all others.
    """
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.NoSuchProcess):
            worker = process.info["name"].startswith("ray::Worker")
            if worker and (process.parent() is None or process.ppid() == 1):
                started_by = process.environ().get("PYTEST_CURRENT_TEST", "")
                if started_by.startswith("tests/crash/") == of_killed:
                    found.append(process)
    return found


def wait_for_none(found: Callable[[], Sequence[object]]) -> None:
    """Another test may have killed a driver, and not yet started the next one."""
    deadline = time.monotonic() + 60
    while left := found():
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def temporary(pattern: str) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(pattern))


def test_resuming_with_other_operators_is_refused(folder, two_workers):
    (folder / "other.py").write_text(OPERATORS.replace("0.5", "0.7"))
    for operators, message in (
        ([], "was made with operators of its own: name them again"),
        (["--operators", "other.py:OPS"], "is not what two was made with"),
    ):
        done = subprocess.run(
            command("resume", "two", *operators),
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert message in done.stderr and done.stderr.count("\n") == 1


def test_rungs_replicates_and_a_specialised_form_chosen_by_itself(folder):
    """`auto` says why; the last rung trains its seeds; a time limit does not lose anything."""
    found = actsearch(
        folder,
        *("search", "--run-dir", "rungs", "--workers", "2", "--core-units", "1"),
        *("--operators", "my_ops.py:OPS", "--strategy", "random", "--trials", "4"),
        *("--rungs", "2:2,4:1", "--replicates", "2", "--baselines", "relu", "--width", "4"),
        *("--batch-size", "32", "--steps", "4"),
    )
    assert found["summary"]["trials"] == (1 + 4) + (1 + 2) * 2
    assert "estimated to save a candidate" in found["summary"]["effort"]["reason"]
    # One for each worker that got a trial: where starting is slow, the first may do them all.
    assert found["summary"]["effort"]["compilations"] in (1, 2)
    best = [c for c in found["candidates"] if c["rung"] == 1]
    assert len(best) == 3 and all(c["trials"] == 3 for c in best)


def test_a_cluster_that_does_not_answer_is_one_line(folder):
    done = subprocess.run(
        command("search", "--run-dir", "nobody", "--address", "127.0.0.1:1", *SCIENCE),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("actsearch: `address`: no Ray cluster answers at '127.0.0.1:1'")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def words(processes: list[psutil.Process]) -> list[str]:
    """Of the commands that started these processes."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += process.cmdline()
    assert any("raylet" in word for word in found)
    return found


def listening(processes: list[psutil.Process]) -> set[str]:
    """Addresses at which these processes take connections."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add(connection.laddr.ip)
    return found


def outcomes(run: Path) -> int:
    try:
        journal = Journal.read(run)
    except JournalError:
        return 0
    try:
        return sum(outcome is not None for _, outcome in journal.trials())
    finally:
        journal.close()


def wait_for_outcomes(run: Path, count: int) -> None:
    deadline = time.monotonic() + 180
    while outcomes(run) < count:
        assert time.monotonic() < deadline, f"{run} did not reach {count} outcomes"
        time.sleep(0.05)
