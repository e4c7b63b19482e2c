"""The workers of a run: Ray actors, each with at most one trial under way.

An actor goes through its stages by itself: placed on a node, set up on cores of its own, idle,
training. One that dies is replaced, and its trial handed back. One that was idle for a while is asked
first whether it still lives, so that no trial pays for a death that was not its own. One that has not
got what it should (the same code, the same images, its accelerator) is refused by name: it keeps
its place, so that Ray starts no other there, and gets no trial.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from search.outcome import Trial

from .config import PlacementConfig
from .errors import RunFailedError
from .installation import difference, installation
from .message import Report, Task
from .ray_errors import brief, cause
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
    report: Report | None = None
    died: str = ""
    """The worker died under the trial; why."""
    began: bool = True
    """Whether the trial had begun when the worker died."""
    with_node: bool = False
    """Whether the whole node went with it."""
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
    """gone, placing, placed, checking, setting up, idle, refused; with a trial waiting for its node
    to be empty, asked whether it lives, training."""
    since: float = 0.0
    """When the stage began, as `time.monotonic` has it."""
    node: str = ""
    host: str = ""
    given: str = ""
    """Numbers of the accelerators that Ray gave it."""
    cores: tuple[int, ...] | None = None
    device: str = ""
    trial: Trial | None = None
    task: bytes = b""
    """What the worker is told of the trial."""
    alone: bool = False
    """Whether the trial is to have the node to itself."""

    def enter(self, stage: str, reference: Any = None) -> None:
        """Begins a stage that ends when Ray has something for the reference."""
        self.stage, self.reference, self.since = stage, reference, time.monotonic()

    @property
    def name(self) -> str:
        """What people are told of it."""
        return f"worker {self.number}" + (f" on {self.host}" if self.host else "")


@dataclass
class Pool:
    """`count` workers, at first.

    Args:
        count: How many.
        placement: What each needs of the cluster.
        assignment: What each has to know.
        data: The data set; it is put into the object store once, and fetched and checked once by
            each node.
        cores: For each worker the cores it is pinned to; None leaves them to the system.
        worker: What runs in the actors.
        say: Is told of workers that are refused.
        introduce: Is told of each worker and the device it got.
        judged_after_s: How long a worker may be out of reach before its node is taken to live: Ray
            learns of a lost node up to half a minute later than its workers are missed.
    """

    count: int
    placement: PlacementConfig
    assignment: Assignment
    data: Dataset
    cores: list[tuple[int, ...]] | None
    worker: type = Worker
    say: Callable[[str], object] = lambda _: None
    introduce: Callable[[str], object] = lambda _: None
    judged_after_s: float = 0.0
    last_placed: float = field(default_factory=time.monotonic)
    """When any worker was last seen to have a node, as `time.monotonic` has it."""
    _seats: list[_Seat] = field(default_factory=list)
    _checked: set[str] = field(default_factory=set)
    """Nodes whose images were checked."""
    _unjudged: list[tuple[float, str, Answer]] = field(default_factory=list)
    """Deaths under trials: when to judge them, on which node, and what is to be said of it."""
    _deaths: int = 0
    _hired: int = 0

    def __post_init__(self) -> None:
        import ray
        from ray import exceptions

        self._ray: Any = ray
        self._errors = exceptions
        self._data = ray.put(self.data)
        self._remote = ray.remote(self.worker)
        self._open(self.count)

    def resize(self, count: int, nodes: Collection[str]) -> None:
        """Comes closer to a number of workers.

        Args:
            count: How many there are to be. Too many are let go where they wait for a node; those
                that have one stay.
            nodes: Ids of the nodes that live; a refused worker whose node is gone makes room.
        """
        for seat in self._seats:
            if seat.stage == "refused" and seat.node and seat.node not in nodes:
                self._hire(seat)
        for seat in [seat for seat in self._seats if seat.stage == "placing"][::-1]:
            if len(self._seats) > count:
                self._end(seat)
                self._seats.remove(seat)
        self._open(count - len(self._seats))
        self.count = len(self._seats)

    @property
    def idle(self) -> int:
        """Workers that wait for a trial."""
        return len(self._free())

    @property
    def training(self) -> list[Trial]:
        """Trials under way."""
        unjudged = [answer.trial for _, _, answer in self._unjudged]
        return [seat.trial for seat in self._seats if seat.trial is not None] + unjudged

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
        seat.trial, seat.alone = trial, alone
        seat.task = Task(trial.expression, seed, steps).pack()
        if alone and self._neighbours(seat):
            seat.enter("waiting")
        else:
            self._begin(seat)

    def wait(self, timeout_s: float) -> Iterator[Answer]:
        """Waits until something happens, at most `timeout_s`; yields what workers gave back.

        Raises:
            RunFailedError: Workers cannot be set up.
        """
        if any(seat.stage not in ("placing", "refused") for seat in self._seats):
            self.last_placed = time.monotonic()
        busy = {seat.reference: seat for seat in self._seats if seat.reference is not None}
        if not busy:
            time.sleep(timeout_s)
            return
        ready, _ = self._ray.wait(list(busy), num_returns=len(busy), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=timeout_s)
        for reference, value in zip(ready, self._values(ready), strict=True):
            answer = self._advance(busy[reference], value)
            if answer is not None:
                yield answer
        yield from self._late()
        yield from self._judged()
        for seat in self._seats:
            if seat.stage == "waiting" and not self._neighbours(seat):
                self._begin(seat)

    def close(self) -> None:
        """Ends all workers."""
        for seat in self._seats:
            self._end(seat)
        self._seats.clear()

    def _open(self, count: int) -> None:
        """So many further seats."""
        for _ in range(count):
            cores = self.cores[self._hired] if self.cores else None
            self._seats.append(_Seat(self._hired, cores=cores))
            self._hired += 1
            self._hire(self._seats[-1])

    def _end(self, seat: _Seat) -> None:
        """The process of a seat, wherever it is, trains nothing any more."""
        if seat.actor is not None:
            with contextlib.suppress(self._errors.RayError):
                self._ray.kill(seat.actor)

    def _late(self) -> Iterator[Answer]:
        """Ends workers whose trial takes longer than one may; others take their place."""
        limit = self.placement.trial_timeout_s
        if limit is None:
            return
        for seat in self._seats:
            if seat.stage == "training" and time.monotonic() - seat.since > limit:
                trial = seat.trial
                assert trial is not None
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
        seat.enter("training", seat.actor.train.remote(seat.task))

    def _leave(self, seat: _Seat) -> None:
        """The seat has no trial any more."""
        seat.trial, seat.alone = None, False

    def _hire(self, seat: _Seat) -> None:
        """A new process for a seat; the one it had is ended, in case it is only out of reach."""
        self._leave(seat)
        self._end(seat)
        seat.node = seat.host = seat.given = seat.device = ""
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

    def _values(self, references: list[Any]) -> list[Any]:
        """What calls gave, all at once where none of them failed; an error stands for itself."""
        try:
            return self._ray.get(references)
        except self._errors.RayError as error:
            if len(references) == 1:
                return [error]
        return [value for reference in references for value in self._values([reference])]

    def _advance(self, seat: _Seat, value: Any) -> Answer | None:
        """Takes up what a worker's last call gave, and moves the worker to its next stage."""
        stage, trial = seat.stage, seat.trial
        if isinstance(value, self._errors.RayTaskError):
            reason = brief(value.cause)
            if stage != "training":
                self._refuse(seat, reason)
                return None
            self._leave(seat)
            seat.enter("idle")
            assert trial is not None
            return Answer(trial, seat.number, error=reason)
        if isinstance(value, self._errors.RayError):
            self._died(seat, value)
            return None
        if stage == "placing":
            self._arrive(seat, value)
        elif stage == "checking":
            if value != self.data.digest:
                self._refuse(seat, "the images that arrived there are not those that were sent")
            else:
                self._checked.add(seat.node)
                self._set_up(seat)
            self._settle(seat.node)
        elif stage == "asked":
            self._train(seat)
        else:
            if stage == "setting up":
                seat.device = value
                self._deaths = 0
                device = " ".join(filter(None, (value, seat.given and f"({seat.given})")))
                self.introduce(f"{seat.name}: {device}")
            self._leave(seat)
            seat.enter("idle")
            if trial is not None:
                return Answer(trial, seat.number, report=Report.unpack(value))
        return None

    def _arrive(self, seat: _Seat, place: Any) -> None:
        """A worker has its node: its code is compared, the images there checked by the first one."""
        if not isinstance(place, dict):  # from before workers said which code they have
            self._refuse(seat, difference(place, installation()))
            return
        seat.node, seat.host, seat.given = place["node"], place["host"], place["devices"]
        if other := difference(place["code"], installation()):
            self._refuse(
                seat, f"it has other code than this driver: {other}; install the same on every node"
            )
            return
        seat.enter("placed")
        self._settle(seat.node)

    def _settle(self, node: str) -> None:
        """Workers that wait on a node go on once its images are checked; else one of them checks."""
        here = [seat for seat in self._seats if seat.node == node]
        placed = [seat for seat in here if seat.stage == "placed"]
        if node in self._checked:
            for seat in placed:
                self._set_up(seat)
        elif placed and not any(seat.stage == "checking" for seat in here):
            placed[0].enter("checking", placed[0].actor.check.remote(self._data))

    def _set_up(self, seat: _Seat) -> None:
        calling = seat.actor.set_up.remote(self.assignment, self._data, seat.cores)
        seat.enter("setting up", calling)

    def _refuse(self, seat: _Seat, reason: str) -> None:
        """A worker that cannot do what it is asked keeps its place and gets nothing to do.

        Raises:
            RunFailedError: No other one is left.
        """
        seat.enter("refused")
        complaint = f"{seat.name} is refused: {reason}"
        if all(each.stage == "refused" for each in self._seats):
            raise RunFailedError(complaint)
        self.say(complaint)

    def _died(self, seat: _Seat, error: BaseException) -> None:
        """Puts another worker in the place of one that is gone.

        Raises:
            RunFailedError: They keep dying before they have done anything.
        """
        stage, trial, node, reason = seat.stage, seat.trial, seat.node, brief(error)
        if stage == "placing" and "ModuleNotFoundError" in str(error):
            missing = str(error).rpartition("ModuleNotFoundError")[2].strip(": \n")
            self._refuse(seat, f"its node lacks code, {missing}; install it there, or --ship")
            return
        self._deaths += trial is None and self._lives(node)  # in a trial it is the trial's to count
        if self._deaths > MAX_DEATHS_IN_A_ROW * self.count:
            raise RunFailedError(f"workers keep dying: {reason}{cause(error)}")
        self._hire(seat)
        self._settle(node)
        if trial is not None:
            answer = Answer(trial, seat.number, died=reason, began=stage == "training")
            out_of_reach = isinstance(error, self._errors.ActorUnavailableError)
            judged = time.monotonic() + (self.judged_after_s if out_of_reach else 0.0)
            self._unjudged.append((judged, node, answer))

    def _judged(self) -> Iterator[Answer]:
        """Deaths under trials, once it is known whether the node went as well."""
        waiting, self._unjudged = self._unjudged, []
        for judged, node, answer in waiting:
            with_node = not self._lives(node)
            if with_node or time.monotonic() >= judged:
                yield replace(answer, with_node=with_node)
            else:
                self._unjudged.append((judged, node, answer))

    def _lives(self, node: str) -> bool:
        """Whether a node is there; one that is not known yet counts as there."""
        found = {each["NodeID"]: each["Alive"] for each in self._ray.nodes()}
        return not node or found.get(node, False)


def core_sets(count: int, per_worker: int, available: list[int]) -> list[tuple[int, ...]] | None:
    """Disjoint cores for each worker; None if there are too few."""
    if count * per_worker > len(available):
        return None
    return [tuple(available[k * per_worker : (k + 1) * per_worker]) for k in range(count)]
