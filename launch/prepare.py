"""What a driver needs before its first trial: images, a planner, and what workers are to do."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from spaces import SearchSpace, known_function
from trainers.processor import processor_kind

from .config import FORMS, Rung
from .errors import RequestError
from .execution import choose_execution
from .run import Run
from .worker import Assignment, keeping_to, operator_table

if TYPE_CHECKING:
    from search.planner import Planner
    from search.strategy import Strategy
    from trainers.dataset import Dataset

    from .config import PlacementConfig, Science

WINDOW_PER_WORKER = 3
"""With a smaller window for each worker they wait for the order of rewards (docs/scale.md)."""


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
    """The driver computes on the CPU, in steps so short that handing one to another thread costs more
    than the step: a look at a candidate takes a fifth less of the processor with one.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    # JAX may have computed when Ray's processes are started; they replace themselves at once.
    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    with keeping_to(None, count=1):
        jax.devices()


def make_assignment(run: Run, data: Dataset) -> tuple[Assignment, str]:
    """What the workers of a run are to do, and why they execute candidates as they do."""
    science, placement = run.science, run.placement
    execution, reason = _execution(run, image_size=data.train.images.shape[1])
    devices = placement.custom_resources.get("TPU", placement.gpus_per_worker)
    assignment = Assignment(
        train=science.train,
        operators=run.operators,
        core_units=science.space.core_units,
        baselines=science.search.baseline_keys,
        execution=execution,
        cpus=placement.cpus_per_worker,
        platform=placement.platform,
        devices=max(1, int(devices)),
    )
    return assignment, reason


def _execution(run: Run, *, image_size: int) -> tuple[str, str]:
    """The form of execution and the reason for it, which are those of the run's first sitting."""
    for _, begun in run.journal.sittings():
        if begun.get("execution") in FORMS:
            return begun["execution"], str(begun.get("reason", ""))
    from trainers.linked_form import linkable

    return choose_execution(
        run.science.search.execution,
        run.science.train,
        core_units=run.science.space.core_units,
        image_size=image_size,
        processor=processor_kind(),
        linked=run.placement.platform == "cpu" and linkable(),
    )


def make_planner(run: Run, assignment: Assignment, *, chance: float) -> Planner:
    """The planner of a run, with everything that its journal has."""
    from search.planner import Plan, Planner
    from trainers.compile_cache import kept_programs

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
    table = operator_table(operators, assignment)
    with kept_programs(_kept(), most=1000):
        strategy = science.strategy_config().build(space)
        _rehearse(strategy)
        return Planner(plan, space, table, strategy, baselines, run.journal)


def _rehearse(strategy: Strategy) -> None:
    """Has a strategy ask and learn once, while its programs are kept and workers are only starting.

    Its methods are pure: nothing stays of it but what was compiled.
    """
    state = strategy.init(seed=0)
    for _ in range(strategy.checkpoint_every):
        state, proposal = strategy.ask(state)
        if proposal is None:
            return
        state = strategy.tell(state, proposal, 0.0)


@contextmanager
def operators_at_hand() -> Iterator[Callable[[], None]]:
    """Within it, programs that look at this project's operators are those that earlier drivers kept.

    Yields:
        A function that keeps what has been compiled so far; what is compiled later is kept at the end.
    """
    from spaces.interpreter import keeping_programs
    from trainers.compile_cache import default_folder
    from trainers.ready_programs import ReadyShelf, program_name

    shelf = ReadyShelf(default_folder(), program_name("operators"))
    with keeping_programs(shelf):
        try:
            yield shelf.write
        finally:
            shelf.write()


def _kept() -> Path | None:
    """Where the driver's other programs are kept: the strategy's, and those of other operators."""
    from trainers.compile_cache import default_folder

    folder = default_folder()
    return None if folder is None else folder / "driver"


def check_same_data(run: Run, data: Dataset) -> None:
    """Notes which images a run is made with, or compares them with those that it was begun with.

    Raises:
        RequestError: They are others.
    """
    known = run.journal.meta("data_sha256")
    if known is None:
        with run.journal.transaction():
            run.journal.put_meta("data_sha256", data.digest)
    elif known != data.digest:
        raise RequestError(
            f"`data_dir`: the images of {data.name} are not those that {run.folder} was made with "
            f"(SHA-256 {data.digest[:12]}…, there {known[:12]}…)"
        )


def narrow_window(science: Science, workers: int) -> str:
    """What to say of a window that keeps workers waiting; empty where it does not."""
    window, each = science.search.window, science.search.ladder(science.train.steps)[0].replicates
    if window * each >= WINDOW_PER_WORKER * workers:
        return ""
    return (
        f"{workers} workers will wait for each other's rewards: this run's window is {window}; a new "
        f"run with --window {-(-4 * workers // each)} keeps them busy"
    )
