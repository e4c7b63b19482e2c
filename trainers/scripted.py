"""Foreign functions of XLA programs that are scripts, and need Python only to write them.

A call is told by its first attribute and, where a function is numbered, by the number in its first operand.
XLA's thread looks for a slot with a script for such a call that nobody is performing. Where there is none it
asks Python, which writes one and puts it into a slot. So there are as many of a kind as
threads need at a time.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable

import numpy as np

from .foreign import Call, register
from .machine_code import address_of
from .own_code import entry, runs
from .script import Script

_LOCK, _KEY, _NUMBER, _NEXT, _SCRIPT = range(5)
"""Words of a slot: whether its script is being performed, for which calls it is, the address of the next slot and
of the script."""
_WORDS = 8
_WORD = 8
_NOBODYS = 2**64 - 1
"""A number that no call has: they have 32 bits."""
_GIVEN = 15
"""Addresses and attributes that a call may have."""
_ALL_OF_IT = 0xFFFF_FFFF


class _Slot:
    """A slot in memory, as `own_code` reads it."""

    def __init__(self) -> None:
        room = np.zeros(2 * _WORDS, np.uint64)
        begin = -room.ctypes.data // _WORD % _WORDS  # a line of the cache for each
        self._words = room[begin : begin + _WORDS]
        self._words[_NUMBER] = _NOBODYS
        self.address = self._words.ctypes.data
        self.script: Script | None = None

    def link(self, other: _Slot) -> None:
        """Names the next one."""
        self._words[_NEXT] = other.address

    @property
    def number(self) -> int:
        """Whose calls it is for."""
        return int(self._words[_NUMBER])

    def take(self, key: int, number: int, script: Script) -> None:
        """Is for these calls from now on."""
        self.script = script
        self._words[_SCRIPT] = script.address
        self._words[_KEY] = np.int64(key).view(np.uint64)
        self._words[_NUMBER] = number

    def empty(self) -> None:
        """Is nobody's any more, and waits for who performs its script."""
        self._words[_NUMBER] = _NOBODYS
        while self._words[_LOCK]:
            time.sleep(0)
        self.script = None


class ScriptError(RuntimeError):
    """A script ended early; its number is what the last call returned."""


class ScriptedFunction:
    """A foreign function that is scripts.

    Args:
        name: As for `foreign.register`.
        write: The script for a call: what it is `Given` are the addresses of the call's operands and results
            and then its attributes, 15 at most. The same for all calls with the same first attribute, a
            whole number, which there has to be, and the same number.
        numbered: Whether the first operand is a number, int32 `[]`, by which calls differ.
    """

    def __init__(self, name: str, write: Callable[[Call], Script], *, numbered: bool) -> None:
        self._write = write
        self._numbered = numbered
        self._turn = threading.Lock()
        self._slots = [_Slot()]
        """In the order in which they are looked at; the first is nobody's. Their memory stays, because somebody may
        stand there."""
        self._idle: list[_Slot] = []
        if runs():
            register(name, self._compute, self._entry)

    def forget(self, number: int) -> None:
        """Gives up the scripts for calls of a number: none is being made, nor will be."""
        with self._turn:
            for slot in self._slots:
                if slot.number == number:
                    slot.empty()
                    self._idle.append(slot)

    def _entry(self, other: int) -> int:
        mask = _ALL_OF_IT if self._numbered else 0
        self._memory = entry(self._slots[0].address, mask, other)
        return address_of(self._memory)

    def _compute(self, call: Call) -> None:
        """What XLA calls where no script is idle."""
        given = [*call.addresses, *call.attributes]
        if len(given) > _GIVEN:
            raise ValueError(f"{len(given)} arrays and attributes, where {_GIVEN} have room")
        script = self._write(call)
        if status := script.perform(given):
            raise ScriptError(f"status {status}")
        number = ctypes.c_int32.from_address(call.addresses[0]).value if self._numbered else 0
        with self._turn:
            if self._idle:
                self._idle.pop().take(call.attributes[0], number, script)
                return
            slot = _Slot()
            slot.take(call.attributes[0], number, script)
            self._slots[-1].link(slot)
            self._slots.append(slot)
