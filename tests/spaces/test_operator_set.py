"""An operator set is an ordered, immutable value that is extended and cut without touching source."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from spaces import PAPER, Operator, OperatorSet, Param, SearchSpace

BENT = Operator("bent", 1, lambda x, p: p["knee"] * x, params=(Param("knee", init=0.5),))
AVERAGE = Operator("average", 2, lambda a, b: 0.5 * (a + b), commutative=True)


def _names(operators: OperatorSet) -> list[str]:
    return [operator.name for operator in operators]


def test_a_set_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PAPER.unary = ()  # type: ignore[misc]  # what is tested
    before = _names(PAPER)
    PAPER.with_unary(BENT).with_binary(AVERAGE).without("cube")
    assert _names(PAPER) == before
    unary = [PAPER["identity"]]
    made = OperatorSet("made", unary, (PAPER["add"],))  # type: ignore[arg-type]  # what is tested
    unary.append(PAPER["sin"])
    assert _names(made) == ["identity", "add"]


def test_new_operators_stand_behind_the_others_of_their_arity():
    larger = PAPER.with_unary(BENT).with_binary(AVERAGE)
    assert _names(larger) == [
        *(operator.name for operator in PAPER.unary),
        "bent",
        *(operator.name for operator in PAPER.binary),
        "average",
    ]
    assert len(larger) == 37
    assert SearchSpace(larger, 1).size == 26 * 26 * 11


def test_without_and_only_keep_the_order():
    assert _names(PAPER.without("cube", "add")) == [
        name for name in _names(PAPER) if name not in ("cube", "add")
    ]
    assert _names(PAPER.only("mul", "sigmoid", "identity")) == ["identity", "sigmoid", "mul"]
    assert PAPER.without() == PAPER
    assert PAPER.named("mine").name == "mine"
    assert PAPER.named("mine").unary == PAPER.unary


def test_operators_are_found_by_name():
    assert "gate" in PAPER
    assert "Gate" not in PAPER
    assert PAPER["gate"].arity == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PAPER.without("cbe"), "unknown operator `cbe`: did you mean `cube`?"),
        (lambda: PAPER.only("sigmod", "mul"), "unknown operator `sigmod`: did you mean `sigmoid`?"),
        (lambda: PAPER.without("qqqq"), "unknown operator `qqqq`"),
        (
            lambda: PAPER.only("identity", "sin"),
            "operator set 'paper' must have at least one binary operator",
        ),
        (
            lambda: OperatorSet("mine", (), PAPER.binary),
            "operator set 'mine' must have at least one unary operator",
        ),
        (
            lambda: PAPER.with_unary(PAPER["add"]),
            "operator 'add' has arity 2 and stands among the unary operators of 'paper'",
        ),
        (
            lambda: PAPER.with_binary(BENT),
            "operator 'bent' has arity 1 and stands among the binary operators of 'paper'",
        ),
        (
            lambda: PAPER.with_unary(PAPER["sin"]),
            "operator set 'paper' has two operators called 'sin'",
        ),
        (
            lambda: PAPER.with_binary(Operator("sin", 2, lambda a, b: a)),
            "operator set 'paper' has two operators called 'sin'",
        ),
        (
            lambda: PAPER.with_binary(Operator("first", 2, lambda a, b: a)),
            "operator set 'paper' must not define 'first' otherwise: this name has a fixed meaning",
        ),
        (
            lambda: PAPER.without("identity").with_binary(Operator("identity", 2, lambda a, b: a)),
            "operator set 'paper' must not define 'identity' otherwise: "
            "this name has a fixed meaning",
        ),
    ],
)
def test_faults_name_the_set_and_the_operator(call: Any, message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_what_is_no_operator_is_refused():
    with pytest.raises(ValueError, match=r"`unary` of operator set 'mine' must hold Operator"):
        OperatorSet("mine", ("sin",), PAPER.binary)  # type: ignore[arg-type]  # what is tested


def test_an_unknown_name_is_a_key_error_with_a_near_miss():
    with pytest.raises(KeyError, match="unknown operator `tahn`: did you mean `tanh`"):
        PAPER["tahn"]


def test_the_digest_tells_sets_apart_by_what_they_mean():
    same = OperatorSet("another name", PAPER.unary, PAPER.binary)
    assert same.digest == PAPER.digest
    assert re.fullmatch("[0-9a-f]{64}", PAPER.digest)
    later = Operator("bent", 1, BENT.fn, params=(Param("knee", init=0.6),))
    bare = Operator("bent", 1, lambda x: x)
    sets = [
        PAPER,
        PAPER.without("cube"),
        PAPER.without("sin").with_unary(PAPER["sin"]),
        PAPER.with_unary(BENT),
        PAPER.with_unary(later),
        PAPER.with_unary(bare),
        PAPER.with_binary(AVERAGE),
    ]
    assert len({operators.digest for operators in sets}) == len(sets)


def test_with_sorts_by_arity():
    assert PAPER.with_(AVERAGE, BENT) == PAPER.with_unary(BENT).with_binary(AVERAGE)
    assert PAPER.with_() == PAPER
    edge = PAPER.only("identity", "add").with_(*PAPER.only("relu", "max"))
    assert _names(edge) == ["identity", "relu", "add", "max"]
    with pytest.raises(ValueError, match="must hold Operator objects, got 'sin'"):
        PAPER.with_("sin")  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lambda", "must be no keyword of Python, got 'lambda'; `lam` is written λ"),
        ("is", "must be no keyword of Python, got 'is'"),
        ("x", "must not be called 'x'"),
        ("Beta", "must match"),
        ("β", "must match"),
        (7, "must match"),
    ],
)
def test_a_vector_s_name_can_be_written_in_code(name: Any, said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        Param(name)
