"""Which known function a candidate is, however it is spelled."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ..candidate import Candidate
from ..canonical import canonical
from ..catalogue import CATALOGUE, KnownFunction, known_operators
from ..operator_set import OperatorSet
from ..paper import PAPER
from .agreement import agree
from .body import Apply, Body, Term, Vector, body_of

if TYPE_CHECKING:
    from ..naming import KnownNames

REFERENCES = {
    "relu": "Nair, Hinton, ICML 2010",
    "lrelu": "Maas, Hannun, Ng, ICML 2013",
    "prelu": "He et al., arXiv 1502.01852",
    "softplus": "Dugas et al., NIPS 2000",
    "elu": "Clevert, Unterthiner, Hochreiter, arXiv 1511.07289",
    "selu": "Klambauer et al., arXiv 1706.02515",
    "gelu": "Hendrycks, Gimpel, arXiv 1606.08415",
    "swish1": "Elfwing, Uchibe, Doya, arXiv 1702.03118 (SiLU)",
    "swish": "Ramachandran, Zoph, Le, arXiv 1710.05941",
}
"""Where a known function comes from, by its key; those of the group `found` come from the paper."""


def reference(known: KnownFunction) -> str:
    """Where a known function comes from; `""` for what nobody is named for."""
    found = "Ramachandran, Zoph, Le, arXiv 1710.05941, Figure 3" if known.group == "found" else ""
    return REFERENCES.get(known.key, found)


def recognised(candidate: Candidate, operators: OperatorSet) -> KnownFunction | None:
    """The known function that a candidate's spelling or else its fingerprint belongs to.

    Args:
        candidate: A canonical candidate.
        operators: Its operators.
    """
    if not _redefined(candidate, operators):
        for known in CATALOGUE:
            if canonical(known.candidate, PAPER) == candidate:
                return known
    from ..fingerprint import fingerprint_of
    from ..naming import shared_table
    from ..probe import Prober
    from ..program import OperatorTable

    table = OperatorTable.for_run(operators, core_units=len(candidate.units), extra=[candidate])
    fingerprint = fingerprint_of(Prober(shared_table(table)).probe([candidate])[0])
    return _names().find(fingerprint) if np.isfinite(fingerprint).all() else None


def body_of_known(known: KnownFunction, body: Body) -> Body | None:
    """The way in which a known function is written, for a candidate that was recognised as it.

    The trainable vectors are the candidate's, with the initial values they have there.

    Args:
        known: What was recognised.
        body: The candidate's own body.

    Returns:
        None if the fingerprint was almost right only, as of x²/(x + ε), which is almost x.
    """
    plain = body_of(known.candidate, known_operators(PAPER), None)
    own = body.vectors
    if len(own) != len(plain.vectors):
        return None
    inits = {
        vector: replace(vector, init=mine.init)
        for vector, mine in zip(plain.vectors, own, strict=True)
    }

    def renamed(term: Term) -> Term:
        if isinstance(term, Vector):
            return inits[term]
        if isinstance(term, Apply):
            return replace(
                term,
                operands=tuple(renamed(operand) for operand in term.operands),
                vectors=tuple(inits[vector] for vector in term.vectors),
            )
        return term

    new = plain.map(renamed)
    return new if agree(new, body) else None


def _redefined(candidate: Candidate, operators: OperatorSet) -> bool:
    """Whether a name in the candidate means another operator than in the catalogue."""
    own, plain = known_operators(operators), known_operators(PAPER)
    names = {name for unit in candidate.units for name in (unit.unary1, unit.unary2, unit.binary)}
    return any(own[name] is not plain.get(name) for name in names)


@cache
def _names() -> KnownNames:
    from ..naming import KnownNames

    return KnownNames()
