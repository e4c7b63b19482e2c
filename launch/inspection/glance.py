"""A run at one moment, as somebody sees it who looks in: how far it is, and what is best."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass

from search.journal import Journal
from search.known import known_trials
from search.ranking import RankedCandidate, rank

from ..config import Science
from .tables import accuracy


@dataclass(frozen=True, slots=True)
class Glance:
    """A run at one moment."""

    done: int
    """Trials with an outcome."""
    expected: int
    """Trials that the finished run will have, as far as can be told."""
    last: float | None
    """When the last outcome was recorded, Unix time."""
    ending: str | None
    """None while the run is not finished; else why it ended before its budget, or empty."""
    ranked: list[RankedCandidate]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to be done."""
        return self.ending is not None

    @property
    def without_reward(self) -> int:
        """Functions that were trained and have no reward."""
        return sum(candidate.reward is None for candidate in self.ranked)

    def line(self) -> str:
        """Everything in a line."""
        parts = [f"{self.done}/{self.expected}"]
        best = self.ranked[0] if self.ranked else None
        if best is not None and best.reward is not None:
            name = f"  {best.row.name}" if best.row.name else ""
            parts.append(f"best {accuracy(best)}  {best.row.formula}{name}")
        if self.without_reward:
            parts.append(f"({self.without_reward} without reward)")
        if self.finished:
            parts.append(f"finished: {self.ending}" if self.ending else "finished")
        return "  ".join(parts)

    def state(self) -> str:
        """What the run seems to be doing: a reader cannot see whether a driver is at work."""
        if self.finished:
            return f"finished: {self.ending}" if self.ending else "finished"
        if self.last is None:
            return "no result yet"
        ago = datetime.timedelta(seconds=max(0, int(time.time() - self.last)))
        return f"last result {ago} ago"


def glance(journal: Journal, science: Science) -> Glance:
    """Looks at a run.

    Args:
        journal: Its journal, opened for reading.
        science: What it was asked to do.
    """
    with journal.moment():
        _, done, last = journal.pulse()
        finished = journal.meta("finished")
        return Glance(
            done=done,
            expected=expected_trials(journal, science),
            last=last,
            ending=None if finished is None else finished.removeprefix("done"),
            ranked=rank(journal),
        )


def expected_trials(journal: Journal, science: Science) -> int:
    """Trials that the finished run will have, baselines included, as far as can be told."""
    planned = journal.planned()
    total = sum(planned.values())
    if journal.meta("finished") is not None:
        return total
    ladder = science.search.ladder(science.train.steps)
    now = max((rung for rung, _ in planned), default=0)
    baselines = planned.get((0, True), 0) // ladder[0].replicates
    counted = planned.get((0, False), 0) - len(known_trials(journal, budget=True))
    ahead = science.search.trials - counted if now == 0 else 0
    later = sum(
        ((ladder[rung - 1].promoted or 0) + baselines) * ladder[rung].replicates
        for rung in range(now + 1, len(ladder))
    )
    return total + max(0, ahead) + later
