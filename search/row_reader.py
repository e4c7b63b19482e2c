"""What a journal tells whoever looks at it: its rows as plain data, each compared with its seal.

A row that is not what was written, or that is missing, is a `JournalError` and never a value. Of a
table that is read to its end, the number of rows is compared with what `meta` says of it, and no row may be
there twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .database import Connection, JournalError
from .outcome import BY_CHANCE, Outcome, Trial
from .schema import CandidateRow, ProposalRow
from .seal import check_seal, unsealed

HEAD = "head"
"""Entry of `meta`: for each table how many rows it has, and under `last` when the last outcome was
recorded, Unix time; committed with the rows that it counts."""


class RowReader:
    """The rows of a journal, read through one connection.

    Every method raises a `JournalError` where the file is damaged.
    """

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self._db.path

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Everything read inside is of one moment, though the driver may be writing meanwhile."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    def meta(self, key: str) -> str | None:
        """One entry of the run's facts, or None."""
        facts = self._facts()
        if len(facts.keys() - {HEAD}) < self.at_least("meta"):
            raise self.damaged("a row of meta is missing")
        return facts.get(key)

    def number(self, expression: str) -> int | None:
        """The number of the candidate of this canonical text, or None."""
        query = "SELECT id FROM candidates WHERE expression = ?"
        row = self._db.execute(query, (expression,)).fetchone()
        return None if row is None else int(row[0])

    def candidate(self, number: int) -> CandidateRow:
        """The candidate of this number, which there is."""
        query = f"SELECT {_CANDIDATE}, fingerprint, curve FROM candidates WHERE id = ?"
        row = self._db.execute(query, (number,)).fetchone()
        with self._decoding("candidates"):
            return _candidate(*row)

    def candidates(self, *, sampled: bool = True) -> Iterator[CandidateRow]:
        """All candidates in the order in which they were met.

        Args:
            sampled: Whether rows carry fingerprint and curve, most of their bytes.
        """
        arrays = "fingerprint, curve" if sampled else "NULL, NULL"
        query = f"SELECT {_CANDIDATE}, {arrays} FROM candidates ORDER BY id"
        with self._decoding("candidates"):
            for row in self._all("candidates", query, key=1):
                yield _candidate(*row)

    def proposed(self) -> Iterator[int]:
        """For each proposal, in order, the number of its candidate."""
        query = "SELECT seal, t, candidate, tokens FROM proposals ORDER BY t"
        with self._decoding("proposals"):
            for mark, t, candidate, tokens in self._all("proposals", query, key=1):
                check_seal(mark, t, candidate, tokens)
                yield candidate

    def proposals(self, since: int = 0) -> Iterator[ProposalRow]:
        """Proposals from number `since` on, in order."""
        query = f"""
            SELECT seal, details_seal, t, candidate, tokens, details FROM proposals
            WHERE t >= {int(since)} ORDER BY t
        """
        rows = self._all("proposals", query, key=2, skipped=since)
        with self._decoding("proposals"):
            for mark, details_mark, *own, details in rows:
                check_seal(mark, *own)
                check_seal(details_mark, details)
                t, candidate, tokens = own
                yield ProposalRow(t, candidate, tuple(json.loads(tokens)), json.loads(details))

    def trials(
        self, *, details: bool = True, of: int | None = None
    ) -> Iterator[tuple[Trial, Outcome | None]]:
        """All trials in the order in which they were planned, with their outcomes if there are.

        Args:
            details: Whether outcomes carry all their details, or only why they have no reward.
            of: Only those of the candidate of this number.
        """
        told = "o.details" if details else "CASE o.status WHEN 'ok' THEN '{}' ELSE o.details END"
        query = f"""
            SELECT t.id, t.candidate, t.replicate, t.rung, t.baseline, t.attempts, c.expression,
                   t.seal, {", ".join(f"o.{name}" for name in _OUTCOME)}, {told}, o.details_seal
            FROM trials t JOIN candidates c ON c.id = t.candidate
            LEFT JOIN outcomes o ON o.trial = t.id
            {"" if of is None else f"WHERE t.candidate = {int(of)}"} ORDER BY t.id
        """
        ended, expected = 0, self.at_least("outcomes")
        rows = self._all("trials", query, key=0) if of is None else self._db.execute(query)
        with self._decoding("trials or outcomes"):
            for row in rows:
                check_seal(row[7], *row[:7])
                number, candidate, replicate, rung, baseline, _, expression = row[:7]
                trial = Trial(number, candidate, expression, replicate, rung, bool(baseline))
                outcome = None if row[8] is None else _outcome(*row[8:], whole=details)
                ended += outcome is not None
                yield trial, outcome
        if of is None and ended < expected:
            raise self.damaged("a row of outcomes is missing")

    def attempts(self) -> dict[int, int]:
        """For each trial under which workers died, how many."""
        query = """
            SELECT t.id, t.candidate, t.replicate, t.rung, t.baseline, t.attempts, c.expression, t.seal
            FROM trials t JOIN candidates c ON c.id = t.candidate ORDER BY t.id
        """
        found = {}
        with self._decoding("trials"):
            for *own, mark in self._all("trials", query, key=0):
                check_seal(mark, *own)
                if own[5]:
                    found[own[0]] = own[5]
        return found

    def outcome(self, trial: int) -> Outcome | None:
        """What came of a trial, with all details; None if nothing has yet."""
        query = f"SELECT {', '.join(_OUTCOME)}, details, details_seal FROM outcomes WHERE trial = ?"
        row = self._db.execute(query, (trial,)).fetchone()
        with self._decoding("outcomes"):
            return None if row is None else _outcome(*row, whole=True)

    def finished(self) -> dict[int, float]:
        """For each trial with an outcome, when that was recorded, Unix time.

        It is what the clock of the driver's machine said, which may have been put back meanwhile:
        `worked_until` tells what came first.
        """
        return {trial: finished for trial, finished, _, _ in self._arrivals()}

    def pulse(self) -> tuple[int, int, float | None]:
        """Trials planned, trials with an outcome, and when the last one was recorded, Unix time."""
        with self._decoding("meta"):
            head = json.loads(self._facts()[HEAD])
            return head.get("trials", 0), head.get("outcomes", 0), head["last"]

    def planned(self) -> dict[tuple[int, bool], int]:
        """How many trials are planned, by rung and by whether they are baselines'.

        Their seals are not looked at: who counts trials reads them, too.
        """
        query = "SELECT rung, baseline, count(*) FROM trials GROUP BY rung, baseline"
        return {(rung, bool(own)): count for rung, own, count in self._db.execute(query)}

    def snapshot(self) -> tuple[int, bytes] | None:
        """The latest kept state of the strategy and the proposal it stands before."""
        query = "SELECT seal, t, metrics, state FROM snapshots ORDER BY t DESC LIMIT 1"
        row = self._db.execute(query).fetchone()
        if row is None and self.at_least("snapshots"):
            raise self.damaged("a row of snapshots is missing")
        with self._decoding("snapshots"):
            if row is None:
                return None
            mark, t, metrics, state = row
            check_seal(mark, t, metrics)
            return t, unsealed(state)

    def metrics(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """What the strategy told of itself, by the proposal it stood before."""
        query = "SELECT seal, t, metrics FROM snapshots ORDER BY t"
        with self._decoding("snapshots"):
            for mark, t, metrics in self._all("snapshots", query, key=1):
                check_seal(mark, t, metrics)
                yield t, json.loads(metrics)

    def sittings(self) -> list[tuple[float, dict[str, Any]]]:
        """Seconds and details of each time a driver worked on the run."""
        return [(seconds, details) for _, seconds, details in self._sittings()]

    def worked(self) -> float:
        """Seconds that drivers have worked on the run.

        A sitting that goes on or was killed counts up to its last outcome.
        """
        return sum(self._lengths().values())

    def worked_until(self) -> dict[int, float]:
        """For each trial with an outcome, in the order in which they came, seconds of work until then.

        Breaks between sittings are left out. No clock is asked, so that none can be put back.
        """
        begun, before = {}, 0.0
        for sitting, seconds in self._lengths().items():
            begun[sitting] = before
            before += seconds
        with self._decoding("outcomes"):
            ends = [
                (begun[number] + worked, trial) for trial, _, number, worked in self._arrivals()
            ]
        return {trial: seconds for seconds, trial in sorted(ends)}

    def rows(self, table: str, where: str = "", values: Sequence[Any] = ()) -> Iterator[list[Any]]:
        """Rows that `add_row` added, for tables that have a module of their own.

        Args:
            table: Their table.
            where: A condition, with `?` for its values; empty: all rows, in the order in which they were added.
            values: Those values.
        """
        query = f"SELECT rowid, * FROM {table} {where and f'WHERE {where}'} ORDER BY rowid"
        found = self._db.execute(query, values) if where else self._all(table, query, key=0)
        with self._decoding(table):
            for _, *row, mark in found:
                check_seal(mark, *row)
                yield row

    def at_least(self, table: str) -> int:
        """How many rows a table has at least: a driver may be adding some."""
        with self._decoding("meta"):
            return int(json.loads(self._facts()[HEAD]).get(table, 0))

    def damaged(self, what: str) -> JournalError:
        """The error of a journal that is damaged."""
        return JournalError(
            f"{self.path} is damaged ({what}): put a copy in its place or begin a new run"
        )

    def _facts(self) -> dict[str, str]:
        """Everything in `meta`."""
        found = {}
        with self._decoding("meta"):
            for key, value, mark in self._db.execute("SELECT key, value, seal FROM meta"):
                check_seal(mark, key, value)
                if key in found:
                    raise self.damaged("a row of meta is there twice")
                found[key] = value
        return found

    def _all(self, table: str, query: str, *, key: int, skipped: int = 0) -> Iterator[Any]:
        """What a query finds that wants all rows of a table, in the order of their keys.

        A row that is gone is missed by the number of rows, one that is there twice by its key.

        Args:
            table: The table.
            query: The query.
            key: Where the key stands in what it finds.
            skipped: How many rows, the first ones, it does not want.
        """
        expected, found, before = self.at_least(table) - skipped, 0, -1
        for row in self._db.execute(query):
            if row[key] <= before:
                raise self.damaged(f"a row of {table} is there twice")
            found, before = found + 1, row[key]
            yield row
        if found < expected:
            raise self.damaged(f"a row of {table} is missing")

    def _arrivals(self) -> Iterator[tuple[int, float, int | None, float]]:
        """Of each outcome: trial, Unix time, sitting and seconds of the sitting until then."""
        query = f"SELECT {', '.join(_OUTCOME)} FROM outcomes ORDER BY trial"
        with self._decoding("outcomes"):
            for *own, mark in self._all("outcomes", query, key=0):
                check_seal(mark, *own)
                yield own[0], *own[5:]

    def _sittings(self) -> Iterator[tuple[int, float, dict[str, Any]]]:
        query = "SELECT seal, id, started, seconds, details FROM sittings ORDER BY id"
        with self._decoding("sittings"):
            for mark, *own in self._all("sittings", query, key=1):
                check_seal(mark, *own)
                yield own[0], own[2], json.loads(own[3])

    def _lengths(self) -> dict[int | None, float]:
        """Seconds of each sitting in order; of what was recorded in none under None, first."""
        longest: dict[int | None, float] = {}
        for _, _, sitting, worked in self._arrivals():
            longest[sitting] = max(longest.get(sitting, 0.0), worked)
        found: dict[int | None, float] = {None: longest.get(None, 0.0)}
        for sitting, seconds, _ in self._sittings():
            found[sitting] = max(seconds, longest.get(sitting, 0.0))
        return found

    @contextmanager
    def _decoding(self, table: str) -> Iterator[None]:
        """Turns what a damaged row leads to into one line."""
        try:
            yield
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if isinstance(error, JournalError):
                raise
            raise self.damaged(f"a row of {table} is not what was written") from None


_CANDIDATE = "seal, id, expression, formula, latex, name, verdict, reason, equal_to"
_OUTCOME = (
    "trial",
    "status",
    "reward",
    "loss",
    "seconds",
    "finished",
    "sitting",
    "worked",
    "seal",
)


def _candidate(mark: int, *row: Any) -> CandidateRow:
    *own, print_, curve = row
    check_seal(mark, *own)
    return CandidateRow(
        *own,
        fingerprint=None if print_ is None else np.frombuffer(unsealed(print_), "<f8"),
        curve=None if curve is None else np.frombuffer(unsealed(curve), "<f4").reshape(2, -1),
    )


def _outcome(*row: Any, whole: bool) -> Outcome:
    """An outcome with all its details, or only with why it has no reward."""
    *own, mark, details, details_mark = row
    check_seal(mark, *own)
    _, status, reward, loss, seconds, *_ = own
    if not whole and status == "ok":
        return Outcome(status, reward, loss, seconds)
    check_seal(details_mark, details)
    found = json.loads(details)
    if not whole:
        found = {name: found[name] for name in ("reason", BY_CHANCE) if name in found}
    return Outcome(status, reward, loss, seconds, found)
