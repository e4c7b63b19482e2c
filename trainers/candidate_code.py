"""A candidate behind a normalisation, as machine code for arrays of any length.

It is `f((x - mean) · slope + bias + shortcut)`: what stands between a convolution and the next one, in
one pass over the arrays forward and one back. Here is what runs the code, whoever has put it together:
`trainers.operator_code` or `trainers.fused_code`. `trainers.linked_form` calls it from a network.

Letters: `S` slots, `P` vectors per slot, `C` channels, `N` floats of a block.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from spaces import OperatorTable

from .block_program import (
    BlockProgram,
    Listing,
    Register,
    aligned_floats,
    fixed,
    floats_at,
    moving,
)

BLOCK = 2048
"""Floats of a block, or a few less: 32 kB each, so that the arrays of a block stay in a core's cache."""
_LINE = 16
"""Floats of a line of the cache."""
_FLOAT = 4

_AT_NOTHING, _AT_ROWS, _AT_SUMS, _AT_LONG = range(4)
"""Which of the addresses that the code is given is that of zeros, of the rows, of the sums, and of x, behind which
the other long arrays come."""
NORM_ROWS = 3
"""Rows of the normalisation: mean, slope, bias."""
NORM_SUMS = 2
"""Sums of the change: alone, and times x without the mean."""

NOTHING = fixed(_AT_NOTHING)
"""N zeros."""


def row(number: int) -> Register:
    """One of `Given.rows`."""
    return fixed(_AT_ROWS, number)


def sum_row(number: int) -> Register:
    """One of the sums that `CandidateCode.pull_back` writes."""
    return fixed(_AT_SUMS, number)


class Places(NamedTuple):
    """Where code finds the long arrays."""

    x: Register
    shortcut: Register
    """`NOTHING` where there is none."""
    cotangent: Register
    """Of the value; on the way forward there is none, and it is x."""
    written: Register
    """For the value; on the way back for the change, which is the cotangent of what is normalised."""


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
        block: N.
        write: Puts the code together: is given the list to write to, whether it is the way back, and where
            the arrays are. Forward it has to write the value; back the change and, added to what is
            there, its two sums and those of the vectors that the candidate uses.

    Raises:
        CodeError: There is no such code.
        OSError: The system gives no memory that may be executed.
    """

    def __init__(
        self, table: OperatorTable, block: int, write: Callable[[Listing, bool, Places], None]
    ) -> None:
        self.block = block
        vectors = table.slots * table.vectors
        self.rows, self.sums = NORM_ROWS + vectors, NORM_SUMS + vectors
        """How many there are."""
        self._listings: dict[tuple[bool, bool], Listing] = {}
        """Forward or back, without and with a shortcut."""
        for with_shortcut in (False, True):
            x = moving(_AT_LONG)
            shortcut = moving(_AT_LONG + 1) if with_shortcut else NOTHING
            for back in (False, True):
                last = _AT_LONG + 1 + with_shortcut + back
                cotangent = moving(last - 1) if back else x
                listing = self._listings[back, with_shortcut] = Listing()
                write(listing, back, Places(x, shortcut, cotangent, moving(last)))
        self._nothing = aligned_floats(block)
        self._nowhere = self._nothing.ctypes.data
        self._idle: list[_Runner] = []

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
        ctypes.memset(sums, 0, _FLOAT * self.block * self.sums)
        self._run(True, given, sums, (cotangent,), change)

    def _run(
        self, back: bool, given: Given, sums: int, more: tuple[int, ...], written: int
    ) -> None:
        shortcut = () if given.shortcut is None else (given.shortcut,)
        fixed, moved = (self._nowhere, given.rows, sums), (given.x, *shortcut, *more, written)
        try:
            runner = self._idle.pop()
        except IndexError:
            runner = _Runner(self._listings, self.block)
        runner.run((back, bool(shortcut)), fixed, moved, given.elements)
        self._idle.append(runner)


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
