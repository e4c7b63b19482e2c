"""Two drivers of the one step function: a Python loop for CPUs, a scan for accelerators.

On a CPU, XLA's convolution gradients lose their fast path inside `lax.scan` (jax#12868; 134 ms
became 3,600 ms), and a batch is gathered on the host from arrays which all workers of a machine
share. On an accelerator a step is too short to be started from Python one by one, so many run in
one program, which gathers their batches from images that lie on the device.

Both see the same batches and the same augmentation, whatever the seed.

Letters: N images, B batch, E evaluation batch, K steps of a chunk, H W C image.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .batches import batch_indices, padded_batches
from .parallel import BatchLayout
from .step import StepFunctions, TrainState

if TYPE_CHECKING:
    from .config import TrainConfig
    from .dataset import Dataset, Split
    from .resnet import Variables

CHUNK = 50
"""Steps of one scan: many for one call from Python, few to waste once a child has diverged."""

EVALUATION_BATCH = 256
"""Images of an evaluation batch, or the training batch if that is larger."""


@dataclass(slots=True)
class History:
    """Losses and accuracies of the steps done, up to the first loss that is not finite."""

    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    first: float = 0.0
    """When the first of them came back, as `time.perf_counter` has it."""

    def add(self, metrics: np.ndarray) -> None:
        """Appends float32 [2], unless the training has diverged already."""
        self.first = self.first or time.perf_counter()
        if not self.diverged:
            self.losses.append(float(metrics[0]))
            self.accuracies.append(float(metrics[1]))

    @property
    def diverged(self) -> bool:
        """Whether the last loss is not finite."""
        return bool(self.losses) and not math.isfinite(self.losses[-1])


class Compiled(NamedTuple):
    """The programs of one form: all candidates for the traced form, one for a specialised one."""

    functions: StepFunctions
    initial: Callable[..., Any]
    train: Callable[..., Any]
    evaluate: Callable[..., Any]


class Stage(NamedTuple):
    """A part of a training: so many steps with the same programs.

    Programs of one candidate may differ in how they compute it, not in their state.
    """

    compiled: Compiled
    program: Any
    """The candidate, as these programs are given it, where `put` has put it."""
    steps: int


def shapes(tree: Any) -> Any:
    """Shapes and dtypes of a tree of arrays, for lowering."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), tree)


_SEED = jax.ShapeDtypeStruct((), jnp.uint32)
_COUNT = jax.ShapeDtypeStruct((), jnp.int32)


class LoopDriver:
    """A jitted step in a Python loop; batches are gathered on the host.

    Args:
        data: The images; they are only read, and never copied as a whole.
        config: How to train.
    """

    def __init__(self, data: Dataset, config: TrainConfig) -> None:
        self._data = data
        self._batch_size = config.batch_size
        self._layout = BatchLayout.over(jax.devices(), config.batch_size)
        whole = _evaluation_batch(data, config)
        self._evaluation_batch = max(whole // self._layout.parts, 1) * self._layout.parts

    def put(self, tree: Any) -> Any:
        """Arrays on the devices, as `train` and `evaluate` expect a program."""
        return jax.device_put(tree, self._layout.everywhere)

    def begin(self, functions: StepFunctions, beta: np.ndarray, *, seed: int) -> Any:
        """The state before the first step, as `train` expects it, see `StepFunctions.begin`."""
        return self.put(functions.packing.pack(functions.begin(beta, seed=seed)))

    def variables(self, functions: StepFunctions, state: Any) -> Variables:
        """The variables in a state, on the host."""
        return functions.packing.unpack(np.asarray(state)).variables

    def _batch_shapes(self, size: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        image = self._data.train.images.shape[1:]
        return (
            jax.ShapeDtypeStruct((size, *image), jnp.uint8),
            jax.ShapeDtypeStruct((size,), jnp.int32),
        )

    @property
    def sizes(self) -> tuple[Any, ...]:
        """Of what a program has of the data and the devices; equal sizes, equal programs."""
        image = self._data.train.images.shape[1:]
        return "loop", image, self._batch_size, self._evaluation_batch, self._layout.parts

    def compile(self, functions: StepFunctions, program: Any) -> Compiled:
        """Compiles the programs for a form.

        Args:
            functions: What to compile.
            program: Shapes of a candidate's program.
        """
        packing = functions.packing
        _, all_, split = self._layout

        def train(state: jax.Array, *others: Any) -> tuple[jax.Array, jax.Array]:
            after, metrics = functions.train(packing.unpack(state), *others)
            return packing.traced(after), metrics

        def evaluate(state: jax.Array, *others: Any) -> jax.Array:
            return functions.evaluate(packing.unpack(state).variables, *others)

        return Compiled(
            functions,
            jax.jit(functions.child.form.initial, in_shardings=all_).lower(program).compile(),
            jax.jit(
                train,
                donate_argnums=0,
                in_shardings=(all_, split, split, all_, all_, all_, all_),
                out_shardings=all_,
            )
            .lower(
                packing.shape,
                *self._batch_shapes(self._batch_size),
                program,
                _SEED,
                _COUNT,
                _COUNT,
            )
            .compile(),
            jax.jit(
                evaluate,
                in_shardings=(all_, split, split, split, all_),
                out_shardings=all_,
            )
            .lower(
                packing.shape,
                *self._batch_shapes(self._evaluation_batch),
                jax.ShapeDtypeStruct((self._evaluation_batch,), jnp.bool),
                program,
            )
            .compile(),
        )

    def train(
        self,
        stages: Iterable[Stage],
        state: Any,
        *,
        seed: int,
        total: int,
        history: History,
    ) -> tuple[Any, Stage]:
        """Trains from `state`, which is used up.

        A loss is looked at when the step after it has been started, so that the device never
        waits for Python.

        Args:
            stages: The parts of the training, one after the other; one is asked for when the last step
                of that before has been started, unless the training has diverged.
            state: The state before the first step.
            seed: Decides batches and augmentation.
            total: Steps to do, of all stages.
            history: Is written step by step; if it has diverged at the end, the state is no use.

        Returns:
            The state after the last step, and the stage that this was in.
        """
        images, labels = self._data.train.images, self._data.train.labels
        batches = batch_indices(len(labels), batch_size=self._batch_size, seed=seed)
        parts = iter(stages)
        stage, pending = next(parts), None
        end = stage.steps
        for step in range(total):
            if step == end:
                stage = next(parts)
                end += stage.steps
            batch = next(batches)
            state, metrics = stage.compiled.train(
                state,
                images[batch],
                labels[batch],
                stage.program,
                np.uint32(seed),
                np.int32(step),
                np.int32(total),
            )
            if pending is not None:
                history.add(np.asarray(pending))
                if history.diverged:
                    # Nobody would know of a step that goes on, see `trainers.foreign`.
                    return jax.block_until_ready(state), stage
            pending = metrics
        history.add(np.asarray(pending))
        return state, stage

    def evaluate(self, compiled: Compiled, state: Any, program: Any) -> tuple[float, float]:
        """Mean cross-entropy and accuracy on the validation split."""
        sums = [
            compiled.evaluate(state, *batch, program)
            for batch in padded_batches(self._data.valid, self._evaluation_batch)
        ]
        return _mean(np.stack([np.asarray(each) for each in sums]), self._data.valid)


class ScanDriver:
    """Chunks of steps in one program; images and labels lie on the device, one of them.

    Args:
        data: The images, sent to the device once.
        config: How to train.
    """

    def __init__(self, data: Dataset, config: TrainConfig) -> None:
        self._data = data
        self._batch_size = config.batch_size
        self._chunk = min(CHUNK, config.steps)
        batches = padded_batches(data.valid, _evaluation_batch(data, config))
        valid = tuple(map(np.stack, zip(*batches, strict=True)))
        self._train = jax.device_put((data.train.images, data.train.labels))
        self._valid = jax.device_put(valid)

    def put(self, tree: Any) -> Any:
        """Arrays on the device, see `LoopDriver.put`."""
        return jax.device_put(tree)

    def begin(self, functions: StepFunctions, beta: np.ndarray, *, seed: int) -> Any:
        """The state before the first step, see `LoopDriver.begin`."""
        return self.put(jax.tree.map(np.array, functions.begin(beta, seed=seed)))

    def variables(self, functions: StepFunctions, state: Any) -> Variables:
        """The variables in a state, on the host."""
        return jax.device_get(state.variables)

    @property
    def sizes(self) -> tuple[Any, ...]:
        """Of what a program has of the data, see `LoopDriver.sizes`."""
        arrays = (each.shape for each in (*self._train, *self._valid))
        return "scan", self._batch_size, self._chunk, *arrays

    def compile(self, functions: StepFunctions, program: Any) -> Compiled:
        """Compiles the programs for a form, see `LoopDriver.compile`."""

        def chunk(
            state: TrainState,
            images: jax.Array,
            labels: jax.Array,
            batches: jax.Array,
            program: Any,
            seed: jax.Array,
            first: jax.Array,
            total: jax.Array,
        ) -> tuple[TrainState, jax.Array]:
            def body(state: TrainState, step_and_batch: Any) -> tuple[TrainState, jax.Array]:
                step, batch = step_and_batch
                after, metrics = functions.train(
                    state, images[batch], labels[batch], program, seed, step, total
                )
                # The last chunk may be longer than what is left to do.
                kept = jax.tree.map(
                    lambda new, old: jnp.where(step < total, new, old), after, state
                )
                return kept, metrics

            steps = first + jnp.arange(self._chunk, dtype=jnp.int32)
            return jax.lax.scan(body, state, (steps, batches))

        def evaluate(
            variables: Variables,
            images: jax.Array,
            labels: jax.Array,
            counted: jax.Array,
            program: Any,
        ) -> jax.Array:
            def body(batch: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
                images, labels, counted = batch
                return functions.evaluate(variables, images, labels, counted, program)

            return jax.lax.map(body, (images, labels, counted))

        state = functions.shapes
        batches = jax.ShapeDtypeStruct((self._chunk, self._batch_size), jnp.int32)
        return Compiled(
            functions,
            jax.jit(functions.child.form.initial).lower(program).compile(),
            jax.jit(chunk, donate_argnums=0)
            .lower(state, *shapes(self._train), batches, program, _SEED, _COUNT, _COUNT)
            .compile(),
            jax.jit(evaluate).lower(state.variables, *shapes(self._valid), program).compile(),
        )

    def train(
        self,
        stages: Iterable[Stage],
        state: Any,
        *,
        seed: int,
        total: int,
        history: History,
    ) -> tuple[Any, Stage]:
        """Trains from `state`, which is used up, see `LoopDriver.train`; in one stage."""
        (stage,) = stages
        batches = batch_indices(
            len(self._data.train.labels), batch_size=self._batch_size, seed=seed
        )
        pending = None
        for first in range(0, total, self._chunk):
            state, metrics = stage.compiled.train(
                state,
                *self._train,
                np.stack([next(batches) for _ in range(self._chunk)]),
                stage.program,
                np.uint32(seed),
                np.int32(first),
                np.int32(total),
            )
            if pending is not None:
                _record(history, pending, total)
                if history.diverged:
                    return state, stage
            pending = metrics
        _record(history, pending, total)
        return state, stage

    def evaluate(self, compiled: Compiled, state: Any, program: Any) -> tuple[float, float]:
        """Mean cross-entropy and accuracy on the validation split."""
        sums = compiled.evaluate(state.variables, *self._valid, program)
        return _mean(np.asarray(sums), self._data.valid)


def _evaluation_batch(data: Dataset, config: TrainConfig) -> int:
    return min(max(EVALUATION_BATCH, config.batch_size), len(data.valid.labels))


def _record(history: History, metrics: Any, total: int) -> None:
    for each in np.asarray(metrics)[: total - len(history.losses)]:
        history.add(each)


def _mean(sums: np.ndarray, split: Split) -> tuple[float, float]:
    loss, right = sums.astype(np.float64).sum(axis=0) / len(split.labels)
    return float(loss), float(right)


DRIVERS: Mapping[str, type[LoopDriver | ScanDriver]] = {
    "loop": LoopDriver,
    "scan": ScanDriver,
}
"""Drivers by name."""


def driver_for(backend: str) -> str:
    """The driver's name that suits a JAX backend."""
    return "loop" if backend == "cpu" else "scan"
