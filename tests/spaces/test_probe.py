"""What the prober sees is f on its grid, with the derivatives that training would find."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spaces import (
    PAPER,
    Candidate,
    Operator,
    OperatorSet,
    OperatorTable,
    Param,
    Prober,
    SearchSpace,
    canonical,
    parse,
)
from spaces.catalogue import known_operators
from spaces.function import compose
from spaces.grid import grid
from spaces.interpreter import interpreter, keeping_programs
from spaces.probe import elsewhere_of, spread


def _vectors(candidate: Candidate, value: Any) -> dict[int, dict[str, float]]:
    """Parameters of each slot; `value(order, init)` for the order-th vector of the candidate."""
    known, found, order = known_operators(PAPER), {}, 0
    for index, unit in enumerate(candidate.units):
        names = (unit.unary1, unit.unary2, unit.binary)
        for place, name in enumerate(names):
            if place == 1 and unit.binary == "first":
                continue
            for param in known[name].params:
                found.setdefault(3 * index + place, {})[param.name] = value(order, param.init)
                order += 1
    return found


def _randoms(count: int, units: int) -> list[Candidate]:
    space, rng = SearchSpace(PAPER, units), np.random.default_rng(units)
    return [canonical(space.candidate(space.sample(rng)), PAPER) for _ in range(count)]


def _close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    """Equal where both are finite, and finite at the same places."""
    finite = np.isfinite(expected)
    if not np.array_equal(np.isfinite(found), finite):
        return False
    size = np.maximum(1.0, np.abs(expected[finite]))
    return bool((np.abs(found[finite] - expected[finite]) <= tolerance * size).all())


def test_the_grid_is_inside_its_limits_irregular_and_not_at_a_kink():
    points = grid()
    assert points.dtype == np.float64
    assert len(points) == 96
    assert np.all(np.diff(points) > 0)
    assert -5.0 < points[0] < -4.8
    assert 4.8 < points[-1] < 5.0
    assert np.abs(points).min() > 1e-3
    assert np.abs(points[:, None] + points[None, :]).min() > 1e-6  # no two are opposite
    np.testing.assert_array_equal(points, grid())


def test_fingerprint_vectors_are_apart_from_each_other_and_from_the_start():
    moves = [spread(order) for order in range(72)]
    assert len({round(move, 6) for move in moves}) == 72
    assert min(abs(move) for move in moves) > 0.2
    between, below = elsewhere_of(72)
    assert len({round(value, 6) for value in between}) == 72
    assert len({round(value, 6) for value in below}) == 72
    assert 0.1 < min(between) < max(between) < 0.9
    assert -2.0 < min(below) < max(below) < -0.2


@pytest.mark.parametrize("units", [1, 2, 4])
def test_values_are_those_of_numpy(units: int, prober: Prober, oracle: Any):
    candidates = _randoms(70, units)
    x, finite = grid(), 0
    for candidate, probe in zip(candidates, prober.probe(candidates), strict=True):
        apart = _vectors(candidate, lambda order, init: init + spread(order))
        expected = oracle.candidate(candidate, x, apart)
        assert probe.value.dtype == np.float64
        below = np.abs(expected) < 1e200
        assert _close(probe.value[below], expected[below], 1e-6), str(candidate)
        for side, found in enumerate(probe.elsewhere):
            vectors = _vectors(candidate, lambda order, _, side=side: elsewhere_of(72)[side][order])
            there = oracle.candidate(candidate, x[::4], vectors)
            small = np.abs(there) < 1e5
            assert _close(found[small], there[small], 1e-6), str(candidate)
        start = oracle.candidate(candidate, np.float32(x), _vectors(candidate, lambda _, i: i))
        assert probe.start_value.dtype == np.float32
        finite += int(below.all())
        if units == 1:
            small = np.abs(start) < 1e5
            assert _close(probe.start_value[small], start[small], 1e-3), str(candidate)
    assert finite > 25


def test_slopes_are_those_of_plain_composition(prober: Prober):
    candidates = [*_randoms(10, 2), parse("sin(mul(x, scale(x)))", PAPER), parse("prelu(x)", PAPER)]
    known = known_operators(PAPER)
    for candidate, probe in zip(candidates, prober.probe(candidates), strict=True):
        apart = _vectors(candidate, lambda order, init: init + spread(order))

        def f(x, candidate=candidate, apart=apart):
            return compose(candidate, known, x, lambda slot: apart[slot])

        with jax.enable_x64(True):
            expected = np.asarray(jax.jvp(f, (jnp.asarray(grid()),), (jnp.ones(96),))[1])
        assert _close(probe.slope, expected, 1e-9), str(candidate)


@pytest.mark.parametrize(
    "text",
    [
        "gate(scale(x), x)",
        "mix(shift(x), sin(scale(x)))",
        "rbf(x, const(x))",
        "u1 = laplace(x, sin(x)); mul(scale(u1), u1)",
        "prelu(sin(x))",
        "add(u1, scale(u1))".join(["u1 = scale(x); ", ""]),
    ],
)
def test_gradients_at_the_start_are_finite_differences(text: str, prober: Prober, oracle: Any):
    candidate = parse(text, PAPER)
    (probe,) = prober.probe([candidate])
    x, step = grid(), 1e-6

    def value(x: Any, moved: int = -1, by: float = 0.0) -> np.ndarray:
        return oracle.candidate(
            candidate, x, _vectors(candidate, lambda order, init: init + by * (order == moved))
        )

    slope = (value(x + step) - value(x - step)) / (2 * step)
    np.testing.assert_allclose(probe.start_slope, slope, rtol=1e-3, atol=1e-4)
    count = len(prober.table.occurrences(candidate))
    assert probe.start_pull.shape == (count, 96)
    for order in range(count):
        pull = (value(x, order, step) - value(x, order, -step)) / (2 * step)
        np.testing.assert_allclose(probe.start_pull[order], pull, rtol=1e-3, atol=1e-4)


def test_a_candidate_s_values_depend_on_nothing_but_itself():
    """Not on its company, and not on the size of the table's programs: to the bit."""
    operators = PAPER.only("identity", "sin", "scale", "sqrt", "add", "mix")
    candidates = [
        parse(text, operators)
        for text in ("mix(scale(x), sin(x))", "sqrt(x)", "add(scale(x), mix(x, scale(x)))")
    ]
    tables = [OperatorTable.for_run(operators, core_units=units) for units in (2, 5)]
    together = Prober(tables[0]).probe(candidates)
    alone = [Prober(tables[1]).probe([candidate])[0] for candidate in reversed(candidates)]
    for one, other in zip(together, reversed(alone), strict=True):
        for name in ("value", "slope", "start_value", "start_slope", "start_pull"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert Prober(tables[0]).probe([]) == []


def test_an_operator_of_three_vectors_is_probed_with_each_of_them():
    tri = Operator(
        "tri",
        1,
        lambda x, p: p["a"] + p["b"] * x + p["c"] * x * x,
        params=(Param("a", 0.25), Param("b", -0.5), Param("c", 2.0)),
    )
    own = PAPER.only("identity", "scale", "mul").with_unary(tri)
    (probe,) = Prober(OperatorTable.for_run(own, core_units=1)).probe(
        [parse("mul(scale(x), tri(x))", own)]
    )
    x = grid()
    np.testing.assert_allclose(probe.start_value, x * (0.25 - 0.5 * x + 2 * x * x), rtol=1e-5)
    np.testing.assert_allclose(
        probe.start_pull, [x * (0.25 - 0.5 * x + 2 * x * x), x, x**2, x**3], rtol=1e-4, atol=1e-5
    )
    by_hand = (1 + spread(0)) * x * (
        0.25 + spread(1) + (-0.5 + spread(2)) * x + (2 + spread(3)) * x * x
    )  # fmt: skip
    np.testing.assert_allclose(probe.value, by_hand, rtol=1e-12)


def test_an_infinite_slope_stays_infinite():
    """A unary operator has no second operand whose slope could be multiplied by 0."""
    steep = Operator("steep", 1, lambda x: jnp.sin(1e30 * x))
    own = PAPER.only("identity", "neg", "mul").with_unary(steep)
    (probe,) = Prober(OperatorTable.for_run(own, core_units=3)).probe(
        [parse("neg(steep(steep(x)))", own)]
    )
    assert np.isfinite(probe.start_value).all()
    assert np.isinf(probe.start_slope).all()


def test_another_initial_value_for_all_changes_the_start_and_not_the_fingerprint():
    operators = PAPER.only("identity", "scale", "gate")
    candidate = parse("gate(scale(x), x)", operators)
    plain, half = (
        Prober(OperatorTable.for_run(operators, core_units=1, beta_init=init)).probe([candidate])[0]
        for init in (None, 0.5)
    )
    x = grid()
    np.testing.assert_allclose(plain.start_value, x / (1 + np.exp(-x)), rtol=1e-5)
    np.testing.assert_allclose(half.start_value, x / (1 + np.exp(-0.5 * x)), rtol=1e-5)
    np.testing.assert_array_equal(plain.value, half.value)
    np.testing.assert_array_equal(plain.slope, half.slope)


def test_what_does_not_fit_the_table_is_refused(prober: Prober):
    with pytest.raises(ValueError, match="has 5 core units, the program has 4"):
        prober.probe([parse("sin(sin(sin(sin(sin(x)))))", PAPER)])


def test_only_this_packages_operators_are_the_keepers():
    """Another's name says nothing of what it does."""
    asked = []

    def keeper(key: str, make: Any) -> Any:
        asked.append(key)
        return make()

    own = OperatorSet(
        "own", unary=(Operator("sin", 1, jnp.cos),), binary=(PAPER["mul"], PAPER["add"])
    )
    ours = PAPER.only("identity", "sin", "mul", "add")
    x = grid()
    interpreter.cache_clear()
    with keeping_programs(keeper):
        for operators, expected, count in ((own, np.cos(x) * x, 0), (ours, np.sin(x) * x, 2)):
            (probe,) = Prober(OperatorTable.for_run(operators, core_units=1)).probe(
                [parse("mul(sin(x), x)", operators)]
            )
            np.testing.assert_allclose(probe.value, expected, rtol=1e-12)
            assert len(set(asked)) == count
    interpreter.cache_clear()
