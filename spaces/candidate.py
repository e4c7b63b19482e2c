"""A candidate activation function: core units joined to one function of x.

Source: Ramachandran, Zoph, Le, "Searching for Activation Functions", arXiv 1710.05941, section 2:
a core unit is `binary(unary1(input1), unary2(input2))`, and its inputs are the preactivation x or
the outputs of earlier core units. The output of the last unit is the activation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CoreUnit:
    """`binary(unary1(input1), unary2(input2))`; input 0 is x, input k the output of unit k."""

    input1: int
    input2: int
    unary1: str
    unary2: str
    binary: str

    @property
    def inputs(self) -> tuple[int, int]:
        """Both inputs."""
        return (self.input1, self.input2)

    @property
    def read(self) -> tuple[int, ...]:
        """The inputs that the output depends on: both, or the first alone of a pass-through."""
        return (self.input1,) if self.binary == FIRST else self.inputs

    @property
    def plain(self) -> bool:
        """Whether nothing is said of an operand that is not read."""
        return self.binary != FIRST or (self.input2 == 0 and self.unary2 == IDENTITY)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An activation function as core units, numbered from 1; the last one's output is f(x).

    Raises:
        ValueError: There is no unit, or a unit reads itself or a later one.
    """

    units: tuple[CoreUnit, ...]
    _reads: tuple[int, ...] | None = field(default=None, init=False, repr=False, compare=False)
    """What `reads` gives, once somebody has asked."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", tuple(self.units))
        if not self.units:
            raise ValueError("a candidate must have at least one core unit")
        for number, unit in enumerate(self.units, start=1):
            if not (0 <= unit.input1 < number and 0 <= unit.input2 < number):
                raise ValueError(
                    f"core unit {number} must read x (0) or units 1 to {number - 1}, "
                    f"got inputs {unit.inputs}"
                )

    def __str__(self) -> str:
        from .text import to_text

        return to_text(self)

    def used(self) -> tuple[bool, ...]:
        """For each unit, whether the output depends on it."""
        return (*(count > 0 for count in self.reads()[1:-1]), True)

    def reads(self) -> tuple[int, ...]:
        """How many operands of used units read x, unit 1, unit 2, …"""
        if self._reads is None:
            counts = [0] * (len(self.units) + 1)
            for number in range(len(self.units), 0, -1):
                if counts[number] or number == len(self.units):
                    for source in self.units[number - 1].read:
                        counts[source] += 1
            object.__setattr__(self, "_reads", tuple(counts))
        assert self._reads is not None
        return self._reads

    def pruned(self) -> Candidate:
        """The same function without the units that its output does not depend on."""
        return self.renumbered([place for place, used in enumerate(self.used()) if used])

    def renumbered(self, order: Sequence[int]) -> Candidate:
        """The units of this candidate at the positions `order`, their inputs renumbered to match.

        Args:
            order: Positions (from 0) of the units that stay; the output's comes last. What a
                pass-through unit does not read is set to x.
        """
        if all(unit.plain for unit in self.units) and [*order] == [*range(len(self.units))]:
            return self
        number = {0: 0} | {position + 1: new for new, position in enumerate(order, start=1)}

        def moved(unit: CoreUnit) -> CoreUnit:
            first = number[unit.input1]
            if unit.binary == FIRST:
                return CoreUnit(first, 0, unit.unary1, IDENTITY, FIRST)
            return CoreUnit(first, number[unit.input2], unit.unary1, unit.unary2, unit.binary)

        return Candidate(tuple(moved(self.units[position]) for position in order))


FIRST = "first"
"""The hidden binary operator that returns its first operand: `first(u(a), x)` is `u(a)`.

The grammar never samples it. With it every composition of operators is made of core units, those
included that the paper's grammar cannot write, as `sigmoid(scale(x))`.
"""

IDENTITY = "identity"
"""The unary operator that is left out in text: `identity(x)` is `x`."""
