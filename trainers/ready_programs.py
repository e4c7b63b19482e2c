"""Compiled programs, kept whole, so that a later process need not even trace them.

JAX's own cache (`trainers.compile_cache`) finds a program by its text, which has to be traced and
lowered first: two thirds of what it takes to have a program that is there already. Here a program is
found by everything that decides its text: this project's code and the libraries' versions, the
child and its training, the shapes of the data, the operators. Of operators that are this project's
the code is known; with any other nothing short of the text tells what they do, and JAX's cache has it.
What came from that cache has lost the names of its kernels and cannot be kept here: `all_compiled`.

A file is a pickle, and loading a program runs it: the folder is one that nobody else may write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pickle
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from jax.experimental import serialize_executable

from spaces.scratch import scratch_path
from spaces.source_code import source_digest

from .compile_cache import all_compiled, keep_latest, kept_programs, turn, usable
from .onednn import computes

if TYPE_CHECKING:
    import numpy as np

    from spaces import OperatorTable

    from .config import TrainConfig

KEPT = 16
"""Files that stay; the least recently written go first. One has the programs of a trainer, or those that
a driver looks at operators with: 1 to 2 MB."""

Programs = tuple[Any, ...]
"""`jax.stages.Compiled`, each."""

_FOLDER = "ready"
_PACKAGES = ("spaces", "trainers")
_CODE = source_digest(_PACKAGES)
"""Of the files from which this process has its code, as long as nobody changes them."""

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")

_NOT_KEPT = (OSError, ValueError, NotImplementedError, jax.errors.JaxRuntimeError)
"""A full disk, and programs that this backend cannot write down."""

_DATA_ONLY = frozenset({"dataset", "image_size", "valid_size", "steps"})
"""What of a configuration no program has, or only as a shape."""


def program_name(*parts: object) -> str:
    """A name for programs that this project's code makes of `parts`, each told apart by its `repr`.

    Returns:
        64 hexadecimal digits; they depend on the code, the libraries, the device and JAX's settings.
    """
    device = jax.devices()[0]
    settings = {name: jax.config.values[name] for name in sorted(jax.config.values)}
    environment = {n: v for n, v in sorted(os.environ.items()) if n.startswith(("XLA_", "LIBTPU_"))}
    everything = (
        _CODE,
        [version(name) for name in _LIBRARIES],
        (device.platform, device.device_kind, device.client.platform_version, jax.device_count()),
        (settings, environment),
        parts,
    )
    return hashlib.sha256(repr(everything).encode()).hexdigest()


def trainer_name(
    config: TrainConfig, table: OperatorTable, constants: tuple[np.ndarray, ...], shapes: object
) -> str:
    """The name of the programs that train and evaluate candidates of a table.

    An operator is told by its name alone, which is enough where `table.built_in`.

    Args:
        config: How to train.
        table: The operators.
        constants: Arrays that are compiled in.
        shapes: What else decides a program's text.
    """
    operators = [(each.name, each.arity, each.params) for each in (*table.unary, *table.binary)]
    return program_name(
        {n: v for n, v in dataclasses.asdict(config).items() if n not in _DATA_ONLY},
        (table.core_units, table.beta_init, len(table.unary), operators),
        [(each.shape, each.dtype.str, each.tobytes()) for each in constants],
        shapes,
        computes(config.precision),
    )


def ready_programs(folder: Path | None, name: str, make: Callable[[], Programs]) -> Programs:
    """Compiled programs by their name: those that are kept, or new ones, kept from now on.

    Of processes that want the same ones at a time, one makes them. A file that is missing, damaged
    or not to be written is no error: then programs are made.

    Args:
        folder: The folder of `compile_cache.default_folder`; None keeps nothing.
        name: Theirs, from `trainer_name`.
        make: Compiles them.
    """
    path = _path(folder, name)
    if folder is None or path is None:
        return make()
    with turn(folder, name):
        with contextlib.suppress(Exception):  # whatever it is that does not load is made anew
            return tuple(_loaded(each) for each in _read(path))
        with all_compiled():
            made = make()
        with contextlib.suppress(*_NOT_KEPT):
            _write(path, tuple(serialize_executable.serialize(each) for each in made))
        return made


def traced_programs(folder: Path | None, name: str, make: Callable[[], Programs]) -> Programs:
    """The same by JAX's cache, for operators whose names do not tell what they do."""
    with kept_programs(folder, made=name):
        return make()


def _loaded(serialized: Any) -> Any:
    return serialize_executable.deserialize_and_load(*serialized)


class ReadyShelf:
    """Many small programs in one file, each under a key; loaded when they are asked for.

    Args:
        folder: The folder of `compile_cache.default_folder`; None keeps nothing.
        name: Of the file, from `program_name`.
        pack: Makes of a program what can be pickled.
        unpack: The way back.
    """

    def __init__(
        self,
        folder: Path | None,
        name: str,
        *,
        pack: Callable[[Any], Any] = serialize_executable.serialize,
        unpack: Callable[[Any], Any] = _loaded,
    ) -> None:
        self._pack, self._unpack = pack, unpack
        self._path = _path(folder, name)
        self._kept = self._found()
        self._new: dict[str, Any] = {}

    def __call__(self, key: str, make: Callable[[], Any]) -> Any:
        """The program of a key; one that is not there is made, and kept from the next `write` on."""
        with contextlib.suppress(Exception):  # not there, or whatever it is that does not load
            return self._unpack(self._kept[key])
        with all_compiled():
            made = make()
        with contextlib.suppress(*_NOT_KEPT):
            self._new[key] = self._pack(made)
        return made

    def write(self) -> None:
        """Keeps what is new, beside what other processes have kept meanwhile."""
        if self._path is not None and self._new:
            with contextlib.suppress(*_NOT_KEPT):
                _write(self._path, {**self._found(), **self._new})
                self._new.clear()

    def _found(self) -> dict[str, Any]:
        with contextlib.suppress(Exception):  # missing or damaged
            if self._path is not None:
                return dict(_read(self._path))
        return {}


def _path(folder: Path | None, name: str) -> Path | None:
    """Where programs of a name are; None if nothing can be kept there."""
    if folder is None or not usable(folder) or not usable(folder / _FOLDER):
        return None
    return folder / _FOLDER / name


def _read(path: Path) -> Any:
    return pickle.loads(zlib.decompress(path.read_bytes()))


def _write(path: Path, programs: Any) -> None:
    """Under another name until it is whole; nothing, if the code on disk is not this process's."""
    if source_digest(_PACKAGES) != _CODE:
        return
    scratch = scratch_path(path.parent, "process")
    scratch.write_bytes(zlib.compress(pickle.dumps(programs), 1))
    scratch.replace(path)
    keep_latest(path.parent, KEPT)
