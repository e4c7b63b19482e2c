"""A cluster that is only computed: workers, children, deaths and lost nodes in simulated seconds.

`SimulatedPool` stands where `launch.pool.Pool` stands in the driver's loop. The loop, the planner, the
strategy and the journal are the real ones, and the clock goes on by the processor time that they
take and, while they wait, to the next thing that happens: a discrete-event simulation with one
server, the driver. What the real pool, Ray and a disk would take besides is charged by rates.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from launch.message import Report
from launch.pool import Answer
from search.outcome import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The cluster and its children; times in seconds."""

    workers: int = 1_000
    """Workers."""
    child_s: float = 60.0
    """Median of a child's time."""
    spread: float = 0.2
    """Standard deviation of its logarithm."""
    start_s: float = 30.0
    """Median of what a worker takes until it can train, with the same spread."""
    deaths: float = 0.0
    """Share of trials under which the worker dies."""
    per_node: int = 8
    """Workers of a node."""
    node_hours: float = float("inf")
    """Mean life of a node."""
    noticed_s: float = 30.0
    """How long nobody notices that a node is gone."""
    back_s: float = 300.0
    """Until another one is in its place."""
    slow: float = 0.0
    """Share of the nodes that are slow."""
    slow_times: float = 4.0
    """How many times longer a child takes there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What the driver's loop takes besides what is measured, in seconds."""

    trial_s: float = 0.0
    """For each trial: Ray's call and answer."""
    seat_s: float = 0.0
    """For each worker, at every pass of the loop: the pool looks at its seats, Ray at its calls."""
    commit_s: float = 0.0
    """For each commit: the disk."""


class Clock:
    """Simulated seconds since the beginning.

    Args:
        busy: Seconds that the driver has computed so far.
    """

    def __init__(self, busy: Callable[[], float] = time.process_time) -> None:
        self._busy = busy
        self._base = 0.0
        self._mark = busy()
        self.waited = 0.0
        """Of them, those in which the driver had nothing to do."""

    @property
    def now(self) -> float:
        """Simulated time."""
        return self._base + self._busy() - self._mark

    def charge(self, seconds: float) -> None:
        """The driver is busy for so long."""
        self._base += seconds

    def wait_until(self, moment: float) -> None:
        """The driver has nothing to do before that."""
        waited = max(0.0, moment - self.now)
        self.waited += waited
        self._base += waited

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What is computed inside is the simulation's."""
        self._base = self.now
        try:
            yield
        finally:
            self._mark = self._busy()


@dataclass(slots=True)
class _Seat:
    number: int
    life: int = 0
    """Grows when the node is lost: events of an earlier life are void."""
    trial: Trial | None = None
    free: float = 0.0
    """When it became idle."""
    taken: float = 0.0
    """When the driver learned that."""
    until: float = 0.0
    """When its trial ends."""


@dataclass(slots=True)
class Sums:
    """What happened, in worker seconds and in numbers."""

    trained: float = 0.0
    """Worker seconds in trials, those that were lost included."""
    driver: float = 0.0
    """Worker seconds idle because the driver was busy."""
    order: float = 0.0
    """Worker seconds idle because nothing might be dispatched."""
    passes: int = 0
    """Passes of the driver's loop."""
    longest: float = 0.0
    """Seconds of the longest pass that ended no wait."""
    results: int = 0
    """Trials that came back with a result."""
    died: int = 0
    """Workers that died under a trial, alone or with their node."""


@dataclass
class SimulatedPool:
    """`conditions.workers` workers.

    Args:
        conditions: The cluster.
        clock: Simulated time.
        rates: What is charged.
        result: The trainer's result of a trial that took so many seconds.
        seed: Of everything that is drawn.
    """

    conditions: Conditions
    clock: Clock
    rates: Rates
    result: Callable[[Trial, float], dict[str, Any]]
    seed: int = 0
    sums: Sums = field(default_factory=Sums)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, str, int, int]] = []
        self._seats = [_Seat(number) for number in range(self.count)]
        self._free: deque[_Seat] = deque()
        self._slow = set(self._rng.permutation(self._nodes)[: round(self._slow_nodes)].tolist())
        self._woke = 0.0
        with self.clock.stopped():
            for seat in self._seats:
                self._later(self._about(self.conditions.start_s), "ready", seat)
            for node in range(self._nodes):
                self._doom(node)

    @property
    def count(self) -> int:
        """How many workers there are to be."""
        return self.conditions.workers

    @property
    def idle(self) -> int:
        """Workers that wait for a trial."""
        return len(self._free)

    @property
    def training(self) -> list[Trial]:
        """Trials under way."""
        return [seat.trial for seat in self._seats if seat.trial is not None]

    def start(self, trial: Trial, *, seed: int, steps: int, alone: bool = False) -> None:
        """Gives a trial to the worker that has been idle for longest."""
        self.clock.charge(self.rates.trial_s)
        with self.clock.stopped():
            now, seat = self.clock.now, self._free.popleft()
            late = now if seat.taken == self._woke else seat.taken
            self.sums.driver += late - seat.free
            self.sums.order += now - late
            slow = self._node(seat) in self._slow
            seconds = self._about(self.conditions.child_s) * (
                self.conditions.slow_times if slow else 1.0
            )
            if alone:  # it waits for its neighbours
                seconds += max((each.until for each in self._neighbours(seat)), default=now) - now
            ending = "result"
            if self._rng.random() < self.conditions.deaths:
                ending, seconds = "died", seconds * self._rng.random()
            seat.trial, seat.free, seat.until = trial, now, now + seconds
            self._later(seconds, ending, seat)

    def wait(self, timeout_s: float) -> Iterator[Answer]:
        """What has happened meanwhile, or else the next thing that does, at most so late."""
        self.clock.charge(self.rates.seat_s * self.count)
        with self.clock.stopped():
            now = self.clock.now
            self.sums.passes += 1
            self.sums.longest = max(self.sums.longest, now - self._woke)
            if self._events and self._events[0][0] > now:
                self.clock.wait_until(min(self._events[0][0], now + timeout_s))
            before, self._woke = self._woke, self.clock.now
            if timeout_s == 0:  # the driver has more to hand out: whoever is idle waits for it
                for seat in self._free:
                    seat.taken = self._woke if seat.taken == before else seat.taken
            now = self._woke
            found = []
            while self._events and self._events[0][0] <= now:
                found.append(heapq.heappop(self._events))
            answers = [answer for event in found if (answer := self._happens(*event)) is not None]
            messages = [answer.report.pack() if answer.report else b"" for answer in answers]
        for answer, message in zip(answers, messages, strict=True):
            # What a worker has packed the driver has to unpack.
            yield replace(answer, report=Report.unpack(message)) if message else answer

    def _happens(self, moment: float, _: int, what: str, number: int, life: int) -> Answer | None:
        if what == "lost":
            self._lose(number, moment)
            return None
        seat = self._seats[number]
        if seat.life != life:
            return None
        trial, began = seat.trial, seat.free
        if what in ("died", "gone"):
            self.sums.died += 1
            self.sums.trained += seat.until - began if what == "died" else 0.0
            seat.trial = None
            if what == "died":
                self._later(self._about(self.conditions.start_s), "ready", seat)
            assert trial is not None
            with_node = what == "gone"
            return Answer(trial, number, died="ActorDiedError", with_node=with_node)
        if what == "result":
            self.sums.results += 1
            self.sums.trained += moment - began
        seat.trial, seat.free, seat.taken = None, moment, self._woke
        self._free.append(seat)
        if trial is None:
            return None
        return Answer(trial, number, report=Report.of(self.result(trial, moment - began)))

    def _lose(self, node: int, moment: float) -> None:
        """A node is gone, and its trials with it; another comes in its place."""
        back = self.conditions.noticed_s + self.conditions.back_s
        for seat in self._of(node):
            seat.life += 1
            if seat.trial is not None:
                self.sums.trained += moment - seat.free
                self._later(self.conditions.noticed_s, "gone", seat)
            elif seat in self._free:
                self._free.remove(seat)
            self._later(back + self._about(self.conditions.start_s), "ready", seat)
        self._doom(node, after=back)

    def _doom(self, node: int, after: float = 0.0) -> None:
        """Draws when a node is lost."""
        if np.isfinite(self.conditions.node_hours):
            life = self._rng.exponential(3600 * self.conditions.node_hours)
            self._push(self.clock.now + after + life, "lost", node, 0)

    def _later(self, seconds: float, what: str, seat: _Seat) -> None:
        self._push(self.clock.now + seconds, what, seat.number, seat.life)

    def _push(self, moment: float, what: str, number: int, life: int) -> None:
        heapq.heappush(self._events, (moment, next(self._numbers), what, number, life))

    def _about(self, median: float) -> float:
        return median * float(np.exp(self.conditions.spread * self._rng.standard_normal()))

    @property
    def _nodes(self) -> int:
        return -(-self.count // self.conditions.per_node)

    @property
    def _slow_nodes(self) -> float:
        return self.conditions.slow * self._nodes

    def _node(self, seat: _Seat) -> int:
        return seat.number // self.conditions.per_node

    def _of(self, node: int) -> list[_Seat]:
        first = node * self.conditions.per_node
        return self._seats[first : first + self.conditions.per_node]

    def _neighbours(self, seat: _Seat) -> list[_Seat]:
        others = self._of(self._node(seat))
        return [each for each in others if each is not seat and each.trial is not None]
