"""What ends a command: a wrong request, a failure while running, a stop that can be resumed."""

from __future__ import annotations

DONE = 0
"""Exit code: everything that was asked for is done."""
FAILED = 1
"""Exit code: something broke while running."""
WRONG_REQUEST = 2
"""Exit code: the request was wrong; one line on stderr says what and what is allowed."""
STOPPED = 3
"""Exit code: stopped before the end; the run can be resumed."""


class RequestError(ValueError):
    """The request is wrong: one line that names what, its value and what is allowed."""


class RunFailedError(RuntimeError):
    """The run broke for a reason that is not the request's: one line."""
