"""The operators of the paper: 25 unary and 10 binary.

Source: Ramachandran, Zoph, Le, "Searching for Activation Functions", arXiv 1710.05941, section 2.
The value of ε and the initial value of β are not published; ε = 1e-7 and β = 1 are those of
Microsoft NNI's reproduction. √ of a negative is NaN, as there: what is not
finite is left to the pre-flight, never repaired.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import LazyModule
from .operator import Notation, Operator, Param
from .operator_set import OperatorSet

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    import sympy as sp

    from . import elementary
else:
    elementary = LazyModule("spaces.elementary")
    jax = LazyModule("jax")
    jnp = LazyModule("jax.numpy")
    sp = LazyModule("sympy")

EPSILON = 1e-7
"""Keeps `div` and `log_abs` away from their poles."""

_PAPER = "arXiv 1710.05941, section 2"
_BETA = (Param("beta", init=1.0),)


def _unary(name, fn, sympy, torch, jax, text, latex, level=4, params=()) -> Operator:
    return Operator(
        name=name,
        arity=1,
        fn=fn,
        params=params,
        sympy=sympy,
        torch=torch,
        jax=jax,
        notation=Notation(text, latex, level),
        reference=_PAPER,
    )


def _binary(
    name, fn, sympy, torch, jax, text, latex, level=4, params=(), commutative=False
) -> Operator:
    return Operator(
        name=name,
        arity=2,
        fn=fn,
        params=params,
        sympy=sympy,
        torch=torch,
        jax=jax,
        notation=Notation(text, latex, level),
        commutative=commutative,
        reference=_PAPER,
    )


def _call(name: str, latex: str | None = None) -> tuple[str, str]:
    return f"{name}([a])", (latex or rf"\operatorname{{{name}}}") + r"\left([a]\right)"


def _beta(template: str) -> str:
    return template.replace("β", "<beta>")


_UNARY = (
    _unary("identity", lambda x: x, lambda x: x, "{a}", "{a}", "{a}", "{a}", 4),
    _unary("neg", lambda x: -x, lambda x: -x, "-{a}", "-{a}", "−{a:2+}", "-{a:2+}", 1),
    _unary("abs", lambda x: jnp.abs(x), lambda x: sp.Abs(x), "torch.abs({a})", "jnp.abs({a})",
           "|[a]|", r"\left|[a]\right|"),
    _unary("square", lambda x: x * x, lambda x: x**2, "{a}**2", "{a}**2",
           "{a+}²", "{a+}^{2}", 3),
    _unary("cube", lambda x: x * x * x, lambda x: x**3, "{a}**3", "{a}**3",
           "{a+}³", "{a+}^{3}", 3),
    _unary("sqrt", lambda x: jnp.sqrt(x), lambda x: sp.sqrt(x), "torch.sqrt({a})", "jnp.sqrt({a})",
           "√([a])", r"\sqrt{[a]}"),
    _unary("scale", lambda x, p: p["beta"] * x, lambda x, p: p["beta"] * x,
           _beta("β * {a}"), _beta("β * {a}"), "<beta>{a+}", "<beta> {a+}", 2, _BETA),
    _unary("shift", lambda x, p: x + p["beta"], lambda x, p: x + p["beta"],
           _beta("{a} + β"), _beta("{a} + β"), "{a} + <beta>", "{a} + <beta>", 1, _BETA),
    _unary("log_abs", lambda x: jnp.log(jnp.abs(x) + EPSILON),
           lambda x: sp.log(sp.Abs(x) + EPSILON), f"torch.log(torch.abs({{a}}) + {EPSILON})",
           f"jnp.log(jnp.abs({{a}}) + {EPSILON})",
           "log(|[a]| + ε)", r"\log\left(\left|[a]\right| + \varepsilon\right)"),
    _unary("exp", lambda x: jnp.exp(x), lambda x: sp.exp(x), "torch.exp({a})", "jnp.exp({a})",
           "exp([a])", r"\exp\left([a]\right)"),
    _unary("sin", lambda x: elementary.sin(x), lambda x: sp.sin(x),
           "torch.sin({a})", "jnp.sin({a})",
           *_call("sin", r"\sin")),
    _unary("cos", lambda x: elementary.cos(x), lambda x: sp.cos(x),
           "torch.cos({a})", "jnp.cos({a})",
           *_call("cos", r"\cos")),
    _unary("sinh", lambda x: elementary.sinh(x), lambda x: sp.sinh(x), "torch.sinh({a})", "jnp.sinh({a})",
           *_call("sinh", r"\sinh")),
    _unary("cosh", lambda x: elementary.cosh(x), lambda x: sp.cosh(x), "torch.cosh({a})", "jnp.cosh({a})",
           *_call("cosh", r"\cosh")),
    _unary("tanh", lambda x: jnp.tanh(x), lambda x: sp.tanh(x), "torch.tanh({a})", "jnp.tanh({a})",
           *_call("tanh", r"\tanh")),
    _unary("asinh", lambda x: elementary.asinh(x), lambda x: sp.asinh(x),
           "torch.asinh({a})", "jnp.arcsinh({a})",
           "sinh⁻¹([a])", r"\sinh^{-1}\left([a]\right)"),
    _unary("atan", lambda x: elementary.atan(x), lambda x: sp.atan(x),
           "torch.atan({a})", "jnp.arctan({a})",
           "tan⁻¹([a])", r"\tan^{-1}\left([a]\right)"),
    _unary("sinc", lambda x: elementary.sinc(x), lambda x: sp.sinc(sp.pi * x),
           "torch.sinc({a})", "jnp.sinc({a})",
           *_call("sinc")),
    _unary("relu", lambda x: jnp.maximum(x, 0.0), lambda x: sp.Max(x, 0),
           "torch.relu({a})", "jax.nn.relu({a})", "max([a], 0)", r"\max\left([a], 0\right)"),
    _unary("min0", lambda x: jnp.minimum(x, 0.0), lambda x: sp.Min(x, 0),
           "torch.clamp({a}, max=0)", "jnp.minimum({a}, 0)",
           "min([a], 0)", r"\min\left([a], 0\right)"),
    _unary("sigmoid", lambda x: jax.nn.sigmoid(x), lambda x: 1 / (1 + sp.exp(-x)),
           "torch.sigmoid({a})", "jax.nn.sigmoid({a})", "σ([a])", r"\sigma\left([a]\right)"),
    _unary("softplus", lambda x: elementary.softplus(x), lambda x: sp.log(1 + sp.exp(x)),
           "torch.nn.functional.softplus({a})", "jax.nn.softplus({a})",
           "log(1 + exp([a]))", r"\log\left(1 + \exp\left([a]\right)\right)"),
    _unary("gauss", lambda x: jnp.exp(-(x * x)), lambda x: sp.exp(-(x**2)),
           "torch.exp(-({a}**2))", "jnp.exp(-({a}**2))", "exp(−{a:4}²)",
           r"\exp\left(-{a:4}^{2}\right)"),
    _unary("erf", lambda x: jax.scipy.special.erf(x), lambda x: sp.erf(x),
           "torch.erf({a})", "jax.scipy.special.erf({a})",
           *_call("erf")),
    _unary("const", lambda x, p: jnp.zeros_like(x) + p["beta"], lambda x, p: p["beta"],
           "<beta>", "<beta>", "<beta>", "<beta>", 4, _BETA),
)  # fmt: skip

_BINARY = (
    _binary("add", lambda a, b: a + b, lambda a, b: a + b, "{a} + {b}", "{a} + {b}",
            "{a} + {b+}", "{a} + {b+}", 1, commutative=True),
    _binary("mul", lambda a, b: a * b, lambda a, b: a * b, "{a} * {b}", "{a} * {b}",
            "{a} · {b}", r"{a} \cdot {b}", 2, commutative=True),
    _binary("sub", lambda a, b: a - b, lambda a, b: a - b, "{a} - {b}", "{a} - {b}",
            "{a} − {b+}", "{a} - {b+}", 1),
    _binary("div", lambda a, b: a / (b + EPSILON), lambda a, b: a / (b + EPSILON),
            f"{{a}} / ({{b}} + {EPSILON})", f"{{a}} / ({{b}} + {EPSILON})", "{a} / ([b] + ε)",
            r"\frac{[a]}{[b] + \varepsilon}", 2),
    _binary("max", lambda a, b: jnp.maximum(a, b), lambda a, b: sp.Max(a, b),
            "torch.maximum({a}, {b})", "jnp.maximum({a}, {b})",
            "max([a], [b])", r"\max\left([a], [b]\right)",
            commutative=True),
    _binary("min", lambda a, b: jnp.minimum(a, b), lambda a, b: sp.Min(a, b),
            "torch.minimum({a}, {b})", "jnp.minimum({a}, {b})",
            "min([a], [b])", r"\min\left([a], [b]\right)",
            commutative=True),
    _binary("gate", lambda a, b: jax.nn.sigmoid(a) * b, lambda a, b: b / (1 + sp.exp(-a)),
            "{b} * torch.sigmoid({a})", "{b} * jax.nn.sigmoid({a})",
            "{b} · σ([a])", r"{b} \cdot \sigma\left([a]\right)", 2),
    _binary("rbf", lambda a, b, p: jnp.exp(-p["beta"] * jnp.square(a - b)),
            lambda a, b, p: sp.exp(-p["beta"] * (a - b) ** 2),
            _beta("torch.exp(-β * ({a} - {b})**2)"), _beta("jnp.exp(-β * ({a} - {b})**2)"),
            "exp(−<beta>({a:1} − {b:1+})²)", r"\exp\left(-<beta>\left({a:1} - {b:1+}\right)^{2}\right)",
            params=_BETA, commutative=True),
    _binary("laplace", lambda a, b, p: jnp.exp(-p["beta"] * jnp.abs(a - b)),
            lambda a, b, p: sp.exp(-p["beta"] * sp.Abs(a - b)),
            _beta("torch.exp(-β * torch.abs({a} - {b}))"),
            _beta("jnp.exp(-β * jnp.abs({a} - {b}))"),
            "exp(−<beta>|{a:1} − {b:1+}|)", r"\exp\left(-<beta>\left|{a:1} - {b:1+}\right|\right)",
            params=_BETA, commutative=True),
    _binary("mix", lambda a, b, p: p["beta"] * a + (1.0 - p["beta"]) * b,
            lambda a, b, p: p["beta"] * a + (1 - p["beta"]) * b,
            _beta("β * {a} + (1 - β) * {b}"),
            _beta("β * {a} + (1 - β) * {b}"), "<beta>{a:2+} + (1 − <beta>){b:2+}",
            r"<beta> {a:2+} + (1 - <beta>) {b:2+}", 1, _BETA),
)  # fmt: skip

PAPER = OperatorSet(name="paper", unary=_UNARY, binary=_BINARY)
"""The operators of the paper, in the order of its Figure 2."""
