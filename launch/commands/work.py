"""Drives a run in the foreground and shows what came of it: the end of `search` and `resume`."""

from __future__ import annotations

import shlex
from typing import Any

from spaces.operator_source import BUILT_IN

from ..errors import DONE, STOPPED, RunFailedError
from ..worker import Worker


def work(run: Any, data: Any, *, json: bool, worker: type = Worker) -> int:
    """Drives a run and shows what came of it.

    Args:
        run: The run.
        data: Its images.
        json: Whether to print one JSON document instead of tables.
        worker: What runs in the Ray actors.

    Raises:
        RunFailedError: The journal cannot be written any more, or workers cannot be had.
    """
    from search.journal import JournalError
    from search.ranking import rank

    from ..driver import drive
    from ..inspection.summary import as_dict, as_lines, summarise
    from ..inspection.tables import as_records, as_table, stderr, stdout, title
    from ..printable import json_line
    from ..progress import Progress

    errors = stderr()
    errors.print(f"{'resuming' if run.resumed else 'run'} {run.folder}", highlight=False)
    try:
        with Progress(None if json else errors, notes=errors) as progress:
            stopped = drive(run, data, progress=progress, worker=worker)
        summary, ranked = summarise(run.journal), rank(run.journal)
    except JournalError as error:
        raise RunFailedError(str(error)) from None
    finally:
        run.journal.close()
    if json:
        document = {"run": str(run.folder), "stopped": stopped, "summary": as_dict(summary)}
        print(json_line({**document, "candidates": as_records(ranked)}))
    else:
        out = stdout()
        shown = ranked[: run.science.search.listed or 20]
        rungs = len(run.science.search.ladder(1))
        out.print(title(run.folder, ranked), highlight=False, soft_wrap=True)
        out.print(as_table(shown, rungs=rungs))
        for line in as_lines(summary):
            out.print(line, highlight=False, soft_wrap=True)
    if stopped:
        errors.print(
            f"stopped by {stopped}; go on with: {_command(run)}",
            highlight=False,
            soft_wrap=True,
        )
        return STOPPED
    return DONE


def _command(run: Any) -> str:
    """What goes on with a run: code that it needs has to be named every time."""
    words = ["actsearch", "resume", str(run.folder)]
    if run.operators.spec != BUILT_IN:
        words += ["--operators", run.operators.spec]
    if run.placement.address:
        words += ["--address", run.placement.address]
    return shlex.join(words)
