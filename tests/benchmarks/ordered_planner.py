"""A planner that knows nothing but the order of things, for simulations of very many trials.

As in `search.planner`, proposal t is made when those up to t − W have their outcomes. A share of the
proposals leads to a trial; the others have their reward at once, as what is invalid or equal to another.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

import numpy as np

from search.outcome import Outcome, Trial


class Ordered:
    """What the driver's loop asks of a planner.

    Args:
        trials: How many to make.
        window: W.
        new: Share of the proposals that are trained.
        seed: Decides which.
    """

    def __init__(self, trials: int, window: int, *, new: float = 1.0, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._trials, self._window, self._new = trials, window, new
        self._resolved = bytearray()
        self._front = 0
        """The first proposal that has no outcome."""
        self._of: dict[int, int] = {}
        self._waiting: deque[Trial] = deque()
        self._attempts: Counter[int] = Counter()
        self.planned = self.done = 0

    @property
    def proposing(self) -> bool:
        """Whether there are trials to make."""
        return self.planned < self._trials

    @property
    def finished(self) -> bool:
        """Whether every trial has an outcome."""
        return not self.proposing and self.done == self.planned

    def due(self, count: int) -> list[Trial]:
        """Up to `count` trials that shall be dispatched now."""
        self.look_ahead(count)
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def look_ahead(self, count: int) -> None:
        """Makes trials until `count` wait, as far as the order allows it."""
        while len(self._waiting) < count and self.proposing and self._may_propose():
            trained = self._rng.random() < self._new
            if trained:
                self.planned += 1
                self._of[self.planned] = len(self._resolved)
                self._waiting.append(Trial(self.planned, self.planned, "x", 0, 0, False))
            self._resolved.append(not trained)

    def record(self, results: Sequence[tuple[Trial, Outcome]]) -> None:
        """Notes outcomes."""
        for trial, _ in results:
            self._resolved[self._of.pop(trial.id)] = 1
            self.done += 1

    def attempts(self, trial: Trial) -> int:
        """How often a worker died under a trial."""
        return self._attempts[trial.id]

    def attempt(self, trial: Trial) -> int:
        """Counts one more."""
        self._attempts[trial.id] += 1
        return self._attempts[trial.id]

    def give_back(self, trial: Trial) -> None:
        """Puts a trial in front of the others."""
        self._waiting.appendleft(trial)

    def _may_propose(self) -> bool:
        while self._front < len(self._resolved) and self._resolved[self._front]:
            self._front += 1
        return self._front > len(self._resolved) - self._window
