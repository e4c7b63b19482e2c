"""The workers of a run: Ray actors, each with at most one trial under way.

An actor goes through its stages by itself: placed on a node, set up on cores of its own, idle,
training. One that dies is replaced, and its trial handed back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from search.outcome import Trial

from .config import PlacementConfig
from .errors import RunFailedError
from .worker import Assignment, Worker, environment

if TYPE_CHECKING:
    from trainers.dataset import Dataset

MAX_DEATHS_IN_A_ROW = 5
"""Workers that die before they are set up end the run after so many without a success."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker gave back for a trial: a result, or the reason why it has none."""

    trial: Trial
    worker: int
    result: dict[str, Any] | None = None
    died: str = ""
    """The worker died under the trial; why."""
    error: str = ""
    """The trainer raised; what."""
    late: str = ""
    """The trial took longer than it may, and its worker was ended; how long that is."""


@dataclass(slots=True)
class _Seat:
    number: int
    actor: Any = None
    reference: Any = None
    stage: str = "gone"
    trial: Trial | None = None
    cores: tuple[int, ...] | None = None
    device: str = ""
    since: float = 0.0
    """When the trial began, as `time.monotonic` has it."""


@dataclass
class Pool:
    """`count` workers.

    Args:
        count: How many.
        placement: What each needs of the cluster.
        assignment: What each has to know.
        data: The data set; it is put into the object store once and shared from there.
        cores: For each worker the cores it is pinned to; None leaves them to the system.
        worker: What runs in the actors.
    """

    count: int
    placement: PlacementConfig
    assignment: Assignment
    data: Dataset
    cores: list[tuple[int, ...]] | None
    worker: type = Worker
    _seats: list[_Seat] = field(default_factory=list)
    _deaths: int = 0

    def __post_init__(self) -> None:
        import ray
        from ray import exceptions

        self._ray: Any = ray
        self._errors = exceptions
        self._data = ray.put(self.data)
        self._remote = ray.remote(self.worker)
        for number in range(self.count):
            cores = self.cores[number] if self.cores else None
            self._seats.append(_Seat(number, cores=cores))
            self._hire(self._seats[-1])

    @property
    def idle(self) -> int:
        """Workers that wait for a trial."""
        return sum(seat.stage == "idle" for seat in self._seats)

    @property
    def training(self) -> list[Trial]:
        """Trials under way."""
        return [seat.trial for seat in self._seats if seat.trial is not None]

    @property
    def devices(self) -> list[str]:
        """What the workers compute on."""
        return sorted({seat.device for seat in self._seats if seat.device})

    def start(self, trial: Trial, *, seed: int, steps: int) -> None:
        """Gives a trial to an idle worker."""
        seat = next(seat for seat in self._seats if seat.stage == "idle")
        seat.trial, seat.stage, seat.since = trial, "training", time.monotonic()
        seat.reference = seat.actor.train.remote(trial.expression, seed=seed, steps=steps)

    def wait(self, timeout_s: float) -> Iterator[Answer]:
        """Waits until something happens, at most `timeout_s`; yields what workers gave back.

        Raises:
            RunFailedError: Workers cannot be set up.
        """
        busy = {seat.reference: seat for seat in self._seats if seat.reference is not None}
        if not busy:
            return
        ready, _ = self._ray.wait(list(busy), num_returns=len(busy), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=timeout_s)
        for reference in ready:
            answer = self._advance(busy[reference])
            if answer is not None:
                yield answer
        yield from self._late()

    def close(self) -> None:
        """Ends all workers."""
        for seat in self._seats:
            self._ray.kill(seat.actor)
        self._seats.clear()

    def _late(self) -> Iterator[Answer]:
        """Ends workers whose trial takes longer than one may; others take their place."""
        limit = self.placement.trial_timeout_s
        if limit is None:
            return
        for seat in self._seats:
            if seat.trial is not None and time.monotonic() - seat.since > limit:
                trial, seat.trial = seat.trial, None
                self._ray.kill(seat.actor)
                self._hire(seat)
                yield Answer(trial, seat.number, late=self.placement.trial_timeout)

    def _hire(self, seat: _Seat) -> None:
        platform = self.assignment.platform
        seat.actor = self._remote.options(
            num_cpus=self.placement.cpus_per_worker,
            num_gpus=self.placement.gpus_per_worker,
            resources=self.placement.custom_resources or None,
            max_restarts=0,
            max_task_retries=0,
            enable_task_events=False,
            runtime_env={"env_vars": environment(platform, self.placement.gpus_per_worker)},
        ).remote()
        seat.reference, seat.stage = seat.actor.place.remote(), "placing"

    def _advance(self, seat: _Seat) -> Answer | None:
        """Takes up what a worker's last call gave, and moves the worker to its next stage."""
        stage, trial = seat.stage, seat.trial
        try:
            value = self._ray.get(seat.reference)
        except self._errors.RayTaskError as error:
            reason = _first_line(error.cause)
            if stage != "training":
                raise RunFailedError(f"worker {seat.number} cannot be set up: {reason}") from None
            seat.reference, seat.stage, seat.trial = None, "idle", None
            assert trial is not None
            return Answer(trial, seat.number, error=reason)
        except self._errors.RayError as error:
            self._deaths += trial is None  # what dies in a trial is the trial's to count
            if self._deaths > MAX_DEATHS_IN_A_ROW * self.count:
                raise RunFailedError(f"workers keep dying: {_first_line(error)}") from None
            seat.trial = None
            self._hire(seat)
            return None if trial is None else Answer(trial, seat.number, died=_first_line(error))
        if stage == "placing":
            seat.reference = seat.actor.set_up.remote(self.assignment, self._data, seat.cores)
            seat.stage = "setting up"
            return None
        if stage == "setting up":
            seat.device = value
            self._deaths = 0
        seat.reference, seat.stage, seat.trial = None, "idle", None
        return None if trial is None else Answer(trial, seat.number, result=value)


def core_sets(count: int, per_worker: int, available: list[int]) -> list[tuple[int, ...]] | None:
    """Disjoint cores for each worker; None if there are too few."""
    if count * per_worker > len(available):
        return None
    return [tuple(available[k * per_worker : (k + 1) * per_worker]) for k in range(count)]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
