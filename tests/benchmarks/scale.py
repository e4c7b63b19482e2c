"""How far one driver goes: a thousand workers and more, simulated, and the parts measured alone.

    uv run python tests/benchmarks/scale.py run --workers 1000 --trials 100000 --window 4000
    uv run python tests/benchmarks/scale.py window --workers 1000
    uv run python tests/benchmarks/scale.py lag
    uv run python tests/benchmarks/scale.py examine
    uv run python tests/benchmarks/scale.py sizes
    uv run python tests/benchmarks/scale.py pool
    uv run python tests/benchmarks/scale.py ray

`run` works through a search with the real loop, planner, strategy and journal; workers and their
time are simulated, and the clock goes on by the processor time that the driver takes. `window`
simulates the order of proposals alone, on a driver that takes no time. `lag` asks how much later a
controller finds good candidates when rewards come later. `examine` is the driver's look at a new
candidate, `sizes` what goes over the network, `pool` what the pool's book-keeping takes, with a Ray
that does nothing, and `ray` what Ray takes of the driver, with few actors and many calls.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from ordered_planner import Ordered
from scale_lag import lag_table
from scale_parts import examine_table, pool_table, ray_table, sizes_table
from simulated_pool import Clock, Conditions, Rates, SimulatedPool

from launch.config import PlacementConfig, Science, SearchConfig, SpaceConfig
from launch.driver import _loop
from launch.prepare import make_planner, prepare_jax
from launch.run import Run, start_or_resume
from launch.stop import Stop
from launch.tally import Tally
from search.controller import ControllerConfig
from search.journal import FILE_NAME, Journal
from search.outcome import Outcome, Trial
from search.ranking import history_sha256
from trainers.result import POINTS

RATES = Rates(trial_s=0.8e-3, seat_s=1.2e-6, commit_s=0.2e-3)
"""What `pool` and `ray` measure on two shared cores, and the journal's 0.2 ms a commit."""


def main() -> None:
    """Does what was asked and prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON instead of lines")
    parts = parser.add_subparsers(dest="part", required=True)
    for name in ("run", "window"):
        part = parts.add_parser(name)
        for field, value in asdict(Conditions()).items():
            flag = f"--{field.replace('_', '-')}"
            part.add_argument(flag, type=type(value), default=value)
        part.add_argument("--trials", type=int, default=100_000)
        part.add_argument("--seed", type=int, default=0)
    run, window = parts.choices["run"], parts.choices["window"]
    run.add_argument("--strategy", default="controller")
    run.add_argument("--core-units", type=int, default=2)
    run.add_argument("--window", type=int, default=0, help="0: four times the workers")
    run.add_argument("--batch-size", type=int, default=ControllerConfig().batch_size)
    run.add_argument("--commit-ms", type=float, default=1e3 * RATES.commit_s)
    run.add_argument("--folder", type=Path, help="keep the run there")
    window.add_argument("--windows", type=float, nargs="+", default=[1, 2, 3, 4, 6, 8])
    window.add_argument("--new", type=float, default=0.6)
    lag = parts.add_parser("lag")
    lag.add_argument("--lags", type=int, nargs="+", default=[8, 40, 200, 1000, 2000, 4000])
    lag.add_argument("--batch-sizes", type=int, nargs="+", default=[20, 200])
    lag.add_argument("--proposals", type=int, default=20_000)
    lag.add_argument("--seeds", type=int, default=3)
    parts.add_parser("examine").add_argument("--candidates", type=int, default=600)
    parts.add_parser("sizes").add_argument("--per-node", type=int, default=8)
    for name in ("pool", "ray"):
        counts = [10, 100, 1_000, 10_000]
        parts.add_parser(name).add_argument("--counts", type=int, nargs="+", default=counts)
    asked = parser.parse_args()
    found = {
        "run": simulate,
        "window": window_table,
        "lag": lambda a: lag_table(a.lags, a.batch_sizes, a.proposals, a.seeds),
        "examine": lambda a: examine_table(a.candidates),
        "sizes": lambda a: sizes_table(a.per_node),
        "pool": lambda a: pool_table(a.counts),
        "ray": lambda a: ray_table(a.counts),
    }[asked.part](asked)
    if asked.json:
        print(json.dumps(found))
    else:
        _show(found)


def _show(found: Any) -> None:
    if isinstance(found, list):
        for row in found:
            print("  ".join(f"{name} {value}" for name, value in row.items()))
    else:
        for name, value in found.items():
            print(f"{name:32} {value}")


def conditions_of(asked: argparse.Namespace) -> Conditions:
    """The cluster that was asked for."""
    return Conditions(**{name: getattr(asked, name) for name in asdict(Conditions())})


def simulate(asked: argparse.Namespace) -> dict[str, Any]:
    """One run from its start to its end, then what looking at it and resuming it takes."""
    with tempfile.TemporaryDirectory(prefix="actsearch-scale-") as scratch:
        folder = asked.folder or Path(scratch) / "run"
        conditions = conditions_of(asked)
        science = Science(
            space=SpaceConfig(core_units=asked.core_units),
            search=SearchConfig(
                strategy=asked.strategy,
                trials=asked.trials,
                window=asked.window or 4 * asked.workers,
                seed=asked.seed,
            ),
            controller=ControllerConfig(batch_size=asked.batch_size),
        )
        rates = replace(RATES, commit_s=asked.commit_ms / 1e3)
        run = start_or_resume(folder, science, PlacementConfig(workers=str(asked.workers)))
        found = driven(run, conditions, rates, seed=asked.seed)
        size = (folder / FILE_NAME).stat().st_size
        found |= {"journal_bytes_a_trial": round(size / found["trials"])}
        return found | {"journal_mb": round(size / 1e6, 1)} | looked_at(folder)


def driven(run: Run, conditions: Conditions, rates: Rates, *, seed: int = 0) -> dict[str, Any]:
    """Works through a run with simulated workers, and closes it."""
    prepare_jax()
    clock = Clock()
    pool = SimulatedPool(conditions, clock, rates, result_of, seed)
    planner = make_planner(run, _assignment(run), chance=0.1)
    meter = Meter(pool, planner, warm=2 * conditions.workers)
    plain, commits = run.journal.transaction, []

    @contextmanager
    def counted() -> Any:
        with plain():
            yield
        commits.append(1)
        clock.charge(rates.commit_s)

    with run.journal.transaction():
        sitting = run.journal.begin_sitting({"workers": conditions.workers})
    with mock.patch.object(run.journal, "transaction", counted):
        work(planner, pool, run, meter)
    planner.conclude()
    with run.journal.transaction():
        run.journal.update_sitting(sitting, clock.now, {"workers": conditions.workers})
    found = {
        "trials": planner.done,
        "proposals": planner.proposals,
        "simulated_hours": round(clock.now / 3600, 3),
        **meter.found(),
        "commits_a_trial": round(len(commits) / planner.done, 2),
        "died": pool.sums.died,
        "history_sha256": history_sha256(run.journal)[:16],
        "ending": planner.ending,
    }
    run.journal.close()
    return found


def work(planner: Any, pool: SimulatedPool, run: Any, meter: Meter) -> None:
    """The driver's own loop."""
    _loop(
        planner=planner,
        pool=pool,  # type: ignore[arg-type]  # stands in its place
        room=SimpleNamespace(local=True),  # type: ignore[arg-type]  # whose nodes nobody asks for
        run=run,
        progress=meter,  # type: ignore[arg-type]  # likewise
        tally=Tally(pool.count, "traced", ""),
        stop=Stop(time_limit_s=None, grace_s=0.0),
    )


def window_table(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """The share of their time that workers are idle, by the window, on a driver that takes none."""
    conditions = conditions_of(asked)
    return [
        idle_of(conditions, round(times * asked.workers), asked.trials, new=asked.new)
        for times in asked.windows
    ]


def idle_of(
    conditions: Conditions, window: int, trials: int, *, new: float, seed: int = 0
) -> dict[str, Any]:
    """The same for one window."""
    pool = SimulatedPool(conditions, Clock(lambda: 0.0), Rates(), result_of, seed)
    planner = Ordered(trials, window, new=new, seed=seed)
    meter = Meter(pool, planner, warm=2 * conditions.workers)
    train, search = SimpleNamespace(steps=1), SearchConfig()
    work(planner, pool, SimpleNamespace(science=SimpleNamespace(train=train, search=search)), meter)
    found = meter.found()
    return {
        "workers": conditions.workers,
        "window": window,
        "window_a_worker": window / conditions.workers,
        "idle": found["idle"],
        "died": pool.sums.died,
    }


class Meter:
    """Stands in the place of `launch.progress.Progress`, and notes what each part of a run took.

    Figures are of the run without its beginning and its end, in which workers have no work.

    Args:
        pool: The workers.
        planner: The planner.
        warm: Trials after which the beginning is over.
    """

    def __init__(self, pool: SimulatedPool, planner: Any, *, warm: int) -> None:
        self._pool, self._planner, self._warm = pool, planner, warm
        self._seen = 0
        self._marks: list[dict[str, float]] = []

    def begin(self, planner: Any, pool: Any) -> None:
        """Trials are counted from here on."""

    def note(self, what: str) -> None:
        """Nobody is told."""

    def refresh(self, stopping: str) -> None:
        """Nothing is drawn."""

    def show(self, trial: Trial, outcome: Outcome) -> None:
        """Counts a trial."""
        self._seen += 1
        if self._seen >= self._warm and self._planner.proposing:
            first = not self._marks
            if first:
                self._pool.sums.longest = 0.0
            if first or self._seen % 5_000 == 0:
                with self._pool.clock.stopped():
                    self._mark()

    def _mark(self) -> None:
        clock, sums = self._pool.clock, self._pool.sums
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        mark = {"now": clock.now, "waited": clock.waited, "trials": self._seen, **asdict(sums)}
        self._marks.append({**mark, "memory": pages * os.sysconf("SC_PAGE_SIZE")})

    def found(self) -> dict[str, Any]:
        """The figures; none of a run that was over before its workers were warm."""
        if not self._marks:
            return {}
        if self._marks[-1]["trials"] < self._seen - self._pool.count or len(self._marks) == 1:
            self._mark()
        marks = self._marks
        first, last = marks[0], marks[-1]
        over = {name: last[name] - first[name] for name in first}
        worker_s = over["trained"] + over["driver"] + over["order"]
        busy = [
            1e3
            * (b["now"] - a["now"] - b["waited"] + a["waited"])
            / max(1, b["trials"] - a["trials"])
            for a, b in itertools.pairwise(marks)
        ]
        return {
            "results_a_second": round(over["trials"] / over["now"], 2),
            "driver_load": round(1 - over["waited"] / over["now"], 4),
            "driver_ms_a_trial": round(1e3 * (over["now"] - over["waited"]) / over["trials"], 2),
            "driver_ms_by_part": [round(ms, 2) for ms in busy],
            "idle": round((over["driver"] + over["order"]) / worker_s, 5),
            "idle_for_the_driver": round(over["driver"] / worker_s, 5),
            "idle_for_the_order": round(over["order"] / worker_s, 5),
            "longest_pass_s": round(last["longest"], 3),
            "results_a_pass": round(over["results"] / over["passes"], 2),
            "memory_bytes_a_trial": round(over["memory"] / over["trials"]),
            "memory_mb": round(last["memory"] / 1e6),
        }


def result_of(trial: Trial, seconds: float) -> dict[str, Any]:
    """What a worker sends: as large as a ResNet-20's, the accuracy an invented one.

    Accuracies are in a band so narrow that the controller does not settle on a few candidates.
    """
    share = 0.5 + 0.001 * (hash_of(trial.expression) / 2**32)
    vectors = sum(trial.expression.count(f"{name}(") for name in _WITH_VECTORS)
    return {
        "status": "ok",
        "reason": None,
        "accuracy": share,
        "loss": 2.3 - 2 * share,
        "curve": [
            {"step": 500 * n, "loss": 2.3 - share * n / 17, "accuracy": share * n / 23}
            for n in range(1, POINTS + 1)
        ],
        "beta": [
            {
                "layer": f"blocks.{layer}.act1",
                "operator": "scale",
                "param": "beta",
                "slot": slot,
                "mean": 1 + share / 7,
                "std": share / 11,
                "min": share / 3,
                "max": 1 + share / 1.3,
            }
            for slot in range(vectors)
            for layer in range(19)
        ],
        "steps": 10_000,
        "seconds": {"compile": 0.0, "start": 0.1, "train": seconds, "first": 0.1, "evaluate": 0.3},
        "compilations": 0,
        "elapsed": seconds,
        "peak_memory_mb": 1200.0,
    }


_WITH_VECTORS = ("scale", "shift", "const", "mix")


def hash_of(text: str) -> int:
    """A number below 2³² that depends on a text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def looked_at(folder: Path) -> dict[str, Any]:
    """What it takes to take up a run again, and to list its best, in seconds of processor time."""
    begin, clock = time.process_time(), time.monotonic()
    journal = Journal.open(folder)
    opened = time.process_time()
    from launch.run import read_run_config
    from spaces import read_source

    science, placement = read_run_config(folder)
    source = read_source(science.space.operators)
    run = Run(folder, science, placement, source, journal, resumed=True)
    make_planner(run, _assignment(run), chance=0.1)
    planned, wall = time.process_time(), time.monotonic() - clock
    journal.close()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "launch", "top", str(folder), "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    top = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "open_s": round(opened - begin, 2),
        "resume_s": round(planned - begin, 2),
        "resume_wall_s": round(wall, 2),
        "top_s": round(top, 2),
    }


def _assignment(run: Run) -> Any:
    """Of which a planner reads this and no more."""
    return SimpleNamespace(
        train=run.science.train,
        operators=run.operators,
        core_units=run.science.space.core_units,
        baselines=run.science.search.baseline_keys,
    )


if __name__ == "__main__":
    main()
