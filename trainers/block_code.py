"""Element-wise functions of blocks as machine code: compiled by XLA, taken apart into loops.

`block_program` puts loops of one or of several functions together and goes through them.

Letter: N floats of a block.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .block_program import BlockProgram, Listing, Register, aligned_floats, fixed
from .compile_cache import all_compiled
from .machine_code import Code, CodeError, functions_of_loops, object_files

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


class BlockFunction(NamedTuple):
    """A function of blocks as machine code."""

    routine: Routine
    code: Code

    def write(
        self,
        listing: Listing,
        inputs: Sequence[Register],
        outputs: Mapping[int, Register],
    ) -> None:
        """Writes what some outputs need.

        Args:
            listing: Where to.
            inputs: Where its inputs are.
            outputs: Where its outputs go; those that nobody names are not computed. An output may
                be where the input of the same element is that only its own step reads.
        """
        routine = self.routine
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
                    places[name] = listing.scratch()
            arrays = tuple(places[routine.home(n)] for n in (*step.operands, *step.results))
            listing.call(self.code, step.function, arrays, step.groups)
        for name, register in zip(names, outputs.values(), strict=True):
            if (place := places[routine.home(name)]) != register:
                listing.copy(place, register)


def compile_function(
    function: Callable[..., tuple[jax.Array, ...]], inputs: int, block: int
) -> tuple[BlockFunction, jax.stages.Compiled]:
    """Compiles a function of blocks.

    Args:
        function: Of arrays float32 [N], element-wise, to a tuple of such.
        inputs: How many arrays it takes.
        block: N.

    Returns:
        The function, and what XLA makes of the same.

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
    routine = routine._replace(shared=_shared(routine, code, block))
    return BlockFunction(routine, code), compiled


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


def check_function(function: BlockFunction, compiled: jax.stages.Compiled, block: int) -> None:
    """Whether a function computes what XLA does with it.

    Args:
        function: The function.
        compiled: The same as XLA has it.
        block: N.

    Raises:
        CodeError: It does not.
    """
    rng = np.random.default_rng(0)
    count, results = len(function.routine.inputs), len(function.routine.outputs)
    arrays = [aligned_floats(block) for _ in range(count + results)]
    inputs = arrays[:count]
    for array in inputs:
        array[:] = rng.standard_normal(block, np.float32)
    expected = [np.asarray(each) for each in compiled(*inputs)]
    for number in range(results):
        listing = Listing()
        function.write(listing, [fixed(n) for n in range(count)], {number: fixed(count + number)})
        BlockProgram(listing, block).run([each.ctypes.data for each in arrays], 1)
    if not close_enough(arrays[count:], expected):
        raise CodeError("XLA's code by itself computes something else")


def close_enough(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> bool:
    """Whether numbers are equal but for rounding, and but for those so small that XLA, and who computes for it,
    takes them for zero, and what comes of them.
    """
    with np.errstate(invalid="ignore"):
        return all(
            np.allclose(one, other, rtol=1e-5, atol=1e-20, equal_nan=True)
            for one, other in zip(found, expected, strict=True)
        )


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
        listing.call(code, step.function, registers)
        BlockProgram(listing, block).run([each.ctypes.data for each in arrays], 1)
        changed = [a.tobytes() != b.tobytes() for a, b in zip(arrays, before, strict=True)]
        count = len(step.operands)
        over = [name for name, new in zip(step.operands, changed, strict=False) if new]
        missing = [n for n, new in zip(step.results, changed[count:], strict=True) if not new]
        if len(over) != len(missing) or len(over) > 1:
            raise CodeError(f"it is not clear what `{step.function}` writes")
        found.update(zip(missing, over, strict=True))
    return found
