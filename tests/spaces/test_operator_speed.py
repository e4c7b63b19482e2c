"""What an operator costs beside tanh: costly ones are far above the limit, useful ones below."""

from __future__ import annotations

import statistics
import time

import jax
import jax.numpy as jnp
import pytest
from jax.scipy import special

from spaces import PAPER, Operator
from spaces.operator_speed import LIMIT, cost_of


def _loop(times: int):
    return lambda x: jax.lax.fori_loop(0, times, lambda _, y: jnp.sin(y), x)


def test_tanh_costs_as_much_as_itself():
    assert 0.5 < cost_of(Operator("again", 1, lambda x: jnp.tanh(x))) < 2.0


def test_identity_costs_less_and_digamma_more():
    digamma = Operator("digamma", 1, lambda x: special.digamma(jnp.abs(x) + 1.0))
    assert 4.0 * cost_of(PAPER["identity"]) < cost_of(digamma) < LIMIT


@pytest.mark.parametrize("name", ["sinc", "atan", "rbf", "mix", "gate"])
def test_operators_of_the_paper_are_far_below_the_limit(name: str):
    assert 0.3 < cost_of(PAPER[name]) < LIMIT / 4


def test_a_long_loop_is_above_the_limit_and_found_so_quickly():
    slow = Operator("slow", 1, _loop(20_000))
    begin = time.process_time()
    assert cost_of(slow) > 10 * LIMIT
    assert time.process_time() - begin < 20.0


@pytest.mark.parametrize("times", [30, 300])
def test_the_cost_grows_with_the_work(times: int):
    """In a millisecond's work too, whose time the kernel may add to a later call's."""
    few, many = (
        statistics.median(cost_of(Operator("loop", 1, _loop(n))) for _ in range(3))
        for n in (times, 10 * times)
    )
    assert 3.0 < many / few < 30.0
