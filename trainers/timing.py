"""Times candidates in both forms, in turns of a few steps, and sums up what that means for a search.

Letters: U core units.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from .config import TrainConfig

if TYPE_CHECKING:
    from spaces import Candidate, OperatorSet, OperatorTable

    from .result import Result
    from .trainer import Trainer

FORMS = ("traced", "specialised")
"""Both forms, see `spaces.activation`."""

_FEW = 5
"""Steps, or calls with several, from which is known how many there is time for."""
_TURNS = 8
"""Of each form: what the machine does beside them changes from second to second."""
_DRAWS = 1_000
"""Candidates that are drawn in the hope of one that is valid and has all U units."""


class BenchError(RuntimeError):
    """It could not be measured; the message is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One candidate, in seconds; mappings are by form."""

    first_s: float
    """From the request to the end of the first step, traced, everything else being compiled."""
    start_s: dict[str, float]
    """What a trial takes beside its steps: initial values, weights, their way to the device, and
    what its first step takes longer than others."""
    step_s: dict[str, float]
    """A training step, batch included."""
    evaluate_s: dict[str, float]
    """An evaluation of the trainer's validation split."""
    compile_s: dict[str, float]
    """Compilation of the network with the candidate; traced, of the candidate alone."""


def random_candidates(
    operators: OperatorSet, core_units: int, table: OperatorTable, *, seed: int
) -> Iterator[Candidate]:
    """Valid candidates of exactly U units, drawn uniformly; of fewer where none has so many."""
    import numpy as np

    from spaces import Prober, SearchSpace, canonical, run_preflight

    space, prober = SearchSpace(operators, core_units), Prober(table)
    rng, seen, since = np.random.default_rng(seed), set(), 0
    while since < 2 * _DRAWS:
        candidate = canonical(space.candidate(space.sample(rng)), operators)
        since += 1
        short = len(candidate.units) < core_units and since <= _DRAWS
        if short or str(candidate) in seen:
            continue
        seen.add(str(candidate))
        if run_preflight(prober.probe([candidate])[0])[0] == "ok":
            since = 0
            yield candidate


class Measured(NamedTuple):
    """What came of timing candidates."""

    traced_compile_s: float
    """Compilation of the traced form, which a machine does once; linked, of all operators too."""
    steps: int
    """Steps that each candidate was trained for in each form."""
    timings: list[Timing]
    """At least one."""
    last: Candidate
    """The last one that was timed."""


def time_candidates(
    trainer: Trainer,
    candidates: Iterator[Candidate],
    *,
    count: int,
    seed: int,
    seconds: float,
    deadline: float,
) -> Measured:
    """Times candidates, one after the other, each in both forms in turns.

    Args:
        trainer: One that has compiled nothing yet.
        candidates: Where they come from; those that diverge are passed over.
        count: How many to time.
        seed: Decides weights and batches.
        seconds: About how long all of it may take: decides how many steps each is trained for.
        deadline: When no further one may begin that is likely to take longer, as
            `time.perf_counter` has it; one is timed in any case.

    Raises:
        BenchError: Nothing could be timed.
    """
    first = next(candidates, None)
    if first is None:
        raise BenchError("no valid candidate was found to be timed")
    # As in a whole training, but soon: what a first step takes is known when the second has been started.
    fusing = trainer.fuses_after(trainer.config.steps) < trainer.config.steps
    trainer.fuses_after = lambda total: min(2, total) if fusing else total
    begin = time.perf_counter()
    trainer.compile_operators()
    operators_s = time.perf_counter() - begin
    compiled = _run(trainer, first, seed, steps=1, execution="traced")
    unit = steps_at_a_time(trainer)
    again = _run(trainer, first, seed, steps=_FEW * unit, execution="traced")
    fit = int(seconds / (4 * count) / again.seconds.train * again.steps)
    turn = _TURNS * unit
    steps = max(min(fit, trainer.config.steps) // turn, 1) * turn
    timings, last, longest = [], first, 0.0
    for candidate in itertools.islice(itertools.chain([first], candidates), 3 * count):
        begin = time.perf_counter()
        if timings and begin + longest > deadline:
            break
        timing = _time(trainer, candidate, seed, steps)
        longest = max(longest, time.perf_counter() - begin)
        if timing is not None:
            timings.append(timing)
            last = candidate
        if len(timings) == count:
            break
    if not timings:
        raise BenchError("every candidate that was drawn diverged")
    return Measured(operators_s + compiled.seconds.compile, steps, timings, last)


def steps_at_a_time(trainer: Trainer) -> int:
    """Steps of one call: the scanning driver does whole chunks."""
    from .loop import CHUNK

    return min(CHUNK, trainer.config.steps) if trainer.driver == "scan" else 1


def _time(trainer: Trainer, candidate: Candidate, seed: int, steps: int) -> Timing | None:
    """Times a candidate in both forms; None if it diverged."""
    import jax

    from .trainer import lack_of_memory

    single = _run(trainer, candidate, seed, steps=1, execution="traced")
    if single.status == "diverged":
        return None
    try:
        timing = _time_in_turns(trainer, candidate, seed, steps)
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if (reason := lack_of_memory(error)) is None:
            raise
        raise BenchError(reason) from None
    first = single.seconds.compile + single.seconds.start + single.seconds.train
    return timing and replace(timing, first_s=first)


def _time_in_turns(trainer: Trainer, candidate: Candidate, seed: int, steps: int) -> Timing | None:
    """The same without the first step of all."""
    from .timed_training import timed_training

    unit = steps_at_a_time(trainer)
    with contextlib.ExitStack() as both:
        trainings = {
            form: both.enter_context(timed_training(trainer, candidate, form, seed=seed, unit=unit))
            for form in FORMS
        }
        taken: dict[str, list[float]] = {form: [] for form in FORMS}
        for turn in range(_TURNS):
            for form in FORMS if turn % 2 else FORMS[::-1]:
                taken[form].append(trainings[form].steps(steps // _TURNS) / (steps // _TURNS))
        evaluate_s = {form: each.evaluate() for form, each in trainings.items()}
    if any(each.history.diverged for each in trainings.values()):
        return None
    step_s = {form: statistics.median(seconds) for form, seconds in taken.items()}
    return Timing(
        first_s=0.0,
        start_s={
            form: each.start_s + max(0.0, each.first_s - unit * step_s[form])
            for form, each in trainings.items()
        },
        step_s=step_s,
        evaluate_s=evaluate_s,
        compile_s={form: each.compile_s for form, each in trainings.items()},
    )


def _run(
    trainer: Trainer, candidate: Candidate, seed: int, *, steps: int, execution: str
) -> Result:
    result = trainer.run(candidate, seed=seed, steps=steps, execution=execution)  # type: ignore[arg-type]  # one of FORMS
    if result.status == "failed":
        raise BenchError(str(result.reason))
    return result


def summary(
    timings: list[Timing],
    config: TrainConfig,
    traced_compile_s: float,
    *,
    evaluations: float = 1.0,
    execution: str | None = None,
) -> dict[str, Any]:
    """Medians over candidates, by form; those of one form stand in front.

    Args:
        timings: Of at least one candidate.
        config: Its `steps` and `batch_size` make a trial.
        traced_compile_s: Compilation of the traced form, which a worker does once.
        evaluations: How many times the validation split that was timed is a whole one.
        execution: The form in front; None takes the one that does more candidates an hour.
    """
    forms = {}
    for form in FORMS:
        step = statistics.median(each.step_s[form] for each in timings)
        evaluate = evaluations * statistics.median(each.evaluate_s[form] for each in timings)
        compiled = statistics.median(each.compile_s[form] for each in timings)
        start = statistics.median(each.start_s[form] for each in timings)
        trial = compiled + start + config.steps * step + evaluate
        forms[form] = {
            "step_ms": 1e3 * step,
            "compile_s": compiled if form == "specialised" else traced_compile_s,
            "fuse_s": compiled if form == "traced" else 0.0,
            "start_s": start,
            "evaluate_s": evaluate,
            "trial_s": trial,
            "images_per_s": config.batch_size / step,
            "candidates_per_hour": 3600.0 / trial,
        }
    form = execution or max(FORMS, key=lambda form: forms[form]["candidates_per_hour"])
    headline = ("step_ms", "compile_s", "images_per_s", "candidates_per_hour")
    return {
        "form": form,
        **{name: forms[form][name] for name in headline},
        "traced_over_specialised": statistics.median(
            each.step_s["traced"] / each.step_s["specialised"] for each in timings
        ),
        "first_step_new_candidate_ms": 1e3 * statistics.median(each.first_s for each in timings),
        "forms": forms,
    }
