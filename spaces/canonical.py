"""The canonical form of a candidate: one spelling for what is obviously one function.

Units that nothing reads go; operands of commutative operators are ordered; pass-through units are
absorbed, unless several operands share their trainable vectors; two equal units without trainable
vectors become one; the rest is numbered in the order in which its text names it. A candidate of a space stays within that space. Whatever equality is
not visible in the structure is left to the fingerprint.
"""

from __future__ import annotations

import hashlib

from .candidate import FIRST, IDENTITY, Candidate, CoreUnit
from .operator_set import OperatorSet


def canonical(candidate: Candidate, operators: OperatorSet) -> Candidate:
    """The canonical form; applying it twice changes nothing more.

    Args:
        candidate: Any candidate over `operators` and the hidden operators.
        operators: Says which operators are commutative and which have trainable vectors.
    """
    return _in_text_order(_simplified(candidate, operators))


def _simplified(candidate: Candidate, operators: OperatorSet) -> Candidate:
    from .catalogue import known_operators

    known = known_operators(operators)
    units: list[CoreUnit] = []
    place: dict[int, tuple[str, int]] = {0: (IDENTITY, 0)}
    """Where the output of each old unit is found: a unary operator on a new unit."""
    by_structure: dict[CoreUnit, int] = {}
    weight: dict[int, tuple[int, str]] = {0: (1, "x")}
    trainable: dict[int, bool] = {0: False}

    def operand(unary: str, source: int) -> tuple[str, int]:
        inner, new_source = place[source]
        if inner == IDENTITY:
            return unary, new_source
        if unary == IDENTITY:
            return inner, new_source
        return unary, add(CoreUnit(new_source, 0, inner, IDENTITY, FIRST))

    def describe(unary: str, source: int) -> tuple[int, str]:
        size, text = weight[source]
        return (size, text) if unary == IDENTITY else (size + 1, f"{unary}({text})")

    def add(unit: CoreUnit) -> int:
        if unit in by_structure:
            return by_structure[unit]
        units.append(unit)
        number = len(units)
        sizes = [describe(unit.unary1, unit.input1), describe(unit.unary2, unit.input2)]
        text = f"{unit.binary}({sizes[0][1]}, {sizes[1][1]})"
        if len(text) > 400:
            text = "#" + hashlib.sha256(text.encode()).hexdigest()
        weight[number] = (sizes[0][0] + sizes[1][0] + 1, text)
        trainable[number] = any(
            known[name].params for name in (unit.unary1, unit.unary2, unit.binary)
        ) or any(trainable[source] for source in unit.inputs)
        if not trainable[number]:
            by_structure[unit] = number
        return number

    used = candidate.used()
    reads = candidate.reads()
    for number, unit in enumerate(candidate.units, start=1):
        if not used[number - 1]:
            continue
        first = operand(unit.unary1, unit.input1)
        if unit.binary == FIRST:
            if known[first[0]].params and reads[number] > 1:
                first = IDENTITY, add(CoreUnit(first[1], 0, first[0], IDENTITY, FIRST))
            place[number] = first
            continue
        second = operand(unit.unary2, unit.input2)
        if known[unit.binary].commutative and describe(*second) < describe(*first):
            first, second = second, first
        place[number] = (
            IDENTITY,
            add(CoreUnit(first[1], second[1], first[0], second[0], unit.binary)),
        )
    unary, source = place[len(candidate.units)]
    if unary != IDENTITY or source == 0:
        source = add(CoreUnit(source, 0, unary, IDENTITY, FIRST))
    return Candidate(tuple(units[:source])).pruned()


def _in_text_order(candidate: Candidate) -> Candidate:
    """Numbers the units as `parse(to_text(candidate))` would; two have one order only."""
    if len(candidate.units) <= 2:
        return candidate
    reads = candidate.reads()
    finished: list[int] = []

    def visit(number: int) -> None:
        """Depth first, left to right: the order in which shared units must be named."""
        if number and number not in finished:
            for source in candidate.units[number - 1].inputs:
                visit(source)
            finished.append(number)

    visit(len(candidate.units))
    order: list[int] = []

    def block(number: int) -> None:
        """A named unit, behind the unnamed ones that only it reads."""
        unit = candidate.units[number - 1]
        for source in unit.inputs:
            if source and reads[source] == 1 and source not in order:
                block(source)
        order.append(number)

    for number in finished:
        if reads[number] != 1:
            block(number)
    return candidate.renumbered([number - 1 for number in order])
