"""The command line: `actsearch search | resume | top | space | operators | bench`.

Every command ends with one of four exit codes (see `launch.errors`) and prints at most one line on
stderr when it fails. Imports that cost more than a moment stand inside the commands that need them.
"""

from __future__ import annotations

import inspect
import json as json_module
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter
from rich.console import Console

from .errors import DONE, FAILED, STOPPED, WRONG_REQUEST, RequestError, RunFailedError
from .flags import Flag, build, flags, read_config
from .presets import DEFAULT, PRESETS

app = App(
    name="actsearch",
    help="Search for activation functions (Ramachandran, Zoph, Le, arXiv 1710.05941).",
    version=lambda: version("actsearch"),
)

# Commands that stand in modules of their own, imported when they are called.
app.command("launch.commands.top:top", help="Ranked candidates of a run, best first.")
app.command("launch.commands.report:report", help="A run as one HTML file.")
app.command("launch.commands.show:show", help="One candidate: formula, trials, curve, graph.")
app.command("launch.commands.watch:watch", help="A run's table while the run goes on.")
app.command("launch.commands.compare:compare", help="Several runs of one budget, side by side.")
app.command("launch.commands.operators:operators", help="List, check and draw an operator set.")
app.command(
    "launch.commands.export:export", help="A candidate as JAX, Flax, PyTorch, SymPy, LaTeX."
)

_TITLES = {
    "space": "Space",
    "search": "Search",
    "train": "Child and training",
    "placement": "Workers and time",
    "controller": "Strategy: controller",
    "evolution": "Strategy: evolution",
    "exhaustive": "Strategy: exhaustive",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and ends the process with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Runs one command; returns its exit code."""
    try:
        code = app(
            list(arguments), exit_on_error=False, print_error=False, result_action="return_value"
        )
    except (CycloptsError, RequestError) as error:
        return _complain(_one_line(str(error)), WRONG_REQUEST)
    except RunFailedError as error:
        return _complain(_one_line(str(error)), FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return _complain("interrupted", STOPPED)
    return code if isinstance(code, int) else DONE


def _complain(message: str, code: int) -> int:
    print(f"actsearch: {message}", file=sys.stderr)
    return code


def _one_line(message: str) -> str:
    return " ".join(message.split())


def _with_flags(*sections: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command one option for each field of these sections, None where nothing was said."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        groups = {section: Group(_TITLES[section]) for section in sections}
        added = [
            inspect.Parameter(
                flag.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[
                    flag.type | None, Parameter(help=_help(flag), group=groups[flag.section])
                ],
            )
            for flag in flags().values()
            if flag.section in sections
        ]
        setattr(command, "__signature__", signature.replace(parameters=[*own, *added]))  # noqa: B010  # functions have no such attribute to a type checker
        command.__annotations__ = {p.name: p.annotation for p in [*own, *added]}
        return command

    return decorate


def _help(flag: Flag) -> str:
    if flag.default in (None, "") or flag.name == "baselines":
        return flag.help
    return f"{flag.help} [{flag.default}]"


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


_SEARCH_SECTIONS = (
    "space",
    "search",
    "train",
    "placement",
    "controller",
    "evolution",
    "exhaustive",
)


@app.command
@_with_flags(*_SEARCH_SECTIONS)
def search(
    *,
    run_dir: Path | None = None,
    preset: str | None = None,
    config: Path | None = None,
    grow_from: Annotated[Path | None, Parameter(name="--from")] = None,
    json: Annotated[bool, Parameter(negative="")] = False,
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
    from .driver import load_data
    from .run import inherited, new_folder, start_or_resume

    before = None
    if grow_from is not None:
        named = options.get("operators") or config is not None
        before = inherited(grow_from, run_dir, operators_named=bool(named))
    science, placement = _request(preset, config, options, before)
    _check_request(science, science.space.operators)
    data = load_data(science, placement)
    folder = run_dir or new_folder(science.train.dataset, science.search.strategy)
    run = start_or_resume(folder, science, placement, parent=grow_from, data_sha256=data.digest)
    return _work(run, data, json=json)


@app.command
@_with_flags("placement")
def resume(
    run: Path,
    *,
    operators: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    **options: Any,
) -> int:
    """Go on with a run exactly where it stopped.

    Parameters
    ----------
    run
        The run's folder.
    operators
        Where its own operator set is, FILE.py:NAME or module:NAME; needed if it has one.
    json
        Print one JSON document instead of tables.
    """
    from dataclasses import asdict

    from .driver import load_data
    from .run import read_run_config
    from .run import resume as reopen

    science, before = read_run_config(run)
    _, placement = build({**asdict(before), **_given(options)})
    _check_request(science, operators or "paper")
    data = load_data(science, placement)
    return _work(reopen(run, placement, operators), data, json=json)


@app.command
def space(
    *,
    core_units: int = 1,
    operators: str = "paper",
    sample: int | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """What a space holds: its size, and how many candidates are invalid, constant or equal.

    Parameters
    ----------
    core_units
        Core units of a candidate, 1 to 8.
    operators
        Operator set: paper, FILE.py:NAME or module:NAME.
    sample
        Look at so many candidates drawn uniformly; without it, at all of a space of up to 100,000
        and at 10,000 of a larger one.
    json
        Print one JSON document.
    """
    from .inspect_space import census_lines, census_of
    from .tables import stdout

    os.environ["JAX_PLATFORMS"] = "cpu"
    if sample is not None and sample < 1:
        raise RequestError(f"`sample` must be ≥ 1, got {sample}")
    found = census_of(operators, core_units, sample)
    if json:
        print(json_module.dumps(found))
    else:
        for line in census_lines(found):
            stdout().print(line, highlight=False, soft_wrap=True)
    return DONE


@app.command
@_with_flags(*_SEARCH_SECTIONS)
def bench(
    *,
    preset: str | None = None,
    config: Path | None = None,
    candidates: int = 5,
    seconds: float = 60.0,
    processes: int = 1,
    json: Annotated[bool, Parameter(negative="")] = False,
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
    from .bench import BenchOptions, bench_lines
    from .bench import bench as measure
    from .driver import load_data

    measuring = BenchOptions(candidates=candidates, seconds=seconds, processes=processes)
    science, placement = _request(preset, config, options)
    _check_request(science, science.space.operators)
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


def _request(
    preset: str | None,
    config: Path | None,
    options: dict[str, Any],
    before: dict[str, Any] | None = None,
) -> tuple[Any, Any]:
    """Science and placement from a preset, a file and flags; each beats the ones before.

    `before` are values that stand in for a preset where none is named.
    """
    from spaces.suggest import did_you_mean

    name = preset or DEFAULT
    if name not in PRESETS:
        near = did_you_mean(name, PRESETS)
        raise RequestError(f"`preset` must be one of {', '.join(PRESETS)}, got {name!r}{near}")
    from_file = read_config(config) if config is not None else {}
    start = PRESETS[name] if preset is not None or before is None else before
    return build({**start, **from_file, **_given(options)})


def _check_request(science: Any, operators: str) -> None:
    """Faults that can be told before anything is made on disk.

    Args:
        science: What is asked for.
        operators: The operator set that the user named; never one that only a run's folder names.
    """
    from trainers.dataset import dataset_spec

    from .inspect_space import checked_operators

    try:
        dataset_spec(science.train.dataset)
    except ValueError as error:
        raise RequestError(str(error)) from None
    if operators != "paper":
        os.environ["JAX_PLATFORMS"] = "cpu"
        checked_operators(operators)


def _work(run: Any, data: Any, *, json: bool) -> int:
    """Drives a run and shows what came of it."""
    from search.ranking import rank

    from .driver import drive
    from .progress import Progress
    from .summary import as_dict, as_lines, summarise
    from .tables import as_records, as_table, stdout, title

    errors = Console(stderr=True)
    errors.print(f"{'resuming' if run.resumed else 'run'} {run.folder}", highlight=False)
    try:
        with Progress(None if json else errors) as progress:
            stopped = drive(run, data, progress=progress)
        summary, ranked = summarise(run.journal), rank(run.journal)
    finally:
        run.journal.close()
    if json:
        document = {"run": str(run.folder), "stopped": stopped, "summary": as_dict(summary)}
        print(json_module.dumps({**document, "candidates": as_records(ranked)}, ensure_ascii=False))
    else:
        out = stdout()
        shown = ranked[: run.science.search.listed or 20]
        rungs = len(run.science.search.ladder(1))
        out.print(title(run.folder, len(ranked)), highlight=False, soft_wrap=True)
        out.print(as_table(shown, rungs=rungs))
        for line in as_lines(summary):
            out.print(line, highlight=False, soft_wrap=True)
    if stopped:
        errors.print(
            f"stopped by {stopped}; go on with: actsearch resume {run.folder}",
            highlight=False,
            soft_wrap=True,
        )
        return STOPPED
    return DONE
