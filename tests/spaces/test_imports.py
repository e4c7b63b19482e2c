"""The borders of the house: who imports whom, and what a mere look costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("spaces", "search", "trainers", "launch")
MAY_IMPORT = {
    "spaces": {"spaces"},
    "search": {"search", "spaces"},
    "trainers": {"trainers", "spaces"},
    "launch": set(ROOMS),
}
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def _imported(path: Path) -> Iterator[str]:
    """Top-level names of all that a module imports, anywhere in it, by statement or by name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]
        elif (
            isinstance(node, ast.ImportFrom) and node.level > len(path.relative_to(ROOT).parts) - 1
        ):
            yield "beyond the room"
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            called = node.func.id if isinstance(node.func, ast.Name) else called
            name = node.args[0].value
            if called in ("import_module", "__import__", "LazyModule") and isinstance(name, str):
                yield name.split(".")[0]


def test_the_walk_over_imports_sees_each_kind(tmp_path: Path):
    path = ROOT / "spaces" / "lazy.py"
    assert "importlib" in set(_imported(path))
    assert {"jax", "sympy"} <= set(_imported(ROOT / "spaces" / "paper.py"))
    assert "spaces" not in set(_imported(path))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_flow_one_way(path: Path):
    room = path.relative_to(ROOT).parts[0]
    found = set(_imported(path))
    assert "beyond the room" not in found
    assert found & set(ROOMS) <= MAY_IMPORT[room]
    if room != "launch":
        assert not found & {"ray", "cyclopts", "rich"}
    if room == "spaces":
        assert not found & {"flax", "optax", "tqdm", "pooch"}


def _fresh(program: str, *, jax_is_gone: bool = False) -> str:
    """Runs a program in a new interpreter and returns what it prints."""
    if jax_is_gone:
        program = "import sys; sys.modules['jax'] = sys.modules['sympy'] = None\n" + program
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_costs_no_heavy_library(room: str):
    heavy = {"jax", "jaxlib", "flax", "optax", "ray", "sympy", "torch", "scipy", "matplotlib"}
    loaded = _fresh(f"import sys, {room}; print(*sys.modules)").split()
    assert heavy & {name.split(".")[0] for name in loaded} == set()


def test_text_tokens_and_formulas_need_no_jax():
    program = """
from spaces import CATALOGUE, PAPER, OperatorTable, SearchSpace, canonical, formula, latex, parse
space = SearchSpace(PAPER, 2)
candidate = canonical(space.candidate(space.tokens_at(space.size // 3)), PAPER)
OperatorTable.for_run(PAPER, core_units=2).program(candidate)
latex(candidate, PAPER), [known.candidate for known in CATALOGUE], PAPER.digest
print(formula(parse("gate(scale(x), x)", PAPER), PAPER).encode())
"""
    assert _fresh(program, jax_is_gone=True) == str("x · σ(βx)".encode())


def test_an_operator_loads_what_it_needs_when_it_is_called():
    program = """
import numpy as np
from spaces import PAPER
x = np.float32([0.5])
print([float(PAPER[name](x)[0]) > 0 for name in ("erf", "sigmoid", "softplus", "sinc", "tanh")])
"""
    assert _fresh(program) == "[True, True, True, True, True]"


@pytest.mark.parametrize("room", ROOMS)
def test_the_four_names_are_ours(room: str):
    spec = find_spec(room)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).resolve() == (ROOT / room / "__init__.py").resolve()


def test_every_public_name_of_spaces_exists():
    import spaces

    lazy = spaces._LAZY
    for name in lazy:
        assert getattr(spaces, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = spaces.Nothing
