"""The search space: which core units a set of operators admits, as a sequence of decisions.

Source: Ramachandran, Zoph, Le, "Searching for Activation Functions", arXiv 1710.05941, section 2
and Figure 1: for each core unit the decisions are Input 1, Input 2, Unary 1, Unary 2, Binary.

Letters: `T` decisions of a candidate, `U` core units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from .candidate import Candidate, CoreUnit
from .operator_set import OperatorSet

MAX_CORE_UNITS = 8
"""Most core units of a space."""

DecisionKind = Literal["input1", "input2", "unary1", "unary2", "binary"]
KINDS: tuple[DecisionKind, ...] = ("input1", "input2", "unary1", "unary2", "binary")
"""The paper's order of the decisions that make one core unit."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One choice that makes a candidate."""

    kind: DecisionKind
    """What is chosen."""
    unit: int
    """The core unit it belongs to, from 1."""
    choices: tuple[str, ...]
    """The names that may be chosen: operators, or `x`, `u1`, …; at least two."""


@dataclass(frozen=True)
class SearchSpace:
    """All candidates of exactly `core_units` core units over `operators`.

    Candidates are `T` tokens, one per decision that has at least two choices. A candidate of fewer
    units is in the space too: its units stand last, behind units that nothing reads.

    Args:
        operators: What may be composed.
        core_units: `U`, 1 to 8.

    Raises:
        ValueError: `core_units` is out of range.
    """

    operators: OperatorSet
    core_units: int = 1
    decisions: tuple[Decision, ...] = field(init=False, repr=False)
    """The `T` decisions, in the order in which they are taken."""

    def __post_init__(self) -> None:
        if not isinstance(self.core_units, int) or not 1 <= self.core_units <= MAX_CORE_UNITS:
            raise ValueError(f"`core_units` must be 1 to {MAX_CORE_UNITS}, got {self.core_units!r}")
        decisions = tuple(
            decision
            for unit in range(1, self.core_units + 1)
            for kind in KINDS
            if len((decision := Decision(kind, unit, self._choices(kind, unit))).choices) > 1
        )
        object.__setattr__(self, "decisions", decisions)

    def _choices(self, kind: DecisionKind, unit: int) -> tuple[str, ...]:
        if kind.startswith("input"):
            return ("x", *(f"u{number}" for number in range(1, unit)))
        operators = self.operators.binary if kind == "binary" else self.operators.unary
        return tuple(operator.name for operator in operators)

    @cached_property
    def _choices_each(self) -> np.ndarray:
        """How many choices each decision has, int64 `[T]`."""
        return np.array([len(decision.choices) for decision in self.decisions], np.int64)

    @cached_property
    def size(self) -> int:
        """How many token sequences there are, exactly."""
        return math.prod(len(decision.choices) for decision in self.decisions)

    def sample(self, rng: np.random.Generator) -> tuple[int, ...]:
        """Uniform tokens `[T]`."""
        return tuple(rng.integers(self._choices_each).tolist())

    def tokens_at(self, index: int) -> tuple[int, ...]:
        """The tokens `[T]` at place `index` of the enumeration; the last decision varies fastest.

        Raises:
            ValueError: `index` is not below `size`.
        """
        if not 0 <= index < self.size:
            raise ValueError(f"`index` must be 0 to {self.size - 1}, got {index}")
        tokens = []
        for decision in reversed(self.decisions):
            index, token = divmod(index, len(decision.choices))
            tokens.append(token)
        return tuple(reversed(tokens))

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        """All tokens in the order of `tokens_at`."""
        return (self.tokens_at(index) for index in range(self.size))

    def candidate(self, tokens: Sequence[int]) -> Candidate:
        """The candidate that `tokens` `[T]` spell.

        Raises:
            ValueError: There are not `T` tokens, or one is no choice of its decision.
        """
        if len(tokens) != len(self.decisions):
            raise ValueError(f"`tokens` must have {len(self.decisions)} entries, got {len(tokens)}")
        chosen = {}
        for decision, token in zip(self.decisions, tokens, strict=True):
            if not 0 <= token < len(decision.choices):
                raise ValueError(
                    f"token of {decision.kind}, unit {decision.unit}, must be 0 to "
                    f"{len(decision.choices) - 1}, got {token}"
                )
            chosen[decision.unit, decision.kind] = int(token)

        def choice(unit: int, kind: DecisionKind) -> int:
            return chosen.get((unit, kind), 0)

        unary, binary = self.operators.unary, self.operators.binary
        return Candidate(
            tuple(
                CoreUnit(
                    choice(unit, "input1"),
                    choice(unit, "input2"),
                    unary[choice(unit, "unary1")].name,
                    unary[choice(unit, "unary2")].name,
                    binary[choice(unit, "binary")].name,
                )
                for unit in range(1, self.core_units + 1)
            )
        )

    def tokens(self, candidate: Candidate) -> tuple[int, ...]:
        """Tokens `[T]` of a candidate; unread units are put in front of one that has fewer.

        Raises:
            ValueError: The candidate is not in this space.
        """
        missing = self.core_units - len(candidate.units)
        if missing < 0:
            raise ValueError(
                f"{candidate} has {len(candidate.units)} core units, the space has "
                f"{self.core_units}"
            )
        chosen: dict[tuple[int, str], int | str] = {}
        for number, unit in enumerate(candidate.units, start=missing + 1):
            for kind in KINDS:
                chosen[number, kind] = getattr(unit, kind)
            for kind, source in zip(("input1", "input2"), unit.inputs, strict=True):
                chosen[number, kind] = f"u{source + missing}" if source else "x"
        for (number, kind), name in chosen.items():
            if name not in self._choices(kind, number):  # type: ignore[arg-type]  # kind is one of KINDS
                raise ValueError(f"{candidate} is not in this space: it has no {kind} `{name}`")
        return tuple(
            decision.choices.index(str(chosen[decision.unit, decision.kind]))
            if (decision.unit, decision.kind) in chosen
            else 0
            for decision in self.decisions
        )

    def __contains__(self, candidate: object) -> bool:
        try:
            self.tokens(candidate)  # type: ignore[arg-type]  # anything else has no units
        except (ValueError, AttributeError):
            return False
        return True
