"""What runs inside a Ray actor: one trainer, kept for the actor's life.

The actor is placed first, then told which cores are its own, and only then imports JAX, whose
threads follow the cores that the process may use at that moment.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.environment import ALLOCATOR, tune_xla

from .installation import installation
from .message import Report, Task

if TYPE_CHECKING:
    from spaces import OperatorSource, OperatorTable
    from trainers.config import TrainConfig
    from trainers.dataset import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Everything but the data that a worker needs to know."""

    train: TrainConfig
    """Child, training and data."""
    operators: OperatorSource
    """The operator set as text, because a worker need not have the user's file."""
    core_units: int
    """Core units of the space."""
    baselines: tuple[str, ...]
    """Known functions, by key, whose operators the table holds too."""
    execution: str
    """`traced` or `specialised`."""
    cpus: int
    """Cores of a worker: as many parts does a batch have on a CPU."""
    platform: str
    """JAX backend that the worker must have: `cpu`, `gpu` or `tpu`."""
    devices: int = 1
    """How many devices of that platform it must have at least."""


ENVIRONMENT: Mapping[str, str] = {**ALLOCATOR, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
"""What every worker process starts with."""


def environment(platform: str, gpus: float) -> dict[str, str]:
    """The environment of a worker process.

    Args:
        platform: `cpu`, `gpu` or `tpu`.
        gpus: Its share of a GPU; a fraction bounds the memory it takes of it.
    """
    names = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}
    found = {**ENVIRONMENT, "JAX_PLATFORMS": names[platform]}
    if 0 < gpus < 1:
        share = f"{0.85 * gpus:.3f}"
        found |= {"XLA_CLIENT_MEM_FRACTION": share, "XLA_PYTHON_CLIENT_MEM_FRACTION": share}
    return found


def operator_table(operators: Any, assignment: Assignment) -> OperatorTable:
    """The table that driver and workers agree on."""
    from spaces import OperatorTable, known_function

    return OperatorTable.for_run(
        operators,
        core_units=assignment.core_units,
        extra=[known_function(key).candidate for key in assignment.baselines],
        beta_init=assignment.train.beta_init,
    )


def _backend() -> str:
    """What JAX computes on, or why it cannot where it was told to."""
    import jax

    try:
        return jax.default_backend()
    except RuntimeError as error:
        return f"none ({str(error).partition(' (set JAX_PLATFORMS')[0]})"


@contextlib.contextmanager
def keeping_to(cores: Sequence[int] | None, count: int) -> Iterator[None]:
    """Decides how many threads JAX makes, which is as many as the process may use cores when its
    backend starts.

    On a machine of ours workers stay on cores of their own. Elsewhere they share cores with whatever
    else is there, in a container even with what they cannot see: there only the number of threads
    is held down, and the system decides where they run.

    Args:
        cores: Where to stay, for good; None: anywhere.
        count: Threads, where the process may run anywhere.
    """
    if cores is not None:
        os.sched_setaffinity(0, cores)
        yield
        return
    anywhere = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, anywhere[:count])
    try:
        yield
    finally:
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), anywhere)


class Worker:
    """Trains children, one at a time."""

    def __init__(self) -> None:
        self._trainer: Any = None

    def place(self) -> dict[str, Any]:
        """Where the actor is and which code it has there.

        Returns:
            `node`, Ray's id of it; `host`, its address; `devices`, the numbers there of the
            accelerators that Ray gave it; `code`, its `installation`.
        """
        import ray

        context = ray.get_runtime_context()
        given = context.get_accelerator_ids().items()
        return {
            "node": str(context.get_node_id()),
            "host": ray.util.get_node_ip_address(),
            "devices": ", ".join(f"{kind} {'+'.join(ids)}" for kind, ids in given if ids),
            "code": dict(installation()),
        }

    def check(self, data: Dataset) -> str:
        """The digest of the images as they arrived here; once on each node."""
        return data.compute_digest()

    def set_up(self, assignment: Assignment, data: Dataset, cores: tuple[int, ...] | None) -> str:
        """Pins the process, imports JAX and makes the trainer; returns the device it got.

        Args:
            assignment: What to train, and on what.
            data: The images.
            cores: Where to stay; None: nowhere, with as many threads as cores were asked for.

        Raises:
            RuntimeError: JAX has another backend than asked for, or fewer devices of it.
        """
        tune_xla()
        with keeping_to(cores, assignment.cpus):
            import jax

            from trainers.parallel import use_cores

            use_cores(assignment.cpus)
            if (found := _backend()) != assignment.platform:
                raise RuntimeError(
                    f"the worker was to compute on {assignment.platform}, JAX has {found}"
                )
            if (count := jax.device_count()) < assignment.devices:
                raise RuntimeError(
                    f"the worker was to have {assignment.devices} {assignment.platform} devices, "
                    f"JAX has {count}"
                )
        from trainers.compile_cache import default_folder
        from trainers.trainer import Trainer

        self._assignment = assignment
        self._operators = assignment.operators.load()
        self._trainer = Trainer(
            assignment.train,
            data,
            operator_table(self._operators, assignment),
            cache=default_folder(),
        )
        return str(jax.devices()[0].device_kind)

    def train(self, task: bytes) -> bytes:
        """Trains what a packed `Task` asks for; returns a packed `Report`."""
        asked = Task.unpack(task)
        result = self.score(asked.expression, seed=asked.seed, steps=asked.steps)
        return Report.of(result).pack()

    def score(self, expression: str, *, seed: int, steps: int) -> dict[str, Any]:
        """Trains one candidate; see `trainers.Result.to_dict` for what comes back.

        `elapsed` is the wall-clock of the whole call in seconds, `peak_memory_mb` that of the
        process so far.
        """
        from spaces import parse
        from spaces.catalogue import known_operators

        begin = time.perf_counter()
        everything = known_operators(self._operators).values()
        result = self._trainer.run(
            parse(expression, self._operators, hidden=everything),
            seed=seed,
            steps=steps,
            execution=self._assignment.execution,
        )
        return {
            **result.to_dict(),
            "elapsed": time.perf_counter() - begin,
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
