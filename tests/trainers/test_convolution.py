"""Convolutions against XLA's own, in value and gradient, and where they are rearranged."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from trainers import convolution
from trainers.convolution import conv3x3, pixels_at_once


@pytest.fixture(autouse=True)
def xla(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is no oneDNN."""
    monkeypatch.setattr(convolution.onednn, "computes", lambda _: False)


def plain(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(
    ("width", "inputs", "outputs", "expected"),
    [
        (16, 3, 16, 4),  # the stem
        (8, 1, 16, 4),
        (16, 3, 32, 2),
        (16, 3, 64, 1),
        (16, 16, 16, 2),
        (16, 12, 12, 2),
        (16, 8, 8, 4),
        (16, 16, 32, 1),  # wide enough
        (16, 32, 32, 1),
        (7, 16, 16, 1),  # no even row
        (14, 8, 8, 2),
        (4, 8, 8, 2),  # four pixels' kernel would be wider than the image
        (2, 16, 16, 1),
    ],
)
def test_pixels_at_once(width: int, inputs: int, outputs: int, expected: int):
    assert pixels_at_once(width, inputs, outputs) == expected


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("height", "width", "inputs", "outputs"),
    [(16, 16, 3, 16), (8, 16, 16, 16), (5, 8, 8, 8), (6, 7, 16, 16), (8, 8, 16, 32), (4, 4, 2, 3)],
)
def test_value_and_gradients_are_those_of_xla(
    height: int, width: int, inputs: int, outputs: int, stride: int
):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((3, height, width, inputs)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((3, 3, inputs, outputs)), jnp.float32)
    expected, expected_back = jax.vjp(lambda x, k: plain(x, k, stride), x, kernel)
    found, back = jax.vjp(lambda x, k: conv3x3(x, k, stride=stride), x, kernel)
    cotangent = jnp.asarray(rng.standard_normal(expected.shape), jnp.float32)
    pairs = [(found, expected), *zip(back(cotangent), expected_back(cotangent), strict=True)]
    for ours, theirs in pairs:
        # Sums of at most 9 · 16 products (or as many as there are pixels) of order 1, reordered.
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="only on a CPU are kernels widened")
def test_a_narrow_convolution_becomes_a_wide_one():
    x, kernel = jnp.zeros((2, 16, 16, 16)), jnp.zeros((3, 3, 16, 16))
    text = str(jax.make_jaxpr(lambda x, k: jax.vjp(conv3x3, x, k)[1](x))(x, kernel))
    assert text.count("f32[2,16,8,32] = conv_general_dilated") == 2  # forward, gradient of x
    # bfloat16 has no such kernel there.
    half = str(jax.make_jaxpr(conv3x3)(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)))
    assert "bf16[2,16,16,16] = conv_general_dilated" in half


def test_bfloat16_stays_bfloat16():
    x = jnp.ones((1, 4, 4, 3), jnp.bfloat16)
    assert conv3x3(x, jnp.ones((3, 3, 3, 5), jnp.bfloat16)).dtype == jnp.bfloat16


def test_what_is_multiplied_may_be_rounded_and_the_rest_is_not():
    rng = np.random.default_rng(0)
    x, kernel = (
        jnp.asarray(rng.standard_normal(shape), jnp.float32)
        for shape in ((2, 8, 8, 3), (3, 3, 3, 5))
    )
    found = conv3x3(x, kernel, arithmetic=jnp.dtype("bfloat16"))
    halves = [each.astype(jnp.bfloat16).astype(jnp.float32) for each in (x, kernel)]
    expected = plain(halves[0], halves[1])
    assert found.dtype == jnp.float32
    # XLA rounds the sum as well, oneDNN does not.
    np.testing.assert_allclose(found, expected, rtol=2**-8, atol=1e-5)
    assert not np.allclose(found, plain(x, kernel), rtol=1e-5, atol=1e-5)
