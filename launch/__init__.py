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
    from .notebook import resume as resume
    from .notebook import search as search
    from .opened_run import OpenedCandidate as OpenedCandidate
    from .opened_run import OpenedRun as OpenedRun
    from .opened_run import open_run as open_run

_LAZY = {
    "OpenedCandidate": "opened_run",
    "OpenedRun": "opened_run",
    "open_run": "opened_run",
    "resume": "notebook",
    "search": "notebook",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
