"""An operator with a name, an arity and a function, and nothing else, is searched and reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.cli import run
from launch.flags import build
from launch.message import Report
from launch.prepare import load_data, make_planner
from launch.run import start_or_resume
from launch.worker import Assignment, operator_table
from spaces import PAPER, parse
from trainers import Trainer

pytestmark = pytest.mark.slow

OPERATORS = """
import jax.numpy as jnp
from spaces import Operator, PAPER

BARE = Operator(name="bare", arity=1, fn=lambda x: jnp.tanh(x) + 0.1 * x)
OPS = PAPER.only("identity", "add", "mul").with_(BARE)
"""

SCIENCE = {
    "strategy": "exhaustive", "trials": 20, "baselines": "relu", "steps": 2, "width": 4,
    "batch_size": 32, "execution": "traced",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, str]:
    """A finished run, trained in this process as a worker does, and where its operators are."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "bare_ops.py").write_text(OPERATORS)
    spec = f"{folder / 'bare_ops.py'}:OPS"
    science, placement = build({**SCIENCE, "operators": spec})
    data = load_data(science, placement)
    opened = start_or_resume(folder / "run", science, placement)
    assignment = Assignment(
        train=science.train,
        operators=opened.operators,
        core_units=science.space.core_units,
        baselines=science.search.baseline_keys,
        execution="traced",
        cpus=1,
        platform="cpu",
    )
    planner = make_planner(opened, assignment, chance=0.1)
    operators = opened.operators.load()
    trainer = Trainer(science.train, data, operator_table(operators, assignment))
    while not planner.finished:
        for trial in planner.due(1):
            candidate = parse(trial.expression, operators, hidden=tuple(PAPER))
            result = trainer.run(candidate, seed=trial.replicate)
            planner.record([(trial, Report.of(result.to_dict()).outcome)])
    planner.conclude()
    opened.journal.close()
    return folder / "run", spec


def test_it_is_trained_and_ranked(made, capsys):
    assert run(["top", str(made[0]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["candidates"]
    bare = {c["expression"]: c for c in found if "bare" in c["expression"]}
    assert {"add(x, bare(x))", "mul(x, bare(x))"} <= bare.keys()
    assert all(c["status"] == "ok" and 0 <= c["reward"] <= 1 for c in bare.values())
    assert bare["mul(x, bare(x))"]["formula"] == "x · bare(x)"


def test_it_is_shown_and_reported_without_its_file(made, tmp_path, capsys):
    folder, spec = made
    source = Path(spec.rpartition(":")[0])
    text = source.read_text()
    source.unlink()
    try:
        assert run(["show", str(folder), "mul(x, bare(x))"]) == 0
        assert "x · bare(x)" in capsys.readouterr().out
        assert run(["report", str(folder), "--output", str(tmp_path / "r.html")]) == 0
    finally:
        source.write_text(text)
    assert "x · bare(x)" in (tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", ["jax", "flax", "torch", "sympy"])
def test_its_export_says_what_is_missing_by_name(made, target, capsys):
    folder, spec = made
    asked = ["export", "mul(x, bare(x))", "--to", target, "--operators", spec]
    assert run(asked) == 2
    shown = capsys.readouterr()
    form = "jax" if target == "flax" else target
    assert f"operator `bare` has no {form} form" in shown.err
    assert shown.err.count("\n") == 1 and shown.out == ""
    assert run([*asked, "--from-run", str(folder)]) == 2
    assert f"operator `bare` has no {form} form" in capsys.readouterr().err


def test_its_latex_needs_no_form(made, capsys):
    assert run(["export", "mul(x, bare(x))", "--to", "latex", "--operators", made[1]]) == 0
    assert r"\operatorname{bare}" in capsys.readouterr().out
