"""Parts of a driver's work, each measured alone: what `scale.py` charges and multiplies."""

from __future__ import annotations

import itertools
import logging
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from launch.message import Report, Task
from search.outcome import Trial

TASK = Task("mul(x, sigmoid(scale(x)))", seed=0, steps=1).pack()
"""What a worker is told of a trial."""

ANSWER = Report.of({"status": "ok", "accuracy": 0.5, "loss": 1.0}).pack()
"""What it answers at least."""


def examine_table(candidates: int) -> list[dict[str, Any]]:
    """Milliseconds of processor time that a new candidate takes until it is in the journal, looked
    at alone, as for a strategy that learns with few workers, and with 31 others.
    """
    from launch.prepare import prepare_jax

    prepare_jax()
    from search.examine import Examiner
    from search.journal import Journal
    from spaces import PAPER, OperatorTable, SearchSpace

    rows = []
    for units, together in itertools.product((1, 2, 3), (1, 32)):
        space, rng = SearchSpace(PAPER, units), np.random.default_rng(0)
        table = OperatorTable.for_run(PAPER, core_units=units)
        with tempfile.TemporaryDirectory() as folder:
            journal = Journal.create(Path(folder), {})
            examiner = Examiner(PAPER, table, journal)

            def new(
                count: int,
                examiner: Examiner = examiner,
                space: SearchSpace = space,
                rng: np.random.Generator = rng,
                together: int = together,
            ) -> int:
                asked = [space.candidate(space.sample(rng)) for _ in range(count)]
                groups = (asked[n : n + together] for n in range(0, count, together))
                return max(max(examiner.examine(group)) for group in groups)

            with journal.transaction():
                before = new(candidates)  # operators compile
                begin = time.process_time()
                after = new(candidates)
                seconds = time.process_time() - begin
            journal.close()
        new_ones = after - before
        rows.append(
            {
                "core_units": units,
                "together": together,
                "asked": candidates,
                "new": new_ones,
                "ms_a_new_candidate": round(1e3 * seconds / new_ones, 2),
            }
        )
    return rows


def pool_table(counts: Sequence[int]) -> list[dict[str, Any]]:
    """Milliseconds of processor time of the real pool's passes, with a Ray that does nothing."""
    rows = []
    for count in counts:
        ray = IdleRay()
        with ray.installed():
            pool, filling = _opened(ray, count)
            for results in sorted({1, max(1, count // 100)}):
                passes = max(3, 20_000 // (count * results))
                seconds = _passes(pool, ray, passes, results)
                ms = round(1e3 * seconds / passes, 3)
                rows.append(
                    {"workers": count, "results": results, "ms_a_pass": ms, "ms_to_fill": filling}
                )
    return rows


def _opened(ray: IdleRay, count: int) -> tuple[Any, float]:
    """A pool all of whose workers train, and the milliseconds that it took to give them trials."""
    from launch.config import PlacementConfig
    from launch.pool import Pool

    data: Any = SimpleNamespace(digest="images")
    assignment: Any = SimpleNamespace(platform="cpu")
    pool = Pool(count, PlacementConfig(workers=str(count)), assignment, data, None, object)
    while pool.idle < count:
        list(pool.wait(0.0))
    begin = time.process_time()
    _fill(pool)
    filling = round(1e3 * (time.process_time() - begin), 1)
    list(pool.wait(0.0))  # those that were idle for long were asked first
    return pool, filling


def _passes(pool: Any, ray: IdleRay, passes: int, results: int) -> float:
    """Seconds that passes of the loop take."""
    begin = time.process_time()
    for _ in range(passes):
        ray.ready.extend(ray.training[:results])
        del ray.training[:results]
        answers = list(pool.wait(0.0))
        assert len(answers) == results, "the pool handed back something else than was given to it"
        _fill(pool)
    return time.process_time() - begin


def _fill(pool: Any) -> None:
    while pool.idle:
        pool.start(Trial(1, 1, "x", 0, 0, False), seed=0, steps=1)


class IdleRay:
    """As much of Ray as a pool uses; actors answer at once, but those that train."""

    def __init__(self) -> None:
        self.ready: list[_Reference] = []
        self.training: list[_Reference] = []

    def installed(self) -> Any:
        """A context in which `import ray` finds this."""
        from launch.installation import installation

        place = {"node": "n", "host": "h", "devices": "", "code": dict(installation())}
        actor = SimpleNamespace(
            place=self._answering(place),
            check=self._answering("images"),
            set_up=self._answering("cpu"),
            train=self._answering(ANSWER, self.training),
        )
        remote = SimpleNamespace(remote=lambda: actor)
        errors = ModuleType("ray.exceptions")
        vars(errors).update(RayError=_RayError, RayTaskError=_RayTaskError)
        ray = ModuleType("ray")
        vars(ray).update(
            exceptions=errors,
            put=lambda value: value,
            get=lambda references: [each.value for each in references],
            kill=lambda actor: None,
            wait=self._wait,
            remote=lambda kind: SimpleNamespace(options=lambda **_: remote),
        )
        return mock.patch.dict(sys.modules, {"ray": ray, "ray.exceptions": errors})

    def _answering(self, value: Any, when: list[_Reference] | None = None) -> Any:
        def remote(*_: Any, **__: Any) -> _Reference:
            reference = _Reference(value)
            (self.ready if when is None else when).append(reference)
            return reference

        return SimpleNamespace(remote=remote)

    def _wait(self, references: list[Any], *, num_returns: int, timeout: float) -> Any:
        found, self.ready = self.ready, []
        return found, []


class _Reference:
    def __init__(self, value: Any) -> None:
        self.value = value


class _RayError(Exception):
    pass


class _RayTaskError(_RayError):
    pass


def ray_table(counts: Sequence[int]) -> list[dict[str, Any]]:
    """Milliseconds of the driver's processor time that Ray takes, with so many calls pending."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        object_store_memory=100 * 2**20,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )

    class Actor:
        def sleep(self, seconds: float) -> None:
            time.sleep(seconds)

        def answer(self, *_: Any) -> bytes:
            return ANSWER

    kind: Any = ray.remote(Actor)
    idle, at_work = (kind.options(num_cpus=1, enable_task_events=False).remote() for _ in range(2))
    ray.get([idle.answer.remote(), at_work.answer.remote()])
    at_work.sleep.remote(1e6)
    rows = []
    for count in counts:
        pending = [at_work.answer.remote() for _ in range(count)]
        time.sleep(1.0)

        def look(pending: list[Any] = pending) -> None:
            ray.wait(pending, num_returns=len(pending), timeout=0)

        def trial(pending: list[Any] = pending) -> None:
            own = idle.answer.remote(TASK)
            ray.wait([own, *pending], num_returns=1, timeout=60)
            ray.get(own)

        rows.append(
            {
                "pending": count,
                "ms_a_look": _ms(look, 20),
                "ms_a_call_with_its_wait_and_answer": _ms(trial, 50),
            }
        )
    begin = time.process_time()
    waiting = [kind.options(num_cpus=1e4).remote() for _ in range(200)]
    rows.append({"actors_asked_for": 200, "ms_an_actor": _since(begin, 200)})
    for actor in waiting:
        ray.kill(actor)
    ray.shutdown()
    return rows


def _ms(call: Callable[[], None], times: int) -> float:
    call()
    begin = time.process_time()
    for _ in range(times):
        call()
    return _since(begin, times)


def _since(begin: float, times: int) -> float:
    return round(1e3 * (time.process_time() - begin) / times, 3)


def sizes_table(per_node: int) -> list[dict[str, Any]]:
    """Bytes of what goes over the network, as Ray pickles it, without Ray's own protocol."""
    from scale import result_of

    from launch.config import Science, SpaceConfig
    from launch.installation import installation
    from launch.worker import Assignment
    from spaces import read_source
    from trainers.cifar import CIFAR10
    from trainers.config import TrainConfig

    science = Science(space=SpaceConfig(core_units=2), train=TrainConfig(dataset="cifar10"))
    assignment = Assignment(
        train=science.train,
        operators=read_source("paper"),
        core_units=2,
        baselines=science.search.baseline_keys,
        execution="traced",
        cpus=1,
        platform="cpu",
    )
    expression = "u1 = mul(scale(x), sigmoid(shift(x))); add(tanh(u1), max(x, scale(u1)))"
    plain, long = (result_of(Trial(1, 1, text, 0, 0, False), 60.0) for text in ("x", expression))
    labels = CIFAR10.examples * np.dtype(np.int32).itemsize
    things: Iterable[tuple[str, str, int]] = (
        ("images of CIFAR-10, 32 pixels", "node", CIFAR10.examples * 32 * 32 * 3 + labels),
        ("images of CIFAR-10, 16 pixels", "node", CIFAR10.examples * 16 * 16 * 3 + labels),
        ("where it is and its code", "worker", len(pickle.dumps(dict(installation())))),
        ("assignment", "worker", len(pickle.dumps(assignment))),
        ("call", "trial", len(Task(expression, 0, 10_000).pack())),
        ("result without β", "trial", len(Report.of(plain).pack())),
        ("result of a ResNet-20 with three β", "trial", len(Report.of(long).pack())),
    )
    return [{"what": what, "once_a": often, "bytes": size} for what, often, size in things]
