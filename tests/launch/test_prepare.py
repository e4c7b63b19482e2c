"""The driver's own start: what it compiles is there for the next one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from launch.config import Science
from launch.prepare import _execution, _rehearse
from search.journal import Journal
from search.registry import STRATEGIES
from spaces import PAPER, SearchSpace

ROOT = Path(__file__).parents[2]


def _made(run: Path, cache: Path) -> set[str]:
    """Makes a run in a process of its own; returns the names of the programs that are kept then."""
    subprocess.run(
        [sys.executable, ROOT / "tests/launch/made_run.py", run, '{"trials": 2}', "0"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)},
        check=True,
        timeout=120,
    )
    (folder,) = cache.glob("actsearch/compiled/*/driver")
    return {path.name for path in folder.iterdir()}


def test_programs_that_look_at_operators_are_kept_for_the_next_driver(tmp_path: Path) -> None:
    first = _made(tmp_path / "first", tmp_path / "cache")
    assert len(first) > 20 and not [name for name in first if name.startswith("process")]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/**/driver/*")}
    assert _made(tmp_path / "second", tmp_path / "cache") == first  # nothing was compiled
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_was_rehearsed_is_compiled(name: str) -> None:
    """Two batches and their updates, in which a driver's workers would wait for a compiler."""
    strategy = STRATEGIES[name]().build(SearchSpace(PAPER, 1))
    jax.clear_caches()
    _rehearse(strategy)
    compiled: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        state = strategy.init(seed=7)
        for number in range(2 * strategy.checkpoint_every):
            state, proposal = strategy.ask(state)
            assert proposal is not None
            state = strategy.tell(state, proposal, number / 100)
    finally:
        jax.monitoring.clear_event_listeners()
    assert compiled == []


def test_a_space_that_is_soon_exhausted_is_rehearsed_to_its_end() -> None:
    space = SearchSpace(PAPER.only("identity", "add"), 1)
    _rehearse(STRATEGIES["exhaustive"]().build(space))


@pytest.mark.parametrize(
    "noted, kept",
    [
        (
            [{"execution": "specialised", "reason": "it was"}, {"execution": "traced"}],
            "specialised",
        ),
        ([{"execution": "auto", "reason": ""}], "traced"),  # no driver has written that
        ([{}], "traced"),
        ([], "traced"),
    ],
)
def test_a_run_keeps_the_form_that_it_was_begun_with(
    tmp_path: Path, noted: list[dict[str, str]], kept: str
) -> None:
    """Wherever it goes on: `auto` alone would take what suits the processor there."""
    journal = Journal.create(tmp_path, {})
    for details in noted:
        with journal.transaction():
            journal.begin_sitting(details)
    run: Any = SimpleNamespace(journal=journal, science=Science())
    form, reason = _execution(run, image_size=8)
    assert form == kept
    assert (reason == "it was") == (kept == "specialised")
    journal.close()
