"""Machines and people: Ray workers, the driver loop, the command line, progress and tables.

Names that look at runs or start them are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import PlacementConfig as PlacementConfig
from .config import Science as Science
from .config import SearchConfig as SearchConfig
from .config import SpaceConfig as SpaceConfig
from .errors import RequestError as RequestError
from .errors import RunFailedError as RunFailedError

if TYPE_CHECKING:
    from .inspection.opened_run import OpenedCandidate as OpenedCandidate
    from .inspection.opened_run import OpenedRun as OpenedRun
    from .inspection.opened_run import open_run as open_run
    from .notebook import resume as resume
    from .notebook import search as search

_LAZY = {
    "OpenedCandidate": "inspection.opened_run",
    "OpenedRun": "inspection.opened_run",
    "open_run": "inspection.opened_run",
    "resume": "notebook",
    "search": "notebook",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
