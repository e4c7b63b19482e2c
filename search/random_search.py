"""Random search: every proposal is uniform over the space and learns nothing.

The baseline that any search has to beat. Proposal t is drawn from a generator seeded by (seed, t):
the state is two integers. The same candidate may be proposed twice; the driver knows equal
functions and gives the known reward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .strategy import Proposal, State, checked

if TYPE_CHECKING:
    from spaces import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomConfig:
    """Random search has no options."""

    def build(self, space: SearchSpace) -> RandomSearch:
        """Returns random search over `space`."""
        return RandomSearch(space)


class RandomSearch:
    """See the module."""

    checkpoint_every = 100
    learns = False

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def init(self, *, seed: int) -> State:
        """Returns the state of a search that has proposed nothing."""
        return {"seed": seed, "asked": 0}

    def ask(self, state: State) -> tuple[State, Proposal | None]:
        """Returns a uniform proposal; never None."""
        rng = np.random.default_rng([state["seed"], state["asked"]])
        return {**state, "asked": state["asked"] + 1}, Proposal(self._space.sample(rng))

    def tell(self, state: State, proposal: Proposal, reward: float | None) -> State:
        """Returns the state as it is: nothing is learned."""
        checked(reward)
        return state

    def metrics(self, state: State) -> dict[str, float | list]:
        """Returns nothing: there is nothing to see."""
        return {}
