"""How many candidates of a space are worth training: against figures and against counting by hand."""

from __future__ import annotations

import pytest

from spaces import PAPER, Census, SearchSpace, take_census


def test_the_one_unit_space_of_the_paper():
    seen = []
    census = take_census(
        SearchSpace(PAPER, 1), progress=lambda done, total: seen.append((done, total))
    )
    assert (census.size, census.counted, census.complete) == (6_250, 6_250, True)
    assert (census.invalid, census.constant) == (490, 107)
    assert census.invalid + census.constant + census.duplicate + census.distinct == 6_250
    assert 3_588 <= census.distinct <= 3_800  # 3,588 with one fixed order of operands
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (6_250, 6_250)


@pytest.mark.parametrize(
    ("names", "units", "counts"),
    [
        # add: x+x, x+sin x (twice), sin x + sin x
        (("identity", "sin", "add"), 1, (4, 0, 0, 1, 3)),
        # sub: 0 (twice), x − sin x, sin x − x
        (("identity", "sin", "sub"), 1, (4, 0, 2, 0, 2)),
        # √x in three of four is invalid
        (("identity", "sqrt", "mul"), 1, (4, 3, 0, 0, 1)),
        # β, β·x twice, x·x
        (("identity", "const", "mul"), 1, (4, 0, 1, 1, 2)),
        # |x| and x: max(x, |x|) = |x| however ordered
        (("identity", "abs", "max"), 1, (4, 0, 0, 2, 2)),
        # u1 = 2x, or unread; then x+x, x+u1, u1+x, u1+u1 = 2x, 3x, 3x, 4x
        (("identity", "add"), 2, (4, 0, 0, 1, 3)),
        # u1 = 0, or unread; x−x, x−0, 0−x, 0−0
        (("identity", "sub"), 2, (4, 0, 2, 0, 2)),
    ],
)
def test_tiny_spaces_by_hand(names: tuple[str, ...], units: int, counts: tuple[int, ...]):
    space = SearchSpace(PAPER.only(*names), units)
    size, invalid, constant, duplicate, distinct = counts
    assert take_census(space) == Census(
        size=size,
        counted=size,
        invalid=invalid,
        constant=constant,
        duplicate=duplicate,
        distinct=distinct,
    )


def test_a_sample_adds_up_and_follows_its_seed():
    space = SearchSpace(PAPER.only("identity", "sin", "sqrt", "const", "scale", "add", "mul"), 3)
    census = take_census(space, sample=150, seed=4)
    assert (census.size, census.counted, census.complete) == (space.size, 150, False)
    assert census.invalid + census.constant + census.duplicate + census.distinct == 150
    assert min(census.invalid, census.constant, census.distinct) > 0
    assert take_census(space, sample=150, seed=4) == census
    assert take_census(space, sample=150, seed=5) != census
