"""The parser: its grammar, its limits, what it says, and that nothing else escapes from it."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spaces import PAPER, Candidate, CoreUnit, ExpressionError, Operator, parse
from spaces.text import MAX_CHARACTERS, MAX_DEPTH, MAX_UNITS


def unit(input1: int, input2: int, unary1: str, unary2: str, binary: str) -> CoreUnit:
    return CoreUnit(input1, input2, unary1, unary2, binary)


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("mul(x, sigmoid(x))", [unit(0, 0, "identity", "sigmoid", "mul")]),
        ("mul(identity(x), sigmoid(x))", [unit(0, 0, "identity", "sigmoid", "mul")]),
        (" mul ( x,sigmoid( x ) )\n", [unit(0, 0, "identity", "sigmoid", "mul")]),
        ("x", [unit(0, 0, "identity", "identity", "first")]),
        ("gelu(x)", [unit(0, 0, "gelu", "identity", "first")]),
        ("identity(gelu(x))", [unit(0, 0, "gelu", "identity", "first")]),
        (
            "sigmoid(scale(x))",
            [
                unit(0, 0, "scale", "identity", "first"),
                unit(1, 0, "sigmoid", "identity", "first"),
            ],
        ),
        (
            "mul(x, sigmoid(scale(x)))",
            [unit(0, 0, "scale", "identity", "first"), unit(0, 1, "identity", "sigmoid", "mul")],
        ),
        (
            "add(mul(x, sin(x)), neg(max(x, cos(x))))",
            [
                unit(0, 0, "identity", "sin", "mul"),
                unit(0, 0, "identity", "cos", "max"),
                unit(1, 2, "identity", "neg", "add"),
            ],
        ),
        (
            "u1 = mul(x, sigmoid(x)); add(u1, cos(u1))",
            [unit(0, 0, "identity", "sigmoid", "mul"), unit(1, 1, "identity", "cos", "add")],
        ),
        (
            "u7 = gate(x, x); u2 = abs(u7); sub(u2, u7)",
            [
                unit(0, 0, "identity", "identity", "gate"),
                unit(1, 0, "abs", "identity", "first"),
                unit(2, 1, "identity", "identity", "sub"),
            ],
        ),
        (
            "u1 = sin(x); u2 = cos(x); u1",
            [
                unit(0, 0, "sin", "identity", "first"),
                unit(0, 0, "cos", "identity", "first"),
                unit(1, 0, "identity", "identity", "first"),
            ],
        ),
        ("u1 = gate(x, x); u1", [unit(0, 0, "identity", "identity", "gate")]),
        ("u1 = gate(x, x); identity(u1)", [unit(0, 0, "identity", "identity", "gate")]),
    ],
)
def test_text_becomes_core_units(text: str, units: list[CoreUnit]):
    assert parse(text, PAPER) == Candidate(tuple(units))


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "mul(x, sigmoid(x))",
        "gate(scale(x), x)",
        "sigmoid(scale(x))",
        "add(mul(x, sin(x)), neg(max(x, cos(x))))",
        "u1 = mul(x, sigmoid(x)); add(u1, cos(u1))",
        "u1 = sin(x); u2 = add(x, u1); sub(mul(u1, u2), tanh(u2))",
        "u1 = scale(x); add(u1, cos(u1))",
        "u1 = div(x, x); gate(x, x)",
    ],
)
def test_text_that_is_written_as_we_write_it_comes_back(text: str):
    assert str(parse(text, PAPER)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 1: the expression ends too early"),
        ("   ", "column 4: the expression ends too early"),
        ("sin", "column 1: `sin` needs one input in parentheses"),
        ("add", "column 1: `add` needs 2 inputs in parentheses"),
        ("sin(", "column 5: the expression ends too early"),
        ("sin(x", "column 6: expected `)`"),
        ("sin(x))", "column 7: unexpected `)`"),
        ("sin(x) x", "column 8: unexpected `x`"),
        ("sin()", "column 5: expected an operator or x, got `)`"),
        ("sin(x, x)", "column 9: `sin` takes one input, got 2"),
        ("add(x)", "column 6: `add` takes 2 inputs, got 1"),
        ("add(x, x, x)", "column 12: `add` takes 2 inputs, got 3"),
        ("add(x,, x)", "column 7: expected an operator or x, got `,`"),
        ("add(x x)", "column 7: expected `)`, got `x`"),
        ("add(x; x)", "column 6: expected `)`, got `;`"),
        ("(x)", "column 1: expected an operator or x, got `(`"),
        ("2", "column 1: expected an operator or x, got `2`"),
        ("mul(2, x)", "column 5: expected an operator or x, got `2`"),
        ("x + x", "column 3: unexpected `+`"),
        ("-x", "column 1: expected an operator or x, got `-`"),
        ("sigmod(x)", "column 1: unknown operator `sigmod`: did you mean `sigmoid`?"),
        ("mul(x, tahn(x))", "column 8: unknown operator `tahn`: did you mean `tanh`?"),
        ("Sigmoid(x)", "column 1: unknown operator `Sigmoid`: did you mean `sigmoid`?"),
        ("y", "column 1: unknown name `y`"),
        ("sin(u1)", "column 5: unknown name `u1`"),
        ("u1 = sin(x); add(u1, u2)", "column 22: unknown name `u2`"),
        ("u1 = sin(x)", "column 12: expected `;`"),
        ("u1 = sin(x);", "column 13: the expression ends too early"),
        ("u1 = sin(x) u1", "column 13: expected `;`, got `u1`"),
        ("x = sin(x); x", "column 1: a unit must be called u1, u2, …, got `x`"),
        ("swish = sin(x); x", "column 1: a unit must be called u1, u2, …, got `swish`"),
        ("u12345 = sin(x); x", "column 1: a unit must be called u1, u2, …, got `u12345`"),
        ("u1 = sin(x); u1 = cos(x); u1", "column 14: `u1` is named twice"),
        ("u1 == x; x", "column 5: expected an operator or x, got `=`"),
        ("= x", "column 1: expected an operator or x, got `=`"),
        ("sin\x1b[2J(x)", "column 1: `sin` needs one input in parentheses"),
        ("\x1b[2J", r"column 1: expected an operator or x, got `\x1b`"),
        ("a" * 99, f"column 1: unknown name `{'a' * 40}…`"),
        ("x" * 4001, "an expression must have at most 4000 characters, got 4001"),
    ],
)
def test_what_is_wrong_is_told_with_its_column(text: str, message: str):
    with pytest.raises(ExpressionError) as caught:
        parse(text, PAPER)
    place = "expression, " if message.startswith("column") else ""
    assert str(caught.value) == place + message


@pytest.mark.parametrize("text", ["first(x, x)", "u1(x)", "σ(x)"])
def test_an_unknown_operator_without_a_near_miss_lists_the_known(text: str):
    with pytest.raises(ExpressionError) as caught:
        parse(text, PAPER.only("identity", "sin", "add"), hidden=())
    name = text.split("(")[0]
    assert str(caught.value) == (
        f"expression, column 1: unknown operator `{name}`; operators of 'paper': add, identity, sin"
    )


def test_only_text_is_read():
    with pytest.raises(ExpressionError, match="an expression must be text, got 7"):
        parse(7, PAPER)  # type: ignore[arg-type]  # what is tested


def test_operators_outside_the_set_are_unknown():
    with pytest.raises(ExpressionError, match="unknown operator `cube`"):
        parse("cube(x)", PAPER.without("cube"))
    with pytest.raises(ExpressionError, match="unknown operator `gelu`"):
        parse("gelu(x)", PAPER, hidden=())
    own = PAPER.with_binary(Operator("gelu", 2, lambda a, b: a))
    assert len(parse("gelu(x, x)", own).units) == 1


def _nested(depth: int) -> str:
    return "sin(" * depth + "x" + ")" * depth


def test_the_limits_are_where_they_are_said_to_be():
    assert len(parse(_nested(MAX_DEPTH), PAPER).units) == MAX_DEPTH == MAX_UNITS
    with pytest.raises(ExpressionError, match=f"nested deeper than {MAX_DEPTH}"):
        parse(_nested(MAX_DEPTH + 1), PAPER)
    statements = "".join(f"u{i} = add(x, x); " for i in range(1, MAX_UNITS))
    assert len(parse(statements + "add(x, x)", PAPER).units) == MAX_UNITS
    with pytest.raises(ExpressionError, match=f"more than {MAX_UNITS} core units"):
        parse(statements + "add(add(x, x), x)", PAPER)
    assert parse("x".ljust(MAX_CHARACTERS), PAPER) == parse("x", PAPER)


@pytest.mark.parametrize(
    "text",
    [
        " " * 4_000,
        "(" * 4_000,
        "sin(" * 1_000,
        "x " * 2_000,
        "u1 = x;" * 500,
        "a" * 4_000,
        "= " * 2_000,
    ],
)
def test_hostile_text_is_refused_at_once(text: str):
    begin = time.process_time()
    with pytest.raises(ExpressionError) as caught:
        parse(text, PAPER)
    assert time.process_time() - begin < 0.2
    assert len(str(caught.value)) < 500


def test_hostile_text_that_doubles_at_each_step_stays_small():
    text = "".join(f"u{i + 1} = add(u{i}, u{i}); " for i in range(1, 60))
    candidate = parse("u1 = add(x, x); " + text + "u60", PAPER)
    begin = time.process_time()
    assert parse(str(candidate), PAPER) == candidate
    assert time.process_time() - begin < 0.2


FRAGMENTS = st.sampled_from(
    ["x", "u1", "u2", "sin", "add", "mul", "gelu", "first", "(", ")", ",", ";", "=", " ", "sin(x)",
     "u1 = ", "add(x, ", "é", "\n", "0", "\x00", "__import__('os')"]
)  # fmt: skip


@settings(derandomize=True, max_examples=400, deadline=1_000)
@given(st.one_of(st.text(max_size=80), st.lists(FRAGMENTS, max_size=30).map("".join)))
@example("u1 = u1; x")
def test_arbitrary_text_is_a_candidate_or_an_expression_error(text: str):
    try:
        candidate = parse(text, PAPER)
    except ExpressionError as error:
        message = str(error)
        assert re.match(r"expression, column \d+: .", message, re.DOTALL)
        assert message.isprintable()
        return
    assert len(candidate.units) <= MAX_UNITS
    assert parse(str(candidate), PAPER).used()[-1]
