"""The form of execution, the workers' environment and how many of them fit."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from launch.config import PlacementConfig, Science, SearchConfig
from launch.errors import RequestError
from launch.execution import MEASURED, activation_elements, choose_execution
from launch.pool import Pool, _Seat, core_sets
from launch.prepare import narrow_window
from launch.room import workers_that_fit
from launch.worker import Worker, environment, keeping_to
from trainers.config import TrainConfig

XEON = "GenuineIntel 6 85"
NEWER = "GenuineIntel 6 207"
LINKED = "where candidates are linked"


def choose(asked="auto", *, core_units=1, image_size=32, processor="", **train):
    return choose_execution(
        asked,
        TrainConfig(**train),
        core_units=core_units,
        image_size=image_size,
        processor=processor,
        linked=processor == LINKED,
    )


@pytest.mark.parametrize("asked", ["traced", "specialised"])
def test_what_is_asked_for_is_taken(asked):
    assert choose(asked, steps=1) == (asked, "asked for")


def test_auto_compiles_when_steps_are_many_and_says_why():
    short, reason = choose(child="resnet8", steps=10, image_size=8, width=8)
    assert short == "traced"
    assert "over 10 steps a compilation of its own is estimated to save a candidate 0.0 s" in reason
    assert choose(child="resnet20", steps=10_000, batch_size=128)[0] == "specialised"


def test_auto_turns_once_as_steps_grow():
    forms = [
        choose(steps=steps, image_size=16)[0] for steps in (1, 10, 100, 1_000, 10_000, 100_000)
    ]
    assert forms == sorted(forms, reverse=True) and len(set(forms)) == 2


@pytest.mark.parametrize(
    "processor, child, image_size, batch_size, step_ms, compile_s, rest_s",
    [
        # Milliseconds of a step, traced and specialised, as measured: docs/performance.md.
        ("", "resnet8", 16, 64, (21.2, 18.2), 4.4, (0.5, 0.7)),
        ("", "resnet20", 32, 128, (276.0, 248.0), 4.8, (2.6, 3.2)),
        (XEON, "resnet8", 16, 64, (45.1, 40.2), 5.5, (1.0, 1.2)),
        (XEON, "resnet8", 16, 64, (44.4, 39.5), 5.6, (0.9, 1.1)),
        (XEON, "resnet8", 16, 64, (57.9, 51.6), 8.8, (1.2, 1.7)),
        (XEON, "resnet8", 16, 64, (59.5, 53.3), 10.1, (1.3, 1.8)),
        (XEON, "resnet20", 32, 128, (713.0, 617.0), 8.6, (7.3, 6.1)),
        (XEON, "resnet20", 32, 128, (815.0, 668.0), 13.6, (8.5, 8.8)),
        (XEON, "resnet20", 32, 128, (741.4, 684.7), 14.4, (7.4, 9.0)),
        (NEWER, "resnet8", 16, 64, (29.5, 26.6), 5.4, (0.6, 0.6)),
        (NEWER, "resnet20", 32, 128, (424.4, 354.6), 7.7, (3.8, 3.8)),
        (LINKED, "resnet8", 16, 64, (27.3, 28.0), 7.6, (1.3, 0.9)),
        (LINKED, "resnet8", 16, 64, (27.3, 25.3), 7.6, (1.3, 0.9)),  # by the median of pairs, 1.08
        (LINKED, "resnet20", 32, 128, (335.7, 337.7), 14.1, (5.0, 5.0)),
        (LINKED, "resnet8", 16, 64, (20.5, 19.9), 5.1, (0.7, 0.5)),
        (LINKED, "resnet20", 32, 128, (227.9, 284.0), 10.4, (3.4, 3.4)),
        (LINKED, "resnet8", 16, 64, (17.1, 17.0), 4.7, (0.6, 0.4)),
        (LINKED, "resnet8", 16, 64, (17.4, 17.0), 4.7, (0.6, 0.4)),  # by the median of pairs, 1.02
        (LINKED, "resnet20", 32, 128, (265.8, 284.3), 10.8, (3.3, 3.1)),
    ],
)
@pytest.mark.parametrize("steps", [100, 1_000, 10_000])
def test_auto_is_within_five_per_cent_of_the_better(
    processor, child, image_size, batch_size, step_ms, compile_s, rest_s, steps
):
    chosen, _ = choose(
        child=child,
        image_size=image_size,
        batch_size=batch_size,
        steps=steps,
        processor=processor,
    )
    traced, specialised = (
        steps * ms / 1e3 + rest for ms, rest in zip(step_ms, rest_s, strict=True)
    )
    taken = {"traced": traced, "specialised": specialised + compile_s}
    assert taken[chosen] <= 1.05 * min(taken.values())


def test_activation_elements_by_hand():
    """ResNet-8 of width 16 at 16×16: 3 layers of 16×16×16, 2 of 8×8×32, 2 of 4×4×64."""
    train = TrainConfig(child="resnet8", width=16)
    assert activation_elements(train, 16) == 3 * 4096 + 2 * 2048 + 2 * 1024
    assert activation_elements(train, 15) == 3 * 15 * 15 * 16 + 2 * 8 * 8 * 32 + 2 * 4 * 4 * 64


@pytest.mark.parametrize("processor", ["", *MEASURED])
def test_more_core_units_turn_earlier(processor):
    """Dispatched operators do not fuse: from the third unit on they cost the traced form more."""
    first = [
        next(
            n
            for n in range(1, 100_000, 25)
            if choose(core_units=u, steps=n, processor=processor)[0] == "specialised"
        )
        for u in (1, 3, 4)
    ]
    assert first == sorted(first, reverse=True) and len(set(first)) == 3


def test_linked_candidates_are_never_compiled_in():
    """Machine code of their own takes them about as long as XLA's loops of the whole network."""
    for core_units in (1, 2, 3, 4):
        form, reason = choose(core_units=core_units, steps=100_000, processor=LINKED)
        assert form == "traced" and "to save a candidate 0.0 s" in reason


def test_workers_get_cores_of_their_own():
    assert core_sets(2, 2, [0, 1, 4, 5, 6]) == [(0, 1), (4, 5)]
    assert core_sets(3, 2, [0, 1, 4, 5, 6]) is None


@pytest.mark.parametrize(
    "placement, resources, expected",
    [
        ({"workers": "auto"}, {"CPU": 4.0}, 4),
        ({"workers": "auto", "cpus_per_worker": 3}, {"CPU": 8.0}, 2),
        ({"workers": "3"}, {"CPU": 4.0}, 3),
        ({"workers": "auto", "gpus_per_worker": 0.25}, {"CPU": 16.0, "GPU": 1.0}, 4),
        ({"workers": "auto", "resources": '{"TPU": 4}'}, {"CPU": 96.0, "TPU": 8.0}, 2),
    ],
)
def test_how_many_workers_fit(placement, resources, expected):
    assert workers_that_fit(PlacementConfig(**placement), resources) == expected


@pytest.mark.parametrize(
    "placement, resources, message",
    [
        ({"workers": "5"}, {"CPU": 4.0}, "`workers`: 5 of them do not fit, 4 do: each needs 1 CPU"),
        (
            {"gpus_per_worker": 1.0},
            {"CPU": 4.0},
            "1 of them do not fit, 0 do: each needs 1 CPU, 1 GPU",
        ),
    ],
)
def test_workers_that_do_not_fit_are_refused(placement, resources, message):
    with pytest.raises(RequestError) as caught:
        workers_that_fit(PlacementConfig(**placement), resources)
    assert message in str(caught.value)


def test_a_worker_never_falls_back_to_another_backend():
    assert environment("cpu", 0)["JAX_PLATFORMS"] == "cpu"
    assert environment("gpu", 1)["JAX_PLATFORMS"] == "cuda"
    assert "XLA_CLIENT_MEM_FRACTION" not in environment("gpu", 1)


def test_a_share_of_a_gpu_bounds_its_memory():
    shared = environment("gpu", 0.25)
    assert float(shared["XLA_CLIENT_MEM_FRACTION"]) * 4 < 0.9
    assert shared["XLA_CLIENT_MEM_FRACTION"] == shared["XLA_PYTHON_CLIENT_MEM_FRACTION"]


def test_threads_that_a_worker_makes_are_as_many_as_its_cores_and_run_anywhere():
    """On a cluster, where none is pinned: a backend makes a thread for each core that it may use."""
    anywhere = os.sched_getaffinity(0)
    asked, over = threading.Event(), threading.Event()
    seen: list[set[int]] = []

    def begun_within() -> None:
        seen.append(os.sched_getaffinity(0))
        asked.set()
        over.wait()
        seen.append(os.sched_getaffinity(0))

    with keeping_to(None, 1):
        thread = threading.Thread(target=begun_within)
        thread.start()
        asked.wait()
    over.set()
    thread.join()
    assert seen == [{min(anywhere)}, anywhere]
    assert os.sched_getaffinity(0) == anywhere


@pytest.mark.parametrize(
    "values, workers, window",
    [({}, 2, ""), ({}, 3, "--window 12 "), ({"replicates": 2}, 5, ""), ({"replicates": 2}, 6, "12 "),
     ({"window": 4000}, 1000, ""), ({"rungs": "60:9,90:3", "replicates": 3}, 6, "24 ")],
)  # fmt: skip
def test_a_window_that_keeps_workers_waiting_is_said(values, workers, window):
    said = narrow_window(Science(search=SearchConfig(**values)), workers)
    assert window in said and bool(said) == bool(window)


def test_a_refused_worker_is_hired_anew_only_when_its_node_is_gone(monkeypatch):
    """One that was refused before its node was known, for its code, would be refused for ever."""
    hired = []
    monkeypatch.setattr(Pool, "_hire", lambda _, seat: hired.append(seat.number))
    pool = object.__new__(Pool)
    pool._seats = [
        _Seat(n, stage="refused", node=node) for n, node in enumerate(("", "here", "gone"))
    ]
    pool.resize(3, {"here"})
    assert hired == [2]


def test_a_worker_with_fewer_devices_than_it_asked_for_refuses_to_start():
    assignment: Any = SimpleNamespace(cpus=1, platform="cpu", devices=64)
    no_data: Any = None
    with pytest.raises(RuntimeError, match=r"was to have 64 cpu devices, JAX has \d+$"):
        Worker().set_up(assignment, no_data, None)
