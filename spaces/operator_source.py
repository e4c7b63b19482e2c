"""Where an operator set comes from: `paper`, `FILE.py:NAME` or `module:NAME`.

`FILE.py` alone will do where it holds one set.

A file travels to workers as text with its hash, because a class pickled by reference to a file that
only the driver has cannot be found there. It is code: it is loaded only when somebody names it on
the command line, never because a journal does.
"""

from __future__ import annotations

import hashlib
import importlib
import linecache
import sys
import types
from dataclasses import dataclass
from pathlib import Path

from .operator_set import OperatorSet
from .suggest import did_you_mean

BUILT_IN = "paper"
"""The specification of the paper's own set."""


class OperatorSetError(ValueError):
    """An operator set cannot be loaded or is not sound; the message is one line."""


@dataclass(frozen=True, slots=True)
class OperatorSource:
    """An operator set by its origin; plain data that a worker can be sent."""

    spec: str
    """As it was asked for: `paper`, `my_ops.py:OPS`, `package.module:OPS`."""
    text: str | None = None
    """Source text, for a file; None for `paper` and for an installed module."""
    sha256: str = ""
    """SHA-256 of the text; for an installed module, of its file and the set's signature; for
    `paper`, of the signature."""

    @property
    def attribute(self) -> str:
        """The name of the set within its file or module."""
        return self.spec.rpartition(":")[2]

    def load(self) -> OperatorSet:
        """The operator set, evaluated from the text that this object carries.

        Raises:
            OperatorSetError: The code fails, holds no such set, or an installed module holds
                another one than where this source was read.
        """
        if self.spec == BUILT_IN:
            from .paper import PAPER

            return PAPER
        location = self.spec.rpartition(":")[0]
        module = _from_text(location, self.text) if self.text is not None else _installed(location)
        found = getattr(module, self.attribute, None)
        if not isinstance(found, OperatorSet):
            sets = [name for name, value in vars(module).items() if isinstance(value, OperatorSet)]
            near = did_you_mean(self.attribute, sets) or (
                f"; operator sets there: {', '.join(sets)}" if sets else "; it holds none"
            )
            problem = "has no" if found is None else f"has {type(found).__name__}, not an"
            raise OperatorSetError(f"{location} {problem} operator set `{self.attribute}`{near}")
        if self.text is None and self.sha256 not in ("", _fingerprint(module, found)):
            raise OperatorSetError(
                f"{self.spec} holds other operators here than where the run began"
            )
        return found


def read_source(spec: str) -> OperatorSource:
    """Reads where `spec` points.

    Args:
        spec: `paper`, `FILE.py:NAME`, `module:NAME`, or `FILE.py` if it holds one operator set.

    Raises:
        OperatorSetError: It has another form, the file cannot be read, or it was to hold one
            operator set and holds none or several.
    """
    if spec == BUILT_IN:
        from .paper import PAPER

        return OperatorSource(spec, None, PAPER.digest)
    if spec.endswith(".py"):
        text = _read(spec)
        return _of_text(f"{spec}:{_only_set(spec, text)}", text)
    location, colon, name = spec.rpartition(":")
    if not colon or not location or not name.isidentifier():
        raise OperatorSetError(
            f"`operators` must be {BUILT_IN}, FILE.py[:NAME] or module:NAME, "
            f"got {spec!r}{did_you_mean(spec, [BUILT_IN])}"
        )
    if location.endswith(".py"):
        return _of_text(spec, _read(location))
    found = OperatorSource(spec).load()
    return OperatorSource(spec, None, _fingerprint(_installed(location), found))


def _read(location: str) -> str:
    try:
        return Path(location).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text file"
        raise OperatorSetError(f"cannot read operators from {location}: {reason}") from None


def _of_text(spec: str, text: str) -> OperatorSource:
    return OperatorSource(spec, text, hashlib.sha256(text.encode()).hexdigest())


def _only_set(location: str, text: str) -> str:
    """The name of the one operator set that a file makes; the paper's, imported, does not count."""
    from .paper import PAPER

    sets = {
        name: value
        for name, value in vars(_from_text(location, text)).items()
        if isinstance(value, OperatorSet) and value is not PAPER
    }
    if len(sets) == 1:
        return next(iter(sets))
    if not sets:
        raise OperatorSetError(f"{location} makes no operator set")
    raise OperatorSetError(
        f"{location} makes {len(sets)} operator sets: name one, "
        f"{' or '.join(f'{location}:{name}' for name in sets)}"
    )


def _from_text(location: str, text: str) -> types.ModuleType:
    name = "actsearch_operators_" + hashlib.sha256(text.encode()).hexdigest()[:16]
    if name in sys.modules:
        return sys.modules[name]
    module = types.ModuleType(name)
    module.__file__ = location
    linecache.cache[location] = (len(text), None, text.splitlines(keepends=True), location)
    sys.modules[name] = module
    try:
        exec(compile(text, location, "exec"), vars(module))  # the user named this file
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise OperatorSetError(f"{location}{_line(error, location)}: {_describe(error)}") from error
    return module


def _installed(location: str) -> types.ModuleType:
    try:
        return importlib.import_module(location)
    except (
        Exception,
        SystemExit,
    ) as error:  # whatever a foreign module raises is its author's to see, in a line
        raise OperatorSetError(f"cannot import {location}: {_describe(error)}") from error


def _fingerprint(module: types.ModuleType, found: OperatorSet) -> str:
    """Tells apart sets that an installed module holds, also where only a function's body differs."""
    digest = hashlib.sha256(found.digest.encode())
    if module.__file__ is not None:
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()


def _line(error: BaseException, location: str) -> str:
    """`, line N`, of the deepest frame within the file."""
    if isinstance(error, SyntaxError) and error.lineno and error.filename == location:
        return f", line {error.lineno}"
    number, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == location:
            number = trace.tb_lineno
        trace = trace.tb_next
    return "" if number is None else f", line {number}"


def _describe(error: BaseException) -> str:
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    first = (message or "").strip().splitlines()
    return f"{type(error).__name__}: {first[0]}" if first else type(error).__name__
