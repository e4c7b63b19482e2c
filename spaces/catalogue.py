"""Known activation functions: the baselines of the paper's tables and what its search found.

Each is a candidate over the paper's operators where those can write it; the others are hidden
operators, which text may name and the grammar never samples.

Source: Ramachandran, Zoph, Le, "Searching for Activation Functions", arXiv 1710.05941, section 3,
Figure 3 and section 5; the reference of each baseline stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .candidate import FIRST, Candidate
from .lazy import LazyModule
from .operator import Notation, Operator, Param
from .operator_set import OperatorSet
from .paper import PAPER
from .suggest import did_you_mean
from .text import parse

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    import sympy as sp
else:
    jax = LazyModule("jax")
    jnp = LazyModule("jax.numpy")
    sp = LazyModule("sympy")


def _selu_sympy(x):
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return scale * sp.Piecewise((x, x > 0), (alpha * (sp.exp(x) - 1), True))


HIDDEN: tuple[Operator, ...] = (
    PAPER["identity"],
    Operator(
        FIRST,
        2,
        lambda a, b: a,
        sympy=lambda a, b: a,
        torch="{a}",
        jax="{a}",
        notation=Notation("{a}", "{a}"),
    ),
    Operator(
        "lrelu",
        1,
        lambda x: jnp.where(x > 0, x, 0.01 * x),
        sympy=lambda x: sp.Piecewise((x, x > 0), (x / 100, True)),
        torch="torch.nn.functional.leaky_relu({a}, 0.01)",
        jax="jax.nn.leaky_relu({a}, 0.01)",
        notation=Notation("LReLU([a])", r"\operatorname{LReLU}\left([a]\right)"),
        reference="Maas, Hannun, Ng, ICML 2013",
    ),
    Operator(
        "prelu",
        1,
        lambda x, p: jnp.maximum(x, 0.0) + p["alpha"] * jnp.minimum(x, 0.0),
        params=(Param("alpha", init=0.25),),
        sympy=lambda x, p: sp.Max(x, 0) + p["alpha"] * sp.Min(x, 0),
        torch="torch.where({a} > 0, {a}, <alpha> * {a})",
        jax="jax.nn.leaky_relu({a}, <alpha>)",
        notation=Notation(
            "max([a], 0) + <alpha>·min([a], 0)",
            r"\max\left([a], 0\right) + <alpha> \min\left([a], 0\right)",
            1,
        ),
        reference="He et al., arXiv 1502.01852, initial value 0.25, one per channel",
    ),
    Operator(
        "elu",
        1,
        lambda x: jax.nn.elu(x),
        sympy=lambda x: sp.Piecewise((x, x > 0), (sp.exp(x) - 1, True)),
        torch="torch.nn.functional.elu({a})",
        jax="jax.nn.elu({a})",
        notation=Notation("ELU([a])", r"\operatorname{ELU}\left([a]\right)"),
        reference="Clevert, Unterthiner, Hochreiter, arXiv 1511.07289, α = 1",
    ),
    Operator(
        "selu",
        1,
        lambda x: jax.nn.selu(x),
        sympy=_selu_sympy,
        torch="torch.nn.functional.selu({a})",
        jax="jax.nn.selu({a})",
        notation=Notation("SELU([a])", r"\operatorname{SELU}\left([a]\right)"),
        reference="Klambauer et al., arXiv 1706.02515",
    ),
    Operator(
        "gelu",
        1,
        lambda x: jax.nn.gelu(x, approximate=False),
        sympy=lambda x: x * (1 + sp.erf(x / sp.sqrt(2))) / 2,
        torch="torch.nn.functional.gelu({a})",
        jax="jax.nn.gelu({a}, approximate=False)",
        notation=Notation("GELU([a])", r"\operatorname{GELU}\left([a]\right)"),
        reference="Hendrycks, Gimpel, arXiv 1606.08415, exact form",
    ),
)
"""Operators that text may name beside those of a set."""

BUILT_IN = {operator.name: operator for operator in (*PAPER, *HIDDEN)}
"""Every operator of this package, by name."""


def known_operators(operators: OperatorSet) -> dict[str, Operator]:
    """Every operator that a candidate of a run may name: the set's own, hidden ones, the paper's.

    The paper's are among them because known functions run as baselines beside any set.
    """
    return {**BUILT_IN, **operators.by_name}


@dataclass(frozen=True, slots=True)
class KnownFunction:
    """A function that people know by name."""

    key: str
    """How it is named on a command line, for example `swish1`."""
    title: str
    """How it is shown, for example `Swish-1`."""
    expression: str
    """The function as text over the paper's and the hidden operators."""
    group: str
    """`baseline`: a row of the paper's tables; `found`: found by the paper's search."""

    @property
    def candidate(self) -> Candidate:
        """The function as core units over the paper's and the hidden operators."""
        return parse(self.expression, PAPER)


CATALOGUE: tuple[KnownFunction, ...] = (
    KnownFunction("relu", "ReLU", "relu(x)", "baseline"),
    KnownFunction("lrelu", "LReLU", "lrelu(x)", "baseline"),
    KnownFunction("prelu", "PReLU", "prelu(x)", "baseline"),
    KnownFunction("softplus", "Softplus", "softplus(x)", "baseline"),
    KnownFunction("elu", "ELU", "elu(x)", "baseline"),
    KnownFunction("selu", "SELU", "selu(x)", "baseline"),
    KnownFunction("gelu", "GELU", "gelu(x)", "baseline"),
    KnownFunction("swish1", "Swish-1", "gate(x, x)", "baseline"),
    KnownFunction("swish", "Swish", "gate(scale(x), x)", "baseline"),
    KnownFunction("max_sigmoid", "max(x, σ(x))", "max(x, sigmoid(x))", "found"),
    KnownFunction("cos_minus_x", "cos(x) − x", "sub(cos(x), x)", "found"),
    KnownFunction("min_sin", "min(x, sin x)", "min(x, sin(x))", "found"),
    KnownFunction("atan2_minus_x", "(tan⁻¹x)² − x", "sub(square(atan(x)), x)", "found"),
    KnownFunction("max_tanh", "max(x, tanh x)", "max(x, tanh(x))", "found"),
    KnownFunction("sinc_plus_x", "sinc(x) + x", "add(sinc(x), x)", "found"),
    KnownFunction("x_asinh2", "x·(sinh⁻¹x)²", "mul(x, square(asinh(x)))", "found"),
    KnownFunction("x_asinh", "x·sinh⁻¹x", "mul(x, asinh(x))", "found"),
    KnownFunction("identity", "identity", "x", "shape"),
    KnownFunction("tanh", "tanh", "tanh(x)", "shape"),
    KnownFunction("sigmoid", "sigmoid", "sigmoid(x)", "shape"),
)
"""Every known function, the paper's baselines first. The curve that the paper draws under the label
x·(sinh⁻¹x)² is that of x·sinh⁻¹x, so both are here."""


def known_function(key: str) -> KnownFunction:
    """The entry called `key`.

    Raises:
        ValueError: There is none; the message lists what there is.
    """
    for known in CATALOGUE:
        if known.key == key:
            return known
    keys = [known.key for known in CATALOGUE]
    near = did_you_mean(key, keys) or f", must be one of {', '.join(keys)}"
    raise ValueError(f"unknown baseline `{key}`{near}")
