"""A candidate as a layer of one's own Flax NNX network: the very function that was trained.

As in the child networks, arithmetic inside is float32, and what is kept for the way back is x
alone. Letters: `C` channels, `S` slots, `P` vectors per slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from spaces import Occurrence, SpecialisedForm

from ..errors import RequestError


class CandidateActivation(nnx.Module):
    """An activation layer; `vectors` holds its trainable vectors by name, float32 `[C]` each.

    Args:
        form: The function.
        places: Where each of its vectors stands, by name.
        initial: Initial value of each, a number or an array `[C]`.
        channels: C.

    Raises:
        RequestError: A vector has another shape.
    """

    def __init__(
        self,
        form: SpecialisedForm,
        places: Mapping[str, Occurrence],
        initial: Mapping[str, Any],
        *,
        channels: int,
    ) -> None:
        self.form = nnx.static(form)
        self.places = nnx.static(tuple((name, p.slot, p.vector) for name, p in places.items()))
        arrays = {name: jnp.asarray(value, jnp.float32) for name, value in initial.items()}
        for name, value in arrays.items():
            if value.shape not in ((), (channels,)):
                raise RequestError(
                    f"`{name}` must be a number or have shape ({channels},), got {value.shape}"
                )
        self.vectors = nnx.Dict(
            {
                name: nnx.Param(jnp.broadcast_to(value, (channels,)).copy())
                for name, value in arrays.items()
            }
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """f(x) `[..., C]`, in the dtype of x."""
        form: Any = self.form
        places: Any = self.places
        channels = x.shape[-1] if x.ndim else 1
        beta = jnp.zeros((form.slots, form.vectors, channels), jnp.float32)
        for name, slot, vector in places:
            value = self.vectors[name][...]
            if value.shape != (channels,):
                raise RequestError(
                    f"this layer has {value.shape[0]} channels, its input {channels}"
                )
            beta = beta.at[slot, vector].set(value)
        return form(x, beta, None)
