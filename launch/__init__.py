"""Machines and people: Ray workers, the driver loop, the command line, progress and tables."""

from .config import PlacementConfig as PlacementConfig
from .config import Science as Science
from .errors import RequestError as RequestError
from .errors import RunFailedError as RunFailedError
