"""Scores candidates: trains the child network with each and evaluates it on validation images.

A Trainer lives as long as its process and keeps what candidates share: the images, their
statistics, and the compiled programs. For the traced form one set of programs serves every
candidate; a specialised program serves one trial and is dropped after it.

Method: Ramachandran, Zoph, Le, arXiv 1710.05941, section 3: a candidate's reward is the
validation accuracy of a child network trained with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np

from spaces import Candidate, OperatorTable, SpecialisedForm, TracedForm

from .augment import channel_statistics
from .candidate_code import CandidateCode, block_for
from .config import TrainConfig
from .fused_code import fuses_after
from .linked_form import LinkedForm, LinkedProgram, linked, links
from .loop import DRIVERS, Compiled, History, Stage, driver_for, shapes
from .machine_code import CodeError
from .operator_code import OperatorCodes
from .ready_programs import ready_programs, traced_programs, trainer_name
from .resnet import Child
from .result import BetaSummary, Result, Seconds, curve
from .step import StepFunctions

if TYPE_CHECKING:
    from .dataset import Dataset
    from .resnet import Form, Variables

EXECUTIONS = ("traced", "specialised")
"""Forms in which a candidate may run."""


class _DivergedError(Exception):
    """A loss or a trainable vector was not finite; the message says where."""


class Clock:
    """Seconds spent in each part of a trial."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {field.name: 0.0 for field in dataclasses.fields(Seconds)}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Adds what passes within the context to a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(part, time.perf_counter() - start)

    def add(self, part: str, seconds: float) -> None:
        """Adds seconds to a part."""
        self._seconds[part] += seconds

    def read(self) -> Seconds:
        """What has been added so far."""
        return Seconds(**self._seconds)


class Trainer:
    """Scores candidates of one operator table with one child on one data set.

    Args:
        config: Child, training and data.
        data: The images; they may lie in shared memory, are only read and never copied as a
            whole, except onto an accelerator.
        table: Which operators a traced program can dispatch to.
        driver: `loop` or `scan` (see `trainers.loop`); None takes what suits the JAX backend.
        cache: Where the traced programs are kept between processes (see `trainers.ready_programs`);
            None keeps nothing.

    Raises:
        ValueError: The driver is unknown, or a batch is larger than the training set.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: Dataset,
        table: OperatorTable,
        *,
        driver: Literal["loop", "scan"] | None = None,
        cache: Path | None = None,
    ) -> None:
        name = driver_for(jax.default_backend()) if driver is None else driver
        if name not in DRIVERS:
            raise ValueError(f"`driver` must be one of {', '.join(DRIVERS)}, got {driver!r}")
        size = len(data.train.labels)
        if config.batch_size > size:
            raise ValueError(
                f"`batch_size` must be ≤ {size}, the number of training images, "
                f"got {config.batch_size}"
            )
        if not len(data.valid.labels):
            raise ValueError("`data` must hold validation images, got none")
        self.config = config
        self.driver: str = name
        self.compilations: int = 0
        """Training programs compiled so far: one for all traced candidates, and one for each
        specialised one."""
        self._data = data
        self._table = table
        self._driver = DRIVERS[name](data, config)
        self._mean, self._deviation = channel_statistics(data.train.images)
        self._kept: dict[type, Compiled] = {}
        self.links: bool = name == "loop" and links()
        """Whether the traced form calls candidates' machine code, see `trainers.linked_form`."""
        self.fuses_after: Callable[[int], int] = functools.partial(
            fuses_after, config, data.train.images.shape[1]
        )
        """Of a training's steps, how many are done before the linked candidate is compiled by itself."""
        self._block = block_for([config.width * 2**stage for stage in range(3)])
        self._operators = OperatorCodes(table, self._block, cache)
        self._cache = cache

    def compile_operators(self) -> None:
        """Compiles the operators that candidates are linked from, which each does otherwise when it comes first.

        Raises:
            OSError: The system gives no memory that may be executed.
        """
        if self.links:
            self._operators.compile_all()

    def run(
        self,
        candidate: Candidate,
        *,
        seed: int,
        steps: int | None = None,
        execution: Literal["traced", "specialised"] = "traced",
    ) -> Result:
        """Trains the child with a candidate and evaluates it.

        Args:
            candidate: The activation function.
            seed: Decides initial weights, order of batches and augmentation, and nothing else
                does: equal seeds give candidates equal conditions. 0 … 2³² - 1.
            steps: Training steps; None takes the configuration's. No number recompiles.
            execution: `traced` or `specialised`, see `spaces`.

        Returns:
            The result. A child that diverges, and a machine without enough memory for it, are
            results too, with their reason.

        Raises:
            ValueError: An argument is out of its range.
        """
        total = self.config.steps if steps is None else steps
        if isinstance(total, bool) or not isinstance(total, int) or not 1 <= total < 2**31:
            raise ValueError(f"`steps` must be an integer ≥ 1, got {total!r}")
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ValueError(f"`seed` must be an integer, 0 ≤ seed < 2³², got {seed!r}")
        if execution not in EXECUTIONS:
            raise ValueError(f"`execution` must be traced or specialised, got {execution!r}")
        clock, history, before = Clock(), History(), self.compilations
        result = Result(status="ok")
        try:
            result = self._score(candidate, seed, total, execution, clock, history)
        except _DivergedError as diverged:
            result = Result(status="diverged", reason=str(diverged))
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if (reason := lack_of_memory(error)) is None:
                raise
            result = Result(status="failed", reason=reason)
        return dataclasses.replace(
            result,
            curve=curve(history.losses, history.accuracies, total),
            steps=len(history.losses),
            seconds=clock.read(),
            compilations=self.compilations - before,
        )

    def _score(
        self,
        candidate: Candidate,
        seed: int,
        total: int,
        execution: str,
        clock: Clock,
        history: History,
    ) -> Result:
        stages = self._stages(candidate, execution, total, clock)
        with contextlib.closing(stages):
            first = next(stages)
            with clock("start"):
                beta = np.asarray(first.compiled.initial(first.program))
                state = self._driver.begin(first.compiled.functions, beta, seed=seed)
                jax.block_until_ready(state)
            with clock("train"):
                begin = time.perf_counter()
                state, last = self._driver.train(
                    itertools.chain([first], stages),
                    state,
                    seed=seed,
                    total=total,
                    history=history,
                )
            clock.add("first", history.first - begin)
            if history.diverged:
                step = len(history.losses)
                raise _DivergedError(f"loss became {history.losses[-1]} at step {step}")
            with clock("evaluate"):
                loss, accuracy = self._driver.evaluate(last.compiled, state, last.program)
        if not math.isfinite(loss):
            raise _DivergedError(f"validation loss became {loss}")
        functions = first.compiled.functions
        beta = _beta(functions.child, self._driver.variables(functions, state), candidate)
        return Result(status="ok", accuracy=accuracy, loss=loss, beta=beta)

    def _stages(
        self, candidate: Candidate, execution: str, total: int, clock: Clock
    ) -> Generator[Stage, None, None]:
        """The parts of a candidate's training; the last one's programs are of use until it is closed."""
        program = self._table.program(candidate)
        with contextlib.ExitStack() as meanwhile:
            with clock("compile"):
                code = self._code(candidate) if execution == "traced" else None
                if code is not None:
                    program = LinkedProgram(program, meanwhile.enter_context(linked(code)))
                    compiled = self._for_all(LinkedForm(self._table, self._block), program)
                elif execution == "traced":
                    compiled = self._for_all(TracedForm(self._table), program)
                else:
                    form = SpecialisedForm(self._table, candidate)
                    compiled = self._driver.compile(self._functions(form), shapes(program))
                    self.compilations += 1
            after = total if code is None else self.fuses_after(total)
            yield Stage(compiled, self._driver.put(program), after)
            if after == total:
                return
            begin = time.perf_counter()
            with contextlib.suppress(CodeError, OSError):  # then it goes on as it is
                code = self._operators.fused(candidate)
                program = program._replace(number=meanwhile.enter_context(linked(code)))
            seconds = time.perf_counter() - begin
            clock.add("compile", seconds)
            clock.add("train", -seconds)
            yield Stage(compiled, self._driver.put(program), total - after)

    def _code(self, candidate: Candidate) -> CandidateCode | None:
        """A candidate's machine code, where there is such."""
        if self.links:
            with contextlib.suppress(CodeError, OSError):
                return self._operators.code(candidate)
        return None

    def _for_all(self, form: TracedForm | LinkedForm, program: Any) -> Compiled:
        """The programs that serve every candidate, compiled once for each kind of form."""
        kind = type(form)
        if kind not in self._kept:
            functions = self._functions(form)
            # Nobody has tried yet whether an accelerator's programs can be kept whole.
            known = kind is LinkedForm or self._table.built_in
            keep = ready_programs if known and jax.default_backend() == "cpu" else traced_programs
            programs = keep(
                self._cache,
                self._name(kind.__name__),
                lambda: self._driver.compile(functions, shapes(program))[1:],
            )
            self.compilations += 1
            self._kept[kind] = Compiled(functions, *programs)
        return self._kept[kind]

    def _name(self, kind: str) -> str:
        """Tells the traced programs apart from those of other trainers."""
        data = self._data
        sizes = kind, *self._driver.sizes, data.num_classes, data.mirror
        return trainer_name(self.config, self._table, (self._mean, self._deviation), sizes)

    def _functions(self, form: Form) -> StepFunctions:
        data, config = self._data, self.config
        child = Child(
            config.child,
            width=config.width,
            channels=data.train.images.shape[-1],
            num_classes=data.num_classes,
            form=form,
            precision=config.precision,
        )
        return StepFunctions(config, child, self._mean, self._deviation, data.mirror)


def lack_of_memory(error: Exception) -> str | None:
    """What to say of an error that there is too little memory; None of any other."""
    if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
        return None
    return f"out of memory: {(str(error).strip() or type(error).__name__).splitlines()[0]}"


def _beta(child: Child, variables: Variables, candidate: Candidate) -> tuple[BetaSummary, ...]:
    """What training made of a candidate's vectors.

    Raises:
        _DivergedError: One is not finite. The loss may be, as that of σ(βx) is, but this is no
            function that anyone could take away.
    """
    layers = child.activation_layers(variables.beta)
    found = []
    for layer, values in layers.items():
        for occurrence in child.form.occurrences(candidate):
            vector = values[occurrence.slot, occurrence.vector].astype(np.float64)
            lost = vector[~np.isfinite(vector)]
            if lost.size:
                raise _DivergedError(
                    f"{occurrence.param} of {occurrence.operator} in {layer} became {lost[0]}"
                )
            found.append(
                BetaSummary(
                    layer=layer,
                    operator=occurrence.operator,
                    param=occurrence.param,
                    slot=occurrence.slot,
                    mean=float(vector.mean()),
                    std=float(vector.std()),
                    min=float(vector.min()),
                    max=float(vector.max()),
                )
            )
    return tuple(found)
