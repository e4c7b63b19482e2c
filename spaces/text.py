"""Candidates as text: `mul(x, sigmoid(x))`, `u1 = mul(x, sigmoid(x)); add(u1, cos(u1))`.

    program    := { name "=" expression ";" } expression
    expression := name | name "(" expression { "," expression } ")"

A name in front of parentheses is an operator; any other is `x` or a unit named before. The parser
is written out here, with limits, because text arrives from people and files: nothing in it is ever
evaluated as code, and its size bounds the work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NoReturn

from .candidate import FIRST, IDENTITY, Candidate, CoreUnit
from .operator import Operator
from .operator_set import OperatorSet
from .suggest import did_you_mean

MAX_CHARACTERS = 4_000
"""Longest text that is read."""
MAX_DEPTH = 64
"""Deepest nesting that is read."""
MAX_UNITS = 64
"""Most core units that a text may make."""

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|\S")
_UNIT_NAME = re.compile(r"u[0-9]{1,4}\Z")


class ExpressionError(ValueError):
    """The text is no candidate; the message says where and why, in one line."""


def parse(text: str, operators: OperatorSet, hidden: Iterable[Operator] | None = None) -> Candidate:
    """Reads a candidate.

    Args:
        text: The expression, at most `MAX_CHARACTERS` long and `MAX_DEPTH` deep.
        operators: The operators that may occur.
        hidden: Further operators that may; None means the catalogue's (`gelu`, `prelu`, …).

    Returns:
        The candidate as it is written; nothing is simplified but `identity` around an input.

    Raises:
        ExpressionError: The text is no candidate over these operators.
    """
    if hidden is None:
        from .catalogue import HIDDEN

        hidden = HIDDEN
    arity = {operator.name: operator.arity for operator in hidden if operator.name != FIRST}
    arity |= {operator.name: operator.arity for operator in operators}
    return _Parser(text, arity, operators.name).program()


def to_text(candidate: Candidate) -> str:
    """Writes a candidate; `parse` of the result gives it back if it is canonical.

    A unit that is read more than once, or never, stands under a name of its own.
    """
    named = _named_units(candidate)
    names = {number: f"u{count}" for count, number in enumerate(named, start=1)}

    def operand(unary: str, source: int) -> str:
        inner = "x" if source == 0 else names[source] if source in names else written(source)
        return inner if unary == IDENTITY else f"{unary}({inner})"

    def written(number: int) -> str:
        unit = candidate.units[number - 1]
        first = operand(unit.unary1, unit.input1)
        if unit.binary == FIRST:
            return first
        return f"{unit.binary}({first}, {operand(unit.unary2, unit.input2)})"

    statements = [f"{names[number]} = {written(number)}" for number in named]
    return "; ".join([*statements, written(len(candidate.units))])


def _named_units(candidate: Candidate) -> list[int]:
    reads = [0] * (len(candidate.units) + 1)
    for unit in candidate.units:
        for source in unit.read:
            reads[source] += 1
    return [number for number in range(1, len(candidate.units)) if reads[number] != 1]


class _Parser:
    """Recursive descent straight to core units; depth and size are checked on the way."""

    def __init__(self, text: str, arity: dict[str, int], set_name: str) -> None:
        if not isinstance(text, str):
            raise ExpressionError(f"an expression must be text, got {text!r}")
        if len(text) > MAX_CHARACTERS:
            raise ExpressionError(
                f"an expression must have at most {MAX_CHARACTERS} characters, got {len(text)}"
            )
        self.text = text
        self.arity = arity
        self.set_name = set_name
        self.tokens = [(match[0], match.start()) for match in _TOKEN.finditer(text)]
        self.position = 0
        self.units: list[CoreUnit] = []
        self.named: dict[str, int] = {}

    def program(self) -> Candidate:
        """The whole text."""
        while len(self.tokens) > self.position + 1 and self.tokens[self.position + 1][0] == "=":
            name, _ = self.take()
            if not _UNIT_NAME.match(name):
                self.fail(f"a unit must be called u1, u2, …, got `{_short(name)}`", back=1)
            if name in self.named:
                self.fail(f"`{name}` is named twice", back=1)
            self.take()
            self.named[name] = self.unit(*self.operand(0))
            self.expect(";")
        self.unit(*self.operand(0), last=True)
        if self.position < len(self.tokens):
            self.fail(f"unexpected `{_short(self.tokens[self.position][0])}`")
        return Candidate(tuple(self.units))

    def operand(self, depth: int) -> tuple[str, int]:
        """Reads one expression; returns it as a unary operator on x (0) or on a unit."""
        if depth > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH}")
        name, _ = self.take()
        if not (name[0].isalpha() or name[0] == "_"):
            self.fail(f"expected an operator or x, got `{_short(name)}`", back=1)
        if self.peek() != "(":
            if name == "x":
                return IDENTITY, 0
            if name in self.named:
                return IDENTITY, self.named[name]
            if name in self.arity:
                self.fail(f"`{name}` needs {_inputs(self.arity[name])} in parentheses", back=1)
            self.fail(f"unknown name `{_short(name)}`{did_you_mean(name, ['x', *self.named])}", 1)
        if name not in self.arity:
            near = did_you_mean(name, self.arity)
            self.fail(f"unknown operator `{_short(name)}`{near or self.known()}", back=1)
        self.take()
        operands = [self.operand(depth + 1)]
        while self.peek() == ",":
            self.take()
            operands.append(self.operand(depth + 1))
        self.expect(")")
        if len(operands) != self.arity[name]:
            self.fail(f"`{name}` takes {_inputs(self.arity[name])}, got {len(operands)}", back=1)
        if len(operands) == 2:
            return IDENTITY, self.append(CoreUnit(
                operands[0][1], operands[1][1], operands[0][0], operands[1][0], name
            ))  # fmt: skip
        inner, source = operands[0]
        if name == IDENTITY:
            return inner, source
        return name, source if inner == IDENTITY else self.unit(inner, source)

    def unit(self, unary: str, source: int, *, last: bool = False) -> int:
        """The number of the unit whose output is `unary` of `source`."""
        if unary == IDENTITY and source and (not last or source == len(self.units)):
            return source
        return self.append(CoreUnit(source, 0, unary, IDENTITY, FIRST))

    def append(self, unit: CoreUnit) -> int:
        if len(self.units) == MAX_UNITS:
            self.fail(f"more than {MAX_UNITS} core units")
        self.units.append(unit)
        return len(self.units)

    def peek(self) -> str:
        return self.tokens[self.position][0] if self.position < len(self.tokens) else ""

    def take(self) -> tuple[str, int]:
        if self.position == len(self.tokens):
            self.fail("the expression ends too early")
        self.position += 1
        return self.tokens[self.position - 1]

    def expect(self, token: str) -> None:
        if self.peek() != token:
            self.fail(
                f"expected `{token}`" + (f", got `{_short(self.peek())}`" if self.peek() else "")
            )
        self.position += 1

    def known(self) -> str:
        names = sorted(self.arity)
        return f"; operators of {self.set_name!r}: {', '.join(names)}" if len(names) <= 60 else ""

    def fail(self, reason: str, back: int = 0) -> NoReturn:
        index = self.position - back
        column = self.tokens[index][1] + 1 if index < len(self.tokens) else len(self.text) + 1
        raise ExpressionError(f"expression, column {column}: {reason}")


def _inputs(count: int) -> str:
    return "one input" if count == 1 else f"{count} inputs"


def _short(token: str) -> str:
    """The token as a message may show it: not too long, and no control characters."""
    shown = token if token.isprintable() else ascii(token)[1:-1]
    return shown if len(shown) <= 40 else shown[:40] + "…"
