"""The traced programs of a trainer, kept whole, so that a later process need not even trace them.

JAX's own cache (`trainers.compile_cache`) finds a program by its text, which has to be traced and
lowered first: two thirds of what it takes to have a program that is there already. Here a program is
found by everything that decides its text: this project's code and the libraries' versions, the
child and its training, the shapes of the data, the operators. Of operators that are this project's
the code is known; with any other nothing short of the text tells what they do, and JAX's cache has it.

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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flax
import jax
import jaxlib.version
import numpy as np
import optax
from jax.experimental import serialize_executable

from spaces.scratch import scratch_path
from spaces.source_code import source_digest

from .compile_cache import all_compiled, keep_latest, kept_programs, turn, usable

if TYPE_CHECKING:
    from spaces import OperatorTable

    from .config import TrainConfig

KEPT = 16
"""Files that stay; the least recently written go first. One has the programs of a trainer, 1 to 2 MB."""

Programs = tuple[Any, ...]
"""`jax.stages.Compiled`, each."""

_FOLDER = "ready"
_PACKAGES = ("spaces", "trainers")
_CODE = source_digest(_PACKAGES)
"""Of the files from which this process has its code, as long as nobody changes them."""

_NOT_KEPT = (OSError, ValueError, NotImplementedError, jax.errors.JaxRuntimeError)
"""A full disk, and programs that this backend cannot write down."""

_DATA_ONLY = frozenset({"dataset", "image_size", "valid_size", "steps"})
"""What of a configuration no program has, or only as a shape."""


def program_name(
    config: TrainConfig, table: OperatorTable, constants: tuple[np.ndarray, ...], shapes: object
) -> str:
    """The name of the programs that train and evaluate candidates of a table.

    Args:
        config: How to train.
        table: The operators.
        constants: Arrays that are compiled in.
        shapes: What else decides a program's text, and tells itself apart by its `repr`.

    Returns:
        64 hexadecimal digits. An operator is told by its name alone, which is enough where
        `table.built_in`.
    """
    device = jax.devices()[0]
    operators = [(each.name, each.arity, each.params) for each in (*table.unary, *table.binary)]
    settings = {name: jax.config.values[name] for name in sorted(jax.config.values)}
    environment = {n: v for n, v in sorted(os.environ.items()) if n.startswith(("XLA_", "LIBTPU_"))}
    train = {n: v for n, v in dataclasses.asdict(config).items() if n not in _DATA_ONLY}
    parts = (
        _CODE,
        [m.__version__ for m in (jax, jaxlib.version, flax, optax, np)],
        (device.platform, device.device_kind, device.client.platform_version, jax.device_count()),
        (settings, environment),
        train,
        (table.core_units, table.beta_init, len(table.unary), operators),
        [(each.shape, each.dtype.str, each.tobytes()) for each in constants],
        shapes,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def ready_programs(folder: Path | None, name: str, make: Callable[[], Programs]) -> Programs:
    """Compiled programs by their name: those that are kept, or new ones, kept from now on.

    Of processes that want the same ones at a time, one makes them. A file that is missing, damaged
    or not to be written is no error: then programs are made.

    Args:
        folder: The folder of `compile_cache.default_folder`; None keeps nothing.
        name: Theirs, from `program_name`.
        make: Compiles them.
    """
    if folder is None or not usable(folder) or not usable(folder / _FOLDER):
        return make()
    path = folder / _FOLDER / name
    with turn(folder, name):
        with contextlib.suppress(Exception):  # whatever it is that does not load is made anew
            kept = pickle.loads(zlib.decompress(path.read_bytes()))
            return tuple(serialize_executable.deserialize_and_load(*each) for each in kept)
        with all_compiled():  # what comes from a cache cannot be written down once more
            made = make()
        if source_digest(_PACKAGES) == _CODE:
            with contextlib.suppress(*_NOT_KEPT):
                _write(path, tuple(serialize_executable.serialize(each) for each in made))
        return made


def traced_programs(folder: Path | None, name: str, make: Callable[[], Programs]) -> Programs:
    """The same by JAX's cache, for operators whose names do not tell what they do."""
    with kept_programs(folder, made=name):
        return make()


def _write(path: Path, programs: tuple[Any, ...]) -> None:
    """Under another name until it is whole."""
    scratch = scratch_path(path.parent, "process")
    scratch.write_bytes(zlib.compress(pickle.dumps(programs), 1))
    scratch.replace(path)
    keep_latest(path.parent, KEPT)
