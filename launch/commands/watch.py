"""`actsearch watch`: a run's table from another terminal, while the run goes on."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ..config import Science
from ..errors import DONE, RequestError
from ..inspection.glance import Glance, glance
from ..inspection.reading import reading
from ..inspection.tables import as_table, stdout
from ..printable import printable
from ..run import read_run_config
from .options import WHOLE

Flag = Annotated[bool, Parameter(negative="")]

LISTED = 15
"""Most rows of the live table, if nobody says otherwise."""

AROUND = 6
"""Lines of a terminal that the table's rows do not have: title, header, caption, prompt."""

PAUSE_PER_LOOK = 10.0
"""Pauses last at least so many times what the look before took: the run has the machine."""


def watch(
    run: Path,
    *,
    interval: float = 1.0,
    limit: Annotated[int | None, WHOLE] = None,
    once: Flag = False,
) -> int:
    """The table of a run while it goes on; ends when the run is finished, or on Ctrl-C.

    Where standard output is no terminal, a line is printed whenever something has changed.

    Parameters
    ----------
    run
        The run's folder.
    interval
        Seconds between two looks.
    limit
        How many candidates to list; as many as fit, at most 15.
    once
        Look once and print the table.
    """
    if not 0 < interval < float("inf"):
        raise RequestError(f"`interval` must be > 0 seconds, got {interval:g}")
    if limit is not None and limit < 1:
        raise RequestError(f"`limit` must be ≥ 1, got {limit}")
    science, _ = read_run_config(run)
    look = _Look(run, science)
    out = stdout()
    with contextlib.suppress(KeyboardInterrupt):
        if once:
            out.print(_table(run, look(), science, limit or LISTED))
        elif out.is_terminal:
            _watch_live(out, run, look, science, interval, limit)
        else:
            _watch_lines(look, interval)
    return DONE


class _Look:
    """Looks at the run, and ranks it again only if there are new outcomes."""

    def __init__(self, run: Path, science: Science) -> None:
        self._run = run
        self._science = science
        self._seen: tuple[object, ...] = ()
        self._glance: Glance | None = None
        self.seconds = 0.0
        """What the last look took."""

    def __call__(self) -> Glance:
        begin = time.monotonic()
        with reading(self._run) as journal:
            seen = (*journal.pulse(), journal.meta("finished"))
            if self._glance is None or seen != self._seen:
                self._glance, self._seen = glance(journal, self._science), seen
        self.seconds = time.monotonic() - begin
        return self._glance

    def pause(self, interval: float) -> None:
        """Waits for the next look."""
        time.sleep(max(interval, PAUSE_PER_LOOK * self.seconds))


def _watch_live(
    out: Console, run: Path, look: _Look, science: Science, interval: float, limit: int | None
) -> None:
    with Live(console=out, auto_refresh=False) as live:
        while True:
            found = look()
            fit = max(1, min(LISTED, out.height - AROUND))
            live.update(_table(run, found, science, limit or fit), refresh=True)
            if found.finished:
                return
            look.pause(interval)


def _watch_lines(look: _Look, interval: float) -> None:
    printed = ""
    while True:
        found = look()
        if found.line() != printed:
            printed = found.line()
            print(printable(printed), flush=True)
        if found.finished:
            return
        look.pause(interval)


def _table(run: Path, found: Glance, science: Science, rows: int) -> Group | Text:
    heading = Text.assemble(
        (str(run), "bold"), f": {found.done} of {found.expected} trials, {found.state()}"
    )
    if not found.ranked:
        return heading
    return Group(heading, as_table(found.ranked[:rows], rungs=len(science.search.ladder(1))))
