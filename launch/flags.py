"""The configuration as flags and as config.json: one option for each field of each section."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import json
import textwrap
import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.controller import ControllerConfig
from search.evolution import EvolutionConfig
from search.exhaustive import ExhaustiveConfig
from spaces.operator_source import BUILT_IN
from spaces.suggest import did_you_mean
from trainers.config import TrainConfig

from .config import PlacementConfig, Science, SearchConfig, SpaceConfig
from .errors import RequestError

VERSION = 1
"""Version of config.json."""

MAX_BYTES = 1_000_000
"""Longest configuration file that is read; an ordinary one has 2,000 bytes."""

FROM = "from"
"""Entry of config.json that says which run this one grew from: `run` and `history_sha256`."""

SECTIONS: Mapping[str, type] = {
    "space": SpaceConfig,
    "search": SearchConfig,
    "train": TrainConfig,
    "controller": ControllerConfig,
    "evolution": EvolutionConfig,
    "exhaustive": ExhaustiveConfig,
    "placement": PlacementConfig,
}
"""Sections of config.json, and groups of flags."""

_PREFIXED = ("controller", "evolution", "exhaustive")


@dataclass(frozen=True, slots=True)
class Flag:
    """One option of the command line, which is one field of one section."""

    name: str
    """As a Python name: `batch_size` for `--batch-size`."""
    section: str
    """Where it stands in config.json."""
    field: str
    """Its name there."""
    type: Any
    """Its type, None aside."""
    default: Any
    """Its value when nobody says otherwise."""
    help: str
    """What it means: the field's docstring."""


@functools.cache
def flags() -> Mapping[str, Flag]:
    """All options by name."""
    found = {}
    for section, kind in SECTIONS.items():
        hints, documentation = typing.get_type_hints(kind), _field_docstrings(kind)
        for entry in dataclasses.fields(kind):
            name = f"{section}_{entry.name}" if section in _PREFIXED else entry.name
            found[name] = Flag(
                name,
                section,
                entry.name,
                hints[entry.name],
                entry.default,
                documentation.get(entry.name, ""),
            )
    return found


def build(values: Mapping[str, Any]) -> tuple[Science, PlacementConfig]:
    """Makes the configuration from values by flag name; what is missing has its default.

    Raises:
        RequestError: A value is out of its range.
    """
    sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name, value in values.items():
        flag = flags()[name]
        sections[flag.section][flag.field] = value
    try:
        built = {section: SECTIONS[section](**given) for section, given in sections.items()}
        placement = built.pop("placement")
        science = Science(**built)
    except (ValueError, TypeError) as error:
        message = str(error).splitlines()[0]
        raise RequestError(message if len(message) <= 2_000 else message[:2_000] + "…") from None
    return science, placement


def to_json(
    science: Science, placement: PlacementConfig, origin: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The content of config.json; `origin` is the run that this one grew from."""
    return {
        "version": VERSION,
        **({} if origin is None else {FROM: dict(origin)}),
        **dataclasses.asdict(science),
        "placement": dataclasses.asdict(placement),
    }


def values_from_json(document: Any, origin: str) -> dict[str, Any]:
    """Values by flag name from the content of a config.json; unknown entries are refused.

    Raises:
        RequestError: It is no such document, or of another version.
    """
    if not isinstance(document, dict):
        raise RequestError(f"{origin} must hold a JSON object of sections {', '.join(SECTIONS)}")
    values = {}
    for section, entries in document.items():
        if section == "version":
            if entries != VERSION:
                raise RequestError(
                    f"{origin} has version {_shown(entries)}, this actsearch reads {VERSION}"
                )
            continue
        if section not in SECTIONS and section != FROM:
            raise RequestError(
                f"{origin}: unknown section `{_name(section)}`{_near_section(section)}"
            )
        if not isinstance(entries, dict):
            raise RequestError(
                f"{origin}: `{section}` must be a JSON object, got {_shown(entries)}"
            )
        if section == FROM:
            continue  # where a run came from decides nothing
        for name, value in entries.items():
            flag = next(
                (f for f in flags().values() if f.section == section and f.field == name), None
            )
            if flag is None:
                known = [f.field for f in flags().values() if f.section == section]
                near = did_you_mean(name, known) or f"; entries are {', '.join(known)}"
                raise RequestError(f"{origin}: unknown entry `{section}.{_name(name)}`{near}")
            values[flag.name] = _typed(value, flag, f"{origin}: `{section}.{name}`")
    return values


def read_config(path: Path) -> dict[str, Any]:
    """Values by flag name from a configuration file.

    Raises:
        RequestError: It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise RequestError(f"{path} must have at most {MAX_BYTES:,} bytes, has more")
    try:
        document = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # also a number of too many digits
        raise RequestError(f"{path} is no JSON: {str(error).splitlines()[0]}") from None
    return values_from_json(document, str(path))


def check_named(values: Mapping[str, Any], named: Collection[str], origin: str) -> None:
    """Refuses what a file asks for and what runs its author's code, unless the request has it too.

    Args:
        values: By flag name, from the file.
        named: Flags that stand in the request itself.
        origin: The file.

    Raises:
        RequestError: It asks for operators of its own, or for a Ray cluster.
    """
    operators, address = values.get("operators", BUILT_IN), values.get("address", "")
    if operators != BUILT_IN and "operators" not in named:
        raise RequestError(
            f"{origin} asks for operators of its own, which are code: name them in the request, "
            f"--operators {operators}"
        )
    if address and "address" not in named:
        raise RequestError(
            f"{origin} asks for the Ray cluster at {address!r}, which runs code: name it in the "
            f"request, --address {address}; --address '' is this machine"
        )


def differences(
    ours: Science, theirs: Science, only: Collection[str] | None = None
) -> Iterator[str]:
    """One line for each field in which two searches differ: "`steps` is 400 there, 300 here".

    Args:
        ours: The search here.
        theirs: The search there.
        only: Names of the flags that count; None: all of them.
    """
    for flag in flags().values():
        if flag.section == "placement" or (only is not None and flag.name not in only):
            continue
        here = getattr(getattr(ours, flag.section), flag.field)
        there = getattr(getattr(theirs, flag.section), flag.field)
        if here != there:
            yield f"`{flag.name}` is {there!r} there, {here!r} here"


def _typed(value: Any, flag: Flag, where: str) -> Any:
    kinds = typing.get_args(flag.type) or (flag.type,)
    if value is None and type(None) in kinds:
        return None
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            return float(value)
    if any(kind is type(value) for kind in kinds):
        return value
    names = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
    raise RequestError(f"{where} must be {names}, got {_shown(value)}")


def _shown(value: Any) -> str:
    """A value as a message may show it: written anew, and not too long."""
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"


def _name(text: str) -> str:
    """A name as a message may show it: not too long, and no control characters."""
    return (text if text.isprintable() else ascii(text)[1:-1])[:80]


def _near_section(name: str) -> str:
    """What somebody meant who wrote a section that there is not."""
    homes = [flag.section for flag in flags().values() if flag.field == name]
    if homes:
        return f"; it is an entry of section `{homes[0]}`"
    return did_you_mean(name, SECTIONS) or f"; sections are {', '.join(SECTIONS)}"


def _field_docstrings(kind: type) -> dict[str, str]:
    """The string under each field of a dataclass, on one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for entry, following in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(entry, ast.AnnAssign)
            and isinstance(entry.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            found[entry.target.id] = " ".join(str(following.value.value).split())
    return found
