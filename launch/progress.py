"""Live progress of a run: a bar where there is a terminal, a line now and then where there is none."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bar

from search.outcome import Outcome, Trial

if TYPE_CHECKING:
    from search.planner import Planner

    from .pool import Pool

LINE_EVERY_S = 15.0
"""Seconds between two lines where there is no terminal."""
BAR_EVERY_S = 0.1
"""Seconds between two changes of the bar."""


class Progress:
    """What a person sees on stderr while a run goes on.

    Args:
        console: Where to draw; None draws nothing.
        notes: Where to tell of what happens to workers and nodes; None tells nothing.
    """

    def __init__(self, console: Console | None, notes: Console | None = None) -> None:
        self._console = console
        self._notes = notes or console
        self._bar: Bar | None = None
        self._task = None
        self._best: tuple[float, str] | None = None
        self._known = 0
        self._here = 0
        self._failures = 0
        self._warm: tuple[int, float] | None = None
        self._last_drawn = 0.0
        self._planner: Planner | None = None
        self._pool: Pool | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, what: str) -> None:
        """Names a stage of the start."""
        if self._console is not None:
            self._console.print(f"{what} …", style="dim", highlight=False)

    def note(self, what: str) -> None:
        """Tells of something that happened."""
        if self._notes is not None:
            self._notes.print(what, style="dim", highlight=False, markup=False, soft_wrap=True)

    def begin(self, planner: Planner, pool: Pool) -> None:
        """From here on trials are counted."""
        self._planner, self._pool = planner, pool
        self._best, self._known = planner.best(), planner.known
        if self._console is not None and self._console.is_terminal:
            self._bar = Bar(
                SpinnerColumn(),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TextColumn("{task.description}", markup=False),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("starting workers", total=planner.expected, rate="")
            self._bar.start()
        else:
            self.say(f"starting {pool.count} workers")

    def show(self, trial: Trial, outcome: Outcome) -> None:
        """Counts a trial."""
        assert self._planner is not None and self._pool is not None
        self._here += 1
        if self._warm is None and self._here >= self._pool.count:
            self._warm = (self._here, time.monotonic())
        self._failures += outcome.status != "ok"
        if outcome.reward is not None and (self._best is None or outcome.reward > self._best[0]):
            self._best = (outcome.reward, self._planner.formula(trial.candidate))

    def refresh(self, stopping: str) -> None:
        """Draws what there is to draw now."""
        if self._console is None or self._planner is None:
            return
        live = self._bar is not None and self._task is not None
        if time.monotonic() - self._last_drawn < (BAR_EVERY_S if live else LINE_EVERY_S):
            return
        if self._planner.known != self._known:  # trials that nobody showed
            self._best, self._known = self._planner.best(), self._planner.known
        status, rate = self._status(stopping), self._rate()
        done, expected = self._planner.done, self._planner.expected
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, completed=done, total=expected, description=status, rate=rate
            )
        elif self._here:
            line = f"{done}/{expected}  {rate}  {status}"
            self._console.print(line, highlight=False, soft_wrap=True)
        else:
            return
        self._last_drawn = time.monotonic()

    def _rate(self) -> str:
        """Counted from when every worker has finished one trial: the first ones compile."""
        if self._warm is None or self._here == self._warm[0] or self._planner is None:
            return ""
        per_hour = 3600 * (self._here - self._warm[0]) / (time.monotonic() - self._warm[1])
        left = (self._planner.expected - self._planner.done) / per_hour * 3600
        return f"{per_hour:,.0f} trials/h, {_duration(left)} left"

    def _status(self, stopping: str) -> str:
        if stopping:
            under_way = len(self._pool.training) if self._pool else 0
            return f"stopping ({stopping}): {under_way} trials under way; once more stops now"
        if self._best is None:
            return "starting workers" if not self._here else f"{self._failures} without reward"
        text = f"best {self._best[0]:.2%}  {self._best[1]}"
        if self._known:
            text += f"  ({self._known} known before)"
        return text + (f"  ({self._failures} without reward)" if self._failures else "")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
