"""One operator of a search space: its function, its trainable vectors and its written forms.

Source: Ramachandran, Zoph, Le, "Searching for Activation Functions", arXiv 1710.05941, section 2.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
_TAKEN = re.compile(r"(x|u[0-9]+)\Z")
_SECOND = re.compile(r"\{b(:\d)?\+?\}|\[b\]")
"""A place for the second operand in a template, see `Notation`."""

GREEK = {
    "alpha": ("α", r"\alpha"),
    "beta": ("β", r"\beta"),
    "gamma": ("γ", r"\gamma"),
    "delta": ("δ", r"\delta"),
    "theta": ("θ", r"\theta"),
    "kappa": ("κ", r"\kappa"),
    "lam": ("λ", r"\lambda"),
    "mu": ("μ", r"\mu"),
    "tau": ("τ", r"\tau"),
    "omega": ("ω", r"\omega"),
}
"""Parameter names that are written as Greek letters, in text and in LaTeX."""


@dataclass(frozen=True, slots=True)
class Param:
    """A trainable vector of an operator: one float32 value per channel and occurrence."""

    name: str
    """Name under which the operator's function finds it, for example `beta`."""
    init: float = 1.0
    """Initial value, the same in every channel."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.match(self.name):
            raise ValueError(
                f"a parameter's `name` must match [a-z][a-z0-9_]*, at most 32 characters, "
                f"got {self.name!r}"
            )
        if keyword.iskeyword(self.name):
            raise ValueError(
                f"a parameter's `name` must be no keyword of Python, got {self.name!r}"
                f"{'; `lam` is written λ' if self.name == 'lambda' else ''}"
            )
        if _TAKEN.match(self.name):
            raise ValueError(
                f"a parameter must not be called {self.name!r}: x, u1, u2, … are inputs"
            )
        if not (isinstance(self.init, int | float) and abs(self.init) < float("inf")):
            raise ValueError(
                f"`init` of parameter {self.name!r} must be a finite number, got {self.init!r}"
            )


@dataclass(frozen=True, slots=True)
class Notation:
    """How an operator is written down.

    Templates hold `{a}` and `{b}` for the operands (put in parentheses if they bind less tightly
    than `level`), `{b+}` for an operand that must bind more tightly, `[a]` for an operand that
    needs no parentheses, and `<beta>` for a parameter.
    """

    text: str
    """Unicode, for example `{a}·σ([b])`."""
    latex: str
    """LaTeX, for example `{a} \\cdot \\sigma\\left([b]\\right)`."""
    level: int = 4
    """How tightly the result binds: 1 a sum, 2 a product, 3 a power, 4 a call or an atom."""


@dataclass(frozen=True, slots=True)
class Operator:
    """A pure, element-wise scalar function of one or two inputs.

    Args:
        name: Unique name in its set; lower case, digits and underscores.
        arity: 1 (unary) or 2 (binary).
        fn: The function in JAX, written for arrays `[..., C]` and keeping their shape and dtype:
            `fn(x)` or `fn(a, b)`; an operator that declares `params` gets a mapping from their
            names to arrays that broadcast against the inputs as its last argument.
        params: Its trainable vectors.
        sympy: The same function on SymPy expressions, same signature; None if there is none.
        torch: A PyTorch expression with `{a}`, `{b}` and `<beta>`; None if there is none.
        jax: A JAX expression, likewise, with `jax` and `jnp`: what `fn` does, as source text.
        notation: How it is written; None writes a call, `name(x)`.
        commutative: Whether `fn(a, b) == fn(b, a)`.
        reference: Where it comes from.

    Raises:
        ValueError: A field is out of its range.
    """

    name: str
    arity: int
    fn: Callable[..., Any]
    params: tuple[Param, ...] = ()
    sympy: Callable[..., Any] | None = None
    torch: str | None = None
    jax: str | None = None
    notation: Notation | None = None
    commutative: bool = False
    reference: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.match(self.name):
            raise ValueError(
                f"an operator's `name` must match [a-z][a-z0-9_]*, at most 32 characters, "
                f"got {self.name!r}"
            )
        if _TAKEN.match(self.name):
            raise ValueError(
                f"an operator must not be called {self.name!r}: x, u1, u2, … are inputs"
            )
        if self.arity not in (1, 2):
            raise ValueError(
                f"`arity` of operator {self.name!r} must be 1 or 2, got {self.arity!r}"
            )
        if not callable(self.fn):
            raise ValueError(f"`fn` of operator {self.name!r} must be a function, got {self.fn!r}")
        object.__setattr__(self, "params", tuple(self.params))
        names = [param.name for param in self.params]
        if len(set(names)) != len(names):
            raise ValueError(f"operator {self.name!r} has two parameters of one name: {names}")
        templates = (self.notation.text, self.notation.latex) if self.notation else ()
        if self.arity == 1 and any(map(_SECOND.search, templates)):
            raise ValueError(
                f"operator {self.name!r} is unary and its `notation` must not name a second operand, b"
            )
        if self.commutative and self.arity != 2:
            raise ValueError(f"operator {self.name!r} is unary and cannot be commutative")

    @property
    def signature(self) -> tuple[Any, ...]:
        """What two machines compare to know that they mean the same operator."""
        return (self.name, self.arity, tuple((p.name, float(p.init)) for p in self.params))

    def __call__(self, *inputs: Any, params: dict[str, Any] | None = None) -> Any:
        """Evaluates `fn`; `params` maps parameter names to values and is needed if it has some."""
        if not self.params:
            return self.fn(*inputs)
        if params is None:
            params = {param.name: param.init for param in self.params}
        return self.fn(*inputs, params)
