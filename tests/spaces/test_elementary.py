"""The vectorised elementary functions against NumPy's in float64, in value and slope."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spaces import elementary

PI = np.pi

FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda x: -np.sin(x)),
    "sinc": (
        np.sinc,
        lambda x: np.where(
            np.abs(x) < 1e-3, -(PI**2) * x / 3, (np.cos(PI * x) - np.sinc(x)) / (x + (x == 0))
        ),
    ),
    "atan": (np.arctan, lambda x: 1 / (1 + x * x)),
    "sinh": (np.sinh, np.cosh),
    "cosh": (np.cosh, np.sinh),
    "asinh": (np.arcsinh, lambda x: 1 / np.sqrt(1 + x * x)),
    "softplus": (lambda x: np.logaddexp(x, 0.0), lambda x: 1 / (1 + np.exp(-x))),
}
BOUNDED = ("sin", "cos", "sinc", "atan")
GROWING = ("sinh", "cosh", "asinh", "softplus")


def value_and_slope(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    function = getattr(elementary, name)
    value, slope = jax.jit(lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),)))(x)
    return np.asarray(value), np.asarray(slope)


@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize("reach", [1.0, 10.0, 100.0, 8192.0])
def test_values_and_slopes(name: str, reach: float):
    x = np.random.default_rng(0).uniform(-reach, reach, 200_000).astype(np.float32)
    x = np.concatenate([x, np.linspace(-4, 4, 100_001, dtype=np.float32)])
    value, slope = value_and_slope(name, x)
    exact, exact_slope = (function(x.astype(np.float64)) for function in FUNCTIONS[name])
    error = 1e-7 if name in ("sin", "cos") else 2e-7
    assert np.abs(value - exact).max() <= error
    # (cos πx − sinc x) / x is divided by 0.5 at least.
    assert np.abs(slope - exact_slope).max() <= (1e-6 if name == "sinc" else error)


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("reach", [0.01, 1.0, 10.0, 80.0, 3000.0])
def test_relative_errors_of_values_and_slopes(name: str, reach: float):
    reach = (
        reach if name == "asinh" else min(reach, 80.0)
    )  # of an exponential nothing is left beyond
    x = np.random.default_rng(0).uniform(-reach, reach, 200_000).astype(np.float32)
    x = np.concatenate([x, reach * np.array([-1.0, 0.0, 1.0], np.float32)])
    constant = {"softplus": 4e-7, "asinh": 2.5e-7}.get(name)
    bound = constant or 1e-7 * (1.0 + np.maximum(np.abs(x), 1.0))
    for found, function in zip(value_and_slope(name, x), FUNCTIONS[name], strict=True):
        exact = function(x.astype(np.float64))
        assert (np.abs(found - exact) <= bound * np.abs(exact)).all()


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_waves_stay_bounded_where_nothing_is_left_of_their_phase(name: str):
    x = np.geomspace(1e4, 3e38, 10_000).astype(np.float32)
    for values in value_and_slope(name, np.concatenate([x, -x])):
        assert np.abs(values).max() <= 1.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sin", [0.0, np.nan, np.nan]),
        ("cos", [1.0, np.nan, np.nan]),
        ("atan", [0.0, PI / 2, -PI / 2]),
        ("sinh", [0.0, np.inf, -np.inf]),
        ("cosh", [1.0, np.inf, np.inf]),
        ("asinh", [0.0, np.inf, -np.inf]),
        ("softplus", [math.log(2.0), np.inf, 0.0]),
    ],
)
def test_zero_and_infinities(name: str, expected: list[float]):
    x = np.array([0.0, np.inf, -np.inf, np.nan], np.float32)
    value, _ = value_and_slope(name, x)
    np.testing.assert_allclose(value, np.array([*expected, np.nan], np.float32), rtol=1e-7)


@pytest.mark.parametrize("name", ["sinh", "cosh"])
def test_what_a_float_can_hold_does_not_overflow(name: str):
    x = np.array([88.9, 89.3, -89.3, 89.5], np.float32)  # e^88.9 is none
    value, _ = value_and_slope(name, x)
    assert np.isfinite(value).tolist() == [True, True, True, False]


def test_the_largest_floats_have_an_inverse_sine():
    """Though their squares are none."""
    x = np.geomspace(1e3, 3e38, 10_000).astype(np.float32)
    value, slope = value_and_slope("asinh", np.concatenate([x, -x]))
    exact = np.arcsinh(x.astype(np.float64))
    np.testing.assert_allclose(value, np.concatenate([exact, -exact]), rtol=2.5e-7)
    assert (np.abs(slope) <= 1.01e-3).all()


@pytest.mark.parametrize("name", ["sinh", "asinh", "softplus"])
def test_small_values_keep_their_digits(name: str):
    x = np.array([1e-30, 1e-10, 3e-4], np.float32)
    x = np.log(x) if name == "softplus" else x
    value, _ = value_and_slope(name, x)
    np.testing.assert_allclose(value, FUNCTIONS[name][0](x.astype(np.float64)), rtol=4e-7)


def test_sinc_at_zero():
    value, slope = value_and_slope("sinc", np.array([0.0, 1e-30, -1e-30], np.float32))
    assert value.tolist() == [1.0, 1.0, 1.0]
    assert np.abs(slope).max() <= 1e-29


@pytest.mark.parametrize("name", FUNCTIONS)
def test_other_precisions_are_left_to_jax(name: str):
    x = np.linspace(-50, 50, 1001)
    with jax.enable_x64(True):
        value = getattr(elementary, name)(jnp.asarray(x))
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, FUNCTIONS[name][0](x), rtol=1e-13, atol=1e-13)
    assert getattr(elementary, name)(jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere jnp's own are used")
def test_no_slow_primitive_is_left(name: str):
    text = str(jax.make_jaxpr(jax.vmap(getattr(elementary, name)))(jnp.ones(4)))
    for primitive in (" sin ", " cos ", " atan2 ", " sinh ", " cosh ", " log1p "):
        assert primitive not in text
