"""The course of the learning rate over training, as a function of arrays.

The total number of steps is an argument like the step itself, so that a trial on a shorter rung
runs through the program that was compiled for the longest.

Sources: cosine: Loshchilov, Hutter, "SGDR", arXiv 1608.03983, equation 5, without restarts. Step:
He et al., arXiv 1512.03385, section 4.2 (÷ 10 at 32k and 48k of 64k steps). Linear warm-up: Goyal
et al., arXiv 1706.02677, section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp


def _cosine(progress: jax.Array) -> jax.Array:
    return 0.5 * (1.0 + jnp.cos(jnp.pi * progress))


def _step(progress: jax.Array) -> jax.Array:
    return jnp.where(progress < 0.5, 1.0, jnp.where(progress < 0.75, 0.1, 0.01))


def _constant(progress: jax.Array) -> jax.Array:
    return jnp.ones_like(progress)


SHAPES: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "cosine": _cosine,
    "step": _step,
    "constant": _constant,
}
"""Share of the highest rate, by the share of training that is done."""


def learning_rate(
    step: jax.Array, total: jax.Array, *, highest: float, schedule: str, warmup: float
) -> jax.Array:
    """The learning rate of one step.

    Args:
        step: int32 [], steps done before this one: 0 … total - 1.
        total: int32 [], steps of the whole training.
        highest: Rate at which the schedule starts, were there no warm-up.
        schedule: A name in `SHAPES`.
        warmup: Share of `total` during which the schedule is scaled by 1/w, 2/w, … w/w, with w
            that share in whole steps.

    Returns:
        float32 [].
    """
    done = step.astype(jnp.float32)
    whole = total.astype(jnp.float32)
    rising = jnp.maximum(jnp.round(warmup * whole), 1.0)
    ramp = jnp.minimum((done + 1.0) / rising, 1.0)
    return highest * ramp * SHAPES[schedule](done / whole)
