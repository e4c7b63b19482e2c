"""Child networks: ResNets for small images, with the activation function given from outside.

He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385, section 4.2: 6n+2
layers, three stages of n basic blocks with w, 2w and 4w channels, stride 2 between the stages,
shortcuts of option A (no parameters), global average pooling, a dense layer.
BatchNorm keeps its scale, as the search paper (arXiv 1710.05941, section 5) advises: after Swish
a scale is not redundant, as it is after ReLU.

NNX objects stay in this module. What others see is `Child`: pure functions of nested dicts of
arrays.

Letters: B batch, H W C image, V classes, S slots, P vectors of a slot.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from .config import resnet_blocks
from .convolution import conv3x3
from .linked_form import LinkedForm
from .normalisation import batch_norm, normalise_by

Tree = Any
"""Nested dicts whose leaves are arrays."""


class Form(Protocol):
    """How an activation function is evaluated: `spaces.TracedForm` or `spaces.SpecialisedForm`."""

    @property
    def slots(self) -> int:
        """S, operator occurrences that may hold trainable vectors."""
        ...

    @property
    def vectors(self) -> int:
        """P, trainable vectors of one slot."""
        ...

    def initial(self, program: Any, /) -> jax.Array:
        """float32 [S, P]: the initial value of each vector."""
        ...

    def occurrences(self, candidate: Any, /) -> tuple[Any, ...]:
        """Which of the S x P vectors a candidate uses, and what for."""
        ...

    def __call__(self, x: jax.Array, beta: jax.Array, program: Any, /) -> jax.Array:
        """Evaluates the function on x [..., C] with beta float32 [S, P, C]."""
        ...


class ActivationParam(nnx.Param):
    """Trainable vectors of one activation layer, float32 [S, P, C]; never decayed."""


class ConvNorm(nnx.Module):
    """3 x 3 convolution in `dtype`, then BatchNorm, whose arithmetic is always float32."""

    momentum = 0.9
    """Of the running statistics, which so average some ten steps: short trials need to settle."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, dtype: jnp.dtype) -> None:
        self.kernel = nnx.Param(jnp.zeros((3, 3, inputs, outputs)))
        self.scale = nnx.Param(jnp.ones(outputs))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.mean = nnx.BatchStat(jnp.zeros(outputs))
        self.var = nnx.BatchStat(jnp.ones(outputs))
        self.stride = stride
        self.dtype = dtype

    def convolve(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] to `dtype` [B, H / stride, W / stride, C']."""
        kernel = self.kernel[...].astype(self.dtype)
        return conv3x3(x.astype(self.dtype), kernel, stride=self.stride)

    def convolve_float32(self, x: jax.Array) -> jax.Array:
        """The same from float32 to float32: what is multiplied is of `dtype`, and rounded on the way."""
        return conv3x3(x, self.kernel[...], stride=self.stride, arithmetic=self.dtype)

    def normalise(self, y: jax.Array, *, train: bool) -> jax.Array:
        """What `convolve` gave, normalised, of the same dtype."""
        scale, bias = self.scale[...], self.bias[...]
        if train:
            y, mean, variance = batch_norm(y, scale, bias)
            self.learn(mean, variance)
        else:
            y = normalise_by(y, self.mean[...], self.var[...], scale, bias)
        return y.astype(self.dtype)

    def learn(self, mean: jax.Array, variance: jax.Array) -> None:
        """The running statistics follow those of a batch, float32 [C']."""
        for running, now in ((self.mean, mean), (self.var, variance)):
            running[...] = self.momentum * running[...] + (1 - self.momentum) * now


class Activation(nnx.Module):
    """One place in a child network where the candidate stands, with its own trainable vectors."""

    def __init__(self, channels: int, form: Form) -> None:
        self.form = nnx.static(form)
        self.beta = ActivationParam(jnp.zeros((form.slots, form.vectors, channels), jnp.float32))

    def __call__(
        self,
        layer: ConvNorm,
        x: jax.Array,
        program: Any,
        *,
        train: bool,
        added: jax.Array | None = None,
    ) -> jax.Array:
        """The candidate on what a layer makes of x [B, H, W, C], and on what is added to that.

        Of the layer's dtype; linked, all that flows between convolutions is float32.
        """
        form = self.form
        if not isinstance(form, LinkedForm):
            y = layer.normalise(layer.convolve(x), train=train)
            return form(y if added is None else y + added, self.beta[...], program)
        y = layer.convolve_float32(x)
        scale, bias, beta = layer.scale[...], layer.bias[...], self.beta[...]
        if train:
            found, *now = form.behind_batch_norm(y, scale, bias, added, beta, program)
            layer.learn(*now)
            return found
        statistics = layer.mean[...], layer.var[...]
        return form.behind_norm(y, *statistics, scale, bias, added, beta, program)


def shortcut(x: jax.Array, *, channels: int, stride: int) -> jax.Array:
    """Option A of He et al.: every `stride`-th pixel, new channels filled with zeros."""
    x = x[:, ::stride, ::stride, :]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[-1])))


class BasicBlock(nnx.Module):
    """conv-norm-act, conv-norm, plus shortcut, act."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        stride: int,
        form: Form,
        dtype: jnp.dtype,
    ) -> None:
        self.conv1 = ConvNorm(inputs, outputs, stride=stride, dtype=dtype)
        self.act1 = Activation(outputs, form)
        self.conv2 = ConvNorm(outputs, outputs, stride=1, dtype=dtype)
        self.act2 = Activation(outputs, form)
        self.channels = outputs
        self.stride = stride

    def __call__(self, x: jax.Array, program: Any, *, train: bool) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, C']."""
        y = self.act1(self.conv1, x, program, train=train)
        added = shortcut(x, channels=self.channels, stride=self.stride)
        return self.act2(self.conv2, y, program, train=train, added=added)


class ResNet(nnx.Module):
    """CIFAR ResNet of 6n+2 layers for images of any size and number of channels.

    Args:
        name: `resnet{6n+2}`.
        width: w, channels of the first stage.
        channels: C of the images.
        num_classes: V.
        form: How activation functions are evaluated.
        dtype: Arithmetic of the convolutions and of what flows between them.
        rngs: What NNX asks for; initial weights come from `Child.initial`.
    """

    def __init__(
        self,
        name: str,
        *,
        width: int,
        channels: int,
        num_classes: int,
        form: Form,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.stem = ConvNorm(channels, width, stride=1, dtype=dtype)
        self.act = Activation(width, form)
        blocks = []
        inputs = width
        for stage in range(3):
            outputs = width * 2**stage
            for block in range(resnet_blocks(name)):
                stride = 2 if stage and not block else 1
                blocks.append(BasicBlock(inputs, outputs, stride=stride, form=form, dtype=dtype))
                inputs = outputs
        self.blocks = nnx.List(blocks)
        self.dense = nnx.Linear(
            inputs,
            num_classes,
            dtype=jnp.float32,
            rngs=rngs,
        )

    def __call__(self, images: jax.Array, program: Any, *, train: bool) -> jax.Array:
        """Logits float32 [B, V] of float32 images [B, H, W, C]."""
        x = self.act(self.stem, images, program, train=train)
        for block in self.blocks:
            x = block(x, program, train=train)
        return self.dense(x.astype(jnp.float32).mean(axis=(1, 2)))


CHILDREN: Mapping[str, Callable[..., nnx.Module]] = {"resnet": ResNet}
"""Families of child networks, by the letters of their names."""


class Variables(NamedTuple):
    """Everything in a child that changes in training."""

    weights: Tree
    """Kernels, biases, scales."""
    beta: Tree
    """Trainable vectors of operators: one float32 [S, P, C] for each activation layer."""
    stats: Tree
    """BatchNorm's running means and variances."""


_CONSTANTS = {"bias": 0.0, "scale": 1.0, "mean": 0.0, "var": 1.0}
"""Initial values of what is not drawn, by the last part of the name."""


def _variables(model: nnx.Module) -> Variables:
    _, beta, weights, stats = nnx.split(model, ActivationParam, nnx.Param, nnx.BatchStat)
    return Variables(*(nnx.to_pure_dict(state) for state in (weights, beta, stats)))


@dataclasses.dataclass(frozen=True, eq=False)
class Child:
    """A child network as pure functions over `Variables`.

    Args:
        name: Name of the network, for example `resnet20`.
        width: Channels of its first stage.
        channels: C of the images.
        num_classes: V.
        form: How activation functions are evaluated.
        precision: `float32` or `bfloat16`, arithmetic of the convolutions.
    """

    name: str
    width: int
    channels: int
    num_classes: int
    form: Form
    precision: str
    _graph: Any = dataclasses.field(init=False, repr=False)
    shapes: Variables = dataclasses.field(init=False, repr=False)
    _drawn: dict[int, tuple[Tree, Tree]] = dataclasses.field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    """What the last seed gave."""
    """Shapes and dtypes of the child's variables."""

    def __post_init__(self) -> None:
        model = nnx.eval_shape(self._build)
        object.__setattr__(self, "_graph", nnx.split(model)[0])
        object.__setattr__(self, "shapes", _variables(model))

    def _build(self) -> nnx.Module:
        return CHILDREN[self.name.rstrip("0123456789")](
            self.name,
            width=self.width,
            channels=self.channels,
            num_classes=self.num_classes,
            form=self.form,
            dtype=jnp.dtype(self.precision),
            rngs=nnx.Rngs(0),
        )

    def initial(self, beta: np.ndarray, *, seed: int) -> Variables:
        """The variables before the first step.

        Kernels are normal with variance 2 / fan in, as in He et al., "Delving Deep into
        Rectifiers", arXiv 1502.01852, equation 10. They depend on the seed and on no candidate:
        all start with the same weights. NumPy draws them, because XLA took 4.6 s to compile the
        same for ResNet-8, and so that they are the same bits on every backend.

        Args:
            beta: float32 [S, P], the initial value of each trainable vector, in every channel.
            seed: Equal seeds give equal weights.
        """
        if seed not in self._drawn:
            self._drawn.clear()
            self._drawn[seed] = self._draw(seed)
        weights, stats = self._drawn[seed]
        vectors = jax.tree.map(
            lambda site: np.broadcast_to(beta[:, :, None], site.shape), self.shapes.beta
        )
        return Variables(weights, vectors, stats)

    def _draw(self, seed: int) -> tuple[Tree, Tree]:
        """Weights and statistics, which nobody may write to."""
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))

        def draw(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
            kind = path[-1].key
            if kind == "kernel":
                scale = np.float32(math.sqrt(2 / math.prod(leaf.shape[:-1])))
                found = scale * rng.standard_normal(leaf.shape, np.float32)
            else:
                found = np.full(leaf.shape, _CONSTANTS[kind], np.float32)
            found.setflags(write=False)
            return found

        weights, _, stats = self.shapes
        return (
            jax.tree_util.tree_map_with_path(draw, weights),
            jax.tree_util.tree_map_with_path(draw, stats),
        )

    def apply(
        self, variables: Variables, images: jax.Array, program: Any, *, train: bool
    ) -> tuple[jax.Array, Tree]:
        """Runs the network.

        Args:
            variables: The network's variables.
            images: float32 [B, H, W, C].
            program: The candidate.
            train: Whether BatchNorm uses (and its running statistics learn from) this batch.

        Returns:
            Logits float32 [B, V] and the statistics afterwards.
        """
        # Copies of JAX arrays: under `grad` a merged BatchNorm may not write to the variables it
        # was merged from, and into NumPy arrays it would write in place.
        arrays = jax.tree.map(jnp.asarray, variables)
        model: Any = nnx.merge(self._graph, *arrays, copy=True)
        logits = model(images, program, train=train)
        return logits, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

    def activation_layers(self, beta: Tree) -> dict[str, Any]:
        """Leaves of `Variables.beta` by the names of their layers, for example `blocks.0.act1`."""
        return {
            ".".join(str(getattr(part, "key", part)) for part in path[:-1]): leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(beta)
        }
