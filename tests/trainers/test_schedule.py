"""Learning rates against tables made by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trainers.config import SCHEDULES
from trainers.schedule import SHAPES, learning_rate


def rates(total: int, *, highest: float, schedule: str, warmup: float) -> np.ndarray:
    return np.array(
        [
            learning_rate(
                jnp.int32(step),
                jnp.int32(total),
                highest=highest,
                schedule=schedule,
                warmup=warmup,
            )
            for step in range(total)
        ]
    )


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0.0, [2, 2, 2, 2, 2, 2, 2, 2]),
        ("constant", 0.5, [0.5, 1, 1.5, 2, 2, 2, 2, 2]),
        ("step", 0.0, [2, 2, 2, 2, 0.2, 0.2, 0.02, 0.02]),
        ("step", 0.25, [1, 2, 2, 2, 0.2, 0.2, 0.02, 0.02]),
        # 1 + cos(kπ/8): cos(π/8) = 0.9238795, cos(π/4) = 0.7071068, cos(3π/8) = 0.3826834
        (
            "cosine",
            0.0,
            [2, 1.9238795, 1.7071068, 1.3826834, 1, 0.6173166, 0.2928932, 0.0761205],
        ),
        (
            "cosine",
            0.25,
            [1, 1.9238795, 1.7071068, 1.3826834, 1, 0.6173166, 0.2928932, 0.0761205],
        ),
    ],
)
def test_eight_steps_by_hand(schedule: str, warmup: float, expected: list[float]):
    found = rates(8, highest=2.0, schedule=schedule, warmup=warmup)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_step_falls_where_he_et_al_let_it_fall():
    at = {
        step: float(
            learning_rate(
                jnp.int32(step), jnp.int32(64_000), highest=0.1, schedule="step", warmup=0.0
            )
        )
        for step in (31_999, 32_000, 47_999, 48_000)
    }
    assert list(at.values()) == pytest.approx([0.1, 0.01, 0.01, 0.001], rel=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_another_number_of_steps_does_not_recompile(schedule: str):
    traced = []

    @jax.jit
    def rate(step: jax.Array, total: jax.Array) -> jax.Array:
        traced.append(None)
        return learning_rate(step, total, highest=1.0, schedule=schedule, warmup=0.1)

    short, long = (float(rate(jnp.int32(5), jnp.int32(total))) for total in (10, 100))
    assert len(traced) == 1
    # At 5 of 10 steps the warm-up of one step is over; at 5 of 100 it is at 6 of its 10 steps.
    shapes = {"cosine": (0.5, 0.9938442), "step": (0.1, 1.0), "constant": (1.0, 1.0)}
    assert (short, long) == pytest.approx((shapes[schedule][0], 0.6 * shapes[schedule][1]))


def test_a_training_of_one_step_learns_something():
    for schedule in SHAPES:
        assert rates(1, highest=1.0, schedule=schedule, warmup=0.9).tolist() == [1.0]


def test_configuration_and_schedule_know_the_same_names():
    assert set(SCHEDULES) == set(SHAPES)
