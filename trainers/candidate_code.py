"""A candidate behind a normalisation, as machine code for arrays of any length.

XLA compiles the candidate alone, as a function of a block, which takes a tenth of a second, while a
network with it takes seconds; `trainers.linked_form` calls the code from a network that was compiled once.

It is `f((x - mean) · slope + bias + shortcut)`: what stands between a convolution and the next one, in
one pass over the arrays forward and one back.

Letters: `S` slots, `P` vectors per slot, `C` channels, `V` vectors that the candidate uses, `N` floats of a block.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
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
_NORM = 3
"""Rows of the normalisation: mean, slope, bias."""
_SUMS = 2
"""Sums of the cotangent: alone, and times x without the mean."""


def block_for(channels: Sequence[int]) -> int:
    """Floats of a block in which each number of channels has whole rows."""
    rows = int(np.lcm.reduce([_LINE, *channels]))
    return max(BLOCK // rows, 1) * rows


class Given(NamedTuple):
    """What the code of a candidate reads; the long arrays have so many `elements`."""

    elements: int
    """A multiple of C."""
    x: int
    """Address of a long array."""
    shortcut: int | None
    """Of one that is added to what is normalised, if there is one."""
    norm: np.ndarray
    """float32 `[3, C]`: mean, slope and bias of each channel; C is a divisor of N."""
    beta: np.ndarray
    """float32 `[S, P, C]`."""


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
        self._places = [(used.slot, used.vector) for used in table.occurrences(candidate)]
        vectors = len(self._places)
        self._rows = _NORM + vectors, _SUMS + vectors
        function, inputs = _function(table, candidate), _LONG + sum(self._rows)
        routine, code, compiled = compile_routine(function, inputs, block)
        rows = [fixed(1 + number) for number in range(sum(self._rows))]
        sums = dict(enumerate(rows[self._rows[0] :], start=2))
        self._listings: dict[tuple[bool, bool], Listing] = {}
        """Forward or back, without and with a shortcut."""
        for with_shortcut in (False, True):
            x, shortcut = moving(0), moving(1) if with_shortcut else fixed(_NOTHING)
            last = 1 + with_shortcut
            forward, back = Listing(), Listing()
            value = cotangent = moving(last)
            forward.add(routine, code, [x, x, x, shortcut, x, x, *rows], {0: value})
            change = moving(last + 1)
            back.add(routine, code, [x, x, x, shortcut, cotangent, x, *rows], {1: change})
            back.add(routine, code, [x, x, x, shortcut, cotangent, change, *rows], sums)
            self._listings[False, with_shortcut] = forward
            self._listings[True, with_shortcut] = back
        self._idle: list[_Runner] = []
        self._check(compiled, inputs)

    def value(self, given: Given, result: int) -> None:
        """Evaluates the candidate.

        Args:
            given: Its operands.
            result: Address of a long array, which is written.
        """
        with self._runner() as runner:
            runner.run(False, given, self._vectors(given), (), result)

    def pull_back(
        self, given: Given, cotangent: int, change: int, sums: np.ndarray, dbeta: np.ndarray
    ) -> None:
        """The cotangents of what is normalised, and of the vectors.

        Args:
            given: The operands of the value.
            cotangent: Address of a long array: the cotangent of the value.
            change: Address of a long array, which is written.
            sums: float32 `[2, C]`, is written: sums of `change` over a channel, alone and times x - mean.
            dbeta: float32 `[S, P, C]`, is written; 0 where the candidate has no vector.
        """
        with self._runner() as runner:
            found = runner.run(True, given, self._vectors(given), (cotangent,), change)
            found = found.reshape(len(found), -1, sums.shape[-1]).sum(axis=1)
        sums[...] = found[:_SUMS]
        dbeta[...] = 0.0
        for place, each in zip(self._places, found[_SUMS:], strict=True):
            dbeta[place] = each

    def _vectors(self, given: Given) -> list[np.ndarray]:
        return [given.beta[place] for place in self._places]

    @contextmanager
    def _runner(self) -> Iterator[_Runner]:
        """One that no other thread uses."""
        try:
            runner = self._idle.pop()
        except IndexError:
            runner = _Runner(self._listings, self._block, self._rows)
        yield runner
        self._idle.append(runner)

    def _check(self, compiled: jax.stages.Compiled, inputs: int) -> None:
        """Whether the code computes what XLA does with it.

        Raises:
            CodeError: It does not.
        """
        rng = np.random.default_rng(0)
        for with_shortcut in (False, True):
            x, shortcut, cotangent, nothing, value, change, *rows = (
                aligned_floats(self._block) for _ in range(inputs)
            )
            for array in (x, cotangent, *([shortcut] if with_shortcut else [])):
                array[:] = rng.standard_normal(self._block, np.float32)
            for array in rows:
                array[:] = rng.uniform(0.5, 1.5, self._block)
            operands = x, x, x, shortcut, cotangent
            first = np.asarray(compiled(*operands, change, *rows)[1])
            expected = [np.asarray(each) for each in compiled(*operands, first, *rows)]
            moved = [x, shortcut] if with_shortcut else [x]
            fixed = [each.ctypes.data for each in (nothing, *rows)]
            for back, long in ((False, [*moved, value]), (True, [*moved, cotangent, change])):
                program = BlockProgram(self._listings[back, with_shortcut], self._block)
                program.run([each.ctypes.data for each in long], fixed, 1)
            found = [value, change, *rows[self._rows[0] :]]
            with np.errstate(invalid="ignore"):
                same = all(map(_same, found, expected))
            if not same:
                raise CodeError("XLA's code by itself computes something else")


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """But for numbers so small that XLA, and who computes for it, takes them for zero, and what comes of them."""
    return np.allclose(one, other, rtol=1e-5, atol=1e-20, equal_nan=True)


_NOTHING = 0
"""The number of the fixed array that is zero."""


class _Runner:
    """What one thread needs to run the code of a candidate.

    Args:
        listings: The code, by direction and whether there is a shortcut.
        block: N.
        rows: How many rows the code reads, and how many sums it adds to.
    """

    def __init__(
        self, listings: dict[tuple[bool, bool], Listing], block: int, rows: tuple[int, int]
    ) -> None:
        self._listings = listings
        self._programs: dict[tuple[bool, bool], BlockProgram] = {}
        self._block = block
        fixed = aligned_floats((1 + sum(rows)) * block).reshape(-1, block)
        self._read, self._sums = fixed[1 : 1 + rows[0]], fixed[1 + rows[0] :]
        """Rows over and over, and sums."""
        self._fixed = [each.ctypes.data for each in fixed]
        self._rest = aligned_floats(4 * block).reshape(4, block)
        """For the last elements, which are less than a block."""

    def run(
        self,
        back: bool,
        given: Given,
        vectors: Sequence[np.ndarray],
        more: tuple[int, ...],
        written: int,
    ) -> np.ndarray:
        """Goes through the long arrays; returns the sums, each `[N]`."""
        kind = back, given.shortcut is not None
        if kind not in self._programs:
            self._programs[kind] = BlockProgram(self._listings[kind], self._block)
        channels = given.norm.shape[-1]
        for place, row in zip(self._read, (*given.norm, *vectors), strict=True):
            place.reshape(-1, channels)[:] = row
        if back:
            self._sums[...] = 0.0
        long = (given.x, *(() if given.shortcut is None else (given.shortcut,)), *more, written)
        blocks, rest = divmod(given.elements, self._block)
        if blocks:
            self._programs[kind].run(long, self._fixed, blocks)
        if rest:
            self._run_rest(self._programs[kind], long, blocks * self._block, rest, len(more))
        return self._sums

    def _run_rest(
        self, program: BlockProgram, long: Sequence[int], begin: int, count: int, cotangents: int
    ) -> None:
        """The last elements, in room of their own; behind them stand the same again, without cotangents."""
        rest = self._rest[: len(long)]
        for place, array in zip(rest[:-1], long, strict=False):
            place[:] = np.resize(floats_at(array + _FLOAT * begin, count), self._block)
        rest[len(rest) - 1 - cotangents : -1, count:] = 0.0
        addresses = [each.ctypes.data for each in rest]
        program.run(addresses, self._fixed, 1)
        ctypes.memmove(long[-1] + _FLOAT * begin, addresses[-1], _FLOAT * count)


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
