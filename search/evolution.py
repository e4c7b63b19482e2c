"""Regularized evolution: Real, Aggarwal, Huang, Le 2019, arXiv 1802.01548, Algorithm 1.

The baseline people ask for beside a controller. A population of the last P rewarded candidates; a
parent is the best of S drawn from it with replacement; its child differs in one decision, chosen
uniformly, which takes another of its choices, chosen uniformly. A new member replaces the oldest
and not the worst, so that a lucky evaluation is forgotten. Until P rewards are known proposals are
uniform.

Proposal t is drawn from a generator seeded by (seed, t), so that the state holds no generator. With
lag a parent is drawn from what is told so far; several workers evolve the same population.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .strategy import Proposal, State, checked

if TYPE_CHECKING:
    from spaces import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class EvolutionConfig:
    """Options of regularized evolution.

    The source has P = 100 and S = 25 for 20,000 trials; half of that population learns earlier, and
    no difference was seen beyond noise in the best of 300 or 600 candidates (28 seeds each of the
    problems that `ControllerConfig` describes).
    """

    population: int = 50
    """Members P that are alive at a time."""
    tournament: int = 10
    """Members S, drawn with replacement, of which the best becomes the parent."""

    def __post_init__(self) -> None:
        if self.population < 1:
            raise ValueError(f"`population` must be ≥ 1, got {self.population}")
        if self.tournament < 1:
            raise ValueError(f"`tournament` must be ≥ 1, got {self.tournament}")

    def build(self, space: SearchSpace) -> Evolution:
        """Returns regularized evolution over `space`."""
        return Evolution(space, self)


class Evolution:
    """See the module; the population is `tokens` [≤ P, T] and `rewards` [≤ P], oldest first."""

    checkpoint_every = 10
    learns = True

    def __init__(self, space: SearchSpace, config: EvolutionConfig) -> None:
        self._space = space
        self._config = config
        self._choices = tuple(len(decision.choices) for decision in space.decisions)
        if not self._choices:
            raise ValueError("`space` must have at least one decision, got none")

    def init(self, *, seed: int) -> State:
        """Returns the state of a search that has proposed nothing."""
        return {
            "seed": seed,
            "asked": 0,
            "tokens": np.zeros((0, len(self._choices)), np.int32),
            "rewards": np.zeros(0, np.float64),
        }

    def ask(self, state: State) -> tuple[State, Proposal | None]:
        """Returns a mutated winner of a tournament, or a uniform proposal at first; never None."""
        rng = np.random.default_rng([state["seed"], state["asked"]])
        alive = len(state["rewards"])
        if alive < self._config.population:
            tokens = self._space.sample(rng)
        else:
            drawn = rng.integers(alive, size=self._config.tournament)
            parent = drawn[np.argmax(state["rewards"][drawn])]
            tokens = self._mutated(state["tokens"][parent].tolist(), rng)
        return {**state, "asked": state["asked"] + 1}, Proposal(tokens)

    def tell(self, state: State, proposal: Proposal, reward: float | None) -> State:
        """Lets the candidate in, and the oldest die; without a reward it does not enter."""
        reward = checked(reward)
        if reward is None:
            return state
        oldest = int(len(state["rewards"]) == self._config.population)
        newcomer = np.asarray([proposal.tokens], np.int32)
        return {
            **state,
            "tokens": np.concatenate([state["tokens"][oldest:], newcomer]),
            "rewards": np.append(state["rewards"][oldest:], reward),
        }

    def metrics(self, state: State) -> dict[str, float | list]:
        """Returns the `population`'s number of members, their `mean_reward` and `best_reward`."""
        rewards = state["rewards"]
        if not len(rewards):
            return {"population": 0.0}
        return {
            "population": float(len(rewards)),
            "mean_reward": float(rewards.mean()),
            "best_reward": float(rewards.max()),
        }

    def _mutated(self, tokens: list[int], rng: np.random.Generator) -> tuple[int, ...]:
        """Returns `tokens` with another choice at one decision."""
        decision = int(rng.integers(len(tokens)))
        step = int(rng.integers(1, self._choices[decision]))
        tokens[decision] = (tokens[decision] + step) % self._choices[decision]
        return tuple(tokens)
