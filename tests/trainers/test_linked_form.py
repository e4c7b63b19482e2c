"""Candidates linked into a network that was compiled without them: the same training, and when."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spaces import (
    PAPER,
    OperatorSet,
    OperatorTable,
    SpecialisedForm,
    TracedForm,
    operator,
    parse,
)
from trainers import Trainer, linked_form, load_dataset
from trainers.candidate_code import CandidateCode
from trainers.config import TrainConfig
from trainers.fused_code import FUSES_AFTER, fused_code, fuses_after
from trainers.linked_form import (
    SWITCH,
    LinkedForm,
    LinkedProgram,
    links,
)
from trainers.normalisation import batch_norm, normalise_by
from trainers.operator_code import OperatorCodes
from trainers.result import Result

needs_links = pytest.mark.skipif(not links(), reason="XLA's machine code is of another kind here")

CONFIG = TrainConfig(width=4, steps=12, batch_size=20, image_size=8)
OPERATORS = PAPER.only("identity", "sin", "scale", "sigmoid", "tanh", "mul", "mix", "max")
TABLE = OperatorTable.for_run(OPERATORS, core_units=1)
SWISH, MIXED = (
    parse(text, PAPER) for text in ("mul(scale(x), sigmoid(x))", "mix(sin(x), tanh(x))")
)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    data = load_dataset("digits", data_dir=None, image_size=8, valid_size=101, seed=0)
    return Trainer(CONFIG, data, TABLE)


@pytest.fixture
def plain(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Result]:
    """Trains a candidate where none is linked."""

    def run(candidate: Any) -> Result:
        with monkeypatch.context() as patch:
            patch.setattr(trainer, "links", False)
            return trainer.run(candidate, seed=3)

    return run


@pytest.fixture
def after(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says after how many steps candidates are compiled by themselves."""

    def say(steps: int) -> None:
        monkeypatch.setattr(trainer, "fuses_after", lambda total: min(steps, total))

    return say


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The candidates that are compiled by themselves."""
    found: list[str] = []
    original = OperatorCodes.fused

    def make(codes: OperatorCodes, candidate: Any) -> Any:
        found.append(str(candidate))
        return original(codes, candidate)

    monkeypatch.setattr(OperatorCodes, "fused", make)
    return found


def close(found: Result, expected: Result) -> None:
    """Equal but for rounding, a dozen steps on."""
    assert (found.status, found.steps) == (expected.status, expected.steps) == ("ok", 12)
    losses = [[point.loss for point in each.curve] for each in (found, expected)]
    np.testing.assert_allclose(*losses, rtol=2e-5)
    assert found.loss == pytest.approx(expected.loss, rel=2e-5)
    vectors = [[(b.layer, b.param, b.mean, b.std) for b in each.beta] for each in (found, expected)]
    for ours, theirs in zip(*vectors, strict=True):
        assert ours[:2] == theirs[:2]
        np.testing.assert_allclose(ours[2:], theirs[2:], rtol=2e-5, atol=1e-6)


@needs_links
@pytest.mark.parametrize("candidate", [SWISH, MIXED], ids=str)
def test_a_linked_candidate_trains_the_same(
    trainer: Trainer,
    plain: Callable[[Any], Result],
    after: Callable[[int], None],
    fused: list[str],
    candidate: Any,
):
    """By the code of its operators alone, and compiled by itself sooner or later."""
    expected = plain(candidate)
    for steps in (12, 1, 5, 11):
        after(steps)
        found = trainer.run(candidate, seed=3)
        assert fused == ([] if steps == 12 else [str(candidate)])
        close(found, expected)
        again = trainer.run(candidate, seed=3)
        assert (again.curve, again.beta, again.compilations) == (found.curve, found.beta, 0)
        fused.clear()
    assert set(trainer._kept) == {TracedForm, LinkedForm}


@needs_links
def test_with_bfloat16_only_what_is_multiplied_is_rounded():
    data = load_dataset("digits", data_dir=None, image_size=8, valid_size=101, seed=0)
    config = TrainConfig(width=4, steps=6, batch_size=20, image_size=8)
    trainers = {
        precision: Trainer(dataclasses.replace(config, precision=precision), data, TABLE)
        for precision in ("float32", "bfloat16")
    }
    losses = []
    for precision, linked, steps in (
        ("bfloat16", False, 6),
        ("bfloat16", True, 6),
        ("bfloat16", True, 1),
        ("float32", True, 6),
    ):
        trainer = trainers[precision]
        trainer.links = linked
        trainer.fuses_after = lambda total, steps=steps: steps
        losses.append([point.loss for point in trainer.run(SWISH, seed=0).curve])
    plain, *found, exact = losses
    for each in found:
        # Unlinked, what flows between convolutions is rounded to 8 bits too.
        np.testing.assert_allclose(each, plain, rtol=5e-3)
        off = np.abs(np.subtract(each, exact)).max()
        assert 1e-4 < off < np.abs(np.subtract(plain, exact)).max()


@needs_links
def test_one_network_serves_every_candidate_and_forgets_them(
    trainer: Trainer, after: Callable[[int], None]
):
    after(2)
    trainer.run(SWISH, seed=0)
    before = trainer.compilations
    results = [trainer.run(each, seed=0) for each in (MIXED, SWISH)]
    assert trainer.compilations == before
    assert all(result.seconds.compile > 0 for result in results)
    assert not linked_form._codes


@needs_links
def test_operators_are_compiled_once(
    trainer: Trainer, after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
):
    after(12)
    first = trainer.run(parse("mul(sin(x), sigmoid(x))", PAPER), seed=0)
    monkeypatch.setattr("trainers.operator_code.compile_function", None)
    found = trainer.run(parse("mul(sigmoid(x), sin(x))", PAPER), seed=0)
    assert (first.status, found.status) == ("ok", "ok")


@needs_links
def test_a_candidate_that_diverges_at_once_is_not_compiled(
    trainer: Trainer, after: Callable[[int], None], fused: list[str]
):
    """One that does so later is, and is forgotten too."""
    explosive = parse("mul(x, x)", PAPER)
    after(12)
    step = trainer.run(explosive, seed=0).steps
    assert 1 < step < 10
    # A loss is looked at when the step after it has been started.
    for steps, expected in ((step + 1, []), (1, [str(explosive)])):
        after(steps)
        result = trainer.run(explosive, seed=0)
        assert result.status == "diverged"
        assert fused == expected
        assert not linked_form._codes


@needs_links
def test_an_operator_that_cannot_be_linked_is_trained_without(fused: list[str]):
    @operator
    def ranked(x):
        return x + 0 * jnp.sort(x, axis=-1)

    with_it = OperatorSet("with_it", unary=(*OPERATORS.unary, ranked), binary=OPERATORS.binary)
    data = load_dataset("digits", data_dir=None, image_size=8, valid_size=101, seed=0)
    trainer = Trainer(CONFIG, data, OperatorTable.for_run(with_it, core_units=1))
    trainer.fuses_after = lambda total: 2
    candidate = parse("mul(ranked(x), scale(x))", with_it)
    found = trainer.run(candidate, seed=3)
    trainer.links = False
    expected = trainer.run(candidate, seed=3)
    assert (found.curve, found.beta, found.loss) == (expected.curve, expected.beta, expected.loss)
    assert not fused and LinkedForm not in trainer._kept
    trainer.links = True
    assert trainer.run(SWISH, seed=3).status == "ok"
    assert fused == [str(SWISH)]


@needs_links
def test_a_machine_without_memory_for_code_trains_without(
    trainer: Trainer,
    plain: Callable[[Any], Result],
    after: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
):
    """What fails so quietly is the candidate's code alone: a network that cannot be compiled is told of."""

    def refuse(*asked: Any) -> Any:
        raise PermissionError("no memory that may be executed")

    def outcome(result: Result) -> tuple[Any, ...]:
        return result.status, result.curve, result.beta, result.loss

    without = plain(SWISH)
    after(12)
    linked = trainer.run(SWISH, seed=3)
    after(2)
    with monkeypatch.context() as patch:
        patch.setattr(trainer._operators, "fused", refuse)
        assert outcome(trainer.run(SWISH, seed=3)) == outcome(linked)
        patch.setattr(trainer._operators, "code", refuse)
        assert outcome(trainer.run(SWISH, seed=3)) == outcome(without)
    monkeypatch.delitem(trainer._kept, LinkedForm)
    monkeypatch.setattr(trainer._driver, "compile", refuse)
    with pytest.raises(PermissionError, match="executed"):
        trainer.run(SWISH, seed=3)
    assert not linked_form._codes


@needs_links
def test_nothing_asks_for_the_code_of_a_candidate_that_has_diverged(
    trainer: Trainer, after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
):
    """The step after the last is under way by then; it is slow here, so that whoever did not wait would be gone."""
    script, missed = CandidateCode.script, []

    def slowly(code: CandidateCode, back: bool, kind: int) -> Any:
        made = script(code, back, kind)
        made.call(ctypes.cast(ctypes.CDLL(None).usleep, ctypes.c_void_p).value or 0, 10_000)
        return made

    class Codes(dict):
        def __missing__(self, number: int) -> Any:
            missed.append(number)
            raise KeyError(number)

    monkeypatch.setattr(CandidateCode, "script", slowly)
    monkeypatch.setattr(linked_form, "_codes", Codes())
    after(1)
    assert trainer.run(parse("mul(x, x)", PAPER), seed=0).status == "diverged"
    time.sleep(0.3)  # by then the step under way would have asked
    assert not missed


# When


def test_what_is_trained_long_enough_is_compiled_by_itself():
    config = TrainConfig(child="resnet8", width=16, batch_size=64, steps=300)
    # 64 images of 3 · 16² · 16 + 2 · 8² · 32 + 2 · 4² · 64 elements save 3.5 ms a step, and 0.3 s are to be saved.
    assert fuses_after(config, 16, 90) == 90
    assert fuses_after(config, 16, 100) == fuses_after(config, 16, 10_000) == FUSES_AFTER
    assert fuses_after(config, 32, 40) == FUSES_AFTER
    assert fuses_after(TrainConfig(width=2, batch_size=16), 8, 300) == 300
    assert fuses_after(config, 16, 5) == 5


def test_a_switch_turns_it_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SWITCH, "0")
    assert not links()
    data = load_dataset("digits", data_dir=None, image_size=8, valid_size=101, seed=0)
    assert not Trainer(CONFIG, data, TABLE).links


def test_the_driver_of_accelerators_links_nothing():
    data = load_dataset("digits", data_dir=None, image_size=8, valid_size=101, seed=0)
    assert not Trainer(CONFIG, data, TABLE, driver="scan").links


@pytest.mark.parametrize(
    "name, value",
    [
        ("sys.platform", "darwin"),
        ("platform.machine", lambda: "aarch64"),
        ("jax.default_backend", lambda: "gpu"),
        ("trainers.linked_form.available", lambda: False),
    ],
)
def test_elsewhere_nothing_is_linked(monkeypatch: pytest.MonkeyPatch, name: str, value: Any):
    monkeypatch.setattr(name, value)
    assert not links()


# Processes

SCRIPT = """
import json, sys
from pathlib import Path
from trainers.parallel import use_cores
use_cores(int(sys.argv[1]))
from spaces import PAPER, OperatorTable, parse
from trainers import Trainer, load_dataset
from trainers.candidate_code import CandidateCode
from trainers.config import TrainConfig
config = TrainConfig(width=4, steps=12, batch_size=12, image_size=8)
data = load_dataset("digits", data_dir=None, image_size=8, valid_size=101, seed=0)
table = OperatorTable.for_run(PAPER.only("identity", "sigmoid", "scale", "mul"), core_units=1)
trainer = Trainer(config, data, table, cache=Path(sys.argv[2]))
trainer.fuses_after = lambda total: 2
from trainers import operator_code
compiled, compile_function = [], operator_code.compile_function
def count(*asked):
    compiled.append(asked[1:])
    return compile_function(*asked)
operator_code.compile_function = count
found = trainer.run(parse("mul(scale(x), sigmoid(x))", PAPER), seed=0)
print(json.dumps({
    "linked": [form.__name__ for form in trainer._kept],
    "compiled": compiled,
    "losses": [point.loss for point in found.curve],
    "loss": found.loss,
    "beta": [(b.mean, b.std) for b in found.beta],
    "compile": found.seconds.compile,
}))
"""


def trained(cores: int, cache: Path) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(cores), str(cache)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    return json.loads(ran.stdout)


@needs_links
def test_devices_share_a_batch_and_a_later_process_has_the_programs(tmp_path: Path):
    whole, split = trained(1, tmp_path), trained(3, tmp_path)
    assert whole["linked"] == split["linked"] == ["LinkedForm"]
    # Sums are made in another order: rounding, a dozen steps on.
    np.testing.assert_allclose(split["losses"], whole["losses"], rtol=2e-5)
    np.testing.assert_allclose(split["beta"], whole["beta"], rtol=2e-5, atol=1e-6)
    assert len(split["compiled"]) == 4  # the normalisation and three operators
    again = trained(3, tmp_path)
    assert {**again, "compile": 0} == {**split, "compile": 0, "compiled": []}
    assert again["compile"] < split["compile"] / 2


@needs_links
def test_the_gradient_of_the_vectors_is_summed_over_all_images():
    """By hand: β of mul(x, scale(x)) is the sum of x² times the cotangent."""
    table = OperatorTable.for_run(PAPER.only("identity", "scale", "mul"), core_units=1)
    candidate = parse("mul(x, scale(x))", PAPER)
    form = LinkedForm(table, 64)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((5, 7, 7, 4)), jnp.float32)
    beta = jnp.full((3, table.vectors, 4), 0.5, jnp.float32)
    with linked_form.linked(fused_code(table, candidate, 64)) as number:
        program: Any = LinkedProgram(table.program(candidate), number)
        found, back = jax.vjp(lambda x, beta: form(x, beta, program), x, beta)
        dx, dbeta = back(jnp.ones_like(x))
        np.testing.assert_allclose(found, 0.5 * x * x, rtol=1e-6)
        np.testing.assert_allclose(dx, x, rtol=1e-6)
        np.testing.assert_allclose(dbeta[1, 0], (x * x).sum((0, 1, 2)), rtol=1e-5)
        assert float(jnp.abs(dbeta).sum()) == pytest.approx(float((x * x).sum()), rel=1e-5)
    with pytest.raises(jax.errors.JaxRuntimeError, match=str(number)):
        jax.jit(lambda x, beta: form(x, beta, program))(x, beta).block_until_ready()


@needs_links
@pytest.mark.parametrize("shortcut", [False, True])
def test_behind_batch_norm_it_is_what_both_are_one_after_the_other(shortcut: bool):
    """Value, statistics and all gradients; and with statistics that are known."""
    table = OperatorTable.for_run(OPERATORS, core_units=1)
    form, plain = LinkedForm(table, 64), SpecialisedForm(table, SWISH)
    rng = np.random.default_rng(0)
    x, added, cotangent = (
        jnp.asarray(rng.standard_normal((5, 7, 7, 4)) + 1, jnp.float32) for _ in range(3)
    )
    scale, bias = (jnp.asarray(rng.uniform(0.5, 1.5, 4), jnp.float32) for _ in range(2))
    beta = jnp.asarray(rng.uniform(0.5, 1.5, (3, table.vectors, 4)), jnp.float32)
    extra = (added,) if shortcut else ()
    with linked_form.linked(fused_code(table, SWISH, 64)) as number:
        program = LinkedProgram(table.program(SWISH), number)

        def ours(x, scale, bias, beta, *added):
            one = added[0] if added else None
            return form.behind_batch_norm(x, scale, bias, one, beta, program)

        def theirs(x, scale, bias, beta, *added):
            y, mean, variance = batch_norm(x, scale, bias)
            y = y + added[0] if added else y
            return plain(y, beta, program.program), mean, variance

        given = x, scale, bias, beta, *extra
        found, back = jax.vjp(ours, *given)
        expected, expected_back = jax.vjp(theirs, *given)
        zeros = jnp.zeros(4), jnp.zeros(4)
        pairs = [(found, expected), (back((cotangent, *zeros)), expected_back((cotangent, *zeros)))]
        for one, other in ((a, b) for pair in pairs for a, b in zip(*pair, strict=True)):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5 * np.abs(other).max())
        known = expected[1] + 0.5, expected[2] + 0.5
        y = normalise_by(x, *known, scale, bias)
        y, one = (y + added, added) if shortcut else (y, None)
        found = form.behind_norm(x, *known, scale, bias, one, beta, program)
        np.testing.assert_allclose(found, plain(y, beta, program.program), rtol=2e-5, atol=1e-5)
