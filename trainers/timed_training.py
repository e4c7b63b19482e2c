"""A candidate's training, timed a few steps at a time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import numpy as np

from .loop import History
from .trainer import Clock

if TYPE_CHECKING:
    from spaces import Candidate

    from .trainer import Trainer


class TimedTraining:
    """A candidate in one form, trained some steps at a time.

    Args:
        trainer: Whose parts it is made of.
        candidate: The candidate.
        execution: `traced` or `specialised`.
        seed: Decides weights and batches.
        unit: Steps of one call.
    """

    def __init__(
        self, trainer: Trainer, candidate: Candidate, execution: str, seed: int, unit: int
    ) -> None:
        clock = Clock()
        self._driver = trainer._driver
        self._seed = seed
        self.history = History()
        self._stages = trainer._stages(candidate, execution, 3 * unit, clock)
        self._stage = next(self._stages)
        begin = time.perf_counter()
        beta = np.asarray(self._stage.compiled.initial(self._stage.program))
        self._state = self._driver.begin(self._stage.compiled.functions, beta, seed=seed)
        jax.block_until_ready(self._state)
        self.start_s = time.perf_counter() - begin
        """To the state before the first step,"""
        self.first_s = self.steps(unit)
        """and the first step, or the first call with several."""
        self.steps(unit)
        if self._stage.steps < 3 * unit:
            self._stage = next(self._stages)
        self.steps(unit)
        self.compile_s = clock.read().compile

    def steps(self, count: int) -> float:
        """Does so many steps on the schedule of as many, and says how many seconds they took."""
        begin = time.perf_counter()
        stage = self._stage._replace(steps=count)
        self._state, _ = self._driver.train(
            [stage], self._state, seed=self._seed, total=count, history=self.history
        )
        jax.block_until_ready(self._state)
        return time.perf_counter() - begin

    def evaluate(self) -> float:
        """Seconds of an evaluation."""
        begin = time.perf_counter()
        self._driver.evaluate(self._stage.compiled, self._state, self._stage.program)
        return time.perf_counter() - begin

    def close(self) -> None:
        """Gives up the candidate's code."""
        self._stages.close()


@contextlib.contextmanager
def timed_training(
    trainer: Trainer, candidate: Candidate, execution: str, *, seed: int, unit: int
) -> Iterator[TimedTraining]:
    """The training, within the context."""
    found = TimedTraining(trainer, candidate, execution, seed, unit)
    try:
        yield found
    finally:
        found.close()
