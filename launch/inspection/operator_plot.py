"""Draws every operator of a set with its derivative; needs the extra `plot`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spaces import Operator, OperatorSet, operator_formula

from ..errors import RequestError
from .plots import BLUE, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg", ".pdf")

LIMIT = 5.0
"""Drawn on [−LIMIT, LIMIT]."""

POINTS = 401
"""`N`."""

_SECOND = (1.0, -1.0)
"""Values of y at which a binary operator is drawn; the last one faintly."""


def draw_operators(operators: OperatorSet, destination: Path) -> None:
    """A panel for each operator: f and f′; of a binary one f(x, y) and ∂f/∂x at two values of y.

    Trainable vectors are at their initial values.

    Args:
        operators: The set, which has passed its checks.
        destination: The picture, checked by `launch.inspection.plots.check_plot`.

    Raises:
        RequestError: It cannot be written.
    """
    from matplotlib.figure import Figure

    columns = min(6, math.ceil(math.sqrt(len(operators) * 1.4)))
    rows = math.ceil(len(operators) / columns)
    figure = Figure(figsize=(1.75 * columns, 1.5 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(operators) :]:
        axes.set_axis_off()
    for axes, operator in zip(panels, operators, strict=False):
        _draw(axes, operator)
    f, slope = panels[0].get_lines()[-2:]
    figure.legend(
        [f, slope],
        ["f", "f′; of a binary operator by x, at y = 1 and, faintly, at y = −1"],
        loc="outside lower left",
        ncols=2,
        frameon=False,
        fontsize=7,
    )
    try:
        figure.savefig(destination, dpi=110, format=destination.suffix.lower()[1:])
    except OSError as error:
        raise RequestError(f"`plot`: cannot write {destination}: {error.strerror}") from None


def curves(operator: Operator, second: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, f and its derivative by the first input, each float32 `[N]`.

    Args:
        operator: Unary, or binary with `second` as its second input.
        second: See there.
    """
    import jax
    import jax.numpy as jnp

    x = jnp.linspace(-LIMIT, LIMIT, POINTS, dtype=jnp.float32)
    rest = (jnp.full_like(x, second),) * (operator.arity - 1)
    params = {param.name: jnp.full((1,), param.init, jnp.float32) for param in operator.params}
    value, slope = jax.jvp(lambda x: operator(x, *rest, params=params), (x,), (jnp.ones_like(x),))
    return np.asarray(x), np.asarray(value), np.asarray(slope)


def _draw(axes: Axes, operator: Operator) -> None:
    axes.axhline(0, color="0.85", linewidth=0.6)
    axes.axvline(0, color="0.85", linewidth=0.6)
    drawn = []
    for second in reversed(_SECOND[: operator.arity]):
        x, f, slope = curves(operator, second)
        alpha = 1.0 if second == _SECOND[0] else 0.35
        axes.plot(x, f, color=BLUE, linewidth=1.5, alpha=alpha)
        axes.plot(x, slope, color=ORANGE, linewidth=1.0, linestyle="--", alpha=alpha)
        drawn += [f, slope]
    seen = np.concatenate(drawn)
    low, least, most, high = np.quantile(seen[np.isfinite(seen)], [0.0, 0.03, 0.97, 1.0])
    if high - low > 4.0 * (most - least):  # a pole or an exponential would flatten all else
        low, high = least, most
    margin = 0.15 * max(high - low, 0.5)
    axes.set_xlim(-LIMIT, LIMIT)
    axes.set_ylim(low - margin, high + margin)
    formula = operator_formula(operator)
    axes.set_title(operator.name, fontsize=8, fontweight="bold", pad=3)
    axes.set_xlabel(formula, fontsize=7, labelpad=1)
    axes.tick_params(labelsize=5, length=2, pad=1)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
