"""SymPy: a script whose last line is the expression.

Expressions are built by the operators' own SymPy forms, so that what stands in the text is what
SymPy makes of them anyway.
"""

from __future__ import annotations

import ast
from typing import Any

from .body import Apply, Number, Term, Variable, Vector
from .errors import ExportError
from .layout import WIDTH, Margin, docstring, lines
from .subject import Subject, missing_forms


def sympy_source(subject: Subject) -> str:
    """The script; trainable vectors are symbols."""
    missing_forms(subject.body, "sympy")
    name = subject.function_name
    symbols = ["x", *(vector.name for vector in subject.body.vectors)]
    code = lines(subject.body, _render, Margin(0, f"{name} = "), twice=lambda _: ())
    return "\n".join(
        [
            *docstring([subject.summary, subject.source]),
            "",
            "import sympy as sp",
            "",
            *_declared(symbols),
            "",
            *code.assignments,
            f"{name} = {code.result}",
            "",
        ]
    )


def _declared(symbols: list[str]) -> list[str]:
    """Statements that make the symbols, as many in each as fit on a line."""
    made: list[str] = []
    group: list[str] = []
    for symbol in symbols:
        line = _declaration([*group, symbol])
        if group and len(line) <= WIDTH:
            group, made[-1] = [*group, symbol], line
        else:
            group = [symbol]
            made.append(_declaration(group))
    return made


def _declaration(symbols: list[str]) -> str:
    make = "symbols" if len(symbols) > 1 else "Symbol"
    return f'{", ".join(symbols)} = sp.{make}("{" ".join(symbols)}", real=True)'


def _render(term: Term) -> ast.expr:
    expression = _expression(term)
    tree = ast.parse(_printed(expression), mode="eval").body
    return _Qualified({symbol.name for symbol in expression.free_symbols}).visit(tree)


def _expression(term: Term) -> Any:
    import sympy as sp

    match term:
        case Variable(name) | Vector(name=name):
            return sp.Symbol(name, real=True)
        case Apply(operator, operands, vectors) if operator.sympy:
            named = zip(operator.params, vectors, strict=True)
            params = {param.name: _expression(vector) for param, vector in named}
            found = operator.sympy(*map(_expression, operands), *([params] if params else []))
            try:
                return sp.sympify(found, strict=True)  # a number becomes SymPy's; text is not read
            except sp.SympifyError:
                raise ExportError(
                    f"the sympy form of `{operator.name}` must give an expression, "
                    f"gave {type(found).__name__}"
                ) from None
        case Number(value):
            return sp.Integer(value)
    raise AssertionError(f"{term} has no SymPy form")


def _printed(expression: Any) -> str:
    from sympy.printing.str import StrPrinter

    class Printer(StrPrinter):
        """Fractions and decimals as Python reads them back, exactly."""

        def _print_Rational(self, expr: Any) -> str:  # noqa: N802  # SymPy's name for it
            return f"Rational({expr.p}, {expr.q})"

        def _print_Float(self, expr: Any) -> str:  # noqa: N802  # SymPy's name for it
            return repr(float(expr))

    return Printer().doprint(expression)


class _Qualified(ast.NodeTransformer):
    """Puts `sp.` in front of every name that is no symbol."""

    def __init__(self, symbols: set[str]) -> None:
        self.symbols = symbols

    def visit_Name(self, node: ast.Name) -> ast.expr:
        import sympy as sp

        if node.id in self.symbols:
            return node
        if not hasattr(sp, node.id):
            raise ExportError(f"a sympy form makes `{node.id}`, which SymPy does not have")
        return ast.Attribute(ast.Name("sp"), node.id)
