"""Standings: what the planner remembers of trials, against tables by hand."""

from __future__ import annotations

import pytest

from search.outcome import Outcome, Trial
from search.standings import Standings


def trial(number: int, candidate: int, rung: int = 0, replicate: int = 0) -> Trial:
    return Trial(number, candidate, f"c{candidate}", replicate, rung, baseline=False)


@pytest.fixture
def standings() -> Standings:
    """Rung 0 has one replicate, rung 1 two; candidate 7 is on both, 9 on the first."""
    made = Standings((1, 2), chance=0.1)
    for each in (trial(1, 9), trial(2, 7), trial(3, 7, 1, 0), trial(4, 7, 1, 1)):
        made.plan(each)
    return made


def test_what_is_planned_is_open_until_every_replicate_has_an_outcome(standings: Standings):
    assert (standings.planned, standings.done) == (4, 0)
    assert [standings.has(9, rung) for rung in (0, 1)] == [True, False]
    assert (standings.candidates(0), standings.candidates(1)) == ([9, 7], [7])
    standings.note(4, Outcome("ok", 0.5, 1.0))
    assert (standings.ended(4), standings.ended(3), standings.done) == (True, False, 1)
    assert not standings.complete(7, 1)
    standings.note(3, Outcome("failed", details={"reason": "lost"}))
    assert standings.complete(7, 1)
    assert not standings.complete(7, 0)


def test_rewards_are_means_of_what_is_known(standings: Standings):
    standings.note(1, Outcome("diverged", details={"reason": "nan"}))
    standings.note(2, Outcome("failed", details={"reason": "lost"}))
    standings.note(3, Outcome("ok", 0.5, 1.5))
    standings.note(4, Outcome("ok", 0.75, None))
    assert (standings.known(9, 0), standings.reward(9, 0)) == ([(0.1, None)], 0.1)
    assert (standings.known(7, 0), standings.reward(7, 0)) == ([], None)
    assert standings.known(7, 1) == [(0.5, 1.5), (0.75, None)]
    assert standings.reward(7, 1) == 0.625


def test_the_best_of_a_rung_is_the_earlier_candidate_of_equal_ones():
    standings = Standings((1,), chance=0.1)
    assert standings.best(0) is None
    for number, reward in ((1, 0.3), (2, 0.8), (3, 0.8)):
        standings.plan(trial(number, number))
        assert standings.best(0) in (None, (0.3, 1), (0.8, 2))
        standings.note(number, Outcome("ok", reward, 1.0))
    assert standings.best(0) == (0.8, 2)
