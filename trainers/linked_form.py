"""A candidate inside a network that knows nothing of it: the network calls the candidate's machine code.

One compilation of the network serves every candidate, as with `spaces.TracedForm`, and takes a quarter of its time: there is
none of their operators in it. The candidate passes over its arrays once, as in `spaces.SpecialisedForm`. XLA calls it as a
foreign function and gives it the number under which its code is known to this process.

Letters: `S` slots, `P` vectors per slot, `C` channels.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from spaces import OperatorTable, Program
from spaces.activation import ActivationForm

from .candidate_code import CandidateCode, kind_of, rows_of, sums_of
from .foreign import Call, available
from .normalisation import EPSILON, batch_statistics, pull_back
from .own_code import runs
from .parallel import map_and_sum_over_shares, map_over_shares
from .script import Script
from .scripted import ScriptedFunction

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

    It keeps what it is given and computes the rest again on the way back.

    Args:
        table: As of every form.
        block: Floats of a block of the code, see `candidate_code.CandidateCode`.
    """

    def __init__(self, table: OperatorTable, block: int) -> None:
        super().__init__(table)
        self._block = block
        self._behind_norm = jax.custom_vjp(self._value_behind_norm)
        self._behind_norm.defvjp(self._value_to_keep, self._pull_back_to_norm)

    def initial(self, program: LinkedProgram) -> jax.Array:  # type: ignore[override]  # it is given more
        """As of every form."""
        return super().initial(program.program)

    def behind_batch_norm(
        self,
        x: jax.Array,
        scale: jax.Array,
        bias: jax.Array,
        shortcut: jax.Array | None,
        beta: jax.Array,
        program: LinkedProgram,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The candidate of what `normalisation.batch_norm` makes of x, in one pass.

        Args:
            x: float32 [B, H, W, C].
            scale: float32 [C].
            bias: float32 [C].
            shortcut: Is added to the normalised x; like x.
            beta: float32 [S, P, C].
            program: The candidate.

        Returns:
            The activation, like x, and the batch's mean and biased variance, float32 [C], which carry no
            gradient.
        """
        return self._behind_norm(x, scale, bias, shortcut, beta, program.number)

    def behind_norm(
        self,
        x: jax.Array,
        mean: jax.Array,
        variance: jax.Array,
        scale: jax.Array,
        bias: jax.Array,
        shortcut: jax.Array | None,
        beta: jax.Array,
        program: LinkedProgram,
    ) -> jax.Array:
        """The same, like x, with a mean and a variance that are known, float32 [C]; without a gradient."""
        norm = _norm(mean, variance, scale, bias)
        return self._value_of(x, shortcut, norm, beta, program.number)

    def _evaluate(self, x, beta, program):
        return self._value_of(x, None, _identity(x), beta, program.number)

    def _pull_back(self, x, beta, program, kept, cotangent):
        change, found = self._change_of(x, None, cotangent, _identity(x), beta, program.number)
        *_, dbeta = found
        return change, dbeta

    def _value_behind_norm(self, x, scale, bias, shortcut, beta, number):
        mean, variance = batch_statistics(x)
        norm = _norm(mean, variance, scale, bias)
        return self._value_of(x, shortcut, norm, beta, number), mean, variance

    def _value_to_keep(self, x, scale, bias, shortcut, beta, number):
        found = self._value_behind_norm(x, scale, bias, shortcut, beta, number)
        return found, (x, scale, bias, shortcut, beta, number, *found[1:])

    def _pull_back_to_norm(self, saved, cotangents):
        x, scale, bias, shortcut, beta, number, mean, variance = saved
        norm = _norm(mean, variance, scale, bias)
        change, found = self._change_of(x, shortcut, cotangents[0], norm, beta, number)
        *sums, dbeta = found
        of_norm = pull_back(x, scale, mean, variance, change, *sums)
        return *of_norm, None if shortcut is None else change, dbeta, None

    def _value_of(self, x, shortcut, norm, beta, number) -> jax.Array:
        """float32, like x."""
        batches = (x,) if shortcut is None else (x, shortcut)
        function = functools.partial(_value_of_share, self._block)
        return map_over_shares(function, batches, rows_of(norm, beta, self._block), number)

    def _change_of(self, x, shortcut, cotangent, norm, beta, number) -> tuple[jax.Array, Any]:
        """What `CandidateCode.pull_back` writes, over all devices, and its sums as `sums_of` reads them."""
        batches = (x, cotangent) if shortcut is None else (x, shortcut, cotangent)
        rows = rows_of(norm, beta, self._block)
        function = functools.partial(_change_of_share, self._block)
        return map_and_sum_over_shares(function, batches, rows, number, beta)


def _norm(mean, variance, scale, bias) -> jax.Array:
    """The first rows of `candidate_code.rows_of`."""
    return jnp.stack([mean, scale * lax.rsqrt(variance + EPSILON), bias])


def _identity(x: jax.Array) -> jax.Array:
    """The normalisation that changes nothing."""
    return jnp.zeros((3, x.shape[-1])).at[1].set(1.0)


def _value_of_share(block: int, x: jax.Array, *others: jax.Array) -> jax.Array:
    *shortcut, rows, number = others
    return _call(_VALUE, _like(x), block, number, bool(shortcut), x, *shortcut, rows)


def _change_of_share(block: int, x: jax.Array, *others: jax.Array) -> tuple[jax.Array, Any]:
    *shortcut, cotangent, rows, number, beta = others
    sums = jax.ShapeDtypeStruct((len(rows) - 1, block), x.dtype)
    results = _like(x), sums
    operands = x, *shortcut, cotangent, rows
    change, found = _call(_PULL_BACK, results, block, number, bool(shortcut), *operands)
    return change, sums_of(found, beta)


def _call(
    name: str,
    results: Any,
    block: int,
    number: jax.Array,
    with_shortcut: bool,
    *operands: jax.Array,
) -> Any:
    """The operands as `CandidateCode.script` is given them."""
    kind, blocks = kind_of(operands[0].size, block, with_shortcut)
    call = jax.ffi.ffi_call(name, results)
    return call(number, *operands, kind=np.int64(kind), repeats=np.int64(blocks))


def _like(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def links() -> bool:
    """Whether candidates can be linked into this process's programs."""
    return linkable() and jax.default_backend() == "cpu"


def linkable() -> bool:
    """Whether they can be on this machine, if it computes on its processor."""
    return available() and runs() and os.environ.get(SWITCH) != "0"


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
        for function in _FUNCTIONS:
            function.forget(number)


def _script(back: bool, call: Call) -> Script:
    """What XLA is to do where a candidate is called."""
    kind, _ = call.attributes
    return _codes[ctypes.c_int32.from_address(call.addresses[0]).value].script(back, kind)


_FUNCTIONS = [
    ScriptedFunction(name, functools.partial(_script, back), numbered=True)
    for name, back in ((_VALUE, False), (_PULL_BACK, True))
]
