"""Several runs of one budget, side by side: who found what, after how many trials and seconds.

A run's course counts what its strategy proposed: a baseline counts from when the strategy proposed
it, or not at all. Accuracies are those of the last rung, means over replicates. Places by trials
follow the run's own order, which does not depend on the number of workers; places by seconds follow
the order of arrival, breaks between sittings left out.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.journal import Journal
from search.ranking import RankedCandidate, rank

from ..config import Science
from ..flags import flags
from ..run import read_run_config
from .reading import reading

NEAR = 0.005
"""How far below the best of all runs an accuracy still counts as near it."""


@dataclass(frozen=True, slots=True)
class Find:
    """A function that the strategy proposed and that has an accuracy."""

    trials: int
    """Trials, baselines not counted, that the run had planned up to its last one."""
    seconds: float
    """Seconds of work until that one had its outcome."""
    candidate: RankedCandidate

    @property
    def accuracy(self) -> float:
        """Mean over replicates on the last rung."""
        return self.candidate.reward or 0.0


@dataclass(frozen=True, slots=True)
class Course:
    """What one run found, and when."""

    run: Path
    science: Science
    data: str | None
    """SHA-256 of the images."""
    trials: int
    """Finished trials, baselines not counted."""
    finished: bool
    finds: tuple[Find, ...]
    """In the run's own order."""

    def best(self, within: int | None = None) -> Find | None:
        """The best find among the first trials; the earliest of equal ones."""
        among = [find for find in self.finds if within is None or find.trials <= within]
        return max(among, key=lambda find: find.accuracy, default=None)

    def until(self, accuracy: float) -> Find | None:
        """The first find of at least this accuracy."""
        return next((find for find in self.finds if find.accuracy >= accuracy), None)

    def by_trials(self) -> list[tuple[float, float]]:
        """Best accuracy so far: where it changes, then where the run ends."""
        return _steps([(find.trials, find.accuracy) for find in self.finds], self.trials)

    def by_seconds(self) -> list[tuple[float, float]]:
        """The same by seconds of work."""
        points = sorted((find.seconds, find.accuracy) for find in self.finds)
        return _steps(points, points[-1][0] if points else 0.0)


def _steps(points: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for place, accuracy in points:
        if found and accuracy <= found[-1][1]:
            continue
        if found and found[-1][0] == place:
            found.pop()
        found.append((place, accuracy))
    if found and end > found[-1][0]:
        found.append((end, found[-1][1]))
    return found


def course_of(run: Path) -> Course:
    """Reads a run.

    Raises:
        RequestError: It is no run.
    """
    science, _ = read_run_config(run)
    with reading(run) as journal:
        return Course(
            run=run,
            science=science,
            data=journal.meta("data_sha256"),
            trials=sum(
                outcome is not None and not trial.baseline
                for trial, outcome in journal.trials(details=False)
            ),
            finished=journal.meta("finished") is not None,
            finds=tuple(_finds(journal, science)),
        )


def _finds(journal: Journal, science: Science) -> list[Find]:
    """What the strategy found, in the run's own order."""
    last_rung = len(science.search.ladder(science.train.steps)) - 1
    trials = [trial for trial, _ in journal.trials(details=False)]
    counts = itertools.accumulate(not trial.baseline for trial in trials)
    upto = dict(zip((trial.id for trial in trials), counts, strict=True))
    """For each trial, how many there are up to it, baselines not counted."""
    first_rung = {t.candidate: t.id for t in trials if t.rung == 0 and not t.baseline}
    """For each function that is no baseline, its last trial on the first rung."""
    roots = {row.id: row.root for row in journal.candidates(sampled=False)}
    proposed: dict[int, int] = {}
    """For each function the last trial that was planned when it was first proposed, or 0."""
    latest = 0
    for number in journal.proposed():
        latest = max(latest, first_rung.get(roots[number], 0))
        proposed.setdefault(roots[number], latest)
    worked = journal.worked_until()
    finds = []
    for candidate in rank(journal):
        complete = candidate.reward is not None and candidate.rung == last_rung
        if complete and candidate.row.id in proposed:
            ids = [proposed[candidate.row.id], *(trial.id for trial, _ in candidate.trials)]
            seconds = max(worked.get(each, 0.0) for each in ids)
            finds.append(Find(upto[max(ids)], seconds, candidate))
    return sorted(finds, key=lambda find: find.trials)


def differences(courses: Sequence[Course]) -> list[str]:
    """What makes accuracies of these runs incomparable: child, data or schedule.

    Returns:
        For each entry in which they differ, what it is in which run.
    """
    judging = [
        name
        for name, flag in flags().items()
        if flag.section == "train" or name in ("rungs", "replicates")
    ]
    found = [line for name in judging if (line := _difference(name, courses))]
    data: dict[tuple[str, int], set[str | None]] = {}
    for course in courses:
        key = (course.science.train.dataset, course.science.search.seed)
        data.setdefault(key, set()).add(course.data)
    for (dataset, seed), digests in data.items():
        if len(digests - {None}) > 1:
            found.append(f"the images of {dataset} with seed {seed} are not the same")
    return found


def notes(courses: Sequence[Course]) -> list[str]:
    """What else differs beside strategy and seed: the space, and options of one strategy."""
    found = [line for name in ("operators", "core_units") if (line := _difference(name, courses))]
    for strategy in dict.fromkeys(course.science.search.strategy for course in courses):
        same = [course for course in courses if course.science.search.strategy == strategy]
        seeds = [course.science.search.seed for course in same]
        for seed in sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            found.append(f"{seeds.count(seed)} runs of {strategy} have seed {seed}: one history")
        options = [name for name, flag in flags().items() if flag.section == strategy]
        found += [line for name in (*options, "window") if (line := _difference(name, same))]
    return found


def _difference(name: str, courses: Sequence[Course]) -> str:
    """`"`steps` is 300 in runs/a, 400 in runs/b"`, or nothing if it is the same."""
    flag = flags()[name]
    values: dict[str, list[str]] = {}
    for course in courses:
        value = repr(getattr(getattr(course.science, flag.section), flag.field))
        values.setdefault(value, []).append(str(course.run))
    if len(values) < 2:
        return ""
    where = (f"{value} in {' and '.join(runs)}" for value, runs in values.items())
    return f"`{name}` is {', '.join(where)}"


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one strategy, over the trials that all compared runs have."""

    strategy: str
    seeds: tuple[int, ...]
    bests: tuple[float, ...]
    """Best accuracy of each run that has one."""
    nears: tuple[int | None, ...]
    """Trials of each run until it was near the best of all; None if it never was."""

    @property
    def median(self) -> float | None:
        """Median of the best accuracies."""
        return statistics.median(self.bests) if self.bests else None

    @property
    def spread(self) -> float | None:
        """Standard deviation of the best accuracies; None if there is but one."""
        return statistics.stdev(self.bests) if len(self.bests) > 1 else None

    @property
    def median_near(self) -> float | None:
        """Median of trials until near; a run that never was counts as later than any other."""
        ordered = sorted(self.nears, key=lambda near: (near is None, near))
        lower, upper = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
        return None if lower is None or upper is None else (lower + upper) / 2


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several runs side by side."""

    courses: tuple[Course, ...]
    notes: tuple[str, ...]

    @property
    def common(self) -> int:
        """Trials that every run has."""
        return min(course.trials for course in self.courses)

    @property
    def best(self) -> Find | None:
        """The best find of all."""
        found = [best for course in self.courses if (best := course.best()) is not None]
        return max(found, key=lambda find: find.accuracy, default=None)

    def near(self, course: Course) -> Find | None:
        """The first find of a run that is near the best of all."""
        best = self.best
        return None if best is None else course.until(best.accuracy - NEAR)

    def groups(self) -> list[Group]:
        """The runs by strategy, in the order in which they were named."""
        found = []
        for strategy in dict.fromkeys(each.science.search.strategy for each in self.courses):
            same = [each for each in self.courses if each.science.search.strategy == strategy]
            bests = [best.accuracy for each in same if (best := each.best(self.common))]
            nears = [None if (near := self.near(each)) is None else near.trials for each in same]
            seeds = tuple(each.science.search.seed for each in same)
            found.append(Group(strategy, seeds, tuple(bests), tuple(nears)))
        return found

    def as_dict(self) -> dict[str, Any]:
        """As JSON-able data; accuracies are shares of 1."""
        return {
            "runs": [self._run(course) for course in self.courses],
            "strategies": [
                {
                    "strategy": group.strategy,
                    "seeds": list(group.seeds),
                    "median": group.median,
                    "spread": group.spread,
                    "lowest": min(group.bests, default=None),
                    "highest": max(group.bests, default=None),
                    "near": list(group.nears),
                    "median_near": group.median_near,
                }
                for group in self.groups()
            ],
            "best": _find(self.best),
            "common_trials": self.common,
            "near_means_within": NEAR,
            "notes": list(self.notes),
        }

    def _run(self, course: Course) -> dict[str, Any]:
        return {
            "run": str(course.run),
            "strategy": course.science.search.strategy,
            "seed": course.science.search.seed,
            "trials": course.trials,
            "finished": course.finished,
            "best": _find(course.best()),
            "best_of_common": _find(course.best(self.common)),
            "near": _find(self.near(course)),
            "by_trials": [list(point) for point in course.by_trials()],
            "by_seconds": [[round(x, 3), y] for x, y in course.by_seconds()],
        }


def _find(find: Find | None) -> dict[str, Any] | None:
    if find is None:
        return None
    row = find.candidate.row
    return {
        "expression": row.expression,
        "formula": row.formula,
        "name": row.name,
        "accuracy": find.accuracy,
        "trials": find.trials,
        "seconds": round(find.seconds, 3),
    }
