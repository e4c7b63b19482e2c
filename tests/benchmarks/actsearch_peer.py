"""The project's own trainer as a peer, in the traced and in the specialised form.

A form is called `traced` or `specialised`, then `[-xla][-bf16]`: `xla` has XLA's own convolutions, as
where there is no oneDNN.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

import jax
import numpy as np
from peer import Score, Setting, precision_of

from spaces import PAPER, OperatorTable, SpecialisedForm, TracedForm, parse
from trainers.augment import channel_statistics
from trainers.config import TrainConfig
from trainers.dataset import load_dataset
from trainers.loop import DRIVERS, Compiled, History, driver_for, shapes
from trainers.parallel import use_cores
from trainers.resnet import Child
from trainers.step import StepFunctions
from trainers.trainer import Trainer


class ActsearchPeer:
    """`trainers.Trainer` as a worker uses it; steps alone by way of its driver."""

    def __init__(self, setting: Setting) -> None:
        use_cores(len(os.sched_getaffinity(0)))
        platform = {"cpu": "cpu", "cuda": "gpu"}[setting.device]
        if jax.default_backend() != platform:
            raise RuntimeError(f"asked for {platform}, JAX has {jax.default_backend()}")
        self._setting = setting
        self._candidates = {text: parse(text, PAPER) for text in setting.expressions}
        self._table = OperatorTable.for_run(
            PAPER, core_units=setting.core_units, extra=self._candidates.values()
        )
        train = setting.train
        self._data = load_dataset(
            train.dataset,
            data_dir=setting.data_dir,
            image_size=train.image_size,
            valid_size=train.valid_size,
            seed=setting.seed,
        )
        self._trainers: dict[str, Trainer] = {}
        self._traced: dict[str, Compiled] = {}
        self._open: dict[str, Callable[[int], float]] = {}

    def score(self, form: str, expression: str, steps: int) -> Score:
        """See `peer.Peer`."""
        if form not in self._trainers:
            self._trainers[form] = Trainer(self._config(form), self._data, self._table)
        start = time.perf_counter()
        with _convolutions(form):
            result = self._trainers[form].run(
                self._candidates[expression],
                seed=self._setting.seed,
                steps=steps,
                execution="traced" if form.startswith("traced") else "specialised",
            )
        return Score(
            status=result.status if result.reason is None else str(result.reason),
            accuracy=result.accuracy,
            loss=result.loss,
            compile_s=result.seconds.compile,
            train_s=result.seconds.train,
            evaluate_s=result.seconds.evaluate,
            total_s=time.perf_counter() - start,
        )

    def open(self, form: str, expression: str) -> None:
        """See `peer.Peer`."""
        candidate, config = self._candidates[expression], self._config(form)
        seed = self._setting.seed
        driver = DRIVERS[driver_for(jax.default_backend())](self._data, config)
        program = self._table.program(candidate)
        compiled = self._traced.get(form)
        if compiled is None:
            traced = form.startswith("traced")
            shape = TracedForm(self._table) if traced else SpecialisedForm(self._table, candidate)
            child = Child(
                config.child,
                width=config.width,
                channels=self._data.train.images.shape[-1],
                num_classes=self._data.num_classes,
                form=shape,
                precision=config.precision,
            )
            statistics = channel_statistics(self._data.train.images)
            functions = StepFunctions(config, child, *statistics, self._data.mirror)
            with _convolutions(form):
                compiled = driver.compile(functions, shapes(program))
            if traced:
                self._traced[form] = compiled
        program = driver.put(program)
        beta = np.asarray(compiled.initial(program))
        state: Any = driver.put(compiled.functions.begin(beta, seed=seed))

        def advance(steps: int) -> float:
            nonlocal state
            history, start = History(), time.perf_counter()
            state = driver.train(compiled, state, program, seed=seed, total=steps, history=history)
            jax.block_until_ready(state)
            if history.diverged:
                raise RuntimeError(f"{expression} diverged: try a smaller `--lr`")
            return (time.perf_counter() - start) / steps

        advance(3)
        self._open[form] = advance

    def advance(self, form: str, steps: int) -> float:
        """See `peer.Peer`."""
        return self._open[form](steps)

    def close(self) -> None:
        """See `peer.Peer`."""
        self._open.clear()

    def _config(self, form: str) -> TrainConfig:
        return dataclasses.replace(self._setting.train, precision=precision_of(form))


def _convolutions(form: str) -> AbstractContextManager[object]:
    """What compiles within it has the convolutions of a form."""
    if "-xla" in form:
        return mock.patch("trainers.onednn.computes", return_value=False)
    return nullcontext()
