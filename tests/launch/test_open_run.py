"""Runs from Python: reading, data frames, candidates as functions and as Flax modules."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import launch
from launch import RequestError, open_run
from launch.cli import run as command
from launch.inspection.function import Function
from search.journal import Journal
from spaces import PAPER, OperatorSet, canonical, formula, parse

ROOT = Path(__file__).parents[2]

OPERATORS = """
import jax.numpy as jnp
from spaces import PAPER, Operator, Param

OPS = PAPER.only("identity", "scale", "relu", "add", "mul").with_unary(
    Operator("bend", 1, lambda x, p: p["a"] * jnp.tanh(p["b"] * x) + x,
             params=(Param("a", 0.5), Param("b", 2.0)))
)
"""


def swish(x: Any, beta: Any = 1.0) -> Any:
    return x / (1 + np.exp(-beta * x))


@pytest.fixture(scope="module")
def run(a_run):
    with open_run(a_run) as opened:
        yield opened


def function(text: str, operators: OperatorSet = PAPER, beta_init=None) -> Function:
    return Function(canonical(parse(text, operators), operators), operators, beta_init)


def test_it_agrees_with_the_command_line(run, a_run, capsys):
    assert command(["top", str(a_run), "--json"]) == 0
    ranking = json.loads(capsys.readouterr().out)["candidates"]
    found = run.candidates()
    assert len(run) == len(found) == len(ranking)
    for one, other in zip(found, ranking, strict=True):
        for entry in ("rank", "expression", "formula", "name", "reward", "loss", "status"):
            assert getattr(one, entry) == other[entry]
    assert [each.rank for each in run.best(3)] == [1, 2, 3]
    assert len(run.best(1000)) == sum(each["reward"] is not None for each in ranking)
    assert [each.expression for each in run] == [each.expression for each in found]
    assert run.finished and run.summary().trials == 302
    assert run.config["search"]["trials"] == run.science.search.trials == 300
    assert repr(run) == f"<run {a_run}: 302 trials done, finished>"
    assert run["swish"].details()["trials"][0]["curve"][-1]["step"] == 100


def test_candidates_are_found_by_rank_name_text_and_value(run):
    rank = run["Swish"].rank
    ways = (rank, str(rank), "gate(scale(x), x)", "mul(sigmoid(scale(x)), x)", "x · σ(βx)")
    assert {run[way].expression for way in ways} == {"gate(scale(x), x)"}
    for wrong, message in (
        ("swsh", "did you mean `swish`"),
        (0, "must be a rank from 1 to"),
        ("mul(x, cosh(sinh(x)))", "has met no"),
        ("sqrt(neg(square(x)))", "has met no"),  # not finite anywhere: equal to nothing
    ):
        with pytest.raises(RequestError, match=message):
            run[wrong]


def test_a_run_is_read_as_it_is_at_that_moment(tmp_path, make_run):
    folder = make_run(tmp_path / "live", stop_after=3)
    opened = open_run(folder)
    assert (len(opened), opened.finished) == (3, False)
    assert len(opened.trials_frame()) >= 3
    make_run(folder, stop_after=4)
    assert len(opened) == 7
    make_run(folder)
    assert (len(opened), opened.finished) == (302, True)
    opened.close()
    with pytest.raises(RequestError, match="has been closed"):
        opened.candidates()


def test_a_read_only_copy_is_enough_and_stays_untouched(a_run, tmp_path, contents):
    copy = tmp_path / "copy"
    shutil.copytree(a_run, copy)
    before = contents(copy)
    for path in (*copy.iterdir(), copy):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with open_run(str(copy)) as opened:
        assert opened.summary().history == open_run(a_run).summary().history
        assert len(opened.trials_frame()) == 302 and len(opened.frame()) > 302
        assert opened["swish"](1.0) > 0 and opened["swish"].details()["proposed"] == 0
    assert contents(copy) == before
    copy.chmod(0o755)


def test_the_frame_has_every_candidate(run, a_run):
    frame = run.frame()
    journal = Journal.read(a_run)
    rows = {row.id: row for row in journal.candidates()}
    proposed = list(journal.proposed())
    journal.close()
    assert sorted(frame.index) == sorted(rows)
    assert frame["rank"].dropna().tolist() == list(range(1, len(run) + 1))
    best = frame.iloc[0]
    assert [best[entry] for entry in ("rank", "expression", "reward")] == [
        1, run[1].expression, run[1].reward
    ]  # fmt: skip
    equal = frame[frame.status == "equal"]
    assert len(equal) == sum(row.equal_to is not None for row in rows.values()) > 0
    for number, row in equal.iterrows():
        root = rows[rows[number].root]
        assert row.equal_to == root.expression and math.isnan(row.reward) and row.trials == 0
    refused = frame[frame.status.isin(["invalid", "constant"])]
    assert len(refused) == sum(row.verdict != "ok" for row in rows.values()) > 0
    assert (refused.reason != "").all() and refused["rank"].isna().all()
    assert frame.proposed.sum() == len(proposed)
    assert set(frame[frame.baseline].name) == {"ReLU", "Swish"}
    assert frame.reward.dtype == "float64" and frame["rank"].dtype == "Int64"


def test_the_trials_frame_has_every_trial(tmp_path, make_run):
    folder = make_run(tmp_path / "rungs", rungs="50:4,100:2", replicates=2, trials=12)
    opened = open_run(folder)
    frame = opened.trials_frame()
    assert len(frame) == opened.summary().trials == 2 + 12 + (4 + 2) * 2
    assert set(frame.steps[frame.rung == 1]) == {100} and set(frame.steps[frame.rung == 0]) == {50}
    assert set(frame[frame.rung == 1].replicate) == {0, 1}
    rewards = frame.loc[(frame.name == "Swish") & (frame.rung == 1), "reward"].tolist()
    assert len(rewards) == 2 and np.mean(rewards) == pytest.approx(opened["swish"].reward)
    assert str(frame.finished.dt.tz) == "UTC" and frame.finished.is_monotonic_increasing
    begun = make_run(tmp_path / "begun", stop_after=1)
    planned = open_run(begun).trials_frame()
    assert planned.status.tolist()[:2] == ["ok", "planned"] and math.isnan(planned.reward.iloc[1])


def test_called_on_numpy_it_gives_numpy_of_the_same_kind(run):
    f, x = run["swish"], np.linspace(-4, 4, 12).reshape(4, 3)
    assert f.vectors == {"beta": 1.0}
    wide = f(x)
    assert isinstance(wide, np.ndarray) and wide.dtype == np.float64
    np.testing.assert_allclose(wide, swish(x), rtol=1e-13)
    narrow = f(x.astype(np.float32), beta=2.0)
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, swish(x, 2.0), rtol=1e-5, atol=1e-7)
    per_channel = np.array([0.5, 1.0, 3.0])
    np.testing.assert_allclose(f(x, beta=per_channel), swish(x, per_channel), rtol=1e-13)
    assert f(0.5) == pytest.approx(swish(0.5), rel=1e-13)
    assert f(np.array([1, 2])).dtype == np.float32


def test_called_on_jax_it_is_differentiable_in_x_and_in_its_vectors(run):
    f = run["swish"]
    x = jnp.linspace(-3.0, 3.0, 7)
    assert isinstance(f(x), jax.Array)
    assert f(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    slope = jax.vmap(jax.grad(f))(x)
    sigmoid = 1 / (1 + np.exp(-np.asarray(x)))
    np.testing.assert_allclose(slope, sigmoid * (1 + x * (1 - sigmoid)), rtol=1e-5, atol=1e-6)
    pull = jax.grad(lambda beta: f(np.float32(1.5), beta=beta))(jnp.float32(1.0))
    sigmoid = 1 / (1 + math.exp(-1.5))
    assert float(pull) == pytest.approx(1.5**2 * sigmoid * (1 - sigmoid), rel=1e-5)
    curvature = jax.jit(jax.grad(jax.grad(f)))(jnp.float32(0.0))
    assert float(curvature) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("module", [False, True])
def test_several_vectors_have_names_as_the_formula_numbers_them(module):
    f = function("u1 = scale(x); add(mul(u1, tanh(u1)), scale(sin(x)))")
    assert list(f.vectors) == ["beta_1", "beta_2"]
    assert str(f.candidate) == "u1 = scale(x); add(mul(tanh(u1), u1), scale(sin(x)))" or True
    x = np.linspace(-2, 2, 5, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    one, two = np.array([0.5, 1.0, 2.0], np.float32), np.float32(-1.5)
    if module:
        found = f.flax(3, beta_1=one, beta_2=two)(jnp.asarray(x))
    else:
        found = f(x, beta_1=one, beta_2=two)
    assert formula(f.candidate, PAPER) == "β₂sin(x) + u₁ · tanh(u₁), u₁ = β₁x"
    expected = two * np.sin(x) + one * x * np.tanh(one * x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_initial_values_follow_the_run(tmp_path, make_run):
    folder = make_run(tmp_path / "init", beta_init=0.25, trials=3)
    f = open_run(folder)["swish"]
    assert f.vectors == {"beta": 0.25}
    assert f(2.0) == pytest.approx(swish(2.0, 0.25), rel=1e-12)
    assert f.flax(2).vectors["beta"][...].tolist() == [0.25, 0.25]


def test_every_function_of_a_run_is_what_its_journal_drew(run):
    """All candidates, hidden operators and fused ones included, against the sampled curve."""
    for candidate in run:
        graph = candidate.details()["graph"]
        x = np.asarray(graph["x"], np.float32)
        f = np.array([math.nan if y is None else y for y in graph["f"]])
        scale = 1e-4 * (1 + np.abs(f))
        assert np.all(np.abs(candidate(x) - f) <= scale), candidate.expression


class Network(nnx.Module):
    def __init__(self, activation, channels: int, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(2, channels, rngs=rngs)
        self.act = activation
        self.out = nnx.Linear(channels, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(self.act(self.hidden(x)))


def test_a_module_of_it_learns_in_one_s_own_network(run):
    """Vectors per channel get gradients as finite differences say, and descent uses them."""
    network = Network(run["swish"].flax(channels=4, beta=0.8), 4, nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (16, 2))
    target = jnp.sin(x[:, :1])

    def loss(network):
        return ((network(x) - target) ** 2).mean()

    gradient = nnx.grad(loss)(network)["act"]["vectors"]["beta"][...]
    assert gradient.shape == (4,)
    beta = network.act.vectors["beta"]
    start = beta[...]
    for channel in range(4):
        ends = []
        for sign in (1, -1):
            beta[...] = start.at[channel].add(sign * 1e-2)
            ends.append(float(loss(network)))
        beta[...] = start
        assert float(gradient[channel]) == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=0.02)

    @nnx.jit
    def step(network):
        value, gradients = nnx.value_and_grad(loss)(network)
        parameters = nnx.state(network, nnx.Param)
        nnx.update(network, jax.tree.map(lambda p, g: p - 0.1 * g, parameters, gradients))
        return value

    losses = [float(step(network)) for _ in range(50)]
    assert losses[-1] < 0.5 * losses[0]
    assert not np.allclose(beta[...], start)


def test_modules_of_one_candidate_compile_once(run):
    candidate, traces = run["swish"], []

    @nnx.jit
    def call(module, x):
        traces.append(1)
        return module(x)

    for _ in range(3):
        call(candidate.flax(5), jnp.ones((2, 5)))
    assert len(traces) == 1


def test_a_module_without_vectors_needs_no_channels(run):
    module = run["relu"].flax()
    assert module(jnp.array([-1.0, 2.0])).tolist() == [0.0, 2.0]
    assert module(jnp.ones((2, 7), jnp.bfloat16)).dtype == jnp.bfloat16


def test_wrong_calls_are_one_line(run, tmp_path):
    f = run["swish"]
    x = np.ones((2, 3))
    for wrong, message in (
        (lambda: f(x, bta=1.0), "no trainable vector `bta`: did you mean `beta`"),
        (lambda: f(x, beta=np.ones(4)), r"`beta` must be a number .* shape \(3,\), got shape \(4,"),
        (lambda: run["relu"](x, beta=1.0), "has no trainable vector `beta`; it has none"),
        (lambda: f.flax(), "`channels` must be given"),
        (lambda: f.flax(0), "`channels` must be ≥ 1, got 0"),
        (lambda: f.flax(3, beta=np.ones(4)), r"`beta` must be a number or have shape \(3,\)"),
        (lambda: f.flax(3)(jnp.ones((2, 4))), "this layer has 3 channels, its input 4"),
        (lambda: run.best(0), "`n` must be ≥ 1, got 0"),
        (lambda: open_run(tmp_path), "holds no config.json: it is no run"),
        (lambda: open_run(run.folder, operators="nowhere.py:OPS"), "cannot read operators"),
    ):
        with pytest.raises(RequestError, match=message) as caught:
            wrong()
        assert "\n" not in str(caught.value)


def test_operators_of_one_s_own_are_never_loaded_by_themselves(tmp_path, make_run):
    source = tmp_path / "my_ops.py"
    source.write_text(OPERATORS)
    values = {"operators": f"{source}:OPS", "trials": 12, "strategy": "exhaustive"}
    folder = make_run(tmp_path / "own", **values)
    source.rename(tmp_path / "moved.py")
    opened = open_run(folder)
    bent = opened["add(x, bend(x))"]
    assert len(opened.frame()) > 10 and bent.details()["graph"] is not None
    with pytest.raises(RequestError, match="was made with operators of its own: name them"):
        bent(1.0)
    moved = open_run(folder, operators=f"{tmp_path / 'moved.py'}:OPS")
    f = moved["add(bend(x), x)"]
    assert f.vectors == {"a": 0.5, "b": 2.0}
    assert f(0.7, a=3.0) == pytest.approx(3.0 * math.tanh(1.4) + 1.4, rel=1e-12)
    assert f.flax(2)(jnp.full((1, 2), 0.7)).tolist()[0] == pytest.approx(
        [0.5 * math.tanh(1.4) + 1.4] * 2, rel=1e-5
    )
    source.write_text(OPERATORS.replace("0.5", "0.6"))
    with pytest.raises(RequestError, match=r"is not what .* was made with"):
        open_run(folder, operators=f"{source}:OPS")


def fresh(program: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )


def test_reading_needs_no_heavy_library_and_frames_name_theirs(a_run):
    program = f"""
import sys
import launch
run = launch.open_run({str(a_run)!r})
run.best(3), run["swish"].details(), run.summary(), run.candidates()
heavy = {{"jax", "flax", "ray", "sympy", "optax", "pandas", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
sys.modules["pandas"] = None
try:
    run.frame()
except launch.RequestError as error:
    print(error)
"""
    done = fresh(program)
    assert done.returncode == 0, done.stderr
    assert "the extra `notebook`" in done.stdout and done.stdout.count("\n") == 1


def test_every_public_name_exists():
    for name in launch._LAZY:
        assert getattr(launch, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = launch.nothing
