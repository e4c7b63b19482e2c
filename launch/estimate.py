"""How long a search would take, from what one worker was measured to do.

A rung's trials are shared out in rounds of one trial per worker, and the next rung begins when the
last of them is done. Compiling the traced form happens once, in one worker for which the others wait;
compiling a specialised one belongs to its trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .config import Rung, Science

START_S = 12.0
"""Seconds until the first child trains, compilation apart: Ray, the workers' imports and the
driver's checks. Measured on two cores, see `docs/performance.md`."""

_DISTINCT = {("paper", 1): 3_710}
"""Candidates that are left to be trained in spaces that were counted, see `actsearch space`."""


def candidates_to_train(science: Science, space_size: int) -> tuple[int, int]:
    """Candidates of the first rung, and how many the space has at most.

    Args:
        science: What is searched.
        space_size: Candidates of the space, invalid and equal ones included.
    """
    key = (science.space.operators, science.space.core_units)
    most = _DISTINCT.get(key, space_size)
    replicates = science.search.ladder(science.train.steps)[0].replicates
    return min(-(-science.search.trials // replicates), most), most


def estimate_search(
    science: Science, form: Mapping[str, float], *, traced: bool, candidates: int, workers: int
) -> dict[str, Any]:
    """The time of a search.

    Args:
        science: What is searched.
        form: What was measured of the form in which candidates run: `compile_s`, `fuse_s`,
            `start_s`, `step_ms`, `evaluate_s`.
        traced: Whether that is the traced form.
        candidates: Candidates of the first rung.
        workers: Trials at a time, each as fast as what was measured.

    Returns:
        `seconds` in all; `start_s` and `compile_s` of them, which come once; the `rungs` with their
        steps, trials, seconds of a trial and rounds; `trials` in all, and those of `baselines`;
        `candidates_per_hour` of one worker, with all the trials that a candidate of the first rung
        brings with it, baselines not counted.
    """
    baselines = len(science.search.baseline_keys)
    rungs, counted, working_s = [], candidates, 0.0
    baseline_trials = 0
    known = Rung(0, 0, None)
    for rung in science.search.ladder(science.train.steps):
        replicates = rung.replicates - (known.replicates if rung.steps == known.steps else 0)
        trial_s = form["start_s"] + rung.steps * form["step_ms"] / 1e3 + form["evaluate_s"]
        trial_s += form["fuse_s"] if traced else form["compile_s"]
        trials = (counted + baselines) * replicates
        working_s += counted * replicates * trial_s
        baseline_trials += baselines * replicates
        rungs.append(
            {
                "steps": rung.steps,
                "trials": trials,
                "trial_s": trial_s,
                "rounds": -(-trials // workers),
            }
        )
        counted, known = min(counted, rung.promoted or counted), rung
    once = form["compile_s"] if traced else 0.0
    return {
        "seconds": START_S + once + sum(r["rounds"] * r["trial_s"] for r in rungs),
        "start_s": START_S,
        "compile_s": once,
        "workers": workers,
        "trials": sum(r["trials"] for r in rungs),
        "baselines": baseline_trials,
        "rungs": rungs,
        "candidates_per_hour": 3600.0 * candidates / working_s,
    }
