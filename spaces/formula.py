"""Candidates as mathematics: `x · σ(βx)`, in Unicode and in LaTeX."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from .candidate import FIRST, IDENTITY, Candidate
from .operator import GREEK, Notation, Operator
from .operator_set import OperatorSet

_FIELD = re.compile(r"\{([ab])(?::(\d))?(\+)?\}|\[([ab])\]|<([a-z][a-z0-9_]*)>")
_SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_ATOM = 5


def formula(candidate: Candidate, operators: OperatorSet) -> str:
    """The candidate in Unicode, for example `x · σ(βx)`.

    Trainable vectors get subscripts if there are several of one name; units that are read more than
    once stand behind the formula: `u₁ + cos(u₁), u₁ = x · σ(x)`.
    """
    return _Writer(candidate, operators, latex=False).write()


def latex(candidate: Candidate, operators: OperatorSet) -> str:
    """The candidate in LaTeX."""
    return _Writer(candidate, operators, latex=True).write()


class _Field(NamedTuple):
    """A place in a template, see `Notation`, and the text before it."""

    before: str
    wrapped: str | None
    """The operand of `{a}`."""
    level: str | None
    tighter: str | None
    bare: str | None
    """The operand of `[a]`."""
    param: str | None


@functools.lru_cache(maxsize=1024)
def _template(text: str) -> tuple[tuple[_Field, ...], str]:
    """The fields of a template, and the text behind the last one."""
    *parts, rest = _FIELD.split(text)
    width = len(_Field._fields)
    return tuple(_Field(*parts[n : n + width]) for n in range(0, len(parts), width)), rest


class _Writer:
    def __init__(self, candidate: Candidate, operators: OperatorSet, *, latex: bool) -> None:
        from .catalogue import known_operators

        self.units = candidate.units
        self.known = known_operators(operators)
        self.latex = latex
        reads = candidate.reads()
        self.shared = [n for n in range(1, len(self.units)) if reads[n] > 1]
        self.symbols = self._symbols(candidate)

    def write(self) -> str:
        body, _ = self.unit(len(self.units))
        where = [f"{self.unit_name(n)} = {self.unit(n)[0]}" for n in self.shared]
        return (r",\quad " if self.latex else ", ").join([body, *where])

    def unit(self, number: int) -> tuple[str, int]:
        """The formula of a unit's output and how tightly it binds."""
        unit = self.units[number - 1]
        slot = 3 * (number - 1)
        first = self.unary(unit.unary1, unit.input1, slot)
        if unit.binary == FIRST:
            return first
        second = self.unary(unit.unary2, unit.input2, slot + 1)
        return self.apply(self.known[unit.binary], {"a": first, "b": second}, slot + 2)

    def unary(self, name: str, source: int, slot: int) -> tuple[str, int]:
        if source == 0:
            inner = ("x", _ATOM)
        elif source in self.shared:
            inner = (self.unit_name(source), _ATOM)
        else:
            inner = self.unit(source)
        return inner if name == IDENTITY else self.apply(self.known[name], {"a": inner}, slot)

    def apply(
        self, operator: Operator, operands: dict[str, tuple[str, int]], slot: int
    ) -> tuple[str, int]:
        notation = operator.notation or _call(operator, latex=self.latex)

        def filled(field: _Field) -> str:
            if field.param:
                return self.symbols.get((slot, field.param), field.param)
            if field.bare:
                return operands[field.bare][0]
            assert field.wrapped is not None
            text, binds = operands[field.wrapped]
            least = (int(field.level) if field.level else notation.level) + bool(field.tighter)
            return text if binds >= least else self.parenthesised(text)

        fields, rest = _template(notation.latex if self.latex else notation.text)
        written = "".join([field.before + filled(field) for field in fields])
        return written + rest, notation.level

    def parenthesised(self, text: str) -> str:
        return rf"\left({text}\right)" if self.latex else f"({text})"

    def unit_name(self, number: int) -> str:
        count = str(self.shared.index(number) + 1)
        return f"u_{{{count}}}" if self.latex else "u" + count.translate(_SUBSCRIPT)

    def _symbols(self, candidate: Candidate) -> dict[tuple[int, str], str]:
        """How each trainable vector in use is written: with a subscript if it has namesakes."""
        found: dict[str, list[tuple[int, str]]] = {}
        for number, (unit, used) in enumerate(zip(self.units, candidate.used(), strict=True)):
            names = (unit.unary1, unit.unary2, unit.binary)
            for place, name in enumerate(names if used else ()):
                if place == 1 and unit.binary == FIRST:
                    continue
                for param in self.known[name].params:
                    found.setdefault(param.name, []).append((3 * number + place, param.name))
        return {
            key: self.symbol(name, order if len(keys) > 1 else None)
            for name, keys in found.items()
            for order, key in enumerate(keys, start=1)
        }

    def symbol(self, name: str, order: int | None) -> str:
        plain = rf"\mathrm{{{name}}}".replace("_", r"\_") if self.latex else name
        letter = GREEK[name][self.latex] if name in GREEK else plain
        if order is None:
            return letter
        return f"{letter}_{{{order}}}" if self.latex else letter + str(order).translate(_SUBSCRIPT)


def _call(operator: Operator, *, latex: bool) -> Notation:
    """The notation of an operator that brings none: `name(a, b; β)`."""
    inputs = ", ".join(f"[{letter}]" for letter in "ab"[: operator.arity])
    params = "".join(f"; <{param.name}>" for param in operator.params)
    if latex:
        name = operator.name.replace("_", r"\_")
        return Notation("", rf"\operatorname{{{name}}}\left({inputs}{params}\right)")
    return Notation(f"{operator.name}({inputs}{params})", "")


def operator_formula(operator: Operator) -> str:
    """The operator on its own, on x or on x and y, for example `βx`."""
    notation = operator.notation or _call(operator, latex=False)
    names = {"a": "x", "b": "y"}

    def filled(field: _Field) -> str:
        if field.param:
            return GREEK[field.param][0] if field.param in GREEK else field.param
        return names[field.wrapped or field.bare or ""]

    fields, rest = _template(notation.text)
    return "".join([field.before + filled(field) for field in fields]) + rest
