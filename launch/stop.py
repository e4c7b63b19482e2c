"""Whether a driver is to end before its run is finished."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stop:
    """Whether the run shall end early: Ctrl-C, SIGTERM or the time limit.

    The first signal lets trials under way finish within the grace; the second does not wait.
    """

    def __init__(self, *, time_limit_s: float | None, grace_s: float) -> None:
        self._deadline = None if time_limit_s is None else time.monotonic() + time_limit_s
        self._grace_s = grace_s
        self._until: float | None = None
        self.reason = ""

    @property
    def asked(self) -> bool:
        """Whether no further trial may begin."""
        if not self.reason and self._deadline is not None and time.monotonic() >= self._deadline:
            self._begin("the time limit")
        return bool(self.reason)

    @property
    def now(self) -> bool:
        """Whether trials under way are to be given up as well."""
        return self.asked and time.monotonic() >= (self._until or 0.0)

    def _begin(self, reason: str) -> None:
        self.reason = reason
        self._until = time.monotonic() + self._grace_s

    def _handle(self, number: int, _frame: object) -> None:
        if self.reason:
            self._until = 0.0
        else:
            self._begin(signal.Signals(number).name)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catches SIGINT and SIGTERM while the context lasts.

        To be entered again once Ray has started, which takes SIGTERM for itself.
        """
        before = {n: signal.signal(n, self._handle) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
