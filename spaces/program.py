"""A candidate as integers, and the table of operators that one compiled program dispatches to.

Letters: `U` core units, `S = 3·U` slots (unary 1, unary 2 and binary of each unit), `P` trainable
vectors per slot, sized for the operator with most of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from .candidate import FIRST, IDENTITY, Candidate, CoreUnit
from .catalogue import BUILT_IN, known_operators
from .function import compose
from .operator import Operator, Param
from .operator_set import OperatorSet


class Program(NamedTuple):
    """A candidate as arrays: what the traced form reads while it runs."""

    inputs: Any
    """int32 `[U, 2]`: 0 is x, k the output of unit k."""
    unary: Any
    """int32 `[U, 2]`: places in the table's unary operators."""
    binary: Any
    """int32 `[U]`: places in the table's binary operators."""


class Occurrence(NamedTuple):
    """A trainable vector that a candidate uses."""

    slot: int
    """Slot, 0 to S − 1."""
    vector: int
    """Vector within the slot, 0 to P − 1."""
    operator: str
    """The operator it belongs to."""
    param: str
    """Its name there."""


@dataclass(frozen=True)
class OperatorTable:
    """The operators that a program may name, and its size.

    Args:
        unary: Unary operators in the order of their ids; `identity` among them.
        binary: Binary operators in the order of their ids; `first` among them.
        core_units: `U`, the number of units of every program.
        beta_init: Initial value of every trainable vector; None takes each operator's own.
    """

    unary: tuple[Operator, ...]
    binary: tuple[Operator, ...]
    core_units: int
    beta_init: float | None = None

    @classmethod
    def for_run(
        cls,
        operators: OperatorSet,
        *,
        core_units: int,
        extra: Iterable[Candidate] = (),
        beta_init: float | None = None,
    ) -> OperatorTable:
        """The table of a run: a set's operators and the hidden ones that `extra` needs.

        Args:
            operators: The set of the search space.
            core_units: `U` of the space. An extra candidate that needs more units becomes one
                hidden operator, `fused_…`, so that programs stay as small as the space's.
            extra: Candidates that are evaluated beside those of the space: the baselines.
            beta_init: See above.
        """
        known = known_operators(operators)
        unary = {operator.name: operator for operator in operators.unary}
        binary = {operator.name: operator for operator in operators.binary}
        unary.setdefault(IDENTITY, known[IDENTITY])
        binary[FIRST] = known[FIRST]
        for candidate in (each.pruned() for each in extra):
            if len(candidate.units) > core_units:
                fused = fuse(candidate, known)
                unary[fused.name] = fused
                continue
            for unit in candidate.units:
                for name in (unit.unary1, unit.unary2):
                    unary.setdefault(name, _known(candidate, known, name, 1))
                binary.setdefault(unit.binary, _known(candidate, known, unit.binary, 2))
        return cls(tuple(unary.values()), tuple(binary.values()), core_units, beta_init)

    @property
    def built_in(self) -> bool:
        """Whether every operator `is_built_in`."""
        return all(is_built_in(operator) for operator in (*self.unary, *self.binary))

    @property
    def slots(self) -> int:
        """`S`."""
        return 3 * self.core_units

    @property
    def vectors(self) -> int:
        """`P`; at least 1, so that arrays of vectors are never empty."""
        return max(1, *(len(operator.params) for operator in (*self.unary, *self.binary)))

    def initial_values(self) -> tuple[np.ndarray, np.ndarray]:
        """Initial values by operator id: unary float32 `[#unary, P]`, binary `[#binary, P]`."""

        def values(operators: tuple[Operator, ...]) -> np.ndarray:
            rows = np.zeros((len(operators), self.vectors), np.float32)
            for row, operator in zip(rows, operators, strict=True):
                for index, param in enumerate(operator.params):
                    row[index] = param.init if self.beta_init is None else self.beta_init
            return rows

        return values(self.unary), values(self.binary)

    def seated(self, candidate: Candidate) -> Candidate:
        """The candidate as `U` units of this table: pass-through units in front, or fused.

        Units that nothing reads become pass-through units as well: a zero cotangent times an
        infinite or undefined slope is NaN, so they would spoil the gradient of x.

        Raises:
            ValueError: It needs more units, or an operator that the table lacks.
        """
        unary = {operator.name for operator in self.unary}
        candidate = candidate.pruned()
        if len(candidate.units) > self.core_units:
            name = fused_name(candidate)
            if name not in unary:
                raise ValueError(
                    f"{candidate} has {len(candidate.units)} core units, the program has "
                    f"{self.core_units}"
                )
            candidate = Candidate((CoreUnit(0, 0, name, IDENTITY, FIRST),))
        binary = {operator.name for operator in self.binary}
        for unit in candidate.units:
            for name, side in ((unit.unary1, unary), (unit.unary2, unary), (unit.binary, binary)):
                if name not in side:
                    raise ValueError(
                        f"{candidate} needs operator `{name}`, which is not in use here"
                    )
        missing = self.core_units - len(candidate.units)
        padding = (CoreUnit(0, 0, IDENTITY, IDENTITY, FIRST),) * missing
        shifted = tuple(
            replace(
                unit,
                input1=unit.input1 + missing if unit.input1 else 0,
                input2=unit.input2 + missing if unit.input2 else 0,
            )
            for unit in candidate.units
        )
        return Candidate((*padding, *shifted))

    def program(self, candidate: Candidate) -> Program:
        """The candidate as integers; raises ValueError as `seated` does."""
        units = self.seated(candidate).units
        unary = {operator.name: i for i, operator in enumerate(self.unary)}
        binary = {operator.name: i for i, operator in enumerate(self.binary)}
        return Program(
            np.array([unit.inputs for unit in units], np.int32),
            np.array([(unary[unit.unary1], unary[unit.unary2]) for unit in units], np.int32),
            np.array([binary[unit.binary] for unit in units], np.int32),
        )

    def occurrences(self, candidate: Candidate) -> tuple[Occurrence, ...]:
        """The trainable vectors that the output depends on, in the order of their slots."""
        seated = self.seated(candidate)
        known = {operator.name: operator for operator in (*self.unary, *self.binary)}
        found = []
        for index, (unit, used) in enumerate(zip(seated.units, seated.used(), strict=True)):
            names = (unit.unary1, unit.unary2, unit.binary)
            for place, name in enumerate(names if used else ()):
                if place == 1 and unit.binary == FIRST:
                    continue
                for vector, param in enumerate(known[name].params):
                    found.append(Occurrence(3 * index + place, vector, name, param.name))
        return tuple(found)


def _known(candidate: Candidate, known: Mapping[str, Operator], name: str, arity: int) -> Operator:
    operator = known.get(name)
    if operator is None or operator.arity != arity:
        kind = "a unary" if arity == 1 else "a binary"
        raise ValueError(f"{candidate} needs {kind} operator `{name}`, which is not known here")
    return operator


def fused_name(candidate: Candidate) -> str:
    """Name of the hidden operator that stands for a whole candidate."""
    return "fused_" + hashlib.sha256(str(candidate).encode()).hexdigest()[:12]


def fuse(candidate: Candidate, known: dict[str, Operator]) -> Operator:
    """One unary operator that computes a whole candidate.

    Args:
        candidate: The candidate.
        known: Operators by name.
    """
    operators = []
    for unit in candidate.units:
        operators += [known[unit.unary1], known[unit.unary2], known[unit.binary]]
    params = tuple(
        Param(_fused_param(param.name, slot, index), param.init)
        for slot, operator in enumerate(operators)
        for index, param in enumerate(operator.params)
    )

    fn = _Fused(candidate, tuple(operators))
    return Operator(fused_name(candidate), 1, fn, params=params)


@dataclass(frozen=True, slots=True)
class _Fused:
    """What a fused operator computes."""

    candidate: Candidate
    operators: tuple[Operator, ...]
    """Those of its slots."""

    def __call__(self, x: Any, values: Mapping[str, Any] = MappingProxyType({})) -> Any:
        """f(x), in the shape of x; `values` are the trainable vectors by their fused names."""

        def vectors(slot: int) -> dict[str, Any]:
            names = (param.name for param in self.operators[slot].params)
            return {n: values[_fused_param(n, slot, i)] for i, n in enumerate(names)}

        known = {operator.name: operator for operator in self.operators}
        return compose(self.candidate, known, x, vectors)


def is_built_in(operator: Operator) -> bool:
    """Whether an operator is one of this package's, or made of such: nobody else's code."""
    parts = operator.fn.operators if isinstance(operator.fn, _Fused) else (operator,)
    return all(BUILT_IN.get(part.name) is part for part in parts)


def _fused_param(name: str, slot: int, index: int) -> str:
    """A name of its own for each vector of a fused operator, within the length of names."""
    return f"{name[:22]}_{slot}_{index}"
