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


FAULTS: list[tuple[str, Any, tuple[Param, ...], str]] = [
    ("raises", _raising, (), "cannot be evaluated and differentiated by JAX (RuntimeError: not today)"),
    ("two_inputs", lambda a, b: a, (), "cannot be evaluated and differentiated by JAX (TypeError: "),
    ("no_params", lambda x: x, _beta(), "cannot be evaluated and differentiated by JAX (TypeError: "),
    ("other_name", lambda x, p: p["gamma"] * x, _beta(), "cannot be evaluated and differentiated by JAX (KeyError: 'gamma')"),
    ("in_numpy", lambda x: np.tanh(np.asarray(x)), (), "cannot be evaluated and differentiated by JAX (TracerArrayConversionError"),
    ("branches", lambda x: x if x.sum() > 0 else -x, (), "cannot be evaluated and differentiated by JAX (TracerBoolConversionError"),
    ("all_nan", lambda x: x * jnp.nan, (), "is finite nowhere on [−5, 5]"),
    ("all_infinite", lambda x: x + jnp.inf, (), "is finite nowhere on [−5, 5]"),
    ("reduces", lambda x: x.sum(axis=-1), (), "must keep the shape of its input (12, 8), returned (12,)"),
    ("widens", lambda x: x[..., None], (), "must keep the shape of its input (12, 8), returned (12, 8, 1)"),
    ("number", lambda x: 1.0, (), "must keep the shape of its input (12, 8), returned float"),
    ("pair", lambda x: (x, x), (), "must keep the shape of its input (12, 8), returned tuple"),
    ("integer", lambda x: x.astype(jnp.int32), (), "must keep the dtype of its input float32, returned int32"),
    ("lower", lambda x: x.astype(jnp.bfloat16), (), "must keep the dtype of its input float32, returned bfloat16"),
    ("softmax", lambda x: jax.nn.softmax(x), (), "must be element-wise, but changing one element of input 1 changed 7 others"),
    ("centred", lambda x: x - x.mean(), (), "must be element-wise, but changing one element of input 1 changed 95 others"),
    ("scaled", _at_the_place_of_the_largest, (), "must be element-wise, but changing one element of input 1 changed"),
    ("rolled", lambda x: jnp.roll(x, 1, axis=-1), (), "must be element-wise, but changing one element of input 1 changed 1 others"),
    ("mixed_vector", lambda x, p: x * jnp.mean(p["beta"]), _beta(), "must be element-wise, but changing 'beta' of one channel changed other channels"),
    ("random", lambda x: x + np.float32(np.random.default_rng().normal()), (), "must be pure, but gives other values when called again"),
    ("counting", lambda x: x + np.float32(next(_calls)), (), "must be pure, but gives other values when called again"),
    ("no_gradient", _without_gradient, (), "has a finite gradient nowhere on [−5, 5]"),
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
