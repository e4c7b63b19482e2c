"""Candidates as mathematics: a table by hand, and an oracle that reads the formulas back."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from spaces import (
    CATALOGUE,
    PAPER,
    Notation,
    Operator,
    Param,
    SearchSpace,
    canonical,
    formula,
    latex,
    parse,
)
from spaces.formula import formula_and_latex

BY_HAND = [
    ("x", "x", "x"),
    ("mul(x, sigmoid(x))", "x · σ(x)", r"x \cdot \sigma\left(x\right)"),
    ("gate(x, x)", "x · σ(x)", r"x \cdot \sigma\left(x\right)"),
    ("gate(scale(x), x)", "x · σ(βx)", r"x \cdot \sigma\left(\beta x\right)"),
    ("relu(x)", "max(x, 0)", r"\max\left(x, 0\right)"),
    ("sub(cos(x), x)", "cos(x) − x", r"\cos\left(x\right) - x"),
    ("sub(square(atan(x)), x)", "tan⁻¹(x)² − x", r"\tan^{-1}\left(x\right)^{2} - x"),
    ("mul(x, square(asinh(x)))", "x · sinh⁻¹(x)²", r"x \cdot \sinh^{-1}\left(x\right)^{2}"),
    ("add(x, neg(x))", "x + (−x)", r"x + \left(-x\right)"),
    ("sub(x, add(x, sin(x)))", "x − (x + sin(x))", r"x - \left(x + \sin\left(x\right)\right)"),
    ("sub(sub(x, sin(x)), x)", "x − sin(x) − x", r"x - \sin\left(x\right) - x"),
    ("mul(add(x, x), x)", "(x + x) · x", r"\left(x + x\right) \cdot x"),
    ("square(neg(x))", "(−x)²", r"\left(-x\right)^{2}"),
    ("neg(square(x))", "−x²", "-x^{2}"),
    ("square(cube(x))", "(x³)²", r"\left(x^{3}\right)^{2}"),
    ("scale(add(x, sin(x)))", "β(x + sin(x))", r"\beta \left(x + \sin\left(x\right)\right)"),
    ("scale(scale(x))", "β₂(β₁x)", r"\beta_{2} \left(\beta_{1} x\right)"),
    ("mul(scale(x), shift(x))", "β₁x · (x + β₂)", r"\beta_{1} x \cdot \left(x + \beta_{2}\right)"),
    ("div(x, neg(x))", "x / (−x + ε)", r"\frac{x}{-x + \varepsilon}"),
    ("div(add(x, x), x)", "(x + x) / (x + ε)", r"\frac{x + x}{x + \varepsilon}"),
    ("rbf(x, sin(x))", "exp(−β(x − sin(x))²)",
     r"\exp\left(-\beta\left(x - \sin\left(x\right)\right)^{2}\right)"),
    ("rbf(neg(x), neg(x))", "exp(−β(−x − (−x))²)",
     r"\exp\left(-\beta\left(-x - \left(-x\right)\right)^{2}\right)"),
    ("laplace(x, abs(x))", "exp(−β|x − |x||)",
     r"\exp\left(-\beta\left|x - \left|x\right|\right|\right)"),
    ("mix(x, sin(x))", "βx + (1 − β)sin(x)", r"\beta x + (1 - \beta) \sin\left(x\right)"),
    ("mix(neg(x), add(x, x))", "β(−x) + (1 − β)(x + x)",
     r"\beta \left(-x\right) + (1 - \beta) \left(x + x\right)"),
    ("gauss(add(x, x))", "exp(−(x + x)²)", r"\exp\left(-\left(x + x\right)^{2}\right)"),
    ("prelu(x)", "max(x, 0) + α·min(x, 0)", r"\max\left(x, 0\right) + \alpha \min\left(x, 0\right)"),
    ("mul(x, const(x))", "x · β", r"x \cdot \beta"),
    ("u1 = mul(x, sigmoid(x)); add(u1, cos(u1))", "u₁ + cos(u₁), u₁ = x · σ(x)",
     r"u_{1} + \cos\left(u_{1}\right),\quad u_{1} = x \cdot \sigma\left(x\right)"),
    ("u1 = exp(x); mul(x, x)", "x · x", r"x \cdot x"),
    ("u1 = mix(x, x); sin(x)", "sin(x)", r"\sin\left(x\right)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "plain", "tex"), BY_HAND, ids=[row[0] for row in BY_HAND])
def test_by_hand(text: str, plain: str, tex: str):
    candidate = parse(text, PAPER)
    assert formula(candidate, PAPER) == plain
    assert latex(candidate, PAPER) == tex
    assert formula_and_latex(candidate, PAPER) == (plain, tex)


@pytest.mark.parametrize("known", CATALOGUE, ids=lambda known: known.key)
def test_a_known_function_is_written_within_a_line(known: Any):
    assert 1 <= len(formula(known.candidate, PAPER)) <= 30


def _randoms(count: int, units: int):
    space, rng = SearchSpace(PAPER, units), np.random.default_rng(units)
    return [canonical(space.candidate(space.sample(rng)), PAPER) for _ in range(count)]


def _balanced(text: str, pairs: dict[str, str]) -> bool:
    open_ones = []
    for sign in text:
        if sign in pairs:
            open_ones.append(pairs[sign])
        elif sign in pairs.values() and (not open_ones or open_ones.pop() != sign):
            return False
    return not open_ones


@pytest.mark.parametrize("units", [1, 2, 4])
def test_parentheses_and_braces_are_balanced(units: int):
    for candidate in _randoms(100, units):
        plain, tex = formula(candidate, PAPER), latex(candidate, PAPER)
        assert _balanced(plain, {"(": ")"}), plain
        assert plain.count("|") % 2 == 0
        assert _balanced(tex, {"{": "}", "(": ")"}), tex
        assert len(re.findall(r"\\left[(|]", tex)) == len(re.findall(r"\\right[)|]", tex))
        for left_over in (*"[<>", "{a", "{b", "beta>"):
            assert left_over not in plain + tex, (plain, tex)


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


_DIGITS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
NAMES: dict[str, Any] = {
    "sin": np.sin, "cos": np.cos, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "asinh": np.arcsinh, "atan": np.arctan, "sinc": np.sinc, "exp": np.exp, "log": np.log,
    "sqrt": np.sqrt, "sigma": _sigmoid, "max": np.maximum, "min": np.minimum, "abs": np.abs,
    "eps": 1e-7,
}  # fmt: skip


def _as_python(text: str) -> str:
    """The formula by the rules of school: powers before products before sums, βx a product."""
    text = text.translate(_DIGITS)
    text = re.sub(r"u(\d+)", r"U\1_", text)  # a letter of its own, not the beginning of a name
    text = text.replace("sinh⁻¹", "asinh").replace("tan⁻¹", "atan")
    text = text.replace("σ", "sigma").replace("√", "sqrt").replace("ε", "eps")
    text = re.sub(r"β(\d*)(?=[A-Za-z(β])", r"B\1_*", text)
    text = re.sub(r"β(\d*)", r"B\1_", text)
    text = text.replace("(1 − ", "(1 - ")
    text = re.sub(r"(\(1 - B\d*_\))(?=[A-Za-z(])", r"\1*", text)
    return (
        text.replace("−", "-").replace("·", "*").replace("²", "**2").replace("³", "**3")
    )  # fmt: skip


def test_a_formula_read_by_the_rules_of_school_is_the_function(oracle: Any):
    """The oracle of precedence: Python reads the formula, NumPy evaluates both."""
    x = np.linspace(0.31, 1.9, 9)
    compared = 0
    operators = PAPER.without("erf", "abs", "log_abs", "laplace")  # erf: no ufunc; |…| nests
    space, rng = SearchSpace(operators, 3), np.random.default_rng(3)
    for _ in range(400):
        candidate = canonical(space.candidate(space.sample(rng)), operators)
        values, vectors = {}, {}
        slots = [
            (3 * index + place, name)
            for index, unit in enumerate(candidate.units)
            for place, name in enumerate((unit.unary1, unit.unary2, unit.binary))
            if operators[name].params
        ]
        for order, (slot, _) in enumerate(slots, start=1):
            value = 0.55 + 0.21 * order
            values[f"B{order if len(slots) > 1 else ''}_"] = value
            vectors[slot] = {"beta": value}
        written = formula(candidate, operators)
        body, *where = re.split(r", (?=U\d+_ = )", _as_python(written))
        with np.errstate(all="ignore"):
            for statement in where:
                name, code = statement.split(" = ")
                values[name] = eval(code, NAMES | {"x": x}, values)
            found = eval(body, NAMES | {"x": x}, values)
        expected = oracle.candidate(candidate, x, vectors)
        found, expected = np.broadcast_arrays(found, expected)
        both = np.isfinite(found) & np.isfinite(expected)  # written out, exp overflows earlier
        assert np.allclose(found[both], expected[both], rtol=1e-7), (written, str(candidate))
        compared += int(both.sum() >= 5)
    assert compared > 250


def test_ones_own_operators_are_written_as_calls_or_by_their_notation():
    hinge = Operator("hinge_2", 1, lambda x, p: x, params=(Param("knee"), Param("alpha")))
    dot = Operator("dot", 2, lambda a, b: a, notation=Notation("{a}∘{b+}", r"{a} \circ {b+}", 2))
    own = PAPER.with_unary(hinge).with_binary(dot)
    candidate = parse("dot(hinge_2(x), dot(hinge_2(x), add(x, x)))", own)
    assert formula(candidate, own) == "hinge_2(x; knee₂; α₂)∘(hinge_2(x; knee₁; α₁)∘(x + x))"
    assert latex(parse("hinge_2(x)", own), own) == (
        r"\operatorname{hinge\_2}\left(x; \mathrm{knee}; \alpha\right)"
    )
