"""Functions of float32 that XLA computes slowly on CPUs, written so that it vectorises them.

For sin, cos, sinc and tan⁻¹ it calls the C library for each element: `jnp.sin` took 6.7 ns an element,
with its derivative 13.6, and `jnp.arctan` 12.4, beside 0.4 for `jnp.tanh`, which XLA has as a
polynomial; a sine in the activation doubled the time of a whole training step. The ones here follow
Cephes (S. L. Moshier, single precision library, sinf.c and atanf.c): reduction to [−π/4, π/4] with
π/2 in two parts, atan by 1/x and (x − 1)/(x + 1). For sinh, cosh, sinh⁻¹ and softplus it works out more than
they need, expm1 and log1p for any number among it: softplus with its derivative took 1.9 ms for 262,144 elements,
here 0.7, sinh 1.3 and 0.8; sinh⁻¹ is Cephes' too (asinhf.c). Elsewhere and in other precisions all are jnp's own.

Absolute errors against float64: 1e-7 for sin and cos up to |x| = 8,192, 3e-7 up to 10⁵, 2e-7 for
sinc and atan everywhere. Further out sin and cos lose the phase; they stay in [−1, 1]. Relative errors:
4e-7 for softplus, 2.5e-7 for sinh⁻¹, 2e-7 for sinh and cosh up to |x| = 1 and 1e-7 (1 + |x|) beyond, where an exponent is
rounded, as in jnp's own.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

_HALF_PI = (1.5703125, math.pi / 2 - 1.5703125)
"""π/2 as a sum whose first part has so few digits that its small multiples are exact."""


def _fast(x: Any) -> bool:
    return jnp.result_type(x) == jnp.float32 and jax.default_backend() == "cpu"


def _sine_on_quarter(r: Any) -> Any:
    z = r * r
    return ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r


def _cosine_on_quarter(r: Any) -> Any:
    z = r * r
    tail = (2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2
    return tail * z * z - 0.5 * z + 1.0


def _by_quadrant(r: Any, quadrant: Any) -> Any:
    """sin(r + quadrant · π/2) for r in [−π/4, π/4] and int32 quadrants."""
    size = jnp.where(quadrant & 1 == 1, _cosine_on_quarter(r), _sine_on_quarter(r))
    return jnp.where(quadrant & 2 == 2, -size, size)


def _wave(x: Any, ahead: int) -> Any:
    """sin(x + ahead · π/2)."""
    turns = jnp.round(x * (2.0 / math.pi))
    r = x - turns * _HALF_PI[0] - turns * _HALF_PI[1]
    # Beyond some 10⁵ the reduction fails, and a polynomial must not run away.
    return _by_quadrant(jnp.clip(r, -1.0, 1.0), turns.astype(jnp.int32) + ahead)


@jax.custom_jvp
def _sin(x: Any) -> Any:
    return _wave(x, 0)


@jax.custom_jvp
def _cos(x: Any) -> Any:
    return _wave(x, 1)


_sin.defjvp(lambda primals, tangents: (_sin(*primals), _cos(*primals) * tangents[0]))
_cos.defjvp(lambda primals, tangents: (_cos(*primals), -_sin(*primals) * tangents[0]))


def sin(x: Any) -> Any:
    """sin x, element by element, in the shape and dtype of x."""
    return _sin(x) if _fast(x) else jnp.sin(x)


def cos(x: Any) -> Any:
    """cos x, element by element, in the shape and dtype of x."""
    return _cos(x) if _fast(x) else jnp.cos(x)


def _half_turns(x: Any, ahead: int) -> Any:
    """sin(π x + ahead · π/2); the reduction is exact."""
    turns = jnp.round(2.0 * x)
    return _by_quadrant(math.pi * (x - 0.5 * turns), turns.astype(jnp.int32) + ahead)


@jax.custom_jvp
def _sinc(x: Any) -> Any:
    return jnp.where(x == 0.0, 1.0, _half_turns(x, 0) / (math.pi * jnp.where(x == 0.0, 1.0, x)))


@_sinc.defjvp
def _sinc_jvp(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    (x,), value = primals, _sinc(*primals)
    near = jnp.abs(x) < 0.5
    z = (math.pi * x) ** 2
    series = (((z / 1330560 - 1 / 15120) * z + 1 / 280) * z - 1 / 10) * z + 1.0
    slope = jnp.where(
        near,
        -(math.pi**2) / 3 * x * series,
        (_half_turns(x, 1) - value) / jnp.where(near, 1.0, x),
    )
    return value, slope * tangents[0]


def sinc(x: Any) -> Any:
    """sin(π x) / (π x), 1 at 0, element by element, in the shape and dtype of x."""
    return _sinc(x) if _fast(x) else jnp.sinc(x)


@jax.custom_jvp
def _atan(x: Any) -> Any:
    size = jnp.abs(x)
    steep, middling = size > 2.414213562373095, size > 0.4142135623730950
    above = jnp.where(steep, -1.0, jnp.where(middling, size - 1.0, size))
    below = jnp.where(steep, size, jnp.where(middling, size + 1.0, 1.0))
    start = jnp.where(steep, math.pi / 2, jnp.where(middling, math.pi / 4, 0.0))
    r = above / below
    z = r * r
    tail = ((8.05374449538e-2 * z - 1.38776856032e-1) * z + 1.99777106478e-1) * z
    found = start + ((tail - 3.33329491539e-1) * z * r + r)
    return jnp.where(x < 0.0, -found, jnp.where(x == 0.0, x, found))


_atan.defjvp(
    lambda primals, tangents: (_atan(*primals), tangents[0] / (1.0 + primals[0] * primals[0]))
)


def atan(x: Any) -> Any:
    """tan⁻¹ x, element by element, in the shape and dtype of x."""
    return _atan(x) if _fast(x) else jnp.arctan(x)


@jax.custom_jvp
def _asinh(x: Any) -> Any:
    size, z = jnp.abs(x), x * x
    near = ((2.0122003309e-2 * z - 4.2699340972e-2) * z + 7.4847586088e-2) * z
    near = size + size * z * (near - 1.6666288134e-1)
    large = size > 1500.0  # 1 is nothing beside its square, which may be infinite
    far = jnp.log(jnp.where(large, size, size + jnp.sqrt(z + 1.0)))
    found = jnp.where(size < 0.5, near, far + jnp.where(large, math.log(2.0), 0.0))
    return jnp.where(x < 0.0, -found, jnp.where(x == 0.0, x, found))


_asinh.defjvp(
    lambda primals, tangents: (
        _asinh(*primals),
        tangents[0] * jax.lax.rsqrt(primals[0] * primals[0] + 1.0),
    )
)


def asinh(x: Any) -> Any:
    """sinh⁻¹ x, element by element, in the shape and dtype of x."""
    return _asinh(x) if _fast(x) else jnp.arcsinh(x)


def _two_atanh(s: Any) -> Any:
    """2 tanh⁻¹ s = log((1 + s) / (1 − s)) for |s| ≤ 1/3, by its series."""
    z = s * s
    total = jnp.full_like(z, 1 / 17)
    for odd in range(15, 0, -2):
        total = total * z + 1 / odd
    return 2.0 * s * total


def _half_exp(x: Any) -> Any:
    """½ eˣ, which is finite a little longer than eˣ."""
    return jnp.exp(x - math.log(2.0))


@jax.custom_jvp
def _sinh(x: Any) -> Any:
    z, half = x * x, _half_exp(jnp.abs(x))
    near = x + x * z * (((z / 362880 + 1 / 5040) * z + 1 / 120) * z + 1 / 6)
    far = half - 0.25 / half
    return jnp.where(jnp.abs(x) < 1.0, near, jnp.where(x < 0.0, -far, far))


@jax.custom_jvp
def _cosh(x: Any) -> Any:
    half = _half_exp(jnp.abs(x))
    return half + 0.25 / half


_sinh.defjvp(lambda primals, tangents: (_sinh(*primals), _cosh(*primals) * tangents[0]))
_cosh.defjvp(lambda primals, tangents: (_cosh(*primals), _sinh(*primals) * tangents[0]))


def sinh(x: Any) -> Any:
    """sinh x, element by element, in the shape and dtype of x."""
    return _sinh(x) if _fast(x) else jnp.sinh(x)


def cosh(x: Any) -> Any:
    """cosh x, element by element, in the shape and dtype of x."""
    return _cosh(x) if _fast(x) else jnp.cosh(x)


@jax.custom_jvp
def _softplus(x: Any) -> Any:
    # log(1 + t) = 2 tanh⁻¹(t / (2 + t)), and t = exp(−|x|) is 1 at most.
    t = jnp.exp(-jnp.abs(x))
    return jnp.maximum(x, 0.0) + _two_atanh(t / (2.0 + t))


_softplus.defjvp(
    lambda primals, tangents: (_softplus(*primals), jax.nn.sigmoid(primals[0]) * tangents[0])
)


def softplus(x: Any) -> Any:
    """log(1 + eˣ), element by element, in the shape and dtype of x."""
    return _softplus(x) if _fast(x) else jax.nn.softplus(x)
