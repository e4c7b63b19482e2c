"""The tables of a run's journal, and their rows as plain data.

Letters: `N` grid points of a sampled curve, `T` decisions of the space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

SCHEMA_VERSION = 3
"""Version of the tables below; a journal of another version is refused."""

SCHEMA = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    seal INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE candidates (
    id INTEGER PRIMARY KEY,
    expression TEXT NOT NULL UNIQUE,   -- canonical text
    formula TEXT NOT NULL,
    latex TEXT NOT NULL,
    name TEXT,                         -- title of the known function that it equals
    verdict TEXT NOT NULL,             -- ok | invalid | constant
    reason TEXT NOT NULL,
    equal_to INTEGER REFERENCES candidates (id),   -- the earlier candidate of equal values
    fingerprint BLOB,                  -- float64 [3 N / 2], where equal_to is null and the verdict ok
    curve BLOB,                        -- float32 [2, N]: f and f' at the initial values, likewise
    seal INTEGER NOT NULL              -- of all columns but the two before
);
CREATE TABLE proposals (
    t INTEGER PRIMARY KEY,
    candidate INTEGER NOT NULL REFERENCES candidates (id),
    tokens TEXT NOT NULL,
    details TEXT NOT NULL,
    seal INTEGER NOT NULL,             -- of all columns but details
    details_seal INTEGER NOT NULL
);
CREATE TABLE trials (
    id INTEGER PRIMARY KEY,
    candidate INTEGER NOT NULL REFERENCES candidates (id),
    replicate INTEGER NOT NULL,
    rung INTEGER NOT NULL,
    baseline INTEGER NOT NULL,
    attempts INTEGER NOT NULL,         -- workers that died during it
    seal INTEGER NOT NULL,             -- and of the candidate's expression
    UNIQUE (candidate, replicate, rung)
);
CREATE TABLE outcomes (
    trial INTEGER PRIMARY KEY REFERENCES trials (id),
    status TEXT NOT NULL,
    reward REAL,
    loss REAL,
    seconds REAL NOT NULL,
    details TEXT NOT NULL,
    finished REAL NOT NULL,            -- Unix time by the clock of the driver's machine
    sitting INTEGER REFERENCES sittings (id),      -- in which it was recorded
    worked REAL NOT NULL,              -- seconds of that sitting until then, by no clock
    seal INTEGER NOT NULL,             -- of all columns but details
    details_seal INTEGER NOT NULL
);
CREATE TABLE snapshots (
    t INTEGER PRIMARY KEY,
    state BLOB NOT NULL,               -- empty but for the last one
    metrics TEXT NOT NULL,
    seal INTEGER NOT NULL
);
CREATE TABLE sittings (                -- one row for each time a driver worked on the run
    id INTEGER PRIMARY KEY,
    started REAL NOT NULL,             -- Unix time by the clock of the driver's machine
    seconds REAL NOT NULL,             -- 0 while it goes on, and of one that was killed
    details TEXT NOT NULL,
    seal INTEGER NOT NULL
);
"""
"""The tables of every run, see `statements`.

Each row has a seal, the CRC-32 of its other columns where nothing else is said; a blob has its own as
its last four bytes. `meta` has under `head` how many rows the tables have, so that a row that has
gone is missed.
"""

KNOWN_SCHEMA = """
CREATE TABLE known_functions (
    id INTEGER PRIMARY KEY,
    expression TEXT NOT NULL,          -- canonical text
    fingerprint BLOB NOT NULL,         -- float64 [3 N / 2]
    seal INTEGER NOT NULL
);
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
    seal INTEGER NOT NULL,
    PRIMARY KEY (function, replicate, steps)
);
CREATE TABLE known_trials (            -- trials of this run whose outcome came from there
    trial INTEGER PRIMARY KEY REFERENCES trials (id),
    seal INTEGER NOT NULL
);
"""
"""The tables besides of a run that grew from another, see `search.known`."""


def statements(schema: str) -> list[str]:
    """The statements of a schema, as SQLite keeps them."""
    return [each.strip() for each in schema.split(";\n") if each.strip()]


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """A candidate as the journal keeps it."""

    id: int
    expression: str
    formula: str
    latex: str
    name: str | None
    verdict: str
    reason: str
    equal_to: int | None
    fingerprint: np.ndarray | None
    """float64 `[3 N / 2]`, of a candidate that is trained."""
    curve: np.ndarray | None
    """float32 `[2, N]`: f and f′ at the initial values, likewise."""

    @property
    def root(self) -> int:
        """The candidate whose trials are this one's too."""
        return self.id if self.equal_to is None else self.equal_to


@dataclass(frozen=True, slots=True)
class ProposalRow:
    """A proposal as the journal keeps it."""

    t: int
    candidate: int
    tokens: tuple[int, ...]
    """`[T]`."""
    details: Mapping[str, Any]
