"""What an operator costs beside tanh: whether it would slow a whole search down.

Timed is what training does, the value and its gradients, compiled, on `ELEMENTS` numbers, in CPU time
and in turns with tanh, so that other work on the machine hardly counts. Measured on two x86
cores under load (jax 0.10), in multiples of tanh: the paper's operators 0.3 to 8, Mish 2, ndtri 5,
lgamma 6, gammainc 12, digamma 24, betainc 60, a loop of 500 sines 300 to 1,100, expi, which JAX
differentiates through a long series, more than 100,000.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .operator import Operator

LIMIT = 100.0
"""An operator that costs more than so many times tanh is refused."""

ELEMENTS = 8192
CHANNELS = 8
_TURNS = 30
_CALLS = 5
"""Of each in a turn."""
_ENOUGH_S = 0.3
"""No further call is timed once so much has been spent."""
_SHARE = 0.1
"""Tanh is timed for at least so much of the operator's time: one that takes a third of a second has a
single turn, and five calls of tanh are over before a disturbance is."""


def cost_of(operator: Operator) -> float:
    """CPU time of value and gradients, in multiples of tanh on the same array.

    Both are timed in turns, because the clock of a processor changes, and compared within each.
    """
    own, tanh = _compiled(operator), _tanh()
    own()
    ratios, spent = [], 0.0
    while len(ratios) < _TURNS and spent < _ENOUGH_S:
        took: list[float] = []
        while len(took) < _CALLS and spent + sum(took) < _ENOUGH_S:
            took.append(_seconds(own))
        took_tanh: list[float] = []
        while len(took_tanh) < _CALLS or sum(took_tanh) < _SHARE * sum(took):
            took_tanh.append(_seconds(tanh))
        ratios.append(min(took) / max(min(took_tanh), 1e-6))
        spent += sum(took)
    return statistics.median(ratios)


@functools.cache
def _tanh() -> Callable[[], Any]:
    call = _compiled(Operator("tanh", 1, jnp.tanh))
    call()
    return call


def _compiled(operator: Operator) -> Callable[[], Any]:
    draws = np.random.default_rng(0).uniform(-5.0, 5.0, (2, ELEMENTS // CHANNELS, CHANNELS))
    inputs = tuple(jnp.asarray(draws[: operator.arity], jnp.float32))
    params = {p.name: jnp.full((1, CHANNELS), p.init, jnp.float32) for p in operator.params}

    @jax.jit
    def value_and_slopes(inputs, params):
        value, pull_back = jax.vjp(lambda i, p: operator(*i, params=p), inputs, params)
        return value, pull_back(jnp.ones_like(value))

    return lambda: jax.block_until_ready(value_and_slopes(inputs, params))


def _seconds(call: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    begin = time.process_time()
    call()
    return time.process_time() - begin
