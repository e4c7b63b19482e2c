"""A candidate's code where XLA compiles the candidate alone, as a function of a block.

That takes one to four tenths of a second, once for a candidate, and makes one loop of each direction. Where it
does not pay, `trainers.operator_code` has what is there already.

Letters: `S` slots, `P` vectors per slot, `N` floats of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from spaces import Candidate, OperatorTable
from spaces.function import compose

from .block_code import close_enough, compile_function
from .block_program import Listing, aligned_floats
from .candidate_code import (
    NORM_ROWS,
    NORM_SUMS,
    CandidateCode,
    Operands,
    Places,
    row,
    sum_row,
)
from .config import TrainConfig
from .floor import training_work
from .machine_code import CodeError

FUSES_AFTER = 10
"""Steps before a candidate is compiled by itself: one that diverges at once is not worth it."""
_SAVED_NS, _COST_S = 3.0, 0.3
"""What that saves for each element that passes an activation, and what it costs a candidate: an Intel Xeon of
family 6, model 207 (`docs/performance.md`)."""

_LONG = 6
"""Long arrays that the compiled function has, see `_function`."""


def fuses_after(config: TrainConfig, image_size: int, total: int) -> int:
    """How many steps of a training of `total` steps are done before the candidate is compiled by itself.

    Args:
        config: The child and its batches.
        image_size: Pixels a side.
        total: All steps, which is the answer if it does not pay.
    """
    work = training_work(config, image_size=image_size, channels=1, num_classes=1)
    saved_s = (total - FUSES_AFTER) * work.activation_elements * _SAVED_NS * 1e-9
    return FUSES_AFTER if saved_s > _COST_S else total


def fused_code(table: OperatorTable, candidate: Candidate, block: int) -> CandidateCode:
    """The code of a candidate.

    Args:
        table: Where its trainable vectors are.
        candidate: What to compile.
        block: N.

    Raises:
        CodeError: It is no list of loops, or XLA's code is not as it was.
        OSError: The system gives no memory that may be executed.
    """
    used = [each.slot * table.vectors + each.vector for each in table.occurrences(candidate)]
    read = [*range(NORM_ROWS), *(NORM_ROWS + place for place in used)]
    added = [*range(NORM_SUMS), *(NORM_SUMS + place for place in used)]
    inputs = _LONG + len(read) + len(added)
    function, compiled = compile_function(_function(table, candidate), inputs, block)
    sums = [sum_row(number) for number in added]
    rows = [*map(row, read), *sums]
    to_sums = dict(enumerate(sums, start=2))

    def write(listing: Listing, back: bool, places: Places) -> None:
        x, shortcut, cotangent, written = places
        long = [x, x, x, shortcut, cotangent]
        if back:
            function.write(listing, [*long, x, *rows], {1: written})
            function.write(listing, [*long, written, *rows], to_sums)
        else:
            function.write(listing, [*long, x, *rows], {0: written})

    found = CandidateCode(table, block, write)
    _check(found, compiled, read, added)
    return found


def _check(
    code: CandidateCode, compiled: jax.stages.Compiled, read: list[int], added: list[int]
) -> None:
    """Whether the code computes what XLA does with it.

    Raises:
        CodeError: It does not.
    """
    rng, block = np.random.default_rng(0), code.block
    for with_shortcut in (False, True):
        x, shortcut, cotangent, value, change = (aligned_floats(block) for _ in range(5))
        rows, sums = (aligned_floats(n * block).reshape(n, -1) for n in (code.rows, code.sums))
        for array in (x, cotangent, *([shortcut] if with_shortcut else [])):
            array[:] = rng.standard_normal(block, np.float32)
        rows[:] = rng.uniform(0.5, 1.5, rows.shape)
        long, more = (x, x, x, shortcut, cotangent), (*rows[read], *sums[added])
        first = np.asarray(compiled(*long, change, *more)[1])
        expected = [np.asarray(each) for each in compiled(*long, first, *more)]
        added_one = shortcut.ctypes.data if with_shortcut else None
        operands = Operands(block, x.ctypes.data, added_one, rows.ctypes.data)
        code.value(operands, value.ctypes.data)
        code.pull_back(operands, cotangent.ctypes.data, change.ctypes.data, sums.ctypes.data)
        if not close_enough([value, change, *sums[added]], expected):
            raise CodeError("XLA's code by itself computes something else")


def _function(table: OperatorTable, candidate: Candidate) -> Callable[..., tuple[jax.Array, ...]]:
    """What is compiled: of float32 `[N]` each, x three times, shortcut, cotangent, change, rows and sums, to
    value, change, and sums.

    XLA would compute what two results have in common once, in loops of its own between which it is
    written and read. That takes longer than to compute it twice: x is there for each of them anew.
    """
    seated = table.seated(candidate)
    known = {operator.name: operator for operator in (*table.unary, *table.binary)}
    used = table.occurrences(candidate)

    def value(z: jax.Array, *vectors: jax.Array) -> jax.Array:
        def of_slot(slot: int) -> dict[str, Any]:
            pairs = zip(used, vectors, strict=True)
            return {each.param: vector for each, vector in pairs if each.slot == slot}

        return compose(seated, known, z, of_slot).astype(z.dtype)

    def function(
        x: jax.Array,
        x_of_change: jax.Array,
        x_of_sums: jax.Array,
        shortcut: jax.Array,
        cotangent: jax.Array,
        change: jax.Array,
        *rows: jax.Array,
    ) -> tuple[jax.Array, ...]:
        mean, slope, bias, *more = rows
        vectors, (total, weighted, *sums) = more[: len(used)], more[len(used) :]

        def normalised(x: jax.Array) -> jax.Array:
            return (x - mean) * slope + bias + shortcut

        _, to_change = jax.vjp(lambda z: value(z, *vectors), normalised(x_of_change))
        z = normalised(x_of_sums)
        _, to_vectors = jax.vjp(lambda *vectors: value(z, *vectors), *vectors)
        return (
            value(normalised(x), *vectors),
            *to_change(cotangent),
            total + change,
            weighted + change * (x_of_sums - mean),
            *(each + more for each, more in zip(sums, to_vectors(cotangent), strict=True)),
        )

    return function
