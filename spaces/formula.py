"""Candidates as mathematics: `x · σ(βx)`, in Unicode and in LaTeX."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
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
    return _Writer(_Names(candidate, operators), latex=False).write()


def latex(candidate: Candidate, operators: OperatorSet) -> str:
    """The candidate in LaTeX."""
    return _Writer(_Names(candidate, operators), latex=True).write()


def formula_and_latex(candidate: Candidate, operators: OperatorSet) -> tuple[str, str]:
    """Both, at four fifths of their price."""
    names = _Names(candidate, operators)
    return _Writer(names, latex=False).write(), _Writer(names, latex=True).write()


class _Field(NamedTuple):
    """A place in a template, see `Notation`, and the text before it."""

    before: str
    param: str
    """The trainable vector that is written here; empty: an operand is."""
    operand: str
    """`a` or `b`."""
    least: int
    """How tightly an operand has to bind to need no parentheses."""


@functools.lru_cache(maxsize=1024)
def _template(text: str, level: int) -> tuple[tuple[_Field, ...], str]:
    """The fields of a template of this level, and the text behind the last one."""
    *parts, rest = _FIELD.split(text)
    fields = []
    for n in range(0, len(parts), 1 + _FIELD.groups):
        before, wrapped, own, tighter, bare, param = parts[n : n + 1 + _FIELD.groups]
        least = int(own or level) + bool(tighter) if wrapped else 0
        fields.append(_Field(before, param or "", wrapped or bare or "", least))
    return tuple(fields), rest


class _Names:
    """What of a candidate is written by a name."""

    def __init__(self, candidate: Candidate, operators: OperatorSet) -> None:
        from .catalogue import known_operators

        self.units = candidate.units
        self.known = known_operators(operators)
        reads = candidate.reads()
        several = [number for number in range(1, len(self.units)) if reads[number] > 1]
        self.shared = {number: order for order, number in enumerate(several, start=1)}
        """Units that are read more than once, and which of these each is."""
        self.vectors = self._vectors(reads)
        """Trainable vectors in use, by name: their slots, in order."""

    def _vectors(self, reads: Sequence[int]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number, unit in enumerate(self.units):
            if not reads[number + 1] and number + 1 < len(self.units):
                continue
            for place, name in enumerate((unit.unary1, unit.unary2, unit.binary)):
                if place == 1 and unit.binary == FIRST:
                    continue
                for param in self.known[name].params:
                    found.setdefault(param.name, []).append(3 * number + place)
        return found


class _Writer:
    def __init__(self, names: _Names, *, latex: bool) -> None:
        self.units, self.known, self.shared = names.units, names.known, names.shared
        self.latex = latex
        self.symbols = {
            (slot, name): self.symbol(name, order if len(slots) > 1 else None)
            for name, slots in names.vectors.items()
            for order, slot in enumerate(slots, start=1)
        }
        """How each trainable vector is written: with a subscript if it has namesakes."""

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
        return self.apply(self.known[unit.binary], first, second, slot + 2)

    def unary(self, name: str, source: int, slot: int) -> tuple[str, int]:
        if source == 0:
            inner = ("x", _ATOM)
        elif source in self.shared:
            inner = (self.unit_name(source), _ATOM)
        else:
            inner = self.unit(source)
        return inner if name == IDENTITY else self.apply(self.known[name], inner, inner, slot)

    def apply(
        self, operator: Operator, first: tuple[str, int], second: tuple[str, int], slot: int
    ) -> tuple[str, int]:
        notation = operator.notation or _call(operator, latex=self.latex)
        template = notation.latex if self.latex else notation.text
        fields, rest = _template(template, notation.level)
        written = []
        for before, param, operand, least in fields:
            text, binds = first if operand == "a" else second
            if param:
                text = self.symbols.get((slot, param), param)
            elif binds < least:
                text = self.parenthesised(text)
            written += (before, text)
        return "".join([*written, rest]), notation.level

    def parenthesised(self, text: str) -> str:
        return rf"\left({text}\right)" if self.latex else f"({text})"

    def unit_name(self, number: int) -> str:
        count = str(self.shared[number])
        return f"u_{{{count}}}" if self.latex else "u" + count.translate(_SUBSCRIPT)

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
    fields, rest = _template(notation.text, notation.level)
    written = []
    for before, param, operand, _ in fields:
        name = GREEK[param][0] if param in GREEK else param
        written += (before, name or {"a": "x", "b": "y"}[operand])
    return "".join([*written, rest])
