"""Machine code that XLA made, as functions of this process.

XLA compiles each loop of a program to a function in an object file (ELF, x86-64) and keeps the files in
the executable that it writes down. They need nothing but their own constants, and now and then a
function of C's mathematics; XLA lets LLVM address both by their full addresses. So they are put into memory here, addresses filled in, and called without XLA.

A function of XLA's takes one argument, `XLA_CPU_KernelCallFrame` of `xla/backends/cpu/runtime/kernel_c_api.h`:

    offset 0    address of the number of work groups
           8    address of this work group's number, three uint64
          16    how many arrays it is given
          24    address of their places: address and size of each, two uint64

Source: System V ABI, AMD64 supplement, "Object Files".
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

_MAGIC = b"\x7fELF\x02\x01"
"""Of an object file of 64 bits, least significant byte first."""
_HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QIIq")

_RELOCATABLE, _X86_64 = 1, 62
_SYMBOLS, _RELOCATIONS, _NO_DATA = 2, 4, 8
_LOADED = 2
"""A section's flag."""
_FUNCTION, _KIND = 2, 15
"""A symbol's kind, and the bits that tell it."""
_UNDEFINED = 0
"""The section of what is elsewhere."""
_FULL_ADDRESS = 1
"""R_X86_64_64, the only relocation that there is."""
_UNWINDING = ".eh_frame"
"""How to unwind the stack: nobody does."""


class CodeError(ValueError):
    """An object file is not what is described above."""


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int


class Code:
    """The functions of object files, in memory until the process ends or nobody refers to it.

    Args:
        objects: The files.

    Raises:
        CodeError: They are others than XLA's of today.
        OSError: The system gives no memory that may be executed.
    """

    def __init__(self, objects: Sequence[bytes]) -> None:
        self._objects = objects
        files = [_File(each) for each in objects]
        self._memory = executable_memory(max(sum(each.room for each in files), 1))
        address = address_of(self._memory)
        self.addresses: dict[str, int] = {}
        """Of functions by name."""
        place = 0
        for each in files:
            self.addresses |= each.load(self._memory, place, address + place)
            place += each.room

    def __reduce__(self) -> tuple[Any, ...]:
        """It is pickled as its files."""
        return Code, (self._objects,)


def executable_memory(size: int) -> mmap.mmap:
    """So many bytes of memory that may be written and executed.

    Raises:
        OSError: The system gives no such memory.
    """
    return mmap.mmap(-1, size, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


def address_of(memory: mmap.mmap) -> int:
    """Where memory begins."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


class _File:
    """An object file."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        if not content.startswith(_MAGIC):
            raise CodeError("no object file of 64 bits")
        kind, machine, _, _, _, table, _, _, _, _, entry, count, names = _HEADER.unpack_from(
            content
        )
        if (kind, machine, entry) != (_RELOCATABLE, _X86_64, _SECTION.size):
            raise CodeError(f"an object file of kind {kind} for machine {machine}")
        self._sections = [
            _Section(*_SECTION.unpack_from(content, table + number * entry))
            for number in range(count)
        ]
        self._names = self._sections[names]
        self._places: dict[int, int] = {}
        """Of loaded sections, from the beginning of the file's memory."""
        self.room = 0
        """Bytes in memory."""
        for number, section in enumerate(self._sections):
            if section.flags & _LOADED and self._name(section) != _UNWINDING:
                self.room = _up(self.room, section.alignment)
                self._places[number] = self.room
                self.room += section.size
        self.room = _up(self.room, mmap.PAGESIZE)

    def load(self, memory: Any, place: int, address: int) -> dict[str, int]:
        """Writes the file's sections and tells the addresses of its functions.

        Args:
            memory: Where to.
            place: Where there.
            address: Of that place.
        """
        for number, at in self._places.items():
            section = self._sections[number]
            if section.kind != _NO_DATA:
                content = self._content[section.offset : section.offset + section.size]
                memory[place + at : place + at + section.size] = content
        for section in self._sections:
            if section.kind == _RELOCATIONS and section.info in self._places:
                base = place + self._places[section.info]
                for offset, kind, symbol, addend in self._entries(section, _RELOCATION):
                    if kind != _FULL_ADDRESS:
                        raise CodeError(f"relocation {kind}")
                    value = self._symbol(section.link, symbol, address)[1] + addend
                    struct.pack_into("<Q", memory, base + offset, value)
        return {
            name: at
            for number, section in enumerate(self._sections)
            if section.kind == _SYMBOLS
            for name, at in self._functions(number, address)
        }

    def _functions(self, table: int, address: int) -> Iterator[tuple[str, int]]:
        for number, entry in enumerate(self._entries(self._sections[table], _SYMBOL)):
            if entry[1] & _KIND == _FUNCTION:
                yield self._symbol(table, number, address)

    def _symbol(self, table: int, number: int, address: int) -> tuple[str, int]:
        """A symbol's name and address; one that is not in the file is one of C's mathematics."""
        section = self._sections[table]
        name, _, _, home, value, _ = _SYMBOL.unpack_from(
            self._content, section.offset + number * _SYMBOL.size
        )
        text = self._text(section.link, name)
        if home in self._places:
            return text, address + self._places[home] + value
        if home != _UNDEFINED:
            raise CodeError(f"symbol `{text}` is in section {home}")
        return text, _address_in_c(text)

    def _entries(self, section: _Section, kind: struct.Struct) -> Iterator[tuple[Any, ...]]:
        return kind.iter_unpack(self._content[section.offset : section.offset + section.size])

    def _name(self, section: _Section) -> str:
        begin = self._names.offset + section.name
        return self._content[begin : self._content.index(b"\0", begin)].decode()

    def _text(self, table: int, place: int) -> str:
        begin = self._sections[table].offset + place
        return self._content[begin : self._content.index(b"\0", begin)].decode()


def _address_in_c(name: str) -> int:
    """Of a function that this process has from C's library, as XLA takes it."""
    try:
        return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0
    except AttributeError as error:
        raise CodeError(f"there is no function `{name}`") from error


def _up(value: int, alignment: int) -> int:
    return -(-value // max(alignment, 1)) * max(alignment, 1)


def object_files(executable: bytes) -> list[bytes]:
    """The object files in an executable of XLA's, as it writes it down.

    Each ends with its table of sections or where its last section ends, whichever is further.
    """
    found, place = [], executable.find(_MAGIC)
    while place >= 0:
        _, _, _, _, _, table, _, _, _, _, entry, count, _ = _HEADER.unpack_from(executable, place)
        ends = [table + entry * count]
        for number in range(count):
            section = _Section(*_SECTION.unpack_from(executable, place + table + number * entry))
            if section.kind != _NO_DATA:
                ends.append(section.offset + section.size)
        found.append(executable[place : place + max(ends)])
        place = executable.find(_MAGIC, place + max(ends))
    return found


_LOOP = b"\x0a\x06kernel"
_TEXT, _ABOUT, _CALLED = 0x0A, 0x12, 0x5A
"""Tags of fields in what XLA writes down of a loop (`ThunkProto`, in Protocol Buffers' encoding): any message's
first field, what the loop is for, which function it calls."""


def functions_of_loops(executable: bytes) -> dict[str, str]:
    """The function that each loop of a program calls; loops that do the same share one.

    Args:
        executable: As XLA writes it down.

    Returns:
        Functions' names by those of instructions.

    Raises:
        CodeError: It is written down in another way.
    """
    found, place = {}, executable.find(_LOOP)
    while place >= 0:
        about, end = _field(executable, place + len(_LOOP), _ABOUT)
        called, _ = _field(executable, end, _CALLED)
        names = (slice(*_field(executable, begin, _TEXT)) for begin in (about, called))
        loop, function = (executable[each].decode(errors="replace") for each in names)
        found[loop] = function
        place = executable.find(_LOOP, end)
    return found


def _field(content: bytes, place: int, tag: int) -> tuple[int, int]:
    """Where a field's content begins and ends."""
    try:
        if content[place] != tag:
            raise CodeError(f"a field {content[place]} where {tag} was expected")
        size, shift, place = 0, 0, place + 1
        while content[place] & 0x80:
            size |= (content[place] & 0x7F) << shift
            shift, place = shift + 7, place + 1
        return place + 1, place + 1 + (size | content[place] << shift)
    except IndexError as error:
        raise CodeError("an executable that ends within a field") from error
