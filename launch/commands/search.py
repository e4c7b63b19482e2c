"""`actsearch search`: begins a run, or goes on with one that asked for the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from .options import SEARCH_SECTIONS, check_request, requested, with_flags
from .work import work

Flag = Annotated[bool, Parameter(negative="")]


@with_flags(*SEARCH_SECTIONS)
def search(
    *,
    run_dir: Path | None = None,
    preset: str | None = None,
    config: Path | None = None,
    grow_from: Annotated[Path | None, Parameter(name="--from")] = None,
    json: Flag = False,
    **options: Any,
) -> int:
    """Search for activation functions, or go on with a run that asked for the same.

    Parameters
    ----------
    run_dir
        Folder of the run; an existing run goes on if it asked for the same. Without it, a new
        folder in `runs/`.
    preset
        Starting values: quick (the default), cifar10 or paper. `--config` and flags beat them.
    config
        A JSON file with values, in the form of a run's config.json. Flags beat it.
    grow_from
        A run to grow from: a new run that has its values, knows its rewards and trains nothing
        again; `--trials` are new ones. With more operators or core units a controller goes on from
        what it learnt there, evolution begins with the best functions, other strategies begin
        afresh.
    json
        Print one JSON document instead of tables.
    """
    from ..prepare import load_data
    from ..run import check_free, inherited, new_folder, start_or_resume

    before = None
    if grow_from is not None:
        named = options.get("operators") or config is not None
        before = inherited(grow_from, run_dir, operators_named=bool(named))
    science, placement = requested(preset, config, options, before)
    if run_dir is not None:
        check_free(run_dir)
    check_request(science, science.space.operators, placement.address)
    data = load_data(science, placement)
    folder = run_dir or new_folder(science.train.dataset, science.search.strategy)
    run = start_or_resume(folder, science, placement, parent=grow_from, data_sha256=data.digest)
    return work(run, data, json=json)
