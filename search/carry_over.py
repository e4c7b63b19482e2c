"""What a strategy that goes on in a larger space begins with, learnt in a smaller one.

The controller's LSTM is one for all decisions; each decision has an embedding table and a softmax
head of its own, with a row for each choice (see `lstm`). A decision of the new space takes the rows
of those choices that the trained decision of the same kind and unit had, by name; a decision of a
core unit beyond the trained ones takes those of the last trained unit of its kind. So the first
decision's probabilities, as far as old choices go, keep their ratios. Everything else begins as in
a fresh controller: rows of new choices, the optimiser, the queue.

A population begins with the best functions that are known and in the new space.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from spaces import Decision, SearchSpace, parse
from spaces.catalogue import known_operators
from spaces.space import KINDS, DecisionKind

from .known import KnownTraining
from .state import State


def decisions_of(choices: Sequence[Sequence[str]], core_units: int) -> tuple[Decision, ...]:
    """The decisions of a space, told from the names of their choices alone.

    A decision with one choice is none, so a set with one binary operator has no `binary`.

    Args:
        choices: Names `[T][V]`, as the controller's metrics have them.
        core_units: `U` of the space.

    Raises:
        ValueError: No space of so many core units has such choices.
    """
    per_unit, rest = divmod(len(choices) - 2 * (core_units - 1), core_units)
    if rest or not 1 <= per_unit <= 3:
        raise ValueError(f"{len(choices)} decisions do not make {core_units} core units")
    chosen: tuple[DecisionKind, ...] = ("binary",) if per_unit == 1 else KINDS[2 : 2 + per_unit]
    places: list[tuple[DecisionKind, int]] = [
        (kind, unit)
        for unit in range(1, core_units + 1)
        for kind in ((*KINDS[:2], *chosen) if unit > 1 else chosen)
    ]
    return tuple(
        Decision(kind, unit, tuple(names))
        for (kind, unit), names in zip(places, choices, strict=True)
    )


def controller_state(
    trained: State,
    before: Sequence[Decision],
    fresh: State,
    after: Sequence[Decision],
    *,
    keep_baseline: bool,
) -> State:
    """The state of a controller that knows what a trained one has learnt.

    Args:
        trained: State of that one.
        before: The decisions of its space.
        fresh: State of a new one of the same width.
        after: The decisions of its space.
        keep_baseline: Whether rewards mean the same: the moving average of rewards goes on.

    Raises:
        ValueError: The trained state is not that of a controller over `before` of the same width.
    """
    old, new = trained["params"], fresh["params"]
    width, counts = len(new["start"]), [len(decision.choices) for decision in before]
    if old["embedding"].shape != (len(before), max(counts), width):
        raise ValueError(
            f"a controller of width {width} over {len(before)} decisions has another embedding than "
            f"{old['embedding'].shape}"
        )
    tables = {name: new[name].copy() for name in ("embedding", "kernel", "bias")}
    for place, decision in enumerate(after):
        source = _source(before, decision)
        if source is None:
            continue
        names = before[source].choices
        for here, name in enumerate(decision.choices):
            if name in names:
                there = names.index(name)
                tables["embedding"][place, here] = old["embedding"][source, there]
                tables["kernel"][place, :, here] = old["kernel"][source, :, there]
                tables["bias"][place, here] = old["bias"][source, there]
    params = {"cell": old["cell"], "start": old["start"], **tables}
    return {**fresh, "params": params, "baseline": trained["baseline"] if keep_baseline else None}


def _source(before: Sequence[Decision], decision: Decision) -> int | None:
    """The place of the trained decision that one begins as."""
    alike = [
        (each.unit, place)
        for place, each in enumerate(before)
        if each.kind == decision.kind and each.unit <= decision.unit
    ]
    return max(alike)[1] if alike else None


def population_state(
    fresh: State,
    space: SearchSpace,
    trainings: Iterable[KnownTraining],
    *,
    steps: int,
    population: int,
) -> State:
    """The state of an evolution whose population are the best functions known, the worst oldest.

    Args:
        fresh: State of one that has proposed nothing.
        space: Its space; functions of which there is no spelling in it are left out.
        trainings: What is known.
        steps: Of the first rung: other trainings do not count.
        population: P.
    """
    rewards: dict[str, list[float]] = {}
    for training in trainings:
        if training.steps == steps and training.outcome.reward is not None:
            rewards.setdefault(training.expression, []).append(training.outcome.reward)
    hidden = known_operators(space.operators).values()
    members: list[tuple[float, tuple[int, ...]]] = []
    for expression, each in rewards.items():
        try:
            tokens = space.tokens(parse(expression, space.operators, hidden=hidden))
        except ValueError:  # not in this space, or of operators that it lacks
            continue
        members.append((sum(each) / len(each), tokens))
    best = sorted(members, key=lambda member: member[0])[-population:]
    if not best:
        return fresh
    return {
        **fresh,
        "tokens": np.array([tokens for _, tokens in best], np.int32),
        "rewards": np.array([reward for reward, _ in best], np.float64),
    }
