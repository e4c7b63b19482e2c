"""The driver: hands out trials, takes back outcomes, and stops cleanly when asked to."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.journal import Journal
from search.outcome import BY_CHANCE, Outcome
from spaces import SearchSpace, known_function

from .cluster import cluster
from .config import PlacementConfig, Rung, Science
from .errors import RequestError, RunFailedError
from .execution import choose_execution
from .pool import Answer, Pool, core_sets
from .progress import Progress
from .room import Room
from .run import Run
from .worker import Assignment, Worker, operator_table

if TYPE_CHECKING:
    from search.planner import Planner
    from trainers.dataset import Dataset

TOGETHER = 64
"""Trials handed out in a row at most; with a thousand idle workers nobody would take results and
signals for seconds."""

WINDOW_PER_WORKER = 3
"""With a smaller window for each worker they wait for the order of rewards (docs/scale.md)."""

LOOK_EVERY_S = 2.0
"""Seconds between two looks at the nodes of a cluster."""

JUDGED_AFTER_S = 40.0
"""Seconds after which a worker of a cluster that is out of reach is taken to have died alone: Ray
took 14 to notice that a node was gone."""

LOST_NODES = 10
"""So many nodes may be lost under a trial, in one sitting, without an attempt of its being counted."""

ATTEMPTS = 3
"""A trial whose workers died so many times is recorded as failed. The last attempt has its node to
itself: Ray's memory monitor, say, ends several workers when one of them takes too much."""


@dataclass
class Tally:
    """What one sitting of the driver counted; kept in the journal for the summary."""

    workers: int
    execution: str
    reason: str
    began: float = field(default_factory=time.monotonic)
    first_dispatch: float | None = None
    last_answer: float | None = None
    trials: int = 0
    busy_s: float = 0.0
    training_s: float = 0.0
    compile_s: float = 0.0
    compilations: dict[int, int] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    devices: list[str] = field(default_factory=list)
    lost_nodes: Counter[int] = field(default_factory=Counter)
    """How many nodes were lost under a trial, by its id."""

    def count(self, answer: Answer) -> None:
        """Adds what a worker reported of its own effort."""
        self.last_answer = time.monotonic()
        self.trials += 1
        result = answer.result or {}
        seconds = result.get("seconds", {})
        self.busy_s += result.get("elapsed", 0.0)
        self.training_s += sum(seconds.get(part, 0.0) for part in ("start", "train", "evaluate"))
        self.compile_s += seconds.get("compile", 0.0)
        made = self.compilations.get(answer.worker, 0) + result.get("compilations", 0)
        self.compilations[answer.worker] = made
        self.peak_memory_mb = max(self.peak_memory_mb, result.get("peak_memory_mb", 0.0))

    def details(self) -> dict[str, Any]:
        """As the journal keeps it; `wall_s` runs from the first dispatch to the last answer."""
        wall = 0.0
        if self.first_dispatch is not None and self.last_answer is not None:
            wall = self.last_answer - self.first_dispatch
        return {
            "workers": self.workers,
            "execution": self.execution,
            "reason": self.reason,
            "trials": self.trials,
            "wall_s": wall,
            "busy_s": self.busy_s,
            "training_s": self.training_s,
            "compile_s": self.compile_s,
            "compilations": sum(self.compilations.values()),
            "peak_memory_mb": self.peak_memory_mb,
            "devices": self.devices,
        }


class Stop:
    """Whether the run shall end early: Ctrl-C, SIGTERM or the time limit.

    The first signal lets trials under way finish within the grace; the second does not wait.
    """

    def __init__(self, *, time_limit_s: float | None, grace_s: float) -> None:
        self._deadline = None if time_limit_s is None else time.monotonic() + time_limit_s
        self._grace_s = grace_s
        self._until: float | None = None
        self.reason = ""

    @property
    def asked(self) -> bool:
        """Whether no further trial may begin."""
        if not self.reason and self._deadline is not None and time.monotonic() >= self._deadline:
            self._begin("the time limit")
        return bool(self.reason)

    @property
    def now(self) -> bool:
        """Whether trials under way are to be given up as well."""
        return self.asked and time.monotonic() >= (self._until or 0.0)

    def _begin(self, reason: str) -> None:
        self.reason = reason
        self._until = time.monotonic() + self._grace_s

    def _handle(self, number: int, _frame: object) -> None:
        if self.reason:
            self._until = 0.0
        else:
            self._begin(signal.Signals(number).name)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catches SIGINT and SIGTERM while the context lasts.

        To be entered again once Ray has started, which takes SIGTERM for itself.
        """
        before = {n: signal.signal(n, self._handle) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def drive(run: Run, data: Dataset, *, progress: Progress, worker: type = Worker) -> str:
    """Works on a run until it is finished or has to stop.

    Args:
        run: The run.
        data: Its images, from `load_data`.
        progress: Who is told how it goes.
        worker: What runs in the Ray actors.

    Returns:
        Why it stopped early; empty if the run is finished.

    Raises:
        RequestError: The data are others than before, or the workers cannot be had.
        RunFailedError: Workers cannot be set up or kept alive.
    """
    if run.journal.meta("finished") is not None:
        return ""
    prepare_jax()
    stop = Stop(time_limit_s=run.placement.time_limit_s, grace_s=run.placement.grace)
    with stop.listening():
        _check_same_data(run, data)
        progress.say("starting Ray")
        size = sum(a.nbytes for s in (data.train, data.valid) for a in (s.images, s.labels))
        with cluster(run.placement, data_bytes=size) as room, stop.listening():
            for line in room.look():
                progress.note(line)
            assignment, reason = _assignment(run, data)
            pool = Pool(
                room.workers,
                run.placement,
                assignment,
                data,
                _cores(run, room),
                worker,
                say=progress.note,
                judged_after_s=0.0 if room.local else JUDGED_AFTER_S,
                introduce=_nobody if room.local and assignment.platform == "cpu" else progress.note,
            )
            planner = make_planner(run, assignment, chance=1.0 / data.num_classes)
            tally = Tally(room.workers, assignment.execution, reason)
            if told := _narrow(run.science, room.workers):
                progress.note(told)
            sitting = _begin_sitting(run.journal, tally)
            try:
                _loop(planner, pool, room, run, progress, tally, stop)
            finally:
                tally.devices = pool.devices
                pool.close()
                with run.journal.transaction():
                    seconds = time.monotonic() - tally.began
                    run.journal.update_sitting(sitting, seconds, tally.details())
        if planner.finished:
            planner.conclude()
        return "" if planner.finished else stop.reason


def _loop(
    planner: Planner, pool: Pool, room: Room, run: Run, progress: Progress, tally: Tally, stop: Stop
) -> None:
    """Dispatches what is due, records what comes back, until nothing is left or asked to stop."""
    rungs = run.science.search.ladder(run.science.train.steps)
    progress.begin(planner, pool)
    looked = time.monotonic()
    while not (planner.finished or stop.now or (stop.asked and not pool.training)):
        handed = 0
        while not stop.asked and handed < TOGETHER and pool.idle and (due := planner.due(1)):
            (trial,) = due
            handed += 1
            if tally.first_dispatch is None:
                tally.first_dispatch = time.monotonic()
            pool.start(
                trial,
                seed=trial.replicate,
                steps=rungs[trial.rung].steps,
                alone=planner.attempts(trial) == ATTEMPTS - 1,
            )
        if not stop.asked:
            planner.look_ahead(pool.count)
        if not room.local and time.monotonic() - looked > LOOK_EVERY_S:
            looked = time.monotonic()
            _look(pool, room, progress)
            tally.workers = max(tally.workers, pool.count)
        found = pool.wait(timeout_s=0.5 if handed < TOGETHER else 0.0)
        answers = [(answer, _outcome(planner, answer, tally.lost_nodes)) for answer in found]
        done = [(answer, outcome) for answer, outcome in answers if outcome is not None]
        planner.record([(answer.trial, outcome) for answer, outcome in done])
        for answer, outcome in done:
            tally.count(answer)
            progress.show(answer.trial, outcome)
        progress.refresh(stop.reason)


def _look(pool: Pool, room: Room, progress: Progress) -> None:
    """As many workers as the nodes hold now.

    Raises:
        RunFailedError: For too long none has had room for one.
    """
    for line in room.look():
        progress.note(line)
    limit = room.placement.node_timeout_s
    if limit is not None and time.monotonic() - pool.last_placed > limit:
        raise RunFailedError(
            f"no node has had room for a worker for {room.placement.node_timeout}: {room.lack()}. "
            f"Nothing is lost: repeat the command once there is"
        )
    pool.resize(room.workers, room.nodes)


def _outcome(planner: Planner, answer: Answer, lost_nodes: Counter[int]) -> Outcome | None:
    """What an answer means for its trial; None if the trial has to be run again.

    A lost node is no attempt, unless they keep going under the same trial, which may be why.
    """
    if answer.died and answer.with_node:
        lost_nodes[answer.trial.id] += 1
        if lost_nodes[answer.trial.id] <= LOST_NODES:
            planner.give_back(answer.trial)
            return None
    if answer.result is not None:
        return outcome_of(answer.result)
    if answer.error:
        return Outcome("failed", details={"reason": answer.error})
    if answer.late:
        reason = f"it took longer than {answer.late}, the trial time-out"
        return Outcome("failed", details={"reason": reason, BY_CHANCE: True})
    attempts = planner.attempt(answer.trial) if answer.began else 0
    if attempts >= ATTEMPTS:
        reason = f"its worker died {attempts} times, last: {answer.died}"
        return Outcome("failed", details={"reason": reason, BY_CHANCE: True})
    planner.give_back(answer.trial)
    return None


def outcome_of(result: Mapping[str, Any]) -> Outcome:
    """A trainer's result as the journal keeps it."""
    kept = ("reason", "curve", "beta", "steps", "seconds")
    ok = result["status"] == "ok"
    return Outcome(
        result["status"],
        result["accuracy"] if ok else None,
        result["loss"] if ok else None,
        float(result.get("elapsed", 0.0)),
        {name: result[name] for name in kept if result.get(name) is not None},
    )


def make_planner(run: Run, assignment: Assignment, *, chance: float) -> Planner:
    """The planner of a run, with everything that its journal has."""
    from search.planner import Plan, Planner

    science = run.science
    operators = assignment.operators.load()
    space = SearchSpace(operators, science.space.core_units)
    rungs: tuple[Rung, ...] = science.search.ladder(science.train.steps)
    plan = Plan(
        trials=science.search.trials,
        window=science.search.window,
        chance=chance,
        replicates=tuple(rung.replicates for rung in rungs),
        promoted=tuple(rung.promoted for rung in rungs if rung.promoted is not None),
        repeated=frozenset(n for n in range(1, len(rungs)) if rungs[n].steps == rungs[n - 1].steps),
        steps=tuple(rung.steps for rung in rungs),
        seed=science.search.seed,
    )
    baselines = [known_function(key).candidate for key in assignment.baselines]
    strategy = science.strategy_config().build(space)
    table = operator_table(operators, assignment)
    return Planner(plan, space, table, strategy, baselines, run.journal)


def load_data(science: Science, placement: PlacementConfig) -> Dataset:
    """The images that children are trained and judged on.

    Raises:
        RequestError: They cannot be had, or are fewer than a batch.
    """
    from trainers.dataset import load_dataset

    train = science.train
    try:
        data = load_dataset(
            train.dataset,
            data_dir=Path(placement.data_dir) if placement.data_dir else None,
            image_size=train.image_size,
            valid_size=train.valid_size,
            seed=science.search.seed,
        )
    except ValueError as error:
        raise RequestError(str(error)) from None
    if train.batch_size > len(data.train.labels):
        raise RequestError(
            f"`batch_size` must be ≤ {len(data.train.labels)}, the number of training images of "
            f"{train.dataset}, got {train.batch_size}"
        )
    return data


def prepare_jax() -> None:
    """The driver computes on the CPU, in steps so short that a thread for each costs more."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    # JAX may have computed when Ray's processes are started; they replace themselves at once.
    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def _check_same_data(run: Run, data: Dataset) -> None:
    known = run.journal.meta("data_sha256")
    if known is None:
        with run.journal.transaction():
            run.journal.put_meta("data_sha256", data.digest)
    elif known != data.digest:
        raise RequestError(
            f"`data_dir`: the images of {data.name} are not those that {run.folder} was made with "
            f"(SHA-256 {data.digest[:12]}…, there {known[:12]}…)"
        )


def _assignment(run: Run, data: Dataset) -> tuple[Assignment, str]:
    science, placement = run.science, run.placement
    execution, reason = choose_execution(
        science.search.execution,
        science.train,
        core_units=science.space.core_units,
        image_size=data.train.images.shape[1],
    )
    platform = "cpu"
    if placement.gpus_per_worker:
        platform = "gpu"
    elif "TPU" in placement.custom_resources:
        platform = "tpu"
    devices = placement.custom_resources.get("TPU", placement.gpus_per_worker)
    assignment = Assignment(
        train=science.train,
        operators=run.operators,
        core_units=science.space.core_units,
        baselines=science.search.baseline_keys,
        execution=execution,
        cpus=placement.cpus_per_worker,
        platform=platform,
        devices=max(1, int(devices)),
    )
    return assignment, reason


def _cores(run: Run, room: Room) -> list[tuple[int, ...]] | None:
    """Cores of this machine for each worker; None where the workers are elsewhere."""
    if not room.local:
        return None
    available = sorted(os.sched_getaffinity(0))
    return core_sets(room.workers, run.placement.cpus_per_worker, available)


def _narrow(science: Science, workers: int) -> str:
    """What to say of a window that keeps workers waiting; empty where it does not."""
    window, each = science.search.window, science.search.ladder(science.train.steps)[0].replicates
    if window * each >= WINDOW_PER_WORKER * workers:
        return ""
    return (
        f"{workers} workers will wait for each other's rewards: this run's window is {window}; a new "
        f"run with --window {-(-4 * workers // each)} keeps them busy"
    )


def _nobody(_: str) -> None:
    """Where workers are on this machine and on its CPU, none has to be introduced."""


def _begin_sitting(journal: Journal, tally: Tally) -> int:
    with journal.transaction():
        return journal.begin_sitting(tally.details())
