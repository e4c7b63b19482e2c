"""What an earlier run found out, kept in the journal of the run that grew from it.

A training is the same if the function, the seed and the steps are: its outcome is taken over and
nothing is dispatched. Functions are compared as always, by their values, so that an operator which
means something else here than there gives nothing away, and an equal function in another spelling
is recognised. The rows are copies: the earlier run may be deleted.

The tables are made for a run that grew from another, and for no other; `known_trials` lists those
trials of this run whose outcome came from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .journal import Journal
from .outcome import Outcome, Trial
from .schema import CandidateRow

if TYPE_CHECKING:
    from spaces import FingerprintIndex

TABLES = (
    """
    CREATE TABLE known_functions (
        id INTEGER PRIMARY KEY,
        expression TEXT NOT NULL,          -- canonical text
        fingerprint BLOB NOT NULL          -- float64 [3 N / 2]
    )
    """,
    """
    CREATE TABLE known_outcomes (
        function INTEGER NOT NULL REFERENCES known_functions (id),
        replicate INTEGER NOT NULL,
        steps INTEGER NOT NULL,
        run TEXT NOT NULL,                 -- where it was trained
        trial INTEGER NOT NULL,            -- its number there
        status TEXT NOT NULL,
        reward REAL,
        loss REAL,
        details TEXT NOT NULL,
        PRIMARY KEY (function, replicate, steps)
    )
    """,
    "CREATE TABLE known_trials (trial INTEGER PRIMARY KEY REFERENCES trials (id))",
)


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
        query = """
            SELECT f.expression, f.fingerprint, o.replicate, o.steps, o.run, o.trial,
                   o.status, o.reward, o.loss, o.details
            FROM known_outcomes o JOIN known_functions f ON f.id = o.function
            ORDER BY o.function, o.steps, o.replicate
        """
        for expression, fingerprint, replicate, budget, run, number, *rest in journal.execute(
            query
        ):
            status, reward, loss, details = rest
            yield KnownTraining(
                expression=expression,
                fingerprint=np.frombuffer(fingerprint, "<f8"),
                replicate=replicate,
                steps=budget,
                run=run,
                trial=number,
                outcome=Outcome(status, reward, loss, details=json.loads(details)),
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

    for table in TABLES:
        journal.execute(table)
    index: FingerprintIndex[int] = FingerprintIndex()
    for training in trainings:
        function = index.find(training.fingerprint)
        if function is None:
            function = len(index) + 1
            index.add(function, training.fingerprint)
            blob = training.fingerprint.astype("<f8").tobytes()
            row = (function, training.expression, blob)
            journal.execute("INSERT INTO known_functions VALUES (?, ?, ?)", row)
        outcome = training.outcome
        journal.execute(
            "INSERT OR IGNORE INTO known_outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                function,
                training.replicate,
                training.steps,
                training.run,
                training.trial,
                outcome.status,
                outcome.reward,
                outcome.loss,
                json.dumps(dict(outcome.details), separators=(",", ":")),
            ),
        )


def is_grown(journal: Journal) -> bool:
    """Whether the run grew from another."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'known_outcomes'"
    return journal.execute(query).fetchone() is not None


def known_trials(journal: Journal, *, budget: bool = False) -> set[int]:
    """The trials whose outcome came from an earlier run.

    Args:
        journal: The run's journal.
        budget: Only those that would otherwise count against the run's budget of trials.
    """
    if not is_grown(journal):
        return set()
    query = "SELECT k.trial FROM known_trials k JOIN trials t ON t.id = k.trial"
    only = " WHERE t.rung = 0 AND NOT t.baseline" if budget else ""
    return {number for (number,) in journal.execute(query + only)}


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
            query = "SELECT id, fingerprint FROM known_functions ORDER BY id"
            for number, fingerprint in journal.execute(query):
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
        query = """
            SELECT status, reward, loss, details, run, trial FROM known_outcomes
            WHERE function = ? AND replicate = ? AND steps = ?
        """
        found = self._journal.execute(query, (function, trial.replicate, steps)).fetchone()
        if found is None:
            return None
        self._journal.execute("INSERT INTO known_trials VALUES (?)", (trial.id,))
        self.trials.add(trial.id)
        status, reward, loss, details, run, number = found
        origin = {"known_from": {"run": run, "trial": number}}
        return Outcome(status, reward, loss, 0.0, {**json.loads(details), **origin})

    def _fingerprint(self, number: int) -> np.ndarray:
        query = "SELECT fingerprint FROM known_functions WHERE id = ?"
        return np.frombuffer(self._journal.execute(query, (number,)).fetchone()[0], "<f8")
