"""Proximal policy optimisation of the controller on one batch of rewarded candidates.

Schulman et al. 2017, arXiv 1707.06347, eq. 7 with the entropy bonus of eq. 9 and no value function:
the advantage of a candidate is its reward minus an exponential moving average of the rewards before
it (Ramachandran et al. 2017, §2). A candidate is an episode of T steps without discount: each
decision has its own ratio, and all share the candidate's advantage.

Letters as in `lstm`.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from .lstm import Params, Shape, score

# exp(20) is far outside every clipping range, and finite.
_MAX_LOG_RATIO = 20.0


Moments = optax.ScaleByAdamState
"""Adam's step count and moments; the moments are shaped like the parameters."""


class Batch(NamedTuple):
    """Rewarded candidates; those without a known reward have weight 0."""

    tokens: jax.Array
    """int32 [B, T]."""
    log_probs: jax.Array
    """float32 [B, T], as recorded when the tokens were drawn."""
    advantages: jax.Array
    """float32 [B]."""
    weights: jax.Array
    """float32 [B], which sum to 1."""


class Hyperparameters(NamedTuple):
    """What an update depends on, beside its data."""

    learning_rate: float
    clip: float
    entropy_weight: float
    epochs: int


def surrogate(
    log_probs: jax.Array,
    entropy: jax.Array,
    batch: Batch,
    *,
    clip: float,
    entropy_weight: float,
) -> jax.Array:
    """Returns the loss: minus the clipped objective and the entropy bonus.

    Sums over a candidate's decisions, then takes the weighted mean over candidates.

    Args:
        log_probs: float32 [B, T], of the batch's tokens under the network being trained.
        entropy: float32 [B, T], in nats.
        batch: The candidates.
        clip: A ratio outside 1 ± `clip` is given no further push.
        entropy_weight: Weight of the entropy bonus, per nat.
    """
    # A very stale candidate could overflow, and 0 · ∞ is NaN.
    log_ratio = jnp.clip(log_probs - batch.log_probs, -_MAX_LOG_RATIO, _MAX_LOG_RATIO)
    ratio = jnp.exp(log_ratio)
    advantages = batch.advantages[:, None]
    clipped = jnp.clip(ratio, 1.0 - clip, 1.0 + clip)
    objective = jnp.minimum(ratio * advantages, clipped * advantages) + entropy_weight * entropy
    return -jnp.sum(batch.weights * jnp.sum(objective, axis=1))


@functools.partial(jax.jit, static_argnames=("shape", "hyper"))
def update(
    params: Params,
    adam: Moments,
    batch: Batch,
    *,
    shape: Shape,
    hyper: Hyperparameters,
) -> tuple[Params, Moments]:
    """Returns the parameters and Adam's moments after all epochs over the batch."""

    def loss(params: Params) -> jax.Array:
        rollout = score(params, batch.tokens, shape=shape)
        return surrogate(
            rollout.log_probs,
            rollout.entropy,
            batch,
            clip=hyper.clip,
            entropy_weight=hyper.entropy_weight,
        )

    def epoch(carry: tuple, _: None) -> tuple[tuple, None]:
        params, adam = carry
        gradient = jax.grad(loss)(params)
        # optax's Adam mixes its int32 count with float32.
        with jax.numpy_dtype_promotion("standard"):
            step, adam = optax.scale_by_adam().update(gradient, adam)
        params = jax.tree.map(lambda p, s: p - hyper.learning_rate * s, params, step)
        return (params, adam), None

    (params, adam), _ = jax.lax.scan(epoch, (params, adam), None, length=hyper.epochs)
    return params, adam
