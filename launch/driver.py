"""The driver: hands out trials, takes back outcomes, and stops cleanly when asked to."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING

from search.journal import Journal
from search.outcome import BY_CHANCE, Outcome

from .cluster import cluster
from .errors import RunFailedError
from .pool import Answer, Pool, core_sets
from .prepare import (
    check_same_data,
    make_assignment,
    make_planner,
    narrow_window,
    operators_at_hand,
    prepare_jax,
)
from .progress import Progress
from .room import Room
from .run import Run
from .stop import Stop
from .tally import Tally
from .worker import Worker

if TYPE_CHECKING:
    from search.planner import Planner
    from trainers.dataset import Dataset

TOGETHER = 64
"""Trials handed out in a row at most; with a thousand idle workers nobody would take results and
signals for seconds."""

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
        check_same_data(run, data)
        progress.say("starting Ray")
        size = sum(a.nbytes for s in (data.train, data.valid) for a in (s.images, s.labels))
        with (
            cluster(run.placement, data_bytes=size) as room,
            stop.listening(),
            operators_at_hand() as keep,
        ):
            for line in room.look():
                progress.note(line)
            assignment, reason = make_assignment(run, data)
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
            keep()
            tally = Tally(room.workers, assignment.execution, reason)
            if planner.learns and (told := narrow_window(run.science, room.workers)):
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
    if answer.report is not None:
        return answer.report.outcome
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


def _cores(run: Run, room: Room) -> list[tuple[int, ...]] | None:
    """Cores of this machine for each worker; None where the workers are elsewhere."""
    if not room.local:
        return None
    available = sorted(os.sched_getaffinity(0))
    return core_sets(room.workers, run.placement.cpus_per_worker, available)


def _nobody(_: str) -> None:
    """Where workers are on this machine and on its CPU, none has to be introduced."""


def _begin_sitting(journal: Journal, tally: Tally) -> int:
    with journal.transaction():
        return journal.begin_sitting(tally.details())
