"""Traced form = specialised form = plain composition, in value and in every gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spaces import (
    PAPER,
    ActivationForm,
    Candidate,
    CoreUnit,
    Operator,
    OperatorTable,
    Param,
    SearchSpace,
    SpecialisedForm,
    TracedForm,
    parse,
)
from spaces.catalogue import known_operators
from spaces.function import compose

TRI = Operator(
    "tri",
    1,
    lambda x, p: p["a"] + p["b"] * x + p["c"] * jnp.sin(x),
    params=(Param("a", 0.25), Param("b", -0.5), Param("c", 2.0)),
)
BLEND = Operator(
    "blend",
    2,
    lambda a, b, p: p["left"] * a * b + p["right"] * jnp.tanh(a - b),
    params=(Param("left", 0.7), Param("right", -1.3)),
)
OWN = PAPER.only("identity", "scale", "sin", "relu", "add", "mul", "mix").with_unary(TRI)
OWN = OWN.with_binary(BLEND).named("own")

SHAPE = (2, 3, 4, 5)
"""One for all, as each operator is compiled for each shape."""
COUNTS = {1: 12, 2: 8, 3: 6}


def _plain(table: OperatorTable, candidate: Candidate, x: jax.Array, beta: jax.Array) -> jax.Array:
    """The candidate by composition of its operators alone, with β `[S, P, C]`."""
    seated = table.seated(candidate)
    known = {operator.name: operator for operator in (*table.unary, *table.binary)}
    names = [name for u in seated.units for name in (u.unary1, u.unary2, u.binary)]

    def vectors(slot: int) -> dict[str, jax.Array]:
        params = known[names[slot]].params
        return {
            param.name: beta[slot, i].reshape((1,) * (x.ndim - 1) + (-1,))
            for i, param in enumerate(params)
        }

    return compose(seated, known, x, vectors)


def _arrays(table: OperatorTable, shape: tuple[int, ...], seed: int) -> tuple[Any, Any, Any]:
    """x, β (none of them 1, all different) and a cotangent."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.8, 1.8, shape).astype(np.float32)
    beta = rng.uniform(0.5, 1.5, (table.slots, table.vectors, shape[-1])).astype(np.float32)
    cotangent = rng.standard_normal(shape).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(beta), jnp.asarray(cotangent)


def _pulled(f: Callable[..., Any], x: Any, beta: Any, cotangent: Any) -> tuple[Any, Any, Any]:
    y, pull_back = jax.vjp(f, x, beta)
    return (y, *pull_back(cotangent))


def _well_behaved(
    space: SearchSpace, table: OperatorTable, count: int, arrays: tuple[Any, Any, Any]
) -> list[tuple[Candidate, tuple[Any, Any, Any]]]:
    """Random candidates that are finite and of moderate size, with the plain answer."""
    rng = np.random.default_rng(space.core_units)
    found = []
    while len(found) < count:
        candidate = space.candidate(space.sample(rng))
        wants_vectors = len(found) % 2 == 0  # half of them, or β would hardly be tested
        if wants_vectors and not table.occurrences(candidate):
            continue
        x, beta, cotangent = arrays
        answer = _pulled(lambda x, b, c=candidate: _plain(table, c, x, b), x, beta, cotangent)
        if all(bool(jnp.isfinite(a).all()) and float(jnp.abs(a).max()) < 1e3 for a in answer):
            found.append((candidate, answer))
    return found


def _assert_equal(found: Any, expected: Any, what: str) -> None:
    for name, one, other in zip(("value", "dx", "dβ"), found, expected, strict=True):
        size = max(1.0, float(jnp.abs(other).max()))
        np.testing.assert_allclose(
            one, other, rtol=2e-4, atol=2e-5 * size, err_msg=f"{name} {what}"
        )


@pytest.fixture(scope="module")
def traced() -> Callable[..., Any]:
    """(set, U) → table, compiled (x, β, program, cotangent) → value, dx, dβ, and a trace count."""
    made: dict[Any, Any] = {}

    def make(operators: Any, units: int) -> tuple[OperatorTable, Callable[..., Any], list[int]]:
        if (operators.name, units) not in made:
            table = OperatorTable.for_run(operators, core_units=units)
            form, traces = TracedForm(table), [0]

            @jax.jit
            def run(x, beta, program, cotangent):
                traces[0] += 1
                return _pulled(lambda x, beta: form(x, beta, program), x, beta, cotangent)

            made[operators.name, units] = table, run, traces
        return made[operators.name, units]

    return make


@pytest.mark.parametrize("units", [1, 2, 3])
def test_three_ways_agree_on_random_candidates(units: int, traced: Callable[..., Any]):
    table, run, traces = traced(PAPER, units)
    arrays = _arrays(table, SHAPE, seed=units)
    x, beta, cotangent = arrays
    before = traces[0]
    for candidate, expected in _well_behaved(
        SearchSpace(PAPER, units), table, COUNTS[units], arrays
    ):
        program = table.program(candidate)
        _assert_equal(run(x, beta, program, cotangent), expected, f"traced, {candidate}")
        form = SpecialisedForm(table, candidate)
        with jax.disable_jit():
            special = _pulled(lambda x, b, f=form, p=program: f(x, b, p), x, beta, cotangent)
        _assert_equal(special, expected, f"specialised, {candidate}")
        used = {(o.slot, o.vector) for o in table.occurrences(candidate)}
        unused = np.ones((table.slots, table.vectors), bool)
        for place in used:
            unused[place] = False
        assert not np.asarray(special[2])[unused].any()
    assert traces[0] - before <= 1  # one compilation serves them all


@pytest.mark.parametrize("units", [1, 2])
def test_three_ways_agree_with_operators_of_two_and_three_vectors(
    units: int, traced: Callable[..., Any]
):
    table, run, _ = traced(OWN, units)
    assert (table.slots, table.vectors) == (3 * units, 3)
    x, beta, cotangent = arrays = _arrays(table, (4, 3, 2), seed=7)
    texts = ["blend(tri(x), x)", "mul(tri(x), tri(x))", "mix(tri(x), scale(x))"]
    if units == 2:
        texts += ["u1 = blend(x, tri(x)); blend(tri(u1), u1)"]
    for text in texts:
        candidate = parse(text, OWN)
        plain = _pulled(lambda x, b, c=candidate: _plain(table, c, x, b), *arrays)
        program = table.program(candidate)
        _assert_equal(run(x, beta, program, cotangent), plain, f"traced, {text}")
        form = SpecialisedForm(table, candidate)
        special = _pulled(lambda x, b, f=form, p=program: f(x, b, p), *arrays)
        _assert_equal(special, plain, f"specialised, {text}")


def test_the_plain_composition_is_the_mathematics(oracle: Any):
    """What both forms are compared with, against NumPy: so nothing is only self-consistent."""
    own = oracle.extended(
        tri=lambda x, a, b, c: a + b * x + c * np.sin(x),
        blend=lambda a, b, left, right: left * a * b + right * np.tanh(a - b),
    )
    for operators in (PAPER, OWN):
        space = SearchSpace(operators, 3)
        table = OperatorTable.for_run(operators, core_units=3)
        x, beta, _ = _arrays(table, (5, 2), seed=4)
        rng = np.random.default_rng(11)
        known = known_operators(operators)
        for _ in range(25):
            candidate = space.candidate(space.sample(rng))
            seated = table.seated(candidate)
            vectors = {
                3 * i + place: {
                    param.name: np.asarray(beta[3 * i + place, vector], np.float64)
                    for vector, param in enumerate(known[name].params)
                }
                for i, unit in enumerate(seated.units)
                for place, name in enumerate((unit.unary1, unit.unary2, unit.binary))
            }
            expected = own.candidate(seated, x, vectors)
            with jax.enable_x64(True):
                found = np.asarray(
                    _plain(table, candidate, x.astype(jnp.float64), beta.astype(jnp.float64))
                )
            np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 2, 7)])
def test_any_number_of_leading_dimensions(shape: tuple[int, ...], oracle: Any):
    table = OperatorTable.for_run(PAPER.only("identity", "scale", "gate"), core_units=1)
    candidate = parse("gate(scale(x), x)", PAPER)
    x, beta, _ = _arrays(table, shape, seed=1)
    for form in (TracedForm(table), SpecialisedForm(table, candidate)):
        y = form(x, beta, table.program(candidate))
        slot = table.occurrences(candidate)[0].slot
        expected = oracle.candidate(
            candidate, x, {0: {"beta": np.asarray(beta[slot, 0], np.float64)}}
        )
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_fewer_units_are_padded_and_give_the_same(traced: Callable[..., Any]):
    one, run_one, _ = traced(PAPER, 1)
    three, run_three, _ = traced(PAPER, 3)
    candidate = parse("mix(shift(x), atan(x))", PAPER)
    x, beta, cotangent = _arrays(one, SHAPE, seed=3)
    larger = jnp.zeros((9, 1, beta.shape[-1])).at[6:].set(beta)
    first = run_one(x, beta, one.program(candidate), cotangent)
    second = run_three(x, larger, three.program(candidate), cotangent)
    _assert_equal((second[0], second[1], second[2][6:]), first, "padded")
    assert not np.asarray(second[2][:6]).any()
    assert [o.slot for o in three.occurrences(candidate)] == [6, 8]
    assert [o.slot for o in one.occurrences(candidate)] == [0, 2]


def test_a_unit_that_nothing_reads_leaves_the_gradient_alone(traced: Callable[..., Any]):
    table, run, _ = traced(PAPER, 2)
    candidate = Candidate(
        (
            CoreUnit(0, 0, "sqrt", "exp", "div"),
            CoreUnit(0, 0, "identity", "sin", "add"),
        )
    )
    x, beta, cotangent = _arrays(table, SHAPE, seed=9)
    _, dx, _ = run(x, beta, table.program(candidate), cotangent)
    np.testing.assert_allclose(dx, cotangent * (1.0 + jnp.cos(x)), rtol=1e-4, atol=1e-5)


def test_occurrences_name_each_vector_that_the_output_depends_on():
    table = OperatorTable.for_run(OWN, core_units=2)
    candidate = parse("u1 = blend(x, tri(x)); mul(u1, scale(u1))", OWN)
    assert [tuple(o) for o in table.occurrences(candidate)] == [
        (1, 0, "tri", "a"),
        (1, 1, "tri", "b"),
        (1, 2, "tri", "c"),
        (2, 0, "blend", "left"),
        (2, 1, "blend", "right"),
        (4, 0, "scale", "beta"),
    ]
    assert table.occurrences(parse("mul(x, sin(x))", OWN)) == ()
    form = TracedForm(table)
    assert form.occurrences(candidate) == table.occurrences(candidate)
    assert (form.slots, form.vectors) == (6, 3)


def test_initial_values_stand_in_their_slots():
    candidate = parse("blend(x, tri(x))", OWN)
    expected = np.zeros((3, 3))
    expected[1] = [0.25, -0.5, 2.0]
    expected[2] = [0.7, -1.3, 0.0]
    table = OperatorTable.for_run(OWN, core_units=1)
    for form in (TracedForm(table), SpecialisedForm(table, candidate)):
        start = jax.jit(form.initial)(table.program(candidate))
        assert start.dtype == jnp.float32
        np.testing.assert_allclose(start, expected, rtol=1e-6)


def test_beta_init_replaces_every_initial_value():
    candidate = parse("blend(scale(x), tri(x))", OWN)
    table = OperatorTable.for_run(OWN, core_units=1, beta_init=0.125)
    expected = np.array([[0.125, 0, 0], [0.125] * 3, [0.125, 0.125, 0]])
    np.testing.assert_array_equal(TracedForm(table).initial(table.program(candidate)), expected)


def test_initial_values_of_an_unread_unit_are_none(traced: Callable[..., Any]):
    table, _, _ = traced(PAPER, 2)
    candidate = Candidate(
        (
            CoreUnit(0, 0, "scale", "shift", "mix"),
            CoreUnit(0, 0, "scale", "sin", "add"),
        )
    )
    start = TracedForm(table).initial(table.program(candidate))
    np.testing.assert_array_equal(start[:, 0], [0, 0, 0, 1, 0, 0])


def test_a_baseline_of_more_units_is_fused_into_one(oracle: Any):
    """Two units in a table of one: values and gradients against NumPy and finite differences."""
    baseline = parse("u1 = mul(x, sigmoid(scale(x))); mix(u1, sin(shift(u1)))", PAPER)
    small = PAPER.only("identity", "sin", "add")
    table = OperatorTable.for_run(small, core_units=1, extra=[baseline])
    assert table.slots == 3
    used = table.occurrences(baseline)
    assert [(o.slot, o.vector, o.param[:4]) for o in used] == [
        (0, 0, "beta"),
        (0, 1, "beta"),
        (0, 2, "beta"),
    ]
    x, beta, cotangent = _arrays(table, (4, 3), seed=2)
    in_order = [
        3 * index + place
        for index, unit in enumerate(baseline.units)
        for place, name in enumerate((unit.unary1, unit.unary2, unit.binary))
        if name in ("scale", "shift", "mix")
    ]

    def value(x: Any, beta: Any) -> np.ndarray:
        vectors = {slot: {"beta": beta[0, i]} for i, slot in enumerate(in_order)}
        return oracle.candidate(baseline, x, vectors)

    x64, beta64, cot64 = (np.asarray(v, np.float64) for v in (x, beta, cotangent))
    step = 1e-6
    expected_dx = cot64 * (value(x64 + step, beta64) - value(x64 - step, beta64)) / (2 * step)
    expected_dbeta = np.zeros_like(beta64)
    for vector in range(3):
        nudge = np.zeros_like(beta64)
        nudge[0, vector] = step
        slope = (value(x64, beta64 + nudge) - value(x64, beta64 - nudge)) / (2 * step)
        expected_dbeta[0, vector] = (cot64 * slope).sum(axis=0)
    program = table.program(baseline)
    for form in (TracedForm(table), SpecialisedForm(table, baseline)):
        with jax.disable_jit():
            found = _pulled(lambda x, b, f=form: f(x, b, program), x, beta, cotangent)
        _assert_equal(found, (value(x64, beta64), expected_dx, expected_dbeta), type(form).__name__)
        np.testing.assert_array_equal(form.initial(program)[0], [1.0, 1.0, 1.0])


def test_what_the_table_lacks_is_refused():
    table = OperatorTable.for_run(PAPER.without("cube"), core_units=1)
    with pytest.raises(ValueError, match="needs operator `cube`, which is not in use here"):
        table.program(parse("add(x, cube(x))", PAPER))
    with pytest.raises(ValueError, match="has 2 core units, the program has 1"):
        table.program(parse("add(x, sin(cos(x)))", PAPER))
    with pytest.raises(ValueError, match="needs a unary operator `tri`, which is not known here"):
        OperatorTable.for_run(PAPER, core_units=1, extra=[parse("tri(x)", OWN)])
    clash = PAPER.without("scale").with_binary(Operator("scale", 2, lambda a, b: a))
    with pytest.raises(ValueError, match="needs a unary operator `scale`, which is not known here"):
        OperatorTable.for_run(clash, core_units=1, extra=[parse("gate(scale(x), x)", PAPER)])


@pytest.mark.parametrize("kind", ["traced", "specialised"])
def test_the_gradient_of_beta_under_bfloat16_is_that_of_float32(kind: str):
    """∂/∂β Σ x·σ(βx) = Σ x²·σ'(βx) over 8,192 elements, which a bfloat16 sum gets wrong."""
    table = OperatorTable.for_run(
        PAPER.only("identity", "scale", "sin", "gate", "add"), core_units=1
    )
    candidate = parse("gate(scale(x), x)", PAPER)
    form: ActivationForm = (
        TracedForm(table) if kind == "traced" else SpecialisedForm(table, candidate)
    )
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((32, 16, 16, 3)), jnp.bfloat16)
    beta = jnp.full((3, 1, 3), 1.25, jnp.float32)
    program = table.program(candidate)
    y, pull_back = jax.vjp(lambda x, beta: form(x, beta, program), x, beta)
    dx, dbeta = pull_back(jnp.ones_like(y))
    assert (y.dtype, dx.dtype, dbeta.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    exact = np.asarray(x, np.float64)
    gate = 1.0 / (1.0 + np.exp(-1.25 * exact))
    slope = (exact**2 * gate * (1.0 - gate)).sum(axis=(0, 1, 2))
    np.testing.assert_allclose(dbeta[0, 0], slope, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(y, np.float64), exact * gate, rtol=2**-8, atol=1e-30)
    by_x = gate + 1.25 * exact * gate * (1.0 - gate)
    np.testing.assert_allclose(np.asarray(dx, np.float64), by_x, rtol=2**-7, atol=1e-3)


def kept_for_the_way_back(form: ActivationForm, text: str, dtype: Any) -> list[Any]:
    candidate = parse(text, PAPER)
    program = form.table.program(candidate)
    x, beta = jnp.ones((4, 3), dtype), jnp.ones((form.slots, 1, 3), jnp.float32)
    _, pull_back = jax.vjp(lambda x, beta: form(x, beta, program), x, beta)
    leaves = [leaf for leaf in jax.tree.leaves(pull_back) if hasattr(leaf, "shape")]
    floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    # Beside them the program, 5 integers a unit.
    assert sum(leaf.size for leaf in leaves) <= sum(leaf.size for leaf in floats) + 15
    return floats


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_specialised_form_keeps_x_and_beta_alone(dtype: Any):
    text = "u1 = mul(x, sin(exp(x))); mix(tanh(u1), scale(u1))"
    table = OperatorTable.for_run(PAPER, core_units=3)
    floats = kept_for_the_way_back(SpecialisedForm(table, parse(text, PAPER)), text, dtype)
    assert sorted(leaf.shape for leaf in floats) == [(4, 3), (9, 1, 3)]
    assert {leaf.dtype for leaf in floats} == {jnp.dtype(dtype), jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("core_units", [1, 2])
def test_the_traced_form_keeps_no_more_for_more_operators(core_units: int):
    def kept(*names: str) -> list[tuple[int, ...]]:
        table = OperatorTable.for_run(PAPER.only("identity", *names), core_units=core_units)
        floats = kept_for_the_way_back(TracedForm(table), "mul(x, x)", jnp.float32)
        return sorted(leaf.shape for leaf in floats)

    few = kept("mul")
    # x, the slope and two operands for each unit, the inner units' values; beta.
    images = 2 + 2 * core_units + core_units - 1
    assert few == sorted([(4, 3)] * images + [(3 * core_units, 1, 3)])
    assert kept("mul", "div", "rbf", "sin", "exp", "tanh", "scale") == few


def test_each_channel_has_vectors_of_its_own():
    table = OperatorTable.for_run(PAPER.only("identity", "scale", "add"), core_units=1)
    candidate = parse("add(scale(x), scale(x))", PAPER)
    beta = jnp.asarray([[[1.0, 2.0]], [[10.0, 20.0]], [[0.0, 0.0]]])
    y, pull_back = jax.vjp(
        lambda beta: TracedForm(table)(jnp.ones((3, 2)), beta, table.program(candidate)), beta
    )
    np.testing.assert_array_equal(y, [[11.0, 22.0]] * 3)
    (dbeta,) = pull_back(jnp.asarray([[1.0, 0.0]] * 3))
    np.testing.assert_array_equal(dbeta[:, 0], [[3.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
