"""Measures what this machine does with a child network: steps, compilations, candidates an hour.

Random candidates train the child in both forms, one after the other, in this process, as a worker
of a search would. The learning rate is lowered so far that hardly anything diverges and stops
early; nothing else differs from a search.

Letters: U core units.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .breakdown import Span, kinds_of, shares, traced_spans
from .config import TrainConfig
from .floor import floor, measure_rates, training_work
from .memory import peak_memory_mib
from .processor import processor_name
from .timing import FORMS, BenchError, random_candidates, steps_at_a_time, summary, time_candidates

if TYPE_CHECKING:
    from spaces import Candidate

    from .dataset import Dataset
    from .trainer import Trainer

_LEARNING_RATE = 1e-4
_PROFILED_STEPS = 20
_PROFILED_S = 4.0
"""Steps that are traced at most, and about how long that may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """What is to be measured.

    Raises:
        ValueError: A field is out of its range.
    """

    train: TrainConfig
    """The child and its training."""
    operators: str = "paper"
    """Operator set, as `spaces.read_source` has it."""
    core_units: int = 1
    """U."""
    baselines: tuple[str, ...] = ()
    """Known functions, by key, whose operators the traced form dispatches to as well."""
    execution: str | None = None
    """The form that headlines; None takes the one that does more candidates an hour."""
    candidates: int = 5
    """How many candidates are timed, if the time suffices."""
    seconds: float = 60.0
    """About how long to measure; one candidate is timed in any case."""
    seed: int = 0
    """Decides candidates, weights, batches and the split of the data."""
    data_dir: Path | None = None
    """Folder with the data set's official files."""
    driver: str | None = None
    """`loop` or `scan`; None takes what suits the backend."""

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"`candidates` must be ≥ 1, got {self.candidates}")
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"`seconds` must be > 0, got {self.seconds}")
        if self.execution is not None and self.execution not in FORMS:
            raise ValueError(
                f"`execution` must be one of {', '.join(FORMS)}, got {self.execution!r}"
            )


def bench(request: BenchRequest) -> dict[str, Any]:
    """Measures, and returns a document of plain data.

    Raises:
        ValueError: The request is wrong, or the data cannot be had.
        trainers.timing.BenchError: Nothing could be measured.
    """
    from spaces import OperatorTable, SearchSpace, known_function, read_source

    from .dataset import load_dataset
    from .trainer import Trainer

    begin = time.perf_counter()
    machine = _machine()
    operators = read_source(request.operators).load()
    space = SearchSpace(operators, request.core_units)
    data = load_dataset(
        request.train.dataset,
        data_dir=request.data_dir,
        image_size=request.train.image_size,
        valid_size=request.train.valid_size,
        seed=request.seed,
    )
    table = OperatorTable.for_run(
        operators,
        core_units=request.core_units,
        extra=[known_function(key).candidate for key in request.baselines],
        beta_init=request.train.beta_init,
    )
    less, evaluations = _less_to_evaluate(data, request.train)
    config = dataclasses.replace(request.train, lr=_LEARNING_RATE)
    trainer = Trainer(config, less, table, driver=request.driver)  # type: ignore[arg-type]  # checked there
    candidates = random_candidates(operators, space.core_units, table, seed=request.seed)
    measured = time_candidates(
        trainer,
        candidates,
        count=request.candidates,
        seed=request.seed,
        seconds=request.seconds,
        deadline=begin + request.seconds,
    )
    peak = peak_memory_mib()
    document = {
        **machine,
        "config": dataclasses.asdict(request.train),
        "operators": request.operators,
        "core_units": request.core_units,
        "driver": trainer.driver,
        "candidates": len(measured.timings),
        "timed_steps": measured.steps,
        **summary(
            measured.timings,
            request.train,
            measured.traced_compile_s,
            evaluations=evaluations,
            execution=request.execution,
        ),
        "peak_memory_mb": peak,
        "device_peak_memory_mb": _device_peak_mib(),
    }
    work = training_work(
        request.train,
        image_size=data.train.images.shape[1],
        channels=data.train.images.shape[-1],
        num_classes=data.num_classes,
    )
    found = floor(work, measure_rates(config.precision, kept_bytes=work.kept_bytes))
    fit = int(1e3 * _PROFILED_S / document["step_ms"])
    where, reason = _where(
        trainer,
        measured.last,
        document["form"],
        seed=request.seed,
        steps=max(min(fit, _PROFILED_STEPS), 2, steps_at_a_time(trainer)),
    )
    saved = document["forms"]["traced"]["step_ms"] - document["forms"]["specialised"]["step_ms"]
    return document | {
        "floor_ms": found["floor_ms"],
        "floor": found,
        "saved_ns_per_element": 1e6 * saved / work.activation_elements,
        "where": where,
        "where_not_measured": reason,
        "seconds": time.perf_counter() - begin,
    }


def _less_to_evaluate(data: Dataset, config: TrainConfig) -> tuple[Dataset, float]:
    """The data with two evaluation batches at most, and how many times that the whole split is."""
    from .dataset import Split
    from .loop import EVALUATION_BATCH

    batch = max(EVALUATION_BATCH, config.batch_size)
    whole = len(data.valid.labels)
    if whole <= 2 * batch:
        return data, 1.0
    kept = Split(data.valid.images[: 2 * batch], data.valid.labels[: 2 * batch])
    return dataclasses.replace(data, valid=kept), -(-whole // batch) / 2


def _where(
    trainer: Trainer,
    candidate: Candidate,
    form: str,
    *,
    seed: int,
    steps: int,
) -> tuple[dict[str, float] | None, str | None]:
    """Shares of a step's time by kind of work, or None and the reason why there are none."""
    import jax
    import numpy as np

    from .loop import History, Stage
    from .trainer import Clock

    spans: list[Span] = []
    try:
        with contextlib.closing(trainer._stages(candidate, form, steps + 1, Clock())) as stages:
            compiled, program, first = next(stages)
            if first <= steps:
                compiled, program, _ = next(stages)  # of the steps that are most
            text: str = compiled.train.as_text()  # type: ignore[attr-defined]  # JAX's, and so it has
            beta = np.asarray(compiled.initial(program))
            state = trainer._driver.begin(compiled.functions, beta, seed=seed)
            with traced_spans(spans, text):
                begin = time.perf_counter_ns()
                stage = Stage(compiled, program, steps)
                state, _ = trainer._driver.train(
                    [stage], state, seed=seed, total=steps, history=History()
                )
                jax.block_until_ready(state)
                wall_ns = time.perf_counter_ns() - begin
        return shares(spans, kinds_of(text), wall_ns=wall_ns), None
    except Exception as error:  # whatever a profiler lacks here, the other figures stand
        lines = str(error).strip().splitlines()
        return None, lines[0] if lines else type(error).__name__


def _machine() -> dict[str, Any]:
    import jax

    try:
        device = jax.devices()[0]
    except (RuntimeError, AssertionError) as error:  # JAX raises either
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise BenchError(f"JAX has no device of JAX_PLATFORMS={asked!r} here") from error
    return {
        "backend": jax.default_backend(),
        "device": processor_name() if device.platform == "cpu" else str(device.device_kind),
        "devices": len(jax.devices()),
        "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "jax": jax.__version__,
        "processes": 1,
    }


def _device_peak_mib() -> float | None:
    """The most memory that was held on an accelerator, where it tells."""
    import jax

    found = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return None if found is None else round(found / 2**20, 1)
