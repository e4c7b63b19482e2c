"""A candidate inside a network that knows nothing of it: the network calls the candidate's machine code.

One compilation of the network serves every candidate, as with `spaces.TracedForm`; but the function is
compiled too, by itself, and passes over its arrays once, as in `spaces.SpecialisedForm`. XLA calls it as a
foreign function and gives it the number under which the code of the candidate is known to this process.

Letters: `S` slots, `P` vectors per slot, `C` channels.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from spaces import Program
from spaces.activation import ActivationForm

from .block_code import floats_at
from .candidate_code import CandidateCode
from .config import TrainConfig
from .floor import training_work
from .foreign import Call, available, register
from .parallel import map_and_sum_over_shares, map_over_shares

SWITCH = "ACTSEARCH_LINKED"
"""An environment variable: with `0` the traced form is XLA's alone."""

_VALUE, _PULL_BACK = "actsearch_candidate_value", "actsearch_candidate_pull_back"


class LinkedProgram(NamedTuple):
    """A candidate as a network is given it."""

    program: Program
    """As integers."""
    number: Any
    """int32 `[]`: of its code in this process."""


class LinkedForm(ActivationForm):
    """An activation whose value and gradient are machine code that a `LinkedProgram` names.

    It keeps x alone and computes the rest again on the way back.
    """

    def initial(self, program: LinkedProgram) -> jax.Array:  # type: ignore[override]
        """As of every form."""
        return super().initial(program.program)

    def _evaluate(self, x, beta, program):
        return map_over_shares(_value, x, beta, program.number)

    def _pull_back(self, x, beta, program, kept, cotangent):
        return map_and_sum_over_shares(_pull_back, (x, cotangent), beta, program.number)


def links() -> bool:
    """Whether candidates can be linked into programs on this machine."""
    return (
        available()
        and jax.default_backend() == "cpu"
        and sys.platform.startswith("linux")
        and platform.machine() == "x86_64"
        and os.environ.get(SWITCH) != "0"
    )


LINKS_AFTER = 10
"""Steps before a candidate is linked: one that diverges at once is not worth it."""
_SAVED_NS, _COST_S = 2.0, 0.2
"""What linking saves for each element that passes an activation, and what it costs a candidate: an Intel Xeon of
family 6, model 207 (`docs/performance.md`)."""


def links_after(config: TrainConfig, image_size: int, total: int) -> int:
    """How many steps of a training of `total` steps are done before the candidate is linked.

    Args:
        config: The child and its batches.
        image_size: Pixels a side.
        total: All steps, which is the answer if linking does not pay, or not here.
    """
    if not links():
        return total
    work = training_work(config, image_size=image_size, channels=1, num_classes=1)
    saved_s = (total - LINKS_AFTER) * work.activation_elements * _SAVED_NS * 1e-9
    return LINKS_AFTER if saved_s > _COST_S else total


_codes: dict[int, CandidateCode] = {}
_numbers = itertools.count(1)


@contextmanager
def linked(code: CandidateCode) -> Iterator[np.int32]:
    """A number under which XLA's programs find a candidate's code within the context."""
    number = next(_numbers)
    _codes[number] = code
    try:
        yield np.int32(number)
    finally:
        del _codes[number]


def _value(x: jax.Array, beta: jax.Array, number: jax.Array) -> jax.Array:
    """f(x), of a device's share of a batch."""
    return jax.ffi.ffi_call(_VALUE, _like(x))(x, beta, number, **_sizes(x, beta))


def _pull_back(
    x: jax.Array, cotangent: jax.Array, beta: jax.Array, number: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The cotangents of x and of beta, of a device's share of a batch."""
    call = jax.ffi.ffi_call(_PULL_BACK, (_like(x), _like(beta)))
    change, dbeta = call(x, cotangent, beta, number, **_sizes(x, beta))
    return change, dbeta


def _like(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _sizes(x: jax.Array, beta: jax.Array) -> dict[str, np.int64]:
    """Attributes that `_read` is given by the order of their names."""
    sizes = zip(("axis1", "axis2", "axis3", "elements"), (*beta.shape, x.size), strict=True)
    return {name: np.int64(size) for name, size in sizes}


def _vectors(address: int, shape: list[int]) -> np.ndarray:
    """float32 `[S, P, C]` in XLA's memory."""
    slots, vectors, channels = shape
    return floats_at(address, slots * vectors * channels).reshape(shape)


def _code(address: int) -> CandidateCode:
    return _codes[ctypes.c_int32.from_address(address).value]


def _compute_value(call: Call) -> None:
    """What XLA calls."""
    *shape, count = call.attributes
    x, beta, number, result = call.addresses
    _code(number).value(x, _vectors(beta, shape), result, count)


def _compute_pull_back(call: Call) -> None:
    """What XLA calls."""
    *shape, count = call.attributes
    x, cotangent, beta, number, change, dbeta = call.addresses
    vectors = _vectors(beta, shape), cotangent, change, _vectors(dbeta, shape)
    _code(number).pull_back(x, *vectors, count)


register(_VALUE, _compute_value)
register(_PULL_BACK, _compute_pull_back)
