"""The guide docs/operators.md: its files are written, its commands run, in their order."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from launch.cli import run
from spaces import parse, read_source

pytestmark = [pytest.mark.ray, pytest.mark.slow]

GUIDE = Path(__file__).parents[2] / "docs" / "operators.md"
SETS = ["mish.py", "edge.py", "bend.py", "written_out.py"]


@dataclass
class Ran:
    """A command of the guide and what came of it."""

    command: str
    expected: str
    code: int
    out: str
    err: str


def blocks() -> list[tuple[str, str]]:
    """Language and text of each block, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.M | re.S)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a block with the output that the guide shows below it."""
    for part in re.split(r"^\$ actsearch ", text, flags=re.M)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Path, list[Ran]]:
    """Everything in the guide, in one folder; the search is a real one."""
    import contextlib
    import io

    folder, found = tmp_path_factory.mktemp("guide"), []
    with contextlib.chdir(folder):
        for language, text in blocks():
            if language == "python":
                (folder / text.split("\n")[0].removeprefix("# ")).write_text(text)
                continue
            for command, shown in commands(text):
                out, err = io.StringIO(), io.StringIO()
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                    code = run(shlex.split(command))
                found.append(Ran(command, shown, code, out.getvalue(), err.getvalue()))
    return folder, found


def _of(ran: tuple[Path, list[Ran]], start: str) -> Ran:
    (found,) = [each for each in ran[1] if each.command.startswith(start)]
    return found


def test_every_block_is_a_file_or_a_command(ran):
    folder, found = ran
    assert {language for language, _ in blocks()} == {"python", "console"}
    assert sorted(path.name for path in folder.glob("*.py")) == sorted(SETS)
    assert len(found) == GUIDE.read_text(encoding="utf-8").count("\n$ actsearch ") >= 10


def test_every_command_does_what_the_guide_says(ran):
    for each in ran[1]:
        if each.expected.startswith("actsearch: "):
            assert (each.code, each.err, each.out) == (2, each.expected, ""), each.command
        else:
            assert each.code == 0, (each.command, each.err)
            assert each.out.strip() or each.command.startswith("search"), each.command


@pytest.mark.parametrize("name", SETS)
def test_every_file_makes_one_sound_set(name, ran, capsys):
    assert run(["operators", str(ran[0] / name)]) == 0
    assert ": all checks passed" in capsys.readouterr().out


def test_the_candidate_is_mish(ran):
    import jax
    import jax.numpy as jnp

    operators = read_source(str(ran[0] / "mish.py")).load()
    assert str(parse("mul(x, tanh_softplus(x))", operators)) == "mul(x, tanh_softplus(x))"
    x = jnp.linspace(-5, 5, 41)
    np.testing.assert_allclose(x * operators["tanh_softplus"](x), jax.nn.mish(x), atol=1e-6)
    assert "return x * jnp.tanh(jax.nn.softplus(x))" in _of(ran, 'export "mul').out


def test_the_edge_set_is_drawn(ran):
    assert (ran[0] / "edge.png").read_bytes().startswith(b"\x89PNG")
    assert "edge.py:EDGE: 15 operators, all checks passed" in _of(ran, "operators check edge").out
    drawn = GUIDE.with_name("operators.png")
    assert drawn.read_bytes().startswith(b"\x89PNG") and drawn.stat().st_size < 150_000


def test_the_vectors_are_trained_and_shown(ran, capsys):
    shown = _of(ran, "show").out
    assert "alpha of bend" in shown and "delta of bend" in shown
    assert run(["show", str(ran[0] / "runs/bend"), "add(x, bend(x))", "--json"]) == 0
    trial = json.loads(capsys.readouterr().out)["candidate"]["trials"][-1]
    alphas = [beta["mean"] for beta in trial["beta"] if beta["param"] == "alpha"]
    deltas = [beta["mean"] for beta in trial["beta"] if beta["param"] == "delta"]
    assert alphas and all(alpha != 0.25 and abs(alpha - 0.25) < 0.5 for alpha in alphas)
    assert deltas and all(delta != 0.0 and abs(delta) < 0.5 for delta in deltas)
    assert "bend(x; α; δ)" in (ran[0] / "runs/bend/report.html").read_text(encoding="utf-8")
