"""What an export can fail at."""

from __future__ import annotations


class ExportError(ValueError):
    """A candidate cannot be written for a target; the message is one line that says why."""
