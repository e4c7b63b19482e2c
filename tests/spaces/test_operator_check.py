"""The check of an operator set finds each fault and says it in one line."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spaces import PAPER, Operator, Param, check_operators
from spaces.catalogue import HIDDEN
from spaces.operator_check import CHECKS, examine

_calls = itertools.count()


def test_the_operators_of_the_project_are_sound():
    more = PAPER.with_unary(*(o for o in HIDDEN if o.arity == 1 and o.name not in PAPER))
    assert check_operators(more) == []


@pytest.mark.parametrize(
    "own",
    [
        Operator("half", 1, lambda x: jnp.where(x > 0, jnp.sqrt(x), jnp.nan)),
        Operator("step", 1, lambda x: jnp.where(x > 0, jnp.ones_like(x), jnp.zeros_like(x))),
        Operator("pole", 1, lambda x: 1.0 / x),
        Operator("third", 2, lambda a, b: jnp.exp(10.0 * a) * b),
        Operator(
            "tri", 1, lambda x, p: p["a"] + p["b"] * x + p["c"] * x * x,
            params=(Param("a"), Param("b", -1.0), Param("c", 0.5)),
        ),
    ],
    ids=lambda o: o.name,
)  # fmt: skip
def test_an_unusual_operator_is_sound(own: Operator):
    alone = PAPER.only("identity", "add")
    assert (
        check_operators(alone.with_unary(own) if own.arity == 1 else alone.with_binary(own)) == []
    )


def _raising(x):
    raise RuntimeError("not today\nnor tomorrow")


def _without_gradient(x):
    return x + jnp.sqrt(0.0 * x)


def _at_the_place_of_the_largest(x):
    return x / jnp.max(jnp.abs(x))


def _beta() -> tuple[Param, ...]:
    return (Param("beta"),)


def _wide_constant(x):
    return jax.lax.mul(x, jnp.full_like(x, 2.0, jnp.float32))


def _by_channel(x):
    return x * jnp.broadcast_to(jnp.arange(x.shape[-1], dtype=x.dtype), x.shape)


def _many_sines(x):
    return jax.lax.fori_loop(0, 3000, lambda _, y: jnp.sin(y), x)


def _vector_without_gradient(x, p):
    return x + jnp.sqrt(0.0 * p["beta"])


_TRACED = "cannot be traced and differentiated by JAX"
_MIXES = "must be element-wise, but changing one element of input 1 changed"

FAULTS: list[tuple[str, Any, tuple[Param, ...], str]] = [
    ("raises", _raising, (), "raises RuntimeError: not today"),
    ("key", lambda x: {}["a"] * x, (), "raises KeyError: 'a'"),
    ("two_inputs", lambda a, b: a, (), "must take the arguments (x), but its function has missing a required argument: 'b'"),
    ("no_params", lambda x: x, _beta(), "must take the arguments (x, params), but its function has too many positional arguments"),
    ("other_name", lambda x, p: p["gamma"] * x, _beta(), "raises KeyError: 'gamma'"),
    ("in_numpy", lambda x: np.tanh(np.asarray(x)), (), f"{_TRACED} (TracerArrayConversionError"),
    ("branches", lambda x: x if x.sum() > 0 else -x, (), f"{_TRACED} (TracerBoolConversionError"),
    ("narrow", _wide_constant, (), "raises in float64, in which functions are compared (TypeError"),
    ("all_nan", lambda x: x * jnp.nan, (), "is NaN everywhere on [−5, 5]"),
    ("all_infinite", lambda x: x + jnp.inf, (), "is finite nowhere on [−5, 5]"),
    ("reduces", lambda x: x.sum(axis=-1), (), "must keep the shape of its input (12, 8), returned (12,)"),
    ("widens", lambda x: x[..., None], (), "must keep the shape of its input (12, 8), returned (12, 8, 1)"),
    ("of_a_matrix", lambda x: jnp.atleast_2d(x), (), "must keep the shape of its input (8,), returned (1, 8)"),
    ("number", lambda x: 1.0, (), "must keep the shape of its input (12, 8), returned float"),
    ("pair", lambda x: (x, x), (), "must keep the shape of its input (12, 8), returned tuple"),
    ("integer", lambda x: x.astype(jnp.int32), (), "must keep the dtype of its input float32, returned int32"),
    ("lower", lambda x: x.astype(jnp.bfloat16), (), "must keep the dtype of its input float32, returned bfloat16"),
    ("softmax", lambda x: jax.nn.softmax(x), (), f"{_MIXES} 7 others"),
    ("centred", lambda x: x - x.mean(), (), f"{_MIXES} 95 others"),
    ("scaled", _at_the_place_of_the_largest, (), _MIXES),
    ("rolled", lambda x: jnp.roll(x, 1, axis=-1), (), f"{_MIXES} 1 others"),
    ("mixed_vector", lambda x, p: x * jnp.mean(p["beta"]), _beta(), "must be element-wise, but changing 'beta' of one channel changed other channels"),
    ("noisy", lambda x: x + jax.random.normal(jax.random.key(0), x.shape), (), "must be element-wise, but gives other values for the same input at another place"),
    ("by_channel", _by_channel, (), "must be element-wise, but gives other values for the same input at another place"),
    ("random", lambda x: x + float(np.random.default_rng().normal()), (), "must be pure, but gives other values when called again"),
    ("counting", lambda x: x + float(next(_calls)), (), "must be pure, but gives other values when called again"),
    ("no_gradient", _without_gradient, (), "has a finite gradient by its input nowhere on [−5, 5]"),
    ("no_vector", _vector_without_gradient, _beta(), "has a finite gradient by its vector `beta` nowhere on [−5, 5]"),
    ("slow", _many_sines, (), "is too slow: value and gradient take "),
]  # fmt: skip


@pytest.fixture(scope="module")
def faults() -> list[str]:
    """What is said of a set that holds every faulty operator between two sound ones."""
    bad = (Operator(name, 1, fn, params) for name, fn, params, _ in FAULTS)
    return check_operators(PAPER.only("identity", "add").with_unary(*bad, PAPER["sin"]))


@pytest.mark.parametrize(("name", "said"), [(row[0], row[3]) for row in FAULTS])
def test_each_fault_is_one_line_that_begins_with_the_name(name: str, said: str, faults: list[str]):
    (line,) = [line for line in faults if line.startswith(f"{name}: ")]
    assert line.startswith(f"{name}: {said}")
    assert "\n" not in line


def test_every_faulty_operator_is_named_and_no_other(faults: list[str]):
    assert [fault.split(":")[0] for fault in faults] == [name for name, *_ in FAULTS]


def test_a_binary_operator_that_mixes_its_second_input_is_found():
    bad = Operator("sorted", 2, lambda a, b: a + jnp.sort(b, axis=0))
    (fault,) = check_operators(PAPER.only("identity", "add").with_binary(bad))
    assert fault.startswith("sorted: must be element-wise, but changing one element of input 2")


def test_identity_must_be_the_identity():
    bad = PAPER.only("sin", "add").with_unary(Operator("identity", 1, lambda x: 2.0 * x))
    assert check_operators(bad) == ["identity: must return its input, because text leaves it out"]


@pytest.mark.parametrize(
    "bad",
    [
        Operator("gelu", 1, lambda x: 2.0 * x),
        Operator("scale", 1, lambda x, p: p["beta"] * x, params=(Param("beta", 0.5),)),
        Operator("sigmoid", 1, lambda x, p: jax.nn.sigmoid(p["a"] * x), params=(Param("a"),)),
    ],
    ids=lambda operator: operator.name,
)
def test_a_built_in_name_means_the_built_in_operator(bad: Operator):
    (fault,) = check_operators(PAPER.only("identity", "add").with_unary(bad))
    assert fault.startswith(f"{bad.name}: is the name of a built-in operator")


def test_the_built_in_operator_may_be_written_again():
    again = Operator("gelu", 1, lambda x: 0.5 * x * (1.0 + jax.lax.erf(x / 2.0**0.5)))
    assert check_operators(PAPER.only("identity", "add").with_unary(again)) == []


def test_a_binary_operator_needs_a_gradient_by_each_input():
    bad = Operator("half_flat", 2, lambda a, b: a + jnp.sqrt(0.0 * b))
    assert check_operators([bad]) == [
        "half_flat: has a finite gradient by its second input nowhere on [−5, 5]"
    ]


def test_a_gradient_that_is_finite_only_where_the_value_is_not_does_not_count():
    @jax.custom_jvp
    def crossed(x):
        return jnp.where(x > 0, x, jnp.nan)

    crossed.defjvp(
        lambda x, t: (crossed(*x), jnp.where(x[0] > 0, jnp.nan, 1.0).astype(x[0].dtype) * t[0])
    )
    (fault,) = check_operators([Operator("crossed", 1, crossed)])
    assert fault.startswith("crossed: has a finite gradient by its input nowhere")


def test_an_examination_tells_what_was_passed_up_to_the_fault():
    sound = examine(PAPER["tanh"])
    assert (sound.passed, sound.fault) == (CHECKS, "")
    assert sound.cost is not None and 0.5 < sound.cost < 3.0
    bad = examine(Operator("mean", 1, lambda x: x - x.mean()))
    assert bad.passed == CHECKS[: CHECKS.index("element-wise")]
    assert bad.fault.startswith("must be element-wise") and bad.cost is None


def test_a_commutative_operator_must_commute():
    bad = Operator("less", 2, lambda a, b: a - 0.99 * b, commutative=True)
    assert check_operators([bad]) == [
        "less: is declared commutative, but gives other values when its inputs change places"
    ]
    assert check_operators([Operator("mean", 2, lambda a, b: (a + b) / 2, commutative=True)]) == []
