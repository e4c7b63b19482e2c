"""What an operator costs beside tanh: whether it would slow a whole search down.

Timed is what training does, the value and its gradients, compiled, on `ELEMENTS` numbers, in CPU time
and in turns with tanh, so that other work on the machine hardly counts: measurements of one operator
lie within a tenth of each other. On two x86 cores (jax 0.10), in multiples of tanh: the paper's
operators 0.4 to 3, Mish 2, ndtri 6, lgamma 7, gammainc 11, digamma 20, betainc 60, a loop of 500 sines
500, expi, which JAX differentiates through a long series, more than 100,000.
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
_TURNS = 9
_TURN_S = 0.01
"""CPU seconds that each has in a turn: some ticks of a kernel's clock, see `_seconds`."""
_ENOUGH_S = 0.3
"""No further turn begins once so much has been spent on the operator."""
_SHARE = 0.1
"""Tanh is timed for at least so much of the operator's time: one that takes a third of a second has a
single turn, and ten milliseconds of tanh are over before a disturbance is."""
_SETTLES_S = 0.001
"""Until the thread that computed has paused, so that all of its time is counted."""


def cost_of(operator: Operator) -> float:
    """CPU time of value and gradients, in multiples of tanh on the same array.

    Both are timed in turns, because the clock of a processor changes, and compared within each.
    """
    own, tanh = _compiled(operator), _tanh()
    own()
    ratios, spent = [], 0.0
    while len(ratios) < _TURNS and spent < _ENOUGH_S:
        seconds, calls = _seconds(own, _TURN_S)
        seconds_of_tanh, calls_of_tanh = _seconds(tanh, max(_TURN_S, _SHARE * seconds))
        ratios.append((seconds / calls) / (seconds_of_tanh / calls_of_tanh))
        spent += seconds
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


def _seconds(call: Callable[[], Any], enough: float) -> tuple[float, int]:
    """CPU seconds of as many calls as take `enough`, and how many that were.

    All of them are timed as one. XLA computes in a thread of its own, whose time Linux adds to the
    process's only at a tick or when the thread pauses: a call of a millisecond can look as if it
    took the tenth of one, and the next as if it took ten.
    """
    begin, calls = time.process_time(), 0
    while time.process_time() - begin < enough:
        call()
        calls += 1
    time.sleep(_SETTLES_S)
    return time.process_time() - begin, calls
