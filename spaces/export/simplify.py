"""Rewrites a body where another form is smaller and certainly as good.

SymPy sees sums, products, powers, maxima and the functions whose identities it knows, with every
other operator as a function it knows nothing of. Only its automatic evaluation is used (`x + x` is
`2·x`, `|−x|` is `|x|`, `max(max(x, 0), x)` is `max(x, 0)`); nothing is expanded, factored or put in
another order. What it finds is taken if it has fewer parts and `agreement.agree` lets it pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from ..operator import Operator
from ..paper import PAPER
from .agreement import agree
from .algebra import POWERS, SILU, exponent_of
from .body import Apply, Body, Number, Term, Variable, Vector, parts


def simplified(body: Body) -> Body:
    """The same function in the form in which one would write it by hand."""
    while (smaller := _once(body)) != body:
        body = smaller
    return body.map(_with_silu)


def _once(body: Body) -> Body:
    """The body with the first acceptable rewriting, operands before the operators on them."""
    for index, term in enumerate(body.terms):
        for path, part in _inside_out(term):
            better = _rewritten(part)
            if better is None:
                continue
            changed = _replaced(term, path, better)
            rows = list(body.intermediates)
            result = body.result
            if index < len(rows):
                rows[index] = (rows[index][0], changed)
            else:
                result = changed
            new = Body(tuple(rows), result).inlined()
            if agree(new, body):
                return new
    return body


def _inside_out(term: Term, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Term]]:
    """Every operator in a term with the places of the operands that lead to it."""
    if isinstance(term, Apply):
        for place, operand in enumerate(term.operands):
            yield from _inside_out(operand, (*path, place))
        yield path, term


def _replaced(term: Term, path: tuple[int, ...], new: Term) -> Term:
    if not path or not isinstance(term, Apply):
        return new
    operands = list(term.operands)
    operands[path[0]] = _replaced(operands[path[0]], path[1:], new)
    return Apply(term.operator, tuple(operands), term.vectors)


def size(term: Term) -> float:
    """How much there is to read; a number counts half."""
    return sum(0.5 if isinstance(part, Number) else 1.0 for part in parts(term))


@lru_cache(maxsize=4096)
def _rewritten(term: Term) -> Term | None:
    """A smaller form of the term, or None."""
    translation = _Translation()
    found = translation.array(translation.there(term))
    return found if found is not None and size(found) < size(term) else None


def _with_silu(term: Term) -> Term:
    """x · σ(x), however it is spelled, as the operator that libraries have."""
    if not isinstance(term, Apply):
        return term
    operands = tuple(_with_silu(operand) for operand in term.operands)
    term = Apply(term.operator, operands, term.vectors)
    if term.operator is PAPER["gate"] and operands[0] == operands[1]:
        return Apply(SILU, operands[:1])
    if term.operator is PAPER["mul"]:
        for inner, outer in (operands, operands[::-1]):
            if outer == Apply(PAPER["sigmoid"], (inner,)):
                return Apply(SILU, (inner,))
    return term


_UNDERSTOOD = frozenset(
    operator.name
    for operator in PAPER.only(
        *("neg", "abs", "square", "cube", "sqrt", "exp", "sin", "cos", "sinh", "cosh", "tanh"),
        *("asinh", "atan", "erf", "relu", "min0", "add", "sub", "mul", "max", "min"),
        *("scale", "shift"),
    )
)
"""Operators of the paper that SymPy sees as what they are."""


class _Translation:
    """Terms to SymPy and back; operators that SymPy is not to understand become plain functions."""

    def __init__(self) -> None:
        self.leaves: dict[str, Term] = {}
        self.opaque: dict[str, Apply] = {}

    def there(self, term: Term) -> Any:
        import sympy as sp

        match term:
            case Number(value):
                return sp.Integer(value)
            case Variable(name) | Vector(name=name):
                self.leaves[name] = term
                return sp.Symbol(name, real=True)
        operands = [self.there(operand) for operand in term.operands]
        operator = term.operator
        if operator.name in _UNDERSTOOD and operator is PAPER[operator.name] and operator.sympy:
            vectors = zip(operator.params, term.vectors, strict=True)
            params = {param.name: self.there(vector) for param, vector in vectors}
            return operator.sympy(*operands, *([params] if params else []))
        if exponent := exponent_of(operator):
            return operands[0] ** exponent
        name = "_".join([operator.name, *(vector.name for vector in term.vectors)])
        self.opaque[name] = term
        return sp.Function(name, real=True)(*operands)

    def back(self, expression: Any) -> Term | None:
        """The term, or None where an expression has no operator of ours."""
        import sympy as sp

        if expression.is_Symbol:
            return self.leaves[expression.name]
        if expression.is_Integer and abs(int(expression)) < 1000:
            return Number(int(expression))
        if isinstance(expression, sp.Add):
            return self._sum(expression)
        if isinstance(expression, sp.Mul):
            return self._product(expression)
        if isinstance(expression, sp.Pow):
            return self._power(expression)
        if isinstance(expression, sp.Max | sp.Min):
            return self._extreme(expression)
        operands = [self.array(each) for each in expression.args]
        name = expression.func.__name__
        if not operands or any(operand is None for operand in operands):
            return None
        if name in self.opaque:
            like = self.opaque[name]
            return Apply(like.operator, tuple(operands), like.vectors)  # type: ignore[arg-type]  # none is None
        name = {"Abs": "abs"}.get(name, name)
        if name not in _UNDERSTOOD:
            return None
        return Apply(PAPER[name], tuple(operands))  # type: ignore[arg-type]  # likewise

    def array(self, expression: Any) -> Term | None:
        """As `back`, and None for a number: operators are not written on numbers."""
        found = self.back(expression)
        return None if isinstance(found, Number) else found

    def _sum(self, expression: Any) -> Term | None:
        plus, minus = [], []
        for part in expression.args:
            negative = part.could_extract_minus_sign()
            term = self.back(-part if negative else part)
            if term is None:
                return None
            (minus if negative else plus).append(term)
        plus.sort(key=_reading_order)
        minus.sort(key=_reading_order)
        if not plus:
            total: Term = Apply(PAPER["neg"], (minus.pop(0),))
        else:
            total = plus.pop(0)
        for term in plus:
            total = Apply(PAPER["add"], (total, term))
        for term in minus:
            total = Apply(PAPER["sub"], (total, term))
        return total

    def _product(self, expression: Any) -> Term | None:
        if expression.could_extract_minus_sign():
            term = self.back(-expression)
            return None if term is None else Apply(PAPER["neg"], (term,))
        factors = [self.back(part) for part in expression.args]
        if any(factor is None for factor in factors):
            return None
        return _chain(PAPER["mul"], factors)

    def _power(self, expression: Any) -> Term | None:
        import sympy as sp

        base, exponent = self.array(expression.base), expression.exp
        if base is None:
            return None
        if exponent == sp.Rational(1, 2):
            return Apply(PAPER["sqrt"], (base,))
        named = {2: PAPER["square"], 3: PAPER["cube"], **POWERS}
        if not (exponent.is_Integer and int(exponent) in named):
            return None
        return Apply(named[int(exponent)], (base,))

    def _extreme(self, expression: Any) -> Term | None:
        import sympy as sp

        largest = isinstance(expression, sp.Max)
        bounded = sp.Integer(0) in expression.args
        terms = [self.array(part) for part in expression.args if part != 0]
        if any(term is None for term in terms):
            return None
        found = _chain(PAPER["max" if largest else "min"], terms)
        return Apply(PAPER["relu" if largest else "min0"], (found,)) if bounded else found


def _chain(operator: Operator, terms: list[Any]) -> Term:
    found, *rest = sorted(terms, key=_reading_order)
    for term in rest:
        found = Apply(operator, (found, term))
    return found


def _reading_order(term: Term) -> tuple[int, float, str]:
    """Numbers, trainable vectors, x, then what is larger."""
    kinds: tuple[Callable[[Term], bool], ...] = (
        lambda each: isinstance(each, Number),
        lambda each: isinstance(each, Vector),
        lambda each: isinstance(each, Variable),
    )
    kind = next((place for place, is_kind in enumerate(kinds) if is_kind(term)), len(kinds))
    return kind, size(term), _spelling(term)


def _spelling(term: Term) -> str:
    names = [part.operator.name if isinstance(part, Apply) else str(part) for part in parts(term)]
    return " ".join(names)
