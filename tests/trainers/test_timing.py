"""Candidates timed in both forms, and what is made of it."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from typing import Any

import jax
import pytest

from spaces import PAPER, OperatorTable, parse
from trainers import Trainer, load_dataset
from trainers.config import TrainConfig
from trainers.timed_training import TimedTraining
from trainers.timing import FORMS, BenchError, Measured, Timing, summary, time_candidates

SWISH, DEAD = parse("mul(scale(x), sigmoid(x))", PAPER), parse("mul(cube(x), cube(x))", PAPER)


def measured(trainer: Trainer, *candidates: Any) -> Measured:
    deadline = time.perf_counter() + 100
    return time_candidates(
        trainer, iter(candidates), count=1, seed=0, seconds=2.0, deadline=deadline
    )


def made(driver: Any) -> Trainer:
    config = TrainConfig(width=2, steps=40, batch_size=16, image_size=8, lr=1e-6)
    data = load_dataset("digits", data_dir=None, image_size=8, valid_size=101, seed=0)
    table = OperatorTable.for_run(
        PAPER.only("identity", "scale", "sigmoid", "cube", "mul"), core_units=1
    )
    return Trainer(config, data, table, driver=driver)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return made("loop")


@pytest.mark.parametrize("driver", ["loop", "scan"])
def test_both_forms_take_turns_of_as_many_steps(driver: str, monkeypatch: pytest.MonkeyPatch):
    trainer = made(driver)
    turns: list[tuple[int, int]] = []
    train = trainer._driver.train

    def noted(stages: Any, *others: Any, total: int, **more: Any) -> Any:
        parts = iter(stages)
        first = next(parts)
        turns.append((id(first.compiled.train), total))
        return train(itertools.chain([first], parts), *others, total=total, **more)

    monkeypatch.setattr(trainer._driver, "train", noted)
    found = measured(trainer, SWISH)
    *_, last = [turns[place : place + 16] for place in range(len(turns) - 15)]
    assert {steps for _, steps in last} == {found.steps // 8}
    assert sorted(Counter(form for form, _ in last).values()) == [8, 8]
    # A, B, B, A and so on: who has the first turn has the last of the next pair.
    forms = [form for form, _ in last]
    assert forms == [forms[0], forms[1], forms[1], forms[0]] * 4
    (timing,) = found.timings
    for values in (timing.step_s, timing.evaluate_s, timing.compile_s, timing.start_s):
        assert set(values) == set(FORMS)
    assert min(*timing.step_s.values(), *timing.evaluate_s.values(), timing.first_s) > 0
    assert timing.compile_s["specialised"] > 0.1 > timing.step_s["specialised"]


def test_what_diverges_is_passed_over(trainer: Trainer):
    assert measured(trainer, DEAD, SWISH).last == SWISH
    with pytest.raises(BenchError, match="every candidate that was drawn diverged"):
        measured(trainer, DEAD)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (MemoryError("no room"), BenchError),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no room"), BenchError),
        (jax.errors.JaxRuntimeError("INTERNAL: out of ideas"), jax.errors.JaxRuntimeError),
    ],
)
def test_too_little_memory_is_told_in_one_line(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception]
):
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(TimedTraining, "__init__", fail)
    with pytest.raises(raised, match=r"^out of memory: .*no room$|^INTERNAL: out of ideas$"):
        measured(trainer, SWISH)


def test_medians_and_what_follows_from_them():
    timings = [
        Timing(
            first_s=0.1 * n,
            start_s={"traced": 0.5, "specialised": 0.5},
            step_s={"traced": 0.02 * n, "specialised": 0.01},
            evaluate_s={"traced": 1.0, "specialised": 0.25},
            compile_s={"traced": 0.1 * n, "specialised": 2.0 + n},
        )
        for n in (1, 2, 5)
    ]
    found = summary(timings, TrainConfig(steps=100, batch_size=32), 20.0, evaluations=2.0)
    traced, specialised = found["forms"]["traced"], found["forms"]["specialised"]
    # 0.2 + 0.5 + 100 x 0.04 + 2 x 1 and 4 + 0.5 + 100 x 0.01 + 2 x 0.25
    assert (traced["trial_s"], specialised["trial_s"]) == pytest.approx((6.7, 6.0))
    assert (traced["compile_s"], specialised["compile_s"]) == (20.0, 4.0)
    assert (traced["fuse_s"], specialised["fuse_s"]) == (0.2, 0.0)
    assert traced["images_per_s"] == pytest.approx(32 / 0.04)
    assert found["traced_over_specialised"] == pytest.approx(4.0)
    assert found["first_step_new_candidate_ms"] == pytest.approx(200.0)
    assert found["form"] == "specialised"
    assert found["candidates_per_hour"] == pytest.approx(600.0)
    asked = summary(timings, TrainConfig(steps=100), 20.0, execution="traced")
    assert (asked["form"], asked["step_ms"], asked["compile_s"]) == ("traced", 40.0, 20.0)
