"""BatchNorm's hand-written gradient against autodiff, flax and float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from trainers.normalisation import EPSILON, batch_norm, batch_statistics, normalise_by


@pytest.fixture
def inputs() -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """x and a cotangent, [6, 4, 5, 3], of channels with very different means; scale and bias."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 4, 5, 3)) * [1.0, 0.1, 5.0] + [0.0, 2.0, -30.0]
    cotangent = rng.standard_normal(x.shape) + 0.5
    return tuple(
        jnp.asarray(each, jnp.float32)
        for each in (x, cotangent, rng.random(3) + 0.5, rng.standard_normal(3))
    )  # pyright: ignore[reportReturnType]


def test_values_are_flax_batch_norm(inputs):
    x, _, scale, bias = inputs
    norm = nnx.BatchNorm(3, momentum=0.9, epsilon=EPSILON, rngs=nnx.Rngs(0))
    for param, values in ((norm.scale, scale), (norm.bias, bias)):
        assert param is not None
        param[...] = values
    expected = norm(x, use_running_average=False)
    found, mean, variance = batch_norm(x, scale, bias)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(0.1 * mean, norm.mean[...], rtol=1e-6)
    np.testing.assert_allclose(0.9 + 0.1 * variance, norm.var[...], rtol=1e-6)
    again = normalise_by(x, mean, variance, scale, bias)
    np.testing.assert_array_equal(found, again)


def test_gradients_are_those_of_autodiff_in_float64(inputs):
    x, cotangent, scale, bias = inputs

    def plain(x, scale, bias):
        mean = x.mean((0, 1, 2), keepdims=True)
        variance = ((x - mean) ** 2).mean((0, 1, 2), keepdims=True)
        return (x - mean) / jnp.sqrt(variance + EPSILON) * scale.reshape(1, 1, 1, 3) + bias.reshape(
            1, 1, 1, 3
        )

    _, pull_back = jax.vjp(lambda *each: batch_norm(*each)[0], x, scale, bias)
    found = pull_back(cotangent)
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(each), jnp.float64) for each in (x, scale, bias)]
        _, pull_back = jax.vjp(plain, *wide)
        expected = pull_back(jnp.asarray(np.asarray(cotangent), jnp.float64))
    for name, ours, theirs in zip(("x", "scale", "bias"), found, expected, strict=True):
        largest = float(np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=3e-4 * largest, err_msg=name)


def test_bfloat16_is_summed_in_float32(inputs):
    x, cotangent, scale, bias = inputs
    half = x.astype(jnp.bfloat16)
    mean, variance = batch_statistics(half)
    exact = np.asarray(half, np.float64)
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, exact.var((0, 1, 2)), rtol=1e-2)
    (found, *_), pull_back = jax.vjp(batch_norm, half, scale, bias)
    assert found.dtype == jnp.float32
    dx, dscale, dbias = pull_back((cotangent, jnp.zeros(3), jnp.zeros(3)))
    assert (dx.dtype, dscale.dtype, dbias.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)


def test_a_constant_channel_has_a_variance_of_zero_and_not_less():
    x = jnp.full((64, 8, 8, 2), 1234.567, jnp.float32)
    _, variance = batch_statistics(x)
    assert (variance >= 0).all()
    found, *_ = batch_norm(x, jnp.ones(2), jnp.zeros(2))
    assert jnp.isfinite(found).all()
