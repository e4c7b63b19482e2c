"""Makes runs without training: a real folder, journal, planner and strategy, invented outcomes.

As a script it writes a run at a pace that others can watch:

    python made_run.py FOLDER '{"trials": 30}' SECONDS_PER_TRIAL
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from launch.flags import build
from launch.prepare import make_planner, operators_at_hand
from launch.run import Run, start_or_resume
from search.outcome import Outcome, Trial

DEFAULT = {"strategy": "random", "trials": 300, "baselines": "relu,swish", "steps": 100}


def share(trial: Trial) -> float:
    """A number from 0 to 1 that depends on what is trained."""
    text = f"{trial.expression} {trial.replicate} {trial.rung}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


def outcome_of(trial: Trial) -> Outcome:
    """Functions with a sine diverge, those with a cosine fail, the others learn."""
    if "sin" in trial.expression:
        reason = {"reason": "loss became nan at step 7"}
        return Outcome("diverged", seconds=0.5, details=reason)
    if "cos" in trial.expression:
        return Outcome("failed", seconds=0.1, details={"reason": "out of memory"})
    reward = share(trial)
    curve = [
        {"step": 5 * n, "loss": 2.3 - 0.1 * n * reward, "accuracy": 0.1 + 0.04 * n * reward}
        for n in range(1, 21)
    ]
    beta = [
        {"layer": layer, "operator": "scale", "param": "beta", "slot": 0,
         "mean": 1.0 + reward, "std": 0.1, "min": 0.5, "max": 2.5}
        for layer in ("act", "blocks.0.act1")
    ]  # fmt: skip
    details: dict[str, Any] = {"curve": curve, "steps": 100}
    if "scale" in trial.expression:
        details["beta"] = beta
    return Outcome("ok", reward, 3.0 - 2.0 * reward, 1.0 + reward, details)


def made_run(
    folder: Path,
    *,
    pause_s: float = 0.0,
    stop_after: int | None = None,
    parent: Path | None = None,
    **values,
) -> Run:
    """Makes or goes on with a run until it is finished, or has `stop_after` outcomes more."""
    science, placement = build({**DEFAULT, **values})
    data = f"{science.train.dataset} {science.search.seed}"
    run = start_or_resume(folder, science, placement, parent=parent, data_sha256=data)
    with run.journal.transaction():
        run.journal.put_meta("data_sha256", data)
        sitting = run.journal.begin_sitting({"workers": 1})
    assignment: Any = SimpleNamespace(  # of which a planner reads this and no more
        train=science.train,
        operators=run.operators,
        core_units=science.space.core_units,
        baselines=science.search.baseline_keys,
    )
    with operators_at_hand():
        planner, begin, made = make_planner(run, assignment, chance=0.1), time.monotonic(), 0
        while not planner.finished and (stop_after is None or made < stop_after):
            for trial in planner.due(1):
                time.sleep(pause_s)
                planner.record([(trial, outcome_of(trial))])
                made += 1
    if planner.finished:
        planner.conclude()
    with run.journal.transaction():
        run.journal.update_sitting(sitting, time.monotonic() - begin, {"workers": 1})
    run.journal.close()
    return run


if __name__ == "__main__":
    made_run(Path(sys.argv[1]), pause_s=float(sys.argv[3]), **json.loads(sys.argv[2]))
