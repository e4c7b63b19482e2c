"""Which operators occur in a candidate, read from its text alone: nobody's operators are loaded."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from spaces.candidate import IDENTITY

FEW = 3
"""A mean of fewer functions says little, and is shown so."""

_TOKEN = re.compile(r"[A-Za-z_]\w*|[(),=;]")


@dataclass(frozen=True, slots=True)
class Operators:
    """Names of the operators of one candidate."""

    unary: frozenset[str]
    """`identity` stands for an operand of a binary operator that no unary one is applied to."""
    binary: frozenset[str]


def operators_of(expression: str) -> Operators:
    """Reads canonical text, for example `mul(x, sigmoid(x))`: identity, sigmoid and mul."""
    unary: set[str] = set()
    binary: set[str] = set()
    opened: list[tuple[str, list[bool]]] = []
    tokens = [match[0] for match in _TOKEN.finditer(expression)]
    for token, following in zip(tokens, [*tokens[1:], ""], strict=True):
        if token == ")" and opened:
            name, bare = opened.pop()
            (binary if len(bare) > 1 else unary).add(name)
            if len(bare) > 1 and any(bare):
                unary.add(IDENTITY)
            if opened:
                opened[-1][1].append(len(bare) > 1)
        elif following == "(":
            opened.append((token, []))
        elif token[0].isidentifier() and opened:
            opened[-1][1].append(True)
    return Operators(frozenset(unary), frozenset(binary))


@dataclass(slots=True)
class _Tally:
    rewards: list[float] = field(default_factory=list)
    without: int = 0
    """Functions that have no reward: refused, diverged or failed."""

    @property
    def standing(self) -> tuple[int, float]:
        """Sort key, best first; what rests on few functions stands behind, what has none last."""
        count = len(self.rewards)
        return (0 if count >= FEW else 1 if count else 2, -_mean(self.rewards))


def operator_use(functions: Iterable[tuple[str, float | None]]) -> dict[str, Any]:
    """Mean reward of the functions in which an operator, or two together, occur.

    Args:
        functions: Canonical text and reward of each function, None where it has none.

    Returns:
        `operators`: `[name, "unary" | "binary", n, mean, low, high, without]` each, with quartiles;
        best first, those of fewer than `FEW` functions behind; `pairs`: `[first, second, n, mean, without]` with places in `operators`.
    """
    single: dict[tuple[str, str], _Tally] = {}
    double: dict[tuple[tuple[str, str], tuple[str, str]], _Tally] = {}
    for expression, reward in functions:
        used = operators_of(expression)
        names = [("unary", name) for name in sorted(used.unary)]
        names += [("binary", name) for name in sorted(used.binary)]
        tallies = [single.setdefault(name, _Tally()) for name in names]
        pairs = itertools.combinations(names, 2)
        tallies += [double.setdefault(pair, _Tally()) for pair in pairs]
        for tally in tallies:
            if reward is None:
                tally.without += 1
            else:
                tally.rewards.append(reward)
    ordered = sorted(single, key=lambda key: (*single[key].standing, key))
    place = {key: number for number, key in enumerate(ordered)}
    return {
        "operators": [
            [name, kind, len(t.rewards), *_summary(t.rewards), t.without]
            for kind, name in ordered
            for t in [single[kind, name]]
        ],
        "pairs": [
            [place[a], place[b], len(t.rewards), _rounded(_mean(t.rewards)), t.without]
            for (a, b), t in double.items()
        ],
    }


def _mean(rewards: list[float]) -> float:
    return sum(rewards) / len(rewards) if rewards else 0.0


def _summary(rewards: list[float]) -> tuple[float, float, float]:
    """Mean, lower and upper quartile."""
    ordered = sorted(rewards) or [0.0]
    quartiles = [ordered[round(share * (len(ordered) - 1))] for share in (0.25, 0.75)]
    return (_rounded(_mean(rewards)), _rounded(quartiles[0]), _rounded(quartiles[1]))


def _rounded(value: float) -> float:
    return round(value, 5)
