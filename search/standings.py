"""How every candidate stands on every rung: the planner's memory, some dozen bytes a trial.

A run may have very many trials. What is kept of each is what later decisions need; everything else
is in the journal.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from .outcome import Outcome, Trial


class Standings:
    """Rewards and losses by candidate and rung.

    Args:
        replicates: For each rung, how many trials a candidate has; their ids follow each other.
        chance: The reward of a diverged candidate.
    """

    def __init__(self, replicates: Sequence[int], chance: float) -> None:
        self._replicates = replicates
        self._chance = chance
        self._first: list[dict[int, int]] = [{} for _ in replicates]
        """For each rung, the first trial of each candidate, in the order of planning."""
        self._rewards = array("d")
        """Of trial n at n − 1; NaN where there is none."""
        self._losses = array("d")
        """Likewise."""
        self._ended = bytearray()
        """Likewise: 1 where there is an outcome."""
        self.planned = 0
        """Trials."""
        self.done = 0
        """Trials with an outcome."""

    def plan(self, trial: Trial) -> None:
        """Adds the next trial."""
        self._first[trial.rung].setdefault(trial.candidate, trial.id)
        self._rewards.append(math.nan)
        self._losses.append(math.nan)
        self._ended.append(0)
        self.planned += 1

    def note(self, trial: int, outcome: Outcome) -> None:
        """Adds the outcome of a trial."""
        if outcome.status != "failed":
            reward = self._chance if outcome.reward is None else outcome.reward
            self._rewards[trial - 1] = reward
            self._losses[trial - 1] = math.nan if outcome.loss is None else outcome.loss
        self._ended[trial - 1] = 1
        self.done += 1

    def ended(self, trial: int) -> bool:
        """Whether a trial has an outcome."""
        return bool(self._ended[trial - 1])

    def has(self, candidate: int, rung: int) -> bool:
        """Whether the candidate has trials on the rung."""
        return candidate in self._first[rung]

    def candidates(self, rung: int) -> list[int]:
        """Those that have, in the order of planning."""
        return list(self._first[rung])

    def first(self, candidate: int, rung: int) -> int:
        """The first of the candidate's trials on the rung, where it has some."""
        return self._first[rung][candidate]

    def complete(self, candidate: int, rung: int) -> bool:
        """Whether all of its trials on the rung have outcomes."""
        first = self._first[rung][candidate] - 1
        return all(self._ended[first : first + self._replicates[rung]])

    def known(self, candidate: int, rung: int) -> list[tuple[float, float | None]]:
        """Reward and loss of each of its trials there that did not fail."""
        first = self._first[rung][candidate] - 1
        places = range(first, first + self._replicates[rung])
        return [
            (self._rewards[n], None if math.isnan(self._losses[n]) else self._losses[n])
            for n in places
            if not math.isnan(self._rewards[n])
        ]

    def reward(self, candidate: int, rung: int) -> float | None:
        """Mean reward of those; None if there is none."""
        found = [reward for reward, _ in self.known(candidate, rung)]
        return sum(found) / len(found) if found else None

    def best(self, rung: int) -> tuple[float, int] | None:
        """The highest reward of any trial on the rung, and its candidate."""
        found = (
            (reward, -candidate)
            for candidate in self._first[rung]
            for reward, _ in self.known(candidate, rung)
        )
        best = max(found, default=None)
        return None if best is None else (best[0], -best[1])
