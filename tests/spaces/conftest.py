"""An oracle for the room: every operator again in float64 NumPy, and candidates by definition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from spaces import CATALOGUE, PAPER, OperatorTable, Prober

_ERF = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


def _sinc(x: Any) -> Any:
    safe = np.where(x == 0.0, 1.0, x)
    return np.where(x == 0.0, 1.0, np.sin(np.pi * safe) / (np.pi * safe))


def _piecewise(x: Any, above: Any, below: Any) -> Any:
    return np.where(x > 0.0, above, below)


FORMULAS: dict[str, Callable[..., Any]] = {
    "identity": lambda x: x,
    "neg": lambda x: 0.0 - x,
    "abs": lambda x: np.where(x < 0.0, -x, x),
    "square": lambda x: np.power(x, 2),
    "cube": lambda x: np.power(x, 3),
    "sqrt": lambda x: np.where(x >= 0.0, np.power(np.maximum(x, 0.0), 0.5), np.nan),
    "scale": lambda x, beta: beta * x,
    "shift": lambda x, beta: x + beta,
    "log_abs": lambda x: np.log(np.abs(x) + 1e-7),
    "exp": np.exp,
    "sin": np.sin,
    "cos": np.cos,
    "sinh": lambda x: (np.exp(x) - np.exp(-x)) / 2.0,
    "cosh": lambda x: (np.exp(x) + np.exp(-x)) / 2.0,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "sinc": _sinc,
    "relu": lambda x: _piecewise(x, x, 0.0 * x),
    "min0": lambda x: _piecewise(x, 0.0 * x, x),
    "sigmoid": _sigmoid,
    "softplus": lambda x: np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))),
    "gauss": lambda x: np.exp(-np.power(x, 2)),
    "erf": _ERF,
    "const": lambda x, beta: beta + 0.0 * x,
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "sub": lambda a, b: a - b,
    "div": lambda a, b: a / (b + 1e-7),
    "max": lambda a, b: np.where(np.isnan(a) | (a > b), a, b),
    "min": lambda a, b: np.where(np.isnan(a) | (a < b), a, b),
    "gate": lambda a, b: _sigmoid(a) * b,
    "rbf": lambda a, b, beta: np.exp(-beta * np.power(a - b, 2)),
    "laplace": lambda a, b, beta: np.exp(-beta * np.abs(a - b)),
    "mix": lambda a, b, beta: beta * a + (1.0 - beta) * b,
    "first": lambda a, b: a,
    "lrelu": lambda x: _piecewise(x, x, 0.01 * x),
    "prelu": lambda x, alpha: _piecewise(x, x, alpha * x),
    "elu": lambda x: _piecewise(x, x, np.exp(np.minimum(x, 0.0)) - 1.0),
    "selu": lambda x: (
        1.0507009873554805
        * _piecewise(x, x, 1.6732632423543772 * (np.exp(np.minimum(x, 0.0)) - 1.0))
    ),
    "gelu": lambda x: 0.5 * x * (1.0 + _ERF(x / math.sqrt(2.0))),
}


class Oracle:
    """Operators and candidates in float64 NumPy, by their definitions."""

    def __init__(self, formulas: Mapping[str, Callable[..., Any]]) -> None:
        self._formulas = dict(formulas)

    def extended(self, **formulas: Callable[..., Any]) -> Oracle:
        """The oracle with further operators."""
        return Oracle(self._formulas | formulas)

    def operator(self, name: str, *inputs: Any, **params: Any) -> np.ndarray:
        """The value of one operator."""
        with np.errstate(all="ignore"):
            return np.asarray(self._formulas[name](*inputs, **params), np.float64)

    def candidate(
        self, candidate: Any, x: Any, vectors: Mapping[int, Mapping[str, Any]] | None = None
    ) -> np.ndarray:
        """f(x); `vectors` maps slots (3·unit + 0, 1, 2) to the parameters of their operators."""
        vectors = vectors or {}
        outputs = [np.asarray(x, np.float64)]
        for index, unit in enumerate(candidate.units):
            a = self.operator(unit.unary1, outputs[unit.input1], **vectors.get(3 * index, {}))
            if unit.binary == "first":
                outputs.append(a)
                continue
            b = self.operator(unit.unary2, outputs[unit.input2], **vectors.get(3 * index + 1, {}))
            outputs.append(self.operator(unit.binary, a, b, **vectors.get(3 * index + 2, {})))
        return outputs[-1]


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    return Oracle(FORMULAS)


@pytest.fixture(scope="session")
def prober() -> Prober:
    """One for every candidate of up to four units over the paper's and the hidden operators."""
    known = [function.candidate for function in CATALOGUE]
    return Prober(OperatorTable.for_run(PAPER, core_units=4, extra=known))
