"""How well rungs find what a full training would have found: the overlap of their best.

uv run python docs/rung_overlap.py FULL RUNGS

FULL is a run that trained a sample of 150 candidates in full with two seeds, RUNGS one that took the
same sample through rungs with one seed; `--trials` counts trainings on the first rung. To both goes
`actsearch search --preset cifar10 --strategy exhaustive --exhaustive-shuffle --core-units 1
--baselines none --steps 600`, to FULL `--trials 300 --replicates 2`, to RUNGS `--trials 150 --rungs
30:28,100:13,600:13`. Baselines, if there are some, are left out. The first seed
of FULL is the ranking that the others are compared with.
"""

from __future__ import annotations

import sys
from pathlib import Path

from search.journal import Journal
from search.ranking import standing

BEST = 10


def main(full: Path, rungs: Path) -> None:
    """Prints a table."""
    first, second = _best(full, 0, replicate=0), _best(full, 0, replicate=1)
    last = max(trial.rung for trial, _ in Journal.read(rungs).trials(details=False))
    found = _best(rungs, last, replicate=0)
    steps, all_steps = _steps(rungs), _steps(full, replicate=0)
    print(f"| | best {BEST} shared with the full ranking | training steps |")
    print("|---|---|---|")
    print(f"| in full | {BEST} | {all_steps:,} |")
    print(f"| in full, another seed | {len(first & second)} | {all_steps:,} |")
    print(f"| by rungs | {len(first & found)} | {steps:,} ({100 * steps / all_steps:.0f} %) |")


def _best(run: Path, rung: int, *, replicate: int) -> set[str]:
    """Expressions of the best of a rung by one seed."""
    found = {
        trial.expression: standing([(outcome.reward, outcome.loss)])
        for trial, outcome in Journal.read(run).trials(details=False)
        if outcome is not None and outcome.reward is not None
        if (trial.rung, trial.replicate, trial.baseline) == (rung, replicate, False)
    }
    return set(sorted(found, key=found.__getitem__)[:BEST])


def _steps(run: Path, replicate: int | None = None) -> int:
    """Training steps done, those of children that diverged included."""
    return sum(
        int(outcome.details["steps"])
        for trial, outcome in Journal.read(run).trials()
        if outcome is not None and not trial.baseline
        if replicate in (None, trial.replicate)
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
