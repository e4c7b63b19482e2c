"""What exports look like: expressions by hand, names, docstrings, errors; and how they are set."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import latex2mathml.converter
import numpy as np
import pytest

from spaces import (
    CATALOGUE,
    PAPER,
    ExportError,
    Notation,
    Operator,
    OperatorSet,
    Param,
    SearchSpace,
    canonical,
    parse,
    to_source,
)
from spaces.export import TARGETS
from spaces.export.expression import written

FEW = PAPER.only("identity", "sin", "add")
"""Beside operators of one's own: who looks at such a set compiles all of it."""

BY_HAND = [
    ("x", "x"),
    ("relu(x)", "jax.nn.relu(x)"),
    ("neg(min0(neg(x)))", "jax.nn.relu(x)"),
    ("gate(x, x)", "jax.nn.silu(x)"),
    ("mul(x, sigmoid(scale(x)))", "x * jax.nn.sigmoid(beta * x)"),
    ("gelu(x)", "jax.nn.gelu(x, approximate=False)"),
    ("lrelu(x)", "jax.nn.leaky_relu(x, 0.01)"),
    ("prelu(x)", "jax.nn.leaky_relu(x, alpha)"),
    ("cos(gate(sin(x), sin(x)))", "jnp.cos(jax.nn.silu(jnp.sin(x)))"),
    ("sub(x, add(x, sin(x)))", "-jnp.sin(x)"),
    ("neg(neg(sin(x)))", "jnp.sin(x)"),
    ("add(neg(x), cos(x))", "jnp.cos(x) - x"),
    ("sub(sin(x), neg(x))", "x + jnp.sin(x)"),
    ("add(x, x)", "2 * x"),
    ("mul(x, mul(x, x))", "x**3"),
    ("mul(sin(x), sin(x))", "jnp.sin(x) ** 2"),
    ("square(square(x))", "x**4"),
    ("max(max(x, sin(x)), x)", "jnp.maximum(x, jnp.sin(x))"),
    ("mul(x, neg(sin(x)))", "-x * jnp.sin(x)"),
    ("neg(square(x))", "-(x**2)"),
    ("mul(x, add(x, sin(x)))", "x * (x + jnp.sin(x))"),
    ("add(x, add(sin(x), erf(x)))", "jax.scipy.special.erf(x) + jnp.sin(x) + x"),
    ("sub(x, sub(sin(x), erf(x)))", "x - (jnp.sin(x) - jax.scipy.special.erf(x))"),
    ("div(sin(x), div(x, cos(x)))", "jnp.sin(x) / (x / (jnp.cos(x) + 1e-7) + 1e-7)"),
    ("scale(add(x, sin(x)))", "beta * (x + jnp.sin(x))"),
    ("laplace(x, sin(x))", "jnp.exp(-beta * jnp.abs(x - jnp.sin(x)))"),
    ("rbf(x, sin(x))", "jnp.exp(-beta * (x - jnp.sin(x)) ** 2)"),
    ("mix(x, sin(x))", "beta * x + (1 - beta) * jnp.sin(x)"),
    ("mul(scale(x), shift(x))", "beta_1 * x * (x + beta_2)"),
    ("gauss(sin(x))", "jnp.exp(-(jnp.sin(x) ** 2))"),
    ("max(const(x), x)", "jnp.maximum(x, beta)"),
    ("const(x)", "jnp.broadcast_to(beta, x.shape)"),
    ("log_abs(x)", "jnp.log(jnp.abs(x) + 1e-7)"),
    ("div(square(x), x)", "x**2 / (x + 1e-7)"),
]  # fmt: skip
"""Text, and the expression that a careful engineer would write for it in JAX."""


def _returned(source: str) -> str:
    return next(
        line.strip().removeprefix("return ")
        for line in source.splitlines()
        if line.strip().startswith("return ")
    )


def _export(text: str, to: str, operators: OperatorSet = PAPER, **options) -> str:
    return to_source(parse(text, operators), operators, to=to, **options)


@pytest.mark.parametrize(("text", "expression"), BY_HAND, ids=[text for text, _ in BY_HAND])
def test_expressions_are_those_of_a_careful_hand(text: str, expression: str):
    assert _returned(_export(text, "jax")) == expression
    assert _returned(_export(text, "flax")) == expression


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("gate(x, x)", "nn.functional.silu(x)"),
        ("gate(scale(x), x)", "x * torch.sigmoid(beta * x)"),
        ("gelu(x)", "nn.functional.gelu(x)"),
        ("selu(x)", "nn.functional.selu(x)"),
        ("prelu(x)", "torch.where(x > 0, x, alpha * x)"),
        ("softplus(x)", "nn.functional.softplus(x)"),
        ("min0(x)", "torch.clamp(x, max=0)"),
        ("const(x)", "torch.broadcast_to(beta, x.shape)"),
    ],
)
def test_expressions_in_torch(text: str, expression: str):
    assert _returned(_export(text, "torch")) == expression


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gate(scale(x), x)", "swish = x / (1 + sp.exp(-beta * x))"),
        ("sinc(x)", "activation = sp.sinc(sp.pi * x)"),
        ("gelu(x)", "gelu = x * (sp.erf(sp.sqrt(2) * x / 2) + 1) / 2"),
        ("lrelu(x)", "lrelu = sp.Piecewise((x, x > 0), (x / 100, True))"),
        ("relu(x)", "relu = sp.Max(0, x)"),
        ("log_abs(x)", "activation = sp.log(sp.Abs(x) + 1e-7)"),
    ],
)
def test_expressions_in_sympy(text: str, line: str):
    assert _export(text, "sympy").splitlines()[-1] == line


def test_a_sympy_form_that_is_text_is_refused_and_not_evaluated(tmp_path: Path):
    """SymPy would evaluate the text as Python."""
    touched = tmp_path / "touched"
    text = f"__import__('pathlib').Path({str(touched)!r}).touch()"
    odd = Operator("odd", 1, lambda x: jnp.tanh(x) * jnp.exp(-x * x), sympy=lambda x: text)
    operators = FEW.with_unary(odd)
    with pytest.raises(
        ExportError, match="the sympy form of `odd` must give an expression, gave str"
    ):
        to_source(parse("odd(x)", operators), operators, to="sympy")
    assert not touched.exists()


def test_decimals_keep_all_their_digits_in_sympy():
    assert "1.0507009873554805" in _export("selu(x)", "sympy")


def test_a_unit_that_is_read_twice_is_computed_once_under_a_name():
    source = _export("u1 = mul(x, sigmoid(sin(x))); add(u1, cos(u1))", "jax")
    assert source.count("jnp.sin") == 1
    assert "    u1 = x * jax.nn.sigmoid(jnp.sin(x))\n    return u1 + jnp.cos(u1)\n" in source


def test_an_intermediate_that_simplification_leaves_read_once_is_none():
    source = _export("u1 = mul(x, sin(x)); cos(add(u1, u1))", "jax")
    assert _returned(source) == "jnp.cos(2 * x * jnp.sin(x))"


def test_an_operand_that_a_form_reads_twice_gets_a_name():
    source = _export("prelu(mul(x, cos(x)))", "torch")
    assert "h = x * torch.cos(x)\n        return torch.where(h > 0, h, alpha * h)\n" in source


def test_long_lines_are_broken_where_two_lines_of_one_length_result():
    source = _export("rbf(cos(x), log_abs(rbf(cos(x), tanh(x))))", "jax")
    assert max(map(len, source.splitlines())) <= 88
    assert (
        source.partition("init_")[0]
        .rstrip("def \n")
        .endswith(
            "    h = jnp.exp(-beta_1 * (jnp.cos(x) - jnp.tanh(x)) ** 2)\n"
            "    return jnp.exp(-beta_2 * (jnp.cos(x) - jnp.log(jnp.abs(h) + 1e-7)) ** 2)"
        )
    )


def test_a_swish_in_every_language():
    for to, name in (("jax", "def swish("), ("flax", "class Swish(nnx.Module)"),
                     ("torch", "class Swish(nn.Module)"), ("sympy", "swish = ")):  # fmt: skip
        source = _export("mul(x, sigmoid(scale(x)))", to)
        assert name in source
        assert '"""Swish: f(x) = x · σ(βx).' in source
        assert "Ramachandran, Zoph, Le, arXiv 1710.05941." in source
        assert "`mul(x, sigmoid(scale(x)))` in actsearch." in " ".join(source.split())
    assert "def init_swish(channels: int)" in _export("gate(scale(x), x)", "jax")


@pytest.mark.parametrize("known", CATALOGUE, ids=lambda known: known.key)
def test_a_known_function_has_its_name(known):
    assert f"def {known.key}(" in to_source(known.candidate, PAPER, to="jax")
    source = to_source(known.candidate, PAPER, to="torch")
    kind = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    assert kind.name[0].isupper() and kind.name.isidentifier()
    assert (ast.get_docstring(kind) or "").startswith(f"{known.title}: f(x) = ")


def test_many_trainable_vectors_are_declared_on_lines_of_their_own():
    text = "scale(" * 12 + "sin(x)" + ")" * 12
    source = _export(text, "sympy")
    assert max(map(len, source.rpartition('"""')[2].splitlines())) <= 88
    assert "x, beta_1, " in source and "beta_12 = sp." in source
    assert source.count(" = sp.symbols") == 4
    source = _export(text, "jax")
    assert "    beta_12: jax.Array,\n) -> jax.Array:\n" in source
    assert '        "beta_12": jnp.ones(channels),\n    }\n' in source


def test_almost_a_known_function_is_not_called_one():
    """x²/(x + ε) has the fingerprint of x; it is another function, and is not renamed."""
    assert "f(x) = x² / (x + ε), ε = 1e-7." in _export("div(square(x), x)", "jax")


def test_where_it_was_found_and_what_it_is_called():
    source = _export("sin(cos(x))", "jax", name="wave", origin="rank 3 of the run quick")
    assert "def wave(x: jax.Array)" in source
    assert "`sin(cos(x))` in actsearch, rank 3 of the run quick." in source


def test_text_from_elsewhere_cannot_leave_the_docstring():
    nasty = Operator(
        "nasty", 1, lambda x: x, jax="{a}", notation=Notation('"""\\N{x}\nimport os', "n")
    )
    source = _export("nasty(x)", "jax", FEW.with_unary(nasty), origin='"""\nimport os')
    body = ast.parse(source).body
    assert [type(node).__name__ for node in body] == ["Import", "FunctionDef"]


def test_initial_values():
    assert '{"alpha": jnp.full(channels, 0.25)}' in _export("prelu(x)", "jax")
    assert "nn.Parameter(torch.full((channels,), 0.25))" in _export("prelu(x)", "torch")
    assert "nnx.Param(jnp.full(channels, -0.5))" in _export("scale(x)", "flax", beta_init=-0.5)
    assert "nnx.Param(jnp.zeros(channels))" in _export("scale(x)", "flax", beta_init=0.0)


BEND = Operator("bend", 1, lambda x: 1.5 * jnp.tanh(x), jax="1.5 * jnp.tanh({a})")
KNEE = Operator(
    "knee", 2, lambda a, b, p: jnp.where(a < p["lam"], a, b), params=(Param("lam", init=2.0),),
    jax="jnp.where({a} < <lam>, {a}, {b})", torch="torch.where({a} < <lam>, {a}, {b})",
)  # fmt: skip
BARE = Operator("bare", 1, lambda x: x)
OWN = FEW.with_unary(BEND, BARE).with_binary(KNEE).named("own")


def test_ones_own_operators():
    source = _export("knee(bend(x), bend(sin(x)))", "jax", OWN)
    assert "lam: jax.Array" in source
    assert "h = 1.5 * jnp.tanh(x)\n" in source
    assert _returned(source) == "jnp.where(h < lam, h, 1.5 * jnp.tanh(jnp.sin(x)))"
    assert "torch.where(x < lam, x, torch.sin(x))" in _export("knee(x, sin(x))", "torch", OWN)


@pytest.mark.parametrize(
    ("text", "to", "message"),
    [
        ("bend(x)", "torch", "operator `bend` has no torch form"),
        ("bend(bare(x))", "sympy", "operators `bend`, `bare` have no sympy form"),
        ("knee(bare(x), x)", "flax", "operator `bare` has no jax form"),
    ],
)
def test_an_operator_without_a_source_form_is_named(text: str, to: str, message: str):
    with pytest.raises(ExportError, match=message):
        _export(text, to, OWN)
    assert r"\operatorname{" in _export(text, "latex", OWN)


def test_a_known_function_of_unknown_operators_can_be_written():
    assert "nn.functional.silu(x)" not in _export("bend(x)", "jax", OWN)
    assert _returned(_export("bare(x)", "torch", OWN)) == "x"


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("jnp.tanh({a}", "is no expression"),
        ("import os", "is no expression"),
        ("scipy.special.erf({a})", "names `scipy`"),
        ("__import__('os').system({a})", "names `__import__`"),
        ("{a} + {b}", "is no expression|names `b`"),
    ],
)
def test_a_form_that_cannot_be_used_is_refused(form: str, message: str):
    odd = FEW.with_unary(Operator("odd", 1, lambda x: x * jnp.tanh(x), jax=form))
    with pytest.raises(ExportError, match=message):
        _export("odd(x)", "jax", odd)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "pytorch"}, "`to` must be one of .* got 'pytorch': did you mean `torch`"),
        ({"to": "jax", "name": "class"}, "`name` must be a Python name"),
        ({"to": "jax", "name": "jnp"}, "`name` must be a Python name"),
        ({"to": "jax", "name": "a b"}, "got 'a b'"),
        ({"to": "latex", "name": ""}, "got ''"),
    ],
)
def test_a_wrong_request_is_one_line(options, message):
    with pytest.raises(ExportError, match=message):
        to_source(parse("sin(x)", PAPER), PAPER, **options)


@pytest.mark.parametrize("text", ["swish", "two units"])
def test_latex_reads_as_mathematics(text: str):
    shown = {
        "swish": ("gate(scale(x), x)", [r"\sigma\left(\beta x\right)"]),
        "two units": ("u1 = mul(x, sin(x)); div(u1, add(u1, x))", [r"\begin{gather*}", r"u_{1} ="]),
    }
    expression, wanted = shown[text]
    source = _export(expression, "latex")
    for piece in wanted:
        assert piece in source
    mathml = latex2mathml.converter.convert(_equation(source))
    assert mathml.startswith("<math") and "<merror" not in mathml


def _equation(source: str) -> str:
    """What stands between the display's begin and end, as lines of an array."""
    rows = [line for line in source.splitlines() if not line.startswith("%")][1:-1]
    return "".join(rows)


@pytest.mark.parametrize("operator", PAPER, ids=lambda operator: operator.name)
def test_every_paper_operator_as_latex(operator: Operator):
    source = _export(f"{operator.name}({'x, sin(x)' if operator.arity == 2 else 'x'})", "latex")
    assert source.isprintable() or "\n" in source
    equation = _equation(source)
    assert equation.strip().startswith("f(x) = ")
    assert "<merror" not in latex2mathml.converter.convert(equation)
    assert (r"\beta" in source) == bool(operator.params)
    assert ("ε = 1e-7" in source) == (r"\varepsilon" in source)


def _many() -> dict[str, str]:
    """Sources of many candidates and targets, by file name."""
    rng = np.random.default_rng(3)
    candidates = [known.candidate for known in CATALOGUE]
    for units in (1, 2, 3, 5):
        space = SearchSpace(PAPER, units)
        candidates += [canonical(space.candidate(space.sample(rng)), PAPER) for _ in range(15)]
    return {
        f"{to}_{number:03}.py": to_source(candidate, PAPER, to=to)
        for number, candidate in enumerate(candidates)
        for to in TARGETS
        if to != "latex"
    }


def test_sources_are_formatted_and_import_what_they_use(tmp_path: Path):
    """At both usual widths nothing changes: no line is so long or so short that it would."""
    for name, source in _many().items():
        (tmp_path / name).write_text(source, encoding="utf-8")

    def ruff(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--isolated", "--no-cache", str(tmp_path)],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return "" if done.returncode == 0 else done.stdout + done.stderr

    assert ruff("format", "--check", "--diff") == ""
    assert ruff("format", "--check", "--diff", "--line-length", "100") == ""
    assert ruff("check", "--select", "E,F,I,W,B,UP,N8", "--ignore", "E501") == ""


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("a + (b + c)", "b + c + a"),
        ("(a + b) + (c + d)", "a + b + (c + d)"),
        ("a - (b - c)", "a - (b - c)"),
        ("a - (b + c)", "a - (b + c)"),
        ("a * (b * c)", "b * c * a"),
        ("a * (b / c)", "a * (b / c)"),
        ("a / (b * c)", "a / (b * c)"),
        ("(a / b) / c", "a / b / c"),
        ("2 * (a * b)", "2 * a * b"),
        ("3 * (a * b)", "a * b * 3"),
        ("-(a * b)", "-a * b"),
        ("-(a + b)", "-(a + b)"),
        ("-(-a)", "a"),
        ("a * -b", "-a * b"),
        ("(-a) * (-b)", "a * b"),
        ("a - (-b * c)", "a + b * c"),
        ("a + -(b * c)", "a - b * c"),
        ("-a + b", "b - a"),
        ("-a - b", "-a - b"),
        ("(-a)**2", "(-a) ** 2"),
        ("-a**2", "-(a**2)"),
        ("(a**b)**c", "(a**b) ** c"),
        ("f(a)**2 * b", "f(a) ** 2 * b"),
        ("a.b**2", "a.b**2"),
        ("f(a, k=-b)", "f(a, k=-b)"),
        ("1e-07 + a", "1e-7 + a"),
        ("2.5e+20 * a", "2.5e+20 * a"),
        ("f((a, a > 0), (b, True))", "f((a, a > 0), (b, True))"),
        ("(a < b) * c", "(a < b) * c"),
    ],
)
def test_the_writer_of_expressions(code: str, text: str):
    tree = ast.parse(code, mode="eval").body
    assert written(tree) == text
    values = {"a": 1.7, "b": -2.3, "c": 0.9, "d": 3.1, "f": lambda *a, k=1.0, **_: 1.3 * k}
    if "a.b" not in code:
        assert eval(text, values) == eval(code, values)
