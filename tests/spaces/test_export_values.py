"""Every export is run in a namespace of its own and compared with the form that is trained.

Everything is computed in float64. What two correct programs may differ by depends on the function:
sin(x³·exp(x)) has no digits left where its argument is 10⁶, x + sin(x) has all of them. So the
reference is computed three times more with every operator's result off by one or two units in the
last place, and `SAFETY` times what that changes is the tolerance at each point, at least `FLOOR` of
the value's size; a test of its own says that it stays tight. Letters: `B H W C` as in images.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spaces import (
    CATALOGUE,
    PAPER,
    Candidate,
    Operator,
    OperatorTable,
    Prober,
    SearchSpace,
    SpecialisedForm,
    canonical,
    parse,
    run_preflight,
    to_source,
)
from spaces.catalogue import HIDDEN, known_operators
from spaces.function import compose

SHAPE = (2, 4, 5, 3)
"""B, H, W and C."""
SAFETY = 64.0
FLOOR = 1e-11
DRAWN = {1: 70, 2: 70, 3: 60}
"""How many random candidates of so many core units."""

ALONE = [
    *(f"{operator.name}(x)" for operator in PAPER.unary if operator.name != "identity"),
    *(f"{operator.name}(sin(x), x)" for operator in PAPER.binary),
    *(f"{operator.name}(cos(x))" for operator in HIDDEN if operator.arity == 1),
    *(known.expression for known in CATALOGUE),
]
"""Every operator by itself, and every known function."""
WRITTEN_OTHERWISE = [
    "mul(x, sigmoid(scale(x)))",
    "add(relu(x), scale(min0(x)))",
    "neg(min0(neg(x)))",
    "div(square(x), x)",
    "u1 = mix(x, sin(x)); mul(u1, sigmoid(u1))",
    "u1 = sub(neg(x), shift(x)); laplace(u1, sinh(u1))",
    "mul(mul(x, x), mul(x, x))",
    "max(max(abs(neg(x)), relu(x)), x)",
    "prelu(mul(x, cos(x)))",
    "u1 = sin(x); add(const(u1), mul(x, const(u1)))",
]
"""What simplification, recognition and named intermediates have something to do with."""


@functools.cache
def _drawn() -> tuple[Candidate, ...]:
    """Random candidates that pass pre-flight, the same every time."""
    found = []
    for units, count in DRAWN.items():
        space, rng = SearchSpace(PAPER, units), np.random.default_rng(20171016 + units)
        prober = Prober(OperatorTable.for_run(PAPER, core_units=units))
        while count:
            candidate = canonical(space.candidate(space.sample(rng)), PAPER)
            if run_preflight(prober.probe([candidate])[0])[0] == "ok":
                found.append(candidate)
                count -= 1
    return tuple(found)


@functools.cache
def _by_hand() -> tuple[Candidate, ...]:
    texts = dict.fromkeys(str(canonical(parse(t, PAPER), PAPER)) for t in ALONE + WRITTEN_OTHERWISE)
    return tuple(parse(text, PAPER) for text in texts)


@dataclass(frozen=True)
class Expected:
    """What an export has to give."""

    x: np.ndarray
    """`[B, H, W, C]`: in [−8, 8], without points where something is not finite."""
    beta: np.ndarray
    """`[V, C]`, every value another."""
    value: np.ndarray
    """`[B, H, W, C]`."""
    slope: np.ndarray
    """∂ Σ w·f / ∂x `[B, H, W, C]`."""
    pull: np.ndarray
    """∂ Σ w·f / ∂β `[V, C]`."""
    value_off: np.ndarray
    slope_off: np.ndarray
    pull_off: np.ndarray
    largest: np.ndarray
    """`[B, H, W, C]`: of the sizes of all intermediate results."""


WEIGHT = np.random.default_rng(1).uniform(0.5, 1.5, SHAPE)
"""w: one weight per element, so that elements cannot change places unseen."""


def _specialised(candidate: Candidate, x: np.ndarray, beta: np.ndarray) -> tuple[Any, ...]:
    """Value, slope and pull of the form that is trained."""
    table = OperatorTable.for_run(PAPER, core_units=len(candidate.units), extra=[candidate])
    form = SpecialisedForm(table, candidate, dtype=jnp.float64)
    places = table.occurrences(candidate)
    full = np.zeros((table.slots, table.vectors, x.shape[-1]))
    for place, row in zip(places, beta, strict=True):
        full[place.slot, place.vector] = row
    program = table.program(candidate)
    value, pull_back = jax.vjp(lambda x, full: form(x, full, program), jnp.asarray(x), full)
    slope, pulls = pull_back(jnp.asarray(WEIGHT))
    return value, slope, np.array([pulls[p.slot, p.vector] for p in places]).reshape(beta.shape)


def _composed(
    candidate: Candidate,
    x: Any,
    beta: Any,
    around: Callable[[str, Any], Any],
    instead: Mapping[str, Callable[..., Any]] | None = None,
) -> Any:
    """f(x) with every operator's result passed through `around`, some operators being others."""
    known = known_operators(PAPER)
    slots: dict[int, dict[str, Any]] = {}
    for index, unit in enumerate(candidate.units):
        names = (unit.unary1, unit.unary2, unit.binary)
        for place, name in enumerate(names[:1] if unit.binary == "first" else names):
            for param in known[name].params:
                row = beta[len(slots)]
                slots[3 * index + place] = {
                    param.name: row[None, None, None] if row.ndim == 1 else row
                }

    def wrapped(operator: Operator) -> Operator:
        fn = (instead or {}).get(operator.name, operator.fn)
        return replace(operator, fn=lambda *inputs: around(operator.name, fn(*inputs)))

    used = {name: wrapped(operator) for name, operator in known.items()}
    return jnp.broadcast_to(compose(candidate, used, x, slots.__getitem__), x.shape)


def _disturbed(
    candidate: Candidate, x: np.ndarray, beta: np.ndarray, rng: np.random.Generator
) -> tuple[Any, ...]:
    """Value, slope and pull with an error in the last place of each operator's result."""

    def shaken(_: str, value: Any) -> Any:
        return value * (1.0 + rng.choice([-1.0, 1.0], SHAPE) * rng.uniform(2e-16, 4e-16, SHAPE))

    def f(x: Any, beta: Any) -> Any:
        return _composed(candidate, x, beta, shaken)

    value, pull_back = jax.vjp(f, jnp.asarray(x), jnp.asarray(beta))
    return value, *pull_back(jnp.asarray(WEIGHT))


def _largest(candidate: Candidate, x: np.ndarray, beta: np.ndarray) -> np.ndarray:
    largest = np.zeros(SHAPE)

    def note(_: str, value: Any) -> Any:
        np.maximum(largest, np.nan_to_num(np.abs(value), nan=np.inf), out=largest)
        return value

    _composed(candidate, jnp.asarray(x), jnp.asarray(beta), note)
    return largest


def _usable(candidate: Candidate, x: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Where value and gradients are finite, bool `[B, H, W, C]`."""
    full = jnp.asarray(np.broadcast_to(beta[:, None, None, None, :], (len(beta), *SHAPE)))
    value, pull_back = jax.vjp(
        lambda x, beta: _composed(candidate, x, beta, lambda _, value: value), jnp.asarray(x), full
    )
    slope, pulls = pull_back(jnp.ones_like(value))
    return np.isfinite(value) & np.isfinite(slope) & np.isfinite(pulls).all(axis=0)


@functools.cache
def _expected(candidate: Candidate) -> Expected:
    candidate = candidate.pruned()
    rng = np.random.default_rng(7)
    x = rng.uniform(-8.0, 8.0, SHAPE)
    table = OperatorTable.for_run(PAPER, core_units=len(candidate.units), extra=[candidate])
    count = len(table.occurrences(candidate))
    beta = 0.6 + 0.13 * np.arange(count * SHAPE[-1]).reshape(count, SHAPE[-1]) % 0.9
    with jax.enable_x64(True), np.errstate(all="ignore"):
        usable = _usable(candidate, x, beta)
        assert usable.sum(axis=(0, 1, 2)).min() >= 10, f"{candidate} is hardly anywhere finite"
        for channel in range(SHAPE[-1]):  # what is not finite gives way to what is
            good = x[..., channel][usable[..., channel]]
            x[..., channel] = np.resize(good, SHAPE[:-1])
        exact = [np.asarray(each) for each in _specialised(candidate, x, beta)]
        shaken = [_disturbed(candidate, x, beta, rng) for _ in range(3)]
        largest = _largest(candidate, x, beta)
    value_off, slope_off, pull_off = (
        SAFETY * np.max([np.abs(np.asarray(each[place]) - exact[place]) for each in shaken], axis=0)
        + FLOOR * (1.0 + np.abs(exact[place]))
        for place in range(3)
    )
    value, slope, pull = exact
    return Expected(x, beta, value, slope, pull, value_off, slope_off, pull_off, largest)


def _compare(candidate: Candidate, expected: Expected, found: tuple[Any, ...]) -> list[str]:
    """What is wrong, as text."""
    wanted = (expected.value, expected.slope, expected.pull)
    allowed = (expected.value_off, expected.slope_off, expected.pull_off)
    wrong = []
    for what, each, right, off in zip(("f", "f′", "∂f/∂β"), found, wanted, allowed, strict=True):
        each = np.asarray(each)
        if each.shape != right.shape:
            wrong.append(f"{candidate}: {what} has shape {each.shape}, not {right.shape}")
        elif right.size and not np.all(np.abs(each - right) <= off):
            ratio = np.nanmax(np.where(np.isnan(each), np.inf, np.abs(each - right) / off))
            wrong.append(f"{candidate}: {what} is off by {ratio:.3g} times the tolerance")
    return wrong


def _run(source: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "exported"}
    exec(compile(source, "exported.py", "exec"), namespace)  # our own text
    return namespace


def _orders(names: Iterable[str], expected: Expected) -> list[int]:
    """Rows of `beta` that vectors of these names are; the others have no influence at all.

    Those stand inside the operand of `const`, which does not depend on it.
    """
    orders = [int(name.partition("_")[2] or 1) - 1 for name in names]
    missing = set(range(len(expected.beta))) - set(orders)
    assert len(set(orders)) == len(orders) and not expected.pull[sorted(missing)].any()
    return orders


def _pull(rows: Iterable[Any], orders: list[int], expected: Expected) -> np.ndarray:
    pull = np.zeros_like(expected.beta)
    for order, row in zip(orders, rows, strict=True):
        pull[order] = row
    return pull


def _jax(candidate: Candidate, expected: Expected) -> tuple[Any, ...]:
    exported = _run(to_source(candidate, PAPER, to="jax", name="act"))
    act = exported["act"]
    names = list(inspect.signature(act).parameters)[1:]
    orders = _orders(names, expected)
    assert list(exported["init_act"](SHAPE[-1]) if names else {}) == names

    def f(x: Any, beta: Any) -> Any:
        return act(x, **{name: beta[order] for name, order in zip(names, orders, strict=True)})

    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        value, pull_back = jax.vjp(f, jnp.asarray(expected.x), jnp.asarray(expected.beta))
        return value, *pull_back(jnp.asarray(WEIGHT))


def _flax(candidate: Candidate, expected: Expected) -> tuple[Any, ...]:
    nnx = importlib.import_module("flax.nnx")
    kind = _run(to_source(candidate, PAPER, to="flax", name="Act"))["Act"]
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        module = kind(SHAPE[-1]) if "__init__" in vars(kind) else kind()
        names = list(nnx.to_pure_dict(nnx.state(module, nnx.Param)))
        orders = _orders(names, expected)
        for name, order in zip(names, orders, strict=True):
            assert getattr(module, name)[...].shape == SHAPE[-1:]
            getattr(module, name)[...] = jnp.asarray(expected.beta[order])
        graph, state = nnx.split(module)
        value, pull_back = jax.vjp(
            lambda state, x: nnx.merge(graph, state)(x), state, jnp.asarray(expected.x)
        )
        pulls, slope = pull_back(jnp.asarray(WEIGHT))
        return value, slope, _pull([pulls[name][...] for name in names], orders, expected)


def _torch_module() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError:
        if os.environ.get("ACTSEARCH_REQUIRE_PEERS"):
            pytest.fail("ACTSEARCH_REQUIRE_PEERS is set and torch is not installed")
        pytest.skip("torch is not installed")


def _torch(candidate: Candidate, expected: Expected, *, flat: bool = False) -> tuple[Any, ...]:
    """On (N, C, H, W), or on (N, C)."""
    torch = _torch_module()
    kind = _run(to_source(candidate, PAPER, to="torch", name="Act"))["Act"]
    module = (kind(SHAPE[-1]) if "__init__" in vars(kind) else kind()).double()
    names = [name for name, _ in module.named_parameters()]
    parameters = list(module.parameters())
    orders = _orders(names, expected)
    with torch.no_grad():
        for parameter, order in zip(parameters, orders, strict=True):
            parameter.copy_(torch.tensor(expected.beta[order]))

    def there(values: np.ndarray) -> Any:
        moved = values.reshape(-1, SHAPE[-1]) if flat else np.moveaxis(values, -1, 1)
        return torch.tensor(np.ascontiguousarray(moved))

    def back(values: Any) -> np.ndarray:
        values = values.detach().numpy()
        return values.reshape(SHAPE) if flat else np.moveaxis(values, 1, -1)

    x = there(expected.x).requires_grad_()
    value = module(x)
    value.backward(there(WEIGHT))
    pull = _pull([parameter.grad.numpy() for parameter in parameters], orders, expected)
    slope = torch.zeros_like(x) if x.grad is None else x.grad  # None: it does not depend on x
    return back(value), back(slope), pull


@pytest.mark.parametrize("candidates", [_by_hand, _drawn], ids=["by_hand", "drawn"])
@pytest.mark.parametrize("target", [_jax, _flax], ids=["jax", "flax"])
def test_jax_and_flax_channels_last(target: Any, candidates: Any):
    wrong = []
    for candidate in candidates():
        expected = _expected(candidate)
        wrong += _compare(candidate, expected, target(candidate, expected))
    assert not wrong, "\n".join(wrong)


def _as_in_torch(candidate: Candidate, expected: Expected) -> Expected:
    """PyTorch's softplus is its operand above 20, by e⁻²⁰ = 2.1e-9 less than log(1 + eᶻ)."""
    if "softplus" not in str(candidate):
        return expected

    def f(x: Any, beta: Any) -> Any:
        known = {"softplus": lambda z: jnp.where(z > 20.0, z, jax.nn.softplus(z))}
        return _composed(candidate.pruned(), x, beta, lambda _, value: value, known)

    with jax.enable_x64(True):
        value, pull_back = jax.vjp(f, jnp.asarray(expected.x), jnp.asarray(expected.beta))
        found = map(np.asarray, (value, *pull_back(jnp.asarray(WEIGHT))))
    return replace(expected, **dict(zip(("value", "slope", "pull"), found, strict=True)))


@pytest.mark.parametrize("candidates", [_by_hand, _drawn], ids=["by_hand", "drawn"])
def test_torch_channels_first(candidates: Any):
    wrong = []
    for candidate in candidates():
        expected = _as_in_torch(candidate, _expected(candidate))
        wrong += _compare(candidate, expected, _torch(candidate, expected))
        wrong += _compare(candidate, expected, _torch(candidate, expected, flat=True))
    assert not wrong, "\n".join(wrong)


SYMPY_POINTS = 9
"""How many points of each candidate SymPy is asked for, at 40 digits."""


def test_sympy_at_forty_digits():
    """Slopes by differences of 1e-15, which at 40 digits are exact for float64."""
    mpmath, sympy = importlib.import_module("mpmath"), importlib.import_module("sympy")
    wrong, points = [], 0
    for candidate in (*_by_hand(), *_drawn()):
        expected = _expected(candidate)
        exported = _run(to_source(candidate, PAPER, to="sympy", name="act"))
        symbols = [exported["x"]]
        names = [name for name in exported if name.partition("_")[0] in ("alpha", "beta")]
        orders = _orders(names, expected)
        symbols += [exported[name] for name in names]
        act = sympy.lambdify(symbols, exported["act"], "mpmath")
        calm = expected.largest < 1e60  # exp of exp of exp has no end at 40 digits
        places = [tuple(place) for place in np.argwhere(calm)]
        for b, h, w, c in places[:: max(1, len(places) // SYMPY_POINTS)]:
            at = [expected.x[b, h, w, c], *(expected.beta[order, c] for order in orders)]
            with mpmath.workdps(40):
                step = mpmath.mpf("1e-15")

                def moved(place: int, by: Any, at: list[Any] = at, act: Any = act) -> Any:
                    return act(*(mpmath.mpf(v) + by * (i == place) for i, v in enumerate(at)))

                value = moved(0, 0)
                slope = (moved(0, step) - moved(0, -step)) / (2 * step)
                slope *= WEIGHT[b, h, w, c]
            off = abs(float(value) - expected.value[b, h, w, c])
            if not off <= expected.value_off[b, h, w, c]:
                wrong.append(f"{candidate}: f is off by {off:.3g} at {at}")
            off = abs(float(slope) - expected.slope[b, h, w, c])
            if not off <= expected.slope_off[b, h, w, c]:
                wrong.append(f"{candidate}: f′ is off by {off:.3g} at {at}")
            points += 1
        if orders and not wrong:
            wrong += _wrong_pulls(candidate, expected, act, orders)
    assert not wrong, "\n".join(wrong)
    assert points > 8 * len((*_by_hand(), *_drawn()))


def _wrong_pulls(
    candidate: Candidate, expected: Expected, act: Any, orders: list[int]
) -> Iterable[str]:
    """∂ Σ w·f / ∂β of one channel, by differences of β."""
    mpmath = importlib.import_module("mpmath")
    if expected.largest[..., 0].max() > 1e60:
        return
    with mpmath.workdps(40):
        step = mpmath.mpf("1e-15")
        for place, order in enumerate(orders):
            beta = [mpmath.mpf(expected.beta[each, 0]) for each in orders]
            pull = 0
            for x, w in zip(expected.x[..., 0].flat, WEIGHT[..., 0].flat, strict=True):
                up, down = (
                    act(mpmath.mpf(x), *(v + by * (i == place) for i, v in enumerate(beta)))
                    for by in (step, -step)
                )
                pull += w * (up - down) / (2 * step)
            off = abs(float(pull) - expected.pull[order, 0])
            if not off <= expected.pull_off[order, 0]:
                yield f"{candidate}: ∂f/∂β_{order + 1} is off by {off:.3g}"


def test_the_tolerances_are_tight():
    """Else the tests above would say nothing."""
    shares = []
    for candidate in (*_by_hand(), *_drawn()):
        expected = _expected(candidate)
        for size, off in (
            (expected.value, expected.value_off),
            (expected.slope, expected.slope_off),
            (expected.pull, expected.pull_off),
        ):
            shares += list((off / (1.0 + np.abs(size))).flat)
    assert np.median(shares) < 1e-10
    assert np.mean(np.array(shares) < 1e-6) > 0.98


def test_200_candidates_are_drawn_of_one_to_three_units():
    assert len(_drawn()) == 200 == sum(DRAWN.values())
    assert {len(candidate.units) for candidate in _drawn()} == {1, 2, 3}
    names = {n for c in _drawn() for u in c.units for n in (u.unary1, u.unary2, u.binary)}
    assert names >= {operator.name for operator in PAPER}
