"""The one step function: what happens in a training step and in an evaluation of a batch.

Drivers (`trainers.loop`) differ in where the loop runs and where the images lie; both call these.

Source of the training's form: He et al., arXiv 1512.03385, section 4.2: stochastic gradient
descent with momentum, weight decay, cross-entropy.

Letters: B batch, H W C image, V classes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .augment import crop_and_flip, normalise, padding
from .config import TrainConfig
from .packing import Packing
from .resnet import Child, Tree, Variables
from .schedule import learning_rate


class TrainState(NamedTuple):
    """All that a step reads and writes."""

    variables: Variables
    optimizer: Any
    """State of the optimizer: the momentum of weights and of trainable vectors."""


def _decayed(trained: Any) -> Any:
    """True at kernels of convolutions and of dense layers, the only leaves that are decayed."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", trained)


@dataclass(frozen=True, eq=False)
class StepFunctions:
    """The pure functions that drivers compile.

    Args:
        config: How to train.
        child: What to train.
        mean: float32 [C], mean of the training images.
        deviation: float32 [C], their standard deviation.
        mirror: Whether images may be flipped left to right.
    """

    config: TrainConfig
    child: Child
    mean: np.ndarray
    deviation: np.ndarray
    mirror: bool

    @property
    def _descent(self) -> optax.GradientTransformation:
        # The learning rate is not optax's: it depends on the total number of steps, which is an
        # argument of the compiled program.
        return optax.chain(
            optax.add_decayed_weights(self.config.weight_decay, mask=_decayed),
            optax.trace(decay=self.config.momentum, nesterov=self.config.nesterov),
        )

    def begin(self, beta: np.ndarray, *, seed: int) -> TrainState:
        """The state before the first step, on the host.

        Args:
            beta: float32 [S, P], initial values of the candidate's trainable vectors.
            seed: Decides the weights, equal for all candidates.
        """
        variables = self.child.initial(beta, seed=seed)
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), self.shapes.optimizer)
        return TrainState(variables, zeros)

    @functools.cached_property
    def shapes(self) -> TrainState:
        """Shapes and dtypes of the state."""
        variables = self.child.shapes
        optimizer = jax.eval_shape(self._descent.init, (variables.weights, variables.beta))
        return TrainState(variables, optimizer)

    @functools.cached_property
    def packing(self) -> Packing:
        """The state as one array."""
        return Packing(self.shapes)

    def _images(self, images: jax.Array) -> jax.Array:
        return normalise(images, jnp.asarray(self.mean), jnp.asarray(self.deviation))

    def train(
        self,
        state: TrainState,
        images: jax.Array,
        labels: jax.Array,
        program: Any,
        seed: jax.Array,
        step: jax.Array,
        total: jax.Array,
    ) -> tuple[TrainState, jax.Array]:
        """One training step.

        Args:
            state: The state before it.
            images: uint8 [B, H, W, C].
            labels: int32 [B].
            program: The candidate.
            seed: uint32 []; with `step` it decides the augmentation.
            step: int32 [], steps done before this one.
            total: int32 [], steps of the whole training.

        Returns:
            The state after it, and float32 [2]: the batch's mean cross-entropy and its accuracy,
            both before the update.
        """
        config = self.config
        inputs = self._images(images)
        if config.augment:
            inputs = crop_and_flip(
                inputs,
                key=jax.random.fold_in(jax.random.key(seed), step),
                pad=padding(min(images.shape[1:3])),
                mirror=self.mirror,
            )

        def objective(trained: tuple[Tree, Tree]) -> tuple[jax.Array, tuple[jax.Array, Tree]]:
            variables = Variables(trained[0], trained[1], state.variables.stats)
            logits, stats = self.child.apply(variables, inputs, program, train=True)
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            correct = (logits.argmax(axis=-1) == labels).astype(jnp.float32)
            return loss, (jnp.stack([loss, correct.mean()]), stats)

        trained = (state.variables.weights, state.variables.beta)
        gradient, (metrics, stats) = jax.grad(objective, has_aux=True)(trained)
        with jax.numpy_dtype_promotion("standard"):
            direction, optimizer = self._descent.update(gradient, state.optimizer, trained)
        rate = learning_rate(
            step, total, highest=config.lr, schedule=config.schedule, warmup=config.warmup
        )
        weights, beta = jax.tree.map(
            lambda value, change: value - rate * change, trained, direction
        )
        return TrainState(Variables(weights, beta, stats), optimizer), metrics

    def evaluate(
        self,
        variables: Variables,
        images: jax.Array,
        labels: jax.Array,
        counted: jax.Array,
        program: Any,
    ) -> jax.Array:
        """Evaluates a batch with BatchNorm's running statistics.

        Args:
            variables: The network's variables.
            images: uint8 [B, H, W, C].
            labels: int32 [B].
            counted: bool [B], False for the padding of the last batch.
            program: The candidate.

        Returns:
            float32 [2]: the summed cross-entropy and the number of right answers.
        """
        logits, _ = self.child.apply(variables, self._images(images), program, train=False)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        correct = (logits.argmax(axis=-1) == labels).astype(jnp.float32)
        # `where` and no product: a non-finite loss of a padding image is not to spread.
        return jnp.stack([jnp.where(counted, each, 0.0).sum() for each in (losses, correct)])
