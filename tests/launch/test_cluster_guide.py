"""The loopback part of docs/cluster.md, line by line, with a real head, a token and real jobs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from search.journal import Journal, JournalError

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "cluster.md"
PORTS = (6379, 8265, 10001)


def environment(home: Path) -> dict[str, str]:
    """A user's, whose home is empty."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "RAY_"))}
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    cache = kept.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # of compiled programs
    return kept | {
        "HOME": str(home),
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "RAY_TMPDIR": os.environ["RAY_TMPDIR"],
        "XDG_CACHE_HOME": cache,
    }


def blocks() -> list[str]:
    """The lines of the guide, terminal by terminal."""
    part = GUIDE.read_text().partition("## On one machine")[2].partition("\n## ")[0]
    return re.findall(r"^```bash\n(.*?)^```", part, re.M | re.S)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False


def outcomes(run: Path) -> int:
    with contextlib.suppress(JournalError), contextlib.closing(Journal.read(run)) as journal:
        return journal.pulse()[1]
    return 0


@contextlib.contextmanager
def held(head: psutil.Process) -> Iterator[None]:
    """Workers stand still: a search may otherwise be over before a command that stops it has begun."""
    family = head.children(recursive=True)
    workers = [process for process in family if process.name().startswith("ray::Worker")]
    assert workers
    for process in workers:
        process.suspend()
    yield
    for process in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def head(home: Path) -> Iterator[psutil.Process]:
    """The first terminal."""
    if taken := [port for port in PORTS if answers(port)]:
        pytest.skip(f"something else listens at ports {taken} here")
    with (home / "head.txt").open("w") as words:
        shell = subprocess.Popen(
            ["bash", "-euc", blocks()[0]],
            env=environment(home),
            stdout=words,
            stderr=words,
            start_new_session=True,
        )
    deadline = time.monotonic() + 120
    while not all(answers(port) for port in PORTS):
        assert shell.poll() is None and time.monotonic() < deadline, (home / "head.txt").read_text()
        time.sleep(0.2)
    process = psutil.Process(shell.pid)
    family = process.children(recursive=True)
    yield process
    os.killpg(shell.pid, signal.SIGINT)  # Ctrl-C
    shell.wait(timeout=60)
    _, left = psutil.wait_procs(family, timeout=60)
    assert not left, left


def second_terminal(home: Path, text: str) -> str:
    """What the lines printed; repeated, as the guide says, while no agent is there to take a job."""
    deadline = time.monotonic() + 120
    while True:
        done = subprocess.run(
            ["bash", "-euc", blocks()[1].partition("ray job")[0] + text],
            env=environment(home),
            cwd=home,
            capture_output=True,
            text=True,
            timeout=400,
        )
        if "No available agent" not in done.stderr or time.monotonic() > deadline:
            break
        time.sleep(1.0)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
    return done.stdout


def test_the_guides_own_lines(home: Path, head: psutil.Process) -> None:
    _, submit, look, again, beside = blocks()
    listening = {
        each.laddr.ip.removeprefix("::ffff:")
        for process in [head, *head.children(recursive=True)]
        for each in process.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    }
    assert listening <= {"127.0.0.1", "::1"}
    assert (home / ".ray" / "auth_token").stat().st_mode & 0o077 == 0

    run = home / "runs" / "first"
    second_terminal(home, submit.partition("ADDRESS=http://127.0.0.1:8265\n")[2])
    deadline = time.monotonic() + 300
    while not outcomes(run):
        assert time.monotonic() < deadline, second_terminal(home, look)
        time.sleep(0.1)
    stop, _, resume = again.partition("\n")
    with held(head):
        assert "Job 'first' was stopped" in second_terminal(home, f"{stop}\n")
    told = second_terminal(home, resume)
    assert f"resuming {run}" in told and "Job 'second' succeeded" in told
    journal = Journal.read(run)
    assert journal.meta("finished") is not None and len(journal.sittings()) == 2
    assert set(journal.attempts().values()) <= {0} and outcomes(run) == 12 + 9
    shown = second_terminal(home, look)
    assert "worker 0 on 127.0.0.1: cpu" in shown and "Swish" in shown

    second_terminal(home, beside)
    assert outcomes(home / "runs" / "beside") == 3
