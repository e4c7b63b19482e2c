"""Candidates as machine code: values and gradients against the specialised form's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spaces import (
    PAPER,
    Candidate,
    OperatorSet,
    OperatorTable,
    SpecialisedForm,
    operator,
    parse,
)
from trainers import block_code, operator_code
from trainers.block_code import compile_function
from trainers.block_program import aligned_floats
from trainers.candidate_code import BLOCK, CandidateCode, Operands, block_for, rows_of, sums_of
from trainers.fused_code import fused_code
from trainers.linked_form import links
from trainers.machine_code import CodeError
from trainers.operator_code import OperatorCodes

pytestmark = pytest.mark.skipif(not links(), reason="XLA's machine code is of another kind here")

Make = Callable[[OperatorTable, Candidate, int], CandidateCode]

CHANNELS = 8
SMALL = 64
"""Floats of a block."""


def table_for(*candidates: Candidate) -> OperatorTable:
    units = max(len(each.units) for each in candidates)
    return OperatorTable.for_run(PAPER, core_units=units, extra=candidates)


def _aligned(values: np.ndarray) -> np.ndarray:
    room = aligned_floats(values.size).reshape(values.shape)
    room[:] = values
    return room


class Arrays:
    """What a candidate is given, and room for what it finds."""

    def __init__(
        self, table: OperatorTable, rows: int, *, seed: int = 0, shortcut: bool = False
    ) -> None:
        rng = np.random.default_rng(seed)
        shape = table.slots, table.vectors, CHANNELS
        self.count = rows * CHANNELS
        self.x, self.shortcut, self.cotangent, self.found, self.change = (
            aligned_floats(self.count + 3 * CHANNELS) for _ in range(5)
        )
        for array in (self.x, self.shortcut, self.cotangent):
            array[:] = rng.standard_normal(self.x.shape)
        self.found[:] = self.change[:] = 7.0
        self.norm = rng.uniform(0.5, 1.5, (3, CHANNELS)).astype(np.float32)
        self.beta = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        self.rows = _aligned(
            np.asarray(rows_of(jnp.asarray(self.norm), jnp.asarray(self.beta), SMALL))
        )
        added = self.shortcut.ctypes.data if shortcut else None
        self.operands = Operands(self.count, self.x.ctypes.data, added, self.rows.ctypes.data)
        self.sums = _aligned(np.full((len(self.rows) - 1, SMALL), 7.0))

    def compute(self, code: CandidateCode) -> list[np.ndarray]:
        """The value, the cotangent of what is normalised, its sums, and the cotangent of the vectors."""
        code.value(self.operands, self.found.ctypes.data)
        places = self.cotangent.ctypes.data, self.change.ctypes.data, self.sums.ctypes.data
        code.pull_back(self.operands, *places)
        for array in (self.found, self.change):
            assert (array[self.count :] == 7.0).all()
        long = [each[: self.count].copy() for each in (self.found, self.change)]
        *sums, dbeta = map(np.asarray, sums_of(jnp.asarray(self.sums), jnp.asarray(self.beta)))
        return [*long, np.stack(sums), dbeta]

    def expected(self, text: str) -> list[np.ndarray]:
        """The same by XLA."""
        x, shortcut, cotangent = (
            jnp.asarray(each[: self.count].reshape(-1, CHANNELS))
            for each in (self.x, self.shortcut, self.cotangent)
        )
        mean, slope, bias = self.norm[:, None]
        z = (x - mean) * slope + bias + (0 if self.operands.shortcut is None else shortcut)

        found, change, dbeta = specialised(text)(z, jnp.asarray(self.beta), cotangent)
        sums = jnp.stack([change.sum(0), (change * (x - mean)).sum(0)])
        return [np.asarray(each).reshape(-1) for each in (found, change)] + [
            np.asarray(each) for each in (sums, dbeta)
        ]


@functools.cache
def specialised(text: str) -> Callable[..., tuple[jax.Array, ...]]:
    """Of what is normalised, the vectors and a cotangent, to the value and two cotangents, by XLA."""
    candidate = parse(text, PAPER)
    table = table_for(candidate)
    form, program = SpecialisedForm(table, candidate), table.program(candidate)

    @jax.jit
    def both(z: jax.Array, beta: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, ...]:
        found, pull_back = jax.vjp(lambda z, beta: form(z, beta, program), z, beta)
        return found, *pull_back(cotangent)

    return both


PIECES: dict[str, Any] = {}
"""Of operators that are compiled: their code is the same in every table."""


def of_operators(table: OperatorTable, candidate: Candidate, block: int) -> CandidateCode:
    codes = OperatorCodes(table, block)
    codes._pieces = PIECES
    return codes.code(candidate)


def by_units(table: OperatorTable, candidate: Candidate, block: int) -> CandidateCode:
    codes = OperatorCodes(table, block)
    codes._pieces = PIECES
    return codes.fused(candidate)


MAKERS = {"fused": by_units, "operators": of_operators}
both = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def check(make: Make, text: str, rows: int) -> None:
    candidate = parse(text, PAPER)
    table = table_for(candidate)
    code = make(table, candidate, SMALL)
    for shortcut in (False, True):
        arrays = Arrays(table, rows, shortcut=shortcut)
        found = arrays.compute(code)
        expected = arrays.expected(text)
        for ours, theirs in zip(found, expected, strict=True):
            # The same operations; XLA may contract a product and a sum in one of the two.
            largest = np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0)
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5 * largest)


UNARY = [each.name for each in PAPER.unary]
BINARY = [each.name for each in PAPER.binary]


@both
@pytest.mark.parametrize("name", UNARY)
def test_every_unary_operator(make: Make, name: str):
    check(make, f"mul({name}(x), sigmoid(scale(x)))", 40)


@both
@pytest.mark.parametrize("name", BINARY)
def test_every_binary_operator(make: Make, name: str):
    check(make, f"{name}(scale(x), tanh(x))", 40)


@both
@pytest.mark.parametrize(
    "text",
    [
        "x",
        "add(x, x)",
        "const(x)",
        "rbf(cos(x), sinh(x))",
        "mul(max(scale(x), sin(x)), sigmoid(shift(x)))",
        "mix(gauss(mul(scale(x), erf(x))), rbf(x, atan(x)))",
        "u1 = mix(shift(x), sin(x)); u2 = mul(u1, sigmoid(scale(u1))); mix(u1, scale(u2))",
    ],
)
def test_other_candidates(make: Make, text: str):
    """The identity, one whose slope is a constant, none of x, one with numbers that are almost zero, and two
    and three core units.
    """
    check(make, text, 40)


@both
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 16, 27])
def test_any_number_of_rows(make: Make, rows: int):
    """Eight make a block; what is left over must not add to the vectors' cotangents."""
    check(make, "mul(shift(x), sigmoid(scale(x)))", rows)
    check(make, "add(log_abs(scale(x)), sqrt(x))", rows)


@both
def test_threads_do_not_get_into_each_others_way(make: Make):
    candidate = parse("mul(shift(x), sigmoid(scale(x)))", PAPER)
    table = table_for(candidate)
    code = make(table, candidate, SMALL)
    alone = [Arrays(table, 500, seed=seed).compute(code) for seed in range(8)]

    def again(seed: int) -> bool:
        found = (Arrays(table, 500, seed=seed).compute(code) for _ in range(20))
        return all(
            a.tobytes() == b.tobytes()
            for each in found
            for a, b in zip(each, alone[seed], strict=True)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(again, range(8)))


def test_code_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch):
    """Here because nobody notices that XLA writes one array over another."""
    candidate = parse("max(x, tanh(x))", PAPER)
    fused_code(table_for(candidate), candidate, SMALL)
    monkeypatch.setattr(block_code, "_shared", lambda routine, code, block: {})
    with pytest.raises(CodeError, match="computes something else"):
        fused_code(table_for(candidate), candidate, SMALL)


def test_an_operators_code_that_computes_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch,
):
    candidate = parse("max(x, tanh(x))", PAPER)

    def compiled(function, inputs: int, block: int):
        found, _ = compile_function(function, inputs, block)
        # As if XLA had compiled this.
        more = [jax.ShapeDtypeStruct((block,), jnp.float32)] * inputs
        other = jax.jit(lambda *arrays: [each + 1 for each in function(*arrays)])
        return found, other.lower(*more).compile()

    monkeypatch.setattr(operator_code, "compile_function", compiled)
    with pytest.raises(CodeError, match="computes something else"):
        OperatorCodes(table_for(candidate), SMALL).code(candidate)


@both
def test_an_operator_that_is_no_loop_is_refused(make: Make):
    @operator
    def ranked(x):
        return jnp.sort(x, axis=-1)

    with_it = OperatorSet("with_it", unary=(*PAPER.unary, ranked), binary=PAPER.binary)
    table = OperatorTable.for_run(with_it, core_units=1)
    with pytest.raises(CodeError):
        make(table, parse("mul(x, ranked(x))", with_it), SMALL)


@pytest.mark.parametrize("channels", [(16, 32, 64), (12, 24, 48), (5, 10, 20), (101, 202, 404)])
def test_a_block_has_whole_rows_of_every_layer(channels: tuple[int, ...]):
    block = block_for(channels)
    assert all(block % each == 0 for each in (*channels, 16))
    assert BLOCK / 2 < block <= BLOCK


def test_a_row_that_is_longer_than_a_block_is_a_block():
    assert block_for([3 * BLOCK]) == 3 * BLOCK
