"""What an earlier run found out, kept in the journal of the run that grew from it.

A training is the same if the function, the seed and the steps are: its outcome is taken over and
nothing is dispatched. Functions are compared as always, by their values, so that an operator which
means something else here than there gives nothing away, and an equal function in another spelling
is recognised. The rows are copies: the earlier run may be deleted.

The tables are made for a run that grew from another, and for no other; `known_trials` lists those
trials of this run whose outcome came from there. Their rows are sealed and counted as all others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .journal import Journal
from .json_text import as_json
from .outcome import Outcome, Trial
from .row_writer import real
from .schema import KNOWN_SCHEMA, CandidateRow, statements

if TYPE_CHECKING:
    from spaces import FingerprintIndex


@dataclass(frozen=True, slots=True)
class KnownTraining:
    """A training of an earlier run."""

    expression: str
    """The function, as canonical text."""
    fingerprint: np.ndarray
    """float64 `[N]`."""
    replicate: int
    steps: int
    run: str
    """The run that trained it."""
    trial: int
    """Its number there."""
    outcome: Outcome
    """`ok` or `diverged`."""


def known_trainings(journal: Journal, name: str, steps: Sequence[int]) -> Iterator[KnownTraining]:
    """What a run knows: what an earlier one told it, then what it trained itself.

    Args:
        journal: The run's journal.
        name: What the run is called.
        steps: Of each of its rungs.
    """
    if is_grown(journal):
        for function, replicate, budget, run, number, *rest in journal.rows("known_outcomes"):
            expression, fingerprint = _function(journal, function)
            yield KnownTraining(
                expression, fingerprint, replicate, budget, run, number, _outcome(*rest)
            )
    for trial, outcome in journal.trials():
        if outcome is None or outcome.status == "failed":
            continue
        if outcome.details.keys() & {"known_from", "same_as"}:
            continue
        found = journal.candidate(trial.candidate).fingerprint
        assert found is not None  # only such candidates are trained
        yield KnownTraining(
            trial.expression, found, trial.replicate, steps[trial.rung], name, trial.id, outcome
        )


def keep(journal: Journal, trainings: Iterator[KnownTraining]) -> None:
    """Makes the tables of a new run and fills them, within the caller's transaction."""
    from spaces import FingerprintIndex

    for table in statements(KNOWN_SCHEMA):
        journal.execute(table)
    index: FingerprintIndex[int] = FingerprintIndex()
    there: set[tuple[int, int, int]] = set()
    for training in trainings:
        function = index.find(training.fingerprint)
        if function is None:
            function = len(index) + 1
            index.add(function, training.fingerprint)
            blob = training.fingerprint.astype("<f8").tobytes()
            journal.add_row("known_functions", function, training.expression, blob)
        key = (function, training.replicate, training.steps)
        if key not in there:
            there.add(key)
            origin, outcome = (training.run, training.trial), training.outcome
            measured = (outcome.status, real(outcome.reward), real(outcome.loss))
            details = as_json(outcome.details)
            journal.add_row("known_outcomes", *key, *origin, *measured, details)


def is_grown(journal: Journal) -> bool:
    """Whether the run grew from another."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'known_outcomes'"
    found = journal.execute(query).fetchone() is not None
    if not found and journal.at_least("known_outcomes"):
        raise journal.damaged("the table known_outcomes is missing")
    return found


def _function(journal: Journal, number: int) -> tuple[str, np.ndarray]:
    """A known function: its text and its fingerprint."""
    for _, expression, fingerprint in journal.rows("known_functions", "id = ?", (number,)):
        return expression, np.frombuffer(fingerprint, "<f8")
    raise journal.damaged("a row of known_functions is missing")


def _outcome(status: Any, reward: float | None, loss: float | None, details: str) -> Outcome:
    return Outcome(status, reward, loss, details=json.loads(details))


def known_trials(journal: Journal, *, budget: bool = False) -> set[int]:
    """The trials whose outcome came from an earlier run.

    Args:
        journal: The run's journal.
        budget: Only those that would otherwise count against the run's budget of trials.
    """
    if not is_grown(journal):
        return set()
    found = {number for (number,) in journal.rows("known_trials")}
    if not budget:
        return found
    query = "SELECT id FROM trials WHERE rung = 0 AND NOT baseline"
    return found.intersection(number for (number,) in journal.execute(query))


class Known:
    """The outcomes that a run need not train for; of a run that grew from none, nothing.

    Args:
        journal: The run's journal.
    """

    def __init__(self, journal: Journal) -> None:
        # Those who only count known trials must not pay for jax.
        from spaces import FingerprintIndex

        self._journal = journal
        self._any = is_grown(journal)
        self._index: FingerprintIndex[int] = FingerprintIndex(self._fingerprint)
        self.trials = known_trials(journal)
        """Trials of this run that were given an outcome from here."""
        if self._any:
            for number, _, fingerprint in journal.rows("known_functions"):
                self._index.add(number, np.frombuffer(fingerprint, "<f8"))

    def take(self, trial: Trial, row: CandidateRow, steps: int) -> Outcome | None:
        """The outcome of a trial, which is journaled as known, within the transaction.

        Args:
            trial: The trial, which the journal has.
            row: Its candidate.
            steps: Of its rung.

        Returns:
            The outcome, at no cost, with the run and the trial that it is from; None if it has to
            be trained.
        """
        if not self._any or row.fingerprint is None:
            return None
        function = self._index.find(row.fingerprint)
        key = "function = ? AND replicate = ? AND steps = ?"
        found = self._journal.rows("known_outcomes", key, (function, trial.replicate, steps))
        for _, _, _, run, number, *rest in found:
            self._journal.add_row("known_trials", trial.id)
            self.trials.add(trial.id)
            outcome = _outcome(*rest)
            origin = {"known_from": {"run": run, "trial": number}}
            return replace(outcome, details={**outcome.details, **origin})
        return None

    def _fingerprint(self, number: int) -> np.ndarray:
        return _function(self._journal, number)[1]
