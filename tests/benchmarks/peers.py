"""The project's trainer beside PyTorch and plain JAX: the same child, data, training, candidates.

    uv run --no-sync python tests/benchmarks/peers.py --child resnet8 --image-size 16 \
        --batch-size 64 --steps 300 --candidates 6 --processes 2 --data-dir DIR
    uv run --no-sync python tests/benchmarks/peers.py --what step --child resnet20 --image-size 32 \
        --batch-size 128 --steps 20 --candidates 2 --rounds 3 --threads 2 --data-dir DIR

It needs PyTorch in the environment. Forms alternate: each round gives every process a candidate of
its own, which all forms train one after the other, in an order that changes from round to round;
all processes are at the same form at the same time. Candidates per hour count all that a new
candidate costs: building, compiling, training, evaluating. What a process pays once, which is
imports, images and a first candidate to warm up (the one compilation of the traced form, a
compiler's start), is `one_off_s`. The reference that forms are compared with, round by round, is
the form that `--execution auto` picks; with `--what step` it is the specialised one, with `--only`
the first that is asked for.

Every process gets the environment of a worker (`launch.worker`), whose allocator settings help all.
Learning rates are so small that hardly anything diverges; rounds in which something does are left
out. Nothing is timed before all peers have given the logits of this project's child.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import figures
from lane import Lanes, PeerError, peer_of, split_cores
from peer import Score, Setting

from launch.execution import choose_execution
from trainers.config import TrainConfig
from trainers.linked_form import linkable
from trainers.processor import processor_kind

ALWAYS = ("relu(x)", "mul(x, sigmoid(scale(x)))")
"""Candidates of every benchmark."""

WARM_UP = ("tanh(x)", 5)
"""The candidate and the steps that a form does before it is timed."""

FORMS = {
    "cpu": (
        "traced",
        "specialised",
        "torch-eager",
        "torch-eager-nchw",
        "torch-eager-nchw-bf16",
        "torch-compile",
        "torch-compile-bf16",
        "naive-jax",
    ),
    "cuda": (
        "traced",
        "traced-bf16",
        "specialised",
        "specialised-bf16",
        "torch-eager",
        "torch-eager-bf16",
        "torch-compile",
        "torch-compile-bf16",
        "torch-graphs",
        "torch-graphs-bf16",
        "naive-jax",
    ),
}
"""Forms by device, unless others are asked for; see `actsearch_peer` and `torch_peer` for further names."""

KNOWN = re.compile(
    r"(traced|specialised)(-xla)?(-switch)?(-bf16)?|torch-(eager|compile|graphs)(-nchw)?(-bf16)?|naive-jax"
)
"""Names of forms."""


def main() -> None:
    """Runs one benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--what", choices=("candidates", "step"), default="candidates")
    parser.add_argument("--child", default="resnet8")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--core-units", type=int, default=1)
    parser.add_argument("--candidates", type=int, default=6, help="of all processes together")
    parser.add_argument("--rounds", type=int, default=3, help="per candidate, with --what step")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, help="cores of a process; default: its share")
    parser.add_argument("--device", choices=tuple(FORMS), default="cpu")
    parser.add_argument("--forms", nargs="+", metavar="FORM", help="default: by device")
    parser.add_argument(
        "--only", action="store_true", help="no form beside these; the first is the reference"
    )
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=1, help="of the candidates")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # lanes end and leave nothing behind
    try:
        found = run(asked)
    except (ValueError, PeerError) as error:
        sys.exit(str(error))
    if asked.json:
        print(json.dumps(found))
        return
    columns = figures.STEP_COLUMNS if asked.what == "step" else figures.THROUGHPUT_COLUMNS
    print(figures.table(found["forms"], columns))
    print(f"actsearch auto is {found['auto']['form']}: {found['auto']['reason']}")
    print(f"the reference is {found['reference']}; strongest: {found['strongest']}")
    print(f"largest relative difference of logits: {found['agreement']}")
    print(f"{found['rounds']} rounds, {found['dropped']} of them left out")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Runs one benchmark and returns its figures."""
    available = sorted(os.sched_getaffinity(0))
    threads = asked.threads or max(1, len(available) // asked.processes)
    cores = split_cores(available, asked.processes, threads)
    if asked.candidates < 1 or asked.candidates % asked.processes:
        raise ValueError(
            f"`--candidates` must be a multiple of `--processes`, got {asked.candidates} "
            f"for {asked.processes}"
        )
    train = TrainConfig(
        dataset="cifar10",
        image_size=asked.image_size,
        child=asked.child,
        width=asked.width,
        batch_size=asked.batch_size,
        steps=asked.steps,
        lr=asked.lr,
    )
    auto, reason = choose_execution(
        "auto",
        train,
        core_units=asked.core_units,
        image_size=asked.image_size,
        processor=processor_kind(),
        linked=asked.device == "cpu" and linkable(),
    )
    # How long a trial is decides between our two forms, and a step has no length.
    reference = "specialised" if asked.what == "step" else auto
    if asked.only and asked.forms:
        reference = asked.forms[0]
    forms = list(dict.fromkeys([*(asked.forms or FORMS[asked.device]), reference]))
    unknown = [form for form in forms if not KNOWN.fullmatch(form)]
    if unknown:
        raise ValueError(f"`--forms` must match {KNOWN.pattern}, got {unknown[0]!r}")
    candidates = choose(asked)
    setting = Setting(
        train=train,
        core_units=asked.core_units,
        expressions=(*candidates, WARM_UP[0]),
        data_dir=asked.data_dir,
        device=asked.device,
        threads=threads,
    )
    agreement = agree(setting, forms)
    peers = list(dict.fromkeys(map(peer_of, forms)))
    with tempfile.TemporaryDirectory(prefix="peers-") as caches:
        say(f"starting {', '.join(peers)} on cores {cores}")
        with Lanes(peers, setting, cores, caches) as lanes:
            measure = steps if asked.what == "step" else throughput
            found = measure(lanes, forms, candidates, asked, reference)
    return {
        "what": asked.what,
        "setting": {
            name: str(value) if isinstance(value, Path) else value
            for name, value in vars(asked).items()
        }
        | {"threads": threads, "cores": cores, "candidates": candidates},
        "auto": {"form": auto, "reason": reason},
        "reference": reference,
        "agreement": agreement,
        **found,
        "strongest": figures.strongest(found["forms"]),
    }


def choose(asked: argparse.Namespace) -> list[str]:
    """The candidates as text: those of `ALWAYS`, then random valid ones of so many core units."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import numpy as np

    from spaces import PAPER, OperatorTable, Prober, SearchSpace, canonical, run_preflight

    space, rng = SearchSpace(PAPER, asked.core_units), np.random.default_rng(asked.seed)
    prober = Prober(OperatorTable.for_run(PAPER, core_units=asked.core_units))
    found: list[str] = [*ALWAYS]
    while len(found) < asked.candidates:
        candidate = canonical(space.candidate(space.sample(rng)), PAPER)
        if len(candidate.units) < asked.core_units or str(candidate) in found:
            continue
        if run_preflight(prober.probe([candidate])[0])[0] == "ok":
            found.append(str(candidate))
    return found[: asked.candidates]


def agree(setting: Setting, forms: list[str]) -> dict[str, float]:
    """The largest differences of logits between this project's child and each peer's."""
    from agreement import DisagreementError, check

    theirs = {peer for peer in map(peer_of, forms) if peer != "actsearch"}
    try:
        return check(setting, tuple(sorted(theirs)))
    except DisagreementError as error:
        raise ValueError(str(error)) from None
    except ImportError as error:
        raise ValueError(f"{error}: install it, or leave its forms out with --forms") from None


def throughput(
    lanes: Lanes, forms: list[str], candidates: list[str], asked: argparse.Namespace, reference: str
) -> dict[str, Any]:
    """Whole candidates, everything that they cost included."""
    one_off = {}
    for form in forms:
        warm = lanes.ask(form, "score", lambda _: WARM_UP)
        one_off[form] = lanes.start_s(peer_of(form)) + max(score.total_s for score in warm)
        say(f"{form}: {one_off[form]:.1f} s once")
    rounds: list[dict[str, list[Score]]] = []
    rows = []
    for number, start in enumerate(range(0, len(candidates), len(lanes))):
        own, done = candidates[start : start + len(lanes)], {}
        for form in turns(forms, number):
            done[form] = lanes.ask(form, "score", lambda lane, own=own: (own[lane], asked.steps))
            for expression, score in zip(own, done[form], strict=True):
                rows.append(row(number, form, expression, score))
                say(f"{form}, {expression}: {score.total_s:.2f} s, {score.status}")
        rounds.append({form: done[form] for form in forms})
    kept = [each for each in rounds if all(s.status == "ok" for own in each.values() for s in own)]
    if not kept:
        raise ValueError("every round had a candidate that diverged: try a smaller `--lr`")
    return {
        "forms": figures.throughput(kept, one_off, reference),
        "rounds": len(rounds),
        "dropped": len(rounds) - len(kept),
        "rows": rows,
    }


def steps(
    lanes: Lanes, forms: list[str], candidates: list[str], asked: argparse.Namespace, reference: str
) -> dict[str, Any]:
    """Steps alone, of children that are compiled and warm."""
    rounds: list[dict[str, list[float]]] = []
    rows = []
    for start in range(0, len(candidates), len(lanes)):
        own = candidates[start : start + len(lanes)]
        for form in forms:
            lanes.ask(form, "open", lambda lane, own=own: (own[lane],))
            say(f"{form} is ready for {', '.join(own)}")
        for _ in range(asked.rounds):
            done = {}
            for form in turns(forms, len(rounds)):
                done[form] = lanes.ask(form, "advance", lambda _: (asked.steps,))
                for expression, seconds in zip(own, done[form], strict=True):
                    rows.append(
                        {
                            "round": len(rounds),
                            "form": form,
                            "candidate": expression,
                            "step_ms": round(1e3 * seconds, 3),
                        }
                    )
            rounds.append({form: done[form] for form in forms})
        for form in forms:
            lanes.close(form)
    return {
        "forms": figures.step_times(rounds, reference),
        "rounds": len(rounds),
        "dropped": 0,
        "rows": rows,
    }


def turns(forms: list[str], number: int) -> Iterator[str]:
    """The forms in the order of a round: each round begins elsewhere, every other one goes back."""
    shift = number // 2 % len(forms)
    order = [*forms[shift:], *forms[:shift]]
    return iter(order if number % 2 == 0 else order[::-1])


def row(number: int, form: str, expression: str, score: Score) -> dict[str, Any]:
    """A score as JSON."""
    plain = {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in dataclasses.asdict(score).items()
    }
    return {"round": number, "form": form, "candidate": expression, **plain}


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
