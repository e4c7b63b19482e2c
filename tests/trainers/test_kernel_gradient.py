"""The gradient of a kernel by matrix products, against XLA's own, on one device and on several."""

from __future__ import annotations

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from trainers import convolution
from trainers.convolution import conv3x3
from trainers.kernel_gradient import kernel_gradient, pays


@pytest.fixture(autouse=True)
def xla(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is no oneDNN."""
    monkeypatch.setattr(convolution.onednn, "computes", lambda _: False)


def plain(x: jax.Array, cotangent: jax.Array, stride: int) -> jax.Array:
    def convolved(kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    return jax.vjp(convolved, jnp.zeros((3, 3, x.shape[-1], cotangent.shape[-1])))[1](cotangent)[0]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    ("batch", "height", "width", "inputs", "outputs"),
    [
        (8, 16, 16, 16, 16),  # two images at a time
        (7, 9, 8, 3, 5),  # a prime number of images, odd rows
        (12, 5, 6, 4, 2),  # all in one
        (3, 24, 25, 2, 3),  # an image of more pixels than are multiplied at once
        (1, 8, 8, 3, 4),
    ],
)
def test_it_is_the_gradient(
    batch: int, height: int, width: int, inputs: int, outputs: int, stride: int
):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((batch, height, width, inputs)), jnp.float32)
    shape = (batch, -(-height // stride), -(-width // stride), outputs)
    cotangent = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    found = kernel_gradient(x, cotangent, stride=stride)
    expected = plain(x, cotangent, stride)
    # Sums of at most 2,048 products of order 1, in another order.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64, 16, 16, 16, 16), True),  # ResNet-8 at 16 px
        ((64, 8, 8, 32, 32), True),
        ((64, 16, 16, 3, 16), False),  # too little to do
        ((64, 8, 8, 16, 32), False),
        ((64, 4, 4, 64, 64), False),  # too few pixels
        ((128, 32, 32, 3, 16), True),  # ResNet-20 at 32 px
        ((128, 16, 16, 16, 32), True),
        ((128, 8, 8, 64, 64), True),
        ((12, 8, 8, 4, 4), False),
    ],
)
def test_it_pays_where_there_is_much_to_do(shape: tuple[int, int, int, int, int], expected: bool):
    assert pays(*shape) == expected


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="only on a CPU are kernels rearranged")
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_that_it_pays_for_has_it(stride: int):
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.standard_normal((64, 16, 16, 16)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((3, 3, 16, 64)), jnp.float32)
    found, pull_back = jax.vjp(lambda kernel: conv3x3(x, kernel, stride=stride), kernel)
    cotangent = jnp.asarray(rng.standard_normal(found.shape), jnp.float32)
    assert "dot_general" in str(jax.make_jaxpr(pull_back)(cotangent))
    few = jax.vjp(lambda kernel: conv3x3(x[:2], kernel, stride=stride), kernel)[1]
    assert "dot_general" not in str(jax.make_jaxpr(few)(cotangent[:2]))
    expected = plain(x, cotangent, stride)
    np.testing.assert_allclose(
        pull_back(cotangent)[0], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
    )


SHARED = """
import json
from trainers.parallel import BatchLayout, use_cores
use_cores(3)
import jax, jax.numpy as jnp, numpy as np
from trainers.kernel_gradient import kernel_gradient
rng = np.random.default_rng(2)
layout = BatchLayout.over(jax.devices(), 12)
arrays = [jnp.asarray(rng.standard_normal((12, 16, 16, n)), jnp.float32) for n in (4, 5)]
arrays = [jax.device_put(each, layout.split) for each in arrays]
program = jax.jit(lambda x, cotangent: kernel_gradient(x, cotangent, stride=1))
compiled = program.lower(*arrays).compile()
print(json.dumps([layout.parts, compiled.as_text(), np.asarray(program(*arrays)).tolist()]))
"""


def test_every_device_multiplies_its_own_images():
    ran = subprocess.run(
        [sys.executable, "-c", SHARED], capture_output=True, text=True, timeout=300, check=True
    )
    parts, text, found = json.loads(ran.stdout)
    assert parts == 3
    assert "all-reduce" in text  # what each of them found is summed,
    assert "f32[12,16,16,4]" not in text and "all-gather" not in text  # and no image is fetched
    rng = np.random.default_rng(2)
    x, cotangent = (jnp.asarray(rng.standard_normal((12, 16, 16, n)), jnp.float32) for n in (4, 5))
    expected = plain(x, cotangent, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
