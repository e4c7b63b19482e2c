"""Trials per second of the real driver, Ray workers and journal, with a child that returns at once.

    uv run python tests/benchmarks/driver.py --trials 100000 --workers 2 --strategy random
    uv run python tests/benchmarks/driver.py --trials 120 --child-seconds 2 --strategy controller
    uv run python tests/benchmarks/driver.py --trials 10000 --workers 2 --ray-alone

Everything is real but the child: a worker of this file answers with a result made of the
candidate's text, after `--child-seconds` of sleep. It says how fast trials go, by windows of a
tenth of the run; how many bytes the driver's memory and the journal grow by a trial; what the
driver does with its time; and which share of their time the workers wait for it.

`--timed` measures the parts of the driver's time; the clocks themselves slow it down a little.
`--ray-alone` hands one trial out again and again and keeps nothing: what Ray's calls alone would allow.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import itertools
import json
import os
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from rich.console import Console

from launch.cluster import cluster
from launch.config import PlacementConfig, Science, SearchConfig, SpaceConfig
from launch.driver import drive
from launch.pool import Pool, core_sets
from launch.prepare import load_data
from launch.progress import Progress
from launch.run import start_or_resume
from launch.worker import Worker
from search.journal import FILE_NAME
from search.outcome import Outcome, Trial

SETTLED = 1_000
"""Trials before memory and time are looked at: what is there once is there by then."""


def main() -> None:
    """Works through one run and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--strategy", default="random")
    parser.add_argument("--core-units", type=int, default=2)
    parser.add_argument("--window", type=int, default=SearchConfig().window)
    parser.add_argument("--child-seconds", type=float, default=0.0)
    parser.add_argument("--timed", action="store_true")
    parser.add_argument("--ray-alone", action="store_true")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    asked = parser.parse_args()
    if asked.ray_alone:
        found = ray_alone(asked)
    else:
        with tempfile.TemporaryDirectory(prefix="actsearch-benchmark-") as folder:
            found = measure(asked, Path(folder) / "run")
    if asked.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:24} {value}")


def measure(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run from its start to its end."""
    science = Science(
        space=SpaceConfig(core_units=asked.core_units),
        search=SearchConfig(strategy=asked.strategy, trials=asked.trials, window=asked.window),
    )
    placement = PlacementConfig(workers=str(asked.workers))
    run = start_or_resume(folder, science, placement)
    data = load_data(science, placement)
    clocks = Clocks()
    meter = Meter(clocks)
    with meter, clocks.running() if asked.timed else nullcontext():
        drive(run, data, progress=meter, worker=instant_worker(asked.child_seconds))
        cpu = meter.cpu()
    proposals = sum(1 for _ in run.journal.proposed())
    run.journal.close()
    return {
        "trials": meter.trials,
        "proposals": proposals,
        **speed(folder, max(1, asked.trials // 10), asked.workers),
        "driver_cpu_microseconds_a_trial": cpu,
        "memory_bytes_a_trial": meter.growth(),
        "memory_mb": [round(found / 2**20) for _, found in meter.memory],
        "journal_bytes_a_trial": round((folder / FILE_NAME).stat().st_size / meter.trials),
        **({"microseconds_a_trial": clocks.shares(meter.trials - SETTLED)} if asked.timed else {}),
    }


def ray_alone(asked: argparse.Namespace) -> dict[str, Any]:
    """The pool and its workers without planner, strategy and journal."""
    placement = PlacementConfig(workers=str(asked.workers))
    trial = Trial(1, 1, "mul(x, sigmoid(scale(x)))", 0, 0, baseline=False)
    with cluster(placement, data_bytes=0):
        pool = Pool(
            asked.workers,
            placement,
            SimpleNamespace(platform="cpu"),  # type: ignore[arg-type]  # all that is read of it
            load_data(Science(), placement),
            core_sets(asked.workers, 1, sorted(os.sched_getaffinity(0))),
            instant_worker(asked.child_seconds),
        )
        while pool.idle < asked.workers:
            list(pool.wait(0.5))
        done, begin, used = 0, time.perf_counter(), time.process_time()
        while done < asked.trials:
            while pool.idle:
                pool.start(trial, seed=0, steps=1)
            done += len(list(pool.wait(0.5)))
        seconds, used = time.perf_counter() - begin, time.process_time() - used
        pool.close()
    return {
        "trials": done,
        "trials_a_second": round(done / seconds, 1),
        "driver_cpu_microseconds_a_trial": round(1e6 * used / done),
    }


def instant_worker(seconds: float) -> type:
    """A worker whose child is there at once; it stands in for `launch.worker.Worker`."""

    class InstantWorker(Worker):
        def __init__(self) -> None:
            self._ended: float | None = None

        def set_up(self, assignment: Any, data: Any, cores: tuple[int, ...] | None) -> str:
            if cores is not None:
                os.sched_setaffinity(0, cores)
            return "nothing"

        def score(self, expression: str, *, seed: int, steps: int) -> dict[str, Any]:
            begin = time.perf_counter()
            waited = 0.0 if self._ended is None else begin - self._ended
            time.sleep(seconds)
            # In a band so narrow that the controller does not settle on a few candidates.
            digest = hashlib.sha256(expression.encode()).digest()
            share = 0.5 + 0.001 * int.from_bytes(digest[:4], "big") / 2**32
            points = [
                {"step": 10 * n, "loss": 2.3 - share * n / 10, "accuracy": share * n / 20}
                for n in range(1, 21)
            ]
            self._ended = time.perf_counter()
            return {
                "status": "ok",
                "reason": None,
                "accuracy": share,
                "loss": 2.3 - 2 * share,
                "curve": points,
                "beta": [],
                "steps": steps,
                "seconds": {"compile": 0.0, "train": seconds, "evaluate": 0.0, "waited": waited},
                "compilations": 0,
                "elapsed": self._ended - begin,
                "peak_memory_mb": 0.0,
            }

    return InstantWorker


class Meter(Progress):
    """Progress as in a run without a terminal, which also looks at the driver's memory."""

    def __init__(self, clocks: Clocks) -> None:
        super().__init__(Console(stderr=True, force_terminal=False))
        self._clocks = clocks
        self.trials = 0
        self._cpu = 0.0
        self.memory: list[tuple[int, int]] = []

    def show(self, trial: Trial, outcome: Outcome) -> None:
        """Counts a trial."""
        super().show(trial, outcome)
        self.trials += 1
        if self.trials == SETTLED:
            self._clocks.seconds.clear()
            self._cpu = time.process_time()
        if self.trials == SETTLED or self.trials % 10_000 == 0:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.memory.append((self.trials, pages * os.sysconf("SC_PAGE_SIZE")))

    def cpu(self) -> int | None:
        """Microseconds of processor time that a trial takes of the driver, all threads together."""
        if self.trials <= SETTLED:
            return None
        return round(1e6 * (time.process_time() - self._cpu) / (self.trials - SETTLED))

    def growth(self) -> int | None:
        """Bytes by which the resident set grew per trial since it had settled."""
        if len(self.memory) < 2:
            return None
        (first, least), (last, most) = self.memory[0], self.memory[-1]
        return round((most - least) / (last - first))


def speed(folder: Path, window: int, workers: int) -> dict[str, Any]:
    """Trials per second by windows of the run, and the share of their time that workers wait."""
    with sqlite3.connect(folder / FILE_NAME) as journal:
        query = "SELECT finished, seconds, details FROM outcomes ORDER BY finished"
        rows = journal.execute(query).fetchall()
    journal.close()
    times = [finished for finished, _, _ in rows]
    marks = times[::window] + ([times[-1]] if len(times) % window != 1 else [])
    rates = [window / (end - begin) for begin, end in itertools.pairwise(marks[: len(marks)])]
    if (len(times) - 1) % window:
        rates[-1] = ((len(times) - 1) % window) / (marks[-1] - marks[-2])
    whole = [json.loads(details)["seconds"] for _, _, details in rows]
    waited = sum(seconds["waited"] for seconds in whole)
    busy = sum(seconds for _, seconds, _ in rows)
    return {
        "trials_a_second": round((len(times) - 1) / (times[-1] - times[0]), 1),
        "by_window": [round(rate, 1) for rate in rates],
        "idle_share": round(waited / (waited + busy), 4),
    }


class Clocks:
    """Where the driver's time goes: each part without the parts that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack: list[str] = []
        self._last = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time inside belongs to `name`."""
        self._switch(name)
        try:
            yield
        finally:
            self._switch(None)

    def _switch(self, name: str | None) -> None:
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._last
        self._last = now
        self._stack.append(name) if name else self._stack.pop()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted as `name`'s."""

        def call(*arguments: Any, **options: Any) -> Any:
            with self.part(name):
                return function(*arguments, **options)

        return call

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the driver's parts while the context lasts."""
        import launch.driver as driver
        import search.planner as planner
        from launch.pool import Pool
        from search.controller import Controller
        from search.examine import Examiner
        from search.journal import Journal
        from search.random_search import RandomSearch

        parts = [
            ("loop", driver, "_loop"),
            ("ray", Pool, "start"),
            ("plan", planner.Planner, "due"),
            ("plan", planner.Planner, "look_ahead"),
            ("record", planner.Planner, "record"),
            ("examine", Examiner, "examine"),
            ("encode state", planner, "encode_state"),
            *(("write", Journal, name) for name in vars(Journal) if name.startswith("add_")),
            ("write", Journal, "put_snapshot"),
            ("read", Journal, "candidate"),
            ("read", Journal, "number"),
            *(("strategy", c, n) for c in (Controller, RandomSearch) for n in ("ask", "tell")),
            ("progress", Meter, "show"),
            ("progress", Meter, "refresh"),
        ]
        plain_wait, plain_transaction = Pool.wait, Journal.transaction

        def wait(*arguments: Any, **options: Any) -> Any:
            with self.part("ray"):
                return list(plain_wait(*arguments, **options))

        @contextmanager
        def transaction(journal: Journal) -> Iterator[None]:
            with self.part("commit"), plain_transaction(journal), self.part("within"):
                yield

        patches = {(Pool, "wait"): wait, (Journal, "transaction"): transaction}
        patches |= {(o, name): self.timed(part, getattr(o, name)) for part, o, name in parts}
        with ExitStack() as stack:
            for (owner, name), function in patches.items():
                stack.enter_context(mock.patch.object(owner, name, function))
            yield

    def shares(self, trials: int) -> dict[str, int]:
        """Microseconds per trial of each part, the longest first."""
        ordered = sorted(self.seconds.items(), key=lambda item: -item[1])
        return {name: round(1e6 * seconds / trials) for name, seconds in ordered}


if __name__ == "__main__":
    main()
