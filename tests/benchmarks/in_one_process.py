"""Trainings that share one process: some at once, or one while the next candidate is compiled.

    python tests/benchmarks/in_one_process.py --dataset cifar10 --data-dir DIR --trainings 2
    python tests/benchmarks/in_one_process.py --dataset cifar10 --data-dir DIR --ahead

No search does either: a worker has a process of its own, and one training at a time. This is what it
would gain on an accelerator, whose driver, many steps a call, is used here on a CPU as well. With
`--trainings` as many threads train a candidate each, in both forms, in turns with the first of them
alone (specialised, all are compiled at once, and one alone is taken to compile as long); with
`--ahead` one candidate trains, specialised, while a thread compiles others. The learning rate is
lowered as `bench` lowers it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from trainers.command import add_train_flags, train_config
from trainers.environment import tune_xla
from trainers.timing import FORMS, BenchError, random_candidates, steps_at_a_time

if TYPE_CHECKING:
    from spaces import Candidate
    from trainers.timed_training import TimedTraining
    from trainers.trainer import Trainer

TURNS = 4
"""Measurements of each way: what else the machine does changes from second to second."""
LEARNING_RATE = 1e-4


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--trainings", type=int, default=2, help="at once; default: 2")
    result.add_argument("--ahead", action="store_true", help="one, and the next is compiled")
    result.add_argument("--seconds", type=float, default=30.0, help="of steps, about, for a form")
    result.add_argument("--json", action="store_true")
    add_train_flags(result)
    return result


def main() -> None:
    """Measures, and prints what came of it."""
    flags = parser()
    asked = flags.parse_args()
    if asked.trainings < 1:
        flags.error(f"--trainings must be ≥ 1, got {asked.trainings}")
    if not 0 < asked.seconds < math.inf:
        flags.error(f"--seconds must be > 0, got {asked.seconds}")
    tune_xla()
    try:
        found = measured(asked)
    except (BenchError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(found) if asked.json else "\n".join(lines(found)))


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    """The document: a figure of each form, and how many times one training alone it is.

    Raises:
        BenchError: A candidate diverged.
        ValueError: The request is wrong, or the data cannot be had.
    """
    import jax

    from spaces import PAPER, OperatorTable
    from trainers.dataset import load_dataset
    from trainers.trainer import Trainer

    config = dataclasses.replace(train_config(asked), lr=LEARNING_RATE)
    data = load_dataset(
        config.dataset,
        data_dir=asked.data_dir,
        image_size=config.image_size,
        valid_size=config.valid_size,
        seed=asked.seed,
    )
    table = OperatorTable.for_run(PAPER, core_units=1, extra=[], beta_init=config.beta_init)
    trainer = Trainer(config, data, table, driver="scan")
    candidates = random_candidates(PAPER, 1, table, seed=asked.seed)
    if asked.ahead:
        forms = {"specialised": compiled_ahead(trainer, candidates, asked)}
    else:
        chosen = [next(candidates) for _ in range(asked.trainings)]
        forms = {form: at_once(trainer, chosen, form, asked) for form in FORMS}
    return {
        "device": str(jax.devices()[0].device_kind),
        "trainings": 1 if asked.ahead else asked.trainings,
        "ahead": asked.ahead,
        "forms": forms,
        "candidates_per_hour_by_form": {
            form: values["candidates_per_hour"] for form, values in forms.items()
        },
    }


def at_once(
    trainer: Trainer, candidates: Sequence[Candidate], form: str, asked: argparse.Namespace
) -> dict[str, float]:
    """What threads do that train a candidate each, beside the first of them alone."""
    from trainers.timed_training import TimedTraining

    unit = steps_at_a_time(trainer)

    def prepare(candidate: Candidate) -> TimedTraining:
        return TimedTraining(trainer, candidate, form, asked.seed, unit)

    with ThreadPoolExecutor(len(candidates)) as threads, contextlib.ExitStack() as stack:
        # Traced, the programs are compiled by the first, for all.
        first = [prepare(candidates[0])] if form == "traced" else []
        trainings = [*first, *threads.map(prepare, candidates[len(first) :])]
        for each in trainings:
            stack.callback(each.close)
        alone, together = paces(trainings, threads, unit, asked.seconds)
        evaluate_s = trainings[0].evaluate()
    _check(trainings)
    compile_s = [each.compile_s for each in trainings]
    start_s = statistics.median(each.start_s for each in trainings)
    once = compile_s[0] if form == "traced" else statistics.median(compile_s)
    trials = {
        name: (0.0 if form == "traced" else once)
        + start_s
        + trainer.config.steps * step_s
        + evaluate_s
        for name, step_s in (("alone", alone), ("together", together))
    }
    return {
        "step_ms": 1e3 * together,
        "step_alone_ms": 1e3 * alone,
        "compile_s": once,
        "start_s": start_s,
        "evaluate_s": evaluate_s,
        "candidates_per_hour": 3600.0 * len(trainings) / trials["together"],
        "times_one": len(trainings) * trials["alone"] / trials["together"],
    }


def paces(
    trainings: Sequence[TimedTraining], threads: ThreadPoolExecutor, unit: int, seconds: float
) -> tuple[float, float]:
    """Seconds of a step: of the first alone, and of each while all train; medians of turns."""
    window = seconds / (2 * TURNS)
    taken: dict[int, list[float]] = {1: [], len(trainings): []}
    step_s = {count: _pace(trainings[:count], threads, unit) for count in taken}
    for turn in range(TURNS):
        for count in list(taken)[:: 1 if turn % 2 else -1]:
            steps = max(1, round(window / step_s[count] / unit)) * unit
            taken[count].append(_pace(trainings[:count], threads, steps))
    return statistics.median(taken[1]), statistics.median(taken[len(trainings)])


def _pace(trainings: Sequence[TimedTraining], threads: ThreadPoolExecutor, steps: int) -> float:
    """Seconds of a step of each, all at once."""
    return statistics.mean(threads.map(lambda each: each.steps(steps), trainings)) / steps


def compiled_ahead(
    trainer: Trainer, candidates: Iterator[Candidate], asked: argparse.Namespace
) -> dict[str, float]:
    """What one training does while a thread compiles the candidates that come after it."""
    from trainers.timed_training import TimedTraining

    unit = steps_at_a_time(trainer)
    training = TimedTraining(trainer, next(candidates), "specialised", asked.seed, unit)
    compile_s, busy_s, alone_s = [], [], []
    end = time.perf_counter() + asked.seconds
    with ThreadPoolExecutor(1) as thread, contextlib.closing(training):
        while not compile_s or time.perf_counter() < end:
            alone_s.append(training.steps(unit) / unit)
            compiling = thread.submit(_compile, trainer, next(candidates))
            busy_s.append(training.steps(unit) / unit)  # one at least, however soon it is compiled
            while not compiling.done():
                busy_s.append(training.steps(unit) / unit)
            compile_s.append(compiling.result())
        evaluate_s = training.evaluate()
    _check([training])
    compiled, busy, alone = map(statistics.median, (compile_s, busy_s, alone_s))
    rest_s = training.start_s + evaluate_s
    behind = max(0.0, trainer.config.steps - compiled / busy)
    trial_s = compiled + behind * alone + rest_s
    without_s = training.compile_s + trainer.config.steps * alone + rest_s
    return {
        "step_ms": 1e3 * busy,
        "step_alone_ms": 1e3 * alone,
        "compile_s": compiled,
        "compile_alone_s": training.compile_s,
        "start_s": training.start_s,
        "evaluate_s": evaluate_s,
        "candidates_per_hour": 3600.0 / trial_s,
        "times_one": without_s / trial_s,
    }


def _compile(trainer: Trainer, candidate: Candidate) -> float:
    """Seconds that a candidate's programs take to compile; they are dropped."""
    from trainers.trainer import Clock

    clock = Clock()
    with contextlib.closing(trainer._stages(candidate, "specialised", 1, clock)) as stages:
        next(stages)
    return clock.read().compile


def _check(trainings: Sequence[TimedTraining]) -> None:
    if any(each.history.diverged for each in trainings):
        raise BenchError("a candidate diverged: another --seed draws others")


def lines(found: dict[str, Any]) -> list[str]:
    """The document as text."""
    way = "the next one compiled meanwhile" if found["ahead"] else f"{found['trainings']} at once"
    return [f"{found['device']}, {way}"] + [
        f"{form}: {values['candidates_per_hour']:.1f} candidates/hour, "
        f"{values['times_one']:.2f} × one alone; a step {values['step_ms']:.2f} ms, alone "
        f"{values['step_alone_ms']:.2f} ms; compiling {values['compile_s']:.1f} s"
        for form, values in found["forms"].items()
    ]


if __name__ == "__main__":
    main()
