"""`TrainConfig` refuses what cannot be trained, in one clear line, and costs no import of JAX."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from trainers.config import TrainConfig, resnet_blocks


@pytest.mark.parametrize(
    ("child", "blocks"), [("resnet8", 1), ("resnet14", 2), ("resnet20", 3), ("resnet110", 18)]
)
def test_a_resnet_has_three_stages_of_n_blocks(child: str, blocks: int):
    assert resnet_blocks(child) == blocks


@pytest.mark.parametrize(
    ("child", "nearest"),
    [
        ("resnet10", "resnet8 and resnet14"),
        ("resnet13", "resnet8 and resnet14"),
        ("resnet18", "resnet14 and resnet20"),
        ("resnet2", "resnet8 and resnet14"),
        ("resnet0", "resnet8 and resnet14"),
    ],
)
def test_an_impossible_depth_is_told_its_neighbours(child: str, nearest: str):
    with pytest.raises(ValueError, match=f"`child` must be .* got '{child}'.* {nearest}$"):
        TrainConfig(child=child)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "`steps` must be ≥ 1, got 0"),
        ({"steps": 1.5}, "`steps` must be an integer, got 1.5"),
        ({"steps": True}, "`steps` must be an integer, got True"),
        ({"batch_size": 0}, "`batch_size` must be ≥ 1, got 0"),
        ({"width": -4}, "`width` must be ≥ 1, got -4"),
        ({"image_size": 0}, "`image_size` must be ≥ 1, got 0"),
        ({"valid_size": 0}, "`valid_size` must be ≥ 1, got 0"),
        ({"lr": 0.0}, "`lr` must be > 0, got 0.0"),
        ({"lr": float("nan")}, "`lr` must be a finite number, got nan"),
        ({"lr": "0.1"}, "`lr` must be a finite number, got '0.1'"),
        ({"momentum": 1.0}, "`momentum` must be in [0, 1), got 1.0"),
        ({"weight_decay": -1e-4}, "`weight_decay` must be ≥ 0, got -0.0001"),
        (
            {"schedule": "cos"},
            "`schedule` must be one of cosine, step, constant, got 'cos': did you mean `cosine`?",
        ),
        (
            {"warmup": 20},
            "`warmup` must be a share of the steps in [0, 1), for example 0.05, got 20",
        ),
        (
            {"precision": "bf16"},
            "`precision` must be one of float32, bfloat16, got 'bf16': did you mean `bfloat16`?",
        ),
        ({"augment": "no"}, "`augment` must be true or false, got 'no'"),
        ({"beta_init": float("inf")}, "`beta_init` must be a finite number, got inf"),
        ({"dataset": ""}, "`dataset` must be the name of a data set, got ''"),
        (
            {"child": "vgg16"},
            "`child` must be resnet8, resnet14, resnet20, … (6n+2 layers), got 'vgg16'",
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_range(fields: dict, message: str):
    with pytest.raises(ValueError) as caught:
        TrainConfig(**fields)
    assert str(caught.value) == message


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().steps = 3  # pyright: ignore[reportAttributeAccessIssue] - the point of it


def test_the_configuration_needs_neither_jax_nor_numpy():
    code = (
        "import sys, trainers.config; print(sorted({'jax', 'flax', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
