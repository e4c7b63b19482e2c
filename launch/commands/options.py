"""Command-line options that stand for the fields of a search, and what a request comes to."""

from __future__ import annotations

import inspect
import os
import re
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import CoercionError, Group, Parameter, Token

from ..errors import RequestError
from ..flags import Flag, build, check_named, flags, read_config
from ..presets import DEFAULT, PRESETS

_TITLES = {
    "space": "Space",
    "search": "Search",
    "train": "Child and training",
    "placement": "Workers and time",
    "controller": "Strategy: controller",
    "evolution": "Strategy: evolution",
    "exhaustive": "Strategy: exhaustive",
}

SEARCH_SECTIONS = tuple(_TITLES)
"""What `search` and `bench` may be asked for."""


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    """A whole number as it is written; nothing is rounded to one."""
    (token,) = tokens
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", token.value):
        raise CoercionError(token=token, target_type=int)
    return int(token.value)


WHOLE = Parameter(converter=_whole, n_tokens=1)
"""Stands with an option that is a whole number."""


def with_flags(*sections: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command one option for each field of these sections, None where nothing was said."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        groups = {section: Group(_TITLES[section]) for section in sections}
        added = [
            inspect.Parameter(
                flag.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=_annotation(flag, groups[flag.section]),
            )
            for flag in flags().values()
            if flag.section in sections
        ]
        setattr(command, "__signature__", signature.replace(parameters=[*own, *added]))  # noqa: B010  # functions have no such attribute to a type checker
        command.__annotations__ = {p.name: p.annotation for p in [*own, *added]}
        return command

    return decorate


def _annotation(flag: Flag, group: Group) -> Any:
    plain = Parameter(help=_help(flag), group=group)
    if int in (typing.get_args(flag.type) or (flag.type,)):
        return Annotated[flag.type | None, plain, WHOLE]
    return Annotated[flag.type | None, plain]


def _help(flag: Flag) -> str:
    """What it means, with its value where neither a preset nor anything else says another."""
    value = PRESETS[DEFAULT].get(flag.name, flag.default)
    return flag.help if value in (None, "") else f"{flag.help} [{value}]"


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def requested(
    preset: str | None,
    config: Path | None,
    options: dict[str, Any],
    before: dict[str, Any] | None = None,
) -> tuple[Any, Any]:
    """Science and placement from a preset, a file and flags; each beats the ones before.

    `before` are values that stand in for a preset where none is named.
    """
    from spaces.suggest import did_you_mean

    name = DEFAULT if preset is None else preset
    if name not in PRESETS:
        near = did_you_mean(name, PRESETS)
        raise RequestError(f"`preset` must be one of {', '.join(PRESETS)}, got {name!r}{near}")
    from_file = read_config(config) if config is not None else {}
    start = PRESETS[name] if preset is not None or before is None else before
    check_named({**start, **from_file}, given(options), str(config))
    return build({**start, **from_file, **given(options)})


def check_request(science: Any, operators: str, address: str = "") -> None:
    """Faults that can be told before anything is made on disk.

    Args:
        science: What is asked for.
        operators: The operator set that the user named; never one that only a run's folder names.
        address: The cluster that is to be joined; empty: none.
    """
    from trainers.dataset import dataset_spec

    from ..address import check_that_it_answers
    from ..operator_request import checked_operators

    try:
        dataset_spec(science.train.dataset)
    except ValueError as error:
        raise RequestError(str(error)) from None
    if operators != "paper":
        os.environ["JAX_PLATFORMS"] = "cpu"
        checked_operators(operators)
    check_that_it_answers(address)
