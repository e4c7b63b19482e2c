"""Each operator against float64 NumPy, finite differences, SymPy and PyTorch; and its edges."""

from __future__ import annotations

import importlib
import math
import os
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy

from spaces import PAPER, Notation, Operator, Param, operator_formula
from spaces.catalogue import HIDDEN

OPERATORS = [*PAPER, *(operator for operator in HIDDEN if operator.name not in PAPER)]
X = np.array([-3.07, -2.41, -1.13, -0.52, -0.083, 0.071, 0.64, 1.29, 1.93, 2.86])
Y = np.array([1.37, -2.9, 0.45, -0.77, 0.62, 2.2, -1.61, -0.33, 2.51, 0.19])
VECTOR = np.linspace(0.35, 1.61, X.size)
"""Values of a trainable vector, none of them its initial value."""

every_operator = pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: o.name)


def _inputs(operator: Operator) -> tuple[np.ndarray, ...]:
    return (X, Y)[: operator.arity]


def _params(operator: Operator) -> dict[str, np.ndarray]:
    return {param.name: VECTOR + 0.1 * i for i, param in enumerate(operator.params)}


def test_the_names_are_those_of_the_paper():
    assert " ".join(operator.name for operator in PAPER.unary) == (
        "identity neg abs square cube sqrt scale shift log_abs exp sin cos sinh cosh tanh asinh "
        "atan sinc relu min0 sigmoid softplus gauss erf const"
    )
    assert " ".join(operator.name for operator in PAPER.binary) == (
        "add mul sub div max min gate rbf laplace mix"
    )


def test_the_trainable_vectors_are_those_of_the_paper():
    found = {o.name: [(p.name, p.init) for p in o.params] for o in PAPER if o.params}
    beta = [("beta", 1.0)]
    assert found == dict.fromkeys(["scale", "shift", "const", "rbf", "laplace", "mix"], beta)


@every_operator
def test_values_in_float64(operator: Operator, oracle: Any):
    expected = oracle.operator(operator.name, *_inputs(operator), **_params(operator))
    with jax.enable_x64(True):
        found = operator(
            *map(jnp.asarray, _inputs(operator)),
            params={name: jnp.asarray(value) for name, value in _params(operator).items()},
        )
        assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@every_operator
def test_values_in_float32(operator: Operator, oracle: Any):
    inputs = [np.float32(value) for value in _inputs(operator)]
    params = {name: np.float32(value) for name, value in _params(operator).items()}
    found = operator(
        *map(jnp.asarray, inputs), params={n: jnp.asarray(v) for n, v in params.items()}
    )
    expected = oracle.operator(
        operator.name,
        *(np.float64(value) for value in inputs),
        **{name: np.float64(value) for name, value in params.items()},
    )
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@every_operator
def test_gradients_of_inputs_and_vectors(operator: Operator, oracle: Any):
    inputs, params = list(_inputs(operator)), _params(operator)
    with jax.enable_x64(True):
        _, pull_back = jax.vjp(
            lambda inputs, params: operator(*inputs, params=params),
            [jnp.asarray(value) for value in inputs],
            {name: jnp.asarray(value) for name, value in params.items()},
        )
        slopes, pulls = pull_back(jnp.ones(X.shape))
    step = 1e-6

    def difference(move):
        up = oracle.operator(operator.name, *move(step)[0], **move(step)[1])
        down = oracle.operator(operator.name, *move(-step)[0], **move(-step)[1])
        return (up - down) / (2.0 * step)

    for place, slope in enumerate(slopes):
        expected = difference(
            lambda h, place=place: (
                [v + h * (i == place) for i, v in enumerate(inputs)],
                params,
            )
        )
        np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-7)
    for name, pull in pulls.items():
        expected = difference(
            lambda h, name=name: (inputs, params | {name: params[name] + h}),
        )
        np.testing.assert_allclose(pull, expected, rtol=1e-6, atol=1e-7)


@every_operator
def test_the_sympy_form_is_the_same_function(operator: Operator, oracle: Any):
    assert operator.sympy is not None
    names = sympy.symbols("a b", real=True)[: operator.arity]
    vectors = {param.name: sympy.Symbol(param.name, real=True) for param in operator.params}
    expression = sympy.sympify(operator.sympy(*names, *([vectors] if vectors else [])))
    compared = 0
    for i in range(X.size):
        inputs = [float(value[i]) for value in _inputs(operator)]
        params = {name: float(value[i]) for name, value in _params(operator).items()}
        expected = float(oracle.operator(operator.name, *inputs, **params))
        if math.isnan(expected):
            continue
        point = dict(zip(names, inputs, strict=True)) | {vectors[n]: v for n, v in params.items()}
        assert float(expression.evalf(20, subs=point)) == pytest.approx(expected, rel=1e-9)
        compared += 1
    assert compared >= 5


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError:
        if os.environ.get("ACTSEARCH_REQUIRE_PEERS"):
            pytest.fail("ACTSEARCH_REQUIRE_PEERS is set and torch is not installed")
        pytest.skip("torch is not installed")


@every_operator
def test_the_torch_form_is_the_same_function(operator: Operator, oracle: Any):
    torch = _torch()
    assert operator.torch is not None
    code = re.sub(r"<(\w+)>", r"\1", operator.torch.replace("{a}", "a").replace("{b}", "b"))
    names = dict(zip("ab", _inputs(operator), strict=False)) | _params(operator)
    values = {name: torch.tensor(value, dtype=torch.float64) for name, value in names.items()}
    found = eval(code, {"torch": torch}, values)  # our own table's text
    expected = oracle.operator(operator.name, *_inputs(operator), **_params(operator))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [("softplus", 100.0, 100.0), ("softplus", -100.0, 0.0), ("sigmoid", -200.0, 0.0)],
)
def test_the_torch_form_far_out(name: str, x: float, expected: float):
    torch = _torch()
    code = str(PAPER[name].torch).replace("{a}", "a")
    found = eval(code, {"torch": torch}, {"a": torch.tensor([x])})  # our own table's text
    assert float(found[0]) == pytest.approx(expected, abs=1e-30)


@every_operator
def test_both_notations_name_every_operand_and_vector(operator: Operator):
    notation = operator.notation
    assert notation is not None
    operands = {"const": set(), "first": {"a"}}.get(operator.name, set("ab"[: operator.arity]))
    for template in (notation.text, notation.latex):
        assert set(re.findall(r"[{\[]([ab])[:\d+]*[}\]]", template)) == operands
        assert set(re.findall(r"<(\w+)>", template)) == {p.name for p in operator.params}
    assert 1 <= notation.level <= 4


@every_operator
def test_commutative_says_whether_operands_may_be_exchanged(operator: Operator, oracle: Any):
    if operator.arity == 1:
        assert not operator.commutative
        return
    straight = oracle.operator(operator.name, X, Y, **_params(operator))
    crossed = oracle.operator(operator.name, Y, X, **_params(operator))
    assert np.array_equal(straight, crossed) == operator.commutative


@every_operator
def test_every_operator_says_where_it_comes_from(operator: Operator):
    assert operator.reference or operator.name == "first"


@pytest.mark.parametrize(
    ("name", "inputs", "expected"),
    [
        ("sqrt", (-1e-30,), math.nan),
        ("sqrt", (-2.0,), math.nan),
        ("sqrt", (0.0,), 0.0),
        ("div", (1.0, 0.0), 1e7),
        ("div", (-3.0, 0.0), -3e7),
        ("div", (1.0, -1e-7), math.inf),
        ("div", (-1.0, -1e-7), -math.inf),
        ("div", (0.0, 0.0), 0.0),
        ("softplus", (100.0,), 100.0),
        ("softplus", (1e4,), 1e4),
        ("softplus", (0.0,), math.log(2.0)),
        ("sinh", (100.0,), math.inf),
        ("sinh", (-100.0,), -math.inf),
        ("cosh", (-100.0,), math.inf),
        ("exp", (100.0,), math.inf),
        ("log_abs", (0.0,), math.log(1e-7)),
        ("sinc", (0.0,), 1.0),
        ("sigmoid", (-200.0,), 0.0),
        ("sigmoid", (200.0,), 1.0),
        ("asinh", (1e20,), math.asinh(1e20)),
        ("asinh", (-1e4,), math.asinh(-1e4)),
        ("gate", (-200.0, 3.0), 0.0),
        ("gauss", (50.0,), 0.0),
        ("tanh", (100.0,), 1.0),
    ],
)
def test_values_at_the_edges(name: str, inputs: tuple[float, ...], expected: float):
    found = PAPER[name](*(jnp.full((1,), value, jnp.float32) for value in inputs))
    assert float(found[0]) == pytest.approx(expected, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("softplus", 100.0, 1.0),
        ("softplus", -100.0, 0.0),
        ("softplus", 0.0, 0.5),
        ("sinh", 80.0, math.cosh(80.0)),
        ("sigmoid", 200.0, 0.0),
        ("sigmoid", -200.0, 0.0),
        ("tanh", 200.0, 0.0),
        ("sinc", 0.0, 0.0),
        ("gauss", 50.0, 0.0),
        ("erf", 0.0, 2.0 / math.sqrt(math.pi)),
        ("asinh", -1e4, 1e-4),
        ("sqrt", -1.0, math.nan),
        ("sqrt", 0.0, math.inf),
    ],
)
def test_gradients_at_the_edges(name: str, x: float, expected: float):
    found = float(jax.grad(PAPER[name])(jnp.asarray(x, jnp.float32)))
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-30, nan_ok=True)


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [("abs", -1, 1), ("relu", 0, 1), ("min0", 0, 1), ("log_abs", -1e7, 1e7), ("lrelu", 0, 1)],
)
def test_a_kink_at_0_has_a_slope_between_those_beside_it(name: str, lowest: float, highest: float):
    operator = next(operator for operator in OPERATORS if operator.name == name)
    assert lowest <= float(jax.grad(operator)(jnp.float32(0.0))) <= highest * 1.0001


def test_softplus_far_out_on_the_left_is_small_and_not_negative():
    assert 0.0 <= float(PAPER["softplus"](jnp.float32(-100.0))) < 1e-30
    assert 0.0 < float(PAPER["softplus"](jnp.float32(-80.0))) < 1e-30


@pytest.mark.parametrize(
    ("name", "shown"),
    [("scale", "βx"), ("gate", "y · σ(x)"), ("rbf", "exp(−β(x − y)²)"), ("const", "β")],
)
def test_an_operator_alone_is_written_on_x_and_y(name: str, shown: str):
    assert operator_formula(PAPER[name]) == shown


def test_an_operator_without_notation_is_written_as_a_call():
    bent = Operator("bent", 2, lambda a, b, p: a, params=(Param("alpha"), Param("knee")))
    assert operator_formula(bent) == "bent(x, y; α; knee)"


def _fn(x):
    return x


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "Swish"}, "`name` must match .* got 'Swish'"),
        ({"name": ""}, "`name` must match .* got ''"),
        ({"name": "a" * 33}, "at most 32 characters"),
        ({"name": "ok\n"}, "`name` must match"),
        ({"name": "x"}, "must not be called 'x'"),
        ({"name": "u12"}, "must not be called 'u12'"),
        ({"arity": 3}, "`arity` of operator 'own' must be 1 or 2, got 3"),
        ({"fn": 7}, "`fn` of operator 'own' must be a function, got 7"),
        ({"params": (Param("beta"), Param("beta"))}, "two parameters of one name"),
        ({"commutative": True}, "'own' is unary and cannot be commutative"),
        (
            {"notation": Notation("{a} + {b:2+}", "{a}")},
            "'own' is unary and its `notation` must not",
        ),
        (
            {"notation": Notation("{a}", "f([a], [b])")},
            "'own' is unary and its `notation` must not",
        ),
    ],
)
def test_an_impossible_operator_is_refused(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Operator(**({"name": "own", "arity": 1, "fn": _fn} | fields))


@pytest.mark.parametrize("init", [math.nan, math.inf, -math.inf, "1", None])
def test_an_initial_value_must_be_finite(init: Any):
    with pytest.raises(ValueError, match="`init` of parameter 'beta' must be a finite number"):
        Param("beta", init=init)


@pytest.mark.parametrize("name", ["", "Beta", "9a", "β"])
def test_a_parameter_needs_a_plain_name(name: str):
    with pytest.raises(ValueError, match="parameter's `name` must match"):
        Param(name)


def test_a_call_without_vectors_takes_the_initial_ones():
    power = Operator("power", 1, lambda x, p: p["k"] * x, params=(Param("k", init=3.0),))
    assert float(power(jnp.float32(2.0))) == 6.0
    assert float(power(jnp.float32(2.0), params={"k": 5.0})) == 10.0


def test_an_operator_cannot_be_changed():
    with pytest.raises(AttributeError):
        PAPER["relu"].name = "other"  # type: ignore[misc]  # what is tested
    assert Notation("{a}", "{a}").level == 4
