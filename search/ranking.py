"""Ranks candidates: by the highest rung reached, then accuracy there, then loss.

Replicates give a spread. Candidates without a reward come last, with their reason.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from .journal import Journal, JournalError
from .outcome import Outcome, Trial
from .schema import CandidateRow


def standing(outcomes: Sequence[tuple[float, float | None]]) -> tuple[float, float]:
    """Sort key of one candidate on one rung, better first.

    Args:
        outcomes: Reward and loss of each replicate that has a reward.

    Returns:
        Minus the mean reward, then the mean loss; a missing loss is the worst. The mean is rounded
        to 1e-12, far below one image: 0.91 and 0.93 are as good as 0.92 twice, which their sums in
        floating point are not (of such ties every fifth was decided by the last bit).
    """
    if not outcomes:
        return (math.inf, math.inf)
    reward = math.fsum(reward for reward, _ in outcomes) / len(outcomes)
    losses = [math.inf if loss is None else loss for _, loss in outcomes]
    return (-round(reward, 12), sum(losses) / len(losses))


@dataclass(slots=True)
class RankedCandidate:
    """A candidate with everything that was measured of it."""

    row: CandidateRow
    baseline: bool
    aliases: list[str] = field(default_factory=list)
    """Other spellings that were proposed."""
    trials: list[tuple[Trial, Outcome]] = field(default_factory=list)
    """Finished trials, in the order in which they were planned."""

    @property
    def rung(self) -> int:
        """The highest rung on which a trial finished."""
        return max((trial.rung for trial, _ in self.trials), default=0)

    @property
    def top_outcomes(self) -> list[Outcome]:
        """Outcomes on the highest rung."""
        highest = self.rung
        return [outcome for trial, outcome in self.trials if trial.rung == highest]

    @property
    def rewards(self) -> list[float]:
        """Validation accuracies on the highest rung."""
        return [outcome.reward for outcome in self.top_outcomes if outcome.reward is not None]

    @property
    def reward(self) -> float | None:
        """Mean validation accuracy on the highest rung; None unless every replicate has one."""
        complete = self.rewards and len(self.rewards) == len(self.top_outcomes)
        return sum(self.rewards) / len(self.rewards) if complete else None

    @property
    def spread(self) -> float | None:
        """Standard deviation of the accuracy over replicates; None if there is but one."""
        if len(self.rewards) < 2:
            return None
        mean = sum(self.rewards) / len(self.rewards)
        return math.sqrt(sum((r - mean) ** 2 for r in self.rewards) / (len(self.rewards) - 1))

    @property
    def loss(self) -> float | None:
        """Mean validation loss on the highest rung."""
        losses = [outcome.loss for outcome in self.top_outcomes if outcome.loss is not None]
        return sum(losses) / len(losses) if losses else None

    @property
    def seconds(self) -> float:
        """Seconds spent on all its trials."""
        return sum(outcome.seconds for _, outcome in self.trials)

    @property
    def status(self) -> str:
        """`ok`, or what went wrong in the first trial that went wrong, or the pre-flight's verdict."""
        if self.row.verdict != "ok":
            return self.row.verdict
        for outcome in self.top_outcomes:
            if outcome.status != "ok":
                return outcome.status
        return "ok" if self.trials else "untrained"

    @property
    def reason(self) -> str:
        """Why it has no reward; empty if it has one."""
        if self.row.verdict != "ok":
            return self.row.reason
        return next((o.reason for o in self.top_outcomes if o.status != "ok"), "")

    def _key(self) -> tuple[bool, int, tuple[float, float], int]:
        outcomes = self.top_outcomes
        known = [(o.reward, o.loss) for o in outcomes if o.reward is not None]
        complete = bool(known) and len(known) == len(outcomes)
        return (not complete, -self.rung, standing(known if complete else []), self.row.id)


def rank(journal: Journal) -> list[RankedCandidate]:
    """Every candidate that was trained, best first; equal functions are one entry.

    Rows come without fingerprint and curve, outcomes with the reason as their only detail: a run
    may have very many of them, and `journal.candidate` has the rest of one.
    """
    with journal.moment():
        return rank_rows(journal.candidates(sampled=False), journal.trials(details=False))


def rank_rows(
    rows: Iterable[CandidateRow], trials: Iterable[tuple[Trial, Outcome | None]]
) -> list[RankedCandidate]:
    """As `rank`, from rows.

    Raises:
        JournalError: A row names a candidate that there is not.
    """
    found: dict[int, RankedCandidate] = {}
    with _missing():
        for row in rows:
            if row.equal_to is None:
                found[row.id] = RankedCandidate(row, baseline=False)
            else:
                found[row.equal_to].aliases.append(row.expression)
        for trial, outcome in trials:
            if outcome is not None:
                found[trial.candidate].trials.append((trial, outcome))
                found[trial.candidate].baseline |= trial.baseline
    return sorted((c for c in found.values() if c.trials), key=RankedCandidate._key)


def untrained(journal: Journal) -> list[RankedCandidate]:
    """Candidates that pre-flight refused, in the order in which they were met."""
    rows = journal.candidates(sampled=False)
    return [RankedCandidate(row, baseline=False) for row in rows if row.verdict != "ok"]


def history_sha256(journal: Journal) -> str:
    """A hash of what happened: every proposal and every outcome, in the run's own order.

    Times and machines are left out: equal seeds give equal hashes on any number of workers.
    """
    digest = hashlib.sha256()
    with journal.moment(), _missing():
        rows = {row.id: row for row in journal.candidates(sampled=False)}
        for t, candidate in enumerate(journal.proposed()):
            row = rows[candidate]
            line = f"p {t} {row.expression} {row.verdict} {rows[row.root].expression}"
            digest.update(f"{line}\n".encode())
        for trial, outcome in journal.trials(details=False):
            line = f"t {trial.id} {trial.expression} {trial.replicate} {trial.rung}"
            if outcome is not None:
                line += f" {outcome.status} {outcome.reward!r} {outcome.loss!r}"
            digest.update(f"{line}\n".encode())
    return digest.hexdigest()


@contextmanager
def _missing() -> Iterator[None]:
    """Turns a candidate that is named and not there into one line."""
    try:
        yield
    except KeyError as number:
        raise JournalError(f"the journal is damaged: candidate {number} is missing") from None
