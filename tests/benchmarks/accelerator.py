"""All that is to be known of one accelerator, by one command, in less than ten minutes.

    python tests/benchmarks/accelerator.py --data-dir DIR

With the paper's child (ResNet-20, CIFAR-10, batch 128, 10,000 steps, convolutions in bfloat16):
candidates per hour with one and with several processes that share the device, by NVIDIA's Multi-Process
Service too, with two programs in one process, with the next candidate compiled ahead by a thread, with other
settings of XLA's command buffers, and with its autotuning kept; the step beside its physical floor; the
hours that the paper's whole one-unit space would take, in full and by rungs; and the same child in PyTorch,
whose strongest form is what all is compared with. It needs no Ray. `--device cpu` with a small child tries the command out where
there is no accelerator.

What is measured is told at once, in the order of what matters most. What fails, or would go on beyond
`--minutes`, is told so, and the rest goes on; `--only` measures what is still to be known.

A peer trains `--peer-steps` steps of each candidate; its candidates per hour are those of full
budgets, with what it paid to build and compile once per candidate, and steps at the pace measured.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from launch.config import Science, SearchConfig
from launch.estimate import estimate_search
from launch.presets import PRESETS
from trainers.command import train_arguments
from trainers.config import TrainConfig

DISTINCT = 3_710
"""Candidates of the one-unit space that are left to be trained, see `actsearch space`."""

RUNGS = "400:400,2000:60,10000:12"
"""The README's rungs, stretched to the paper's steps."""

SETTINGS = {
    "loops in command buffers": "--xla_gpu_enable_command_buffer=+WHILE,+CONDITIONAL",
    "no command buffers": "--xla_gpu_enable_command_buffer=",
    "autotuning kept": "--xla_gpu_per_fusion_autotune_cache_dir={folder}",
}
"""XLA's CUDA graphs in other ways than its own, and kernels chosen once for all candidates."""

ROOT = Path(__file__).parents[2]

_SHARE = 0.4
"""Of the whole time, what one part may take at most."""
_LEAST_S = 20.0
"""A part that has less left is not begun."""


class Part(NamedTuple):
    """Something to measure in processes of its own."""

    name: str
    command: list[str]
    """It prints a JSON document."""
    processes: int
    """Of this project; 0 for a peer."""
    xla_flags: str = ""
    """`{folder}` in them is an empty one, for it alone."""
    mps: bool = False
    """Whether they share the device by NVIDIA's Multi-Process Service."""
    tried: bool = False
    """Whether it is a way that no search goes yet."""


class PartError(Exception):
    """A part could not be measured; the message says why."""


def flags() -> argparse.ArgumentParser:
    """What may be asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--child", default="resnet20")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--candidates", type=int, default=4, help="at most, for each of ours")
    parser.add_argument("--seconds", type=float, default=60.0, help="about, for each of ours")
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything")
    parser.add_argument("--peer-steps", type=int, default=300)
    parser.add_argument("--peer-forms", nargs="*", help="default: by device and precision")
    parser.add_argument("--only", nargs="*", help="parts with any of these words in their names")
    parser.add_argument("--json", action="store_true", help="a JSON document for each line")
    return parser


def main() -> None:
    """Measures, and tells each figure when it is there."""
    parser = flags()
    asked = parser.parse_args()
    if not chosen(asked):
        known = ", ".join(part.name for part in parts(asked))
        parser.error(f"--only: no part is named {' or '.join(asked.only)}; there are {known}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # no part is left behind
    rows = []
    for row in measured(asked):
        rows.append(row)
        print(json.dumps(row) if asked.json else line(row), flush=True)
    print(json.dumps(summary(rows)) if asked.json else "\n".join(summary_lines(rows)))
    if all("failed" in row for row in rows):
        sys.exit(1)


def measured(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each part."""
    begin, whole = time.monotonic(), 60 * asked.minutes
    for part in chosen(asked):
        left = whole - (time.monotonic() - begin)
        row = {"name": part.name, "processes": part.processes}
        try:
            if left < _LEAST_S:
                raise PartError(f"no time left of {asked.minutes:g} minutes")
            found = answer(part, min(left, _SHARE * whole))
            if part.tried:
                row |= in_one(found)
            else:
                row |= ours(asked, found, part) if part.processes else theirs(asked, found)
        except PartError as error:
            row["failed"] = str(error)
        yield row


def chosen(asked: argparse.Namespace) -> list[Part]:
    """The parts that were asked for."""
    if asked.only is None:
        return parts(asked)
    return [part for part in parts(asked) if any(word in part.name for word in asked.only)]


def parts(asked: argparse.Namespace) -> list[Part]:
    """What there is to measure: one process and PyTorch first."""
    single, *several = [
        Part(f"{count} process{'es' if count > 1 else ''}", _bench(asked, count), count)
        for count in asked.processes
    ]
    kinds = ("graphs", "compile", "eager") if asked.device == "cuda" else ("compile", "eager")
    suffix = "-bf16" if asked.precision == "bfloat16" else ""
    forms = [f"torch-{kind}{suffix}" for kind in kinds]
    if asked.peer_forms is not None:
        forms = asked.peer_forms
    peers = [Part(form, _peer(asked, form), 0) for form in forms]
    settings = [
        Part(name, _bench(asked, asked.processes[0], candidates=1), asked.processes[0], flags)
        for name, flags in SETTINGS.items()
        if asked.device == "cuda"
    ]
    by_service = [
        part._replace(name=f"{part.name} by MPS", mps=True)
        for part in several[-1:]
        if asked.device == "cuda"
    ]
    in_one_process = [
        Part(name, _in_one(asked, *flags), 1, tried=True)
        for name, flags in (
            ("next candidate compiled ahead", ["--ahead"]),
            ("2 programs in one process", ["--trainings=2"]),
        )
        if asked.device == "cuda"
    ]
    return [single, *peers, *several, *by_service, *in_one_process, *settings]


def _bench(asked: argparse.Namespace, processes: int, candidates: int | None = None) -> list[str]:
    share = [f"--gpus-per-worker={1 / processes}"] if asked.device == "cuda" else []
    return [
        *(sys.executable, "-m", "launch", "bench", "--json", "--preset=paper"),
        *(f"--child={asked.child}", f"--width={asked.width}", f"--image-size={asked.image_size}"),
        *(f"--batch-size={asked.batch_size}", f"--steps={asked.steps}"),
        *(f"--precision={asked.precision}", f"--data-dir={asked.data_dir}", "--core-units=1"),
        *(f"--candidates={candidates or asked.candidates}", f"--seconds={asked.seconds}"),
        "--baselines=none",
        *(f"--processes={processes}", f"--workers={processes}", *share),
    ]


def _in_one(asked: argparse.Namespace, *flags: str) -> list[str]:
    train = train_arguments(_science(asked).train)
    return [
        *(sys.executable, str(Path(__file__).with_name("in_one_process.py")), "--json", *train),
        *(f"--data-dir={asked.data_dir}", f"--seconds={asked.seconds / 4}", *flags),
    ]


def _peer(asked: argparse.Namespace, form: str) -> list[str]:
    return [
        *(sys.executable, str(Path(__file__).with_name("peers.py")), "--json"),
        *(f"--device={asked.device}", f"--child={asked.child}", f"--width={asked.width}"),
        *(f"--image-size={asked.image_size}", f"--batch-size={asked.batch_size}"),
        *(f"--steps={asked.peer_steps}", "--candidates=2", f"--data-dir={asked.data_dir}"),
        *("--only", "--forms", form),
    ]


def answer(part: Part, seconds: float) -> dict[str, Any]:
    """The document that a part prints.

    Raises:
        PartError: It fails, or takes longer than so many seconds.
    """
    print(f"{part.name}, {seconds:.0f} s at most", file=sys.stderr, flush=True)
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        tempfile.TemporaryDirectory() as folder,
        service() if part.mps else contextlib.nullcontext({}) as more,
        subprocess.Popen(
            part.command,
            env={**variables, **more, "XLA_FLAGS": _flags(part, folder)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise PartError(f"took longer than {seconds:.0f} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise PartError(f"exit code {process.returncode}")
    return json.loads(output)


def _flags(part: Part, folder: str) -> str:
    return f"{os.environ.get('XLA_FLAGS', '')} {part.xla_flags.format(folder=folder)}".strip()


@contextlib.contextmanager
def service() -> Iterator[dict[str, str]]:
    """NVIDIA's Multi-Process Service, for processes that have these variables.

    Raises:
        PartError: It does not start.
    """
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        raise PartError("there is no nvidia-cuda-mps-control")
    with tempfile.TemporaryDirectory() as folder:
        variables = {f"CUDA_MPS_{name}_DIRECTORY": folder for name in ("PIPE", "LOG")}
        run = functools.partial(
            subprocess.run,
            env={**os.environ, **variables},
            text=True,
            stdout=subprocess.DEVNULL,
            timeout=20,
        )
        try:
            run([control, "-d"], check=True, input="")
            yield variables
        except (subprocess.SubprocessError, OSError) as error:
            raise PartError(f"MPS does not start: {error}") from None
        finally:
            with contextlib.suppress(subprocess.SubprocessError, OSError):
                run([control], input="quit\n")


def ours(asked: argparse.Namespace, found: Mapping[str, Any], part: Part) -> dict[str, Any]:
    """What a number of processes makes of the device, in the form that does more there."""
    rates = found["candidates_per_hour_by_form"]
    name = max(rates, key=rates.__getitem__)
    form = found["forms"][name]
    science = _science(asked)
    rungs = replace(science, search=replace(science.search, rungs=RUNGS))
    hours = {
        way: estimate_search(
            each, form, traced=name == "traced", candidates=DISTINCT, workers=part.processes
        )["seconds"]
        / 3600
        for way, each in (("in full", science), (f"by rungs {RUNGS}", rungs))
    }
    return {
        "device": found["device"],
        "form": name,
        "candidates_per_hour": rates[name],
        "candidates_per_hour_by_form": rates,
        "step_ms": form["step_ms"],
        "floor_ms": found["floor_ms"],
        "first_step_new_candidate_ms": found["first_step_new_candidate_ms"],
        "traced_over_specialised": found["traced_over_specialised"],
        "compile_s": {each: values["compile_s"] for each, values in found["forms"].items()},
        "device_peak_memory_mb": found["device_peak_memory_mb"],
        "where": found["where"],
        "hours_for_the_one_unit_space": hours,
    }


def in_one(found: Mapping[str, Any]) -> dict[str, Any]:
    """What trainings do that share a process, in the form that does more."""
    name = max(found["forms"], key=lambda each: found["forms"][each]["candidates_per_hour"])
    return {
        "device": found["device"],
        "form": name,
        **{key: found["forms"][name][key] for key in ("candidates_per_hour", "step_ms")},
        "times_one": found["forms"][name]["times_one"],
        "forms": found["forms"],
        "tried": True,
    }


def _science(asked: argparse.Namespace) -> Science:
    train = TrainConfig(
        dataset=PRESETS["paper"]["dataset"],
        image_size=asked.image_size,
        child=asked.child,
        width=asked.width,
        steps=asked.steps,
        batch_size=asked.batch_size,
        precision=asked.precision,
    )
    search = SearchConfig(strategy="exhaustive", trials=DISTINCT, baselines="none")
    return Science(train=train, search=search)


def theirs(asked: argparse.Namespace, found: Mapping[str, Any]) -> dict[str, Any]:
    """Candidates per hour of a form of PyTorch with all their steps, from trials that did some of them."""
    done = asked.peer_steps
    seconds = [
        row["total_s"] + (asked.steps - done) * row["train_s"] / done for row in found["rows"]
    ]
    step_ms = [1e3 * row["train_s"] / done for row in found["rows"]]
    return {
        "candidates_per_hour": 3600 / statistics.median(seconds),
        "step_ms": statistics.median(step_ms),
        "compile_s": statistics.median(row["compile_s"] for row in found["rows"]),
    }


def line(row: Mapping[str, Any]) -> str:
    """A row as text."""
    if "failed" in row:
        return f"{row['name']}: not measured: {row['failed']}"
    told = f"{row['name']}: {row['candidates_per_hour']:.1f} candidates/hour"
    told += f", a step {row['step_ms']:.2f} ms"
    if not row["processes"]:
        return f"{told}, compiling {row['compile_s']:.1f} s"
    if "tried" in row:
        return f"{told} ({row['form']}), {row['times_one']:.2f} × one training alone"
    compiling = ", ".join(f"{value:.0f} s {name}" for name, value in row["compile_s"].items())
    hours = ", ".join(
        f"{value:.1f} {name}" for name, value in row["hours_for_the_one_unit_space"].items()
    )
    return (
        f"{told} ({row['form']}), {row['step_ms'] / row['floor_ms']:.1f} × its floor; "
        f"traced over specialised {row['traced_over_specialised']:.2f}, a new candidate's first "
        f"step {row['first_step_new_candidate_ms']:.1f} ms, compiling {compiling}; "
        f"hours for the space: {hours}"
    )


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The best of ours beside the best of theirs, of what was measured and a search can do."""
    best: list[Mapping[str, Any] | None] = []
    for ours in (True, False):
        known = [
            row
            for row in rows
            if not row.keys() & {"failed", "tried"} and bool(row["processes"]) == ours
        ]
        best.append(max(known, key=lambda row: row["candidates_per_hour"], default=None))
    one, other = best
    return {
        "best": one and one["name"],
        "best_peer": other and other["name"],
        "times_best_peer": one["candidates_per_hour"] / other["candidates_per_hour"]
        if one and other
        else None,
        "device": one and one["device"],
    }


def summary_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The same as text."""
    found = summary(rows)
    told = [f"device: {found['device']}"]
    if found["times_best_peer"] is not None:
        told.append(
            f"{found['times_best_peer']:.2f} × PyTorch's best: {found['best']} over {found['best_peer']}"
        )
    return told


if __name__ == "__main__":
    main()
