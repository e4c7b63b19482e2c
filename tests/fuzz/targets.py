"""What is fuzzed: the expression parser, the configuration reader, the journal reader.

A target is a strategy that makes inputs and a check that raises where the code under test breaks its
contract: it raises nothing but the documented exception, whose message is one line, it ends within
`LIMIT_S`, and it takes no memory to speak of.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import resource
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from launch.cli import run
from launch.errors import RequestError
from launch.flags import SECTIONS, build, flags, read_config, to_json
from search.journal import Journal, JournalError
from search.ranking import history_sha256, rank, untrained
from spaces import PAPER, ExpressionError, canonical, parse
from spaces.text import MAX_UNITS

LIMIT_S = 60.0
"""Processor time that one input may take, in seconds; a millisecond is usual."""

WAITING = 10.0
"""So many times as long it may take by the clock: a machine may be busy."""

LIMIT_MB = 200.0
"""How much one input may raise the most memory that the process has ever had."""


class HangError(AssertionError):
    """An input took too long."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something to be fuzzed."""

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]
    """Raises where an input is not handled as promised."""


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Fails if what is inside takes longer than `LIMIT_S` or more memory than `LIMIT_MB`."""

    def expire(number: int, _: object) -> None:
        raise HangError(f"took longer than {LIMIT_S:g} s ({signal.Signals(number).name})")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, LIMIT_S)}
    timers[signal.SIGALRM] = signal.ITIMER_REAL, WAITING * LIMIT_S
    before, had = {number: signal.signal(number, expire) for number in timers}, peak_mb()
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])
    grown = peak_mb() - had
    assert grown < LIMIT_MB, f"took {grown:.0f} MB"


def one_line(message: str) -> None:
    """Fails unless a message is one line that can be shown."""
    assert message and len(message.splitlines()) == 1, message[:500]
    assert len(message) < 20_000, f"a message of {len(message)} characters"


# Expressions

_NAMES = [operator.name for operator in PAPER]
_TOKENS = [
    *_NAMES,
    "x",
    "u1",
    "u2",
    "u64",
    "gelu",
    "sigmiod",
    "(",
    ")",
    ",",
    ";",
    "=",
    " ",
    "β",
    "1",
]


def _written() -> st.SearchStrategy[str]:
    """Expressions that may be read: nested calls of the paper's operators."""
    unary = st.sampled_from([operator.name for operator in PAPER.unary])
    binary = st.sampled_from([operator.name for operator in PAPER.binary])
    return st.recursive(
        st.just("x"),
        lambda inner: st.one_of(
            st.builds("{}({})".format, unary, inner),
            st.builds("{}({}, {})".format, binary, inner, inner),
        ),
        max_leaves=20,
    )


@st.composite
def _edited(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """A text with some places cut out, doubled or written over."""
    text = draw(texts)
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 8))
        put = draw(st.sampled_from([*_TOKENS, "", text[at : at + length] * 2]))
        text = text[:at] + put + text[at + length :]
    return text


_REPEATED = [
    "(",
    ")",
    "sin(",
    "mul(x, ",
    "x",
    " ",
    ",",
    "u1 = x; ",
    "u1 = sin(x); ",
    "=",
    "σ",
    "\x00",
]

EXPRESSIONS = st.one_of(
    _written(),
    _edited(_written()),
    st.lists(st.sampled_from(_TOKENS), max_size=60).map("".join),
    st.text(max_size=200),
    st.builds(
        lambda part, count, end: part * count + end,
        st.sampled_from(_REPEATED),
        st.integers(0, 20_000),
        st.sampled_from(["", "x", "x)"]),
    ),
)
"""Texts: sound, nearly sound, and nothing of the kind."""


def check_expression(text: str) -> None:
    """`ExpressionError`, or a candidate whose text is read as the same one."""
    with bounded():
        try:
            candidate = parse(text, PAPER)
        except ExpressionError as error:
            one_line(str(error))
            return
        assert 1 <= len(candidate.units) <= MAX_UNITS
        known = all(unit.unary1 in PAPER and unit.unary2 in PAPER for unit in candidate.units)
        if known and all(unit.binary in (*PAPER, "first") for unit in candidate.units):
            plain = canonical(candidate, PAPER)
            assert parse(str(plain), PAPER) == plain


# Configurations

_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-2, 20),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(
            ["60:400,1500:12", "relu,swish", '{"TPU": 4}', "90m", "auto", "1:1", "none"]
        ),
        st.integers(1, 6000).map(lambda digits: 10**digits),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def _documents() -> st.SearchStrategy[Any]:
    """Documents of the sections and entries that there are, with any values, and others."""
    parts = {
        section: st.dictionaries(
            st.one_of(
                st.sampled_from([f.field for f in flags().values() if f.section == section]),
                st.text(max_size=8),
            ),
            _VALUES,
            max_size=3,
        )
        for section in SECTIONS
    }
    optional: dict[Any, Any] = {
        **parts,
        "version": st.one_of(st.just(1), _VALUES),
        "from": st.one_of(st.dictionaries(st.text(max_size=4), _VALUES, max_size=2), _VALUES),
    }
    return st.one_of(
        st.fixed_dictionaries({}, optional=optional),
        st.dictionaries(st.text(max_size=8), _VALUES, max_size=3),
        _VALUES,
    )


def _as_text(document: Any) -> bytes:
    try:
        return json.dumps(document).encode()
    except ValueError:  # a number of more digits than Python writes
        return b'{"train": {"steps": ' + b"9" * 5_000 + b"}}"


@st.composite
def _damaged(draw: st.DrawFn, contents: st.SearchStrategy[bytes]) -> bytes:
    content = bytearray(draw(contents))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 5))] = draw(
            st.one_of(
                st.binary(max_size=3), st.sampled_from([b"{", b"}", b"[", b"NaN", b'"', b"1e999"])
            )
        )
    return bytes(content)


_SOUND = json.dumps(to_json(*build({}))).encode()

CONFIGURATIONS = st.one_of(
    _documents().map(_as_text),
    _damaged(_documents().map(_as_text)),
    _damaged(st.just(_SOUND)),
    st.binary(max_size=100),
    st.builds(
        lambda part, count: part * count,
        st.sampled_from([b"[", b'{"a":', b'{"train":', b"9", b'"', b" ", b"\xff"]),
        st.integers(0, 200_000),
    ),
)
"""Contents of files: sound, nearly sound, and no JSON at all."""


def check_configuration(folder: Path) -> Callable[[bytes], None]:
    """`RequestError`, or a configuration that survives the way through a file."""
    path = folder / "config.json"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with bounded():
            try:
                found = build(read_config(path))
            except RequestError as error:
                one_line(str(error))
                return
            path.write_text(json.dumps(to_json(*found)))
            assert build(read_config(path)) == found

    return check


# Journals


@dataclass(frozen=True, slots=True)
class Edit:
    """One change to a journal's bytes, at a share of its length, or to one cell."""

    kind: str
    """flip (one bit), cut (the end), fill (a range with one byte), copy (a range), cell."""
    at: float = 0.0
    length: int = 0
    value: Any = 0
    cell: tuple[str, str] = ("", "")


_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "meta": ("value",),
    "candidates": (
        "expression",
        "formula",
        "latex",
        "name",
        "verdict",
        "reason",
        "equal_to",
        "curve",
    ),
    "proposals": ("candidate", "tokens", "details"),
    "trials": ("candidate", "replicate", "rung", "baseline"),
    "outcomes": ("status", "reward", "loss", "seconds", "details", "finished"),
    "sittings": ("started", "seconds", "details"),
}

_CELLS = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 20),
    st.floats(allow_nan=False),
    st.text(max_size=20).filter(lambda text: text.isprintable()),
    st.binary(max_size=20),
    st.sampled_from(["ok", "diverged", "{}", "[]", "null", "3", '{"reason": 3}', "[" * 100_000]),
)

_EDITS = st.one_of(
    st.builds(Edit, st.just("flip"), st.floats(0, 1), value=st.integers(0, 7)),
    st.builds(Edit, st.just("cut"), st.floats(0, 1)),
    st.builds(
        Edit,
        st.just("fill"),
        st.floats(0, 1),
        st.integers(1, 5_000),
        st.sampled_from([0, 1, 255, 65]),
    ),
    st.builds(Edit, st.just("copy"), st.floats(0, 1), st.integers(1, 5_000), st.floats(0, 1)),
    st.builds(
        Edit,
        st.just("cell"),
        st.floats(0, 1),
        value=_CELLS,
        cell=st.sampled_from([(table, name) for table in _COLUMNS for name in _COLUMNS[table]]),
    ),
)

JOURNALS = st.lists(_EDITS, min_size=1, max_size=4)
"""What happens to a sound journal."""


def edited(content: bytes, edits: list[Edit], path: Path) -> None:
    """Writes a journal with its changes; cells first, while it is still a database."""
    path.write_bytes(content)
    for edit in edits:
        if edit.kind == "cell":
            _set_cell(path, edit)
    changed = bytearray(path.read_bytes())
    for edit in edits:
        at = min(int(edit.at * len(changed)), max(0, len(changed) - 1))
        if edit.kind == "flip" and changed:
            changed[at] ^= 1 << edit.value
        elif edit.kind == "cut":
            del changed[at:]
        elif edit.kind == "fill":
            changed[at : at + edit.length] = bytes([edit.value]) * edit.length
        elif edit.kind == "copy":
            source = int(edit.value * len(changed))
            changed[at : at + edit.length] = changed[source : source + edit.length]
    path.write_bytes(bytes(changed))


def _set_cell(path: Path, edit: Edit) -> None:
    table, column = edit.cell
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA foreign_keys=OFF")
        key = "key" if table == "meta" else "rowid"
        keys = [row[0] for row in connection.execute(f"SELECT {key} FROM {table} ORDER BY 1")]
        if keys:
            chosen = keys[min(int(edit.at * len(keys)), len(keys) - 1)]
            with contextlib.suppress(sqlite3.Error):  # a value that the table itself refuses
                statement = f"UPDATE {table} SET {column} = ? WHERE {key} = ?"
                connection.execute(statement, (edit.value, chosen))
                connection.commit()


LOOKED_AT = 10
"""One journal in so many is looked at through the commands too, which take ten times as long."""

_LOOKS = (["top"], ["top", "--json", "--failed"], ["watch", "--once"])


def check_journal(sound: Path, folder: Path) -> Callable[[list[Edit]], None]:
    """`JournalError`, or a run that can be looked at; the commands end with 0, or 2 and one line.

    Args:
        sound: The folder of a finished run.
        folder: Where changed copies of it are made.
    """
    numbers = itertools.count()
    content = (sound / "journal.sqlite").read_bytes()
    written = {trial.id: (trial, outcome) for trial, outcome in Journal.read(sound).trials()}

    def check(edits: list[Edit]) -> None:
        copied = folder / f"run-{next(numbers)}"  # a file that nobody else ever had open
        copied.mkdir()
        shutil.copy(sound / "config.json", copied)
        try:
            check_copy(copied, edits)
        finally:
            shutil.rmtree(copied)

    def check_copy(copied: Path, edits: list[Edit]) -> None:
        edited(content, edits, copied / "journal.sqlite")
        with bounded():
            try:
                _read(copied, written)
            except JournalError as error:
                one_line(str(error))
            if len(repr(edits)) % LOOKED_AT:
                return
            for command, *options in _LOOKS:
                out, err = io.StringIO(), io.StringIO()
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                    code = run([command, str(copied), *options])
                assert code == 0 or (code == 2 and not out.getvalue()), (code, err.getvalue())
                if code:
                    one_line(err.getvalue().rstrip("\n"))

    return check


def _read(folder: Path, written: Mapping[int, Any]) -> None:
    """Looks at all of a run; whatever outcome it shows must be one that was written."""
    journal = Journal.read(folder)
    try:
        for candidate in rank(journal):
            assert candidate.reward is None or math.isfinite(candidate.reward)
        untrained(journal)
        history_sha256(journal)
        journal.pulse()
        journal.planned()
        journal.sittings()
        list(journal.metrics())
        list(journal.proposals())
        list(journal.candidates())
        for trial, outcome in journal.trials():
            assert outcome is None or written[trial.id] == (trial, outcome)
    finally:
        journal.close()


def targets(sound: Path, folder: Path) -> dict[str, Target]:
    """Every target by name.

    Args:
        sound: The folder of a finished run, which is only read.
        folder: Where files are written.
    """
    found = (
        Target("expressions", EXPRESSIONS, check_expression),
        Target("configurations", CONFIGURATIONS, check_configuration(folder)),
        Target("journals", JOURNALS, check_journal(sound, folder)),
    )
    return {target.name: target for target in found}
