"""What is counted, what is measured and what is made of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from trainers import bench as bench_module
from trainers import floor as floor_module
from trainers.bench_report import as_lines, duration
from trainers.breakdown import KINDS, Span, exclusive_ns, kinds_of, shares
from trainers.command import train_arguments, train_config
from trainers.config import TrainConfig
from trainers.environment import ALLOCATOR, XLA_OPTION
from trainers.floor import Layer, Rates, floor, layers, training_work
from trainers.loop import Stage

RESNET8 = TrainConfig(child="resnet8", width=16, batch_size=64)

# Floor

LAYERS = [
    # side, C in, C out, stride, taps a side, side out, shortcut: ResNet-8 of width 16, 16 x 16 x 3
    (16, 3, 16, 1, 46, 16, 0),
    (16, 16, 16, 1, 46, 16, 0),
    (16, 16, 16, 1, 46, 16, 16 * 16 * 16),
    (16, 16, 32, 2, 23, 8, 0),
    (8, 32, 32, 1, 22, 8, 8 * 8 * 16),
    (8, 32, 64, 2, 11, 4, 0),
    (4, 64, 64, 1, 10, 4, 4 * 4 * 32),
]
"""Of 3 taps a side, one lacks at each end, and where the stride is 2 only at the beginning."""


def test_layers_of_resnet8_by_hand():
    found = list(layers(RESNET8, image_size=16, channels=3))
    assert [
        (each.side, each.inputs, each.outputs, each.stride, each.side_out, each.shortcut)
        for each in found
    ] == [(*row[:4], *row[5:]) for row in LAYERS]
    assert [each.first for each in found] == [True] + [False] * 6


def test_operations_of_resnet8_by_hand():
    """2 for each product; forward and two gradients, of which the images need but one."""
    products = [taps**2 * inputs * outputs for _, inputs, outputs, _, taps, _, _ in LAYERS]
    assert products == [101_568, 541_696, 541_696, 270_848, 495_616, 247_808, 409_600]
    per_image = 2 * 101_568 + 3 * 2_507_264 + 3 * 64 * 10
    found = training_work(RESNET8, image_size=16, channels=3, num_classes=10)
    assert found.flops == 2 * 64 * per_image == 989_036_544


def test_bytes_of_resnet8_by_hand():
    """Inputs 3 passes (images 2), outputs 7, shortcuts 2; 8 passes over each weight."""
    inputs = 2 * 768 + 3 * (4_096 + 4_096 + 4_096 + 2_048 + 2_048 + 1_024)
    outputs = 7 * (3 * 4_096 + 2 * 2_048 + 2 * 1_024)
    shortcuts = 2 * (4_096 + 1_024 + 512)
    kernels = 9 * (48 + 2 * 256 + 512 + 1_024 + 2_048 + 4_096)
    weights = kernels + 2 * (3 * 16 + 2 * 32 + 2 * 64) + 64 * 10 + 10
    found = training_work(RESNET8, image_size=16, channels=3, num_classes=10)
    assert found.bytes == 4 * 64 * (inputs + outputs + shortcuts) + 32 * weights == 52_085_568
    assert found.activation_elements == 64 * 18_432
    assert found.kept_bytes == 4 * 64 * (18_432 + 768 + 17_408)


def test_bfloat16_halves_the_maps_and_nothing_else():
    single, half = (
        training_work(TrainConfig(precision=precision), image_size=16, channels=3, num_classes=10)
        for precision in ("float32", "bfloat16")
    )
    assert (half.flops, 2 * half.kept_bytes) == (single.flops, single.kept_bytes)
    weights = 32 * 75_290
    assert 2 * (half.bytes - weights) == single.bytes - weights


@pytest.mark.parametrize("side", [2, 5, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_products_are_those_of_a_convolution_of_ones(side: int, stride: int):
    """With ones everywhere each output is the number of products that it sums."""
    outputs = lax.conv_general_dilated(
        jnp.ones((1, side, side, 2)),
        jnp.ones((3, 3, 2, 3)),
        (stride, stride),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    layer = Layer(side, 2, 3, stride)
    assert layer.products == int(np.asarray(outputs).sum())
    assert (layer.elements_in, layer.elements_out) == (side * side * 2, outputs.size)


def test_the_floor_is_the_longer_of_two_times():
    work = training_work(RESNET8, image_size=16, channels=3, num_classes=10)
    slow_memory = floor(work, Rates(flops_per_s=989_036_544e2, bytes_per_s=52_085_568e1))
    assert slow_memory["compute_ms"] == pytest.approx(10)
    assert slow_memory["memory_ms"] == slow_memory["floor_ms"] == pytest.approx(100)
    slow_sums = floor(work, Rates(flops_per_s=989_036_544e1, bytes_per_s=52_085_568e2))
    assert slow_sums["floor_ms"] == slow_sums["compute_ms"] == pytest.approx(100)


def test_rates_count_what_was_done(monkeypatch: pytest.MonkeyPatch):
    """A product of 1024 x 1024 matrices, and passes that read and write; a second each."""

    def a_second(run: Any) -> float:
        run().block_until_ready()
        return 1.0

    monkeypatch.setattr(floor_module, "_best", a_second)
    found = floor_module.measure_rates("float32", kept_bytes=2**22)
    assert found.flops_per_s == 2 * 1024**3
    assert found.bytes_per_s == 2 * 2**22 * 64


# Where the time goes


def test_an_instant_belongs_to_what_began_last():
    spans = [
        Span(0, 100, "conditional"),
        Span(10, 30, "sine"),
        Span(30, 40, "sine"),
        Span(60, 120, "convolution"),  # on another thread
        Span(200, 210, "sine"),
    ]
    assert exclusive_ns(spans) == {"conditional": 10 + 20, "sine": 20 + 10 + 10, "convolution": 60}


def test_shares_add_up_and_the_rest_is_the_host_s():
    spans = [Span(0, 40, "a"), Span(40, 60, "b"), Span(60, 65, "unheard of")]
    found = shares(spans, {"a": "activations", "b": "normalisation"}, wall_ns=100)
    assert tuple(found) == KINDS
    assert {kind: share for kind, share in found.items() if share} == {
        "activations": 0.40,
        "normalisation": 0.20,
        "other": 0.05,
        "host": 0.35,
    }


PROGRAM = """\
HloModule jit_train, is_scheduled=true

FileNames
1 "/x/trainers/step.py"
2 "/x/trainers/resnet.py"
3 "/x/trainers/convolution.py"
4 "/x/spaces/activation.py"
5 "/x/trainers/normalisation.py"

FunctionNames
1 "StepFunctions.train"
2 "ConvNorm.normalise"
3 "conv3x3"
4 "ActivationForm.__call__"
5 "batch_norm"
6 "shortcut"

FileLocations
1 {file_name_id=1 function_name_id=1 line=1}
2 {file_name_id=2 function_name_id=2 line=1}
3 {file_name_id=3 function_name_id=3 line=1}
4 {file_name_id=4 function_name_id=4 line=1}
5 {file_name_id=2 function_name_id=6 line=1}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=3 parent_frame_id=3}
4 {file_location_id=4 parent_frame_id=2}
5 {file_location_id=5 parent_frame_id=2}

%fused_computation.1 (p0: f32[8], p1: f32[8]) -> f32[8] {
  %p0 = f32[8]{0} parameter(0)
  %p1 = f32[8]{0} parameter(1)
  ROOT %convolution.9 = f32[8]{0} convolution(%p0, %p1), window={size=8x8}
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0), metadata={op_name="state"}
  %conv.1 = f32[8]{0} convolution(%a, %a), metadata={op_name="jit(train)/jvp()/conv_general_dilated" stack_frame_id=3}
  %pad.1 = f32[8]{0} fusion(%conv.1), kind=kLoop, metadata={op_name="jit(train)/jvp()/pad" stack_frame_id=3}
  %mean.1 = f32[8]{0} fusion(%pad.1), kind=kLoop, metadata={op_name="jit(train)/jvp()/div" stack_frame_id=2}
  %sine.1 = f32[8]{0} fusion(%mean.1), kind=kLoop, metadata={op_name="jit(train)/jvp()/sin" stack_frame_id=4}
  %cosine.1 = f32[8]{0} fusion(%sine.1), kind=kLoop, metadata={op_name="jit(train)/transpose(jvp())/cos" stack_frame_id=4}
  %conv.2 = f32[8]{0} convolution(%cosine.1, %a), metadata={op_name="jit(train)/transpose(jvp())/conv_general_dilated" stack_frame_id=3}
  %copy.1 = f32[8]{0} copy(%conv.2)
  %fusion.1 = f32[8]{0} fusion(%copy.1, %conv.2), kind=kCustom, calls=%fused_computation.1
  ROOT %add.1 = f32[8]{0} add(%fusion.1, %a), metadata={op_name="jit(train)/jvp()/pad" stack_frame_id=5}
}
"""


def test_kinds_of_instructions():
    found = kinds_of(PROGRAM)
    assert {name: found[name] for name in found if name.endswith((".1", ".2"))} == {
        "conv.1": "convolutions",
        "pad.1": "convolutions",
        "mean.1": "normalisation",
        "sine.1": "activations",
        "cosine.1": "activation gradients",
        "conv.2": "convolution gradients",
        "copy.1": "convolution gradients",
        "fusion.1": "convolution gradients",
        "add.1": "other",
    }


# What a search makes of it


@pytest.mark.parametrize(
    "seconds, words",
    [
        (45.4, "45 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7_500, "2 h 5 min"),
        (302_400, "3.5 days"),
    ],
)
def test_durations_as_people_say_them(seconds: float, words: str):
    assert duration(seconds) == words


def test_flags_survive_the_way_through_the_command_line():
    from trainers.bench_command import parser

    asked = TrainConfig(child="resnet20", lr=0.025, augment=False, image_size=16, beta_init=0.5)
    assert train_config(parser().parse_args(train_arguments(asked))) == asked


# The command

OPERATORS = """
from spaces import PAPER
SMALL = PAPER.only("identity", "sin", "scale", "mul")
"""
ASKED = ["--width=2", "--steps=4", "--batch-size=16", "--candidates=1", "--seconds=5"]


def small_set(folder: Path) -> str:
    """Compiles in a tenth of the time that the paper's set takes."""
    path = folder / "small.py"
    path.write_text(OPERATORS)
    return f"{path}:SMALL"


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m trainers bench` where only JAX, Flax, optax and NumPy can be imported."""
    absent = ["ray", "cyclopts", "sympy", "pooch", "tqdm", "sklearn", "search", "launch"]
    code = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({absent!r}))\n"
        f"sys.argv[1:] = ['bench', *{list(arguments)!r}]\n"
        "runpy.run_module('trainers', run_name='__main__', alter_sys=True)\n"
    )
    without = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=without | environment,
    )


NUMBERS = (
    "traced_over_specialised",
    "step_ms",
    "compile_s",
    "first_step_new_candidate_ms",
    "images_per_s",
    "candidates_per_hour",
    "peak_memory_mb",
    "floor_ms",
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command prints as JSON."""
    done = command("--json", f"--operators={small_set(tmp_path_factory.mktemp('set'))}", *ASKED)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_the_command_measures_without_ray(measured: dict[str, Any]):
    for name in NUMBERS:
        assert isinstance(measured[name], float), name
        assert measured[name] > 0, name
    forms = measured["forms"]
    assert measured["images_per_s"] == pytest.approx(16e3 / measured["step_ms"])
    assert measured["step_ms"] == forms[measured["form"]]["step_ms"]
    assert measured["step_ms"] > measured["floor_ms"]
    assert forms["traced"]["trial_s"] < forms["specialised"]["trial_s"]
    if hasattr(os, "sched_getaffinity"):
        assert measured["cores"] == sorted(os.sched_getaffinity(0))[:1]
    assert measured["config"]["lr"] == TrainConfig().lr


def test_the_command_says_where_the_time_goes(measured: dict[str, Any]):
    where = measured["where"]
    assert sum(where.values()) == pytest.approx(1)
    for kind in ("convolutions", "convolution gradients", "activations", "normalisation"):
        assert where[kind] > 0, kind


def test_the_text_has_the_figures(measured: dict[str, Any]):
    text = "\n".join(as_lines(measured))
    assert re.search(r"^traced +[\d.]+ ms +[\d.]+ s once", text, re.MULTILINE)
    assert re.search(r"^specialised +[\d.]+ ms +[\d.]+ s each", text, re.MULTILINE)
    assert f"traced / specialised {measured['traced_over_specialised']:.2f}" in text
    for seconds, told in ((0.25, True), (0.001, False)):
        traced = {**measured["forms"]["traced"], "fuse_s": seconds}
        text = "\n".join(as_lines({**measured, "forms": {**measured["forms"], "traced": traced}}))
        assert (f"and {seconds:.2f} s to compile it;" in text) == told
    assert f"physical floor {measured['floor_ms']:.2f} ms a step" in text
    assert f"where the time of a {measured['form']} step goes: convolutions" in text
    without = {**measured, "where": None, "where_not_measured": "no profiler here"}
    assert "where the time goes: not measured (no profiler here)" in "\n".join(as_lines(without))


def test_without_a_profiler_the_time_s_whereabouts_are_not_measured(
    monkeypatch: pytest.MonkeyPatch,
):
    def no_profiler(found: list[Span], program: str) -> None:
        raise RuntimeError("no profiler here\nat all")

    monkeypatch.setattr(bench_module, "traced_spans", no_profiler)
    compiled: Any = SimpleNamespace(
        train=SimpleNamespace(as_text=lambda: PROGRAM),
        functions=SimpleNamespace(begin=lambda beta, seed: {}),
        initial=lambda program: [0.0],
    )

    def stages(*_: object) -> Generator[Stage, None, None]:
        yield Stage(compiled, None, 3)

    driver = SimpleNamespace(begin=lambda functions, beta, seed: {})
    trainer: Any = SimpleNamespace(driver="loop", _stages=stages, _driver=driver)
    candidate: Any = None
    found = bench_module._where(trainer, candidate, "traced", seed=0, steps=2)
    assert found == (None, "no profiler here")


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_the_command_starts_again_with_settings_of_its_own(tmp_path: Path):
    """A set whose file tells the environment in which it is loaded."""
    path = tmp_path / "tells.py"
    path.write_text("import os\nraise ValueError(dict(os.environ))")
    done = command(f"--operators={path}:SET", *ASKED)
    assert done.returncode == 2
    for name, value in ALLOCATOR.items():
        assert f"'{name}': '{value}'" in done.stderr
    assert XLA_OPTION in done.stderr


def test_a_device_that_is_not_there_is_a_failure_in_one_line():
    done = command(JAX_PLATFORMS="nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: JAX has no device of JAX_PLATFORMS='nowhere' here\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--candidates=0"], "`candidates` must be ≥ 1, got 0"),
        (["--seconds=0"], "`seconds` must be > 0, got 0.0"),
        (["--core-units=9"], "`core_units` must be 1 to 8, got 9"),
        (["--cores=0,x"], "`cores` must be different ones of "),
        (["--baselines=nothing"], "nothing"),
        (["--child=resnet9"], "resnet8 and resnet14"),
        (["--operators=nowhere.py:OPS"], "cannot read operators from nowhere.py"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    from trainers.__main__ import main

    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    try:
        assert main(["bench", *arguments]) == 2
    finally:
        if before is not None:
            os.sched_setaffinity(0, before)
    shown = capsys.readouterr()
    assert words in shown.err
    assert (shown.err.count("\n"), shown.out) == (1, "")
