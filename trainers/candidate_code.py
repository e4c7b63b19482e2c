"""A candidate behind a normalisation, as machine code for arrays of any length.

It is `f((x - mean) · slope + bias + shortcut)`: what stands between a convolution and the next one, in
one pass over the arrays forward and one back. Here is what runs the code, whoever has put it together:
`trainers.operator_code` or `trainers.fused_code`. `trainers.linked_form` calls it from a network.

Letters: `S` slots, `P` vectors per slot, `C` channels, `N` floats of a block.
"""

from __future__ import annotations

import itertools
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
    moving,
)
from .script import Given, Script

BLOCK = 2048
"""Floats of a block, or a few less: 8 kB each, so that the arrays of a block stay in a core's cache."""
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
    """One of `Operands.rows`."""
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
    """What `Operands.rows` is the address of.

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


class Operands(NamedTuple):
    """What the code of a candidate reads; the long arrays have so many `elements`."""

    elements: int
    """A multiple of C."""
    x: int
    """Address of a long array."""
    shortcut: int | None
    """Of one that is added to what is normalised, if there is one."""
    rows: int
    """Of float32 `[3 + S · P, N]`: mean, slope and bias, and the vectors, see `rows_of`."""


def kind_of(elements: int, block: int, with_shortcut: bool) -> tuple[int, int]:
    """What `CandidateCode.script` has to be told of a call, and how many whole blocks the call has.

    Args:
        elements: Of the long arrays.
        block: N.
        with_shortcut: Whether one of them is added to what is normalised.
    """
    blocks, rest = divmod(elements, block)
    return 2 * (elements if rest else 0) + with_shortcut, blocks


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

    def script(self, back: bool, kind: int) -> Script:
        """The calls that compute the value or, back, the cotangent of what is normalised, and its sums.

        It is given: a number that nobody reads; the addresses of x, of the shortcut if there is one, back
        of the cotangent of the value, and of the rows, see `Operands`; the address of a long array that is written and, back,
        of float32 `[2 + S · P, N]`, written too, see `sums_of`; the kind; the number of whole blocks.

        Args:
            back: Which of them.
            kind: See `kind_of`.
        """
        elements, with_shortcut = divmod(kind, 2)
        given = map(Given, itertools.count(1))
        read = [next(given) for _ in range(1 + with_shortcut + back)]
        rows, written = next(given), next(given)
        sums = next(given) if back else 0
        _, blocks = next(given), next(given)
        always = self._nothing.ctypes.data, rows, sums
        script = Script()
        script.keep(self)
        if back:
            script.zero(sums, _FLOAT * self.block * self.sums)
        listing = self._listings[back, bool(with_shortcut)]
        BlockProgram(listing, self.block).write(script, (*always, *read, written), blocks)
        if not elements:
            return script
        # The last elements in room of their own; behind them stand the same again, without cotangents.
        whole, rest = divmod(elements, self.block)
        begin, block = _FLOAT * self.block * whole, _FLOAT * self.block
        room = aligned_floats((len(read) + 1) * self.block).reshape(-1, self.block)
        places = [each.ctypes.data for each in room]
        script.keep(room)
        for place, array in zip(places, read, strict=False):
            script.move(place, array._replace(beyond=begin), _FLOAT * rest)
            filled = block if back and array == read[-1] else _FLOAT * rest
            while filled < block:
                more = min(filled, block - filled)
                script.move(place + filled, place, more)
                filled += more
        BlockProgram(listing, self.block).write(script, (*always, *places), 1)
        script.move(written._replace(beyond=begin), places[-1], _FLOAT * rest)
        return script

    def value(self, operands: Operands, result: int) -> None:
        """Evaluates the candidate.

        Args:
            operands: What it reads.
            result: Address of a long array, which is written.
        """
        self._compute(operands, (), (result,))

    def pull_back(self, operands: Operands, cotangent: int, change: int, sums: int) -> None:
        """The cotangent of what is normalised, and its sums.

        Args:
            operands: Those of the value.
            cotangent: Address of a long array: the cotangent of the value.
            change: Address of a long array, which is written.
            sums: Address of float32 `[2 + S · P, N]`, is written, see `sums_of`.
        """
        self._compute(operands, (cotangent,), (change, sums))

    def _compute(
        self, operands: Operands, cotangent: tuple[int, ...], results: tuple[int, ...]
    ) -> None:
        elements, x, shortcut, rows = operands
        more = () if shortcut is None else (shortcut,)
        kind, blocks = kind_of(elements, self.block, bool(more))
        script = self.script(bool(cotangent), kind)
        script.perform((0, x, *more, *cotangent, rows, *results, kind, blocks))
