"""`actsearch bench`: what this machine can do for a search."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..errors import DONE
from .options import SEARCH_SECTIONS, WHOLE, check_request, requested, with_flags

Flag = Annotated[bool, Parameter(negative="")]


@with_flags(*SEARCH_SECTIONS)
def bench(
    *,
    preset: str | None = None,
    config: Path | None = None,
    candidates: Annotated[int, WHOLE] = 5,
    seconds: float = 60.0,
    processes: Annotated[int, WHOLE] = 1,
    json: Flag = False,
    **options: Any,
) -> int:
    """What this machine can do for a search, and how long the search would take; trains no run.

    Parameters
    ----------
    preset
        Starting values: quick (the default), cifar10 or paper. `--config` and flags beat them.
    config
        A JSON file with values, in the form of a run's config.json. Flags beat it.
    candidates
        How many random candidates to time in both forms, if the time suffices.
    seconds
        About how long to measure.
    processes
        How many workers to measure at once, each on cores of its own.
    json
        Print one JSON document.
    """
    from ..bench import BenchOptions, bench_lines
    from ..bench import bench as measure
    from ..prepare import load_data

    measuring = BenchOptions(candidates=candidates, seconds=seconds, processes=processes)
    science, placement = requested(preset, config, options)
    check_request(science, science.space.operators)
    data = load_data(science, placement)

    def say(message: str) -> None:
        if not json:
            print(message, file=sys.stderr)

    found = measure(science, placement, data, measuring, say)
    if json:
        print(json_module.dumps(found, ensure_ascii=False, allow_nan=False))
    else:
        print("\n".join(bench_lines(found)))
    return DONE
