"""Trainings that share a process, tried on a CPU with a tiny child: what is told follows from what is measured."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spaces import PAPER, OperatorTable
from trainers.config import TrainConfig
from trainers.dataset import load_dataset
from trainers.timing import BenchError, random_candidates
from trainers.trainer import Trainer

SCRIPT = Path(__file__).with_name("in_one_process.py")
STEPS = 4
TINY = ("--dataset=digits", "--child=resnet8", "--width=1", "--batch-size=16", f"--steps={STEPS}")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, of a folder that is no package."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("in_one_process")


def rest_s(values: dict[str, float]) -> float:
    """Seconds of a trial beside its compilation and its steps."""
    return values["start_s"] + values["evaluate_s"]


@pytest.mark.slow
def test_trainings_at_once_are_told_beside_one_alone(module: Any):
    config = TrainConfig(
        dataset="digits", child="resnet8", width=1, batch_size=16, steps=STEPS, lr=1e-4
    )
    table = OperatorTable.for_run(PAPER, core_units=1, extra=[], beta_init=1.0)
    data = load_dataset("digits", data_dir=None, image_size=None, valid_size=None, seed=0)
    trainer = Trainer(config, data, table, driver="scan")
    candidates = random_candidates(PAPER, 1, table, seed=0)
    chosen = [next(candidates) for _ in range(2)]
    asked = argparse.Namespace(seed=0, seconds=0.4)
    found = module.at_once(trainer, chosen, "specialised", asked)
    assert trainer.compilations == 2
    trial_s = found["compile_s"] + STEPS * found["step_ms"] / 1e3 + rest_s(found)
    alone_s = found["compile_s"] + STEPS * found["step_alone_ms"] / 1e3 + rest_s(found)
    assert found["candidates_per_hour"] == pytest.approx(2 * 3600 / trial_s)
    assert found["times_one"] == pytest.approx(2 * alone_s / trial_s)
    document = {"device": "cpu", "ahead": False, "trainings": 2, "forms": {"specialised": found}}
    assert module.lines(document)[0] == "cpu, 2 at once"


@pytest.mark.slow
def test_what_is_compiled_meanwhile_costs_only_what_outlasts_the_training(
    module: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    words = ["in_one_process.py", "--ahead", "--json", "--seconds=0.1", *TINY]
    monkeypatch.setattr("sys.argv", words)
    module.main()
    found = json.loads(capsys.readouterr().out)
    values = found["forms"]["specialised"]
    assert (found["ahead"], found["trainings"]) == (True, 1)
    assert found["candidates_per_hour_by_form"] == {"specialised": values["candidates_per_hour"]}
    # Four steps are over long before the next candidate is compiled, which is then all that counts.
    assert values["compile_s"] > STEPS * values["step_ms"] / 1e3
    assert values["candidates_per_hour"] == pytest.approx(
        3600 / (values["compile_s"] + rest_s(values))
    )


class Steps:
    """A training whose steps take as long as it is told."""

    def __init__(self, step_s: float) -> None:
        self.step_s = step_s
        self.history = SimpleNamespace(diverged=False)
        self.start_s, self.compile_s, self.done = 1.0, 8.0, 0

    def steps(self, count: int) -> float:
        self.done += count
        return count * self.step_s

    def evaluate(self) -> float:
        return 2.0

    def close(self) -> None:
        pass


def test_the_steps_that_follow_the_compilation_go_at_the_pace_of_one_alone(
    module: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("trainers.timed_training.TimedTraining", lambda *_: Steps(0.01))
    monkeypatch.setattr(module, "_compile", lambda *_: 10.0)
    trainer: Any = SimpleNamespace(config=SimpleNamespace(steps=5_000), driver="loop")
    asked = argparse.Namespace(
        seed=0, seconds=1e-9
    )  # one compilation, over before a step has begun
    found = module.compiled_ahead(trainer, iter(range(10**6)), asked)
    # 10 s of its 50 are compilation at once; without, 8 s come before them.
    assert 3600 / found["candidates_per_hour"] == pytest.approx(50 + 3)
    assert found["times_one"] == pytest.approx((8 + 50 + 3) / (50 + 3))


def test_what_diverges_is_no_figure(module: Any):
    training = Steps(0.01)
    module._check([training])
    training.history.diverged = True
    with pytest.raises(BenchError, match="diverged"):
        module._check([training])


@pytest.mark.parametrize("flag", ["--trainings=0", "--seconds=0", "--seconds=nan"])
def test_what_cannot_be_measured_is_refused_in_one_line(
    module: Any, flag: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.argv", ["in_one_process.py", flag])
    with pytest.raises(SystemExit) as ended:
        module.main()
    name = flag.partition("=")[0]
    assert ended.value.code == 2 and f"error: {name} must be " in capsys.readouterr().err
