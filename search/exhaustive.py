"""Exhaustive search: every candidate of the space once, then the end.

What the paper does for one core unit. In the space's own order neighbours share most of their
operators, so a search that is stopped early has seen a corner of the space; `shuffle` visits the
same candidates in the order i ↦ (a·i + b) mod size with a coprime to the size (a full-period
congruence: Knuth, TAOCP 2, §3.2.1), a permutation that needs no memory however large the space is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .strategy import Proposal, State, checked

if TYPE_CHECKING:
    from spaces import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class ExhaustiveConfig:
    """Options of exhaustive search."""

    shuffle: bool = False
    """Whether to visit the candidates in an order that depends on the seed."""

    def build(self, space: SearchSpace) -> Exhaustive:
        """Returns exhaustive search over `space`."""
        return Exhaustive(space, self)


class Exhaustive:
    """See the module."""

    checkpoint_every = 100
    learns = False

    def __init__(self, space: SearchSpace, config: ExhaustiveConfig) -> None:
        self._space = space
        self._config = config

    def init(self, *, seed: int) -> State:
        """Returns the state of a search that has proposed nothing."""
        multiplier, offset = 1, 0
        if self._config.shuffle:
            multiplier, offset = _permutation(self._space.size, seed)
        return {"next": 0, "multiplier": multiplier, "offset": offset}

    def ask(self, state: State) -> tuple[State, Proposal | None]:
        """Returns the next candidate, or None when all were asked for."""
        position, size = state["next"], self._space.size
        if position == size:
            return state, None
        index = (state["multiplier"] * position + state["offset"]) % size
        return {**state, "next": position + 1}, Proposal(self._space.tokens_at(index))

    def tell(self, state: State, proposal: Proposal, reward: float | None) -> State:
        """Returns the state as it is: nothing is learned."""
        checked(reward)
        return state

    def metrics(self, state: State) -> dict[str, float | list]:
        """Returns `visited`, the share of the space that was asked for."""
        return {"visited": state["next"] / self._space.size}


def _permutation(size: int, seed: int) -> tuple[int, int]:
    """Returns a and b of i ↦ (a·i + b) mod `size`, with a coprime to `size`."""
    rng = np.random.default_rng(seed)

    def below_size() -> int:
        # A generator's integers stop at 64 bits; the size of a space does not.
        return int.from_bytes(rng.bytes(size.bit_length() // 8 + 9), "little") % size

    offset = below_size()
    multiplier = below_size()
    while math.gcd(multiplier, size) != 1:
        multiplier = below_size()
    return multiplier, offset
