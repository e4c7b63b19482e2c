"""The one command that answers everything of an accelerator, tried on a CPU with a small child."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("accelerator.py")
SMALL = ("--child=resnet8", "--width=2", "--image-size=8", "--batch-size=16", "--steps=400")


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, of a folder that is no package."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("accelerator")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Noise, in CIFAR-10's files."""
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        records = rng.integers(0, 256, (10_000, 1 + 3 * 32 * 32), np.uint8)
        records[:, 0] %= 10
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
    return tmp_path


@pytest.mark.slow
def test_each_part_is_told_and_what_fails_is_told_so(images: Path):
    peers = bool(os.environ.get("ACTSEARCH_REQUIRE_PEERS"))
    forms = ["torch-eager", "no-such-form"] if peers else ["no-such-form"]
    ran = subprocess.run(
        [
            *(sys.executable, SCRIPT, "--device=cpu", "--json", f"--data-dir={images}", *SMALL),
            *(
                "--processes",
                "1",
                "--candidates=1",
                "--seconds=4",
                "--precision=float32",
                "--peer-steps=20",
            ),
            *("--peer-forms", *forms),
        ],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ran.returncode == 0, ran.stderr
    *rows, summary = map(json.loads, ran.stdout.splitlines())
    assert [row["name"] for row in rows] == ["1 process", *forms]
    ours, *theirs, wrong = rows
    assert wrong == {"name": "no-such-form", "processes": 0, "failed": "exit code 1"}
    assert ours["candidates_per_hour"] == max(ours["candidates_per_hour_by_form"].values()) > 0
    hours = ours["hours_for_the_one_unit_space"]
    assert (
        hours["by rungs 400:400,2000:60,10000:12"] > hours["in full"] > 0
    )  # 400 steps are all here
    assert 0 < ours["floor_ms"] < ours["step_ms"]
    for row in theirs:
        # A trial is more than its steps.
        assert 0 < row["candidates_per_hour"] < 3600 / (400e-3 * row["step_ms"])
        assert summary["times_best_peer"] == pytest.approx(
            ours["candidates_per_hour"] / row["candidates_per_hour"]
        )
    assert (summary["best"], summary["best_peer"]) == (
        "1 process",
        "torch-eager" if peers else None,
    )


def test_a_part_that_takes_too_long_is_ended_with_what_it_started(accelerator: Any, tmp_path: Path):
    mark = tmp_path / "mark"
    child = f"import time, pathlib; time.sleep(3); pathlib.Path({str(mark)!r}).touch()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    part = accelerator.Part("slow", [sys.executable, "-c", parent], 1)
    with pytest.raises(accelerator.PartError, match="longer than 1 s"):
        accelerator.answer(part, 1.0)
    time.sleep(3.0)  # by then the child would have left its mark
    assert not mark.exists()


def test_a_part_has_the_settings_it_asks_for(accelerator: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XLA_FLAGS", "--one")
    say = "import json, os; print(json.dumps(os.environ['XLA_FLAGS']))"
    part = accelerator.Part("said", [sys.executable, "-c", say], 1, "--other={folder}")
    one, other = accelerator.answer(part, 60.0).split()
    name, _, folder = other.partition("=")
    assert (one, name) == ("--one", "--other") and Path(folder).is_absolute()


CONTROL = """#!/bin/sh
# A stand-in for NVIDIA's: there is no GPU here.
echo "$CUDA_MPS_PIPE_DIRECTORY $* $(cat)" >> "$(dirname "$0")/told"
exit {code}
"""


def test_several_processes_share_a_gpu_by_its_service_as_well(
    accelerator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    control = tmp_path / "nvidia-cuda-mps-control"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    say = "import json, os; print(json.dumps(os.environ['CUDA_MPS_PIPE_DIRECTORY']))"
    part = accelerator.Part("4 processes by MPS", [sys.executable, "-c", say], 4, mps=True)
    control.write_text(CONTROL.format(code=0))
    control.chmod(0o755)
    folder = accelerator.answer(part, 60.0)
    # Started before, and ended with what its command line is told.
    assert (tmp_path / "told").read_text() == f"{folder} -d \n{folder}  quit\n"
    assert not Path(folder).exists()
    control.write_text(CONTROL.format(code=1))
    with pytest.raises(accelerator.PartError, match="MPS does not start"):
        accelerator.answer(part, 60.0)
    control.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(accelerator.PartError, match="no nvidia-cuda-mps-control"):
        accelerator.answer(part, 60.0)


def test_a_gpu_has_all_parts_and_their_commands_are_understood(accelerator: Any):
    asked = accelerator.flags().parse_args(["--data-dir=here", "--processes", "1", "2", "4"])
    parts = {part.name: part for part in accelerator.parts(asked)}
    kept = parts["autotuning kept"]
    assert {"--candidates=1", "--processes=1"} < set(kept.command) and "{folder}" in kept.xla_flags
    assert list(parts) == [
        *("1 process", "torch-graphs-bf16", "torch-compile-bf16", "torch-eager-bf16"),
        *("2 processes", "4 processes", "4 processes by MPS"),
        *("next candidate compiled ahead", "2 programs in one process"),
        *accelerator.SETTINGS,
    ]
    understood = importlib.import_module("in_one_process").parser()
    for name, ahead in (
        ("next candidate compiled ahead", True),
        ("2 programs in one process", False),
    ):
        _, script, *flags = parts[name].command
        assert Path(script).name == "in_one_process.py"
        train = understood.parse_args(flags)
        assert (train.ahead, train.trainings, train.seconds) == (ahead, 2, 15.0)
        assert (train.child, train.steps, train.precision) == ("resnet20", 10_000, "bfloat16")


def test_parts_that_nobody_knows_are_refused(
    accelerator: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.argv", ["accelerator.py", "--data-dir=here", "--only", "MSP"])
    with pytest.raises(SystemExit) as ended:
        accelerator.main()
    assert ended.value.code == 2
    assert "--only: no part is named MSP; there are 1 process, " in capsys.readouterr().err


def test_a_way_that_no_search_goes_is_told_and_is_not_the_best(accelerator: Any):
    form = {"candidates_per_hour": 50.0, "step_ms": 2.0, "times_one": 1.25}
    slower = form | {"candidates_per_hour": 40.0}
    found = {"device": "a GPU", "forms": {"traced": slower, "specialised": form}}
    tried = {"name": "ahead", "processes": 1, **accelerator.in_one(found)}
    assert accelerator.line(tried) == (
        "ahead: 50.0 candidates/hour, a step 2.00 ms (specialised), 1.25 × one training alone"
    )
    known = {"name": "1 process", "processes": 1, "candidates_per_hour": 30.0, "device": "a GPU"}
    assert accelerator.summary([known, tried])["best"] == "1 process"


def test_no_part_begins_when_the_time_is_over(accelerator: Any, monkeypatch: pytest.MonkeyPatch):
    parts = [accelerator.Part(name, [], 0) for name in ("first", "second")]
    monkeypatch.setattr(accelerator, "parts", lambda asked: parts)
    asked = argparse.Namespace(minutes=0.2, only=["first", "second"])
    rows = list(accelerator.measured(asked))
    assert [row["failed"] for row in rows] == ["no time left of 0.2 minutes"] * 2
    asked.only = ["eco"]
    assert [row["name"] for row in accelerator.measured(asked)] == ["second"]
    assert accelerator.summary(rows)["times_best_peer"] is None
    assert accelerator.line(rows[0]) == "first: not measured: no time left of 0.2 minutes"


def test_xla_knows_the_settings(accelerator: Any):
    """It ends a process that asks for one it does not know; it takes the last of those that are there twice."""
    flags = " ".join(accelerator.SETTINGS.values()).format(folder="/nonexistent")
    assert len(flags.split()) == 3
    ran = subprocess.run(
        [sys.executable, "-c", "import jax; print(jax.numpy.ones(2).sum())"],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.stdout.strip() == "2.0", ran.stderr
