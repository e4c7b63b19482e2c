"""What a driver writes into its run's journal: sealed rows, counted, in transactions.

Times are written twice: as the machine's clock has them, for people, and as seconds of work, which
no change of the clock touches.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .database import Connection
from .json_text import as_json
from .outcome import Outcome, Trial
from .row_reader import HEAD, RowReader
from .schema import CandidateRow, ProposalRow
from .seal import check_seal, seal, sealed


class RowWriter(RowReader):
    """The rows of a journal, written and read through one connection.

    Rows are added inside a transaction of the caller's; each method raises a `JournalError` where
    the file cannot be written.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._added: Counter[str] = Counter()
        """Rows that the transaction has added, by table."""
        self._head: dict[str, Any] | None = None
        """What was last committed of `HEAD`; nobody else writes it. None where it has to be read."""
        self._last: float | None = None
        """When the transaction recorded its last outcome, Unix time."""
        self._sitting: int | None = None
        self._began = time.monotonic()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is committed together, or not at all.

        Raises:
            JournalError: It cannot be written.
        """
        self._added, self._last = Counter(), None
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            head = self._write_head() if self._added else self._head
            self._db.execute("COMMIT")
            self._head = head
        except BaseException:
            self._head = None
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def add_row(self, table: str, *values: Any) -> None:
        """Adds a row whose seal is that of its other columns and stands last."""
        self._add(table, *values, seal(*values))

    def add_candidate(self, row: CandidateRow) -> None:
        """Adds a candidate; its `id` is new."""
        own = (
            row.id,
            row.expression,
            row.formula,
            row.latex,
            row.name,
            row.verdict,
            row.reason,
            row.equal_to,
        )
        arrays = (
            None if row.fingerprint is None else sealed(row.fingerprint.astype("<f8").tobytes()),
            None if row.curve is None else sealed(row.curve.astype("<f4").tobytes()),
        )
        self._add("candidates", *own, *arrays, seal(*own))

    def add_proposal(self, row: ProposalRow) -> None:
        """Adds a proposal; its `t` follows the last one."""
        own, details = (row.t, row.candidate, as_json(list(row.tokens))), as_json(dict(row.details))
        self._add("proposals", *own, details, seal(*own), seal(details))

    def add_trial(self, trial: Trial) -> None:
        """Adds a trial that is to be dispatched."""
        own = (trial.id, trial.candidate, trial.replicate, trial.rung, int(trial.baseline), 0)
        self._add("trials", *own, seal(*own, trial.expression))

    def add_outcome(self, trial: int, outcome: Outcome) -> None:
        """Adds what came of a trial; a second outcome of one trial is refused."""
        measured = (trial, outcome.status, *map(real, (outcome.reward, outcome.loss)))
        now = time.time()
        times = (now, self._sitting, time.monotonic() - self._began)
        own, details = (*measured, float(outcome.seconds)), as_json(outcome.details)
        self._add("outcomes", *own, details, *times, seal(*own, *times), seal(details))
        self._last = now

    def add_attempt(self, trial: int) -> int:
        """Counts a worker that died during a trial; returns how many there were."""
        query = """
            SELECT t.id, t.candidate, t.replicate, t.rung, t.baseline, t.attempts, c.expression, t.seal
            FROM trials t JOIN candidates c ON c.id = t.candidate WHERE t.id = ?
        """
        row = self._db.execute(query, (trial,)).fetchone()
        with self._decoding("trials"):
            *own, attempts, expression, mark = row
            check_seal(mark, *own, attempts, expression)
        self._db.execute(
            "UPDATE trials SET attempts = ?, seal = ? WHERE id = ?",
            (attempts + 1, seal(*own, attempts + 1, expression), trial),
        )
        return attempts + 1

    def put_snapshot(self, t: int, state: bytes, metrics: Mapping[str, Any]) -> None:
        """Keeps the strategy's state as it is before proposal `t`, and drops the one before it."""
        last = "SELECT max(t) FROM snapshots WHERE t < ?"
        self._db.execute(f"UPDATE snapshots SET state = x'' WHERE t = ({last})", (t,))
        self._added["snapshots"] -= self._db.execute(
            "DELETE FROM snapshots WHERE t = ?", (t,)
        ).rowcount
        told = as_json(dict(metrics))
        self._add("snapshots", t, sealed(state), told, seal(t, told))

    def put_meta(self, key: str, value: str) -> None:
        """Sets one entry of the run's facts."""
        self._added["meta"] -= self._db.execute("DELETE FROM meta WHERE key = ?", (key,)).rowcount
        self.add_row("meta", key, value)

    def begin_sitting(self, details: Mapping[str, Any]) -> int:
        """Notes that a driver begins to work on the run; returns the sitting's number.

        What is recorded from now on belongs to it.
        """
        (before,) = self._db.execute("SELECT max(id) FROM sittings").fetchone()
        number = (before or 0) + 1
        self.add_row("sittings", number, time.time(), 0.0, as_json(dict(details)))
        self._sitting, self._began = number, time.monotonic()
        return number

    def update_sitting(self, sitting: int, seconds: float, details: Mapping[str, Any]) -> None:
        """Notes how long the driver has worked and what it has counted so far."""
        query = "SELECT started FROM sittings WHERE id = ?"
        (started,) = self._db.execute(query, (sitting,)).fetchone()
        own = (sitting, started, float(seconds), as_json(dict(details)))
        self._db.execute(
            "UPDATE sittings SET seconds = ?, details = ?, seal = ? WHERE id = ?",
            (*own[2:], seal(*own), sitting),
        )

    def _add(self, table: str, *values: Any) -> None:
        places = ", ".join("?" * len(values))
        self._db.execute(f"INSERT INTO {table} VALUES ({places})", values)
        self._added[table] += 1

    def _write_head(self) -> dict[str, Any]:
        """Counts what the transaction has added."""
        with self._decoding("meta"):
            known = self._head or json.loads(self._facts().get(HEAD, '{"last":null}'))
            head = {**known, **{name: known.get(name, 0) + n for name, n in self._added.items()}}
            if self._last is not None:
                head["last"] = self._last
        text = as_json(head)
        self._db.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (HEAD, text, seal(HEAD, text))
        )
        return head


def real(value: float | None) -> float | None:
    """A number as a column of reals gives it back."""
    return None if value is None else float(value)
