"""The driver's own start: what it compiles is there for the next one."""

from __future__ import annotations

import json
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


DRIVER = """
import json, sys
from pathlib import Path
import jax
sys.path[:0] = sys.argv[1:2]
from made_run import made_run
found = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: found.append(event.rpartition("/")[2]))
run = made_run(Path(sys.argv[2]), trials=4, strategy=sys.argv[3])
print(json.dumps(found))
"""


def _made(run: Path, cache: Path, strategy: str) -> tuple[int, int]:
    """Makes a run in a process of its own; says how many programs were lowered and compiled there."""
    process = subprocess.run(
        [sys.executable, "-c", DRIVER, ROOT / "tests/launch", run, strategy],
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    events = json.loads(process.stdout)
    wanted = ("jaxpr_to_mlir_module_duration", "backend_compile_duration")
    lowered, compiled = (events.count(event) for event in wanted)
    return lowered, compiled


def test_programs_that_look_at_operators_are_ready_for_the_next_driver(tmp_path: Path) -> None:
    lowered, compiled = _made(tmp_path / "first", tmp_path / "cache", "random")
    assert lowered == compiled == 2  # in float32 and float64
    (file,) = tmp_path.glob("cache/actsearch/compiled/*/ready/*")
    before = file.stat().st_mtime_ns
    assert _made(tmp_path / "second", tmp_path / "cache", "random") == (0, 0)
    assert file.stat().st_mtime_ns == before
    one, other = (
        {row.id: row for row in journal.candidates()}
        for journal in (Journal.read(tmp_path / name) for name in ("first", "second"))
    )
    assert one.keys() == other.keys()
    for number, row in one.items():  # what is looked at is the same to the last bit
        again = other[number]
        assert (row.verdict, row.equal_to) == (again.verdict, again.equal_to)
        for mine, theirs in ((row.fingerprint, again.fingerprint), (row.curve, again.curve)):
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                assert mine.tobytes() == theirs.tobytes()


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
    placement = SimpleNamespace(platform="cpu")
    run: Any = SimpleNamespace(journal=journal, science=Science(), placement=placement)
    form, reason = _execution(run, image_size=8)
    assert form == kept
    assert (reason == "it was") == (kept == "specialised")
    journal.close()


ONE_THREAD = """
import os
from pathlib import Path
from launch.prepare import prepare_jax
before = os.sched_getaffinity(0)
prepare_jax()
import jax.numpy as jnp
float(jnp.ones((100, 100)).sum())
tasks = [each for each in Path("/proc/self/task").iterdir()]
print(sum((each / "comm").read_text().startswith("tf_XLAEigen") for each in tasks),
      all(os.sched_getaffinity(int(each.name)) == before for each in tasks))
"""


def test_a_driver_computes_in_one_thread_wherever_it_is() -> None:
    # Handing a step of some microseconds to another thread takes longer than the step.
    ran = subprocess.run(
        [sys.executable, "-c", ONE_THREAD],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert ran.stdout.split() == ["1", "True"]
