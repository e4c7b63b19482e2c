"""A candidate as source text: the way to all targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..candidate import Candidate
from ..operator_set import OperatorSet
from ..suggest import did_you_mean
from .errors import ExportError
from .subject import Subject
from .to_flax import flax_source
from .to_jax import jax_source
from .to_latex import latex_source
from .to_sympy import sympy_source
from .to_torch import torch_source

_WRITERS: Mapping[str, Callable[[Subject], str]] = {
    "jax": jax_source,
    "flax": flax_source,
    "torch": torch_source,
    "sympy": sympy_source,
    "latex": latex_source,
}

TARGETS = tuple(_WRITERS)
"""What a candidate can be written as."""


def to_source(
    candidate: Candidate,
    operators: OperatorSet,
    *,
    to: str,
    name: str | None = None,
    origin: str = "",
    beta_init: float | None = None,
) -> str:
    """Writes a candidate as code that needs nothing of this package.

    Args:
        candidate: Any candidate over `operators` and the hidden operators.
        operators: Its operators.
        to: One of `TARGETS`.
        name: Name of the function, class or expression; None takes the known function's, or
            `activation`.
        origin: Where the candidate was found, for the docstring: `rank 3 of runs/NAME`.
        beta_init: Initial value of every trainable vector; None takes each operator's own.

    Returns:
        The text, as `ruff format` would set it, with a newline at its end.

    Raises:
        ExportError: There is no such target, the name cannot be used, or an operator has no source
            form for the target.
    """
    if to not in _WRITERS:
        near = did_you_mean(to, TARGETS)
        raise ExportError(f"`to` must be one of {', '.join(TARGETS)}, got {to!r}{near}")
    subject = Subject.of(candidate, operators, name=name, origin=origin, beta_init=beta_init)
    return _WRITERS[to](subject)
