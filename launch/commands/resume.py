"""`actsearch resume`: goes on with a run exactly where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..flags import build, check_named
from .options import check_request, given, with_flags
from .work import work

Flag = Annotated[bool, Parameter(negative="")]


@with_flags("placement")
def resume(
    run: Path,
    *,
    operators: str | None = None,
    json: Flag = False,
    **options: Any,
) -> int:
    """Go on with a run exactly where it stopped.

    Parameters
    ----------
    run
        The run's folder.
    operators
        Where its own operator set is, FILE.py[:NAME] or module:NAME; needed if it has one.
    json
        Print one JSON document instead of tables.
    """
    from dataclasses import asdict

    from ..prepare import load_data
    from ..run import check_free, read_run_config
    from ..run import resume as reopen

    science, before = read_run_config(run)
    check_free(run)
    check_named({"address": before.address}, given(options), str(run))
    _, placement = build({**asdict(before), **given(options)})
    check_request(science, operators or "paper", placement.address)
    data = load_data(science, placement)
    return work(reopen(run, placement, operators), data, json=json)
