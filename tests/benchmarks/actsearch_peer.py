"""The project's own trainer as a peer, in the traced and in the specialised form.

A form is called `traced` or `specialised`, then `[-xla][-switch][-bf16]`: `xla` has XLA's own convolutions, as
where there is no oneDNN; `switch` links no candidate, as where that is not possible.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal
from unittest import mock

import jax
import numpy as np
from peer import Score, Setting, precision_of

from spaces import PAPER, OperatorTable, parse
from trainers.dataset import load_dataset
from trainers.loop import History, Stage
from trainers.parallel import use_cores
from trainers.trainer import Clock, Trainer


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
        self._open: dict[str, Callable[[int], float]] = {}
        self._warm: set[str] = set()
        self._stages: list[Any] = []
        """As long as they are open, candidates are linked."""

    def score(self, form: str, expression: str, steps: int) -> Score:
        """See `peer.Peer`."""
        trainer, warm = self._trainer(form), form in self._warm
        self._warm.add(form)
        start = time.perf_counter()
        with _convolutions(form), nullcontext() if warm else _at_once(trainer):
            result = trainer.run(
                self._candidates[expression],
                seed=self._setting.seed,
                steps=steps,
                execution=_execution(form),
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
        trainer, seed = self._trainer(form), self._setting.seed
        driver = trainer._driver
        with _at_once(trainer):
            stages = trainer._stages(self._candidates[expression], _execution(form), 2, Clock())
            with _convolutions(form):
                compiled, program, first = next(stages)
                if first < 2:
                    compiled, program, _ = next(stages)
        beta = np.asarray(compiled.initial(program))
        state: Any = driver.begin(compiled.functions, beta, seed=seed)

        def advance(steps: int) -> float:
            nonlocal state
            history, start = History(), time.perf_counter()
            stage = Stage(compiled, program, steps)
            state, _ = driver.train([stage], state, seed=seed, total=steps, history=history)
            jax.block_until_ready(state)
            if history.diverged:
                raise RuntimeError(f"{expression} diverged: try a smaller `--lr`")
            return (time.perf_counter() - start) / steps

        advance(3)
        self._open[form] = advance
        self._stages.append(stages)

    def advance(self, form: str, steps: int) -> float:
        """See `peer.Peer`."""
        return self._open[form](steps)

    def close(self) -> None:
        """See `peer.Peer`."""
        self._open.clear()
        self._stages.clear()

    def _trainer(self, form: str) -> Trainer:
        if form not in self._trainers:
            config = dataclasses.replace(self._setting.train, precision=precision_of(form))
            trainer = self._trainers[form] = Trainer(config, self._data, self._table)
            trainer.links &= "-switch" not in form
        return self._trainers[form]


def _at_once(trainer: Trainer) -> AbstractContextManager[object]:
    """Within it a linked candidate is compiled by itself after its first step."""
    return mock.patch.object(trainer, "fuses_after", lambda total: 1)


def _execution(form: str) -> Literal["traced", "specialised"]:
    return "traced" if form.startswith("traced") else "specialised"


def _convolutions(form: str) -> AbstractContextManager[object]:
    """What compiles within it has the convolutions of a form."""
    if "-xla" in form:
        return mock.patch("trainers.onednn.computes", return_value=False)
    return nullcontext()
