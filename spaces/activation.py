"""A candidate inside a network: one call, two forms of it.

`TracedForm` reads the candidate from integer arrays while it runs: one compilation serves every
candidate of a space. `SpecialisedForm` has the candidate compiled in: one compilation each, and
operators that fuse. Both take the same arguments and give equal values and gradients.

Left to autodiff, a `switch` stores every branch's residuals and composed operators keep each
intermediate; both forms therefore say themselves what is kept for the way back. Inside, everything is float32, whatever the network around it uses: in bfloat16 the gradient of β, a
sum over a whole batch of images, came out 12 times too small.

Letters: `C` channels, `U` core units, `S` slots, `P` vectors per slot.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
        value = self._evaluate(x.astype(self.dtype), beta.astype(self.dtype), program)
        return value.astype(x.dtype)

    def _forward(self, x, beta, program):
        value, kept = self._evaluate_and_keep(
            x.astype(self.dtype), beta.astype(self.dtype), program
        )
        return value.astype(x.dtype), (x, beta, program, kept)

    def _backward(self, saved, cotangent):
        x, beta, program, kept = saved
        dx, dbeta = self._pull_back(
            x.astype(self.dtype),
            beta.astype(self.dtype),
            program,
            kept,
            cotangent.astype(self.dtype),
        )
        return dx.astype(x.dtype), dbeta.astype(beta.dtype), None

    def _evaluate(self, x, beta, program):
        """f(x) `[..., C]`."""
        raise NotImplementedError

    def _evaluate_and_keep(self, x, beta, program) -> tuple[Any, Any]:
        """f(x), and what `_pull_back` is to be given beside x and beta."""
        return self._evaluate(x, beta, program), None

    def _pull_back(self, x, beta, program, kept, cotangent):
        """The cotangents of x `[..., C]` and of beta `[S, P, C]`."""
        raise NotImplementedError


class SpecialisedForm(ActivationForm):
    """The candidate compiled in; `program` is taken and ignored.

    It keeps x alone and computes the rest again on the way back, where everything fuses.
    """

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
            lambda slot: _named(self._known[names[slot]], beta[slot], x),
        )

    def _pull_back(self, x, beta, program, kept, cotangent):
        _, pull_back = jax.vjp(lambda x, beta: self._evaluate(x, beta, program), x, beta)
        return pull_back(cotangent)


class TracedForm(ActivationForm):
    """The candidate read from `program`: operators are dispatched while it runs.

    Only element-wise work stands inside the branches. An activation is element-wise, so all that
    the way back to x needs is the slope f′(x), which the way forward finds beside the value: each
    operator's branch returns both. The gradient of x is then one product, which fuses with
    what stands before the activation. The way back to β, which half of the one-unit candidates do
    not have, asks the operators once more, and only those that have something to say.
    """

    def __init__(self, table: OperatorTable, *, dtype: Any = jnp.float32) -> None:
        super().__init__(table, dtype=dtype)
        self._unary_owners = _Owners(table.unary)
        self._binary_owners = _Owners(table.binary)

    def _evaluate(self, x, beta, program):
        values = [x]
        for unit in range(self.table.core_units):
            pair = tuple(
                self._unary(_value_of, unit, side, program, beta, (_read(values, source),))
                for side, source in enumerate(program.inputs[unit])
            )
            values.append(self._binary(_value_of, unit, program, beta, pair))
        return values[-1]

    def _evaluate_and_keep(self, x, beta, program) -> tuple[Any, Any]:
        values, slopes, operands = [x], [None], []
        for unit in range(self.table.core_units):
            pair = []
            for side, source in enumerate(program.inputs[unit]):
                inner = [jnp.ones_like(x), *slopes[1:]] if unit else slopes
                value, slope = _read(list(zip(values, inner, strict=True)), source)
                pair.append(self._unary(_with_slope, unit, side, program, beta, (value,), (slope,)))
            inputs, outer = zip(*pair, strict=True)
            operands.append(inputs)
            value, slope = self._binary(_with_slope, unit, program, beta, inputs, outer)
            values.append(value)
            slopes.append(slope)
        return values[-1], (slopes[-1], values[1:-1], operands)

    def _pull_back(self, x, beta, program, kept, cotangent):
        slope, inner, operands = kept
        dbeta = jax.lax.cond(
            self._unary_owners.among(program.unary) | self._binary_owners.among(program.binary),
            self._pull_back_to_beta,
            lambda values, operands, beta, program, cotangent: jnp.zeros_like(beta),
            *([x, *inner], operands, beta, program, cotangent),
        )
        return cotangent * slope, dbeta

    def _pull_back_to_beta(self, values, operands, beta, program, cotangent):
        """Walks the units in reverse; the first one's inputs need no cotangent."""
        cotangents: list[Any] = [jnp.zeros_like(cotangent) for _ in values] + [cotangent]
        dbeta: list[Any] = [None] * self.slots
        for unit in reversed(range(self.table.core_units)):
            outgoing = cotangents[unit + 1]
            dbeta[3 * unit + 2] = self._binary_owners.pull_back(
                program.binary[unit], beta[3 * unit + 2], operands[unit], outgoing
            )
            for side, source in enumerate(program.inputs[unit]):
                slot = 3 * unit + side
                inputs = (_read(values[: unit + 1], source),)
                known = program, beta, inputs, operands[unit], outgoing
                if unit == 0:
                    dbeta[slot] = jax.lax.cond(
                        self._unary_owners.among(program.unary[unit, side]),
                        lambda *known, side=side: self._pull_back_side(0, side, *known)[1],
                        lambda program, beta, *_, slot=slot: jnp.zeros_like(beta[slot]),
                        *known,
                    )
                    continue
                dvalue, dbeta[slot] = self._pull_back_side(unit, side, *known)
                dinput = self._unary(_vjp_of, unit, side, program, beta, inputs, dvalue)
                for number in range(1, unit + 1):
                    cotangents[number] += jnp.where(source == number, dinput, 0.0)
        return jnp.stack(dbeta)

    def _pull_back_side(self, unit, side, program, beta, inputs, operands, outgoing):
        """The cotangents of one side's unary operator: of its value and of its vectors."""
        of_operand = functools.partial(_vjp_of, place=side)
        dvalue = self._binary(of_operand, unit, program, beta, operands, outgoing)
        return dvalue, self._unary_owners.pull_back(
            program.unary[unit, side], beta[3 * unit + side], inputs, dvalue
        )

    def _unary(self, kind, unit, side, program, beta, *arguments):
        """Runs the branch that `kind` makes of the unary operator of a unit's side."""
        branches = [kind(operator) for operator in self.table.unary]
        return jax.lax.switch(
            program.unary[unit, side], branches, beta[3 * unit + side], *arguments
        )

    def _binary(self, kind, unit, program, beta, *arguments):
        """The same for the unit's binary operator."""
        branches = [kind(operator) for operator in self.table.binary]
        return jax.lax.switch(program.binary[unit], branches, beta[3 * unit + 2], *arguments)


class _Owners:
    """Those of some operators that have trainable vectors."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        self._owners = [operator for operator in operators if operator.params]
        places = {operator.name: place for place, operator in enumerate(self._owners, start=1)}
        self._places = np.array([places.get(operator.name, 0) for operator in operators])

    def among(self, indices: Any) -> Any:
        """Whether one of these operators, int32 `[...]`, owns vectors: bool `[]`."""
        return (jnp.asarray(self._places)[indices] > 0).any()

    def pull_back(self, index: Any, vectors: Any, inputs: tuple[Any, ...], cotangent: Any) -> Any:
        """The cotangent of an operator's vectors `[P, C]`; zeros if it owns none."""

        def none(vectors, inputs, cotangent):
            return jnp.zeros_like(vectors)

        def of(operator: Operator) -> Callable[..., Any]:
            def vjp(vectors, inputs, cotangent):
                _, pull_back = jax.vjp(lambda each: _value_of(operator)(each, inputs), vectors)
                return pull_back(cotangent)[0]

            return vjp

        branches = [none, *(of(operator) for operator in self._owners)]
        place = jnp.asarray(self._places)[index]
        return jax.lax.switch(place, branches, vectors, inputs, cotangent)


def _read(values: Sequence[Any], source: Any) -> Any:
    """The one of `values` that `source` names; a lone one needs no choice."""
    if len(values) == 1:
        return values[0]
    return jax.lax.switch(source, [lambda v, i=i: v[i] for i in range(len(values))], tuple(values))


def _named(operator: Operator, vectors: Any, x: Any) -> dict[str, Any]:
    """The vectors `[P, C]` of a slot by name, each `[1, …, 1, C]`, to stand beside x `[..., C]`."""
    return {
        param.name: vectors[index].reshape((1,) * (x.ndim - 1) + (-1,))
        for index, param in enumerate(operator.params)
    }


@functools.lru_cache(maxsize=512)
def _value_of(operator: Operator) -> Callable[..., Any]:
    def value(vectors, inputs):
        result = operator(*inputs, params=_named(operator, vectors, inputs[0]))
        return result.astype(inputs[0].dtype)

    return value


@functools.lru_cache(maxsize=512)
def _with_slope(operator: Operator) -> Callable[..., Any]:
    """The value, and its slope by x from its inputs' slopes; None is the slope of x itself."""

    def value_and_slope(vectors, inputs, slopes):
        value, pull_back = jax.vjp(lambda *inputs: _value_of(operator)(vectors, inputs), *inputs)
        shares = [
            partial if slope is None else partial * slope
            for partial, slope in zip(pull_back(jnp.ones_like(value)), slopes, strict=True)
        ]
        return value, sum(shares[1:], shares[0])

    return value_and_slope


@functools.lru_cache(maxsize=512)
def _vjp_of(operator: Operator, place: int = 0) -> Callable[..., Any]:
    """The cotangent of one input."""

    def vjp(vectors, inputs, cotangent):
        def value(varied):
            return _value_of(operator)(vectors, (*inputs[:place], varied, *inputs[place + 1 :]))

        return jax.vjp(value, inputs[place])[1](cotangent)[0]

    return vjp
