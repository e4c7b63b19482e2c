"""Configuration: one source for flags, config.json and the Python API."""

from __future__ import annotations

import dataclasses
import json

import pytest

from launch.config import Rung
from launch.errors import RequestError
from launch.flags import build, differences, flags, read_config, to_json, values_from_json
from launch.presets import PRESETS
from launch.run import read_run_config
from spaces import CATALOGUE


def test_every_flag_has_a_help_text_and_a_name_of_its_own():
    assert len(flags()) > 40
    for flag in flags().values():
        assert len(flag.help) > 10, flag.name
    assert {"core_units", "steps", "workers", "controller_learning_rate"} <= set(flags())


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_survive_the_way_through_json(preset, tmp_path):
    science, placement = build(PRESETS[preset])
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_json(science, placement)))
    assert build(read_config(path)) == (science, placement)
    assert read_run_config(tmp_path) == (science, placement)


def test_the_paper_preset_is_the_paper_s_child():
    science, _ = build(PRESETS["paper"])
    train = science.train
    assert (train.child, train.width, train.dataset) == ("resnet20", 16, "cifar10")
    assert (train.steps, train.batch_size, train.lr, train.image_size) == (10_000, 128, 0.1, None)
    assert (science.space.core_units, science.search.strategy) == (2, "controller")
    assert (science.controller.hidden, science.controller.learning_rate) == (100, 3.5e-4)


def test_differences_name_the_fields_of_the_science_only():
    ours, _ = build({"steps": 300, "workers": "1"})
    theirs, _ = build({"steps": 400, "workers": "2", "evolution_population": 9})
    assert list(differences(ours, theirs)) == [
        "`steps` is 400 there, 300 here",
        "`evolution_population` is 9 there, 50 here",
    ]


@pytest.mark.parametrize(
    "rungs, expected",
    [
        ("", (Rung(40, 3, None),)),
        ("60:400,300:60,1500:12", (Rung(60, 1, 400), Rung(300, 1, 60), Rung(1500, 3, None))),
    ],
)
def test_rungs(rungs, expected):
    science, _ = build({"rungs": rungs, "replicates": 3})
    assert science.search.ladder(40) == expected
    assert science.search.listed == (12 if rungs else None)


@pytest.mark.parametrize(
    "text, seconds",
    [("", None), ("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400)],
)
def test_time_limits(text, seconds):
    assert build({"time_limit": text})[1].time_limit_s == seconds


def test_baselines_by_name():
    keys = {name: build({"baselines": name})[0].search.baseline_keys for name in ("all", "none")}
    assert keys == {"all": tuple(known.key for known in CATALOGUE), "none": ()}
    assert build({"baselines": "relu, swish"})[0].search.baseline_keys == ("relu", "swish")


WRONG = [
    ({"core_units": 0}, "`core_units` must be 1 to 8, got 0"),
    ({"core_units": 9}, "`core_units` must be 1 to 8, got 9"),
    ({"strategy": "controler"}, "got 'controler': did you mean `controller`?"),
    ({"execution": "fast"}, "`execution` must be one of auto, traced, specialised, got 'fast'"),
    ({"trials": 0}, "`trials` must be ≥ 1, got 0"),
    ({"trials": 2.5}, "`trials` must be a whole number, got 2.5"),
    ({"replicates": 0}, "`replicates` must be ≥ 1, got 0"),
    ({"window": 0}, "`window` must be ≥ 1, got 0"),
    ({"seed": -1}, "`seed` must be 0 to 2147483647, got -1"),
    ({"baselines": "relu,swihs"}, "unknown baseline `swihs`: did you mean `swish`?"),
    ({"rungs": "60"}, "`rungs` must be STEPS:COUNT pairs"),
    ({"rungs": "60:0"}, "`rungs` must have numbers ≥ 1, got '60:0'"),
    (
        {"rungs": "300:60,60:12"},
        "`rungs` must have increasing steps, the last two may be equal, got '300:60,60:12'",
    ),
    (
        {"rungs": "60:60,60:12,90:3"},
        "`rungs` must have increasing steps, the last two may be equal, got '60:60,60:12,90:3'",
    ),
    ({"steps": 0}, "`steps` must be ≥ 1, got 0"),
    ({"child": "resnet9"}, "the nearest are resnet8 and resnet14"),
    ({"lr": 0.0}, "`lr` must be > 0, got 0.0"),
    ({"workers": "0"}, "`workers` must be auto or a number ≥ 1, got '0'"),
    ({"cpus_per_worker": 0}, "`cpus_per_worker` must be ≥ 1, got 0"),
    ({"gpus_per_worker": -1.0}, "`gpus_per_worker` must be ≥ 0, got -1.0"),
    ({"gpus_per_worker": 1.5}, "`gpus_per_worker` must be a whole number above 1, got 1.5"),
    ({"resources": "TPU=4"}, "`resources` must be a JSON object of positive numbers"),
    ({"resources": '{"TPU": 0}'}, "`resources` must be a JSON object of positive numbers"),
    ({"time_limit": "soon"}, "`time_limit` must be seconds, or a number with s, m, h or d"),
    ({"time_limit": "-1"}, "`time_limit` must be seconds, or a number with s, m, h or d"),
    ({"grace": -1.0}, "`grace` must be ≥ 0 seconds, got -1.0"),
    ({"controller_hidden": 0}, "`hidden` must be ≥ 1, got 0"),
    ({"evolution_tournament": 0}, "`tournament` must be ≥ 1, got 0"),
]


@pytest.mark.parametrize("values, message", WRONG, ids=lambda v: str(v)[:40])
def test_wrong_values_are_one_line(values, message):
    with pytest.raises(RequestError) as caught:
        build(values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "document, message",
    [
        ([], "must hold a JSON object of sections"),
        ({"version": 2}, "has version 2, this actsearch reads 1"),
        ({"trian": {}}, "unknown section `trian`: did you mean `train`?"),
        ({"train": {"stpes": 3}}, "unknown entry `train.stpes`: did you mean `steps`?"),
        ({"train": {"steps": "3"}}, "`train.steps` must be int, got '3'"),
        ({"train": {"steps": True}}, "`train.steps` must be int, got True"),
        ({"train": {"augment": 1}}, "`train.augment` must be bool, got 1"),
        ({"train": {"image_size": 1.5}}, "`train.image_size` must be int or null, got 1.5"),
    ],
)
def test_wrong_files_are_one_line(document, message):
    with pytest.raises(RequestError) as caught:
        values_from_json(document, "my.json")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_whole_number_is_good_enough_for_a_float():
    assert values_from_json({"train": {"lr": 1}}, "my.json") == {"lr": 1.0}


def test_a_configuration_never_changes():
    science, _ = build({})
    with pytest.raises(dataclasses.FrozenInstanceError):
        science.train.steps = 3  # type: ignore[misc]  # this is the point


@pytest.mark.parametrize(
    "asked, platform",
    [
        ({}, "cpu"),
        ({"gpus_per_worker": 0.5}, "gpu"),
        ({"resources": '{"TPU": 4}'}, "tpu"),
        ({"resources": '{"special": 1}'}, "cpu"),
    ],
)
def test_what_a_worker_computes_on(asked, platform):
    _, placement = build({"trials": 10, **asked})
    assert placement.platform == platform
