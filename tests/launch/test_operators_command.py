"""`actsearch operators` and `operators check`, and what a search refuses before anything is made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from launch.cli import run
from launch.flags import build, to_json
from launch.inspection.operator_plot import curves
from search.journal import Journal
from spaces import PAPER, operator
from spaces.operator_check import CHECKS

ROOT = Path(__file__).parents[2]

HEAD = "import jax, jax.numpy as jnp\nimport numpy as np\nfrom spaces import *\n\n"

GOOD = """
@operator
def bump(x):
    return x * jnp.exp(-x * x)

@operator
def bend(x, *, alpha=0.25):
    return jnp.maximum(x, alpha * x)

OPS = PAPER.only("identity", "add").with_(bump, bend)
"""


def one(body: str, arguments: str = "x") -> str:
    """A file with one operator, `bad`, beside two of the paper's."""
    lines = "\n    ".join(body.split("\n"))
    return (
        f"@operator\ndef bad({arguments}):\n    {lines}\n\n"
        'OPS = PAPER.only("identity", "add").with_(bad)\n'
    )


FAULTS = {
    "raises": (one("raise RuntimeError('not today')"), "bad: raises RuntimeError: not today"),
    "nan": (one("return x * jnp.nan"), "bad: is NaN everywhere"),
    "shape": (one("return x.sum()"), "bad: must keep the shape"),
    "dtype": (one("return x.astype(jnp.bfloat16)"), "bad: must keep the dtype"),
    "mixes": (one("return x - x.mean()"), "bad: must be element-wise"),
    "gradient": (one("return x + jnp.sqrt(0 * x)"), "bad: has a finite gradient by its input nowhere"),
    "random": (one("return x + np.random.default_rng().normal()"), "bad: must be pure"),
    "slow": (
        one("return jax.lax.fori_loop(0, 3000, lambda i, y: jnp.sin(y), x)"),
        "bad: is too slow: value and gradient take ",
    ),
    "no jax": (one("return np.tanh(x)"), "bad: cannot be traced and differentiated by JAX"),
    "arity": (
        'OPS = PAPER.only("identity", "add").with_(Operator("bad", 2, lambda x: x))',
        "bad: must take the arguments (a, b), but its function has too many positional arguments",
    ),
    "three inputs": (one("return x", "x, y, z"), "operator 'bad' must have 1 or 2 inputs"),
    "duplicate": (one("return x") + "OPS = OPS.with_(bad)", "has two operators called 'bad'"),
    "parameter": (one("return x", "x, *, Beta=1.0"), "a parameter's `name` must match"),
    "built-in name": (one("return 2 * x").replace("bad", "gelu"), "gelu: is the name of a built-in"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.py").write_text(HEAD + GOOD)
    return tmp_path


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", ["check", "search"])
def test_each_fault_is_refused_by_name_in_one_line(command, fault, folder, capsys):
    text, said = FAULTS[fault]
    (folder / "bad.py").write_text(HEAD + text)
    asked = ["operators", "check", "bad.py:OPS", "--plot", "bad.png"]
    if command == "search":
        asked = ["search", "--operators", "bad.py:OPS", "--run-dir", "run"]
    assert run(asked) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["bad.py", "good.py"]


def test_a_slow_operator_is_told_its_ratio_and_the_limit(folder, capsys):
    (folder / "bad.py").write_text(HEAD + FAULTS["slow"][0])
    assert run(["operators", "check", "bad.py"]) == 2
    said = capsys.readouterr().err
    ratio = float(said.split(" take ")[1].split(" times ")[0].replace(",", ""))
    assert ratio > 100 and "at most 100 times is allowed" in said


def _actsearch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    return subprocess.run(
        [sys.executable, "-m", "launch", *arguments],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("fault", ["mixes", "raises"])
def test_a_search_with_a_faulty_operator_starts_nothing(fault, folder):
    text, said = FAULTS[fault]
    (folder / "bad.py").write_text(HEAD + text)
    done = _actsearch(folder, "search", "--operators", "bad.py:OPS")
    assert done.returncode == 2
    assert done.stderr.startswith(f"actsearch: operators bad.py:OPS: {said}")
    assert done.stderr.count("\n") == 1 and done.stdout == ""
    assert sorted(path.name for path in folder.iterdir()) == ["bad.py", "good.py"]


def test_check_tells_what_each_operator_passed(folder, capsys):
    assert run(["operators", "check", "good.py"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", *CHECKS, "×", "tanh"]
    assert [line.split()[0] for line in lines[1:-1]] == ["identity", "bump", "bend", "add"]
    for line in lines[1:-1]:
        assert line.split()[1:-1] == ["✓"] * len(CHECKS)
        assert 0 < float(line.split()[-1]) < 20
    assert lines[-1] == "good.py:OPS: 4 operators, all checks passed"


def test_check_shows_where_an_operator_stopped(folder, capsys):
    (folder / "bad.py").write_text(HEAD + FAULTS["dtype"][0])
    assert run(["operators", "check", "bad.py"]) == 2
    shown = capsys.readouterr()
    (line,) = [line for line in shown.out.splitlines() if line.startswith("bad")]
    assert line.split()[1:] == ["✓", "✓", "✗", *"–––––––", "–"]
    assert shown.err == (
        "actsearch: operators bad.py:OPS: bad: must keep the dtype of its input float32, "
        "returned bfloat16\n"
    )


def test_check_as_json(folder, capsys):
    assert run(["operators", "check", "good.py:OPS", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["spec"], found["sound"]) == ("good.py:OPS", True)
    by_name = {record["name"]: record for record in found["operators"]}
    assert list(by_name) == ["identity", "bump", "bend", "add"]
    bend = by_name["bend"]
    assert (bend["params"], bend["passed"], bend["fault"]) == ({"alpha": 0.25}, [*CHECKS], None)
    assert bend["jax"] and not bend["torch"] and bend["cost"] > 0
    (folder / "bad.py").write_text(HEAD + FAULTS["mixes"][0])
    assert run(["operators", "check", "bad.py", "--json"]) == 2
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    (bad,) = [record for record in found["operators"] if record["fault"]]
    assert (found["sound"], bad["name"], bad["cost"]) == (False, "bad", None)
    assert bad["fault"].startswith("must be element-wise")
    assert "bad: must be element-wise" in shown.err


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_check_draws_every_operator(suffix, folder, capsys):
    assert run(["operators", "check", "good.py", "--plot", f"ops.{suffix}"]) == 0
    content = (folder / f"ops.{suffix}").read_bytes()
    magic = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert content.startswith(magic[suffix])
    if suffix == "svg":  # text is drawn as paths, each named in a comment
        for label in (b"bump(x)", b"x + y", b"bend"):
            assert b"<!-- " + label in content


def test_the_curves_are_the_function_and_its_derivative():
    x, f, slope = curves(PAPER["sin"])
    np.testing.assert_allclose(f, np.sin(x), atol=1e-6)
    np.testing.assert_allclose(slope, np.cos(x), atol=1e-5)
    x, f, slope = curves(PAPER["sub"], -1.0)
    np.testing.assert_allclose(f, x + 1.0, atol=1e-6)
    np.testing.assert_allclose(slope, np.ones_like(x))

    @operator
    def steep(x, *, kappa=3.0):
        return kappa * x

    assert set(curves(steep)[2].tolist()) == {3.0}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "nowhere.py"], "cannot read operators from nowhere.py"),
        (["check", "good.py:OPPS"], "did you mean `OPS`?"),
        (["check", "two.py"], "makes 2 operator sets: name one, two.py:A or two.py:B"),
        (["check", "good.py", "--plot", "a.jpg"], "must end in .png or .svg or .pdf, got 'a.jpg'"),
        (["check", "good.py", "--plot", "no/a.png"], "there is no folder no"),
        (["check"], "--operators requires an argument"),
    ],
)
def test_a_wrong_request_is_one_line(arguments, said, folder, capsys):
    (folder / "two.py").write_text(HEAD + "A = PAPER.without('cube')\nB = A.without('sin')\n")
    assert run(["operators", *arguments]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.count("\n") == 1 and shown.out == ""


def test_a_set_is_listed_as_before(folder, capsys):
    assert run(["operators"]) == 0
    assert "35 operators; all built in" in capsys.readouterr().out
    assert run(["operators", "good.py:OPS"]) == 0
    text = capsys.readouterr().out
    assert "alpha = 0.25" in text and "4 operators; bump, bend: all checks passed" in text
    assert run(["operators", "good.py", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)["operators"]
    assert [record["name"] for record in records] == ["identity", "bump", "bend", "add"]


def test_resuming_loads_no_operators_that_only_the_folder_names(folder, capsys):
    trap = "import pathlib\npathlib.Path('sprung').touch()\n"
    (folder / "trap.py").write_text(trap + HEAD + GOOD)
    made = folder / "run"
    made.mkdir()
    config = to_json(*build({"operators": "trap.py:OPS"}))
    (made / "config.json").write_text(json.dumps(config))
    Journal.create(made, {"operators_sha256": "0" * 64}).close()
    assert run(["resume", "run"]) == 2
    assert "name them again, --operators trap.py:OPS" in capsys.readouterr().err
    assert not (folder / "sprung").exists()
