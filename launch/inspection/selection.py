"""Some of a run's candidates, in some order: what `top` can be asked for beside the ranking."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from search.journal import Journal
from search.ranking import RankedCandidate, untrained
from spaces import CATALOGUE, PAPER
from spaces.candidate import FIRST, IDENTITY
from spaces.catalogue import known_operators
from spaces.suggest import did_you_mean

from ..errors import RequestError

Place = tuple[int | None, RankedCandidate]
"""A candidate and its place in the run's ranking, from 1; None of one that was not trained."""

Order = Literal["reward", "loss", "seconds", "trials"]

_CALLED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*\(")


def _by_loss(candidate: RankedCandidate) -> tuple[bool, int, float]:
    loss = candidate.loss if candidate.reward is not None else None
    return (loss is None, -candidate.rung, loss or 0.0)


_KEYS: Mapping[str, Callable[[RankedCandidate], tuple[float, ...]]] = {
    "loss": _by_loss,
    "seconds": lambda candidate: (-candidate.seconds,),
    "trials": lambda candidate: (-len(candidate.trials),),
}


def ordered(places: Sequence[Place], by: Order) -> list[Place]:
    """Places in another order; equal ones stay in that of the ranking.

    Args:
        places: Candidates in the order of the ranking.
        by: `reward` changes nothing; `loss` puts the lowest of the highest rung first, `seconds`
            and `trials` the most.
    """
    if by == "reward":
        return list(places)
    key = _KEYS[by]
    return sorted(places, key=lambda place: key(place[1]))


def without_reward(journal: Journal, places: Iterable[Place]) -> list[Place]:
    """Those that diverged or failed, then those that pre-flight refused."""
    refused: list[Place] = [(None, candidate) for candidate in untrained(journal)]
    return [place for place in places if place[1].status != "ok"] + refused


def known_as(places: Sequence[Place], name: str) -> list[Place]:
    """Those that are the known function of this name, by title or key, in any case.

    Raises:
        RequestError: Nobody knows the name.
    """
    title = title_of(name, (candidate.row.name for _, candidate in places))
    if title is None:
        names = dict.fromkeys(each.row.name for _, each in places if each.row.name)
        near = did_you_mean(name, [*names, *_names()])
        allowed = near or f", must be one of {', '.join(known.key for known in CATALOGUE)}"
        raise RequestError(f"`name`: no function is known as {name!r}{allowed}")
    return [place for place in places if place[1].row.name == title]


def title_of(name: str, further: Iterable[str | None] = ()) -> str | None:
    """The title of the known function that is called so, by title or key, in any case."""
    wanted = name.strip().casefold()
    for known in CATALOGUE:
        if wanted in (known.key.casefold(), known.title.casefold()):
            return known.title
    return next((title for title in further if title and title.casefold() == wanted), None)


def _names() -> list[str]:
    return [name for known in CATALOGUE for name in (known.title, known.key)]


def containing(
    places: Sequence[Place], operators: Sequence[str], known: Iterable[str]
) -> list[Place]:
    """Those that use every one of these operators.

    Args:
        places: The candidates.
        operators: Names of operators.
        known: Names that the run may use beside the paper's and the hidden ones.

    Raises:
        RequestError: A name is no operator's, or that of the identity, which text leaves out.
    """
    names = set(known) | known_operators(PAPER).keys() - {FIRST}
    for name in operators:
        if name == IDENTITY:
            raise RequestError(f"`contains` cannot be `{IDENTITY}`: expressions leave it out")
        if name not in names and title_of(name):
            raise RequestError(f"`contains`: {name!r} is a function and no operator; see --name")
        if name not in names:
            near = did_you_mean(name, names)
            allowed = near or f", must be one of {', '.join(sorted(names - {IDENTITY}))}"
            raise RequestError(f"`contains`: no operator is called {name!r}{allowed}")
    wanted = set(operators)
    return [place for place in places if wanted <= operators_in(place[1].row.expression)]


def operators_in(expression: str) -> set[str]:
    """The operators that an expression names."""
    return set(_CALLED.findall(expression))
