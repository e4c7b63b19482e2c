"""The controller's network: one LSTM layer that predicts a candidate decision by decision.

Ramachandran et al. 2017, §2, after Zoph & Le 2016 (arXiv 1611.01578, §3.1): each prediction is fed
back in as the input of the next. Decisions differ in their number of choices, so each has its own
softmax head, and a fed-back prediction is embedded by the table of the decision that made it; the
first input is a learned vector. Heads and tables are stored padded to the widest decision, with
what is padded masked out of every softmax, so that one `lax.scan` walks all decisions.

Letters: B batch, T decisions, V choices of the widest decision, H hidden width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

# A logit far below all others: its probability is exactly 0 in float32 and p·log p stays finite.
_NEVER = -1e9

Params = dict[str, Any]
"""The network's parameters as nested dicts of float32 arrays."""


class Shape(NamedTuple):
    """What the network's parameters depend on, beside their values."""

    choices: tuple[int, ...]
    """Number of choices of each decision; T = len(choices), V = max(choices)."""
    hidden: int
    """H."""


class Rollout(NamedTuple):
    """A batch of candidates and what the network thought of them."""

    tokens: jax.Array
    """int32 [B, T]."""
    log_probs: jax.Array
    """float32 [B, T], of each token given those before it."""
    entropy: jax.Array
    """float32 [B, T], of the distribution that each token was drawn from, in nats."""
    probabilities: jax.Array
    """float32 [B, T, V], that distribution; 0 where padded."""


class Policy(nnx.Module):
    """One LSTM layer with an embedding table and a head for each decision.

    Args:
        shape: T, V and H.
        init_scale: Weights start uniform in ±`init_scale`; biases start at 0.
        rngs: Source of the initial weights.
    """

    def __init__(self, shape: Shape, init_scale: float, *, rngs: nnx.Rngs) -> None:
        t, v, h = len(shape.choices), max(shape.choices), shape.hidden

        def uniform(key: jax.Array, dims: Any, dtype: Any = jnp.float32, **_: Any) -> jax.Array:
            return jax.random.uniform(key, dims, dtype, -init_scale, init_scale)

        self.cell = nnx.OptimizedLSTMCell(
            h, h, kernel_init=uniform, recurrent_kernel_init=uniform, rngs=rngs
        )
        self.start = nnx.Param(uniform(rngs.params(), (h,)))
        self.embedding = nnx.Param(uniform(rngs.params(), (t, v, h)))
        self.kernel = nnx.Param(uniform(rngs.params(), (t, h, v)))
        self.bias = nnx.Param(jnp.zeros((t, v)))
        self.shape = shape

    def __call__(
        self, choose: Callable[[Any, jax.Array], jax.Array], guides: Any, batch: int
    ) -> Rollout:
        """Walks the decisions for a batch.

        Args:
            choose: From one decision's guide and its log-probabilities [B, V] to tokens int32 [B].
            guides: Pytree with a leading dimension T.
            batch: B.
        """
        shape = self.shape
        legal = np.arange(max(shape.choices))[None, :] < np.array(shape.choices)[:, None]

        def step(carry: Any, decision: Any) -> Any:
            memory, inputs = carry
            embedding, kernel, bias, mask, guide = decision
            memory, output = self.cell(memory, inputs)
            logits = jnp.where(mask[None, :], output @ kernel + bias[None, :], _NEVER)
            log_probs = jax.nn.log_softmax(logits)
            probs = jnp.exp(log_probs)
            tokens = choose(guide, log_probs)
            chosen = jnp.take_along_axis(log_probs, tokens[:, None], axis=1)[:, 0]
            entropy = -jnp.sum(probs * log_probs, axis=1)
            return (memory, embedding[tokens]), (tokens, chosen, entropy, probs)

        zeros = jnp.zeros((batch, shape.hidden))
        first = jnp.broadcast_to(self.start[...][None, :], zeros.shape)
        per_decision = (
            self.embedding[...],
            self.kernel[...],
            self.bias[...],
            legal,
            guides,
        )
        _, steps = jax.lax.scan(step, ((zeros, zeros), first), per_decision)
        return Rollout(*(jnp.moveaxis(leaf, 0, 1) for leaf in steps))


@functools.partial(jax.jit, static_argnames=("shape", "init_scale"))
def initial(key: jax.Array, *, shape: Shape, init_scale: float) -> Params:
    """Returns fresh parameters; `key` is key data, uint32 [2]."""
    policy = Policy(shape, init_scale, rngs=nnx.Rngs(_typed(key)))
    return nnx.to_pure_dict(nnx.state(policy, nnx.Param))


@functools.partial(jax.jit, static_argnames=("shape", "batch"))
def sample(
    params: Params, key: jax.Array, *, shape: Shape, batch: int
) -> tuple[jax.Array, Rollout]:
    """Draws a batch of candidates; returns the next key data and the rollout."""
    following, now = jax.random.split(_typed(key))

    def choose(key: jax.Array, log_probs: jax.Array) -> jax.Array:
        return jax.random.categorical(key, log_probs)

    rollout = _policy(params, shape)(choose, jax.random.split(now, len(shape.choices)), batch)
    return jax.random.key_data(following), rollout


def score(params: Params, tokens: jax.Array, *, shape: Shape) -> Rollout:
    """Returns what the network thinks of given candidates, tokens int32 [B, T]; differentiable."""
    rollout = _policy(params, shape)(lambda given, _: given, tokens.T, tokens.shape[0])
    return rollout


def _policy(params: Params, shape: Shape) -> Policy:
    graph, state = _structure(shape)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)


def _structure(shape: Shape) -> tuple[Any, Any]:
    """Returns the network's graph and the shapes of its parameters; nothing is computed."""
    policy = nnx.eval_shape(lambda: Policy(shape, 0.0, rngs=nnx.Rngs(0)))
    return nnx.split(policy)


def _typed(key: jax.Array) -> jax.Array:
    # The implementation is named, so that a resumed run does not depend on JAX's configuration.
    return jax.random.wrap_key_data(key, impl="threefry2x32")
