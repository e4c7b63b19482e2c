"""A search on a real Ray cluster of several raylets: nodes come and go, code travels or is compared."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from launch.installation import LIBRARIES, PACKAGES, difference, installation
from search.journal import Journal

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
SCIENCE = [
    *("--strategy", "controller", "--controller-batch-size", "5", "--trials", "10"),
    *("--baselines", "relu,swish", "--width", "4", "--batch-size", "32", "--steps", "8"),
    *("--operators", "few.py", "--execution", "traced"),
]
OPERATORS = """
from spaces import PAPER

FEW = PAPER.only("identity", "neg", "sigmoid", "relu", "sin", "cos", "tanh", "add", "mul", "max")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where runs are made; only the driver has the operator file that lies here."""
    path = tmp_path_factory.mktemp("cluster")
    (path / "few.py").write_text(OPERATORS)
    return path


def environment() -> dict[str, str]:
    """As a user's shell: without what this test run says of JAX."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    return kept | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}


def search(folder: Path, name: str, *arguments: str) -> subprocess.Popen[str]:
    command = [Path(sys.executable).with_name("actsearch"), "search", "--run-dir", name]
    return subprocess.Popen(
        [*command, *SCIENCE, *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """What a search printed, and its history."""
    printed, errors = process.communicate(timeout=400)
    assert process.returncode == code and "Traceback" not in errors, errors
    history = re.search("history_sha256 ([0-9a-f]{64})", printed)
    return errors, history[1] if history else ""


class Nodes:
    """A cluster in a process of its own, see nodes.py."""

    def __init__(self, host: subprocess.Popen[str]) -> None:
        assert host.stdin is not None and host.stdout is not None
        self._orders, self._words = host.stdin, host.stdout
        self.address = self._words.readline().strip()

    def order(self, what: str) -> None:
        print(what, file=self._orders, flush=True)
        assert self._words.readline() == "done\n"


SOON = {
    "RAY_prestart_worker_first_driver": "0",
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "3",
}
"""A lost node is noticed within seconds, where Ray otherwise takes a quarter of a minute; no idle
processes are started."""


@contextmanager
def nodes(*cpus: int, **variables: str) -> Iterator[Nodes]:
    with subprocess.Popen(
        [sys.executable, HERE / "nodes.py", *map(str, cpus)],
        env=environment() | SOON | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as host:
        found = Nodes(host)
        try:
            yield found
        finally:
            assert host.stdin is not None
            host.stdin.close()
            host.wait(timeout=60)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_nodes_come_and_go_and_the_history_is_the_local_one(tmp_path: Path):
    """Trials wait for a file `go`, so that one is under way on the node that dies."""
    values = {"strategy": "controller", "controller_batch_size": 5, "trials": 40}

    def faulty(folder: Path, faults: str, **placement: str) -> list[str | Path]:
        program = HERE / "faulty_workers.py"
        return [sys.executable, program, folder, faults, json.dumps(values | placement)]

    local = subprocess.run(
        faulty(tmp_path / "here" / "run", "naps", workers="2"),
        env=environment(),
        capture_output=True,
        timeout=200,
        check=True,
    )
    there = tmp_path / "there"
    there.mkdir()
    with nodes(1, 1) as cluster, (tmp_path / "told").open("w") as told:
        process = subprocess.Popen(
            faulty(there / "run", "waits", address=cluster.address),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=told,
        )

        def said(what: str) -> bool:
            return re.search(what, (tmp_path / "told").read_text()) is not None

        wait_until(lambda: len(list(there.glob("begun-*"))) == 2)
        cluster.order("kill 0")
        wait_until(lambda: said(r"node \S+ left\n"))
        cluster.order("add 2")
        wait_until(lambda: said("joined: room for 2 workers\n"))
        wait_until(lambda: len(list(there.glob("begun-*"))) == 3)
        wait_until(lambda: said(r"worker 3 on \S+: nothing\n"))  # 0 was let go when its node left
        (there / "go").touch()
        printed, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    summaries = [json.loads(text)["summary"] for text in (local.stdout, printed)]
    assert len({each["history_sha256"] for each in summaries}) == 1
    assert summaries[1]["effort"]["workers"] == 3
    assert said(r"worker 0 on \S+: nothing\n") and said(r"worker 2 on \S+: nothing\n")
    assert set(Journal.read(there / "run").attempts().values()) <= {0}


@pytest.fixture(scope="module")
def local_history(folder: Path) -> str:
    """What the same search makes on this machine without a cluster."""
    return finished(search(folder, "local", "--workers", "2"))[1]


@pytest.fixture(scope="module")
def other_code(tmp_path_factory) -> Path:
    """Another version of this project, as a node may have it installed."""
    place = tmp_path_factory.mktemp("older")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (place / "trainers" / "schedule.py").open("a") as file:
        file.write("\n# of yesterday\n")
    return place


@pytest.fixture(scope="module")
def older_nodes(other_code: Path) -> Iterator[Nodes]:
    """A node that was forgotten when the others got new code."""
    with nodes(2, PYTHONPATH=str(other_code)) as cluster:
        yield cluster


def test_other_code_on_a_node_is_refused_by_name(folder: Path, older_nodes: Nodes):
    refused, _ = finished(search(folder, "refused", "--address", older_nodes.address), 1)
    complaint = refused.splitlines()[-1]
    assert re.search(r"worker \d on [0-9.]+ is refused: it has other code than this ", complaint)
    assert f"({installation()['code'][:12]}) here" in complaint and "install the same" in complaint
    assert Journal.read(folder / "refused").pulse()[1] == 0


def test_shipped_code_is_not(folder: Path, local_history: str, older_nodes: Nodes):
    shipped = search(folder, "shipped", "--address", older_nodes.address, "--ship")
    told, history = finished(shipped)
    assert history == local_history
    assert re.search(r"worker \d on [0-9.]+: cpu\n", told)


def test_a_cluster_without_room_is_waited_for_and_then_said(folder: Path, older_nodes: Nodes):
    needs = ("--cpus-per-worker", "64", "--node-timeout", "4s")
    words = ("--address", older_nodes.address, *needs)
    told, _ = finished(search(folder, "alone", *words), 1)
    assert told.count("no room for a worker\n") == 2
    complaint = told.splitlines()[-1]
    assert "no node has had room for a worker for 4s: each needs 64 CPU" in complaint
    assert "2 CPU" in complaint and "Nothing is lost" in complaint


def test_a_node_that_lacks_code_is_said(folder: Path, tmp_path: Path, older_nodes: Nodes):
    """The class of its worker is in a module that only the driver has."""
    (tmp_path / "only_here.py").write_text(
        "from launch.worker import Worker\nclass Special(Worker):\n    pass\n"
    )
    program = (
        "import sys; sys.path.append(sys.argv.pop())\n"
        "from only_here import Special\n"
        "import launch.commands.work as work, launch.driver as driver\n"
        "from launch.cli import main\n"
        "drive = driver.drive\n"
        "driver.drive = lambda run, data, **rest: drive(run, data, **rest | {'worker': Special})\n"
        "main(sys.argv[1:])\n"
    )
    words = ["search", "--run-dir", "lacking", *SCIENCE, "--address", older_nodes.address]
    done = subprocess.run(
        [sys.executable, "-c", program, *words, tmp_path],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    complaint = done.stderr.splitlines()[-1]
    assert "is refused: its node lacks code, No module named 'only_here'" in complaint


HERE_NOW = dict(installation())


@pytest.mark.parametrize(
    "there, said",
    [
        (HERE_NOW, ""),
        ({**HERE_NOW, "actsearch": "of no version"}, ""),
        ({**HERE_NOW, "jax": "0.9.1"}, f"jax 0.9.1 there, {HERE_NOW['jax']} here"),
        ({**HERE_NOW, "onednn-cpu-gomp": "1"}, "onednn-cpu-gomp 1 there, "),
        ({**HERE_NOW, "code": "f" * 64}, "actsearch 0.1.0 (ffffffffffff) there, 0.1.0 ("),
        ("1a2b3c", "an older actsearch there"),
        ({}, "actsearch None (None) there"),
    ],
)
def test_what_counts_as_other_code(there: Any, said: str):
    found = difference(there, HERE_NOW)
    assert found.startswith(said) and bool(found) == bool(said)


def test_what_is_compared():
    assert set(HERE_NOW) == {"actsearch", "code", *LIBRARIES}
    assert json.dumps(HERE_NOW) and len(HERE_NOW["code"]) == 64
