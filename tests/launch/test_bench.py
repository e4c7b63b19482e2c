"""How long a search would take, and one document from several processes."""

from __future__ import annotations

import json
import os

import pytest

from launch.bench import _better, bench_lines, merge
from launch.cli import run
from launch.estimate import START_S, candidates_to_train, estimate_search
from launch.flags import build

FORM = {"compile_s": 7.0, "fuse_s": 0.0, "start_s": 0.5, "step_ms": 100.0, "evaluate_s": 0.5}


def test_a_search_with_rungs_by_hand():
    """Two baselines and ten candidates, three workers.

    Trials of 10, 20 and 40 steps take 2, 3 and 5 s:
    12 of 2 s in 4 rounds, 6 of 3 s in 2, (2 + 2) x 2 replicates of 5 s in 3.
    """
    science, _ = build(
        {
            "trials": 10,
            "rungs": "10:4,20:2,40:1",
            "replicates": 2,
            "baselines": "relu,swish",
        }
    )
    found = estimate_search(science, FORM, traced=True, candidates=10, workers=3)
    assert found["rungs"] == [
        {"steps": 10, "trials": 12, "trial_s": pytest.approx(2.0), "rounds": 4},
        {"steps": 20, "trials": 6, "trial_s": pytest.approx(3.0), "rounds": 2},
        {"steps": 40, "trials": 8, "trial_s": pytest.approx(5.0), "rounds": 3},
    ]
    assert (found["trials"], found["baselines"]) == (26, 2 + 2 + 4)
    assert found["seconds"] == pytest.approx(START_S + 7 + 8 + 6 + 15)
    # 10 x 2 s + 4 x 3 s + 2 x 2 x 5 s of one worker for ten candidates
    assert found["candidates_per_hour"] == pytest.approx(3600 * 10 / 52)


def test_a_repeated_rung_trains_its_further_seeds_only():
    science, _ = build(
        {"trials": 10, "rungs": "20:4,40:2,40:2", "replicates": 3, "baselines": "relu"}
    )
    found = estimate_search(science, FORM, traced=True, candidates=10, workers=1)
    assert [rung["trials"] for rung in found["rungs"]] == [11, 5, (2 + 1) * 2]


def test_compiling_belongs_to_every_specialised_trial():
    science, _ = build({"trials": 4, "steps": 20, "baselines": "none"})
    found = estimate_search(science, FORM, traced=False, candidates=4, workers=1)
    assert found["seconds"] == pytest.approx(START_S + 4 * (7 + 3))
    assert found["compile_s"] == 0
    assert found["candidates_per_hour"] == pytest.approx(360)


def test_linking_belongs_to_every_traced_trial():
    science, _ = build({"trials": 4, "steps": 20, "baselines": "none"})
    form = {**FORM, "fuse_s": 0.25}
    found = estimate_search(science, form, traced=True, candidates=4, workers=1)
    assert found["seconds"] == pytest.approx(START_S + 7 + 4 * (0.25 + 3))
    assert found["candidates_per_hour"] == pytest.approx(3600 / 3.25)


@pytest.mark.parametrize(
    "asked, expected",
    [
        ({"trials": 60}, (60, 3710)),
        ({"trials": 7, "replicates": 2}, (4, 3710)),
        ({"trials": 7, "replicates": 2, "rungs": "5:2,9:1"}, (7, 3710)),
        ({"trials": 10_000}, (3710, 3710)),
        ({"trials": 10_000, "core_units": 2}, (10_000, 123_456)),
    ],
)
def test_no_more_candidates_than_the_space_has(asked, expected):
    science, _ = build(asked)
    assert candidates_to_train(science, 123_456) == expected


def document(core, step_ms, per_hour):
    form = {
        "step_ms": step_ms,
        "compile_s": 3.0,
        "fuse_s": 0.1,
        "start_s": 0.1,
        "evaluate_s": 0.2,
        "trial_s": 1.0,
        "images_per_s": 10.0,
        "candidates_per_hour": per_hour,
    }
    return {
        "processes": 1,
        "cores": [core],
        "peak_memory_mb": 100.0 + core,
        "step_ms": step_ms,
        "compile_s": 3.0,
        "images_per_s": 10.0,
        "candidates_per_hour": per_hour,
        "first_step_new_candidate_ms": 5.0,
        "traced_over_specialised": 1.0,
        "forms": {"traced": form, "specialised": form},
    }


def test_processes_at_once_add_up():
    found = merge([document(0, 2.0, 900.0), document(3, 4.0, 500.0)])
    assert (found["processes"], found["cores"]) == (2, [0, 3])
    assert (found["candidates_per_hour"], found["images_per_s"]) == (1400.0, 20.0)
    assert (found["step_ms"], found["peak_memory_mb"]) == (3.0, 103.0)
    assert found["forms"]["traced"]["step_ms"] == 3.0
    assert found["forms"]["traced"]["candidates_per_hour"] == 1400.0


OPERATORS = """
from spaces import PAPER
SMALL = PAPER.only("identity", "sin", "scale", "mul")
"""


def test_bench_measures_and_estimates(tmp_path, capsys):
    """A space of 3 x 3 candidates, and two workers: five rounds of one trial and baseline each."""
    path = tmp_path / "small.py"
    path.write_text(OPERATORS)
    arguments = ["--operators", f"{path}:SMALL", "--baselines", "relu", "--workers", "2"]
    child = ["--width", "2", "--steps", "4", "--batch-size", "16"]
    measuring = ["--candidates", "1", "--seconds", "5", "--json"]
    assert run(["bench", *arguments, *child, *measuring]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    found = json.loads(shown.out)
    for name in (
        "traced_over_specialised",
        "step_ms",
        "compile_s",
        "first_step_new_candidate_ms",
        "images_per_s",
        "candidates_per_hour",
        "peak_memory_mb",
        "floor_ms",
    ):
        assert isinstance(found[name], float), name
        assert found[name] > 0, name
    traced = found["forms"]["traced"]
    assert (found["execution"], found["form"]) == ("traced", "traced")
    assert found["candidates_per_hour"] == pytest.approx(3600 / traced["trial_s"])
    assert found["cores"] == sorted(os.sched_getaffinity(0))[:1]
    search = found["search"]
    assert (search["candidates"], search["trials"], search["workers"]) == (9, 10, 2)
    once = search["start_s"] + traced["compile_s"]
    assert search["seconds"] == pytest.approx(once + 5 * traced["trial_s"])
    text = "\n".join(bench_lines(found))
    assert "this search, 10 trials (1 of baselines) on 2 workers: about" in text
    assert "5 rounds of" in text
    assert "`--processes 2` measures so many at once" in text
    assert "the space has no more than 9 candidates" in text
    assert found["candidates_per_hour_by_form"]["traced"] == found["candidates_per_hour"]


@pytest.mark.parametrize("specialised, said", [(1040.0, ""), (1060.0, "1,060"), (900.0, "")])
def test_a_form_that_does_more_here_is_named(specialised, said):
    rates = {"traced": 1000.0, "specialised": specialised}
    lines = _better({"execution": "traced", "candidates_per_hour_by_form": rates})
    if said:
        assert lines == [f"  --execution specialised does more here: {said} candidates/hour"]
    else:
        assert lines == []
