"""Lists of calls of machine code, gone through for each block of long arrays.

One piece of machine code goes through the list again and again, so the code does not depend on the arrays'
length, and what stands between two calls stays in the processor's cache.

Letter: N floats of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .machine_code import Code, CodeError
from .own_code import own_code
from .script import Given, Script, Word

_LINE = 64
"""Bytes to which XLA's code expects arrays to be aligned."""
_FLOAT = 4
_FRAME = 10
"""Words of a call's frame, and of the six numbers of work groups that it names."""


class Register(NamedTuple):
    """N floats."""

    kind: str
    """`moving`, a part of a long array, another one for each block; `fixed`, the same for each;
    `scratch`, room between two steps; `constant`, one float."""
    number: float
    """Which of them: of the first two, of the addresses that `BlockProgram.run` is given; of a constant its value."""
    row: int = 0
    """Of a fixed one: how many times N floats it is behind that address."""


def moving(number: int) -> Register:
    """The block of a long array."""
    return Register("moving", number)


def fixed(number: int, row: int = 0) -> Register:
    """N floats of an array that is the same for each block."""
    return Register("fixed", number, row)


class Listing:
    """Calls of machine code on registers, as they are put together."""

    def __init__(self) -> None:
        self.calls: list[tuple[Code | None, str, tuple[int, int], tuple[Register, ...]]] = []
        """The code, the function there, which part of how many, and the arrays; a copy has no code."""
        self._scratch = 0

    def scratch(self) -> Register:
        """Room that nothing else has."""
        self._scratch += 1
        return Register("scratch", self._scratch - 1)

    def copy(self, source: Register, target: Register) -> None:
        """N floats."""
        self.calls.append((None, "", (0, 1), (source, target)))

    def call(
        self, code: Code, function: str, arrays: tuple[Register, ...], groups: int = 1
    ) -> None:
        """A function on its arrays, in so many parts."""
        for part in range(groups):
            self.calls.append((code, function, (part, groups), arrays))


class BlockProgram:
    """A listing ready to run, by one thread at a time.

    Args:
        listing: What to do with a block.
        block: N, a multiple of 16.

    Raises:
        CodeError: The machine code lacks a function that is called.
    """

    def __init__(self, listing: Listing, block: int) -> None:
        calls = listing.calls
        self._codes = [code for code, *_ in calls]
        registers = [register for *_, arrays in calls for register in arrays]
        moves = [n for n, register in enumerate(registers) if register.kind == "moving"]
        # In words: calls and their end, moves and their end, frames (see `machine_code`) with their
        # numbers of work groups and of this group, arrays.
        at_moves = 2 * (len(calls) + 1)
        at_frames = at_moves + 2 * (len(moves) + 1)
        at_arrays = at_frames + _FRAME * len(calls)
        self._words = np.zeros(at_arrays + 2 * len(registers), np.uint64)
        base = self._words.ctypes.data
        words = self._words
        array = at_arrays
        copy = own_code().addresses["copy"]
        for number, (code, function, (part, parts), arrays) in enumerate(calls):
            if code is not None and function not in code.addresses:
                raise CodeError(f"there is no function `{function}`")
            frame = at_frames + _FRAME * number
            words[2 * number] = copy if code is None else code.addresses[function]
            words[2 * number + 1] = base + 8 * frame
            groups = base + 8 * (frame + 4)
            words[frame : frame + 4] = (groups, groups + 24, len(arrays), base + 8 * array)
            words[frame + 4 : frame + _FRAME] = (parts, 1, 1, part, 0, 0)
            array += 2 * len(arrays)
        for number, move in enumerate(moves):
            words[at_moves + 2 * number] = base + 8 * (at_arrays + 2 * move)
            words[at_moves + 2 * number + 1] = _FLOAT * block
        self._room = aligned_floats(self._rooms(registers) * block)
        self._constants = aligned_floats(_LINE // _FLOAT * len(registers))
        self._outside: list[tuple[int, int, int]] = []
        """Addresses that are given: where they go, which of them, and how many bytes behind it."""
        for number, register in enumerate(registers):
            word = at_arrays + 2 * number
            words[word + 1] = _FLOAT * block
            if register.kind == "scratch":
                words[word] = self._room.ctypes.data + _FLOAT * block * int(register.number)
            elif register.kind == "constant":
                place = _LINE // _FLOAT * number
                self._constants[place] = register.number
                words[word] = self._constants.ctypes.data + _FLOAT * place
                words[word + 1] = _FLOAT
            else:
                beyond = _FLOAT * block * register.row
                self._outside.append((base + 8 * word, int(register.number), beyond))
        self._base = base

    @staticmethod
    def _rooms(registers: Sequence[Register]) -> int:
        return 1 + max((int(r.number) for r in registers if r.kind == "scratch"), default=-1)

    def write(self, script: Script, addresses: Sequence[Word], blocks: Word) -> None:
        """Goes through blocks in a script.

        Args:
            script: Where to.
            addresses: Of the long arrays, which have blocks · N floats, and of those that are the same for each.
            blocks: How many.
        """
        for place, which, beyond in self._outside:
            word = addresses[which]
            if isinstance(word, Given):
                word = word._replace(beyond=word.beyond + beyond)
            else:
                word += beyond
            script.set(place, word)
        script.call(own_code().addresses["go_through"], self._base, blocks)
        script.keep(self)

    def run(self, addresses: Sequence[int], blocks: int) -> None:
        """Goes through blocks at once, see `write`."""
        script = Script()
        self.write(script, addresses, blocks)
        script.perform(())


def aligned_floats(count: int) -> np.ndarray:
    """So many zeros, float32, that begin where a line of the cache does."""
    room = np.zeros(count + _LINE // _FLOAT, np.float32)
    begin = -room.ctypes.data // _FLOAT % (_LINE // _FLOAT)
    return room[begin : begin + count]
