"""The workers of a run: Ray actors, each with at most one trial under way.

An actor goes through its stages by itself: placed on a node, set up on cores of its own, idle,
training. One that dies is replaced, and its trial handed back. One that was idle for a while is asked
first whether it still lives, so that no trial pays for a death that was not its own.
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

ASKED_AFTER_S = 0.05
"""A worker that was idle for longer is asked whether it lives, which takes half a millisecond; in
a search that is at full speed none is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker gave back for a trial: a result, or the reason why it has none."""

    trial: Trial
    worker: int
    result: dict[str, Any] | None = None
    died: str = ""
    """The worker died under the trial; why."""
    began: bool = True
    """Whether the trial had begun when the worker died."""
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
    """gone, placing, setting up, idle; with a trial waiting for its node to be empty, asked
    whether it lives, training."""
    since: float = 0.0
    """When the stage began, as `time.monotonic` has it."""
    node: str = ""
    cores: tuple[int, ...] | None = None
    device: str = ""
    trial: Trial | None = None
    training: dict[str, int] = field(default_factory=dict)
    """Seed and steps of the trial."""
    alone: bool = False
    """Whether the trial is to have the node to itself."""

    def enter(self, stage: str, reference: Any = None) -> None:
        """Begins a stage that ends when Ray has something for the reference."""
        self.stage, self.reference, self.since = stage, reference, time.monotonic()


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
        return len(self._free())

    @property
    def training(self) -> list[Trial]:
        """Trials under way."""
        return [seat.trial for seat in self._seats if seat.trial is not None]

    @property
    def devices(self) -> list[str]:
        """What the workers compute on."""
        return sorted({seat.device for seat in self._seats if seat.device})

    def start(self, trial: Trial, *, seed: int, steps: int, alone: bool = False) -> None:
        """Gives a trial to an idle worker.

        Args:
            trial: The trial.
            seed: Of its initial weights and batches.
            steps: How long to train.
            alone: Whether to wait until nothing else is trained on the worker's node, and to begin
                nothing there meanwhile: what kills the worker then is the trial, no neighbour.
        """
        seat = self._free()[0]
        seat.trial, seat.training, seat.alone = trial, {"seed": seed, "steps": steps}, alone
        if alone and self._neighbours(seat):
            seat.enter("waiting")
        else:
            self._begin(seat)

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
        for seat in self._seats:
            if seat.stage == "waiting" and not self._neighbours(seat):
                self._begin(seat)

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
            if seat.stage == "training" and time.monotonic() - seat.since > limit:
                trial = seat.trial
                assert trial is not None
                self._ray.kill(seat.actor)
                self._hire(seat)
                yield Answer(trial, seat.number, late=self.placement.trial_timeout)

    def _free(self) -> list[_Seat]:
        """Idle workers on nodes that no trial has to itself."""
        taken = {seat.node for seat in self._seats if seat.alone}
        return [seat for seat in self._seats if seat.stage == "idle" and seat.node not in taken]

    def _neighbours(self, seat: _Seat) -> bool:
        """Whether anything else is trained on the node."""
        return any(
            other.trial is not None and other.node == seat.node
            for other in self._seats
            if other is not seat
        )

    def _begin(self, seat: _Seat) -> None:
        if seat.alone or time.monotonic() - seat.since > ASKED_AFTER_S:
            seat.enter("asked", seat.actor.place.remote())
        else:
            self._train(seat)

    def _train(self, seat: _Seat) -> None:
        assert seat.trial is not None
        seat.enter("training", seat.actor.train.remote(seat.trial.expression, **seat.training))

    def _leave(self, seat: _Seat) -> None:
        """The seat has no trial any more."""
        seat.trial, seat.alone = None, False

    def _hire(self, seat: _Seat) -> None:
        self._leave(seat)
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
        seat.enter("placing", seat.actor.place.remote())

    def _advance(self, seat: _Seat) -> Answer | None:
        """Takes up what a worker's last call gave, and moves the worker to its next stage."""
        stage, trial = seat.stage, seat.trial
        try:
            value = self._ray.get(seat.reference)
        except self._errors.RayTaskError as error:
            reason = _first_line(error.cause)
            if stage != "training":
                raise RunFailedError(f"worker {seat.number} cannot be set up: {reason}") from None
            self._leave(seat)
            seat.enter("idle")
            assert trial is not None
            return Answer(trial, seat.number, error=reason)
        except self._errors.RayError as error:
            self._deaths += trial is None  # what dies in a trial is the trial's to count
            if self._deaths > MAX_DEATHS_IN_A_ROW * self.count:
                raise RunFailedError(f"workers keep dying: {_first_line(error)}") from None
            self._hire(seat)
            if trial is None:
                return None
            return Answer(trial, seat.number, died=_first_line(error), began=stage == "training")
        if stage == "placing":
            seat.node = value
            setting_up = seat.actor.set_up.remote(self.assignment, self._data, seat.cores)
            seat.enter("setting up", setting_up)
            return None
        if stage == "asked":
            self._train(seat)
            return None
        if stage == "setting up":
            seat.device = value
            self._deaths = 0
        self._leave(seat)
        seat.enter("idle")
        return None if trial is None else Answer(trial, seat.number, result=value)


def core_sets(count: int, per_worker: int, available: list[int]) -> list[tuple[int, ...]] | None:
    """Disjoint cores for each worker; None if there are too few."""
    if count * per_worker > len(available):
        return None
    return [tuple(available[k * per_worker : (k + 1) * per_worker]) for k in range(count)]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
