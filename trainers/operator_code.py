"""A candidate's code put together from that of its operators.

XLA compiles each operator of a table once, as functions of a block: its value, and how its cotangent passes
on to each operand and to each trainable vector. A candidate is then a list of their calls, which is there in a
millisecond; what stands between two of them stays in a core's cache.

Letters: `S` slots, `P` vectors per slot, `N` floats of a block.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from spaces import Candidate, Operator, OperatorTable, Param
from spaces.candidate import FIRST, IDENTITY
from spaces.catalogue import BUILT_IN
from spaces.function import compose
from spaces.program import is_built_in

from .block_code import BlockFunction, check_function, compile_function
from .block_program import Listing, Register
from .candidate_code import NORM_ROWS, NORM_SUMS, NOTHING, CandidateCode, Places, row, sum_row
from .fused_code import fused_code
from .machine_code import CodeError
from .ready_programs import ReadyShelf, program_name

_NORM = "x - mean"
"""The name of the normalisation, which is none of an operator's."""


class _Step(NamedTuple):
    """An operator of a candidate. Values have numbers: 0 is what is normalised."""

    operator: Operator
    unit: int
    vectors: tuple[int, ...]
    """The numbers of its vectors among the `S · P`."""
    inputs: tuple[int, ...]
    value: int


class OperatorCodes:
    """The code of a table's operators; each is compiled when a candidate has it first.

    Args:
        table: The operators.
        block: N.
        cache: Where the code of this project's operators is kept between processes, see
            `trainers.ready_programs`; None keeps nothing.
    """

    def __init__(self, table: OperatorTable, block: int, cache: Path | None = None) -> None:
        self._table = table
        self._block = block
        self._known = {each.name: each for each in (*table.unary, *table.binary)}
        self._pieces: dict[str, BlockFunction] = {}
        self._cache = cache

    def code(self, candidate: Candidate) -> CandidateCode:
        """The code of a candidate, of its operators.

        Raises:
            CodeError: An operator is no list of loops, or XLA's code is not as it was.
            OSError: The system gives no memory that may be executed.
        """
        steps = self._steps(candidate)
        functions = [self.piece(step.operator) for step in steps]
        return self._code(functions, steps)

    def fused(self, candidate: Candidate) -> CandidateCode:
        """The code of a candidate that is compiled for it: whole, or unit by unit if it has several.

        XLA would compute the value of a unit anew wherever it is read, and so those of the units before it.

        Raises:
            CodeError: As `code`.
            OSError: As `code`.
        """
        steps = _by_units(self._steps(candidate))
        if len(steps) == 1:
            return fused_code(self._table, candidate, self._block)
        known = self._known.values()
        functions = [
            self.piece(step.operator)
            if step.operator in known
            else self._compile(*_function(step.operator))
            for step in steps
        ]
        return self._code(functions, steps)

    def _code(self, functions: Sequence[BlockFunction], steps: Sequence[_Step]) -> CandidateCode:
        norm = self.norm()
        self._shelf.write()

        def write(listing: Listing, back: bool, places: Places) -> None:
            written = _Written(norm, functions, listing, places)
            (written.back if back else written.forward)(steps)

        return CandidateCode(self._table, self._block, write)

    def compile_all(self) -> None:
        """Compiles every operator, but for those that cannot be, so that no candidate has to."""
        for operator in self._known.values():
            if operator is BUILT_IN[IDENTITY] or operator.name == FIRST:
                continue  # nobody calls them
            with contextlib.suppress(CodeError):
                self.piece(operator)
        self.norm()
        self._shelf.write()

    def piece(self, operator: Operator) -> BlockFunction:
        """An operator's code."""
        if operator.name not in self._pieces:
            make = functools.partial(self._compile, *_function(operator))
            kept = self._shelf if is_built_in(operator) else None
            self._pieces[operator.name] = kept(operator.name, make) if kept else make()
        return self._pieces[operator.name]

    def norm(self) -> BlockFunction:
        """The normalisation's: x, shortcut and rows, and change and sums, to what is normalised and sums."""
        if _NORM not in self._pieces:
            self._pieces[_NORM] = self._shelf(_NORM, lambda: self._compile(_norm, 8))
        return self._pieces[_NORM]

    @functools.cached_property
    def _shelf(self) -> ReadyShelf:
        name = program_name("the code of operators", self._block)
        return ReadyShelf(self._cache, name, pack=tuple, unpack=lambda kept: BlockFunction(*kept))

    def _compile(
        self, function: Callable[..., tuple[jax.Array, ...]], inputs: int
    ) -> BlockFunction:
        found, compiled = compile_function(function, inputs, self._block)
        check_function(found, compiled, self._block)
        return found

    def _steps(self, candidate: Candidate) -> list[_Step]:
        """The operators in order; the identity is none."""
        steps: list[_Step] = []
        size = self._table.vectors
        known: Any = {name: _Noted(each, steps, size) for name, each in self._known.items()}

        def place(slot: int) -> Any:
            return slot

        compose(self._table.seated(candidate), known, 0, place)
        return steps


class _Noted:
    """Stands for an operator where a candidate is composed, and notes its calls: of numbers, in place of arrays.

    Args:
        operator: The operator.
        steps: Where to.
        vectors: P.
    """

    params = True
    """So that it is told its slot."""

    def __init__(self, operator: Operator, steps: list[_Step], vectors: int) -> None:
        self._operator = operator
        self._steps = steps
        self._vectors = vectors

    def __call__(self, *inputs: int, params: int) -> int:
        """The number of the value."""
        if self._operator is BUILT_IN[IDENTITY]:
            return inputs[0]
        number, first = len(self._steps) + 1, params * self._vectors
        vectors = tuple(range(first, first + len(self._operator.params)))
        self._steps.append(_Step(self._operator, params // 3, vectors, inputs, number))
        return number


def _by_units(steps: Sequence[_Step]) -> list[_Step]:
    """The same with one operator for each core unit that has several."""
    found: list[_Step] = []
    numbers = {0: 0}
    for _, group in itertools.groupby(steps, lambda step: step.unit):
        inner = list(group)
        made = {step.value for step in inner}
        read = list(dict.fromkeys(n for step in inner for n in step.inputs if n not in made))
        last = inner[-1]
        if len(inner) > 1:
            vectors = tuple(vector for step in inner for vector in step.vectors)
            last = _Step(_together(inner, read), last.unit, vectors, tuple(read), last.value)
        numbers[last.value] = len(found) + 1
        inputs = tuple(numbers[number] for number in last.inputs)
        found.append(last._replace(inputs=inputs, value=len(found) + 1))
    return found


def _together(steps: Sequence[_Step], read: Sequence[int]) -> Operator:
    """One operator that computes steps one after the other, of the values that they read."""
    count = sum(len(step.vectors) for step in steps)
    params = tuple(Param(f"vector{number}") for number in range(count))

    def function(*arrays: Any) -> Any:
        *inputs, named = arrays if params else (*arrays, {})
        values, vectors = dict(zip(read, inputs, strict=True)), iter(named.values())
        for step in steps:
            own = {param.name: next(vectors) for param in step.operator.params}
            operands = [values[number] for number in step.inputs]
            value = step.operator(*operands, params=own)
            values[step.value] = value.astype(operands[0].dtype)
        return values[steps[-1].value]

    return Operator("unit", len(read), function, params=params)


class _Written:
    """Writes the code of a candidate.

    Args:
        norm: The code of the normalisation,
        functions: and of each step.
        listing: Where to.
        places: Where the arrays are.
    """

    def __init__(
        self,
        norm: BlockFunction,
        functions: Sequence[BlockFunction],
        listing: Listing,
        places: Places,
    ) -> None:
        self._norm = norm
        self._functions = functions
        self._listing = listing
        self._places = places

    def forward(self, steps: Sequence[_Step]) -> None:
        """The value."""
        self._values(steps, self._places.written)

    def back(self, steps: Sequence[_Step]) -> None:
        """The change and all sums."""
        _, _, cotangent, change = self._places
        values = self._values(steps[:-1], None)
        cotangents: dict[int, Register] = {len(steps): cotangent}
        left = sum(step.inputs.count(0) for step in steps)
        """Shares of the change that are still to come."""
        for step in reversed(steps):
            piece, outgoing = self._functions[step.value - 1], cotangents.get(step.value)
            if outgoing is None:
                continue
            operands = [values[number] for number in step.inputs]
            rows = [row(NORM_ROWS + place) for place in step.vectors]
            sums = [sum_row(NORM_SUMS + place) for place in step.vectors]
            outputs = dict(enumerate(sums, start=1 + len(operands)))
            others: list[Register] = []
            for side, number in enumerate(step.inputs):
                left -= number == 0
                others.append(cotangents.get(number, NOTHING))
                target = change if number == 0 and not left else self._listing.scratch()
                outputs[1 + side] = cotangents[number] = target
            inputs = _inputs(rows, operands, outgoing, others, sums)
            if len(set(step.inputs)) == len(step.inputs):
                piece.write(self._listing, inputs, outputs)
            else:  # one share of a cotangent is added to the other
                for number in sorted(outputs):
                    piece.write(self._listing, inputs, {number: outputs[number]})
        if (found := cotangents.get(0, NOTHING)) != change:
            self._listing.copy(found, change)
        x, shortcut, *_ = self._places
        sums = [sum_row(0), sum_row(1)]
        inputs = [x, shortcut, *map(row, range(NORM_ROWS)), change, *sums]
        self._norm.write(self._listing, inputs, {1: sums[0], 2: sums[1]})

    def _values(self, steps: Sequence[_Step], last: Register | None) -> list[Register]:
        """Where what is normalised is, and each step's value, the last one of which goes to `last`."""
        x, shortcut, *_ = self._places
        found: list[Register] = []
        for number in range(len(steps) + 1):
            target = last if last and number == len(steps) else self._listing.scratch()
            if number == 0:
                inputs = [x, shortcut, *map(row, range(NORM_ROWS)), x, NOTHING, NOTHING]
                self._norm.write(self._listing, inputs, {0: target})
            else:
                step = steps[number - 1]
                rows = [row(NORM_ROWS + place) for place in step.vectors]
                operands, nothing = [found[each] for each in step.inputs], [NOTHING] * len(rows)
                inputs = _inputs(rows, operands, NOTHING, [NOTHING] * len(operands), nothing)
                self._functions[number - 1].write(self._listing, inputs, {0: target})
            found.append(target)
        return found


def _inputs(
    rows: Sequence[Register],
    operands: Sequence[Register],
    cotangent: Register,
    others: Sequence[Register],
    sums: Sequence[Register],
) -> list[Register]:
    """What `_function` takes."""
    return [*rows, *operands, *operands, cotangent, *others, *sums]


def _function(operator: Operator) -> tuple[Callable[..., tuple[jax.Array, ...]], int]:
    """What is compiled of an operator, and how many arrays it takes, float32 `[N]` each.

    It takes the vectors, the operands, the operands again, the cotangent of the value, and for each operand and each
    vector what its own is to be added to. The results are the value and these sums.

    XLA would compute what the value and a sum have in common once, in loops of its own between which it is
    written and read. That takes longer than to compute it twice: for the sums the operands are there anew.
    """
    arity, names = operator.arity, [param.name for param in operator.params]

    def value(operands: Sequence[jax.Array], vectors: Sequence[jax.Array]) -> jax.Array:
        params = dict(zip(names, vectors, strict=True))
        return operator(*operands, params=params).astype(operands[0].dtype)

    def function(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        rest = iter(arrays)

        def take(count: int) -> list[jax.Array]:
            return list(itertools.islice(rest, count))

        vectors, operands, again = take(len(names)), take(arity), take(arity)
        cotangent, *totals = rest
        _, back = jax.vjp(value, again, vectors)
        to_operands, to_vectors = back(cotangent)
        shares = [*to_operands, *to_vectors]
        sums = (total + share for total, share in zip(totals, shares, strict=True))
        return value(operands, vectors), *sums

    return function, 3 * arity + 2 * len(names) + 1


def _norm(
    x: jax.Array,
    shortcut: jax.Array,
    mean: jax.Array,
    slope: jax.Array,
    bias: jax.Array,
    change: jax.Array,
    total: jax.Array,
    weighted: jax.Array,
) -> tuple[jax.Array, ...]:
    """What is compiled of the normalisation."""
    normalised = (x - mean) * slope + bias + shortcut
    return normalised, total + change, weighted + change * (x - mean)
