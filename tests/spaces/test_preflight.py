"""Verdicts before training: invalid and constant functions, each with its reason."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from spaces import PAPER, Prober, parse, run_preflight
from spaces.grid import grid

FIRST_POINT = re.escape(f"x = {grid()[0]:.2f}")


@pytest.mark.parametrize(
    ("text", "verdict", "reason"),
    [
        ("x", "ok", ""),
        ("gate(scale(x), x)", "ok", ""),
        ("relu(x)", "ok", ""),
        ("add(x, const(x))", "ok", ""),
        ("mul(exp(x), cosh(x))", "ok", ""),
        ("div(x, x)", "ok", ""),  # ε = 1e-7 makes it a constant but for a part in 10⁵
        ("sqrt(x)", "invalid", rf"f\(x\) is nan at {FIRST_POINT}"),
        ("add(x, sqrt(x))", "invalid", rf"f\(x\) is nan at {FIRST_POINT}"),
        ("mul(x, sqrt(sin(x)))", "invalid", r"f\(x\) is nan at x = -?\d\.\d\d"),
        ("exp(exp(exp(x)))", "invalid", r"f\(x\) is infinite at x = 1\.\d\d"),
        ("exp(square(square(x)))", "invalid", rf"f\(x\) is infinite at {FIRST_POINT}"),
        ("sqrt(sub(x, x))", "invalid", rf"f′\(x\) is (nan|infinite) at {FIRST_POINT}"),
        ("sqrt(min0(x))", "invalid", rf"f\(x\) is nan at {FIRST_POINT}"),
        ("sqrt(relu(x))", "invalid", rf"f′\(x\) is (nan|infinite) at {FIRST_POINT}"),
        ("const(x)", "constant", r"f does not change on \[−5, 5\]"),
        ("sub(x, x)", "constant", r"f does not change on \[−5, 5\]"),
        ("mul(const(x), const(x))", "constant", r"f does not change on \[−5, 5\]"),
        ("rbf(x, x)", "constant", r"f does not change on \[−5, 5\]"),
        ("min(exp(x), neg(exp(x)))", "ok", ""),
        ("max(min0(x), relu(neg(abs(x))))", "constant", r"f does not change on \[−5, 5\]"),
        ("sigmoid(exp(exp(exp(x))))", "invalid", r"f(′)?\(x\) is (nan|infinite) at .*"),
    ],
)
def test_verdicts(text: str, verdict: str, reason: str, prober: Prober):
    found, why = run_preflight(prober.probe([parse(text, PAPER)])[0])
    assert (found, bool(re.fullmatch(reason, why))) == (verdict, True), why


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("start_value", np.nan, "f(x) is nan at x = "),
        ("start_value", np.inf, "f(x) is infinite at x = "),
        ("start_slope", -np.inf, "f′(x) is infinite at x = "),
        ("value", 1e39, "f(x) is infinite at x = "),
        ("slope", np.nan, "f′(x) is nan at x = "),
    ],
)
def test_one_bad_point_is_enough_and_is_named(
    field: str, value: float, reason: str, prober: Prober
):
    (probe,) = prober.probe([parse("gate(scale(x), x)", PAPER)])
    damaged = getattr(probe, field).astype(np.float64)
    damaged[17] = value
    assert run_preflight(replace(probe, **{field: damaged})) == (
        "invalid",
        f"{reason}{grid()[17]:.2f}",
    )


def test_the_gradient_of_a_vector_must_be_finite(prober: Prober):
    (probe,) = prober.probe([parse("gate(scale(x), x)", PAPER)])
    pull = probe.start_pull.copy()
    pull[0, 3] = np.inf
    assert run_preflight(replace(probe, start_pull=pull)) == (
        "invalid",
        "the gradient of a trainable vector is not finite",
    )


def test_a_small_change_beside_a_large_offset_is_none(prober: Prober):
    (probe,) = prober.probe([parse("x", PAPER)])
    flat = replace(probe, value=1e9 + 1e-3 * probe.value, slope=1e-3 * probe.slope)
    assert run_preflight(flat)[0] == "constant"
    assert run_preflight(replace(probe, value=1e-3 * probe.value))[0] == "ok"
