"""A candidate behind a normalisation, as machine code for arrays of any length.

XLA compiles the candidate alone, as a function of a block, which takes a tenth of a second, while a
network with it takes seconds; `trainers.linked_form` calls the code from a network that was compiled once.

It is `f((x - mean) · slope + bias + shortcut)`: what stands between a convolution and the next one, in
one pass over the arrays forward and one back.

Letters: `S` slots, `P` vectors per slot, `C` channels, `N` floats of a block.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from spaces import Candidate, OperatorTable
from spaces.function import compose

from .block_code import (
    BlockProgram,
    Listing,
    aligned_floats,
    compile_routine,
    fixed,
    floats_at,
    moving,
)
from .machine_code import CodeError

BLOCK = 2048
"""Floats of a block, or a few less: 32 kB each, so that the arrays of a block stay in a core's cache."""
_LINE = 16
"""Floats of a line of the cache."""
_FLOAT = 4

_LONG = 6
"""Long arrays that the compiled function has, see `_function`."""
_AT_NOTHING, _AT_ROWS, _AT_SUMS, _AT_LONG = range(4)
"""Which of the addresses that the code is given is that of zeros, of the rows, of the sums, and of x, behind which
the other long arrays come."""
_NORM = 3
"""Rows of the normalisation: mean, slope, bias."""
_SUMS = 2
"""Sums of the cotangent: alone, and times x without the mean."""


def block_for(channels: Sequence[int]) -> int:
    """Floats of a block in which each number of channels has whole rows."""
    rows = int(np.lcm.reduce([_LINE, *channels]))
    return max(BLOCK // rows, 1) * rows


def rows_of(norm: jax.Array, beta: jax.Array, block: int) -> jax.Array:
    """What `Given.rows` is the address of.

    Args:
        norm: float32 [3, C]: mean, slope and bias of each channel.
        beta: float32 [S, P, C].
        block: N, a multiple of C.
    """
    channels = norm.shape[-1]
    rows = jnp.concatenate([norm, beta.reshape(-1, channels)])
    return jnp.tile(rows, block // channels)


def sums_of(sums: jax.Array, beta: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Reads the sums that `CandidateCode.pull_back` writes.

    Args:
        sums: float32 [2 + S · P, N].
        beta: Like the operand.

    Returns:
        Sums of the change over a channel, alone and times x - mean, float32 [C], and the cotangent of beta.
    """
    channels = beta.shape[-1]
    alone, weighted, *more = sums.reshape(len(sums), -1, channels).sum(axis=1)
    return alone, weighted, jnp.stack(more).reshape(beta.shape)


class Given(NamedTuple):
    """What the code of a candidate reads; the long arrays have so many `elements`."""

    elements: int
    """A multiple of C."""
    x: int
    """Address of a long array."""
    shortcut: int | None
    """Of one that is added to what is normalised, if there is one."""
    rows: int
    """Of float32 `[3 + S · P, N]`: mean, slope and bias, and the vectors, see `rows_of`."""


class CandidateCode:
    """The code of a candidate.

    Args:
        table: Where its trainable vectors are.
        candidate: What to compile.
        block: N.

    Raises:
        CodeError: It is no list of loops, or XLA's code is not as it was.
        OSError: The system gives no memory that may be executed.
    """

    def __init__(self, table: OperatorTable, candidate: Candidate, block: int) -> None:
        self._block = block
        used = [each.slot * table.vectors + each.vector for each in table.occurrences(candidate)]
        read = [*range(_NORM), *(_NORM + place for place in used)]
        added = [*range(_SUMS), *(_SUMS + place for place in used)]
        self._sizes = _NORM + table.slots * table.vectors, _SUMS + table.slots * table.vectors
        function, inputs = _function(table, candidate), _LONG + len(read) + len(added)
        routine, code, compiled = compile_routine(function, inputs, block)
        sums = [fixed(_AT_SUMS, row) for row in added]
        rows = [*(fixed(_AT_ROWS, row) for row in read), *sums]
        to_sums = dict(enumerate(sums, start=2))
        self._listings: dict[tuple[bool, bool], Listing] = {}
        """Forward or back, without and with a shortcut."""
        for with_shortcut in (False, True):
            x = moving(_AT_LONG)
            shortcut = moving(_AT_LONG + 1) if with_shortcut else fixed(_AT_NOTHING)
            last = _AT_LONG + 1 + with_shortcut
            forward, back = Listing(), Listing()
            value = cotangent = moving(last)
            forward.add(routine, code, [x, x, x, shortcut, x, x, *rows], {0: value})
            change = moving(last + 1)
            back.add(routine, code, [x, x, x, shortcut, cotangent, x, *rows], {1: change})
            back.add(routine, code, [x, x, x, shortcut, cotangent, change, *rows], to_sums)
            self._listings[False, with_shortcut] = forward
            self._listings[True, with_shortcut] = back
        self._nothing = aligned_floats(block)
        self._nowhere = self._nothing.ctypes.data
        self._idle: list[_Runner] = []
        self._check(compiled, read, added)

    def value(self, given: Given, result: int) -> None:
        """Evaluates the candidate.

        Args:
            given: Its operands.
            result: Address of a long array, which is written.
        """
        self._run(False, given, 0, (), result)

    def pull_back(self, given: Given, cotangent: int, change: int, sums: int) -> None:
        """The cotangent of what is normalised, and its sums.

        Args:
            given: The operands of the value.
            cotangent: Address of a long array: the cotangent of the value.
            change: Address of a long array, which is written.
            sums: Address of float32 `[2 + S · P, N]`, is written, see `sums_of`.
        """
        ctypes.memset(sums, 0, _FLOAT * self._block * self._sizes[1])
        self._run(True, given, sums, (cotangent,), change)

    def _run(
        self, back: bool, given: Given, sums: int, more: tuple[int, ...], written: int
    ) -> None:
        shortcut = () if given.shortcut is None else (given.shortcut,)
        fixed, moved = (self._nowhere, given.rows, sums), (given.x, *shortcut, *more, written)
        try:
            runner = self._idle.pop()
        except IndexError:
            runner = _Runner(self._listings, self._block)
        runner.run((back, bool(shortcut)), fixed, moved, given.elements)
        self._idle.append(runner)

    def _check(self, compiled: jax.stages.Compiled, read: list[int], added: list[int]) -> None:
        """Whether the code computes what XLA does with it.

        Raises:
            CodeError: It does not.
        """
        rng = np.random.default_rng(0)
        for with_shortcut in (False, True):
            x, shortcut, cotangent, value, change = (aligned_floats(self._block) for _ in range(5))
            rows, sums = (aligned_floats(n * self._block).reshape(n, -1) for n in self._sizes)
            for array in (x, cotangent, *([shortcut] if with_shortcut else [])):
                array[:] = rng.standard_normal(self._block, np.float32)
            rows[:] = rng.uniform(0.5, 1.5, rows.shape)
            operands, more = (x, x, x, shortcut, cotangent), (*rows[read], *sums[added])
            first = np.asarray(compiled(*operands, change, *more)[1])
            expected = [np.asarray(each) for each in compiled(*operands, first, *more)]
            added_one = shortcut.ctypes.data if with_shortcut else None
            given = Given(self._block, x.ctypes.data, added_one, rows.ctypes.data)
            self.value(given, value.ctypes.data)
            self.pull_back(given, cotangent.ctypes.data, change.ctypes.data, sums.ctypes.data)
            found = [value, change, *sums[added]]
            with np.errstate(invalid="ignore"):
                same = all(map(_same, found, expected))
            if not same:
                raise CodeError("XLA's code by itself computes something else")


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """But for numbers so small that XLA, and who computes for it, takes them for zero, and what comes of them."""
    return np.allclose(one, other, rtol=1e-5, atol=1e-20, equal_nan=True)


class _Runner:
    """What one thread needs to run the code of a candidate.

    Args:
        listings: The code, by direction and whether there is a shortcut.
        block: N.
    """

    def __init__(self, listings: dict[tuple[bool, bool], Listing], block: int) -> None:
        self._listings = listings
        self._programs: dict[tuple[bool, bool], BlockProgram] = {}
        self._block = block
        self._rest = aligned_floats(4 * block).reshape(4, block)
        """For the last elements, which are less than a block."""

    def run(
        self, kind: tuple[bool, bool], fixed: Sequence[int], moved: Sequence[int], elements: int
    ) -> None:
        """Goes through long arrays, of which the last is written; back, the one before it is the cotangent."""
        if (program := self._programs.get(kind)) is None:
            program = self._programs[kind] = BlockProgram(self._listings[kind], self._block)
        blocks, rest = divmod(elements, self._block)
        if blocks:
            program.run((*fixed, *moved), blocks)
        if not rest:
            return
        # In room of their own; behind them stand the same again, without cotangents.
        back, _ = kind
        begin, places = blocks * self._block, self._rest[: len(moved)]
        for place, array in zip(places[:-1], moved, strict=False):
            place[:] = np.resize(floats_at(array + _FLOAT * begin, rest), self._block)
        places[len(places) - 1 - back : -1, rest:] = 0.0
        program.run((*fixed, *(each.ctypes.data for each in places)), 1)
        ctypes.memmove(moved[-1] + _FLOAT * begin, places[-1].ctypes.data, _FLOAT * rest)


def _function(table: OperatorTable, candidate: Candidate) -> Callable[..., tuple[jax.Array, ...]]:
    """What is compiled: of float32 `[N]` each, x three times, shortcut, cotangent, change, rows and sums, to
    value, change, and sums.

    XLA would compute what two results have in common once, in loops of its own between which it is
    written and read. That takes longer than to compute it twice: x is there for each of them anew.
    """
    seated = table.seated(candidate)
    known = {operator.name: operator for operator in (*table.unary, *table.binary)}
    used = table.occurrences(candidate)

    def value(z: jax.Array, *vectors: jax.Array) -> jax.Array:
        def of_slot(slot: int) -> dict[str, Any]:
            pairs = zip(used, vectors, strict=True)
            return {each.param: vector for each, vector in pairs if each.slot == slot}

        return compose(seated, known, z, of_slot).astype(z.dtype)

    def function(
        x: jax.Array,
        x_of_change: jax.Array,
        x_of_sums: jax.Array,
        shortcut: jax.Array,
        cotangent: jax.Array,
        change: jax.Array,
        *rows: jax.Array,
    ) -> tuple[jax.Array, ...]:
        mean, slope, bias, *more = rows
        vectors, (total, weighted, *sums) = more[: len(used)], more[len(used) :]

        def normalised(x: jax.Array) -> jax.Array:
            return (x - mean) * slope + bias + shortcut

        _, to_change = jax.vjp(lambda z: value(z, *vectors), normalised(x_of_change))
        z = normalised(x_of_sums)
        _, to_vectors = jax.vjp(lambda *vectors: value(z, *vectors), *vectors)
        return (
            value(normalised(x), *vectors),
            *to_change(cotangent),
            total + change,
            weighted + change * (x_of_sums - mean),
            *(each + more for each, more in zip(sums, to_vectors(cotangent), strict=True)),
        )

    return function
