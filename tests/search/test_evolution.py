"""Regularized evolution: who lives, who becomes a parent, what a child is, and that it finds."""

from __future__ import annotations

import numpy as np
import pytest

from search.evolution import Evolution, EvolutionConfig
from search.strategy import Proposal, State
from spaces import PAPER, SearchSpace

SPACE = SearchSpace(PAPER, core_units=2)
A, B, C, D, E = ((token,) * 3 + (0, 0) + (token,) * 3 for token in range(5))


def population(strategy: Evolution, *told: tuple[tuple[int, ...], float | None]) -> State:
    state = strategy.init(seed=0)
    for tokens, reward in told:
        state = strategy.tell(state, Proposal(tokens), reward)
    return state


def children(strategy: Evolution, state: State, count: int) -> np.ndarray:
    """Returns `count` proposals [N, T] of one population."""
    proposals = []
    for _ in range(count):
        state, proposal = strategy.ask(state)
        assert proposal is not None
        proposals.append(proposal.tokens)
    return np.array(proposals)


def test_the_oldest_dies_and_the_unrewarded_never_live() -> None:
    strategy = EvolutionConfig(population=3, tournament=2).build(SPACE)
    state = population(strategy, (A, 0.9), (B, None), (C, 0.2))
    assert state["tokens"].tolist() == [list(A), list(C)]
    state = population(strategy, (A, 0.9), (B, None), (C, 0.2), (D, 0.1), (E, 0.3), (B, None))
    assert state["tokens"].tolist() == [list(C), list(D), list(E)]
    assert state["rewards"].tolist() == [0.2, 0.1, 0.3]
    assert strategy.metrics(state) == {
        "population": 3.0,
        "mean_reward": pytest.approx(0.2),
        "best_reward": 0.3,
    }


def test_proposals_are_uniform_until_the_population_is_full() -> None:
    strategy = EvolutionConfig(population=3, tournament=2).build(SPACE)
    drawn = children(strategy, population(strategy, (A, 0.9), (C, 0.2), (B, None)), 1000)
    for column, decision in zip(drawn.T, SPACE.decisions, strict=True):
        expected = 1000 / len(decision.choices)
        counts = np.bincount(column, minlength=len(decision.choices))
        # χ² with 24 degrees of freedom at most: 64 has p < 2e-5.
        assert np.sum((counts - expected) ** 2 / expected) < 64


def test_a_child_is_the_winner_with_one_other_choice_at_one_decision() -> None:
    # With 64 draws from three members the best is missed with probability 5e-12.
    strategy = EvolutionConfig(population=3, tournament=64).build(SPACE)
    parent = np.array(C)
    drawn = children(strategy, population(strategy, (A, 0.1), (C, 0.9), (B, 0.3)), 4000)
    changed = drawn != parent
    assert (changed.sum(axis=1) == 1).all()
    decisions = changed.sum(axis=0)
    # χ² with 7 degrees of freedom: 35 has p < 2e-5.
    assert np.sum((decisions - 500) ** 2 / 500) < 35
    first = drawn[changed[:, 0], 0]
    counts = np.bincount(first, minlength=25)
    assert counts[parent[0]] == 0
    expected = len(first) / 24
    others = np.delete(counts, parent[0])
    assert np.sum((others - expected) ** 2 / expected) < 62


def test_a_tournament_of_one_prefers_nobody() -> None:
    strategy = EvolutionConfig(population=3, tournament=1).build(SPACE)
    drawn = children(strategy, population(strategy, (A, 0.1), (B, 0.9), (C, 0.3)), 3000)
    distances = np.stack([(drawn != np.array(member)).sum(axis=1) for member in (A, B, C)])
    assert (distances.min(axis=0) == 1).all()
    parents = np.bincount(distances.argmin(axis=0), minlength=3)
    assert np.abs(parents - 1000).max() < 120


@pytest.mark.parametrize("name", ["population", "tournament"])
def test_sizes_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be ≥ 1, got 0"):
        EvolutionConfig(**{name: 0})
