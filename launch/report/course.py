"""How a search went: rewards in the order of trials, best so far, and what the strategy told."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from search.journal import Journal
from search.ranking import RankedCandidate
from spaces import PAPER, SearchSpace

from ..config import Science

POINTS = 2_000
"""Most points of a scatter plot."""
UPDATES = 120
"""Most moments at which the strategy's probabilities are shown."""

Item = TypeVar("Item")


def course(
    ranked: Sequence[RankedCandidate], place: Callable[[int], int | None], steps: Sequence[int]
) -> list[dict[str, Any]]:
    """Rewards over trials, one entry for each rung that a function was trained on.

    A function is a point: the mean of its replicates, at its last trial. Trials of baselines are not
    counted; their rewards are a range.

    Args:
        ranked: Everything that was trained.
        place: Where the page lists a candidate, by its number in the journal.
        steps: Training steps of each rung.
    """
    baseline = {t.id for c in ranked if c.baseline for t, _ in c.trials}
    ids = sorted(t.id for c in ranked for t, _ in c.trials)
    number, count = {}, 0
    for trial in ids:
        count += trial not in baseline
        number[trial] = count
    found = []
    for rung, budget in enumerate(steps):
        points, lost, known = [], [], []
        for candidate in ranked:
            here = [(t.id, o.reward) for t, o in candidate.trials if t.rung == rung]
            if not here:
                continue
            x, rewards = number[max(here)[0]], [reward for _, reward in here]
            if any(reward is None for reward in rewards):
                lost.append(x)
                continue
            y = round(sum(r for r in rewards if r is not None) / len(rewards), 5)
            where = place(candidate.row.id)
            (known if candidate.baseline else points).append((x, y, where))
        if points or lost or known:
            found.append(_rung(rung, budget, sorted(points), sorted(lost), known))
    return found


def _rung(
    rung: int,
    steps: int,
    points: list[tuple[int, float, int | None]],
    lost: list[int],
    known: list[tuple[int, float, int | None]],
) -> dict[str, Any]:
    best: list[tuple[int, float, int | None]] = []
    for point in points:
        if not best or point[1] > best[-1][1]:
            best.append(point)
    records = {point[0] for point in best}
    shown = thinned(points, POINTS, keep=lambda point: point[0] in records)
    known.sort(key=lambda point: -point[1])
    return {
        "rung": rung,
        "steps": steps,
        "points": shown,
        "total": len(points),
        "lost": thinned(lost, POINTS // 8),
        "lost_total": len(lost),
        "best": best,
        "start": min((p[0] for p in points), default=0),
        "end": max([p[0] for p in points] + lost, default=0),
        "baselines": [known[0], known[-1]] if known else [],
    }


def thinned(
    items: Sequence[Item], most: int, keep: Callable[[Item], bool] = lambda _: False
) -> list[Item]:
    """At most about `most` items at equal distances, and all that `keep` names."""
    if len(items) <= most:
        return list(items)
    step = len(items) / most
    chosen = {int(number * step) for number in range(most)}
    return [item for number, item in enumerate(items) if number in chosen or keep(item)]


def strategy_course(journal: Journal, science: Science) -> dict[str, Any]:
    """What the strategy told of itself over its proposals.

    Returns:
        `t` `[S]`; `series` by name, each `[S]` with None where nothing was told; and, of a
        controller, `decisions`, each with `label`, `kind`, `choices` `[V]` and `p` `[V, S']` at the
        proposals `at` `[S']`.
    """
    told = list(journal.metrics())
    latest = told[-1] if told else None
    drawn = thinned(
        [(t, m["probabilities"]) for t, m in told if m.get("probabilities")],
        UPDATES,
        keep=lambda entry: latest is not None and entry[0] == latest[0],
    )
    numbers = [(t, _numbers(metrics)) for t, metrics in told]
    numbers = thinned(numbers, POINTS // 4, keep=lambda entry: entry is numbers[-1])
    names = sorted({name for _, metrics in numbers for name in metrics})
    choices = next((m["choices"] for _, m in reversed(told) if m.get("choices")), None)
    if choices is None and science.space.operators == "paper":
        decisions = SearchSpace(PAPER, science.space.core_units).decisions
        choices = [list(decision.choices) for decision in decisions]
    found = {
        "t": [t for t, _ in numbers],
        "series": {name: [metrics.get(name) for _, metrics in numbers] for name in names},
        "at": [t for t, _ in drawn],
        "decisions": [],
    }
    if drawn:
        widths = [len(row) for row in drawn[-1][1]]
        if choices is None or [len(row) for row in choices] != widths:
            choices = [[f"choice {n}" for n in range(1, width + 1)] for width in widths]
        drawn = [(t, rows) for t, rows in drawn if [len(row) for row in rows] == widths]
        found["at"] = [t for t, _ in drawn]
        for number, (label, kind) in enumerate(decision_labels(choices)):
            found["decisions"].append(
                {
                    "label": label,
                    "kind": kind,
                    "choices": choices[number],
                    "p": [
                        [round(rows[number][choice], 4) for _, rows in drawn]
                        for choice in range(widths[number])
                    ],
                }
            )
    return found


def decision_labels(choices: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """What each decision decides and its kind, in the paper's order: input, unary, binary.

    A decision with but one choice is none, so that an operator set with a single binary operator has
    no binary decision: what follows on each other with equal choices are the unary ones.
    """
    found: list[tuple[str, str]] = []
    unit, counts, before = 1, {"input": 0, "unary": 0, "binary": 0}, None
    for names in choices:
        kind = "input" if names and names[0] == "x" else "unary"
        if kind == "unary" and (counts["unary"] == 2 or (counts["unary"] == 1 and names != before)):
            kind = "binary"
        if (kind == "input" and counts["unary"] + counts["binary"]) or counts["binary"]:
            unit, counts = unit + 1, dict.fromkeys(counts, 0)
        counts[kind] += 1
        which = "" if kind == "binary" else f" {counts[kind]}"
        found.append((f"unit {unit}, {kind}{which}", kind))
        before = names
    return found


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {
        name: round(value, 5)
        for name, value in metrics.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
