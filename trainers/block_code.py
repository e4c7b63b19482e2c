"""Element-wise functions as machine code over blocks of an array.

A function of blocks is compiled by XLA, taken apart into its loops (`Routine`), and put together again
as a list of calls (`BlockProgram`) that one piece of machine code goes through for each block of a long
array. So the code does not depend on the array's length, and what stands between two loops stays in the
processor's cache.

Letter: N floats of a block.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .compile_cache import all_compiled
from .machine_code import (
    Code,
    CodeError,
    address_of,
    executable_memory,
    functions_of_loops,
    object_files,
)

_LINE = 64
"""Bytes to which XLA's code expects arrays to be aligned."""
_FLOAT = 4
_FRAME = 10
"""Words of a call's frame, and of the six numbers of work groups that it names."""

# Longer vectors (`xla_cpu_prefer_vector_width` of 512) would be faster, but with them XLA of jaxlib 0.10
# computes nonsense where it calls a function of its own, as for atan2.

_ENTRY = re.compile(r"^ENTRY .*?^}", re.MULTILINE | re.DOTALL)
_INSTRUCTION = re.compile(
    r"^\s+(?P<root>ROOT )?%(?P<name>\S+) = (?P<type>\(.*?\)|\S+) (?P<kind>[\w\-]+)\((?P<inside>.*?)\)"
    r"(?:, index=(?P<index>\d+))?(?:,|$)"
)
_NAME = re.compile(r"%([\w.\-]+)")
_PARTITIONS = re.compile(r'"outer_dimension_partitions":\[([^\]]*)\]')
_SCALAR = "f32[]"
_ALIASES = frozenset({"copy", "bitcast"})


_NOT_WRITTEN = (struct.error, jax.errors.JaxRuntimeError)


class Step(NamedTuple):
    """A loop of XLA's."""

    function: str
    """Its name in the machine code."""
    operands: tuple[str, ...]
    results: tuple[str, ...]
    groups: int
    """Parts that it is divided into, each for a call of its own: XLA has threads in mind."""


class Routine(NamedTuple):
    """A compiled function of blocks: loops, in order, on named arrays of N floats."""

    inputs: tuple[str, ...]
    constants: Mapping[str, float]
    """Arrays of one float."""
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    shared: Mapping[str, str]
    """Results that a loop writes over one of its operands, and which."""

    def home(self, name: str) -> str:
        """The first of the arrays that are in the same place as one."""
        while name in self.shared:
            name = self.shared[name]
        return name

    def needed(self, outputs: Sequence[str]) -> list[Step]:
        """The steps without which some of the outputs would not be known."""
        wanted, found = set(outputs), []
        for step in reversed(self.steps):
            if wanted & set(step.results):
                wanted |= set(step.operands)
                found.append(step)
        return found[::-1]


def compile_routine(
    function: Callable[..., tuple[jax.Array, ...]], inputs: int, block: int
) -> tuple[Routine, Code, jax.stages.Compiled]:
    """Compiles a function of blocks.

    Args:
        function: Of arrays float32 [N], element-wise, to a tuple of such.
        inputs: How many arrays it takes.
        block: N.

    Returns:
        The routine, its code, and what XLA makes of the same function.

    Raises:
        CodeError: It is no list of loops, or XLA's code is not as it was.
    """
    shape = jax.ShapeDtypeStruct((block,), jnp.float32)
    lowered = jax.jit(function, keep_unused=True).lower(*[shape] * inputs)
    with all_compiled():  # what comes from JAX's cache cannot be written down
        compiled = lowered.compile()
    executable: Any = compiled.runtime_executable()
    try:
        written = executable.serialize()
        code, functions = Code(object_files(written)), functions_of_loops(written)
        routine = _routine(compiled.as_text() or "", functions, f"f32[{block}]{{0}}")
    except CodeError:
        raise
    except (AttributeError, LookupError, ValueError, *_NOT_WRITTEN) as error:
        raise CodeError(f"XLA writes this program down in another way: {error!r}") from error
    return routine._replace(shared=_shared(routine, code, block)), code, compiled


def _routine(text: str, functions: Mapping[str, str], array: str) -> Routine:
    if (entry := _ENTRY.search(text)) is None:
        raise CodeError("a program without an entry")
    inputs: dict[int, str] = {}
    constants: dict[str, float] = {}
    same: dict[str, tuple[str, ...]] = {}
    steps: list[Step] = []
    outputs: tuple[str, ...] = ()
    for line in entry[0].splitlines()[1:-1]:
        if (parts := _INSTRUCTION.match(line)) is None:
            raise CodeError(f"not understood: {line.strip()[:200]}")
        name, kind, inside = parts["name"], parts["kind"], parts["inside"]
        arrays = re.sub(r"/\*.*?\*/", "", parts["type"]).strip("()").split(", ")
        operands = [each for n in _NAME.findall(inside) for each in same.get(n, ())]
        if kind == "constant" and arrays == [_SCALAR]:
            constants[name] = float(inside)
            same[name] = (name,)
            continue
        if any(each != array for each in arrays):
            raise CodeError(f"no array of floats: {line.strip()[:200]}")
        if kind == "parameter":
            inputs[int(inside)] = name
            same[name] = (name,)
        elif kind in _ALIASES or kind == "tuple":
            same[name] = tuple(operands)
        elif kind == "get-tuple-element":
            same[name] = (operands[int(parts["index"])],)
        elif kind == "fusion":
            results = tuple(f"{name}:{n}" for n in range(len(arrays)))
            function = functions.get(name, name)
            steps.append(Step(function, tuple(operands), results, _groups(line)))
            same[name] = results
        else:
            raise CodeError(f"no loop: {line.strip()[:200]}")
        if parts["root"]:
            outputs = same[name]
    ordered = tuple(inputs[place] for place in range(len(inputs)))
    return Routine(ordered, constants, tuple(steps), outputs, {})


def _groups(line: str) -> int:
    found = _PARTITIONS.search(line)
    if found is None:
        return 1
    if not found[1].strip('"').isdigit():
        raise CodeError(f"divided in an unknown way: {found[0]}")
    return int(found[1].strip('"'))


def _shared(routine: Routine, code: Code, block: int) -> dict[str, str]:
    """`Routine.shared`, found by trying each loop: XLA says it nowhere that can be read."""
    found = {}
    for step in routine.steps:
        arrays = [aligned_floats(block) for _ in (*step.operands, *step.results)]
        before = np.random.default_rng(0).standard_normal((len(arrays), block), np.float32)
        for array, numbers, name in zip(
            arrays, before, (*step.operands, *step.results), strict=True
        ):
            numbers[:] = routine.constants.get(name, numbers)
            array[:] = numbers
        registers = tuple(fixed(number) for number in range(len(arrays)))
        listing = Listing()
        listing.call(code, step, registers)
        BlockProgram(listing, block).run([each.ctypes.data for each in arrays], 1)
        changed = [a.tobytes() != b.tobytes() for a, b in zip(arrays, before, strict=True)]
        count = len(step.operands)
        over = [name for name, new in zip(step.operands, changed, strict=False) if new]
        missing = [n for n, new in zip(step.results, changed[count:], strict=True) if not new]
        if len(over) != len(missing) or len(over) > 1:
            raise CodeError(f"it is not clear what `{step.function}` writes")
        found.update(zip(missing, over, strict=True))
    return found


# For each block: calls functions, each with its frame, until there is none; then moves addresses on.
#
#     push rbx; push r12; push r13      what is the caller's; now the stack is aligned for calls
#     mov r12, rdi; mov r13, rsi        the list, the number of blocks
#     block:   mov rbx, r12
#     call:    mov rax, [rbx]           a function
#              test rax, rax; jz moves
#              mov rdi, [rbx+8]         its frame
#              call rax
#              add rbx, 16; jmp call
#     moves:   add rbx, 16
#              mov rax, [rbx]           the place of an address
#              test rax, rax; jz next
#              mov rcx, [rbx+8]         how far it is to the next block
#              add [rax], rcx; jmp moves
#     next:    dec r13; jnz block
#     pop r13; pop r12; pop rbx; ret
_GO_THROUGH = bytes.fromhex(
    "5341544155 4989fc 4989f5 4c89e3 488b03 4885c0 740c 488b7b08 ffd0 4883c310 ebec"
    "4883c310 488b03 4885c0 7409 488b4b08 480108 ebeb 49ffcd 75cf 415d 415c 5b c3"
)

# A loop like XLA's that copies: its frame's first array to its second.
#
#     mov rax, [rdi+24]; mov rsi, [rax]; mov rcx, [rax+8]; mov rdi, [rax+16]; rep movsb
#     xor eax, eax; ret
_COPY = bytes.fromhex("488b4718 488b30 488b4808 488b7810 f3a4 31c0 c3")


class _OwnCode(NamedTuple):
    """The machine code above, in memory."""

    memory: mmap.mmap
    go_through: Callable[[int, int], None]
    """(address of the list, blocks); other threads of Python run meanwhile."""
    copy: int
    """The address of the loop that copies."""


@functools.cache
def _own_code() -> _OwnCode:
    memory = executable_memory(mmap.PAGESIZE)
    memory.write(_GO_THROUGH.ljust(2 * _LINE, b"\xcc") + _COPY)
    address = address_of(memory)
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    return _OwnCode(memory, prototype(address), address + 2 * _LINE)


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

    def call(self, code: Code, step: Step, arrays: tuple[Register, ...]) -> None:
        """A loop, on its operands and results."""
        for part in range(step.groups):
            self.calls.append((code, step.function, (part, step.groups), arrays))

    def add(
        self,
        routine: Routine,
        code: Code,
        inputs: Sequence[Register],
        outputs: Mapping[int, Register],
    ) -> None:
        """What some outputs of a routine need.

        Args:
            routine: What to do.
            code: Its object files.
            inputs: Where its inputs are.
            outputs: Where its outputs go; those that nobody names are not computed. An output may
                be where the input of the same element is that only its own step reads.
        """
        names = [routine.outputs[number] for number in outputs]
        places = dict(zip(routine.inputs, inputs, strict=True))
        places |= {name: Register("constant", v) for name, v in routine.constants.items()}
        for name, register in zip(names, outputs.values(), strict=True):
            # Where an input is, nothing but the output itself may be written.
            if routine.home(name) == name or register not in inputs:
                places.setdefault(routine.home(name), register)
        for step in routine.needed(names):
            for name in map(routine.home, step.results):
                if name not in places:
                    places[name] = Register("scratch", self._scratch)
                    self._scratch += 1
            arrays = tuple(places[routine.home(n)] for n in (*step.operands, *step.results))
            self.call(code, step, arrays)
        for name, register in zip(names, outputs.values(), strict=True):
            if (place := places[routine.home(name)]) != register:
                self.calls.append((None, "", (0, 1), (place, register)))


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
        own = _own_code()
        for number, (code, function, (part, parts), arrays) in enumerate(calls):
            if code is not None and function not in code.addresses:
                raise CodeError(f"there is no function `{function}`")
            frame = at_frames + _FRAME * number
            words[2 * number] = own.copy if code is None else code.addresses[function]
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
        outside: list[tuple[int, int, int]] = []
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
                outside.append((word, int(register.number), _FLOAT * block * register.row))
        self._given, self._which, beyond = np.array(outside, np.intp).reshape(-1, 3).T
        """Words of addresses that `run` is given, and which of them,"""
        self._beyond = beyond.astype(np.uint64)
        """and how many bytes behind it."""
        self._base = base

    @staticmethod
    def _rooms(registers: Sequence[Register]) -> int:
        return 1 + max((int(r.number) for r in registers if r.kind == "scratch"), default=-1)

    def run(self, addresses: Sequence[int], blocks: int) -> None:
        """Goes through so many blocks.

        Args:
            addresses: Of the long arrays, which have blocks · N floats, and of those that are the same for each.
            blocks: At least 1.
        """
        given = np.array(addresses, np.uint64)[self._which]
        self._words[self._given] = given + self._beyond
        _own_code().go_through(self._base, blocks)


def aligned_floats(count: int) -> np.ndarray:
    """So many zeros, float32, that begin where a line of the cache does."""
    room = np.zeros(count + _LINE // _FLOAT, np.float32)
    begin = -room.ctypes.data // _FLOAT % (_LINE // _FLOAT)
    return room[begin : begin + count]


def floats_at(address: int, count: int) -> np.ndarray:
    """So many floats in memory that is not Python's."""
    memory: Any = (ctypes.c_float * count).from_address(address)
    return np.frombuffer(memory, np.float32)
