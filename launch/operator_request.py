"""Operator sets that a request names: loaded, and what is not built in checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spaces import PAPER, OperatorSet, OperatorSetError, read_source
from spaces.catalogue import known_operators

from .errors import RequestError

if TYPE_CHECKING:
    from spaces import Operator


def checked_operators(spec: str) -> OperatorSet:
    """Loads an operator set and checks what is not built in.

    Raises:
        RequestError: It cannot be loaded, or an operator is not sound.
    """
    from spaces import check_operators

    _, operators = loaded_operators(spec)
    faults = check_operators(own_operators(operators))
    if faults:
        raise faulty(spec, faults)
    return operators


def own_operators(operators: OperatorSet) -> list[Operator]:
    """The operators of a set that are not built in."""
    built_in = known_operators(PAPER)
    return [operator for operator in operators if built_in.get(operator.name) is not operator]


def loaded_operators(spec: str) -> tuple[str, OperatorSet]:
    """An operator set, unchecked, and where it is with its name.

    Raises:
        RequestError: It cannot be loaded.
    """
    try:
        source = read_source(spec)
        return source.spec, source.load()
    except OperatorSetError as error:
        raise RequestError(str(error)) from None


def faulty(spec: str, faults: Sequence[str]) -> RequestError:
    """What is said of a set of which some operators are not sound, in one line."""
    return RequestError(" ".join(f"operators {spec}: {'; '.join(faults)}".split()))
