"""Ranking: highest rung, then mean accuracy there, then loss; what has no reward comes last."""

from __future__ import annotations

import pytest

from search.journal import CandidateRow
from search.outcome import Outcome, Trial
from search.ranking import rank_rows, standing


def row(number: int, equal_to: int | None = None) -> CandidateRow:
    return CandidateRow(number, f"c{number}", "", "", None, "ok", "", equal_to, None, None)


def trial(candidate: int, outcome: Outcome | None, *, rung: int = 0, replicate: int = 0):
    return Trial(0, candidate, f"c{candidate}", replicate, rung, baseline=candidate == 1), outcome


def test_order_by_hand():
    trials = [
        trial(1, Outcome("ok", 0.80, 1.0)),
        trial(2, Outcome("ok", 0.99, 1.0)),  # better, but reached rung 0 only
        trial(1, Outcome("ok", 0.70, 1.0), rung=1),
        trial(3, Outcome("ok", 0.70, 0.5), rung=1),  # equal accuracy, smaller loss
        trial(4, Outcome("diverged", details={"reason": "loss became inf at step 2"})),
        trial(5, None),  # not finished: not listed
        trial(7, Outcome("ok", 0.99, 1.0)),  # a tie in everything: the earlier candidate first
    ]
    ranked = rank_rows([row(n) for n in range(1, 8)], trials)
    assert [c.row.id for c in ranked] == [3, 1, 2, 7, 4]
    assert [c.baseline for c in ranked] == [False, True, False, False, False]
    assert (ranked[-1].reward, ranked[-1].status) == (None, "diverged")
    assert ranked[-1].reason == "loss became inf at step 2"


def test_replicates_give_mean_and_spread():
    outcomes = [Outcome("ok", reward, 1.0) for reward in (0.5, 0.6, 0.7)]
    (found,) = rank_rows([row(1)], [trial(1, o, replicate=r) for r, o in enumerate(outcomes)])
    assert found.reward == pytest.approx(0.6)
    assert found.spread == pytest.approx(0.1)


def test_one_bad_replicate_leaves_no_reward():
    outcomes = [Outcome("ok", 0.9, 1.0), Outcome("diverged", details={"reason": "nan"})]
    good = trial(2, Outcome("ok", 0.2, 1.0))
    bad = [trial(1, o, replicate=r) for r, o in enumerate(outcomes)]
    ranked = rank_rows([row(1), row(2)], [good, *bad])
    assert [c.row.id for c in ranked] == [2, 1]
    assert ranked[1].reward is None


def test_equal_functions_are_aliases_of_one_entry():
    (found,) = rank_rows([row(1), row(2, equal_to=1)], [trial(1, Outcome("ok", 0.5, 1.0))])
    assert found.aliases == ["c2"]


def test_standing_prefers_accuracy_then_loss():
    assert standing([(0.5, 9.0)]) < standing([(0.4, 0.1)])
    assert standing([(0.5, 0.1)]) < standing([(0.5, None)])
    assert standing([(0.1, None)]) < standing([])
