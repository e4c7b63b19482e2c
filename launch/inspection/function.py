"""A candidate to be called and to be put into one's own network.

Letters: `C` channels, `S` slots and `P` vectors per slot of `spaces.OperatorTable`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from spaces import Candidate, Occurrence, OperatorSet, OperatorTable
from spaces.catalogue import known_operators
from spaces.function import compose
from spaces.suggest import did_you_mean

from ..errors import RequestError

if TYPE_CHECKING:
    from .flax_activation import CandidateActivation


@dataclass(frozen=True)
class Function:
    """An activation function: call it on arrays, or make a Flax module of it.

    Args:
        candidate: The function.
        operators: The operators that it may name, hidden ones aside.
        beta_init: Initial value of every trainable vector; None takes each operator's own.
    """

    candidate: Candidate
    operators: OperatorSet
    beta_init: float | None = None

    @cached_property
    def table(self) -> OperatorTable:
        """The operators of a program that holds just this function."""
        return OperatorTable.for_run(
            self.operators,
            core_units=len(self.candidate.pruned().units),
            extra=[self.candidate],
            beta_init=self.beta_init,
        )

    @cached_property
    def places(self) -> Mapping[str, Occurrence]:
        """Where each trainable vector stands, by name: `beta`, or `beta_1`, `beta_2` as written."""
        found = self.table.occurrences(self.candidate)
        several = Counter(occurrence.param for occurrence in found)
        seen: Counter[str] = Counter()
        named = {}
        for occurrence in found:
            seen[occurrence.param] += 1
            order = f"_{seen[occurrence.param]}" if several[occurrence.param] > 1 else ""
            named[occurrence.param + order] = occurrence
        return named

    @cached_property
    def vectors(self) -> Mapping[str, float]:
        """Initial values of the trainable vectors by name."""
        known = known_operators(self.operators)
        own = {
            name: next(p.init for p in known[place.operator].params if p.name == place.param)
            for name, place in self.places.items()
        }
        return own if self.beta_init is None else dict.fromkeys(own, self.beta_init)

    def __call__(self, x: Any, **vectors: Any) -> Any:
        """f(x), differentiable by JAX in x and in the vectors.

        Args:
            x: Numbers or an array `[..., C]`, of NumPy or JAX. Whole numbers count as float32, and
                arithmetic is float32 at least.
            vectors: Values of trainable vectors by name, each a number or an array `[C]`; the
                others have their initial values.

        Returns:
            f(x) in the shape and dtype of x; NumPy unless something given was of JAX.

        Raises:
            RequestError: There is no vector of this name, or it has another shape.
        """
        import jax
        import jax.numpy as jnp
        import numpy as np

        values = self.given(vectors)
        if any(isinstance(each, jax.Array) for each in (x, *vectors.values())):
            return self._evaluate(jnp.asarray(x), values)
        x = np.asarray(x)
        wide = jax.enable_x64(True) if x.dtype == np.float64 else contextlib.nullcontext()
        with wide:
            return np.asarray(self._evaluate(jnp.asarray(x), values))[()]

    def _evaluate(self, x: Any, values: Mapping[str, Any]) -> Any:
        import jax.numpy as jnp

        dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.dtype(jnp.float32)
        inside = jnp.float64 if dtype == jnp.float64 else jnp.float32
        slots: dict[int, dict[str, Any]] = {}
        for name, place in self.places.items():
            value = jnp.asarray(values[name]).astype(inside)
            if value.shape not in ((), x.shape[-1:]):
                raise RequestError(
                    f"`{name}` must be a number or have one value per channel, shape "
                    f"{x.shape[-1:]}, got shape {value.shape}"
                )
            value = value.reshape((1,) * (x.ndim - value.ndim) + value.shape)
            slots.setdefault(place.slot, {})[place.param] = value
        known = known_operators(self.operators)
        found = compose(self.candidate, known, x.astype(inside), lambda slot: slots[slot])
        return found.astype(dtype)

    def given(self, vectors: Mapping[str, Any]) -> dict[str, Any]:
        """All vectors by name: those that are given, the others initial.

        Raises:
            RequestError: There is no vector of this name.
        """
        for name in vectors:
            if name not in self.vectors:
                has = f"has {', '.join(self.vectors)}" if self.vectors else "has none"
                near = did_you_mean(name, self.vectors) or f"; it {has}"
                raise RequestError(f"{self.candidate} has no trainable vector `{name}`{near}")
        return {**self.vectors, **vectors}

    def flax(self, channels: int | None = None, **vectors: Any) -> CandidateActivation:
        """A Flax NNX module of this function, with trainable vectors of its own.

        Args:
            channels: C of what it will be called on; needed if the function has vectors.
            vectors: Initial values by name, each a number or an array `[C]`.

        Raises:
            RequestError: `channels` is missing or < 1, or a vector is none of the function's.
        """
        from .flax_activation import CandidateActivation

        if channels is None and self.vectors:
            raise RequestError(
                f"`channels` must be given: {self.candidate} has a value per channel of "
                f"{', '.join(self.vectors)}"
            )
        if channels is not None and channels < 1:
            raise RequestError(f"`channels` must be ≥ 1, got {channels}")
        return CandidateActivation(
            self._form, self.places, self.given(vectors), channels=channels or 1
        )

    @cached_property
    def _form(self) -> Any:
        """Shared by all modules of this function, so that they compile as one."""
        from spaces import SpecialisedForm

        return SpecialisedForm(self.table, self.candidate)
