"""Syntax trees as text: brackets where precedence needs them, spaces as formatters set them.

`ast.unparse` writes `a ** 2`, `-(b * x)`, `a + (b + c)` and `1e-07`. Here stands what one writes by
hand, `a**2`, `-b * x`, `b + c + a` and `1e-7`: the same floating-point numbers, since a sign moves
through a product without rounding, and both + and · are commutative.
"""

from __future__ import annotations

import ast
import re

_ANY, _COMPARISON, _SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(7)

_BINARY: dict[type[ast.operator], tuple[str, int]] = {
    ast.Add: ("+", _SUM),
    ast.Sub: ("-", _SUM),
    ast.Mult: ("*", _PRODUCT),
    ast.Div: ("/", _PRODUCT),
    ast.Pow: ("**", _POWER),
}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


def written(tree: ast.expr) -> str:
    """The expression as text on one line."""
    return _written(_tidied(tree))[0]


def _written(tree: ast.expr) -> tuple[str, int]:
    """The text and how tightly it binds."""
    match tree:
        case ast.Name(name):
            return name, _ATOM
        case ast.Constant(value) if type(value) in (int, float):
            return re.sub(r"e([+-])0+(?=\d)", r"e\1", repr(value)), _ATOM
        case ast.Attribute(value, name):
            return f"{_at_least(value, _ATOM)}.{name}", _ATOM
        case ast.Call(function, arguments, keywords):
            named = [f"{each.arg}={_at_least(each.value, _ANY)}" for each in keywords if each.arg]
            inside = ", ".join([*(_at_least(each, _ANY) for each in arguments), *named])
            return f"{_at_least(function, _ATOM)}({inside})", _ATOM
        case ast.UnaryOp(ast.USub(), operand):
            power = isinstance(operand, ast.BinOp) and isinstance(operand.op, ast.Pow)
            return f"-{_at_least(operand, _ATOM if power else _SIGN)}", _SIGN
        case ast.BinOp(left, ast.Pow(), right):
            space = "" if _hugs(left) and _hugs(right) else " "
            return f"{_at_least(left, _ATOM)}{space}**{space}{_at_least(right, _ATOM)}", _POWER
        case ast.BinOp(left, operator, right) if type(operator) in _BINARY:
            sign, level = _BINARY[type(operator)]
            return f"{_at_least(left, level)} {sign} {_at_least(right, level + 1)}", level
        case ast.Compare(left, [operator], [right]) if type(operator) in _COMPARISONS:
            sign = _COMPARISONS[type(operator)]
            return f"{_at_least(left, _SUM)} {sign} {_at_least(right, _SUM)}", _COMPARISON
        case ast.Tuple(elements):
            inside = ", ".join(_at_least(each, _ANY) for each in elements)
            return f"({inside},)" if len(elements) == 1 else f"({inside})", _ATOM
    return ast.unparse(tree), _ANY


def _at_least(tree: ast.expr, level: int) -> str:
    text, binds = _written(tree)
    return text if binds >= level else f"({text})"


def _hugs(tree: ast.expr) -> bool:
    """Whether `**` stands at this operand without spaces: names, attributes and numbers."""
    if isinstance(tree, ast.Attribute):
        return _hugs(tree.value)
    return isinstance(tree, ast.Name | ast.Constant)


def _tidied(tree: ast.expr) -> ast.expr:
    return _Tidy().visit(tree)


class _Tidy(ast.NodeTransformer):
    """Moves signs and exchanges operands where no floating-point number changes by it."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        return _negated(node.operand) if isinstance(node.op, ast.USub) else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        left, right = node.left, node.right
        match node.op:
            case ast.Add() if _is_negative(right):
                return ast.BinOp(left, ast.Sub(), _negated(right))
            case ast.Sub() if _is_negative(right):
                return ast.BinOp(left, ast.Add(), _negated(right))
            case ast.Add() if _is_negative(left):
                return ast.BinOp(right, ast.Sub(), _negated(left))
            case ast.Mult() if _is_negative(right):
                return _negated(ast.BinOp(left, ast.Mult(), _negated(right)))
            case ast.Add() if _is(right, ast.Add, ast.Sub) and not _is(left, ast.Add, ast.Sub):
                return ast.BinOp(right, ast.Add(), left)
            case ast.Mult() if isinstance(right, ast.BinOp) and _doubles(left, right):
                first = self.visit_BinOp(ast.BinOp(left, ast.Mult(), right.left))
                return ast.BinOp(first, ast.Mult(), right.right)
            case ast.Mult() if _is(right, ast.Mult) and not _is(left, ast.Mult, ast.Div):
                return ast.BinOp(right, ast.Mult(), left)
        return node


def _is(tree: ast.expr, *kinds: type[ast.operator]) -> bool:
    return isinstance(tree, ast.BinOp) and isinstance(tree.op, kinds)


def _doubles(left: ast.expr, right: ast.BinOp) -> bool:
    """Whether a product is multiplied by a power of 2, which never rounds: `2 * a * b`."""
    number = left.value if isinstance(left, ast.Constant) else None
    return isinstance(number, int) and number in (2, 4, 8, 16) and isinstance(right.op, ast.Mult)


def _is_negative(tree: ast.expr) -> bool:
    """Whether the expression begins with a sign that stands for all of it."""
    if isinstance(tree, ast.BinOp) and _is(tree, ast.Mult, ast.Div):
        return _is_negative(tree.left)
    return isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub)


def _negated(tree: ast.expr) -> ast.expr:
    """Minus the expression; the sign goes to the first factor of a product."""
    if isinstance(tree, ast.BinOp) and _is(tree, ast.Mult, ast.Div):
        return ast.BinOp(_negated(tree.left), tree.op, tree.right)
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        return tree.operand
    return ast.UnaryOp(ast.USub(), tree)
