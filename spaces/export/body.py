"""A candidate as the body of a function: named intermediates, then the value that is returned.

Core units that are read once become part of the term that reads them; a unit that is read more
than once becomes an intermediate with a name, computed once.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from ..candidate import FIRST, IDENTITY, Candidate
from ..operator import Operator
from ..paper import PAPER

INPUT = "x"
"""The preactivation."""

_RESERVED = re.compile(
    r"x|self|channels|shape|jax|jnp|nnx|torch|nn|sp|pi|oo|nan|zoo|u[0-9]+|h[0-9]*|"
    + "|".join(keyword.kwlist)
)


def reserved(name: str) -> bool:
    """Whether a name in the code has another meaning than a trainable vector or the function."""
    return bool(_RESERVED.fullmatch(name))


@dataclass(frozen=True, slots=True)
class Variable:
    """x, or an intermediate."""

    name: str


@dataclass(frozen=True, slots=True)
class Number:
    """A number that simplification brought in."""

    value: int


@dataclass(frozen=True, slots=True)
class Vector:
    """A trainable vector, one value per channel."""

    order: int
    """Its place among the candidate's, in the order of their slots."""
    param: str
    """Its name with its operator."""
    name: str
    """Its name in the code, different from all others'."""
    init: float
    """Its initial value in every channel."""


@dataclass(frozen=True, slots=True)
class Apply:
    """An operator on operands, with its own trainable vectors."""

    operator: Operator
    operands: tuple[Term, ...]
    vectors: tuple[Vector, ...] = ()


Term: TypeAlias = Variable | Number | Vector | Apply


@dataclass(frozen=True, slots=True)
class Body:
    """Intermediates in the order in which they are computed, and the result."""

    intermediates: tuple[tuple[str, Term], ...]
    result: Term

    @property
    def terms(self) -> tuple[Term, ...]:
        """The right-hand sides, the result last."""
        return (*(term for _, term in self.intermediates), self.result)

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """The trainable vectors in use, in their order."""
        found = {part for term in self.terms for part in parts(term) if isinstance(part, Vector)}
        return tuple(sorted(found, key=lambda vector: vector.order))

    @property
    def operators(self) -> tuple[Operator, ...]:
        """The operators in use, each once, in the order in which they are met."""
        found = {}
        for term in self.terms:
            for part in parts(term):
                if isinstance(part, Apply):
                    found[part.operator.name] = part.operator
        return tuple(found.values())

    def map(self, change: Callable[[Term], Term]) -> Body:
        """The body with each right-hand side changed."""
        return Body(
            tuple((name, change(term)) for name, term in self.intermediates), change(self.result)
        )

    def inlined(self) -> Body:
        """The body without intermediates that are read once or never, or are no more than a name.

        Intermediates are numbered again, `u1` on.
        """
        body = self
        while True:
            for index, (name, term) in enumerate(body.intermediates):
                reads = sum(part == Variable(name) for t in body.terms for part in parts(t))
                if reads < 2 or not isinstance(term, Apply):
                    rest = (*body.intermediates[:index], *body.intermediates[index + 1 :])
                    body = Body(rest, body.result).substituted({name: term})
                    break
            else:
                break
        names = [name for name, _ in body.intermediates]
        new = {name: Variable(f"u{count}") for count, name in enumerate(names, start=1)}
        renamed = body.substituted(new)
        return replace(
            renamed,
            intermediates=tuple((new[name].name, term) for name, term in renamed.intermediates),
        )

    def substituted(self, values: Mapping[str, Term]) -> Body:
        """The body with variables replaced by terms."""
        return self.map(lambda term: substituted(term, values))


def body_of(candidate: Candidate, known: Mapping[str, Operator], beta_init: float | None) -> Body:
    """The body of a candidate.

    Args:
        candidate: Any candidate over `known`.
        known: Operators by name.
        beta_init: Initial value of every trainable vector; None takes each operator's own.
    """
    candidate = candidate.pruned()
    vectors = _vectors(candidate, known, beta_init)
    outputs: list[Term] = [Variable(INPUT)]
    intermediates = []
    reads = candidate.reads()

    def apply(name: str, slot: int, *operands: Term) -> Term:
        if name == IDENTITY:
            return operands[0]
        if known[name] is PAPER["const"]:
            return vectors[slot][0]
        return Apply(known[name], operands, vectors.get(slot, ()))

    for number, unit in enumerate(candidate.units, start=1):
        slot = 3 * (number - 1)
        term = apply(unit.unary1, slot, outputs[unit.input1])
        if unit.binary != FIRST:
            second = apply(unit.unary2, slot + 1, outputs[unit.input2])
            term = apply(unit.binary, slot + 2, term, second)
        if reads[number] > 1:
            intermediates.append((f"u{number}", term))
            term = Variable(f"u{number}")
        outputs.append(term)
    return Body(tuple(intermediates), outputs[-1]).inlined()


def parts(term: Term) -> Iterator[Term]:
    """The term and everything in it, operands before what stands on the right of them."""
    yield term
    if isinstance(term, Apply):
        yield from term.vectors
        for operand in term.operands:
            yield from parts(operand)


def substituted(term: Term, values: Mapping[str, Term]) -> Term:
    """The term with variables replaced by terms."""
    if isinstance(term, Variable):
        return values.get(term.name, term)
    if isinstance(term, Apply):
        return replace(term, operands=tuple(substituted(each, values) for each in term.operands))
    return term


def _vectors(
    candidate: Candidate, known: Mapping[str, Operator], beta_init: float | None
) -> dict[int, tuple[Vector, ...]]:
    """The trainable vectors of each slot, 3·unit + 0, 1 or 2; namesakes are numbered from 1."""
    found = []
    for index, unit in enumerate(candidate.units):
        names = (unit.unary1, unit.unary2, unit.binary)
        for place, name in enumerate(names if unit.binary != FIRST else names[:1]):
            found += [(3 * index + place, param) for param in known[name].params]
    namesakes = [param.name for _, param in found]
    taken: set[str] = set()
    result: dict[int, tuple[Vector, ...]] = {}
    for order, (slot, param) in enumerate(found):
        name = param.name
        if namesakes.count(name) > 1:
            name += f"_{namesakes[:order].count(name) + 1}"
        while name in taken or reserved(name) or (name != param.name and name in namesakes):
            name += "_"
        taken.add(name)
        init = param.init if beta_init is None else beta_init
        result[slot] = (*result.get(slot, ()), Vector(order, param.name, name, float(init)))
    return result
