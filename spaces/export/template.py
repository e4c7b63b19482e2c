"""An operator's source form as a syntax tree: `{a}`, `{b}` and `<beta>` become names.

Python's own parser reads the template, so that no bracket is ever a matter of text.
"""

from __future__ import annotations

import ast
import copy
from functools import lru_cache
from typing import Literal

from ..operator import Operator
from .errors import ExportError

Language = Literal["jax", "torch"]
"""The fields of `Operator` that hold templates."""

ROOTS: dict[Language, frozenset[str]] = {
    "jax": frozenset({"jax", "jnp"}),
    "torch": frozenset({"torch"}),
}
"""The modules that a template of a language may name."""

_OPERAND = "operand_{}"
_VECTOR = "vector_{}"


@lru_cache(maxsize=1024)
def template(operator: Operator, language: Language) -> ast.expr:
    """The tree of an operator's source form; its operands are `operand_a` and `operand_b`.

    Raises:
        ExportError: The form is no expression, or it names something that an export cannot import.
    """
    text = getattr(operator, language)
    for letter in "ab"[: operator.arity]:
        text = text.replace(f"{{{letter}}}", _OPERAND.format(letter))
    for param in operator.params:
        text = text.replace(f"<{param.name}>", _VECTOR.format(param.name))
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ExportError(
            f"the {language} form of operator `{operator.name}` is no expression: "
            f"{getattr(operator, language)!r}"
        ) from None
    own = {_OPERAND.format(letter) for letter in "ab"[: operator.arity]}
    own |= {_VECTOR.format(param.name) for param in operator.params}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in own | ROOTS[language]:
            raise ExportError(
                f"the {language} form of operator `{operator.name}` names `{node.id}`; it may "
                f"name {', '.join(sorted(ROOTS[language]))}, {{a}}, {{b}} and its parameters"
            )
    return tree


def reads(tree: ast.expr, letter: str) -> int:
    """How often a template reads its operand `a` or `b`."""
    name = _OPERAND.format(letter)
    return sum(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree))


def filled(tree: ast.expr, operands: dict[str, ast.expr], vectors: dict[str, ast.expr]) -> ast.expr:
    """The template with its operands, by letter, and its trainable vectors, by parameter."""
    values = {_OPERAND.format(letter): value for letter, value in operands.items()}
    values |= {_VECTOR.format(name): value for name, value in vectors.items()}
    return _Fill(values).visit(_copied(tree))


class _Fill(ast.NodeTransformer):
    def __init__(self, values: dict[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.values.get(node.id, node)


def _copied(tree: ast.expr) -> ast.expr:
    return copy.deepcopy(tree)
