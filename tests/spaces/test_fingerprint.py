"""Equal functions are found however they are written; different ones are kept apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces import PAPER, FingerprintIndex, Prober, fingerprint_of, parse
from spaces.fingerprint import TOLERANCE

EQUAL = [
    ("mul(x, sigmoid(x))", "gate(x, x)"),
    ("mul(x, sigmoid(scale(x)))", "gate(scale(x), x)"),
    ("add(x, x)", "sub(x, neg(x))"),
    ("max(x, neg(x))", "abs(x)"),
    ("neg(min0(neg(x)))", "relu(x)"),
    ("square(sin(x))", "mul(sin(x), sin(x))"),
    ("sub(exp(x), sinh(x))", "cosh(x)"),
    ("rbf(x, const(x))", "rbf(const(x), x)"),
    ("tanh(x)", "div(sinh(x), cosh(x))"),
    ("div(square(x), x)", "x"),
    ("u1 = gate(x, x); add(u1, u1)", "gate(x, add(x, x))"),
]
UNEQUAL = [
    ("gate(scale(x), x)", "gate(x, x)"),
    ("scale(x)", "x"),
    ("prelu(x)", "lrelu(x)"),
    ("prelu(x)", "scale(x)"),
    ("shift(x)", "x"),
    ("sub(shift(x), const(x))", "x"),
    ("mul(scale(x), scale(x))", "square(scale(x))"),
    ("div(x, scale(x))", "div(x, x)"),
    ("gelu(x)", "gate(x, x)"),
    ("softplus(x)", "relu(x)"),
    ("sin(x)", "neg(sin(neg(neg(x))))"),
    ("mix(x, sin(x))", "mix(sin(x), x)"),
    ("laplace(x, sin(x))", "rbf(x, sin(x))"),
    ("gate(x, scale(x))", "gate(scale(x), x)"),
    # Those agree wherever their β is above 1, or above 0.
    ("mix(x, relu(x))", "min(x, scale(x))"),
    ("mix(x, min0(x))", "max(x, scale(x))"),
    ("min(relu(x), scale(x))", "min(x, scale(x))"),
    ("min(x, shift(x))", "x"),
    ("min(const(x), tanh(x))", "tanh(x)"),
    ("min(atan(x), const(x))", "min(abs(x), atan(x))"),
    ("mul(const(x), relu(x))", "max(relu(x), scale(x))"),
]


def _print(prober: Prober, text: str) -> np.ndarray:
    return fingerprint_of(prober.probe([parse(text, PAPER)])[0])


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_one_function_in_two_spellings_is_one(one: str, other: str, prober: Prober):
    index = FingerprintIndex()
    index.add("it", _print(prober, one))
    assert index.find(_print(prober, other)) == "it"


@pytest.mark.parametrize(("one", "other"), UNEQUAL)
def test_two_functions_are_two(one: str, other: str, prober: Prober):
    index = FingerprintIndex()
    index.add("it", _print(prober, one))
    assert index.find(_print(prober, one)) == "it"
    assert index.find(_print(prober, other)) is None


def test_the_earliest_equal_function_is_found():
    index = FingerprintIndex()
    base = np.linspace(-1.0, 1.0, 96)
    index.add("far", base + 1.0)
    index.add("first", base + 0.6 * TOLERANCE)
    index.add("second", base - 0.6 * TOLERANCE)
    assert len(index) == 3
    assert index.find(base) == "first"
    assert index.find(base - 0.7 * TOLERANCE) == "second"


@pytest.mark.parametrize(("factor", "equal"), [(0.999, True), (1.001, False), (-0.999, True)])
def test_the_tolerance_holds_at_every_point(factor: float, equal: bool):
    base = np.random.default_rng(1).standard_normal(96)
    for point in (0, 41, 95):
        moved = base.copy()
        moved[point] += factor * TOLERANCE
        index = FingerprintIndex()
        index.add("it", base)
        assert (index.find(moved) == "it") is equal


def test_a_shift_of_all_points_against_the_projection_is_still_found():
    """The worst case of the projection: every point moves by almost the tolerance, the bad way."""
    from spaces.fingerprint import _WEIGHTS

    base = np.random.default_rng(2).standard_normal(96)
    index = FingerprintIndex()
    index.add("it", base)
    for sign in (1.0, -1.0):
        assert index.find(base + 0.999 * sign * TOLERANCE * np.sign(_WEIGHTS[:96])) == "it"


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 1.0, 3.0, 1e3]))
def test_the_index_agrees_with_looking_at_all(seed: int, scale: float):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((6, 96)) * rng.choice([1e-3, 1.0, 40.0])
    kept: list[tuple[str, np.ndarray]] = []
    index: FingerprintIndex[str] = FingerprintIndex()
    elsewhere: FingerprintIndex[str] = FingerprintIndex(lambda key: dict(kept)[key])
    for number in range(40):
        new = centres[rng.integers(6)] + scale * TOLERANCE * rng.uniform(-1, 1, 96)
        matches = [key for key, old in kept if np.abs(old - new).max() <= TOLERANCE]
        assert index.find(new) == elsewhere.find(new) == (matches[0] if matches else None)
        if not matches or rng.random() < 0.3:
            index.add(str(number), new)
            elsewhere.add(str(number), new)
            kept.append((str(number), new))
