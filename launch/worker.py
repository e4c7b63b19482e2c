"""What runs inside a Ray actor: one trainer, kept for the actor's life.

The actor is placed first, then told which cores are its own, and only then imports JAX, whose
threads follow the cores that the process may use at that moment.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainers.environment import ALLOCATOR

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


class Worker:
    """Trains children, one at a time."""

    def __init__(self) -> None:
        self._trainer: Any = None

    def place(self) -> str:
        """The node that the actor is on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def set_up(self, assignment: Assignment, data: Dataset, cores: tuple[int, ...] | None) -> str:
        """Pins the process, imports JAX and makes the trainer; returns the device it got.

        Raises:
            RuntimeError: JAX has another backend than asked for.
        """
        if cores is not None:
            os.sched_setaffinity(0, cores)
        import jax

        from trainers.compile_cache import default_folder
        from trainers.parallel import use_cores
        from trainers.trainer import Trainer

        use_cores(assignment.cpus)
        if (found := _backend()) != assignment.platform:
            raise RuntimeError(
                f"the worker was to compute on {assignment.platform}, JAX has {found}"
            )
        self._assignment = assignment
        self._operators = assignment.operators.load()
        self._trainer = Trainer(
            assignment.train,
            data,
            operator_table(self._operators, assignment),
            cache=default_folder(),
        )
        return str(jax.devices()[0].device_kind)

    def train(self, expression: str, *, seed: int, steps: int) -> dict[str, Any]:
        """Scores one candidate; see `trainers.Result.to_dict` for what comes back.

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
