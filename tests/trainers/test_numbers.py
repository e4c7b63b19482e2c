"""Numbers at their limits: whatever a child computes, a result says what happened, and no other
candidate notices.

Every candidate here runs in one traced trainer, as in a run, beside an ordinary one whose bits must
never change.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spaces import PAPER, OperatorTable, Prober, TracedForm, operator, parse, run_preflight
from spaces.operator import Operator
from trainers.__main__ import main
from trainers.config import TrainConfig
from trainers.dataset import Dataset, Split, load_dataset
from trainers.linked_form import LinkedForm
from trainers.loop import LoopDriver
from trainers.result import Result
from trainers.trainer import Trainer


@operator
def steep(x, *, beta=0.0):
    """Bounded, but so steep in β that the first step of training throws β out of float32."""
    return x + 30.0 * jnp.clip(beta * 3e38, -1.0, 1.0)


# BatchNorm's running statistics let larger values through than a batch's own.
BRITTLE = Operator("brittle", 1, lambda x: jnp.where(jnp.abs(x) > 10.0, jnp.nan, x))

OPERATORS = PAPER.only("identity", "scale", "cube", "exp", "cosh", "mul", "gate").with_unary(
    steep, BRITTLE
)
TABLE = OperatorTable.for_run(OPERATORS, core_units=1)
CONFIG = TrainConfig(child="resnet8", width=4, steps=6, batch_size=16, lr=0.05)
ORDINARY = parse("gate(scale(x), x)", OPERATORS)
SCALED = parse("scale(x)", OPERATORS)


def split_of(size: int, seed: int) -> Split:
    """Images 8 x 8 x 2 of three classes that differ in brightness."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, size).astype(np.int32)
    images = rng.integers(0, 100, (size, 8, 8, 2), dtype=np.uint8)
    images += (labels * 60).astype(np.uint8)[:, None, None, None]
    return Split(images, labels)


DATA = Dataset(
    name="bright",
    train=split_of(70, 0),
    valid=split_of(37, 1),
    num_classes=3,
    digest="",
    mirror=True,
)


@pytest.fixture(scope="module", params=["loop", "scan"])
def trainer(request: pytest.FixtureRequest) -> Trainer:
    return Trainer(CONFIG, DATA, TABLE, driver=request.param)


@pytest.fixture(scope="module")
def alone(trainer: Trainer) -> Result:
    """The ordinary candidate before anything else ran in this trainer."""
    result = trainer.run(ORDINARY, seed=3)
    assert result.status == "ok"
    return result


def plain(result: Result) -> Result:
    """Without the clock."""
    return dataclasses.replace(result, seconds=Result(status="ok").seconds, compilations=0)


def check_defined(result: Result) -> None:
    """Either a reward with everything finite, or a reason in one line and no reward."""
    json.dumps(result.to_dict(), allow_nan=False)
    assert all(math.isfinite(point.loss) for point in result.curve)
    if result.status == "ok":
        assert (result.reason, result.steps) == (None, CONFIG.steps)
        assert result.accuracy in {right / 37 for right in range(38)}
        assert result.loss is not None and math.isfinite(result.loss)
        for entry in result.beta:
            assert math.isfinite(entry.mean + entry.std + entry.min + entry.max)
    else:
        assert result.status == "diverged"
        assert result.reason and len(result.reason.splitlines()) == 1
        assert (result.accuracy, result.loss, result.beta) == (None, None, ())
        assert 1 <= result.steps <= CONFIG.steps


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mul(exp(x), cosh(x))", "loss became nan at step 1"),
        ("cube(x)", "loss became nan at step 2"),
        ("brittle(x)", "validation loss became nan"),
    ],
)
def test_what_is_finite_in_the_preflight_and_diverges_later(
    text: str, reason: str, trainer: Trainer, alone: Result
):
    candidate = parse(text, OPERATORS)
    assert run_preflight(Prober(TABLE).probe([candidate])[0]) == ("ok", "")
    result = trainer.run(candidate, seed=0)
    check_defined(result)
    assert (result.status, result.reason) == ("diverged", reason)
    assert plain(trainer.run(ORDINARY, seed=3)) == plain(alone)


def test_a_trainable_vector_that_becomes_infinite_is_no_result(
    trainer: Trainer, alone: Result, monkeypatch: pytest.MonkeyPatch
):
    # Machine code sums over images what is infinite already, of both signs, which is NaN.
    monkeypatch.setattr(trainer, "links", False)
    judged: list[tuple[float, float]] = []
    evaluate = trainer._driver.evaluate

    def listen(*arguments: Any) -> tuple[float, float]:
        judged.append(evaluate(*arguments))
        return judged[-1]

    monkeypatch.setattr(trainer._driver, "evaluate", listen)
    result = trainer.run(parse("steep(x)", OPERATORS), seed=0)
    check_defined(result)
    # Every loss was finite, and one would have been the reward's company.
    assert result.steps == CONFIG.steps and math.isfinite(judged[0][0])
    assert result.status == "diverged"
    assert result.reason in {f"beta of steep in act became {value}" for value in ("inf", "-inf")}


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_beats_a_finite_accuracy(
    loss: float, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trainer._driver, "evaluate", lambda *_: (loss, 0.9))
    result = trainer.run(ORDINARY, seed=3)
    check_defined(result)
    assert (result.status, result.reason) == ("diverged", f"validation loss became {loss}")


def test_the_accuracy_of_logits_that_are_no_numbers_is_never_a_reward(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
):
    """The largest of NaNs is class 0: such a child would be as good as guessing that."""
    # Machine code sums over images what is infinite already, of both signs, which is NaN.
    monkeypatch.setattr(trainer, "links", False)
    judged: list[tuple[float, float]] = []
    evaluate = trainer._driver.evaluate

    def listen(*arguments: Any) -> tuple[float, float]:
        judged.append(evaluate(*arguments))
        return judged[-1]

    monkeypatch.setattr(trainer._driver, "evaluate", listen)
    result = trainer.run(parse("brittle(x)", OPERATORS), seed=0)
    ((loss, accuracy),) = judged
    assert math.isnan(loss) and accuracy > 0
    assert (result.status, result.accuracy) == ("diverged", None)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(math.nan)
@example(math.inf)
@example(-math.inf)
@example(3e38)
@example(-1e38)
@example(1e19)  # its square is not finite
@example(1e-42)  # denormal
@example(-0.0)
@given(st.floats(width=32))
def test_outputs_of_any_size_give_a_result_and_leave_no_trace(
    trainer: Trainer, alone: Result, factor: float
):
    """x times any float32: of the first step's activations, and so of everything after."""

    def initial(program: Any) -> np.ndarray:
        return np.full(shape, factor, np.float32)

    form = LinkedForm if trainer.links else TracedForm
    compiled, shape = trainer._kept[form], (TABLE.slots, TABLE.vectors)
    trainer._kept[form] = compiled._replace(initial=initial)
    try:
        result = trainer.run(SCALED, seed=0)
    finally:
        trainer._kept[form] = compiled
    check_defined(result)
    if not math.isfinite(factor) or abs(factor) >= 1e30:
        assert (result.status, result.steps) == ("diverged", 1)
    if abs(factor) <= 1:
        assert result.status == "ok"
    assert plain(trainer.run(ORDINARY, seed=3)) == plain(alone)
    # XLA computes with denormals as zero; what NumPy does with them must not depend on it.
    assert np.float32(1e-42) * np.float32(1.0) > 0


# Data


@pytest.mark.parametrize("trainer", ["loop"], indirect=True)
def test_a_validation_split_without_a_class_is_judged_as_any_other(trainer: Trainer):
    """What is right in all images is the sum over two parts, of which each lacks classes."""
    labels = DATA.valid.labels
    whole = trainer.run(ORDINARY, seed=3)
    right, losses = [], []
    for chosen in (labels != 2, labels == 2):
        valid = Split(DATA.valid.images[chosen], labels[chosen])
        judge = Trainer(CONFIG, dataclasses.replace(DATA, valid=valid), TABLE, driver="loop")
        # The program that is there fills the batch up to all images.
        assert isinstance(judge._driver, LoopDriver)
        judge._kept, judge._driver._evaluation_batch = trainer._kept, len(labels)
        result = judge.run(ORDINARY, seed=3)
        assert result.status == "ok" and result.accuracy is not None and result.loss is not None
        right.append(result.accuracy * len(valid.labels))
        losses.append(result.loss * len(valid.labels))
    assert whole.accuracy is not None
    assert sum(right) == pytest.approx(whole.accuracy * len(labels), rel=1e-12)
    assert 0 < right[0] < sum(right)
    assert sum(losses) / len(labels) == pytest.approx(whole.loss, rel=1e-6)


def test_classes_may_be_missing_from_the_data_that_judge():
    """Two images of the digits hold two classes at most."""
    data = load_dataset("digits", data_dir=None, image_size=None, valid_size=2, seed=0)
    assert len(set(data.valid.labels.tolist())) < data.num_classes == 10
    with pytest.raises(ValueError, match=r"`valid_size` must leave examples of every class"):
        load_dataset("digits", data_dir=None, image_size=None, valid_size=1499, seed=0)


# Requests


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size=5000"], "`batch_size` must be ≤ 1200, the number of training images"),
        (["--batch-size=99999999999"], "`batch_size` must be ≤ 2147483647, got 99999999999"),
        (["--steps=2147483648"], "`steps` must be ≤ 2147483647, got 2147483648"),
        ([f"--steps=1{'0' * 400}"], "`steps` must be ≤ 2147483647, got 1000"),
        (["--lr=1e300"], "`lr` must be a number up to 3.4e+38, got 1e+300"),
        (["--weight-decay=3.5e38"], "`weight_decay` must be a number up to 3.4e+38, got 3.5e+38"),
        (["--beta-init=-1e39"], "`beta_init` must be a number up to 3.4e+38, got -1e+39"),
    ],
)
def test_a_number_that_cannot_be_trained_with_is_refused_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["relu(x)", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert len(said.err.splitlines()) == 1


def test_numbers_at_the_limits_are_no_errors():
    TrainConfig(lr=3.4e38, beta_init=-3.4e38, weight_decay=1e-45, steps=2**31 - 1)
    with pytest.raises(ValueError, match="`lr` must be a number up to"):
        TrainConfig(lr=10**400)
