"""A candidate as machine code: its values, and what it gives back, for arrays of any length.

XLA compiles the candidate alone, as a function of a block, which takes a tenth of a second, while a
network with it takes seconds; `trainers.linked_form` calls the code from a network that was compiled once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

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

BLOCK = 8192
"""Floats of a block, or a few less: 32 kB each, so that the arrays of a block stay in a core's cache."""
_ALIGNED = 16
"""Floats of a line of the cache."""
_FLOAT = 4


def block_for(channels: Sequence[int]) -> int:
    """Floats of a block in which each number of channels has whole rows."""
    rows = int(np.lcm.reduce([_ALIGNED, *channels]))
    return max(BLOCK // rows, 1) * rows


class CandidateCode:
    """The code of a candidate.

    Args:
        table: Where its trainable vectors are, `[S, P, C]`.
        candidate: What to compile.
        block: Floats of a block.

    Raises:
        CodeError: It is no list of loops, or XLA's code is not as it was.
        OSError: The system gives no memory that may be executed.
    """

    def __init__(self, table: OperatorTable, candidate: Candidate, block: int) -> None:
        self._block = block
        self._places = [(used.slot, used.vector) for used in table.occurrences(candidate)]
        function, inputs = _function(table, candidate), 2 + 2 * len(self._places)
        routine, code, compiled = compile_routine(function, inputs, block)
        x, cotangent = moving(0), moving(1)
        rows = [fixed(number) for number in range(2 * len(self._places))]
        sums = rows[len(self._places) :]
        self._forward, self._back = Listing(), Listing()
        self._forward.add(routine, code, [x, x, *rows], {0: moving(1)})
        outputs = {1: moving(2), **{2 + number: each for number, each in enumerate(sums)}}
        self._back.add(routine, code, [x, cotangent, *rows], outputs)
        self._idle: list[_Runner] = []
        self._check(compiled, inputs)

    def value(self, x: int, beta: np.ndarray, result: int, count: int) -> None:
        """Evaluates the candidate.

        Args:
            x: Address of `count` floats.
            beta: float32 `[S, P, C]`, C a divisor of a block.
            result: Address of as many floats, which are written.
            count: A multiple of C.
        """
        with self._runner() as runner:
            runner.value((x, result), self._rows(beta), count)

    def pull_back(
        self, x: int, beta: np.ndarray, cotangent: int, change: int, dbeta: np.ndarray, count: int
    ) -> None:
        """The cotangents of x and of the vectors.

        Args:
            x: Address of `count` floats.
            beta: float32 `[S, P, C]`.
            cotangent: Address of as many floats, of the result.
            change: Address of as many floats, of x, which are written.
            dbeta: float32 `[S, P, C]`, is written; 0 where the candidate has no vector.
            count: A multiple of C.
        """
        with self._runner() as runner:
            sums = runner.pull_back((x, cotangent, change), self._rows(beta), count)
        dbeta[...] = 0.0
        channels = beta.shape[-1]
        for place, each in zip(self._places, sums, strict=True):
            dbeta[place] = each.reshape(-1, channels).sum(axis=0)

    def _rows(self, beta: np.ndarray) -> list[np.ndarray]:
        return [beta[place] for place in self._places]

    @contextmanager
    def _runner(self) -> Iterator[_Runner]:
        """One that no other thread uses."""
        try:
            runner = self._idle.pop()
        except IndexError:
            runner = _Runner(self._forward, self._back, self._block, len(self._places))
        yield runner
        self._idle.append(runner)

    def _check(self, compiled: jax.stages.Compiled, inputs: int) -> None:
        """Whether the code computes bit for bit what XLA does with it.

        Raises:
            CodeError: It does not.
        """
        draw = np.random.default_rng(0).standard_normal
        arrays = [draw(self._block, np.float32) for _ in range(inputs)]
        expected = [np.asarray(each) for each in compiled(*arrays)]
        places = [aligned_floats(self._block) for _ in (*arrays, *expected)]
        for place, array in zip(places, arrays, strict=False):
            place[:] = array
        x, cotangent, *rows = (each.ctypes.data for each in places[:inputs])
        result, change = (each.ctypes.data for each in places[inputs : inputs + 2])
        BlockProgram(self._forward, self._block).run((x, result), rows, 1)
        BlockProgram(self._back, self._block).run((x, cotangent, change), rows, 1)
        found = [*places[inputs : inputs + 2], *places[2 + len(self._places) : inputs]]
        for mine, its in zip(found, expected, strict=True):
            if mine.tobytes() != its.tobytes():
                raise CodeError("XLA's code by itself computes something else")


class _Runner:
    """What one thread needs to run the code of a candidate."""

    def __init__(self, forward: Listing, back: Listing, block: int, vectors: int) -> None:
        self._forward, self._back = (BlockProgram(each, block) for each in (forward, back))
        self._block = block
        self._vectors = aligned_floats(2 * vectors * block).reshape(2, vectors, block)
        """The vectors, over and over, and sums of their cotangents."""
        self._rest = aligned_floats(3 * block).reshape(3, block)
        """For the last elements, which are less than a block."""

    def value(self, arrays: Sequence[int], rows: Sequence[np.ndarray], count: int) -> None:
        self._fill(rows)
        self._run(self._forward, arrays, 1, count)

    def pull_back(
        self, arrays: Sequence[int], rows: Sequence[np.ndarray], count: int
    ) -> np.ndarray:
        """The sums `[vectors, N]`."""
        self._fill(rows)
        self._vectors[1] = 0.0
        self._run(self._back, arrays, 2, count)
        return self._vectors[1]

    def _fill(self, rows: Sequence[np.ndarray]) -> None:
        for place, row in zip(self._vectors[0], rows, strict=True):
            place.reshape(-1, len(row))[:] = row

    def _run(self, program: BlockProgram, arrays: Sequence[int], inputs: int, count: int) -> None:
        """The whole blocks where they are, and the rest in room of its own; the last array is written."""
        block = self._block
        blocks, rest = divmod(count, block)
        first = self._vectors.ctypes.data
        fixed = range(first, first + _FLOAT * self._vectors.size, _FLOAT * block)
        if blocks:
            program.run(arrays, fixed, blocks)
        if rest:
            begin = _FLOAT * blocks * block
            places = self._rest
            for place, array in zip(places, arrays[:inputs], strict=False):
                place[:rest] = floats_at(array + begin, rest)
            # The room behind has x as it is somewhere, and no cotangent.
            places[0, rest:] = np.resize(places[0, :rest], block - rest)
            places[1, rest:] = 0.0
            addresses = [each.ctypes.data for each in places[: len(arrays)]]
            program.run(addresses, fixed, 1)
            ctypes.memmove(arrays[-1] + begin, addresses[len(arrays) - 1], _FLOAT * rest)


def _function(table: OperatorTable, candidate: Candidate) -> Callable[..., tuple[Any, ...]]:
    """(x, cotangent, vectors, sums) → (value, cotangent of x, sums with the vectors' cotangents)."""
    seated = table.seated(candidate)
    known = {operator.name: operator for operator in (*table.unary, *table.binary)}
    used = table.occurrences(candidate)

    def value(x: jax.Array, *rows: jax.Array) -> jax.Array:
        def vectors(slot: int) -> dict[str, Any]:
            pairs = zip(used, rows, strict=True)
            return {each.param: row for each, row in pairs if each.slot == slot}

        return compose(seated, known, x, vectors).astype(x.dtype)

    def both(x: jax.Array, cotangent: jax.Array, *rows: jax.Array) -> tuple[jax.Array, ...]:
        rows, sums = rows[: len(used)], rows[len(used) :]
        found, pull_back = jax.vjp(value, x, *rows)
        change, *changes = pull_back(cotangent)
        return found, change, *(s + c for s, c in zip(sums, changes, strict=True))

    return both
