"""A candidate as a plain function of arrays: what people call, differentiate and plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .candidate import FIRST, Candidate
from .operator import Operator


def compose(
    candidate: Candidate,
    known: Mapping[str, Operator],
    x: Any,
    vectors: Callable[[int], dict[str, Any]],
) -> Any:
    """Evaluates a candidate operator by operator; units that nothing reads are left out.

    Args:
        candidate: What to evaluate.
        known: Its operators by name.
        x: Input, `[..., C]`.
        vectors: For a slot (3·unit + 0, 1, 2 for unary 1, unary 2, binary), the values of the
            operator's parameters by name, each broadcasting against x.

    Returns:
        f(x), `[..., C]`.
    """
    values = [x]

    def apply(name: str, slot: int, *inputs: Any) -> Any:
        operator = known[name]
        return operator(*inputs, params=vectors(slot) if operator.params else None)

    for index, (unit, used) in enumerate(zip(candidate.units, candidate.used(), strict=True)):
        if not used:
            values.append(None)
            continue
        first = apply(unit.unary1, 3 * index, values[unit.input1])
        if unit.binary == FIRST:
            values.append(first)
            continue
        second = apply(unit.unary2, 3 * index + 1, values[unit.input2])
        values.append(apply(unit.binary, 3 * index + 2, first, second))
    return values[-1]
