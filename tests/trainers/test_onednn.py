"""oneDNN's convolutions against XLA's, from several threads, and where there is no oneDNN."""

from __future__ import annotations

import os
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from spaces import PAPER, OperatorTable, parse
from trainers import Trainer, convolution, foreign, load_dataset, onednn
from trainers.config import TrainConfig
from trainers.onednn import DTYPES, OneDnnError, Shapes, computes
from trainers.onednn_convolution import convolve


@pytest.fixture
def library() -> None:
    """Skips where oneDNN cannot compute."""
    if onednn._library() is None and platform.machine() == "x86_64":
        if os.environ.get("ACTSEARCH_REQUIRE_PEERS"):
            pytest.fail("ACTSEARCH_REQUIRE_PEERS is set and oneDNN or libgomp is not installed")
        pytest.skip("oneDNN or libgomp is not installed")
    if not computes("float32"):
        pytest.skip("oneDNN computes on x86 processors with AVX-512")


with_library = pytest.mark.usefixtures("library")


def plain(stride: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def arrays(batch: int, height: int, width: int, inputs: int, outputs: int, stride: int):
    """Image, kernel, and a cotangent of what the two make."""
    rng = np.random.default_rng(0)
    shapes = (
        (batch, height, width, inputs),
        (3, 3, inputs, outputs),
        (batch, -(-height // stride), -(-width // stride), outputs),
    )
    return tuple(jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)


def left_to_onednn() -> bool:
    """Whether the child's convolutions are; of a new function, because JAX remembers what it traced."""
    x, kernel, _ = arrays(2, 8, 8, 4, 4, 1)
    program = jax.make_jaxpr(lambda x, kernel: convolution.conv3x3(x, kernel))(x, kernel)
    return "ffi_call" in str(program)


@with_library
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    ("batch", "height", "width", "inputs", "outputs"),
    [
        (8, 16, 16, 3, 16),
        (8, 16, 16, 16, 16),
        (6, 8, 8, 32, 64),
        (3, 4, 7, 5, 3),  # with stride 3 as many rows as with stride 2
        (1, 1, 5, 2, 17),
    ],
)
def test_value_and_gradients_are_those_of_xla(
    batch: int, height: int, width: int, inputs: int, outputs: int, stride: int
):
    x, kernel, cotangent = arrays(batch, height, width, inputs, outputs, stride)
    expected, expected_back = jax.vjp(lambda x, k: plain(stride, x, k), x, kernel)
    found, back = jax.vjp(lambda x, k: convolve(stride, "float32", x, k), x, kernel)
    pairs = [(found, expected), *zip(back(cotangent), expected_back(cotangent), strict=True)]
    for ours, theirs in pairs:
        # Sums of at most 2,048 products of order 1, in another order.
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


@with_library
def test_bfloat16_is_multiplied_as_such_and_summed_as_float32():
    if not computes("bfloat16"):
        pytest.skip("this processor has no instructions for bfloat16")
    x, kernel, cotangent = (each.astype(jnp.bfloat16) for each in arrays(8, 8, 8, 32, 32, 1))
    found, back = jax.vjp(lambda x, k: convolve(1, "bfloat16", x, k), x, kernel)
    wide = [each.astype(jnp.float32) for each in (x, kernel, cotangent)]
    expected, expected_back = jax.vjp(lambda x, k: plain(1, x, k), *wide[:2])
    pairs = [(found, expected), *zip(back(cotangent), expected_back(wide[2]), strict=True)]
    for ours, theirs in pairs:
        assert ours.dtype == jnp.bfloat16
        # One rounding to 8 bits, of the sum; sums of bfloat16 would be off by many.
        tolerance = {"rtol": 2**-8, "atol": 1e-5 * np.abs(theirs).max()}
        np.testing.assert_allclose(ours.astype(jnp.float32), theirs, **tolerance)


@with_library
@pytest.mark.parametrize("stride", [1, 2])
def test_float32_is_rounded_to_what_is_multiplied_and_to_nothing_else(stride: int):
    if not computes("bfloat16"):
        pytest.skip("this processor has no instructions for bfloat16")
    x, kernel, cotangent = arrays(6, 8, 8, 16, 48, stride)
    found, back = jax.vjp(lambda x, k: convolve(stride, "bfloat16", x, k), x, kernel)
    halves = [each.astype(jnp.bfloat16).astype(jnp.float32) for each in (x, kernel, cotangent)]
    expected, expected_back = jax.vjp(lambda x, k: plain(stride, x, k), *halves[:2])
    _, exact_back = jax.vjp(lambda x, k: plain(stride, x, k), x, kernel)
    pairs = [
        (found, expected),
        (back(cotangent)[0], expected_back(halves[2])[0]),
        (back(cotangent)[1], exact_back(cotangent)[1]),  # the kernel's, of what was not rounded
    ]
    for ours, theirs in pairs:
        assert ours.dtype == jnp.float32
        # Sums of order 1 in another order; bfloat16 would be off by 4e-3.
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


@with_library
def test_threads_do_not_get_into_each_others_way_and_results_are_the_same_every_time():
    """A primitive has room for one computation. Eight threads, each with arrays of its own."""

    @jax.jit
    def program(seed: jax.Array) -> list[Any]:
        x, kernel, cotangent = arrays(4, 16, 16, 8, 24, 1)
        found, back = jax.vjp(lambda x, k: convolve(1, "float32", x, k), x + seed, kernel * seed)
        return [found, *back(cotangent + seed)]

    def computed(seed: int) -> list[bytes]:
        return [np.asarray(each).tobytes() for each in program(jnp.float32(seed))]

    alone = [computed(seed) for seed in range(1, 9)]
    assert all(len(set(found)) == 8 for found in zip(*alone, strict=True))
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(computed, list(range(1, 9)) * 20)) == alone * 20


@with_library
def test_a_thread_computes_by_itself():
    """XLA has one for each device; OpenMP would start others to help it, which stay."""
    shapes = Shapes((8, 16, 16, 16), (3, 3, 16, 16), (8, 16, 16, 16), 1, *2 * [DTYPES["float32"]])
    places = [np.zeros(shape, np.float32) for shape in shapes[:3]]
    script = onednn.convolution("forward", shapes, *(each.ctypes.data for each in places))

    def threads_that_it_takes() -> int:
        before = len(list(Path("/proc/self/task").iterdir()))
        assert script.perform(()) == 0
        return len(list(Path("/proc/self/task").iterdir())) - before

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(threads_that_it_takes).result() == 0


@with_library
def test_sums_have_one_order_however_many_threads_might_help():
    """A thread that is new may use all cores, as far as OpenMP knows."""
    shapes = Shapes((8, 16, 16, 16), (3, 3, 16, 16), (8, 16, 16, 16), 1, *2 * [DTYPES["float32"]])
    image, kernel, result = (np.asarray(each) for each in arrays(8, 16, 16, 16, 16, 1))

    def gradient(threads: int) -> bytes:
        library = onednn._library()
        assert library is not None
        library.threads(threads)
        found = np.full_like(kernel, np.nan)
        places = (each.ctypes.data for each in (image, found, result))
        assert onednn.convolution("kernel", shapes, *places).perform(()) == 0
        return found.tobytes()

    found = []
    for threads in (1, 2, 4):
        with ThreadPoolExecutor(1) as thread:
            found.append(thread.submit(gradient, threads).result())
    assert found == [found[0]] * 3


@with_library
def test_what_onednn_refuses_is_an_error_of_the_call():
    shapes = Shapes((1, 4, 4, 2), (3, 3, 2, 2), (1, 3, 3, 2), 1, *2 * [DTYPES["float32"]])
    with pytest.raises(OneDnnError, match="dnnl_convolution_forward_primitive_desc_create failed"):
        onednn.convolution("forward", shapes, 0, 0, 0)


@with_library
def test_training_is_that_of_xla(monkeypatch: pytest.MonkeyPatch):
    """A dozen steps on: sums in another order."""
    config = TrainConfig(width=8, steps=12, batch_size=12, image_size=8)
    data = load_dataset("digits", data_dir=None, image_size=8, valid_size=101, seed=0)
    table = OperatorTable.for_run(PAPER.only("identity", "scale", "gate", "mul"), core_units=1)
    found = {}
    for ours in (True, False):
        monkeypatch.setattr(convolution.onednn, "computes", lambda _, ours=ours: ours)
        trainer = Trainer(config, data, table, cache=None)
        found[ours] = trainer.run(parse("gate(scale(x), x)", PAPER), seed=0)
        assert left_to_onednn() == ours
    for one, other in zip(found[True].curve, found[False].curve, strict=True):
        np.testing.assert_allclose(one.loss, other.loss, rtol=2e-5)
    np.testing.assert_allclose(found[True].loss, found[False].loss, rtol=2e-5)


@pytest.mark.parametrize(
    "lack", ["switched off", "package", "library", "openmp", "processor", "interface", "memory"]
)
def test_where_it_cannot_be_had_xla_computes(monkeypatch: pytest.MonkeyPatch, lack: str):
    monkeypatch.setattr(onednn, "_library", onednn._library.__wrapped__)
    if lack == "switched off":
        monkeypatch.setenv(onednn.SWITCH, "0")
    elif lack == "package":
        monkeypatch.setattr(onednn, "PACKAGE", "no-such-package")
    elif lack == "library":
        monkeypatch.setattr(onednn, "_LIBRARY", "libnone.so")
    elif lack == "openmp":
        monkeypatch.setattr(onednn, "_OPENMP", "libnone.so.1")
    elif lack == "interface":
        monkeypatch.setattr(foreign, "available", lambda: False)
    elif lack == "memory":
        monkeypatch.setattr(onednn, "runs", lambda: False)
    else:
        monkeypatch.setattr(onednn, "_INSTRUCTIONS", {"float32": 1 << 30})
    assert not computes("float32")
    assert not left_to_onednn()


def test_other_types_are_left_to_xla():
    assert not any(computes(dtype) for dtype in ("float16", "float64", "int8"))
