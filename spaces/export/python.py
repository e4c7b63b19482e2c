"""What the targets in Python share: terms as syntax trees, and the imports that a text needs."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from .body import Apply, Number, Term, Variable, Vector
from .layout import Lines, Margin, Render, lines
from .subject import Subject, missing_forms
from .template import Language, filled, reads, template

IMPORTS = {
    "jax": "import jax",
    "jnp": "import jax.numpy as jnp",
    "nnx": "from flax import nnx",
    "sp": "import sympy as sp",
    "torch": "import torch",
    "nn": "from torch import nn",
}
"""The import that stands behind a name, in the order in which imports are sorted."""


def body_lines(subject: Subject, language: Language, *, indent: int) -> Lines:
    """The body of a function in a language that operators have templates of.

    Raises:
        ExportError: An operator has no such form, or it is no expression.
    """
    missing_forms(subject.body, language)

    def twice(term: Apply) -> list[int]:
        tree = template(term.operator, language)
        return [place for place in range(len(term.operands)) if reads(tree, "ab"[place]) > 1]

    return lines(subject.body, _render(language), Margin(indent), twice=twice)


def _render(language: Language) -> Render:
    def render(term: Term) -> ast.expr:
        match term:
            case Number(value):
                return ast.Constant(value)
            case Variable(name) | Vector(name=name):
                return ast.Name(name)
            case Apply(operator, operands, vectors):
                return filled(
                    template(operator, language),
                    dict(zip("ab", map(render, operands), strict=False)),
                    {vector.param: ast.Name(vector.name) for vector in vectors},
                )

    return render


def module(parts: Sequence[Sequence[str]]) -> str:
    """A source file: the imports that it needs, then its parts two lines apart."""
    text = "\n\n\n".join("\n".join(part) for part in parts)
    names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    imports = "\n".join(line for name, line in IMPORTS.items() if name in names)
    return f"{imports}\n\n\n{text}\n"


def constant(init: float, library: str, shape: str, size: str) -> str:
    """An array of one value: `ones`, `zeros` or `full`.

    Args:
        init: The value.
        library: `jnp` or `torch`.
        shape: The shape as `full` takes it.
        size: The shape as `ones` takes it.
    """
    if init in (0.0, 1.0):
        return f"{library}.{'ones' if init else 'zeros'}({size})"
    return f"{library}.full({shape}, {init!r})"


def per_channel(vectors: Sequence[Vector]) -> str:
    """A sentence on the trainable vectors of a module."""
    *others, last = (f"`{vector.name}`" for vector in vectors)
    if not others:
        return f"{last} has one value per channel."
    return f"{', '.join(others)} and {last} have one value per channel."
