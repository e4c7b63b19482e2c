"""`@operator` reads an operator off a function, and refuses what it would have to guess."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spaces import PAPER, Notation, Operator, Param, check_operators, operator, parse, read_source
from spaces.export import ExportError, to_source

SCALE, BELOW = 0.5, -0.5
elsewhere = np


@operator
def bump(x):
    """A bump

    that goes on.
    """
    return SCALE * x * jnp.exp(-x * x)


@operator
def bend(x, *, alpha=0.25, delta=0.0):
    return jnp.maximum(x, alpha * (x + delta))


@operator(name="soft_max", commutative=True, torch="torch.logaddexp({a}, {b})", reference="here")
def either(first, second):
    """There."""
    return jnp.logaddexp(first, second)


def test_fields_are_read_off_the_function():
    assert (bump.name, bump.arity, bump.params, bump.reference) == ("bump", 1, (), "A bump")
    assert (bend.arity, bend.params) == (1, (Param("alpha", 0.25), Param("delta", 0.0)))
    assert (either.name, either.arity, either.commutative) == ("soft_max", 2, True)
    assert (either.torch, either.reference) == ("torch.logaddexp({a}, {b})", "here")
    assert (bump.sympy, bump.torch, bump.notation) == (None, None, None)


def test_vectors_reach_the_function_by_name():
    x = jnp.array([-2.0, 3.0])
    assert bend(x).tolist() == [-0.5, 3.0]
    params = {"delta": jnp.array([1.0, 1.0]), "alpha": jnp.array([0.5, 2.0])}
    assert bend(x, params=params).tolist() == [-0.5, 8.0]
    assert check_operators([bump, bend, either]) == []


def test_a_body_of_one_return_is_the_source_form():
    assert bump.jax == "0.5 * {a} * jnp.exp(-{a} * {a})"
    assert bend.jax == "jnp.maximum({a}, <alpha> * ({a} + <delta>))"
    assert either.jax == "jnp.logaddexp({a}, {b})"


def test_what_is_exported_is_what_was_written():
    operators = PAPER.only("identity", "mul").with_(bump, bend)
    text = to_source(parse("mul(bump(x), bend(x))", operators), operators, to="jax")
    made: dict[str, Any] = {}
    exec(text, made)
    x, params = jnp.linspace(-3, 3, 7), {"alpha": 0.3, "delta": 0.2}
    np.testing.assert_allclose(
        made["activation"](x, **params), bump(x) * bend(x, params=params), rtol=1e-6
    )
    with pytest.raises(ExportError, match="operators `bend`, `bump` have no torch form"):
        to_source(parse("mul(bump(x), bend(x))", operators), operators, to="torch")


def _two_lines(x):
    y = x * x
    return y + x


def _other_module(x):
    return elsewhere.tanh(x)


def _other_function(x):
    return _two_lines(x)


def _negative_constant(x):
    return BELOW * x


def _comprehension(x):
    return sum(x * n for n in (1, 2))


@pytest.mark.parametrize(
    "fn", [_two_lines, _other_module, _other_function, _negative_constant, _comprehension]
)
def test_a_body_that_needs_more_has_no_source_form(fn):
    assert operator(name="f")(fn).jax is None


def test_a_closure_has_no_source_form():
    factor = math.pi

    def turned(x):
        return factor * x

    assert operator(turned).jax is None


def test_a_form_that_is_given_beats_the_body():
    @operator(jax="jax.nn.relu({a})", notation=Notation("r([a])", "r"))
    def own(x):
        return jnp.maximum(x, 0)

    assert own.jax == "jax.nn.relu({a})"
    assert own.notation == Notation("r([a])", "r")


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (lambda: 1, "must have 1 or 2 inputs, its function has 0"),
        (lambda a, b, c: a, "must have 1 or 2 inputs, its function has 3"),
        (lambda *xs: xs[0], "must name its arguments, got `*xs`"),
        (lambda x, **more: x, "must name its arguments, got `**more`"),
        (lambda x, *, beta: x, "trainable vector `beta` needs its initial value, `*, beta=1.0`"),
        (lambda x, beta=2.0: x, "write `*, beta=2.0` if it shall be trained"),
        (lambda x, *, beta="a": x, "`init` of parameter 'beta' must be a finite number, got 'a'"),
        (lambda x, *, beta=math.nan: x, "`init` of parameter 'beta' must be a finite number"),
        (lambda x, *, Beta=1.0: x, "a parameter's `name` must match"),
    ],
)
def test_a_signature_that_would_have_to_be_guessed_is_refused(fn, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        operator(name="f")(fn)


def test_a_lambda_needs_a_name():
    with pytest.raises(ValueError, match="an operator's `name` must match"):
        operator(lambda x: x)


def test_what_is_no_function_is_refused():
    with pytest.raises(ValueError, match="makes an operator of a function, got 3"):
        operator(3)  # type: ignore[call-overload]  # what is tested


def test_jax_s_own_functions_can_be_taken():
    mish = operator(name="mish")(jax.nn.mish)
    assert isinstance(mish, Operator) and check_operators([mish]) == []


def test_a_file_s_operators_have_their_source_even_when_the_file_is_gone(tmp_path: Path):
    path = tmp_path / "ops.py"
    path.write_text(
        "import jax.numpy as jnp\nfrom spaces import PAPER, operator\n\n"
        "@operator\ndef double(x):\n    return 2 * x\n\nOPS = PAPER.with_(double)\n"
    )
    source = read_source(str(path))
    path.unlink()
    assert source.load()["double"].jax == "2 * {a}"
