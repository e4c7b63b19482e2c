"""A Ray that does not start, or a head that fails, at the first try."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import ray

from launch import cluster as launched
from launch.address import check_that_it_answers
from launch.config import PlacementConfig
from launch.errors import RequestError, RunFailedError

NO_MEMORY = OSError(12, "Cannot allocate memory")
HEAD_FAILED = ConnectionAbortedError("Initialization failure from server:\nOSError: no memory")


@pytest.fixture
def tries(monkeypatch, tmp_path):
    """Lets `ray.init` fail so many times; returns what it was called with."""
    monkeypatch.setattr(launched, "_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def failing(error: Exception, times: float) -> list[dict]:
        calls: list[dict] = []

        def init(**values) -> None:
            calls.append(values)
            if len(calls) <= times:
                raise error

        monkeypatch.setattr(ray, "init", init)
        return calls

    return failing


def folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("actsearch-*"))


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_machine_that_is_short_of_memory_for_a_moment_is_asked_again(tries, times: int) -> None:
    calls = tries(NO_MEMORY, times)
    with launched.cluster(PlacementConfig(), data_bytes=0):
        kept = folders()
    assert len(calls) == times + 1 and len(kept) == 1 and not folders()
    assert calls[-1]["_temp_dir"] == str(kept[0] / "r")


def test_it_is_given_up_in_one_line_and_leaves_no_folder(tries) -> None:
    calls = tries(NO_MEMORY, 9)
    with (
        pytest.raises(
            RunFailedError, match=r"did not start .*Cannot allocate memory\. Nothing is lost"
        ),
        launched.cluster(PlacementConfig(), data_bytes=0),
    ):
        pass
    assert len(calls) == 3 and not folders()


@pytest.mark.parametrize(
    ("error", "times", "asked"),
    [(HEAD_FAILED, 2, 3), (HEAD_FAILED, 9, 3), (ConnectionError("connection timeout"), 9, 1)],
)
def test_a_head_that_answers_and_fails_is_asked_again(tries, error, times: int, asked: int) -> None:
    """One that does not answer is not: each try of Ray's takes half a minute."""
    calls = tries(error, times)
    placement = PlacementConfig(address="ray://127.0.0.1:1", ship=True)
    if asked > times:
        with launched.cluster(placement, data_bytes=0):
            assert not folders()  # what was shipped is with Ray by now
    else:
        with (
            pytest.raises(RequestError, match=r"no Ray cluster answers at .*(no memory|timeout)"),
            launched.cluster(placement, data_bytes=0),
        ):
            pass
    assert len(calls) == asked and not folders()
    assert len({each["runtime_env"]["working_dir"] for each in calls}) == 1  # shipped once


@pytest.mark.parametrize(("codes", "asked"), [("F0", 2), ("FF0", 3), ("FFFF", 3), ("1", 1)])
def test_so_it_is_before_anything_is_made(monkeypatch, codes: str, asked: int) -> None:
    """By the process that knocks."""
    calls = []

    def knock(command, **_) -> subprocess.CompletedProcess:
        code = codes[len(calls)]
        calls.append(command)
        said = {"F": "ConnectionAbortedError: it died", "1": "ConnectionError: timeout"}.get(
            code, ""
        )
        return subprocess.CompletedProcess(command, 0 if code == "0" else 1, "", said)

    monkeypatch.setattr(subprocess, "run", knock)
    expected = (
        contextlib.nullcontext()
        if codes.endswith("0")
        else pytest.raises(RequestError, match=r"no Ray cluster answers at .*(it died|timeout)")
    )
    with expected:
        check_that_it_answers("auto")
    assert len(calls) == asked


UNDER_UV = """
import subprocess, sys
subprocess.run(sys.argv[1:], check=True)
"""

LATE = """
import ray  # as a notebook may have done

from launch.cluster import cluster
from launch.config import PlacementConfig

with cluster(PlacementConfig(workers="1"), data_bytes=0):
    sent = dict(ray.get_runtime_context().runtime_env)
print(sent)
"""


@pytest.mark.ray
@pytest.mark.slow
def test_uv_above_us_and_an_early_import_of_ray_send_nothing(tmp_path) -> None:
    """Ray would send the working directory to its workers; where we have left ours, the whole machine."""
    (tmp_path / "run").write_text(UNDER_UV)  # Python's first argument, so that this is `uv run`
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        ["uv", "run", sys.executable, "-c", LATE],
        executable=sys.executable,
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, "{}\n"), done.stderr
