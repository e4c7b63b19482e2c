"""The canonical form keeps the function and depends on nothing but its visible structure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spaces import (
    PAPER,
    Candidate,
    CoreUnit,
    Operator,
    OperatorSet,
    Param,
    SearchSpace,
    canonical,
    parse,
)

UNARY = ["identity", "identity", "sin", "neg", "scale", "shift", "const", "atan"]
BINARY = ["add", "mul", "sub", "gate", "max", "mix", "rbf", "first"]
X = np.linspace(-2.3, 2.9, 23)


@st.composite
def candidates(draw: st.DrawFn, most: int = 5) -> Candidate:
    """Units over few operators, so that equal and unread ones are common; pass-through ones too."""
    units = []
    for number in range(1, draw(st.integers(1, most)) + 1):
        source = st.integers(0, number - 1)
        units.append(
            CoreUnit(
                draw(source),
                draw(source),
                draw(st.sampled_from(UNARY)),
                draw(st.sampled_from(UNARY)),
                draw(st.sampled_from(BINARY)),
            )
        )
    return Candidate(tuple(units))


def _vectors(candidate: Candidate, value: Any) -> dict[int, dict[str, float]]:
    """β of each slot by `value(slot)`."""
    found = {}
    for index, unit in enumerate(candidate.units):
        for place, name in enumerate((unit.unary1, unit.unary2, unit.binary)):
            if name in ("scale", "shift", "const", "mix", "rbf"):
                found[3 * index + place] = {"beta": value(3 * index + place)}
    return found


def _vectors_in_use(candidate: Candidate) -> int:
    return sum(
        name in ("scale", "shift", "const", "mix", "rbf")
        for unit, used in zip(candidate.units, candidate.used(), strict=True)
        if used
        for name in ((unit.unary1, unit.unary2, unit.binary) if unit.binary != "first" else (unit.unary1,))
    )  # fmt: skip


@settings(derandomize=True, max_examples=300, deadline=None)
@given(candidates())
def test_canonical_is_idempotent_and_reads_back(candidate: Candidate):
    found = canonical(candidate, PAPER)
    assert canonical(found, PAPER) == found
    assert parse(str(found), PAPER) == found
    assert all(found.used())


@settings(derandomize=True, max_examples=300, deadline=None)
@given(candidates())
def test_what_is_read_from_text_has_the_same_canonical_form(candidate: Candidate):
    assert canonical(parse(str(candidate), PAPER), PAPER) == canonical(candidate, PAPER)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(candidates())
def test_the_value_is_kept_when_all_vectors_are_equal(oracle: Any, candidate: Candidate):
    before = oracle.candidate(candidate, X, _vectors(candidate, lambda slot: 0.731))
    found = canonical(candidate, PAPER)
    after = oracle.candidate(found, X, _vectors(found, lambda slot: 0.731))
    np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(candidates(most=4))
def test_no_vector_is_lost_merged_or_doubled(oracle: Any, candidate: Candidate):
    """The family of functions over all β is the same: for some order of the vectors, equal."""
    from itertools import permutations

    found = canonical(candidate, PAPER)
    assert _vectors_in_use(found) == _vectors_in_use(candidate)
    slots = list(_vectors(found, float))
    assume(len(slots) <= 5)
    used = candidate.pruned()
    old = list(_vectors(used, float))
    assert len(old) == len(slots)
    values = [0.43, 0.87, 1.29, -0.61, 1.77][: len(old)]
    by_old = dict(zip(old, values, strict=True))
    before = oracle.candidate(used, X, _vectors(used, by_old.__getitem__))
    assert any(
        np.allclose(
            oracle.candidate(
                found, X, _vectors(found, dict(zip(slots, order, strict=True)).__getitem__)
            ),
            before,
            rtol=1e-9,
            atol=1e-9,
        )
        for order in permutations(values)
    )


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.data())
def test_a_candidate_of_a_space_stays_in_it(data: st.DataObject):
    names = data.draw(st.lists(st.sampled_from([o.name for o in PAPER.unary]), min_size=1))
    joins = data.draw(st.lists(st.sampled_from([o.name for o in PAPER.binary]), min_size=1))
    space = SearchSpace(PAPER.only(*names, *joins), data.draw(st.integers(1, 6)))
    tokens = tuple(data.draw(st.integers(0, len(d.choices) - 1)) for d in space.decisions)
    assert canonical(space.candidate(tokens), space.operators) in space


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mul(sigmoid(x), x)", "mul(x, sigmoid(x))"),
        ("max(tanh(x), sin(x))", "max(sin(x), tanh(x))"),
        ("rbf(sin(x), x)", "rbf(x, sin(x))"),
        ("add(mul(x, sin(x)), x)", "add(x, mul(x, sin(x)))"),
        ("sub(sin(x), x)", "sub(sin(x), x)"),
        ("gate(x, scale(x))", "gate(x, scale(x))"),
        ("gate(scale(x), x)", "gate(scale(x), x)"),
        ("identity(identity(sin(x)))", "sin(x)"),
        ("u1 = sin(x); identity(u1)", "sin(x)"),
        ("u1 = sin(x); u2 = cos(x); u1", "sin(x)"),
        ("u1 = exp(x); mul(x, x)", "mul(x, x)"),
        ("u1 = sin(x); add(u1, cos(u1))", "add(sin(x), cos(sin(x)))"),
        ("add(mul(x, x), cos(mul(x, x)))", "u1 = mul(x, x); add(u1, cos(u1))"),
        (
            "add(mul(x, sin(x)), cos(mul(sin(x), x)))",
            "u1 = mul(x, sin(x)); add(u1, cos(u1))",
        ),
        ("add(scale(x), cos(scale(x)))", "add(scale(x), cos(scale(x)))"),
        ("u1 = scale(x); add(u1, cos(u1))", "u1 = scale(x); add(u1, cos(u1))"),
        ("u1 = scale(x); u2 = u1; add(u1, cos(u2))", "u1 = scale(x); add(u1, cos(u1))"),
        ("u1 = cos(scale(x)); mul(u1, u1)", "u1 = scale(x); mul(cos(u1), cos(u1))"),
        ("u1 = scale(x); sin(u1)", "sin(scale(x))"),
        ("u1 = mix(x, sin(x)); mul(u1, u1)", "u1 = mix(x, sin(x)); mul(u1, u1)"),
        ("mul(mix(x, sin(x)), mix(x, sin(x)))", "mul(mix(x, sin(x)), mix(x, sin(x)))"),
    ],
)
def test_by_hand(text: str, expected: str):
    assert str(canonical(parse(text, PAPER), PAPER)) == expected


def test_unread_units_of_a_space_go():
    space = SearchSpace(PAPER, 3)
    same = [
        Candidate(
            (
                CoreUnit(0, 0, noise, "exp", "div"),
                CoreUnit(0, 0, "identity", "sigmoid", "mul"),
                CoreUnit(2, 0, "identity", "sin", "add"),
            )
        )
        for noise in ("identity", "sqrt", "const")
    ]
    assert {str(canonical(candidate, PAPER)) for candidate in same} == {
        "add(sin(x), mul(x, sigmoid(x)))"
    }
    assert all(candidate in space for candidate in same)


def test_the_flags_of_the_set_decide():
    join = Operator("join", 2, lambda a, b: a + b, commutative=True)
    ordered = Operator("ordered", 2, lambda a, b: a)
    twist = Operator("twist", 1, lambda x, p: p["k"] * x, params=(Param("k"),))
    own = OperatorSet("own", (PAPER["identity"], PAPER["sin"], twist), (join, ordered))
    assert str(canonical(parse("join(sin(x), x)", own), own)) == "join(x, sin(x))"
    assert str(canonical(parse("ordered(sin(x), x)", own), own)) == "ordered(sin(x), x)"
    shared = "u1 = twist(x); join(u1, sin(u1))"
    assert str(canonical(parse(shared, own), own)) == shared


def test_a_known_function_has_a_canonical_form_beside_any_set():
    tiny = PAPER.only("sin", "add")
    assert str(canonical(parse("mul(sigmoid(x), x)", PAPER), tiny)) == "mul(x, sigmoid(x))"


@settings(derandomize=True, max_examples=20, deadline=2_000)
@given(st.integers(0, 2**32 - 1))
def test_large_candidates_are_canonical_in_time(seed: int):
    space = SearchSpace(PAPER, 8)
    candidate = space.candidate(space.sample(np.random.default_rng(seed)))
    deep = candidate
    for _ in range(3):  # units stacked on units: text would grow by powers
        shift = len(deep.units)
        deep = Candidate(
            (
                *deep.units,
                *(
                    CoreUnit(
                        unit.input1 + shift if unit.input1 else shift,
                        unit.input2 + shift if unit.input2 else shift,
                        unit.unary1,
                        unit.unary2,
                        unit.binary,
                    )
                    for unit in candidate.units
                ),
            )
        )
    found = canonical(deep, PAPER)
    assert canonical(found, PAPER) == found
    assert len(found.units) <= 32


def test_what_was_asked_of_a_candidate_is_no_part_of_it():
    asked, other = (Candidate((CoreUnit(0, 0, "identity", "sigmoid", "mul"),)) for _ in range(2))
    assert asked.reads() == asked.reads() == (2, 0)
    assert asked == other and hash(asked) == hash(other) and repr(asked) == repr(other)


def test_pruning_forgets_what_is_said_of_an_operand_that_nothing_reads():
    said = Candidate((CoreUnit(0, 0, "sin", "cos", "first"),))
    assert said.pruned() == Candidate((CoreUnit(0, 0, "sin", "identity", "first"),))
