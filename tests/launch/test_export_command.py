"""`actsearch export`: requests, runs, files, and that the guide shows what is printed."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from launch.cli import run
from launch.flags import build, to_json
from search.journal import CandidateRow, Journal
from search.outcome import Outcome, Trial
from spaces import PAPER, read_source

GUIDE = Path(__file__).parents[2] / "docs" / "export.md"

OPERATORS = """
import jax.numpy as jnp
from spaces import Operator, PAPER
OPS = PAPER.with_unary(
    Operator("bend", 1, lambda x: 1.5 * jnp.tanh(x), jax="1.5 * jnp.tanh({a})"),
).named("own")
"""


def _run_folder(folder: Path, operators: str, sha256: str, texts: list[str], **options) -> Path:
    """A run of trained functions, best first, made without training."""
    folder.mkdir()
    config = to_json(*build({"operators": operators, **options}))
    (folder / "config.json").write_text(json.dumps(config))
    journal = Journal.create(folder, {"operators_sha256": sha256})
    with journal.transaction():
        for number, text in enumerate(texts, start=1):
            journal.add_candidate(
                CandidateRow(number, text, text, "", None, "ok", "", None, None, None)
            )
            journal.add_trial(Trial(number, number, text, 0, 0, False))
            journal.add_outcome(number, Outcome("ok", 0.9 - 0.1 * number, 0.3, 2.0))
    journal.close()
    return folder


@pytest.fixture
def finished(tmp_path):
    texts = ["sin(cos(x))", "mul(x, erf(scale(x)))"]
    return _run_folder(tmp_path / "waves", "paper", PAPER.digest, texts, beta_init=0.5)


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "my_ops.py"
    path.write_text(OPERATORS)
    spec = f"{path}:OPS"
    return _run_folder(tmp_path / "bent", spec, read_source(spec).sha256, ["cos(bend(x))"]), spec


@pytest.mark.parametrize(
    ("command", "language", "shown"),
    [
        pytest.param(command, language, shown, id=command[17:60])
        for command, language, shown in re.findall(
            r"```console\n\$ ([^\n]*)\n```\n\n```(\w+)\n(.*?)```", GUIDE.read_text(), re.DOTALL
        )
    ],
)
def test_the_guide_shows_what_is_printed(command: str, language: str, shown: str, capsys):
    program, *arguments = shlex.split(command)
    assert program == "actsearch"
    assert run(arguments) == 0
    assert capsys.readouterr().out == shown
    if language == "python":
        ast.parse(shown)


def test_the_guide_has_an_example_of_every_target():
    text = GUIDE.read_text()
    for target in ("jax", "flax", "torch", "sympy", "latex"):
        assert f"$ actsearch export swish --to {target}\n" in text


def test_by_rank_and_by_text_from_a_run(finished, capsys):
    assert run(["export", "2", "--to", "jax", "--from-run", str(finished)]) == 0
    by_rank = capsys.readouterr().out
    said = " ".join(by_rank.split())
    assert "rank 2 of the run waves, 70.00 % validation accuracy on digits." in said
    assert "return x * jax.scipy.special.erf(beta * x)\n" in by_rank
    assert '{"beta": jnp.full(channels, 0.5)}' in by_rank  # the run's beta_init
    text = "mul(erf(scale(x)), x)"
    assert run(["export", text, "--to", "jax", "--from-run", str(finished)]) == 0
    assert capsys.readouterr().out == by_rank


def test_a_run_is_not_changed(finished, capsys):
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    assert run(["export", "1", "--to", "latex", "--from-run", str(finished)]) == 0
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_a_run_with_operators_of_its_own_needs_them_named(own, tmp_path, capsys):
    folder, spec = own
    asked = ["export", "1", "--to", "jax", "--from-run", str(folder)]
    assert run(asked) == 2
    assert f"name them, --operators {spec}" in capsys.readouterr().err
    assert run([*asked, "--operators", spec]) == 0
    assert "return jnp.cos(1.5 * jnp.tanh(x))" in capsys.readouterr().out
    other = tmp_path / "other.py"
    other.write_text(OPERATORS + "\n# another file\n")
    assert run([*asked, "--operators", f"{other}:OPS"]) == 2
    assert "is not what" in capsys.readouterr().err


def test_an_operator_without_a_form_is_one_line(own, capsys):
    _, spec = own
    assert run(["export", "cos(bend(x))", "--to", "torch", "--operators", spec]) == 2
    shown = capsys.readouterr()
    assert "operator `bend` has no torch form" in shown.err
    assert shown.err.count("\n") == 1 and shown.out == ""


def test_into_a_file(tmp_path, capsys):
    path = tmp_path / "swish.py"
    assert run(["export", "Swish", "--to", "torch", "--name", "Gate", "--output", str(path)]) == 0
    assert capsys.readouterr().out == ""
    assert "class Gate(nn.Module):" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["swich", "--to", "jax"], "no function is known as 'swich': did you mean `swish`?"),
        (["mul(x, sigmod(x))", "--to", "jax"], "column 8: unknown operator `sigmod`: did you mean"),
        (["swish", "--to", "pytorch"], "got 'pytorch': did you mean `torch`?"),
        (["swish"], "--to"),
        (["3", "--to", "jax"], "the rank 3 needs `--from-run RUN`"),
        (["3", "--to", "jax", "--from-run", "nowhere"], "nowhere does not exist"),
        (["swish", "--to", "jax", "--name", "jnp"], "`name` must be a Python name"),
        (["swish", "--to", "jax", "--output", "no/such/folder.py"], "got no/such/folder.py"),
        (["swish", "--to", "jax", "--output", "."], "`output` must be a file"),
        (["swish", "--to", "jax", "--operators", "nowhere.py:OPS"], "cannot read operators"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_wrong_request_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["export", *arguments]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1 and shown.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_rank_that_a_run_does_not_have(finished, capsys):
    assert run(["export", "3", "--to", "jax", "--from-run", str(finished)]) == 2
    assert "a rank from 1 to 2" in capsys.readouterr().err


def test_a_wrong_request_costs_no_heavy_import(tmp_path):
    code = (
        "import sys; from launch.cli import run; "
        "code = run(['export', 'swich', '--to', 'jax']); "
        "heavy = {'jax', 'flax', 'ray', 'sympy', 'torch'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
