"""The peers of the benchmark train the same child: equal logits, and equal losses in training."""

from __future__ import annotations

import dataclasses
import importlib
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from spaces import PAPER, parse
from trainers.augment import channel_statistics
from trainers.batches import padded_batches
from trainers.config import TrainConfig
from trainers.dataset import load_dataset
from trainers.step import StepFunctions, TrainState

SWISH = "mul(x, sigmoid(scale(x)))"
CONFIG = TrainConfig(
    dataset="digits",
    child="resnet8",
    width=4,
    batch_size=64,
    steps=4,
    lr=0.05,
    weight_decay=0.02,
    warmup=0.5,
    augment=False,
)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of this folder, which is no package."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module


@pytest.fixture
def torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError:
        if os.environ.get("ACTSEARCH_REQUIRE_PEERS"):
            pytest.fail("ACTSEARCH_REQUIRE_PEERS is set and torch is not installed")
        pytest.skip("torch is not installed")


@pytest.fixture
def setting(module: Any) -> Any:
    return module("peer").Setting(
        train=CONFIG,
        core_units=1,
        expressions=(SWISH,),
        data_dir=None,
        device="cpu",
        threads=1,
    )


def test_the_torch_child_gives_the_same_logits(module: Any, setting: Any, torch: Any):
    train = TrainConfig(child="resnet8", width=16, image_size=16)
    found = module("agreement").check(dataclasses.replace(setting, train=train), ("torch",))
    assert found["torch"] <= 1e-4


def test_the_plain_jax_child_gives_the_same_logits(module: Any, setting: Any):
    train = TrainConfig(child="resnet8", width=4, image_size=8)
    found = module("agreement").check(dataclasses.replace(setting, train=train), ("naive",))
    assert found["naive"] <= 1e-4


def test_another_child_is_refused(
    module: Any, setting: Any, torch: Any, monkeypatch: pytest.MonkeyPatch
):
    agreement, child = module("agreement"), module("torch_child")
    monkeypatch.setattr(child, "FASTER", {"sigmoid": "torch.sigmoid(1.001 * {a})"})
    with pytest.raises(agreement.DisagreementError, match="not the same child"):
        agreement.check(setting, ("torch",))


def test_the_torch_child_trains_as_ours_does(module: Any, setting: Any, torch: Any):
    agreement, torch_peer = module("agreement"), module("torch_peer")
    candidate = parse(SWISH, PAPER)
    child, variables = agreement.our_child(candidate, CONFIG, channels=1)
    weights = agreement.named_weights(variables)
    data = load_dataset("digits", data_dir=None, image_size=None, valid_size=None, seed=0)
    images, labels = data.train.images[:64].copy(), data.train.labels[:64].copy()

    ours, valid_loss = _our_losses(child, data, variables, images, labels)

    theirs = torch_peer.Training(
        "torch-eager", candidate, CONFIG, module("torch_data").TorchData(setting, "cpu"), 0
    )
    theirs.model.load(weights)
    batch = torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))
    theirs.model.train()
    found = [
        float(theirs.step(*batch, torch_peer.rate(CONFIG, step, CONFIG.steps)))
        for step in range(CONFIG.steps)
    ]
    np.testing.assert_allclose(found, ours, rtol=1e-4)
    # PyTorch's running variance is n / (n - 1) times flax's, with n = 256 in the last stage.
    assert theirs.evaluate()[0] == pytest.approx(valid_loss, rel=5e-3)


def _our_losses(
    child: Any, data: Any, variables: Any, images: np.ndarray, labels: np.ndarray
) -> tuple[list[float], float]:
    """Losses of the training steps on one batch, and on the validation split afterwards."""
    functions = StepFunctions(CONFIG, child, *channel_statistics(data.train.images), data.mirror)
    optimizer = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), functions.shapes[1])
    state, losses = TrainState(variables, optimizer), []
    train, evaluate = jax.jit(functions.train), jax.jit(functions.evaluate)
    total = np.int32(CONFIG.steps)
    for step in range(CONFIG.steps):
        state, metrics = train(state, images, labels, None, np.uint32(0), np.int32(step), total)
        losses.append(float(metrics[0]))
    sums = [evaluate(state.variables, *b, None)[0] for b in padded_batches(data.valid, 150)]
    return losses, float(sum(sums)) / len(data.valid.labels)
