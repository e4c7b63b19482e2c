"""`actsearch bench`: what this machine can do for a search, and how long the search would take.

The measuring is `trainers.bench`'s, in processes of their own that start like workers do: the same
environment, and cores of their own. No Ray.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trainers
from spaces import SearchSpace, read_source
from trainers.bench_report import as_lines, duration, round_number
from trainers.command import train_arguments
from trainers.processor import processor_kind

from .config import FORMS, PlacementConfig, Science
from .errors import RequestError, RunFailedError
from .estimate import candidates_to_train, estimate_search
from .execution import choose_execution
from .pool import core_sets
from .room import workers_that_fit
from .worker import environment

if TYPE_CHECKING:
    from trainers.dataset import Dataset

_MEDIANS = ("step_ms", "compile_s", "first_step_new_candidate_ms", "traced_over_specialised")
_FORM_MEDIANS = ("step_ms", "compile_s", "fuse_s", "start_s", "evaluate_s", "trial_s")
WORTH_SAYING = 1.05
"""A form that does so many times as many candidates an hour as the one chosen is named."""

_SUMS = ("images_per_s", "candidates_per_hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """How to measure.

    Raises:
        RequestError: A field is out of its range.
    """

    candidates: int = 5
    """Random candidates to time."""
    seconds: float = 60.0
    """About how long to measure."""
    processes: int = 1
    """How many to run at once, each like one worker."""

    def __post_init__(self) -> None:
        for name in ("candidates", "processes"):
            if getattr(self, name) < 1:
                raise RequestError(f"`{name}` must be ≥ 1, got {getattr(self, name)}")
        if not 0 < self.seconds < float("inf"):
            raise RequestError(f"`seconds` must be > 0, got {self.seconds}")


def bench(
    science: Science,
    placement: PlacementConfig,
    data: Dataset,
    options: BenchOptions,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measures, and estimates the search; a document of plain data.

    Args:
        science: The search.
        placement: Its workers.
        data: Its images.
        options: How to measure.
        say: Is told what happens.

    Raises:
        RequestError: The request is wrong.
        RunFailedError: It could not be measured.
    """
    from trainers.linked_form import linkable

    form, reason = choose_execution(
        science.search.execution,
        science.train,
        core_units=science.space.core_units,
        image_size=data.train.images.shape[1],
        processor=processor_kind(),
        linked=placement.platform == "cpu" and linkable(),
    )
    sets = _cores(placement, options.processes)
    say(f"measuring for about {duration(options.seconds)}")
    arguments = _arguments(science, placement, options, form)
    found = merge(_measure([[*arguments, f"--cores={_list(cores)}"] for cores in sets], placement))
    workers = _workers(placement, found)
    space = SearchSpace(read_source(science.space.operators).load(), science.space.core_units)
    candidates, most = candidates_to_train(science, space.size)
    estimates = {
        each: estimate_search(
            science,
            found["forms"][each],
            traced=each == "traced",
            candidates=candidates,
            workers=workers,
        )
        for each in FORMS
    }
    rates = {
        each: options.processes * estimate.pop("candidates_per_hour")
        for each, estimate in estimates.items()
    }
    return found | {
        "candidates_per_hour": rates[form],
        "candidates_per_hour_by_form": rates,
        "execution": form,
        "execution_reason": reason,
        "search": {"candidates": candidates, "candidates_at_most": most, **estimates[form]},
    }


def merge(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One document for processes that ran at once: throughputs add up, times are medians.

    What is no figure of the forms is the first one's; memory is that of the largest process.
    """
    first = documents[0]
    merged = {
        **first,
        "processes": len(documents),
        "cores": sorted({core for each in documents for core in each["cores"] or ()}) or None,
        "peak_memory_mb": max(each["peak_memory_mb"] or 0.0 for each in documents) or None,
        **_merged(documents, _MEDIANS),
    }
    merged["forms"] = {
        form: {**values, **_merged([each["forms"][form] for each in documents], _FORM_MEDIANS)}
        for form, values in first["forms"].items()
    }
    return merged


def bench_lines(found: dict[str, Any]) -> list[str]:
    """The document of `bench` as text."""
    search = found["search"]
    trials = f"{search['trials']:,} trials ({search['baselines']:,} of baselines)"
    workers = f"{search['workers']} worker{'' if search['workers'] == 1 else 's'}"
    rounds = ", then ".join(
        f"{rung['rounds']:,} rounds of {rung['trial_s']:.2f} s ({rung['trials']:,} trials of "
        f"{rung['steps']:,} steps)"
        for rung in search["rungs"]
    )
    once = "" if not search["compile_s"] else f" and {search['compile_s']:.0f} s of compilation"
    lines = [
        *as_lines(found),
        f"execution {found['execution']} ({found['execution_reason']}): "
        f"{round_number(found['candidates_per_hour'])} candidates/hour",
        *_better(found),
        f"this search, {trials} on {workers}: about {duration(search['seconds'])}",
        f"  = {search['start_s']:.0f} s of start-up{once}, then {rounds}",
        f"  supposing that {_supposed(found)}",
    ]
    if search["candidates"] == search["candidates_at_most"]:
        lines.append(f"  the space has no more than {search['candidates']:,} candidates")
    return lines


def _better(found: dict[str, Any]) -> list[str]:
    """What to say where the form that was chosen is not the one that does more here."""
    rates = found["candidates_per_hour_by_form"]
    best = max(rates, key=rates.__getitem__)
    if rates[best] < WORTH_SAYING * rates[found["execution"]]:
        return []
    return [f"  --execution {best} does more here: {round_number(rates[best])} candidates/hour"]


def _supposed(found: dict[str, Any]) -> str:
    workers, processes = found["search"]["workers"], found["processes"]
    parts = ["no child diverges, which would end it early", "start-up is as on our two cores"]
    if workers != processes:
        one = "the one" if processes == 1 else f"each of the {processes}"
        parts.insert(
            0,
            f"each of {workers} is as fast as {one} measured (`--processes {workers}` measures "
            f"so many at once)",
        )
    return "; ".join(parts)


def _merged(parts: Sequence[dict[str, Any]], medians: Sequence[str]) -> dict[str, float]:
    return {
        **{name: statistics.median(part[name] for part in parts) for name in medians},
        **{name: sum(part[name] for part in parts) for name in _SUMS},
    }


def _arguments(
    science: Science, placement: PlacementConfig, options: BenchOptions, form: str
) -> list[str]:
    return [
        "--json",
        *train_arguments(science.train),
        f"--operators={science.space.operators}",
        f"--core-units={science.space.core_units}",
        f"--baselines={','.join(science.search.baseline_keys)}",
        f"--seed={science.search.seed}",
        f"--execution={form}",
        f"--candidates={options.candidates}",
        f"--seconds={options.seconds}",
        *([f"--data-dir={placement.data_dir}"] if placement.data_dir else []),
    ]


def _cores(placement: PlacementConfig, processes: int) -> list[tuple[int, ...]]:
    """Cores for each process, as workers of this machine get them."""
    available = sorted(os.sched_getaffinity(0))
    sets = core_sets(processes, placement.cpus_per_worker, available)
    if sets is None:
        raise RequestError(
            f"`processes`: {processes} of {placement.cpus_per_worker} cores each do not fit, this "
            f"machine lets us use {len(available)}"
        )
    if processes > 1 and (placement.platform == "tpu" or placement.gpus_per_worker > 1 / processes):
        raise RequestError(
            f"`processes`: {processes} do not fit on one accelerator, which is all that is measured"
        )
    return sets


def _workers(placement: PlacementConfig, found: dict[str, Any]) -> int:
    if placement.workers != "auto":
        return int(placement.workers)
    accelerators = {"gpu": "GPU", "tpu": "TPU"}.get(found["backend"], "")
    resources = {
        **placement.custom_resources,
        "CPU": float(len(os.sched_getaffinity(0))),
        **({accelerators: float(found["devices"])} if accelerators else {}),
    }
    return workers_that_fit(placement, resources)


def _measure(commands: Sequence[list[str]], placement: PlacementConfig) -> list[dict[str, Any]]:
    """Runs `python -m trainers bench` with each of these arguments, all at once."""
    root = str(Path(trainers.__file__).parents[1])
    variables = {
        **os.environ,
        **environment(placement.platform, placement.gpus_per_worker),
        "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))),
    }
    # -P: a folder named `trainers` where the user happens to be is not meant.
    python = [sys.executable, "-P", "-m", "trainers", "bench"]
    with contextlib.ExitStack() as stack:
        processes = []
        for arguments in commands:
            process = subprocess.Popen(
                [*python, *arguments],
                env=variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        return [_document(process) for process in processes]


def _document(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate()
    if process.returncode == 0:
        return json.loads(output)
    last = (errors.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    message = last.removeprefix("error: ").removeprefix("python -m trainers bench: error: ")
    raise (RequestError if process.returncode == 2 else RunFailedError)(message)


def _list(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
