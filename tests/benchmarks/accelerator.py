"""All that is to be known of one accelerator, by one command, in less than ten minutes.

    python tests/benchmarks/accelerator.py --data-dir DIR

With the paper's child (ResNet-20, CIFAR-10, batch 128, 10,000 steps, convolutions in bfloat16):
candidates per hour with one and with several processes that share the device; the step beside its
physical floor; the hours that the paper's whole one-unit space would take, in full and by rungs;
and the same child in PyTorch, whose strongest form is what the first figure is compared with. It
needs no Ray. `--device cpu` with a small child tries the command out where there is no accelerator.

A peer trains `--peer-steps` steps of each candidate; its candidates per hour are those of full
budgets, with what it paid to build and compile once per candidate, and steps at the pace measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.bench import BenchOptions, bench
from launch.config import PlacementConfig, Science, SearchConfig
from launch.estimate import estimate_search
from launch.presets import PRESETS
from trainers.config import TrainConfig
from trainers.dataset import load_dataset

DISTINCT = 3_710
"""Candidates of the one-unit space that are left to be trained, see `actsearch space`."""

RUNGS = "400:400,2000:60,10000:12"
"""The README's rungs, stretched to the paper's steps."""


def main() -> None:
    """Measures, and prints a table or one JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--child", default="resnet20")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=75.0, help="for each of those")
    parser.add_argument("--peer-steps", type=int, default=300)
    parser.add_argument("--peer-forms", nargs="*", help="default: by device and precision")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    asked = parser.parse_args()
    found = measure(asked)
    if asked.json:
        print(json.dumps(found))
    else:
        print("\n".join(lines(found)))


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """The whole document."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # of this process alone: it only asks others
    science = _science(asked)
    data = load_dataset(
        science.train.dataset,
        data_dir=asked.data_dir,
        image_size=asked.image_size,
        valid_size=None,
        seed=0,
    )
    ways = []
    for processes in asked.processes:
        placement = PlacementConfig(
            workers=str(processes),
            gpus_per_worker=1 / processes if asked.device == "cuda" else 0.0,
            data_dir=str(asked.data_dir),
        )
        options = BenchOptions(candidates=4, seconds=asked.seconds, processes=processes)
        _say(f"{processes} processes at once, about {asked.seconds:.0f} s")
        ways.append(_way(science, bench(science, placement, data, options), processes))
    best = max(ways, key=lambda way: way["candidates_per_hour"])
    peers = _peers(asked) if asked.peer_forms != [] else {}
    return {
        "child": f"{asked.child}, batch {asked.batch_size}, {asked.steps} steps, {asked.precision}",
        "device": best["device"],
        "ways": ways,
        "peers": peers,
        "times_best_peer": best["candidates_per_hour"] / max(peers.values()) if peers else None,
    }


def _science(asked: argparse.Namespace) -> Science:
    known = PRESETS["paper"]
    train = TrainConfig(
        dataset=known["dataset"],
        image_size=asked.image_size,
        child=asked.child,
        steps=asked.steps,
        batch_size=asked.batch_size,
        lr=known["lr"],
        precision=asked.precision,
    )
    search = SearchConfig(strategy="exhaustive", trials=DISTINCT, baselines="none")
    return Science(train=train, search=search)


def _way(science: Science, found: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """What one number of processes makes of the device."""
    form = found["forms"][found["execution"]]
    rungs = replace(science, search=replace(science.search, rungs=RUNGS))
    hours = {
        name: estimate_search(
            each,
            form,
            traced=found["execution"] == "traced",
            candidates=DISTINCT,
            workers=processes,
        )["seconds"]
        / 3600
        for name, each in (("in full", science), (f"by rungs {RUNGS}", rungs))
    }
    return {
        "processes": processes,
        "device": found["device"],
        "execution": found["execution"],
        "candidates_per_hour": found["candidates_per_hour"],
        "step_ms": form["step_ms"],
        "floor_ms": found["floor_ms"],
        "first_step_new_candidate_ms": found["first_step_new_candidate_ms"],
        "traced_over_specialised": found["traced_over_specialised"],
        "compile_s": form["compile_s"],
        "device_peak_memory_mb": found["device_peak_memory_mb"],
        "hours_for_the_one_unit_space": hours,
    }


def _peers(asked: argparse.Namespace) -> dict[str, float]:
    """Candidates per hour of PyTorch's forms, one process."""
    kinds = ("eager", "compile", "graphs") if asked.device == "cuda" else ("eager", "compile")
    suffix = "-bf16" if asked.precision == "bfloat16" else ""
    forms = asked.peer_forms or [f"torch-{kind}{suffix}" for kind in kinds]
    size = [] if asked.image_size is None else [f"--image-size={asked.image_size}"]
    _say("PyTorch")
    ran = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("peers.py")),
            "--json",
            *(size or ["--image-size=32"]),
            f"--device={asked.device}",
            f"--child={asked.child}",
            f"--batch-size={asked.batch_size}",
            f"--steps={asked.peer_steps}",
            "--candidates=2",
            f"--data-dir={asked.data_dir}",
            "--forms",
            *forms,
        ],
        env={name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    rows = json.loads(ran.stdout)["rows"]
    return {form: _full_budget(rows, form, asked.peer_steps, asked.steps) for form in forms}


def _full_budget(rows: Sequence[Mapping[str, Any]], form: str, done: int, steps: int) -> float:
    """Candidates per hour with all their steps, from trials that did some of them."""
    seconds = [
        row["total_s"] + (steps - done) * row["train_s"] / done
        for row in rows
        if row["form"] == form
    ]
    return 3600 / statistics.median(seconds)


def lines(found: Mapping[str, Any]) -> list[str]:
    """The document as a table and its summary."""
    told = [found["child"], f"on {found['device']}", ""]
    told.append(
        "| processes | candidates/hour | step | × floor | traced/specialised | space, hours |"
    )
    told.append("|---" * 6 + "|")
    for way in found["ways"]:
        hours = ", ".join(
            f"{value:.1f} {name}" for name, value in way["hours_for_the_one_unit_space"].items()
        )
        told.append(
            f"| {way['processes']} | {way['candidates_per_hour']:.1f} | {way['step_ms']:.2f} ms "
            f"| {way['step_ms'] / way['floor_ms']:.1f} | {way['traced_over_specialised']:.2f} "
            f"| {hours} |"
        )
    told += [f"{form}: {rate:.1f} candidates/hour" for form, rate in found["peers"].items()]
    if found["times_best_peer"] is not None:
        told.append(f"{found['times_best_peer']:.2f} × the best of PyTorch's forms")
    return told


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
