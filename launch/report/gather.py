"""Reads a run's folder into one plain dict, which is all that the page shows.

Nothing but the journal and config.json is read, everything of one moment, so that a run may go on
meanwhile. Functions stand in one table of columns, best first; what else speaks of a function names
its row. Letters: `F` functions that are listed, `N` points of the grid.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from search.journal import Journal
from search.ranking import RankedCandidate, rank_rows
from search.registry import STRATEGIES
from search.schema import CandidateRow
from spaces.formula import GREEK
from spaces.grid import grid

from ..config import Science
from ..flags import flags
from ..inspection.reading import reading
from ..inspection.summary import summarise
from ..run import read_run_config
from .course import course, strategy_course
from .facts import duration, facts, in_brief, standard_error
from .listing import columns, counted, entries, rounded, shortened
from .operator_use import FEW, operator_use

DRAWN = 10
"""So many of the best are drawn, beside the baselines."""


def gather(run: Path, against: Sequence[Path] = ()) -> dict[str, Any]:
    """Everything that the page of a run shows.

    Args:
        run: The run's folder.
        against: Folders of runs whose best so far is shown beside.

    Raises:
        RequestError: A folder holds no run, or one that cannot be read.
    """
    science, placement = read_run_config(run)
    with reading(run) as journal:
        rows = list(journal.candidates(sampled=False))
        ranked = rank_rows(rows, journal.trials(details=False))
        found = entries(rows, ranked)
        shown = shortened(found)
        places = {entry.row.id: number for number, entry in enumerate(shown)}
        steps = [rung.steps for rung in science.search.ladder(science.train.steps)]
        summary = summarise(journal)
        strategy = strategy_course(journal, science)
        best = next((c.reward for c in ranked if c.reward is not None), None)
        error = None if best is None else standard_error(science, best)
        return {
            "title": run.resolve().name,
            "made": datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
            "finished": journal.meta("finished") is not None,
            "ending": summary.ending,
            "history": summary.history,
            "worked": duration(journal.worked()),
            "facts": facts(journal, science, placement, summary, strategy["decisions"]),
            "brief": in_brief(science, placement, summary, strategy["decisions"]),
            "error": None if error is None else round(error, 5),
            "proposals": summary.proposals,
            **counted(found),
            "rungs": steps,
            **columns(shown),
            "x": [round(float(x), 4) for x in grid()],
            "curves": _curves(journal, ranked, places),
            "course": course(ranked, places.get, steps),
            "against": [_other(folder, science) for folder in against],
            "strategy": {"name": science.search.strategy, **strategy},
            "few": FEW,
            "use": operator_use(_proposed(journal, rows, ranked)),
            "beta": _betas(journal, ranked, places),
        }


def _drawn(ranked: Sequence[RankedCandidate]) -> list[RankedCandidate]:
    """The best that were found and all baselines, best first."""
    known = [candidate for candidate in ranked if candidate.reward is not None]
    best = [candidate for candidate in known if not candidate.baseline][:DRAWN]
    chosen = {candidate.row.id for candidate in best}
    return [candidate for candidate in known if candidate.baseline or candidate.row.id in chosen]


def _curves(
    journal: Journal, ranked: Sequence[RankedCandidate], places: dict[int, int]
) -> list[dict[str, Any]]:
    """f and f′ `[N]` each at the initial values."""
    found = []
    for candidate in _drawn(ranked):
        curve = journal.candidate(candidate.row.id).curve
        if curve is not None:
            f, slope = ([rounded(float(y), 4) for y in line] for line in curve)
            found.append({"row": places[candidate.row.id], "f": f, "slope": slope})
    return found


def _betas(
    journal: Journal, ranked: Sequence[RankedCandidate], places: dict[int, int]
) -> list[dict[str, Any]]:
    """Trained vectors by layer, of those that are drawn; means over the replicates."""
    found = []
    for candidate in _drawn(ranked):
        ids = [t.id for t, o in candidate.trials if t.rung == candidate.rung]
        outcomes = [outcome for trial in ids if (outcome := journal.outcome(trial)) is not None]
        vectors: dict[tuple[int, str, str], dict[str, list[dict[str, Any]]]] = {}
        for outcome in outcomes:
            for entry in outcome.details.get("beta", ()):
                key = (entry["slot"], entry["operator"], entry["param"])
                vectors.setdefault(key, {}).setdefault(entry["layer"], []).append(entry)
        names = Counter(param for _, _, param in vectors)
        seen: Counter[str] = Counter()
        lines = []
        for key in sorted(vectors):
            _, operator, param = key
            seen[param] += 1
            order = str(seen[param]).translate(_SUBSCRIPT) if names[param] > 1 else ""
            symbol = GREEK[param][0] if param in GREEK else param
            lines.append(_line(f"{symbol}{order} of {operator}", vectors[key]))
        if lines:
            found.append({"row": places[candidate.row.id], "lines": lines})
    return found


_SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def _line(label: str, layers: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    def over(name: str, combine: Callable[[list[float]], float]) -> list[float | None]:
        known = [[e[name] for e in entries if e[name] is not None] for entries in layers.values()]
        return [rounded(combine(values), 4) if values else None for values in known]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    return {
        "label": label,
        "layers": list(layers),
        "mean": over("mean", mean),
        "std": over("std", mean),
        "min": over("min", min),
        "max": over("max", max),
    }


def _proposed(
    journal: Journal, rows: Sequence[CandidateRow], ranked: Sequence[RankedCandidate]
) -> list[tuple[str, float | None]]:
    """Every function that the strategy proposed, and its reward on the first rung."""
    roots = {row.id: row.root for row in rows}
    proposed = {roots[number] for number in journal.proposed()}
    rewards: dict[int, float | None] = {}
    for candidate in ranked:
        first = [outcome.reward for trial, outcome in candidate.trials if trial.rung == 0]
        known = [reward for reward in first if reward is not None]
        complete = known and len(known) == len(first)
        rewards[candidate.row.id] = sum(known) / len(known) if complete else None
    return [
        (row.expression, rewards.get(row.id))
        for row in rows
        if row.id in proposed and (row.id in rewards or row.verdict != "ok")
    ]


def _other(folder: Path, ours: Science) -> dict[str, Any]:
    """Another run's best so far on its first rung, and what else it asked for."""
    science, _ = read_run_config(folder)
    with reading(folder) as journal:
        ranked = rank_rows(journal.candidates(sampled=False), journal.trials(details=False))
    steps = [rung.steps for rung in science.search.ladder(science.train.steps)]
    first = next((entry for entry in course(ranked, int, steps) if entry["rung"] == 0), None)
    names = {candidate.row.id: candidate.row.formula for candidate in ranked}
    train = {name for name, flag in flags().items() if flag.section == "train"}
    unlike = _unlike(ours, science)
    return {
        "title": folder.resolve().name,
        "best": [[x, y, names[number]] for x, y, number in first["best"]] if first else [],
        "end": first["end"] if first else 0,
        "unlike": unlike,
        "comparable": not any(name in train for name, _, _ in unlike),
    }


def _unlike(ours: Science, theirs: Science) -> list[tuple[str, str, str]]:
    """Name, value there and value here of everything in which two searches differ."""
    # Options of a strategy mean nothing to a run of another one.
    other = {"placement", *STRATEGIES} - ({ours.search.strategy} & {theirs.search.strategy})
    asked = [flag for flag in flags().values() if flag.section not in other]
    values = [
        (flag.name, *(getattr(getattr(s, flag.section), flag.field) for s in (theirs, ours)))
        for flag in asked
    ]
    return [(name, _said(there), _said(here)) for name, there, here in values if there != here]


def _said(value: Any) -> str:
    return "default" if value is None else str(value)
