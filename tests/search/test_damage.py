"""Whatever happens to a journal's bytes: what it tells is what was written, or it is refused.

Journals of real runs (planner, strategy, invented outcomes) are cut off and written over at hundreds
of places, row by row and byte by byte. Whoever looks and whoever resumes gets exactly a state that was
once committed, or a `JournalError` in one line; never another value, another error, or nothing at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from search.controller import ControllerConfig
from search.journal import FILE_NAME, Journal, JournalError
from search.known import is_grown, keep, known_trainings, known_trials
from search.outcome import Outcome, Trial
from search.planner import Plan, Planner
from search.ranking import history_sha256, rank, untrained
from search.state import encode_state
from spaces import PAPER, OperatorTable, SearchSpace, parse

OPERATORS = PAPER.only("identity", "neg", "scale", "sin", "sigmoid", "relu", "add", "mul", "max")
SPACE = SearchSpace(OPERATORS, 1)
BASELINES = [parse("relu(x)", OPERATORS)]
TABLE = OperatorTable.for_run(OPERATORS, core_units=1, extra=BASELINES)
PLAN = Plan(trials=24, window=6, chance=0.1, steps=(10,))
FACTS = ("schema_version", "created", "operators_sha256", "data_sha256", "from_run", "finished")


def planner_of(journal: Journal) -> Planner:
    strategy = ControllerConfig(batch_size=6, hidden=8, epochs=2).build(SPACE)
    return Planner(PLAN, SPACE, TABLE, strategy, BASELINES, journal)


def outcome_of(trial: Trial) -> Outcome:
    if "sin" in trial.expression:
        return Outcome("diverged", seconds=0.5, details={"reason": "loss became nan at step 3"})
    digest = hashlib.sha256(trial.expression.encode()).digest()
    curve = [{"step": step, "loss": 1.0 / step} for step in range(1, 40)]
    return Outcome("ok", digest[0] / 256, 1.0, 2.0, {"curve": curve, "steps": 10})


def work(journal: Journal, stop_after: int | None = None) -> None:
    planner, made = planner_of(journal), 0
    with journal.transaction():
        sitting = journal.begin_sitting({"workers": 1})
    while not planner.finished and made != stop_after:
        for trial in planner.due(2):
            if "scale" in trial.expression and not made % 5:
                planner.attempt(trial)
            planner.record([(trial, outcome_of(trial))])
        made += 1
    if planner.finished:
        planner.conclude()
    with journal.transaction():
        journal.update_sitting(sitting, 12.5, {"workers": 1})


def told(journal: Journal) -> str:
    """Everything that a journal tells, of one moment."""
    with journal.moment():
        arrays = [
            [None if each is None else each.tobytes() for each in (row.fingerprint, row.curve)]
            for row in journal.candidates()
        ]
        found = (
            [journal.meta(key) for key in FACTS],
            [repr(row) for row in journal.candidates(sampled=False)],
            arrays,
            list(journal.proposed()),
            [repr(row) for row in journal.proposals()],
            list(journal.trials()),
            journal.finished(),
            journal.worked_until(),
            journal.worked(),
            journal.pulse(),
            sorted(journal.planned().items()),
            journal.snapshot(),
            list(journal.metrics()),
            journal.sittings(),
            [(c.row.id, c.reward, c.loss, c.status, c.aliases) for c in rank(journal)],
            len(untrained(journal)),
            history_sha256(journal),
            is_grown(journal) and [repr(t) for t in known_trainings(journal, "self", (10,))],
            sorted(known_trials(journal)),
            sorted(known_trials(journal, budget=True)),
        )
    return hashlib.sha256(repr(found).encode()).hexdigest()


class Sound:
    """The files of a sound run, and everything that was ever committed to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, bytes] = {}
        self.states: set[str] = set()
        self.state = b""
        """The strategy's, as a driver that resumes takes it up."""

    @contextlib.contextmanager
    def witnessed(self) -> Iterator[None]:
        """Notes what the journal tells after every commit inside."""
        transaction = Journal.transaction

        @contextlib.contextmanager
        def noted(journal: Journal) -> Iterator[None]:
            with transaction(journal):
                yield
            if journal.path.name == FILE_NAME:
                self.states.add(told(journal))

        with patch.object(Journal, "transaction", noted):
            yield

    def keep(self) -> None:
        names = (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm")
        found = (self.folder / name for name in names)
        self.files = {path.name: path.read_bytes() for path in found if path.exists()}

    def put(self, folder: Path, **damaged: bytes) -> Path:
        """Copies the files, some of them with other contents, into a new folder."""
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        for name, content in {**self.files, **damaged}.items():
            (folder / name).write_bytes(content)
        return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Sound]:
    """A finished run; one that grew from it; two that a kill left with all or some in their logs."""
    made = {}
    for name, stop_after in (("finished", None), ("grown", None), ("killed", 9), ("folded", 9)):
        killed = stop_after is not None
        sound = Sound(tmp_path_factory.mktemp(name))
        with sound.witnessed() if killed else contextlib.nullcontext():
            begin = None
            if name == "grown":
                parent = Journal.read(made["finished"].folder)
                begin = lambda new: keep(new, known_trainings(parent, "finished", (10,)))  # noqa: B023, E731
            journal = Journal.create(sound.folder, {"operators_sha256": "a"}, begin)
            sound.states.add(told(journal))
            work(journal, stop_after)
            if name == "folded":
                journal.execute("PRAGMA wal_checkpoint(PASSIVE)")
                work(journal, 3)
        if killed:
            sound.keep()
            sound.state = encode_state(
                planner_of(Journal.read(sound.put(sound.folder / "x")))._state
            )
        journal.close()
        if not killed:
            sound.keep()
            sound.states = {told(Journal.read(sound.folder))}
            sound.state = encode_state(planner_of(Journal.open(sound.folder))._state)
        made[name] = sound
    return made


def looked_at(folder: Path) -> str | None:
    """What a journal tells; None if it is refused in one line."""
    try:
        journal = Journal.read(folder)
        try:
            return told(journal)
        finally:
            journal.close()
    except JournalError as error:
        assert len(str(error).splitlines()) == 1 and "journal" in str(error)
        return None


def resumed(folder: Path) -> tuple[str, bytes] | None:
    """What a driver takes up; None if it is refused in one line."""
    try:
        journal = Journal.open(folder)
        try:
            before, (planned, _, _) = told(journal), journal.pulse()
            state = encode_state(planner_of(journal)._state)
            # One that had not begun has its baselines planned.
            assert told(journal) == before or not planned, "resuming has changed what had happened"
            return before, state
        finally:
            journal.close()
    except JournalError as error:
        assert len(str(error).splitlines()) == 1 and "journal" in str(error)
        return None


@pytest.mark.parametrize("name", ["finished", "grown", "killed", "folded"])
def test_a_sound_journal_tells_all_of_it(name, runs, tmp_path):
    """Also where a kill left most of it in the write-ahead log: the other tests rest on this."""
    sound = runs[name]
    folder = sound.put(tmp_path / "copy")
    assert looked_at(folder) in sound.states
    assert resumed(folder) == (looked_at(folder), sound.state)
    assert (name in ("killed", "folded")) == (len(sound.states) > 20)
    assert (name == "grown") == bool(known_trials(Journal.read(folder)))


CELLS = ("grown", "killed")


@pytest.mark.parametrize("name", CELLS)
def test_no_value_of_any_column_of_any_table_can_be_another(name, runs, tmp_path):
    """A row's every value altered by itself, in the middle of each table, seals left as they are."""
    sound, seen = runs[name], Counter()
    for table, columns in _tables(sound.put(tmp_path / "copy")).items():
        for column in columns:
            folder = sound.put(tmp_path / "copy")
            altered = _alter(folder, table, column)
            if altered is None:
                continue
            seen[table] += 1
            assert looked_at(folder) is None, f"{table}.{column} became {altered!r} unnoticed"
    usual = {"meta", "candidates", "proposals", "trials", "outcomes", "snapshots", "sittings"}
    known = {"known_functions", "known_outcomes", "known_trials"} if name == "grown" else set()
    assert seen.keys() == usual | known and seen.total() > 40


@pytest.mark.parametrize("name", CELLS)
def test_no_row_of_any_table_can_be_missing(name, runs, tmp_path):
    sound = runs[name]
    for table in _tables(sound.put(tmp_path / "copy")):
        for which in ("min", "max"):
            folder = sound.put(tmp_path / "copy")
            with _database(folder) as database:
                key = "key" if table == "meta" else "rowid"
                database.execute(
                    f"DELETE FROM {table} WHERE {key} = (SELECT {which}({key}) FROM {table})"
                )
            assert looked_at(folder) is None, f"the {which} row of {table} went unnoticed"
            if table in ("candidates", "trials", "outcomes"):
                with pytest.raises(JournalError, match=r"is missing|is not what was written"):
                    rank(Journal.read(folder))


def test_no_table_or_trigger_can_be_added_and_no_table_be_another(runs, tmp_path):
    for statement in (
        "CREATE TABLE more (x)",
        "CREATE TRIGGER t AFTER INSERT ON outcomes BEGIN UPDATE outcomes SET reward = 1; END",
        "CREATE VIEW best AS SELECT * FROM outcomes",
        "ALTER TABLE outcomes ADD COLUMN more",
        "DROP TABLE known_trials",
    ):
        folder = runs["grown"].put(tmp_path / "copy")
        with _database(folder) as database:
            database.execute(statement)
        assert looked_at(folder) is None and resumed(folder) is None, statement


def test_damaged_bytes_that_an_error_quotes_are_no_text(runs, tmp_path):
    """SQLite quotes the statement that it cannot read, and Python cannot decode what it says."""
    sound = runs["finished"]
    folder = sound.put(tmp_path / "copy")
    content = (folder / FILE_NAME).read_bytes()
    assert b"CREATE TABLE trials" in content
    (folder / FILE_NAME).write_bytes(
        content.replace(b"CREATE TABLE trials", b"CREATE T\xe9BLE trials")
    )
    with pytest.raises(JournalError, match="a text in it is not what was written"):
        Journal.read(folder)
    assert resumed(folder) is None


@pytest.mark.parametrize("column", ["sql", "name", "type"])
def test_a_list_of_tables_of_other_types_is_refused(column, runs, tmp_path):
    """One bit of the file makes the difference, and SQLite goes by the bytes all the same."""
    folder = runs["finished"].put(tmp_path / "copy")
    with contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as db:
        db.execute("PRAGMA writable_schema = ON")
        where = "WHERE name = 'trials'"
        db.execute(f"UPDATE sqlite_master SET {column} = CAST({column} AS BLOB) {where}")
        db.commit()
    with pytest.raises(JournalError, match="its list of tables is not what was written"):
        Journal.read(folder)
    assert resumed(folder) is None


PLACES = {"finished": (250, 50), "grown": (120, 50), "killed": (100, 1), "folded": (250, 30)}
"""Damages of each run, beside those of the heads of its pages, and how many are refused at least. A
damaged log is as one that is shorter, so that where all is in the log nearly all are states that were."""


@pytest.mark.parametrize("name", PLACES)
def test_bytes_cut_off_or_written_over_anywhere_are_refused_or_change_nothing(name, runs, tmp_path):
    sound, seen = runs[name], Counter()
    count, least = PLACES[name]
    for number, (where, content) in enumerate(_damages(sound, random.Random(name), count)):
        folder = sound.put(tmp_path / "copy", **{where: content})
        found = looked_at(folder)
        assert found is None or found in sound.states, f"damage {number} to {where}"
        seen["refused" if found is None else "harmless"] += 1
        if number % 10 == 0:
            again = resumed(sound.put(folder, **{where: content}))
            assert again is None or again[0] in sound.states, f"damage {number} to {where}"
            if again is not None and len(sound.states) == 1:
                assert again[1] == sound.state
                seen["resumed"] += 1
    assert seen["refused"] >= least and seen["harmless"] > 10, seen


def test_what_a_cut_off_log_leaves_goes_on_to_the_same_end(runs, tmp_path):
    """A log whose end never reached the disk: what it lacks is trained again, and comes out the same."""
    sound, ends = runs["killed"], set()
    log = sound.files[f"{FILE_NAME}-wal"]
    for share in (1.0, 0.9, 0.6, 0.3, 0.0):
        damaged = {f"{FILE_NAME}-wal": log[: int(share * len(log))]}
        folder = sound.put(tmp_path / f"{share}", **damaged)
        journal = Journal.open(folder)
        assert told(journal) in sound.states
        work(journal)
        ends.add(history_sha256(journal))
        journal.close()
    assert ends == {history_sha256(Journal.read(runs["finished"].folder))}


def _damages(sound: Sound, chance: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    """Every file with one damage."""
    for name, content in sound.files.items():
        for page in range(0, len(content), 4096):
            for at in chance.sample(range(page, min(page + 16, len(content))), 3):
                yield name, _written_over(content, at, bytes([chance.randrange(256)]))
    kinds: list[Callable[[bytes, int], bytes]] = [
        lambda content, at: content[:at],
        lambda content, at: content[: at // 4096 * 4096],
        lambda content, at: _written_over(content, at, bytes([content[at] ^ 1 << at % 8])),
        lambda content, at: _written_over(content, at, bytes([content[at] ^ 1 << at % 8])),
        lambda content, at: _written_over(content, at, bytes(512)),
        lambda content, at: _written_over(content, at // 4096 * 4096, bytes(4096)),
        lambda content, at: _written_over(content, at, chance.randbytes(300)),
        lambda content, at: _written_over(content, at, content[:4096]),
        lambda content, at: _written_over(
            content, at // 4096 * 4096, content[(at // 8192) * 4096 :][:4096]
        ),
        lambda content, at: _written_over(content, at, content[at + 1 : at + 100]),
    ]
    for number in range(count):
        name = chance.choice(list(sound.files))
        content = sound.files[name]
        yield name, kinds[number % len(kinds)](content, chance.randrange(len(content)))


def _written_over(content: bytes, at: int, put: bytes) -> bytes:
    return (content[:at] + put + content[at + len(put) :])[: max(len(content), at)]


def _tables(folder: Path) -> dict[str, list[str]]:
    """Columns by table."""
    with _database(folder) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: [row[1] for row in database.execute(f"PRAGMA table_info({name})")]
            for (name,) in names
        }


def _alter(folder: Path, table: str, column: str) -> Any:
    """Gives one row of a table another value; returns it, None where the table allows no other."""
    key = "key" if table == "meta" else "rowid"
    with _database(folder) as database:
        query = f"SELECT {key}, {column} FROM {table} WHERE {column} IS NOT NULL ORDER BY {key}"
        found = database.execute(query).fetchall()
        if table == "snapshots" and column == "state":
            found = found[-1:]  # those before have given up their bytes
        if not found:
            return None
        chosen, value = found[len(found) // 2]
        if isinstance(value, bytes):
            other: Any = value[:-9] + bytes([value[-9] ^ 1]) + value[-8:]
        else:
            other = value + "x" if isinstance(value, str) else value + 1000
        database.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (other, chosen))
        return other


@contextlib.contextmanager
def _database(folder: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(folder / FILE_NAME)
    try:
        database.execute("PRAGMA synchronous=OFF")
        yield database
        database.commit()
    finally:
        database.close()
