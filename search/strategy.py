"""What every search strategy is: ask for a proposal, tell its reward, keep nothing hidden.

A strategy is a set of pure functions over a state of plain data, so that the driver can commit the
state in the transaction that journals the outcomes, and resume from it bit for bit. It never
trains a child, and knows nothing of workers. The interface is ask/tell as in evosax (Lange 2022)
with the state outside, and the reward alone comes back.

`tell` is called once for each proposal, in the order of the proposals, but late: proposal t may be
asked when only the outcomes before t − W are told. A strategy copes with any such lag.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from spaces import SearchSpace

State = dict[str, Any]
"""Nested dicts and lists of numbers, strings, booleans, None and NumPy arrays; see `state`."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a strategy asked for."""

    tokens: tuple[int, ...]
    """[T], one choice for each decision of the space."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able data that the strategy wants back at `tell`."""


class Strategy(Protocol):
    """Proposes candidates and learns from their rewards; every method is pure."""

    @property
    def checkpoint_every(self) -> int:
        """Proposals between two snapshots of the state that are worth their bytes."""
        ...

    @property
    def learns(self) -> bool:
        """Whether proposals depend on rewards; without it any number may be asked ahead of them, and
        nothing is told.
        """
        ...

    def init(self, *, seed: int) -> State:
        """Returns the state of a search that has proposed nothing; `seed` ≥ 0."""
        ...

    def ask(self, state: State) -> tuple[State, Proposal | None]:
        """Returns the next state and a proposal; None when the space is exhausted."""
        ...

    def tell(self, state: State, proposal: Proposal, reward: float | None) -> State:
        """Learns from an outcome.

        Args:
            state: The state that the last `ask` or `tell` returned.
            proposal: As `ask` returned it, details included.
            reward: Higher is better, finite; None when the infrastructure failed and no reward is
                known, which keeps the proposal out of all learning.

        Raises:
            ValueError: The reward is NaN or infinite.
        """
        ...

    def metrics(self, state: State) -> dict[str, float | list]:
        """Returns what is worth plotting; what is not known yet is left out."""
        ...


class StrategyConfig(Protocol):
    """The options of a strategy, as the command line and `config.json` show them."""

    def build(self, space: SearchSpace) -> Strategy:
        """Returns the strategy over `space`; heavy imports happen here and not before."""
        ...


def checked(reward: float | None) -> float | None:
    """Returns the reward as a Python float, or None.

    Raises:
        ValueError: The reward is NaN or infinite.
    """
    if reward is None:
        return None
    if not math.isfinite(reward):
        raise ValueError(f"`reward` must be finite or None, got {reward}")
    return float(reward)
