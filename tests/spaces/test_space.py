"""The grammar: its size, its decisions, its enumeration and its round trips."""

from __future__ import annotations

import itertools
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces import (
    PAPER,
    Candidate,
    CoreUnit,
    Operator,
    OperatorSet,
    SearchSpace,
    canonical,
    parse,
)

TINY = PAPER.only("identity", "sin", "scale", "add", "sub")
UNARY = [operator.name for operator in PAPER.unary]
BINARY = [operator.name for operator in PAPER.binary]


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """1 to 8 units over any operators of the paper."""
    unary = draw(st.lists(st.sampled_from(UNARY), min_size=1, max_size=25, unique=True))
    binary = draw(st.lists(st.sampled_from(BINARY), min_size=1, max_size=10, unique=True))
    return SearchSpace(PAPER.only(*unary, *binary), draw(st.integers(1, 8)))


@st.composite
def spaces_and_tokens(draw: st.DrawFn) -> tuple[SearchSpace, tuple[int, ...]]:
    space = draw(spaces())
    tokens = tuple(draw(st.integers(0, len(d.choices) - 1)) for d in space.decisions)
    return space, tokens


@pytest.mark.parametrize("units", range(1, 9))
def test_the_size_is_exact(units: int):
    inputs = {1: 1, 2: 4, 3: 36, 4: 576, 5: 14_400, 6: 518_400, 7: 25_401_600, 8: 1_625_702_400}
    size = SearchSpace(PAPER, units).size
    assert size == inputs[units] * 6_250**units
    assert isinstance(size, int)


def test_the_decisions_follow_the_order_of_the_paper():
    decisions = SearchSpace(PAPER, 3).decisions
    assert [(d.unit, d.kind) for d in decisions] == [
        (1, "unary1"), (1, "unary2"), (1, "binary"),
        (2, "input1"), (2, "input2"), (2, "unary1"), (2, "unary2"), (2, "binary"),
        (3, "input1"), (3, "input2"), (3, "unary1"), (3, "unary2"), (3, "binary"),
    ]  # fmt: skip
    assert decisions[3].choices == decisions[4].choices == ("x", "u1")
    assert decisions[8].choices == ("x", "u1", "u2")
    assert list(decisions[0].choices) == UNARY
    assert list(decisions[2].choices) == BINARY


def test_a_decision_with_one_choice_is_skipped():
    one_binary = SearchSpace(PAPER.only("identity", "sin", "add"), 2)
    assert [(d.unit, d.kind) for d in one_binary.decisions] == [
        (1, "unary1"), (1, "unary2"),
        (2, "input1"), (2, "input2"), (2, "unary1"), (2, "unary2"),
    ]  # fmt: skip
    assert one_binary.size == 2**6
    assert str(one_binary.candidate((1, 0, 1, 0, 1, 1))) == "add(sin(add(sin(x), x)), sin(x))"
    alone = SearchSpace(PAPER.only("sin", "add"), 1)
    assert (alone.decisions, alone.size, list(alone)) == ((), 1, [()])
    assert alone.sample(np.random.default_rng(0)) == ()
    assert str(alone.candidate(())) == "add(sin(x), sin(x))"
    assert alone.tokens(alone.candidate(())) == ()


@pytest.mark.parametrize("units", [1, 2])
def test_the_enumeration_holds_all_tokens_once_in_order(units: int):
    space = SearchSpace(TINY, units)
    found = list(space)
    by_hand = itertools.product(*(range(len(d.choices)) for d in space.decisions))
    assert found == list(by_hand)
    assert [space.tokens_at(i) for i in (0, 1, space.size - 1)] == [found[0], found[1], found[-1]]


def test_places_in_a_huge_space_are_exact():
    space = SearchSpace(PAPER, 8)
    last = space.tokens_at(space.size - 1)
    assert last == tuple(len(d.choices) - 1 for d in space.decisions)
    assert space.tokens_at(0) == (0,) * len(space.decisions)
    assert space.tokens_at(10)[-2:] == (1, 0)


def test_sampling_is_uniform_and_follows_its_generator():
    space = SearchSpace(TINY, 1)
    draws = 18 * 400
    rng = np.random.default_rng(0)
    found = Counter(space.sample(rng) for _ in range(draws))
    assert set(found) == set(space)
    expected = draws / space.size
    chi_square = sum((count - expected) ** 2 / expected for count in found.values())
    assert chi_square < 40.8  # 99.9 % quantile at 17 degrees of freedom
    twice = [SearchSpace(PAPER, 3).sample(np.random.default_rng(5)) for _ in range(2)]
    assert twice[0] == twice[1]
    assert all(type(token) is int for token in twice[0])


@settings(derandomize=True, max_examples=150, deadline=None)
@given(spaces_and_tokens())
def test_tokens_and_candidates_round_trip(drawn: tuple[SearchSpace, tuple[int, ...]]):
    space, tokens = drawn
    candidate = space.candidate(tokens)
    assert len(candidate.units) == space.core_units
    assert candidate in space
    assert space.tokens(candidate) == tokens


@settings(derandomize=True, max_examples=150, deadline=None)
@given(spaces_and_tokens())
def test_text_and_canonical_candidates_round_trip(drawn: tuple[SearchSpace, tuple[int, ...]]):
    space, tokens = drawn
    candidate = canonical(space.candidate(tokens), space.operators)
    assert parse(str(candidate), space.operators) == candidate
    assert candidate in space
    again = space.candidate(space.tokens(candidate))
    assert canonical(again, space.operators) == candidate


@settings(derandomize=True, max_examples=100, deadline=None)
@given(spaces_and_tokens())
def test_text_names_the_function_that_the_tokens_spell(
    drawn: tuple[SearchSpace, tuple[int, ...]],
):
    space, tokens = drawn
    candidate = space.candidate(tokens)
    read_back = parse(str(candidate), space.operators)
    assert canonical(read_back, space.operators) == canonical(candidate, space.operators)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(spaces(), st.data())
def test_places_and_tokens_agree(space: SearchSpace, data: st.DataObject):
    index = data.draw(st.integers(0, space.size - 1))
    place = 0
    for decision, token in zip(space.decisions, space.tokens_at(index), strict=True):
        place = place * len(decision.choices) + token
    assert place == index


def test_a_candidate_of_fewer_units_stands_behind_unread_ones():
    space = SearchSpace(PAPER, 3)
    candidate = parse("mul(u1, sin(u1))".join(["u1 = gate(x, x); ", ""]), PAPER)
    assert candidate in space
    placed = space.candidate(space.tokens(candidate))
    assert placed.units[1:] == (
        CoreUnit(0, 0, "identity", "identity", "gate"),
        CoreUnit(2, 2, "identity", "sin", "mul"),
    )
    assert placed.used() == (False, True, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cube(x)", "cube(x) is not in this space: it has no unary1 `cube`"),
        ("gelu(x)", "gelu(x) is not in this space: it has no unary1 `gelu`"),
        ("x", "x is not in this space: it has no binary `first`"),
        ("mul(x, x)", "mul(x, x) is not in this space: it has no binary `mul`"),
        ("add(x, abs(x))", "add(x, abs(x)) is not in this space: it has no unary2 `abs`"),
        (
            "add(add(add(x, x), x), x)",
            "add(add(add(x, x), x), x) has 3 core units, the space has 2",
        ),
    ],
)
def test_what_is_not_in_the_space_is_told_why(text: str, message: str):
    space, candidate = SearchSpace(TINY, 2), parse(text, PAPER)
    assert candidate not in space
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        space.tokens(candidate)


def test_anything_else_is_not_in_a_space():
    assert "add(x, x)" not in SearchSpace(TINY, 1)
    assert None not in SearchSpace(TINY, 1)
    assert parse("add(x, sin(x))", PAPER) in SearchSpace(TINY, 1)


@pytest.mark.parametrize("units", [0, 9, -1, 1.5, "2", None])
def test_the_number_of_units_is_1_to_8(units: object):
    with pytest.raises(ValueError, match=f"^`core_units` must be 1 to 8, got {units!r}$"):
        SearchSpace(PAPER, units)  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize("index", [-1, 18])
def test_a_place_must_be_below_the_size(index: int):
    with pytest.raises(ValueError, match=f"^`index` must be 0 to 17, got {index}$"):
        SearchSpace(TINY, 1).tokens_at(index)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ((0, 0), "`tokens` must have 3 entries, got 2"),
        ((0, 0, 2), "token of binary, unit 1, must be 0 to 1, got 2"),
        ((0, -1, 0), "token of unary2, unit 1, must be 0 to 2, got -1"),
    ],
)
def test_impossible_tokens_are_refused(tokens: tuple[int, ...], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SearchSpace(TINY, 1).candidate(tokens)


@pytest.mark.parametrize("inputs", [(1, 0), (0, 1), (-1, 0)])
def test_a_unit_reads_earlier_ones_only(inputs: tuple[int, int]):
    with pytest.raises(ValueError, match=r"core unit 1 must read x \(0\) or units 1 to 0"):
        Candidate((CoreUnit(*inputs, "sin", "sin", "add"),))


def test_a_candidate_has_a_unit():
    with pytest.raises(ValueError, match="must have at least one core unit"):
        Candidate(())


def test_a_users_set_spans_a_space():
    own = OperatorSet(
        "own",
        (Operator("bend", 1, lambda x: x), Operator("fold", 1, lambda x: x)),
        (Operator("join", 2, lambda a, b: a),),
    )
    space = SearchSpace(own, 1)
    assert [str(space.candidate(tokens)) for tokens in space] == [
        "join(bend(x), bend(x))",
        "join(bend(x), fold(x))",
        "join(fold(x), bend(x))",
        "join(fold(x), fold(x))",
    ]


@pytest.mark.parametrize("units", [1, 2, 5])
def test_a_sample_is_what_one_draw_after_the_other_gives(units):
    """NumPy draws all tokens in one call; histories that were made one by one stay what they are."""
    space = SearchSpace(PAPER, units)
    at_once, one_by_one = (np.random.default_rng([7, units]) for _ in range(2))
    for _ in range(200):
        drawn = tuple(int(one_by_one.integers(len(each.choices))) for each in space.decisions)
        assert space.sample(at_once) == drawn
