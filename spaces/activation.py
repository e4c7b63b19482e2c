"""A candidate inside a network: one call, two forms of it.

`TracedForm` reads the candidate from integer arrays while it runs: one compilation serves every
candidate of a space. `SpecialisedForm` has the candidate compiled in: one compilation each, and
operators that fuse. Both take the same arguments and give equal values and gradients.

A naive `switch` under differentiation stores every branch's residuals, and autodiff of the composed
operators keeps each intermediate. Both forms therefore keep x alone and compute the rest again on
the way back. Inside, everything is float32, whatever the network around it uses: in bfloat16 the
gradient of β, a sum over a whole batch of images, came out 12 times too small.

Letters: `C` channels, `U` core units, `S` slots, `P` vectors per slot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .candidate import Candidate
from .function import compose
from .operator import Operator
from .program import Occurrence, OperatorTable, Program


class ActivationForm:
    """An activation with its trainable vectors given from outside.

    Args:
        table: The operators it may use and the sizes `S` and `P`.
        dtype: What it computes in; float32 but for the float64 of fingerprints.
    """

    def __init__(self, table: OperatorTable, *, dtype: Any = jnp.float32) -> None:
        self.table = table
        self.dtype = dtype
        self._apply = jax.custom_vjp(self._value)
        self._apply.defvjp(self._forward, self._backward)

    @property
    def slots(self) -> int:
        """`S`, three per core unit."""
        return self.table.slots

    @property
    def vectors(self) -> int:
        """`P`, vectors per slot."""
        return self.table.vectors

    def occurrences(self, candidate: Candidate) -> tuple[Occurrence, ...]:
        """Which of the `S × P` vectors a candidate uses."""
        return self.table.occurrences(candidate)

    def initial(self, program: Program) -> jax.Array:
        """Initial values of the trainable vectors, float32 `[S, P]`; 0 where there is none."""
        unary, binary = (jnp.asarray(values) for values in self.table.initial_values())
        per_unit = jnp.concatenate(
            [unary[program.unary], binary[program.binary][:, None, :]], axis=1
        )
        return per_unit.reshape(self.slots, self.vectors)

    def __call__(self, x: jax.Array, beta: jax.Array, program: Program) -> jax.Array:
        """f(x), in the shape and dtype of x.

        Args:
            x: Preactivations `[..., C]`, of any float dtype.
            beta: Trainable vectors `[S, P, C]`.
            program: The candidate.
        """
        return self._apply(x, beta, program)

    def _value(self, x, beta, program):
        return self._evaluate(x.astype(self.dtype), beta.astype(self.dtype), program).astype(
            x.dtype
        )

    def _forward(self, x, beta, program):
        return self._value(x, beta, program), (x, beta, program)

    def _backward(self, saved, cotangent):
        x, beta, program = saved
        dx, dbeta = self._pull_back(
            x.astype(self.dtype), beta.astype(self.dtype), program, cotangent.astype(self.dtype)
        )
        return dx.astype(x.dtype), dbeta.astype(beta.dtype), None

    def _evaluate(self, x, beta, program):
        raise NotImplementedError

    def _pull_back(self, x, beta, program, cotangent):
        """Cotangents of x `[..., C]` and of beta `[S, P, C]`."""
        raise NotImplementedError


class SpecialisedForm(ActivationForm):
    """The candidate compiled in; `program` is taken and ignored."""

    def __init__(
        self, table: OperatorTable, candidate: Candidate, *, dtype: Any = jnp.float32
    ) -> None:
        super().__init__(table, dtype=dtype)
        self.candidate = table.seated(candidate)
        self._known = {operator.name: operator for operator in (*table.unary, *table.binary)}

    def initial(self, program: Program) -> jax.Array:
        """As of every form; `program` is ignored."""
        return super().initial(self.table.program(self.candidate))

    def _evaluate(self, x, beta, program):
        names = [n for u in self.candidate.units for n in (u.unary1, u.unary2, u.binary)]
        return compose(
            self.candidate,
            self._known,
            x,
            lambda slot: _named(self._known[names[slot]], beta[slot], x.ndim),
        )

    def _pull_back(self, x, beta, program, cotangent):
        _, pull_back = jax.vjp(lambda x, beta: self._evaluate(x, beta, program), x, beta)
        return pull_back(cotangent)


class TracedForm(ActivationForm):
    """The candidate read from `program`: operators are dispatched while it runs.

    Only element-wise work stands inside the branches. The backward pass walks the units in reverse
    and asks, for each operator, the one branch for its vector-Jacobian product.
    """

    def _evaluate(self, x, beta, program):
        return self._intermediates(x, beta, program)[0][-1]

    def _intermediates(self, x, beta, program):
        """Values of x and of every unit `[U + 1]`, and both operands of each unit `[U][2]`."""
        values, operands = [x], []
        for unit in range(self.table.core_units):
            pair = tuple(
                _dispatch(self.table.unary, program.unary[unit, side], _value_of,
                          (self._input(values, program.inputs[unit, side]),), beta[3 * unit + side])
                for side in (0, 1)
            )  # fmt: skip
            operands.append(pair)
            values.append(
                _dispatch(self.table.binary, program.binary[unit], _value_of, pair,
                          beta[3 * unit + 2])
            )  # fmt: skip
        return values, operands

    def _pull_back(self, x, beta, program, cotangent):
        return self.value_and_pull_back(x, beta, program, cotangent)[1:]

    def value_and_pull_back(self, x, beta, program, cotangent):
        """f(x), and the cotangents of x `[..., C]` and beta `[S, P, C]`, in one pass."""
        values, operands = self._intermediates(x, beta, program)
        cotangents: list[Any] = [None] * len(values)
        cotangents[-1] = cotangent
        dbeta: list[Any] = [None] * self.slots
        for unit in reversed(range(self.table.core_units)):
            outgoing = cotangents[unit + 1]
            if outgoing is None:
                outgoing = jnp.zeros_like(x)
            (*pair, dbeta[3 * unit + 2]) = _dispatch(
                self.table.binary, program.binary[unit], _vjp_of, operands[unit],
                beta[3 * unit + 2], outgoing,
            )  # fmt: skip
            for side in (0, 1):
                source = program.inputs[unit, side]
                dinput, dbeta[3 * unit + side] = _dispatch(
                    self.table.unary, program.unary[unit, side], _vjp_of,
                    (self._input(values[: unit + 1], source),), beta[3 * unit + side], pair[side],
                )  # fmt: skip
                for number in range(unit + 1):
                    share = dinput if unit == 0 else jnp.where(source == number, dinput, 0.0)
                    so_far = cotangents[number]
                    cotangents[number] = share if so_far is None else so_far + share
        return values[-1], cotangents[0], jnp.stack(dbeta)

    @staticmethod
    def _input(values: Sequence[Any], source: Any) -> Any:
        if len(values) == 1:
            return values[0]
        return jax.lax.switch(
            source, [lambda v, i=i: v[i] for i in range(len(values))], tuple(values)
        )


def _named(operator: Operator, vectors: Any, ndim: int) -> dict[str, Any]:
    """The vectors `[P, C]` of a slot by name, each `[1, …, 1, C]`."""
    return {
        param.name: vectors[index].reshape((1,) * (ndim - 1) + (-1,))
        for index, param in enumerate(operator.params)
    }


def _value_of(operator: Operator) -> Callable[..., Any]:
    def value(inputs, vectors):
        result = operator(*inputs, params=_named(operator, vectors, inputs[0].ndim))
        return result.astype(inputs[0].dtype)

    return value


def _vjp_of(operator: Operator) -> Callable[..., Any]:
    """Cotangents of the inputs, then of the slot's vectors `[P, C]`."""

    def vjp(inputs, vectors, cotangent):
        def value(*arguments):
            return _value_of(operator)(arguments[:-1], arguments[-1])

        if not operator.params:
            _, pull_back = jax.vjp(lambda *inputs: operator(*inputs), *inputs)
            return (*pull_back(cotangent), jnp.zeros_like(vectors))
        _, pull_back = jax.vjp(value, *inputs, vectors)
        return pull_back(cotangent)

    return vjp


def _dispatch(operators: Sequence[Operator], index: Any, kind: Callable[..., Any], *arguments: Any):
    """Runs the branch of operator `index`; `kind` makes an operator's branch."""
    return jax.lax.switch(index, [kind(operator) for operator in operators], *arguments)
