"""Where the time of a training step goes: shares by kind of work, from a trace of the profiler.

The profiler says when each instruction of the compiled step ran. The program's text says where an
instruction comes from: the JAX operation and the lines of source that asked for it. An instant in
which several instructions run, one inside another or on several threads, belongs to the one that
began last; what no instruction covers is the host's. Tracing costs a few microseconds for each
instruction, which a step of few milliseconds feels: take shares from here, and times from elsewhere.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

KINDS = (
    "convolutions",
    "convolution gradients",
    "activations",
    "activation gradients",
    "normalisation",
    "augmentation",
    "other",
    "host",
)
"""What the time of a step is divided into. `other`: the shortcut, the dense layer, the loss and the
update. `host`: gathering batches, starting programs, waiting."""

_PLACES = (
    (
        re.compile(
            r"[/\\]trainers[/\\](?:convolution|kernel_gradient)\.py |nn[/\\]linear\.py Conv\."
        ),
        "convolutions",
    ),
    (re.compile(r"[/\\]spaces[/\\]|linked_form\.py |Activation\.__call__"), "activations"),
    (re.compile(r"normali[sz]ation\.py |ConvNorm\.normalise"), "normalisation"),
    (re.compile(r"[/\\]trainers[/\\]augment\.py "), "augmentation"),
)
"""What a line of source, `FILE FUNCTION`, tells; the innermost line that tells anything counts."""

_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%([\w.\-]+) = (.*)")
_COMPUTATION = re.compile(r"(?:ENTRY )?%([\w.\-]+) \(")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"calls=%([\w.\-]+)")
_OPERATION = re.compile(r'op_name="([^"]*)"')
_FRAME = re.compile(r"stack_frame_id=(\d+)")
_ENTRY = re.compile(r"^(\d+) (.*)$")
_FIELD = re.compile(r"(\w+)=(\d+)")


class Span(NamedTuple):
    """When an instruction ran."""

    begin: float
    """In nanoseconds."""
    end: float
    name: str
    """The instruction's name in the program's text."""


def kinds_of(text: str) -> dict[str, str]:
    """The kind of each instruction of a program.

    An instruction that says nothing of where it comes from is one that the compiler made anew: a
    convolution is then the gradient of a kernel, whose axes it has exchanged; anything else is
    what its first user is, as the copy is which brings those axes into order.

    Args:
        text: The compiled program, as `Compiled.as_text` gives it.

    Returns:
        Kinds by name of instruction.
    """
    frames = _frames(text)
    found: dict[str, str] = {}
    silent: list[str] = []
    users: dict[str, str] = {}
    with_convolution: set[str] = set()
    calls: dict[str, str] = {}
    computation = ""
    for line in text.splitlines():
        if begins := _COMPUTATION.match(line):
            computation = begins[1]
        if (parts := _INSTRUCTION.match(line)) is None:
            continue
        name, rest = parts.groups()
        for operand in _NAME.findall(rest):
            users.setdefault(operand, name)
        if " convolution(" in rest:
            with_convolution |= {computation, name}
        if called := _CALLED.search(rest):
            calls[name] = called[1]
        if operation := _OPERATION.search(rest):
            frame = _FRAME.search(rest)
            found[name] = _kind(operation[1], frames(int(frame[1])) if frame else ())
        else:
            silent.append(name)
    for name in reversed(silent):  # users stand behind what they use
        if with_convolution & {name, calls.get(name, "")}:
            found[name] = "convolution gradients"
        else:
            found[name] = found.get(users.get(name, ""), "other")
    return found


def _kind(path: str, lines: Iterable[str]) -> str:
    if path.endswith("conv_general_dilated"):
        kind = "convolutions"
    else:
        places = (k for line in lines for pattern, k in _PLACES if pattern.search(line))
        kind = next(places, "other")
    back = "transpose(" in path and kind in ("convolutions", "activations")
    return f"{kind.removesuffix('s')} gradients" if back else kind


def _frames(text: str) -> Callable[[int], Iterator[str]]:
    """The lines of source behind a stack frame, innermost first, each `FILE FUNCTION`."""
    tables: dict[str, dict[int, str]] = {}
    current: dict[int, str] = {}
    for line in text.splitlines():
        entry = _ENTRY.match(line)
        if entry:
            current[int(entry[1])] = entry[2].strip('"')
        elif line in ("FileNames", "FunctionNames", "FileLocations", "StackFrames"):
            current = tables.setdefault(line, {})
        elif line.startswith(("%", "ENTRY")):
            break

    def fields(table: str, number: int) -> dict[str, int]:
        found = _FIELD.findall(tables.get(table, {}).get(number, ""))
        return {name: int(value) for name, value in found}

    def lines(number: int) -> Iterator[str]:
        seen = set()
        while number and number not in seen:
            seen.add(number)
            frame = fields("StackFrames", number)
            place = fields("FileLocations", frame.get("file_location_id", 0))
            file = tables.get("FileNames", {}).get(place.get("file_name_id", 0), "")
            function = tables.get("FunctionNames", {}).get(place.get("function_name_id", 0), "")
            yield f"{file} {function}"
            number = frame.get("parent_frame_id", 0) - 1  # XLA prints it one too high; 0 is none

    return lines


def exclusive_ns(spans: Iterable[Span]) -> dict[str, float]:
    """Nanoseconds that belong to each name; every instant belongs to the span that began last.

    Args:
        spans: In any order; they may contain and overlap one another.
    """
    ordered = sorted(spans, key=lambda span: (span.begin, -span.end))
    edges = sorted({edge for span in ordered for edge in (span.begin, span.end)})
    running: list[tuple[int, Span]] = []
    found: dict[str, float] = {}
    number = 0
    for edge, following in itertools.pairwise(edges):
        while number < len(ordered) and ordered[number].begin <= edge:
            heapq.heappush(running, (-number, ordered[number]))
            number += 1
        while running and running[0][1].end <= edge:
            heapq.heappop(running)
        if running:
            name = running[0][1].name
            found[name] = found.get(name, 0.0) + following - edge
    return found


def shares(spans: Iterable[Span], kinds: Mapping[str, str], *, wall_ns: float) -> dict[str, float]:
    """Shares of 1 by kind, all of `KINDS`, which add up to 1.

    Args:
        spans: When instructions ran.
        kinds: From `kinds_of`; what is missing there is `other`.
        wall_ns: How long all of it took, host included.
    """
    taken: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    for name, nanoseconds in exclusive_ns(spans).items():
        taken[kinds.get(name, "other")] += nanoseconds
    taken["host"] = max(0.0, wall_ns - sum(taken.values()))
    whole = sum(taken.values())
    return {kind: value / whole for kind, value in taken.items()}


@contextlib.contextmanager
def traced_spans(found: list[Span], program: str) -> Iterator[None]:
    """Appends to `found`, at the end, when each instruction of a program ran within the context.

    Args:
        found: Is written.
        program: The text of the compiled program.

    Raises:
        RuntimeError: The profiler cannot trace here, or traced nothing of this program.
    """
    import jax

    module = program.partition("\n")[0].split()[1].rstrip(",")
    options = jax.profiler.ProfileOptions()
    options.host_tracer_level = 1
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        jax.profiler.start_trace(folder, profiler_options=options)
        try:
            yield
        finally:
            jax.profiler.stop_trace()
        files = sorted(Path(folder).rglob("*.xplane.pb"))
        for file in files:
            found += _spans(jax.profiler.ProfileData.from_file(str(file)), module)
    if not found:
        raise RuntimeError("the profiler traced no instruction of the training step")


def _spans(data: object, module: str) -> list[Span]:
    """The instructions of one module; a device's own clock is preferred to the host's."""
    on_device: list[Span] = []
    on_host: list[Span] = []
    for plane in data.planes:  # type: ignore[attr-defined]  # jaxlib's ProfileData has no stubs
        found = on_device if plane.name.startswith("/device:") else on_host
        for line in plane.lines:
            for event in line.events:
                stats = dict(event.stats)
                if "hlo_op" in stats and str(stats.get("hlo_module", module)) == module:
                    begin = event.start_ns
                    found.append(Span(begin, begin + event.duration_ns, str(stats["hlo_op"])))
    return on_device or on_host
