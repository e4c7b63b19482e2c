"""`actsearch search --from RUN`: a run that grows from another, from the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from launch.cli import run
from launch.errors import RequestError
from launch.flags import build
from launch.growing import growing
from launch.inspection.glance import glance
from launch.inspection.summary import as_lines, summarise
from launch.run import CONFIG_NAME, read_run_config, start_or_resume
from search.journal import FILE_NAME, Journal
from search.known import known_trials
from search.ranking import history_sha256
from search.state import decode_state
from spaces import PAPER, SearchSpace, read_source

VALUES = {
    "strategy": "controller",
    "trials": 30,
    "baselines": "relu,swish",
    "steps": 100,
    "controller_hidden": 8,
    "controller_batch_size": 10,
    "controller_epochs": 2,
}
DIGEST = "digits 0"
"""What made runs say of their images."""

OPERATORS = """
import jax.numpy as jnp
from spaces import PAPER, Operator

OPS = PAPER.only("identity", "sigmoid", "relu", "mul", "max")
MORE = OPS.with_unary(Operator("bend", 1, lambda x: jnp.tanh(x) * jnp.exp(-x * x)))
OTHER = PAPER.without("sigmoid").with_unary(Operator("sigmoid", 1, jnp.tanh))
"""


@pytest.fixture(scope="module")
def parent(make_run, tmp_path_factory) -> Path:
    """A finished run of the controller. Only to be read."""
    return make_run(tmp_path_factory.mktemp("runs") / "first", **VALUES)


@pytest.fixture(scope="module")
def grown(make_run, parent, tmp_path_factory) -> Path:
    """A finished run that grew from it, of two core units. Only to be read."""
    folder = tmp_path_factory.mktemp("runs") / "second"
    return make_run(folder, parent=parent, **VALUES | {"core_units": 2})


def read(folder: Path) -> Journal:
    return Journal.read(folder)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--lr", "0.1"], "`lr` is 0.05 there, 0.1 here"),
        (["--width", "4", "--child", "resnet14"], "`child` is 'resnet8' there, 'resnet14' here"),
        (["--steps", "90"], "`steps` is 100 there, 90 here"),
        (["--rungs", "50:4,90:2"], "`steps` is 100 there, 50, 90 here"),
        (["--seed", "3"], "`seed` is 0 there, 3 here"),
        (["--schedule", "step"], "`schedule` is 'cosine' there, 'step' here"),
        (["--controller-hidden", "9"], "`controller_hidden` is 8 there, 9 here"),
        ([], "`data_sha256` is digits 0… there, "),
    ],
)
def test_other_trainings_are_refused_by_name_and_nothing_is_made(
    arguments, message, parent, tmp_path, capsys, contents
):
    before = contents(parent)
    assert run(["search", "--run-dir", str(tmp_path / "x"), "--from", str(parent), *arguments]) == 2
    out, errors = capsys.readouterr()
    assert message in errors and errors.count("\n") == 1 and out == ""
    assert not (tmp_path / "x").exists()
    assert contents(parent) == before


def test_no_run_and_an_untrained_run_are_refused(tmp_path, capsys):
    assert run(["search", "--from", str(tmp_path / "no")]) == 2
    assert "no does not exist" in capsys.readouterr().err
    science, placement = build(VALUES)
    start_or_resume(tmp_path / "new", science, placement).journal.close()
    arguments = ["search", "--run-dir", str(tmp_path / "x"), "--from", str(tmp_path / "new")]
    assert run(arguments) == 2
    assert "new has trained nothing yet" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_operators_of_its_own_are_named_again_and_must_mean_the_same(
    parent, make_run, tmp_path, capsys
):
    (tmp_path / "my_ops.py").write_text(OPERATORS)
    spec = str(tmp_path / "my_ops.py")
    science, _ = build(VALUES | {"operators": f"{spec}:OTHER"})
    with (
        pytest.raises(RequestError, match=r"`operators`: `sigmoid` of .* means something else in"),
        growing(parent, science, read_source(f"{spec}:OTHER"), DIGEST),
    ):
        pass
    own = make_run(tmp_path / "own", **VALUES | {"operators": f"{spec}:OPS", "trials": 12})
    assert run(["search", "--run-dir", str(tmp_path / "x"), "--from", str(own)]) == 2
    assert f"name them, or others, --operators {spec}:OPS" in capsys.readouterr().err
    make_run(
        tmp_path / "more",
        parent=own,
        **VALUES | {"operators": f"{spec}:MORE", "strategy": "exhaustive", "trials": 5},
    )
    assert len(known_trials(read(tmp_path / "more"))) >= 5


def test_the_new_run_says_where_it_came_from(grown, parent):
    origin = json.loads((grown / CONFIG_NAME).read_text())["from"]
    assert origin == {"run": "first", "history_sha256": history_sha256(read(parent))}
    science, _ = read_run_config(grown)  # science has nothing of it
    assert science == build({**VALUES, "core_units": 2})[0]


def test_the_controller_goes_on_where_it_learnt(make_run, parent, tmp_path):
    folder = make_run(
        tmp_path / "second", parent=parent, stop_after=0, **VALUES | {"core_units": 2}
    )
    first, second = (read(path).snapshot() for path in (parent, folder))
    assert first is not None and second is not None and second[0] == 0
    trained, begun = decode_state(first[1]), decode_state(second[1])
    for part in ("dense_i", "dense_h"):
        np.testing.assert_array_equal(
            begun["params"]["cell"][part]["kernel"], trained["params"]["cell"][part]["kernel"]
        )
    np.testing.assert_array_equal(begun["params"]["kernel"][:3], trained["params"]["kernel"])
    count = len(SearchSpace(PAPER, 2).decisions)
    assert begun["params"]["kernel"].shape[0] == count == 8
    assert begun["baseline"] == trained["baseline"]
    assert not begun["adam"]["mu"]["kernel"].any() and begun["adam"]["count"] == 0


def test_the_budget_is_of_new_trials_and_the_summary_says_so(grown, make_run, parent, tmp_path):
    journal = read(grown)
    summary = summarise(journal)
    known = known_trials(journal)
    assert len(known) >= 2  # the baselines
    assert summary.known == len(known) and summary.parent == "first"
    assert summary.trials == 30 + len(known)
    line = f"{summary.trials} trials, of which {len(known)} known from first (2 of baselines"
    assert as_lines(summary)[0].startswith(line)
    alone = summarise(read(parent))
    assert alone.known == 0 and as_lines(alone)[0].startswith("32 trials (2 of")

    half = make_run(
        tmp_path / "half", parent=parent, stop_after=9, **VALUES | {"strategy": "random"}
    )
    journal = read(half)
    science, _ = read_run_config(half)
    assert glance(journal, science).expected == 30 + len(known_trials(journal))


def test_the_same_command_goes_on_though_the_first_run_is_gone(make_run, parent, tmp_path):
    shutil.copytree(parent, tmp_path / "first")
    values = VALUES | {"core_units": 2}
    whole = make_run(tmp_path / "whole", parent=tmp_path / "first", **values)
    broken = make_run(tmp_path / "broken", parent=tmp_path / "first", stop_after=8, **values)
    shutil.rmtree(tmp_path / "first")
    make_run(broken, parent=tmp_path / "first", **values)
    assert history_sha256(read(broken)) == history_sha256(read(whole))
    with pytest.raises(RequestError, match=r"grew from first, not from .*second"):
        make_run(broken, parent=tmp_path / "second", **values)


def test_a_beginning_that_was_cut_short_asks_for_its_parent(make_run, parent, tmp_path):
    folder = make_run(tmp_path / "x", parent=parent, stop_after=1, **VALUES)
    for path in folder.glob(FILE_NAME + "*"):
        path.unlink()
    science, placement = read_run_config(folder)
    with pytest.raises(RequestError, match="was to grow from first: name it again with --from"):
        start_or_resume(folder, science, placement)
    make_run(folder, parent=parent, stop_after=1, **VALUES)
    assert known_trials(read(folder))


@pytest.mark.ray
@pytest.mark.slow
def test_nothing_known_is_trained_again(tmp_path):
    """Real children: every function of a small set, then one operator more."""
    (tmp_path / "my_ops.py").write_text(OPERATORS)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    environment = kept | {"PYTHONPATH": str(Path(__file__).parents[2])}

    def search(name: str, *arguments: str) -> dict:
        command = [sys.executable, "-m", "launch", "search", "--run-dir", name, *arguments]
        done = subprocess.run(
            [*command, "--json", "--workers", "1"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert "fork" not in done.stderr
        return json.loads(done.stdout)

    first = search(
        *("first", "--operators", "my_ops.py:OPS", "--strategy", "exhaustive", "--trials", "99"),
        *("--baselines", "relu", "--width", "4", "--steps", "4", "--batch-size", "32"),
    )
    known = {c["expression"]: c for c in first["candidates"]}
    assert first["summary"]["effort"]["trials"] == first["summary"]["trials"] == len(known) > 8

    more = ("--from", "first", "--operators", "my_ops.py:MORE", "--trials", "5")
    second = search("second", *more)
    summary = second["summary"]
    new = [c for c in second["candidates"] if c["expression"] not in known]
    assert summary["effort"]["trials"] == len(new) == 5
    assert all("bend" in c["expression"] for c in new)
    assert (summary["from"], summary["known"]) == ("first", summary["trials"] - 5)
    assert summary["known"] > 3
    for candidate in second["candidates"]:
        if candidate["expression"] in known:
            before = known[candidate["expression"]]
            assert {**candidate, "rank": 0} == {**before, "rank": 0, "seconds": 0.0}

    shutil.rmtree(tmp_path / "first")
    again = search("second", *more)
    assert again["summary"]["history_sha256"] == summary["history_sha256"]
