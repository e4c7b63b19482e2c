"""Known functions: their values, their names in every spelling, and their keys."""

from __future__ import annotations

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spaces import (
    CATALOGUE,
    PAPER,
    KnownNames,
    OperatorTable,
    Prober,
    SpecialisedForm,
    TracedForm,
    canonical,
    fingerprint_of,
    formula,
    known_function,
    parse,
)
from spaces.naming import catalogue_table

X = np.array([-4.2, -3.3, -2.1, -0.9, -0.31, 0.17, 0.8, 1.4, 2.6, 4.9])


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def _erf(x):
    return np.array([math.erf(value) for value in x])


AT_THE_START = {
    "relu": X * (X > 0),
    "lrelu": X * np.where(X > 0, 1.0, 0.01),
    "prelu": X * np.where(X > 0, 1.0, 0.25),
    "softplus": np.log1p(np.exp(X)),
    "elu": np.where(X > 0, X, np.expm1(X)),
    "selu": 1.05070098 * np.where(X > 0, X, 1.67326324 * np.expm1(X)),
    "gelu": X * 0.5 * (1.0 + _erf(X / np.sqrt(2.0))),
    "swish1": X * _sigmoid(X),
    "swish": X * _sigmoid(1.0 * X),
    "max_sigmoid": np.maximum(X, _sigmoid(X)),
    "cos_minus_x": np.cos(X) - X,
    "min_sin": np.minimum(X, np.sin(X)),
    "atan2_minus_x": np.arctan(X) ** 2 - X,
    "max_tanh": np.maximum(X, np.tanh(X)),
    "sinc_plus_x": np.sin(np.pi * X) / (np.pi * X) + X,
    "x_asinh2": X * np.arcsinh(X) ** 2,
    "x_asinh": X * np.arcsinh(X),
    "identity": X,
    "tanh": np.tanh(X),
    "sigmoid": _sigmoid(X),
}
"""Each known function at its initial values."""

OTHER_SPELLINGS = {
    "relu": "neg(min0(neg(x)))",
    "swish1": "mul(sigmoid(x), x)",
    "swish": "mul(x, sigmoid(scale(x)))",
    "cos_minus_x": "add(neg(x), cos(x))",
    "min_sin": "neg(max(neg(x), neg(sin(x))))",
    "atan2_minus_x": "sub(mul(atan(x), atan(x)), x)",
    "max_sigmoid": "max(sigmoid(x), identity(x))",
    "max_tanh": "max(tanh(x), x)",
    "sinc_plus_x": "add(x, sinc(x))",
    "x_asinh2": "mul(asinh(x), mul(asinh(x), x))",
    "x_asinh": "mul(asinh(x), x)",
    "gelu": "gelu(identity(x))",
    "identity": "neg(neg(x))",
    "tanh": "neg(tanh(neg(x)))",
    "sigmoid": "gate(x, gauss(sub(x, x)))",
    "softplus": "sub(softplus(x), sub(x, x))",
}


every_known = pytest.mark.parametrize("known", CATALOGUE, ids=lambda known: known.key)


@pytest.fixture(scope="module")
def evaluate() -> Any:
    """A compiled (candidate) → f(X) at the initial values, for every known function."""
    form = TracedForm(catalogue_table())

    @jax.jit
    def run(program):
        start = form.initial(program)
        beta = jnp.broadcast_to(start[:, :, None], (*start.shape, 1))
        return form(jnp.asarray(X[:, None], jnp.float32), beta, program)[:, 0]

    return lambda candidate: run(form.table.program(candidate))


@pytest.fixture(scope="module")
def names() -> KnownNames:
    return KnownNames()


def test_keys_and_titles_are_unique():
    assert len({known.key for known in CATALOGUE}) == len(CATALOGUE)
    assert len({known.title for known in CATALOGUE}) == len(CATALOGUE)
    assert all(re.fullmatch("[a-z][a-z0-9_]*", known.key) for known in CATALOGUE)
    assert [known.group for known in CATALOGUE] == sorted(
        (known.group for known in CATALOGUE), key=["baseline", "found", "shape"].index
    )


def test_the_baselines_of_the_papers_tables_are_there():
    assert [known.title for known in CATALOGUE if known.group == "baseline"] == [
        "ReLU", "LReLU", "PReLU", "Softplus", "ELU", "SELU", "GELU", "Swish-1", "Swish",
    ]  # fmt: skip


@every_known
def test_values_at_the_initial_vectors(known: Any, evaluate: Any):
    found = evaluate(known.candidate)
    np.testing.assert_allclose(found, AT_THE_START[known.key], rtol=2e-5, atol=2e-6)


@every_known
def test_values_in_the_specialised_form(known: Any):
    form = SpecialisedForm(
        OperatorTable.for_run(PAPER, core_units=1, extra=[known.candidate]), known.candidate
    )
    start = form.initial(form.table.program(known.candidate))
    beta = jnp.broadcast_to(start[:, :, None], (*start.shape, 1))
    found = form(jnp.asarray(X[:, None], jnp.float32), beta, form.table.program(known.candidate))
    np.testing.assert_allclose(found[:, 0], AT_THE_START[known.key], rtol=2e-5, atol=2e-6)


@every_known
def test_each_is_found_under_its_own_name(known: Any, names: KnownNames, prober: Prober):
    (probe,) = prober.probe([known.candidate])
    assert names.find(fingerprint_of(probe)) == known


@pytest.mark.parametrize(("key", "text"), OTHER_SPELLINGS.items())
def test_each_is_found_in_another_spelling(key: str, text: str, names: KnownNames, prober: Prober):
    (probe,) = prober.probe([parse(text, PAPER)])
    found = names.find(fingerprint_of(probe))
    assert found is not None
    assert found.key == key


@pytest.mark.parametrize(
    "text", ["scale(x)", "gate(scale(x), scale(x))", "sin(x)", "gate(x, scale(x))", "const(x)"]
)
def test_what_is_not_known_has_no_name(text: str, names: KnownNames, prober: Prober):
    (probe,) = prober.probe([parse(text, PAPER)])
    assert names.find(fingerprint_of(probe)) is None


@every_known
def test_each_is_canonical_or_has_a_canonical_form(known: Any):
    assert canonical(canonical(known.candidate, PAPER), PAPER) == canonical(known.candidate, PAPER)


@every_known
def test_a_baseline_can_run_beside_a_set_that_lacks_its_operators(known: Any):
    own = PAPER.only("sin", "add").named("own")
    table = OperatorTable.for_run(own, core_units=1, extra=[known.candidate])
    form = TracedForm(table)
    program = table.program(known.candidate)
    start = form.initial(program)
    beta = jnp.broadcast_to(start[:, :, None], (*start.shape, 1))
    with jax.disable_jit():  # one branch of each switch instead of a compilation
        found = form(jnp.asarray(X[:, None], jnp.float32), beta, program)[:, 0]
    np.testing.assert_allclose(found, AT_THE_START[known.key], rtol=2e-5, atol=2e-6)
    assert formula(known.candidate, own) == formula(known.candidate, PAPER)


def test_an_entry_is_found_by_its_key():
    assert known_function("swish").title == "Swish"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("swich1", "unknown baseline `swich1`: did you mean `swish1`?"),
        ("zzz", "unknown baseline `zzz`, must be one of relu, lrelu, prelu, softplus, elu, selu"),
    ],
)
def test_an_unknown_key_is_told_what_there_is(key: str, message: str):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        known_function(key)
