"""How much later a strategy finds good candidates when it hears of its rewards later.

The problem is that of `tests/search/test_controller.py`: operators and neighbouring pairs of two core
units have qualities, and the reward is their mean. Nothing is trained and nothing takes time: a
lag of W is that of a planner whose window is W.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from search.controller import ControllerConfig
from search.evolution import EvolutionConfig
from search.random_search import RandomConfig
from search.strategy import Strategy
from spaces import PAPER, SearchSpace

SPACE = SearchSpace(PAPER, core_units=2)
CHOICES = tuple(len(decision.choices) for decision in SPACE.decisions)
GOALS = (0.9, 0.95, 0.98)
"""Shares of the highest reward that there is."""


class Problem:
    """0.6 · mean quality of the choices + 0.4 · mean quality of neighbouring pairs, 0 to 1."""

    def __init__(self, seed: int = 2017) -> None:
        rng = np.random.default_rng(seed)
        self.single = [rng.uniform(size=count) for count in CHOICES]
        self.pair = [rng.uniform(size=pair) for pair in itertools.pairwise(CHOICES)]

    def __call__(self, tokens: Sequence[int]) -> float:
        single = sum(table[token] for table, token in zip(self.single, tokens, strict=True))
        neighbours = zip(self.pair, itertools.pairwise(tokens), strict=True)
        pair = sum(table[both] for table, both in neighbours)
        return float(0.6 * single / len(self.single) + 0.4 * pair / len(self.pair))

    @property
    def optimum(self) -> float:
        """The highest reward, by dynamic programming over the chain of decisions."""
        best = self.single[0] * 0.6 / len(self.single)
        for single, pair in zip(self.single[1:], self.pair, strict=True):
            best = (best[:, None] + 0.4 / len(self.pair) * pair).max(axis=0)
            best = best + 0.6 / len(self.single) * single
        return float(best.max())


def trials_until(
    strategy: Strategy, problem: Problem, *, lag: int, proposals: int, seed: int
) -> list[int | None]:
    """Different candidates that were proposed until each goal was reached; None: it was not."""
    state, waiting = strategy.init(seed=seed), deque()
    seen: set[tuple[int, ...]] = set()
    found: list[int | None] = [None] * len(GOALS)
    optimum = problem.optimum
    for _ in range(proposals):
        if len(waiting) == lag:
            state = strategy.tell(state, *waiting.popleft())
        state, proposal = strategy.ask(state)
        if proposal is None:
            break
        reward = problem(proposal.tokens)
        waiting.append((proposal, reward))
        seen.add(proposal.tokens)
        for place, goal in enumerate(GOALS):
            if found[place] is None and reward >= goal * optimum:
                found[place] = len(seen)
        if found[-1] is not None:
            break
    return found


def lag_table(
    lags: Sequence[int], batch_sizes: Sequence[int], proposals: int, seeds: int
) -> list[dict[str, Any]]:
    """Medians over seeds by lag; a goal that most seeds did not reach is None."""
    problem, plain = Problem(), ControllerConfig()
    rivals: dict[str, Any] = {
        f"controller, batches of {size}": replace(plain, batch_size=size) for size in batch_sizes
    }
    rivals |= {"evolution": EvolutionConfig(), "random": RandomConfig()}
    rows = []
    for (name, config), lag in itertools.product(rivals.items(), lags):
        if name == "random" and lag != lags[0]:
            continue  # it hears nothing
        strategy = config.build(SPACE)
        runs = [
            trials_until(strategy, problem, lag=lag, proposals=proposals, seed=seed)
            for seed in range(seeds)
        ]
        row: dict[str, Any] = {"strategy": name, "lag": lag}
        for place, goal in enumerate(GOALS):
            middle = median(
                float("inf") if found is None else found for found in (run[place] for run in runs)
            )
            row[f"to_{goal:.0%}"] = None if middle == float("inf") else round(middle)
        rows.append(row)
    return rows
