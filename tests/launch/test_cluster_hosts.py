"""Three hosts with addresses of their own, in network namespaces; one is cut off and brought back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from search.journal import Journal

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
FAULTY = Path(__file__).with_name("faulty_workers.py")
RAY = Path(sys.executable).with_name("ray")
VALUES = {"strategy": "controller", "controller_batch_size": 5, "trials": 30}
SOON = {
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1500",
    "RAY_health_check_failure_threshold": "3",
}
"""A host that is cut off is noticed within seconds, where Ray otherwise takes half a minute."""


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "RAY_"))}
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "7" * 64}
    return kept | SOON | token | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class Hosts:
    """Namespaces on one switch, which is a namespace too: nothing of this machine is reached."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._name = f"as{os.getpid()}"
        self._made: list[str] = []
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Hosts:
        self._add("s")
        ip("-n", self._space("s"), "link", "add", "switch", "type", "bridge")
        ip("-n", self._space("s"), "link", "set", "switch", "up")
        for host in "abc":
            self._add(host)
            ends = (f"to{host}", "netns", self._space("s"), "type", "veth", "peer", "name", "net0")
            ip("link", "add", *ends, "netns", self._space(host))
            ip("-n", self._space("s"), "link", "set", f"to{host}", "master", "switch", "up")
            ip("-n", self._space(host), "address", "add", f"{address(host)}/24", "dev", "net0")
            ip("-n", self._space(host), "link", "set", "net0", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._made:
            for process in ip("netns", "pids", name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), 9)
            ip("netns", "del", name)
        for process in self._started:
            process.wait(timeout=30)

    def start(self, host: str, *words: object) -> subprocess.Popen[bytes]:
        """A process on a host; what it says goes into a file of the host's name."""
        with (self.folder / f"{host}.txt").open("a") as said:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self._space(host), *map(str, words)],
                env=environment(),
                stdout=said,
                stderr=said,
            )
        self._started.append(process)
        return process

    def wire(self, host: str, state: str) -> None:
        """Cuts a host off (`down`) and brings it back (`up`)."""
        ip("-n", self._space("s"), "link", "set", f"to{host}", state)

    def _space(self, host: str) -> str:
        return f"{self._name}{host}"

    def _add(self, host: str) -> None:
        ip("netns", "add", self._space(host))
        self._made.append(self._space(host))
        ip("-n", self._space(host), "link", "set", "lo", "up")


def address(host: str) -> str:
    return f"198.51.100.{'abc'.index(host) + 1}"


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip` command here")
    found = Hosts(tmp_path)
    try:
        with found:
            yield found
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def sessions() -> Iterator[str]:
    """A short path, as sockets' must be."""
    folder = tempfile.mkdtemp(prefix="as")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_host_that_is_cut_off_and_comes_back_changes_no_history(
    sessions: str, hosts: Hosts, tmp_path: Path
):
    def start_ray(host: str, *words: object) -> None:
        """And again whenever it ends, as a service would."""
        store = "--object-store-memory=100000000"
        line = [RAY, "start", "--block", f"--node-ip-address={address(host)}", store, *words]
        hosts.start(host, "sh", "-c", 'while true; do "$@"; sleep 0.5; done', "sh", *line)

    def said(what: str, host: str = "a") -> bool:
        return re.search(what, (tmp_path / f"{host}.txt").read_text()) is not None

    def begun() -> int:
        return len(list(tmp_path.glob("begun-*")))

    local = subprocess.run(
        [sys.executable, FAULTY, tmp_path / "here" / "run", "naps", json.dumps(VALUES)],
        env=environment(),
        capture_output=True,
        timeout=200,
        check=True,
    )
    head = f"{address('a')}:6379"
    files = ("--temp-dir", sessions, "--include-dashboard=false")
    start_ray("a", "--head", "--port=6379", "--num-cpus=0", *files)
    wait_until(lambda: said("Ray runtime started"))
    start_ray("b", f"--address={head}", "--num-cpus=1")
    values = json.dumps(VALUES | {"address": head})
    script = 'exec 3>&1; exec "$@" > "$0"'  # results into a file, complaints with Ray's words
    out = tmp_path / "out.json"
    driver = hosts.start(
        "a", "sh", "-c", script, out, sys.executable, FAULTY, tmp_path / "run", "waits", values
    )
    # Not both at once: with one folder of sessions, they may take the same socket, and Ray then waits
    # for half a minute for the one that did not get it.
    wait_until(lambda: said("Ray runtime started", "b"))
    start_ray("c", f"--address={head}", "--num-cpus=1")
    wait_until(lambda: begun() == 2 or driver.poll() is not None)
    hosts.wire("b", "down")
    wait_until(lambda: said(f"node {address('b')} left"))
    hosts.wire("b", "up")
    wait_until(lambda: said(f"left\\n(?s:.*)node {address('b')} joined: room for 1 worker\\n"))
    wait_until(lambda: said(f"left\\n(?s:.*)worker \\d on {address('b')}: nothing\\n"))
    (tmp_path / "go").touch()
    assert driver.wait(timeout=200) == 0
    found = [json.loads(text)["summary"] for text in (local.stdout, out.read_text())]
    assert len({each["history_sha256"] for each in found}) == 1
    assert set(Journal.read(tmp_path / "run").attempts().values()) <= {0}
