"""Operators as machine code: compiled once, kept for the next process if they are this project's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from spaces import PAPER, OperatorSet, OperatorTable, operator, parse
from trainers import operator_code
from trainers.block_program import aligned_floats
from trainers.candidate_code import Operands
from trainers.linked_form import links
from trainers.operator_code import OperatorCodes

pytestmark = pytest.mark.skipif(not links(), reason="XLA's machine code is of another kind here")

BLOCK = 64
GATE = "mul(x, sigmoid(scale(x)))"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many arrays each function takes that is compiled."""
    found: list[int] = []
    original = operator_code.compile_function

    def compile_function(function: Callable[..., Any], inputs: int, block: int) -> Any:
        found.append(inputs)
        return original(function, inputs, block)

    monkeypatch.setattr(operator_code, "compile_function", compile_function)
    return found


def codes_for(operators: OperatorSet, cache: Path | None = None) -> OperatorCodes:
    return OperatorCodes(OperatorTable.for_run(operators, core_units=2), BLOCK, cache)


def value(codes: OperatorCodes, text: str, operators: OperatorSet) -> np.ndarray:
    """Of numbers between -3 and 3, all vectors being 1."""
    code = codes.code(parse(text, operators))
    x, found = aligned_floats(BLOCK), aligned_floats(BLOCK)
    x[:] = np.linspace(-3, 3, BLOCK)
    rows = aligned_floats(code.rows * BLOCK).reshape(-1, BLOCK)
    rows[1] = rows[3:] = 1.0
    code.value(Operands(BLOCK, x.ctypes.data, None, rows.ctypes.data), found.ctypes.data)
    return found


def test_operators_are_compiled_once(compiled: list[int]):
    codes = codes_for(PAPER)
    value(codes, GATE, PAPER)
    # x, shortcut, mean, slope, bias, change and two sums; one operand without and with a vector; two.
    assert sorted(compiled) == sorted([8, 3 + 1, 3 + 2 + 1, 6 + 1])
    value(codes, "add(sigmoid(x), mul(scale(x), x))", PAPER)
    assert len(compiled) == 5  # add
    assert "identity" not in codes._pieces


def test_this_projects_operators_are_kept(compiled: list[int], tmp_path: Path):
    first = value(codes_for(PAPER, tmp_path), GATE, PAPER)
    assert len(compiled) == 4
    # In a table of other operators too.
    fewer = PAPER.only("identity", "sigmoid", "scale", "sin", "mul")
    again = value(codes_for(fewer, tmp_path), GATE, fewer)
    assert len(compiled) == 4
    assert first.tobytes() == again.tobytes()
    value(codes_for(fewer, tmp_path), "mul(sin(x), sigmoid(x))", fewer)
    value(codes_for(fewer, tmp_path), "mul(sin(x), sigmoid(x))", fewer)
    assert len(compiled) == 5  # sin


def test_an_operator_that_has_a_name_of_this_projects_is_another(
    compiled: list[int], tmp_path: Path
):
    @operator
    def sigmoid(x):
        return 3.0 * x

    own = OperatorSet("own", unary=(PAPER["identity"], sigmoid), binary=(PAPER["mul"],))
    text = "mul(x, sigmoid(x))"
    theirs = value(codes_for(PAPER, tmp_path), text, PAPER)
    for _ in range(2):
        compiled.clear()
        ours = value(codes_for(own, tmp_path), text, own)
        assert len(compiled) == 1
        x = np.linspace(-3, 3, BLOCK, dtype=np.float32)
        np.testing.assert_allclose(ours, 3 * x * x, rtol=1e-6)
    assert value(codes_for(PAPER, tmp_path), text, PAPER).tobytes() == theirs.tobytes()


def test_all_at_once_but_for_those_that_cannot_be(compiled: list[int], tmp_path: Path):
    @operator
    def ranked(x):
        return jnp.sort(x, axis=-1)

    few = PAPER.only("identity", "sigmoid", "scale", "mul").with_unary(ranked)
    codes = codes_for(few, tmp_path)
    codes.compile_all()
    assert len(compiled) == 4 + 1
    compiled.clear()
    value(codes, GATE, few)
    value(codes_for(PAPER, tmp_path), GATE, PAPER)
    assert not compiled
