"""The command line without Ray: wrong requests, looking at runs, spaces and operator sets."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys

import pytest

from launch.cli import run
from launch.flags import build, to_json
from search.journal import CandidateRow, Journal
from search.outcome import Outcome, Trial


@pytest.fixture
def finished(tmp_path):
    """A run's folder with three trained functions, made without training."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(to_json(*build({}))))
    journal = Journal.create(folder, {"operators_sha256": "abc"})
    rows = [
        ("relu(x)", "max(x, 0)", "ReLU", Outcome("ok", 0.9, 0.3, 2.0), True),
        ("gate(scale(x), x)", "x · σ(βx)", "Swish", Outcome("ok", 0.95, 0.2, 3.0), False),
        ("cube(x)", "<script>x³[bold]", None,
         Outcome("diverged", seconds=1.0, details={"reason": "loss became nan at step 4"}), False),
    ]  # fmt: skip
    with journal.transaction():
        journal.put_meta("finished", "done")
        for number, (text, formula, name, outcome, baseline) in enumerate(rows, start=1):
            journal.add_candidate(
                CandidateRow(number, text, formula, "", name, "ok", "", None, None, None)
            )
            journal.add_trial(Trial(number, number, text, 0, 0, baseline))
            journal.add_outcome(number, outcome)
    journal.close()
    return folder


def test_top_ranks(finished, capsys):
    assert run(["top", str(finished)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "95.00 %" in lines[2] and "x · σ(βx)" in lines[2] and "Swish" in lines[2]
    assert "90.00 %" in lines[3] and "ReLU ▪" in lines[3]
    assert "diverged" in lines[4] and "<script>x³[bold]" in lines[4]


def test_top_as_json_and_csv(finished, capsys):
    assert run(["top", str(finished), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["run"] == str(finished)
    best, second, last = document["candidates"]
    assert (best["rank"], best["expression"], best["name"]) == (1, "gate(scale(x), x)", "Swish")
    assert (best["reward"], best["loss"], best["trials"], best["seconds"]) == (0.95, 0.2, 1, 3.0)
    assert (best["baseline"], second["baseline"]) == (False, True)
    assert (last["status"], last["reward"]) == ("diverged", None)
    assert last["reason"] == "loss became nan at step 4"
    assert run(["top", str(finished), "--csv", "--limit", "2"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["name"] for row in rows] == ["Swish", "ReLU"]


LOOKS = [
    ["top", "RUN", "--json"],
    ["top", "RUN", "--failed", "--contains", "cube"],
    ["show", "RUN", "gate(scale(x), x)"],
    ["show", "RUN", "swish", "--json"],
    ["watch", "RUN"],
    ["watch", "RUN", "--once"],
    ["compare", "RUN", "COPY"],
]


@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
def test_looking_changes_nothing_and_needs_no_heavy_import(look, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    folders = {"RUN": str(finished), "COPY": str(tmp_path / "copy")}
    arguments = [folders.get(part, part) for part in look]
    code = (
        f"import sys; from launch.cli import run; code = run({arguments!r}); "
        "heavy = {'jax', 'flax', 'ray', 'sympy', 'optax', 'matplotlib', 'pandas'}; "
        "heavy &= set(sys.modules); "
        "sys.exit(code or (f'imported {heavy}' if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


WRONG = [
    (["serach"], 'Did you mean "search"?'),
    (["search", "--stpes", "3"], "Did you mean --steps?"),
    (["search", "--steps", "many"], '"many"'),
    (["search", "--steps", "0"], "`steps` must be ≥ 1, got 0"),
    (["search", "--preset", "qiuck"], "`preset` must be one of quick, cifar10, paper, got 'qiuck'"),
    (["search", "--dataset", "cifar"], "did you mean `cifar10`?"),
    (
        ["search", "--operators", "paper2"],
        "`operators` must be paper, FILE.py[:NAME] or module:NAME",
    ),
    (["search", "--operators", "nowhere.py:OPS"], "cannot read operators from nowhere.py"),
    (["search", "--operators", "no_such_module:OPS"], "cannot import no_such_module"),
    (["search", "--config", "nowhere.json"], "cannot read nowhere.json"),
    (["search", "--dataset", "cifar10", "--data-dir", "nowhere"], "nowhere"),
    (["search", "--batch-size", "5000"], "`batch_size` must be ≤ 1200"),
    (["resume", "nowhere"], "nowhere does not exist"),
    (["top", "nowhere"], "nowhere does not exist"),
    (["top", ".", "--limit", "0"], "`limit` must be ≥ 1, got 0"),
    (["top", ".", "--json", "--csv"], "exclude each other"),
    (["space", "--core-units", "9"], "`core_units` must be 1 to 8, got 9"),
    (["space", "--sample", "0"], "`sample` must be ≥ 1, got 0"),
    (["operators", "nowhere.py:OPS"], "cannot read operators from nowhere.py"),
    (["bench", "--preset", "qiuck"], "`preset` must be one of quick, cifar10, paper, got 'qiuck'"),
    (["bench", "--steps", "0"], "`steps` must be ≥ 1, got 0"),
    (["bench", "--candidates", "0"], "`candidates` must be ≥ 1, got 0"),
    (["bench", "--seconds", "0"], "`seconds` must be > 0, got 0.0"),
    (["bench", "--processes", "0"], "`processes` must be ≥ 1, got 0"),
    (["bench", "--processes", "9999"], "`processes`: 9999 of 1 cores each do not fit"),
    (["bench", "--batch-size", "5000"], "`batch_size` must be ≤ 1200"),
]


@pytest.mark.parametrize("arguments, message", WRONG, ids=lambda v: " ".join(v)[:50])
def test_a_wrong_request_is_one_line_and_exit_code_2(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1 and shown.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_asked_for_something_else_is_not_touched(finished, capsys):
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    assert run(["search", "--run-dir", str(finished), "--steps", "7", "--width", "16"]) == 2
    assert "`steps` is 400 there, 7 here" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_a_folder_with_something_else_in_it_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("precious")
    assert run(["search", "--run-dir", str(tmp_path)]) == 2
    assert "`run_dir` must be a new or empty folder, or a run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


OPERATORS = """
import jax.numpy as jnp
from spaces import Operator, OperatorSet, PAPER
GOOD = PAPER.only("identity", "scale", "add", "mul").with_unary(
    Operator("bump", 1, lambda x: x * jnp.exp(-x * x))
)
BAD = PAPER.with_unary(Operator("mean", 1, lambda x: x - x.mean()))
"""


@pytest.fixture
def operator_file(tmp_path):
    path = tmp_path / "my_ops.py"
    path.write_text(OPERATORS)
    return path


def test_operators_of_one_s_own_are_listed_and_checked(operator_file, capsys):
    assert run(["operators", f"{operator_file}:GOOD", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)["operators"]
    assert [record["name"] for record in records] == ["identity", "scale", "bump", "add", "mul"]
    assert run(["operators", f"{operator_file}:BAD"]) == 2
    assert "mean: must be element-wise" in capsys.readouterr().err
    assert run(["operators", f"{operator_file}:GOD"]) == 2
    assert "did you mean `GOOD`?" in capsys.readouterr().err


def test_space_counts_a_set_of_one_s_own(operator_file, capsys):
    assert run(["space", "--operators", f"{operator_file}:GOOD", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["size"] == found["counted"] == 3 * 3 * 2
    parts = ("invalid", "constant", "duplicate", "distinct")
    assert sum(found[part] for part in parts) == found["size"]
    # add and mul each have 3 unordered pairs and 3 equal ones; nothing else coincides
    assert (found["duplicate"], found["distinct"]) == (6, 12)


def test_help_names_every_flag(capsys):
    assert run(["search", "--help"]) == 0
    text = capsys.readouterr().out
    for flag in ("--run-dir", "--core-units", "--gpus-per-worker", "--controller-clip", "--rungs"):
        assert flag in text
