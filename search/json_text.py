"""JSON as the journal keeps it: compact, and not read before somebody asks for what is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def _entries(value: Any) -> dict[str, Any]:
    """An object of another kind than `dict`."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is nothing that JSON has")


_JSON = json.JSONEncoder(
    separators=(",", ":"), allow_nan=True, check_circular=False, default=_entries
)
"""Looking for circles would take a third of the time, and what is written has none."""


def as_json(value: Any) -> str:
    """A value as the journal keeps it; of a `JsonObject` the very text that it was made of."""
    return value.text if type(value) is JsonObject else _JSON.encode(value)


class JsonObject(Mapping[str, Any]):
    """An object that is known by its text, as whoever wrote it has sent it.

    A worker's curve goes into the journal so, and the driver neither reads nor writes it.

    Args:
        text: An object in JSON, as `as_json` writes it.
    """

    __slots__ = ("_entries", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._entries: dict[str, Any] | None = None

    def _read(self) -> dict[str, Any]:
        entries = self._entries
        if entries is None:
            entries = self._entries = json.loads(self.text)
        return entries

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return f"JsonObject({self.text!r})"
