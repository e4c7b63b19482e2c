"""Whether peers train the child that they say they train.

From equal weights, all must give equal logits to equal images, in training mode.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from peer import Setting

from spaces import PAPER, Candidate, OperatorTable, SpecialisedForm, parse
from trainers.config import TrainConfig
from trainers.resnet import Child, Variables

TOLERANCE = 1e-4
"""Largest difference of a logit, in units of the largest logit."""

CANDIDATES = ("relu(x)", "mul(x, sigmoid(scale(x)))")
"""One without and one with trainable vectors."""


class DisagreementError(Exception):
    """A peer's network is another one."""


def check(setting: Setting, peers: tuple[str, ...] = ("torch", "naive")) -> dict[str, float]:
    """Compares logits on a batch of noise.

    Args:
        setting: Which child.
        peers: Which peers to compare with this project's child.

    Returns:
        The largest relative difference of each peer.

    Raises:
        DisagreementError: It is above `TOLERANCE`.
    """
    size = setting.train.image_size or 32
    images = np.random.default_rng(0).integers(0, 256, (16, size, size, 3), np.uint8)
    pixels = (images.astype(np.float32) - 120) / 64
    theirs = {"torch": torch_logits, "naive": naive_logits}
    found = dict.fromkeys(peers, 0.0)
    for text in CANDIDATES:
        candidate = parse(text, PAPER)
        ours, weights = our_logits(candidate, setting.train, pixels)
        for peer in peers:
            logits = theirs[peer](candidate, setting.train, pixels, weights)
            difference = float(np.abs(logits - ours).max() / np.abs(ours).max())
            found[peer] = max(found[peer], difference)
            if not difference <= TOLERANCE:
                raise DisagreementError(
                    f"the peer is not the same child: logits of {peer} with {text} differ by "
                    f"{difference:.1e} of the largest, at most {TOLERANCE:.0e} is allowed"
                )
    return found


def our_child(
    candidate: Candidate, train: TrainConfig, *, channels: int = 3
) -> tuple[Child, Variables]:
    """The project's own child with a candidate, and its variables before the first step."""
    table = OperatorTable.for_run(PAPER, core_units=len(candidate.units), extra=[candidate])
    child = Child(
        train.child,
        width=train.width,
        channels=channels,
        num_classes=10,
        form=SpecialisedForm(table, candidate),
        precision="float32",
    )
    beta = np.asarray(child.form.initial(table.program(candidate)))
    return child, child.initial(beta, seed=3)


def our_logits(
    candidate: Candidate, train: TrainConfig, pixels: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logits of this project's child, and its weights by name, all of them moved a little."""
    child, variables = our_child(candidate, train)
    rng = np.random.default_rng(1)  # scales and biases start as constants, which hide a mix-up
    variables = variables._replace(
        weights=jax.tree.map(
            lambda leaf: leaf + np.float32(0.05) * rng.standard_normal(leaf.shape, np.float32),
            variables.weights,
        )
    )
    run = jax.jit(lambda variables, pixels: child.apply(variables, pixels, None, train=True)[0])
    return np.asarray(run(variables, pixels)), named_weights(variables)


def named_weights(variables: Variables) -> dict[str, np.ndarray]:
    """Kernels, scales and biases by names as `blocks.0.conv1.kernel`."""
    return {
        ".".join(part for part in path if part not in ("conv", "norm")): np.asarray(leaf)
        for path, leaf in _flat(variables.weights)
    }


def torch_logits(
    candidate: Candidate, train: TrainConfig, pixels: np.ndarray, weights: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Logits of the child in PyTorch."""
    torch = importlib.import_module("torch")
    torch_child: Any = importlib.import_module("torch_child")
    model = torch_child.ResNet(
        train.child, width=train.width, channels=3, num_classes=10, candidate=candidate
    )
    model.load(weights)
    with torch.no_grad():
        return model.train()(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()


def naive_logits(
    candidate: Candidate, train: TrainConfig, pixels: np.ndarray, weights: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Logits of the child in plain JAX."""
    naive: Any = importlib.import_module("naive_jax")
    model = naive.ResNet(train.child, train.width, 10, candidate)

    def run(pixels: jax.Array) -> jax.Array:
        drawn = model.init(jax.random.key(0), pixels, train=True)
        variables = naive.load(drawn, weights)
        return model.apply(variables, pixels, train=True, mutable=["batch_stats"])[0]

    return np.asarray(jax.jit(run)(pixels))


def _flat(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(tree, Mapping):
        return [(path, tree)]
    return [leaf for key, value in tree.items() for leaf in _flat(value, (*path, str(key)))]
