"""Child networks against He et al.'s numbers and against a slow network in NumPy."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from spaces import PAPER, OperatorTable, SpecialisedForm, TracedForm, parse
from trainers.config import TrainConfig, resnet_blocks
from trainers.resnet import CHILDREN, Child, Variables, shortcut

NAMES = {"resnet": ("resnet8", "resnet14", "resnet20")}
"""Children to test of each family."""


class Swish:
    """x · σ(βx), a form as `trainers` expects it, with one vector more than it uses."""

    slots = 1
    vectors = 2

    def initial(self, program: Any) -> jax.Array:
        return jnp.array([[1.0, 0.5]], jnp.float32)

    def occurrences(self, candidate: Any) -> tuple[Any, ...]:
        return ()

    def __call__(self, x: jax.Array, beta: jax.Array, program: Any) -> jax.Array:
        inside = x.astype(jnp.float32)
        gate = jax.nn.sigmoid(inside * beta[0, 0].reshape((1,) * (x.ndim - 1) + (-1,)))
        return (inside * gate).astype(x.dtype)


def child_of(name: str, *, width=4, channels=3, num_classes=5, precision="float32") -> Child:
    return Child(
        name,
        width=width,
        channels=channels,
        num_classes=num_classes,
        form=Swish(),
        precision=precision,
    )


def variables_of(child: Child, *, seed: int = 0) -> Variables:
    return child.initial(np.asarray(child.form.initial(None)), seed=seed)


def count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("name", "width", "channels", "classes", "expected"),
    [
        # 3·3·3·16 = 432; six of 3·3·16·16 = 2,304; 3·3·16·32 = 4,608 and five of 9,216;
        # 3·3·32·64 = 18,432 and five of 36,864; 64·10 + 10 = 650: 268,346 without BatchNorm,
        # whose scales and biases add 2·(16 + 6·16 + 6·32 + 6·64) = 1,376. He et al.: 0.27 M.
        ("resnet20", 16, 3, 10, 268_346 + 1_376),
        # 432 + 2·2,304 + 4,608 + 9,216 + 18,432 + 36,864 + 650 + 2·(16 + 32 + 64 + 128)
        ("resnet8", 16, 3, 10, 75_290),
        # 45 + 2·225 + (450 + 900) + (1,800 + 3,600) + 20·3 + 3 + 2·(5 + 10 + 20 + 40)
        ("resnet8", 5, 1, 3, 7_458),
    ],
)
def test_parameters_counted_by_hand(name, width, channels, classes, expected):
    child = child_of(name, width=width, channels=channels, num_classes=classes)
    assert count(child.shapes.weights) == expected


@pytest.mark.parametrize("family", CHILDREN)
def test_every_child_has_shapes_that_fit(family: str):
    for name in NAMES[family]:
        assert TrainConfig(child=name).child == name
        child = child_of(name)
        blocks = resnet_blocks(name)
        layers = child.activation_layers(child.shapes.beta)
        assert len(layers) == 1 + 6 * blocks
        assert {leaf.shape for leaf in layers.values()} == {(1, 2, 4), (1, 2, 8), (1, 2, 16)}
        assert list(layers)[:3] == ["act", "blocks.0.act1", "blocks.0.act2"]
        assert {leaf.dtype for leaf in jax.tree.leaves(child.shapes)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (3, 7, 5, 2), (1, 1, 1, 3), (2, 33, 9, 3)])
def test_images_of_any_size_and_number_of_channels(shape: tuple[int, ...], precision: str):
    child = child_of("resnet8", channels=shape[-1], precision=precision)
    logits, stats = jax.eval_shape(
        lambda variables, images: child.apply(variables, images, None, train=True),
        variables_of(child),
        jnp.ones(shape, jnp.float32),
    )
    assert (logits.shape, logits.dtype) == ((shape[0], 5), jnp.float32)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), stats) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), child.shapes.stats
    )


def test_shortcut_by_hand():
    x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    found = shortcut(x, channels=3, stride=2)
    assert found[0, :, :, 0].tolist() == [[1.0, 3.0], [7.0, 9.0]]
    assert found.shape == (1, 2, 2, 3)
    assert not found[..., 1:].any()
    np.testing.assert_array_equal(shortcut(x, channels=1, stride=1), x)


def test_initial_weights_follow_he_and_the_seed_alone():
    child = child_of("resnet8", width=16)
    first, again, other = (variables_of(child, seed=seed) for seed in (1, 1, 2))
    for path, leaf in jax.tree_util.tree_leaves_with_path(first.weights):
        kind = path[-1].key
        if kind == "kernel":
            fan_in = math.prod(leaf.shape[:-1])
            # The standard error of a deviation is about 1/√(2n) of it.
            assert leaf.std() == pytest.approx(
                math.sqrt(2 / fan_in), rel=4 / math.sqrt(2 * leaf.size)
            )
        else:
            assert (leaf == (1.0 if kind == "scale" else 0.0)).all()
    assert all(map(np.array_equal, jax.tree.leaves(first), jax.tree.leaves(again)))
    kernel = first.weights["stem"]["kernel"]
    assert not np.array_equal(kernel, other.weights["stem"]["kernel"])
    # Another form has vectors of another shape; the weights are the same bits.
    traced = TracedForm(OperatorTable.for_run(PAPER.only("identity", "scale", "mix"), core_units=1))
    paper = Child("resnet8", width=16, channels=3, num_classes=5, form=traced, precision="float32")
    start = paper.initial(np.ones((traced.slots, traced.vectors), np.float32), seed=1)
    assert all(map(np.array_equal, jax.tree.leaves(first.weights), jax.tree.leaves(start.weights)))


def test_trainable_vectors_start_equal_in_every_channel():
    child = child_of("resnet8")
    for leaf in child.activation_layers(variables_of(child).beta).values():
        assert (leaf[0, 0] == 1.0).all()
        assert (leaf[0, 1] == 0.5).all()


class SlowResNet:
    """ResNet-8 with Swish in float64, loops and all."""

    def __init__(self, variables: Variables, *, train: bool) -> None:
        self.weights, self.beta, self.stats = jax.tree.map(np.float64, variables)
        self.train = train
        self.seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def conv_norm(self, name: str, weights: Any, stats: Any, x: np.ndarray, stride: int):
        kernel = weights["kernel"]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        rows, columns = range(0, x.shape[1], stride), range(0, x.shape[2], stride)
        y = np.zeros((len(x), len(rows), len(columns), kernel.shape[-1]))
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                window = padded[:, row : row + 3, column : column + 3]
                y[:, i, j] = np.tensordot(window, kernel, axes=([1, 2, 3], [0, 1, 2]))
        self.seen[name] = y.mean((0, 1, 2)), y.var((0, 1, 2))
        mean, var = self.seen[name] if self.train else (stats["mean"], stats["var"])
        return (y - mean) / np.sqrt(var + 1e-5) * weights["scale"] + weights["bias"]

    def act(self, x: np.ndarray, beta: np.ndarray) -> np.ndarray:
        return x / (1 + np.exp(-beta[0, 0] * x))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        weights, stats = self.weights, self.stats
        x = self.conv_norm("stem", weights["stem"], stats["stem"], x, 1)
        x = self.act(x, self.beta["act"]["beta"])
        for index in range(3):
            block, beta = weights["blocks"][index], self.beta["blocks"][index]
            running = stats["blocks"][index]
            stride = 2 if index else 1
            y = self.conv_norm(f"{index}.1", block["conv1"], running["conv1"], x, stride)
            y = self.act(y, beta["act1"]["beta"])
            y = self.conv_norm(f"{index}.2", block["conv2"], running["conv2"], y, 1)
            kept = x[:, ::stride, ::stride]
            y[..., : x.shape[-1]] += kept
            x = self.act(y, beta["act2"]["beta"])
        return x.mean((1, 2)) @ weights["dense"]["kernel"] + weights["dense"]["bias"]


@pytest.mark.parametrize("train", [True, False])
def test_the_whole_network_against_a_slow_one(train: bool):
    child = child_of("resnet8", width=3, channels=2)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: leaf + 0.2 * rng.random(leaf.shape, np.float32), variables_of(child)
    )
    images = rng.standard_normal((6, 7, 6, 2)).astype(np.float32)
    slow = SlowResNet(variables, train=train)
    expected = slow(images.astype(np.float64))
    logits, stats = child.apply(variables, jnp.asarray(images), None, train=train)
    np.testing.assert_allclose(logits, expected, rtol=2e-4, atol=2e-4)
    if not train:
        assert all(map(np.array_equal, jax.tree.leaves(stats), jax.tree.leaves(variables.stats)))
        return
    for name, after, before in (
        ("stem", stats["stem"], variables.stats["stem"]),
        ("2.2", stats["blocks"][2]["conv2"], variables.stats["blocks"][2]["conv2"]),
    ):
        for kind, seen in zip(("mean", "var"), slow.seen[name], strict=True):
            np.testing.assert_allclose(
                after[kind], 0.9 * before[kind] + 0.1 * seen, rtol=1e-3, atol=1e-5
            )


class RoundedSwish(Swish):
    """The same in the arithmetic of the network around it: what a form must not do."""

    def __call__(self, x: jax.Array, beta: jax.Array, program: Any) -> jax.Array:
        scale = beta[0, 0].astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
        return x * jax.nn.sigmoid(x * scale)


def test_bfloat16_leaves_the_gradient_of_beta_right():
    """Within 2.5 % of the float32 gradient in every layer; 9 % off with the activation rounded."""
    table = OperatorTable.for_run(PAPER.only("identity", "scale", "gate"), core_units=1)
    candidate = parse("gate(scale(x), x)", PAPER)
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.standard_normal((32, 8, 8, 3)), jnp.float32)
    labels = rng.integers(0, 5, 32).astype(np.int32)

    def gradient(form: Any, precision: str) -> list[np.ndarray]:
        child = Child("resnet8", width=8, channels=3, num_classes=5, form=form, precision=precision)
        program = table.program(candidate)
        start = child.initial(np.asarray(form.initial(program)), seed=0)

        def loss(beta: Any) -> jax.Array:
            logits, _ = child.apply(start._replace(beta=beta), inputs, program, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        layers = child.activation_layers(jax.jit(jax.grad(loss))(start.beta))
        assert {leaf.dtype for leaf in layers.values()} == {jnp.dtype("float32")}
        return [np.asarray(leaf[0, 0]) for leaf in layers.values()]

    form = SpecialisedForm(table, candidate)
    exact = gradient(form, "float32")

    def worst(found: list[np.ndarray]) -> float:
        pairs = zip(found, exact, strict=True)
        return max(float(np.linalg.norm(f - e) / np.linalg.norm(e)) for f, e in pairs)

    # More than nothing, else the convolutions did not run in bfloat16.
    assert 1e-4 < worst(gradient(form, "bfloat16")) < 0.025
    assert worst(gradient(RoundedSwish(), "bfloat16")) > 0.05
