"""Operators that only simplification brings in; a grammar never samples them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import LazyModule
from ..operator import Operator

if TYPE_CHECKING:
    import jax
    import sympy as sp
else:
    jax = LazyModule("jax")
    sp = LazyModule("sympy")

SILU = Operator(
    "silu",
    1,
    lambda x: jax.nn.silu(x),
    sympy=lambda x: x / (1 + sp.exp(-x)),
    torch="torch.nn.functional.silu({a})",
    jax="jax.nn.silu({a})",
)
"""x · σ(x) as the libraries have it."""


def _power(exponent: int) -> Operator:
    return Operator(
        f"power{exponent}",
        1,
        lambda x: x**exponent,
        sympy=lambda x: x**exponent,
        torch=f"{{a}}**{exponent}",
        jax=f"{{a}}**{exponent}",
    )


POWERS: dict[int, Operator] = {exponent: _power(exponent) for exponent in range(4, 33)}
"""xⁿ for the exponents that the paper's operators do not have."""


def exponent_of(operator: Operator) -> int | None:
    """n if the operator is one of `POWERS`."""
    return next((n for n, each in POWERS.items() if each is operator), None)
