"""Plain JAX as a peer: what a competent user writes who has one candidate to try.

flax.linen, optax and one `jax.jit` for each candidate, with autodiff through the composed operators.
Convolutions and BatchNorm are flax's, the loop is a Python loop, and the next candidate is compiled
anew. It shares with this project's trainer the operators, the augmentation and the learning rate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, path_aware_map, unflatten_dict
from peer import Score, Setting

from spaces import PAPER, Candidate, parse
from spaces.catalogue import known_operators
from spaces.function import compose
from trainers.augment import channel_statistics, crop_and_flip, normalise, padding
from trainers.config import TrainConfig, resnet_blocks
from trainers.dataset import Dataset, load_dataset
from trainers.schedule import learning_rate


class Activation(nn.Module):
    """The candidate, with trainable vectors [1, 1, 1, C]."""

    candidate: Candidate

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The candidate on x [B, H, W, C]."""
        known = known_operators(PAPER)
        names = [n for u in self.candidate.units for n in (u.unary1, u.unary2, u.binary)]

        def vectors(slot: int) -> dict[str, Any]:
            return {
                param.name: self.param(
                    f"p{slot}_{index}",
                    nn.initializers.constant(param.init),
                    (1, 1, 1, x.shape[-1]),
                )
                for index, param in enumerate(known[names[slot]].params)
            }

        return compose(self.candidate, known, x, vectors)


class ConvNorm(nn.Module):
    """3 x 3 convolution, then BatchNorm."""

    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, C']."""
        x = nn.Conv(
            self.channels,
            (3, 3),
            (self.stride, self.stride),
            padding=1,
            use_bias=False,
            kernel_init=nn.initializers.he_normal(),
            name="conv",
        )(x)
        return nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)


class ResNet(nn.Module):
    """The child of `trainers.resnet`."""

    child: str
    width: int
    num_classes: int
    candidate: Candidate

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Logits [B, V] of normalised images [B, H, W, C]."""
        x = Activation(self.candidate)(ConvNorm(self.width, name="stem")(x, train=train))
        for index in range(3 * resnet_blocks(self.child)):
            stage, block = divmod(index, resnet_blocks(self.child))
            channels, stride = self.width * 2**stage, 2 if stage and not block else 1
            name = f"blocks_{index}_conv"
            y = ConvNorm(channels, stride, name=f"{name}1")(x, train=train)
            y = ConvNorm(channels, name=f"{name}2")(Activation(self.candidate)(y), train=train)
            x = x[:, ::stride, ::stride]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[-1])))
            x = Activation(self.candidate)(x + y)
        dense = nn.Dense(self.num_classes, kernel_init=nn.initializers.he_normal(), name="dense")
        return dense(x.mean(axis=(1, 2)))


def load(variables: Any, weights: Mapping[str, np.ndarray]) -> Any:
    """Variables whose kernels, scales and biases are those of another child.

    Args:
        variables: What `ResNet.init` returned.
        weights: All kernels, scales and biases by names as `blocks.0.conv1.kernel`.
    """
    params = flatten_dict(variables["params"])
    named = {_plain_name(path): path for path in params if not path[0].startswith("Activation")}
    if set(weights) != set(named):
        raise ValueError(f"`weights` must be called {sorted(named)}, got {sorted(weights)}")
    taken = {named[name]: jnp.asarray(value) for name, value in weights.items()}
    return {**variables, "params": unflatten_dict(params | taken)}


def _kernels(params: Any) -> Any:
    """True at the parameters that decay."""
    return path_aware_map(lambda path, _: path[-1] == "kernel", params)


def _plain_name(path: tuple[str, ...]) -> str:
    """`blocks_0_conv1/conv/kernel` is `blocks.0.conv1.kernel`."""
    first = path[0].replace("_", ".")
    return f"{first}.{path[-1]}"


class NaivePeer:
    """Trains children one `jit` at a time."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        train = setting.train
        self._data = load_dataset(
            train.dataset,
            data_dir=setting.data_dir,
            image_size=train.image_size,
            valid_size=train.valid_size,
            seed=setting.seed,
        )
        self._open: dict[str, Training] = {}

    def score(self, form: str, expression: str, steps: int) -> Score:
        """See `peer.Peer`."""
        start = time.perf_counter()
        training = Training(
            parse(expression, PAPER), self._setting.train, self._data, self._setting.seed, steps
        )
        built = time.perf_counter()
        training.compile()
        compiled = time.perf_counter()
        finite = all(math.isfinite(loss) for loss in training.run(steps))
        trained = time.perf_counter()
        loss, accuracy = training.evaluate()
        end = time.perf_counter()
        ok = finite and math.isfinite(loss)
        return Score(
            status="ok" if ok else "loss became nan or infinite",
            accuracy=accuracy if ok else None,
            loss=loss if ok else None,
            compile_s=compiled - built,
            train_s=trained - compiled,
            evaluate_s=end - trained,
            total_s=end - start,
        )

    def open(self, form: str, expression: str) -> None:
        """See `peer.Peer`."""
        training = Training(
            parse(expression, PAPER), self._setting.train, self._data, self._setting.seed, 1000
        )
        training.compile()
        training.run(3)
        self._open[form] = training

    def advance(self, form: str, steps: int) -> float:
        """See `peer.Peer`."""
        start = time.perf_counter()
        self._open[form].run(steps)
        return (time.perf_counter() - start) / steps

    def close(self) -> None:
        """See `peer.Peer`."""
        self._open.clear()


class Training:
    """One child; see `NaivePeer`."""

    def __init__(
        self, candidate: Candidate, config: TrainConfig, data: Dataset, seed: int, total: int
    ) -> None:
        self._config, self._data, self._seed = config, data, seed
        mean, deviation = (jnp.asarray(each) for each in channel_statistics(data.train.images))
        self._model = ResNet(config.child, config.width, data.num_classes, candidate)
        key, image = jax.random.key(seed), data.train.images.shape[1:]
        self.variables: Any = self._model.init(key, jnp.zeros((1, *image)), train=False)
        schedule = lambda step: learning_rate(  # noqa: E731
            step,
            jnp.int32(total),
            highest=config.lr,
            schedule=config.schedule,
            warmup=config.warmup,
        )
        self._optimizer = optax.chain(
            optax.add_decayed_weights(
                config.weight_decay,
                mask=_kernels,
            ),
            optax.sgd(schedule, momentum=config.momentum, nesterov=config.nesterov),
        )
        self._moments = self._optimizer.init(self.variables["params"])

        def train(variables: Any, moments: Any, images: Any, labels: Any, key: Any) -> Any:
            inputs = normalise(images, mean, deviation)
            if config.augment:
                pad = padding(min(image[:2]))
                inputs = crop_and_flip(inputs, key=key, pad=pad, mirror=data.mirror)

            def objective(params: Any) -> Any:
                logits, updated = self._model.apply(
                    {**variables, "params": params}, inputs, train=True, mutable=["batch_stats"]
                )
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
                return losses.mean(), updated

            params = variables["params"]
            (loss, updated), gradient = jax.value_and_grad(objective, has_aux=True)(params)
            with jax.numpy_dtype_promotion("standard"):
                change, moments = self._optimizer.update(gradient, moments, params)
            return {"params": optax.apply_updates(params, change), **updated}, moments, loss

        def evaluate(variables: Any, images: Any, labels: Any) -> Any:
            logits: Any = self._model.apply(
                variables, normalise(images, mean, deviation), train=False
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return jnp.stack(
                [losses.sum(), (logits.argmax(-1) == labels).sum().astype(jnp.float32)]
            )

        self._train: Any = jax.jit(train, donate_argnums=(0, 1))
        self._evaluate: Any = jax.jit(evaluate)

    def compile(self) -> None:
        """Compiles both functions."""
        images, labels = next(self._batches())
        self._train = self._train.lower(
            self.variables, self._moments, images, labels, jax.random.key(0)
        ).compile()
        images, labels = next(self._valid())
        self._evaluate = self._evaluate.lower(self.variables, images, labels).compile()

    def run(self, steps: int) -> list[float]:
        """Trains and returns the losses."""
        key, batches, losses = jax.random.key(self._seed), self._batches(), []
        for step in range(steps):
            self.variables, self._moments, loss = self._train(
                self.variables, self._moments, *next(batches), jax.random.fold_in(key, step)
            )
            losses.append(loss)
        return [float(loss) for loss in losses]

    def evaluate(self) -> tuple[float, float]:
        """Mean cross-entropy and accuracy on the validation split."""
        sums = [self._evaluate(self.variables, *batch) for batch in self._valid()]
        loss, right = (np.stack(sums).sum(0) / len(self._data.valid.labels)).tolist()
        return loss, right

    def _batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng, size = np.random.default_rng(self._seed), self._config.batch_size
        train = self._data.train
        while True:
            order = rng.permutation(len(train.labels))
            for start in range(0, len(order) - size + 1, size):
                batch = order[start : start + size]
                yield train.images[batch], train.labels[batch]

    def _valid(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        valid = self._data.valid
        # A batch that divides the split, so that there is one program.
        size = next(n for n in range(256, 0, -1) if len(valid.labels) % n == 0)
        for start in range(0, len(valid.labels), size):
            yield valid.images[start : start + size], valid.labels[start : start + size]
