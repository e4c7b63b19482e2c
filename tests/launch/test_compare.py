"""`actsearch compare`: who found what, and when; figures by hand."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from unittest.mock import patch

import pytest

from launch.cli import run
from launch.flags import build, to_json
from search.journal import CandidateRow, Journal, ProposalRow
from search.outcome import Outcome, Trial

SECOND = 1_000.0
"""Seconds after the beginning when the second sitting begins; the first one takes 40 s."""


def write(folder: Path, proposals: list[tuple], *, baselines=(), finished=True, data="d", **values):
    """A run by hand.

    Args:
        folder: Where.
        proposals: For each one the function's number, its accuracy (None: nothing is trained, it
            was met before) and when its trial ended, seconds after the beginning.
        baselines: Accuracies of functions 1, 2, …, trained first, in no time.
        finished: Whether the run is.
        data: SHA-256 of the images.
        values: Flags.
    """
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(to_json(*build(values))))
    journal = Journal.create(folder, {})
    trials = 0
    with journal.transaction():
        journal.put_meta("data_sha256", data)
        if finished:
            journal.put_meta("finished", "done")

        journal.begin_sitting({})

        def train(number: int, accuracy: float, at: float, baseline: bool) -> None:
            nonlocal trials
            trials += 1
            text = f"f{number}(x)"
            journal.add_candidate(
                CandidateRow(number, text, text, "", None, "ok", "", None, None, None)
            )
            journal.add_trial(Trial(trials, number, text, 0, 0, baseline))
            if at >= SECOND:
                journal.update_sitting(journal.begin_sitting({}) - 1, 40.0, {})
            with patch("search.row_writer.time.monotonic", lambda: journal._began + at % SECOND):
                journal.add_outcome(trials, Outcome("ok", accuracy, 1.0, 1.0))

        for number, accuracy in enumerate(baselines, start=1):
            train(number, accuracy, 0.0, baseline=True)
        for t, (number, accuracy, at) in enumerate(proposals):
            if accuracy is not None:
                train(number, accuracy, at, baseline=False)
            journal.add_proposal(ProposalRow(t, number, (), MappingProxyType({})))
    journal.close()
    return folder


@pytest.fixture
def three(tmp_path, monkeypatch) -> list[str]:
    """Two runs of random search and one of evolution; the best of all has 90 %."""
    monkeypatch.chdir(tmp_path)
    write(
        Path("a"),
        # The second baseline is proposed after two trials; a break of 960 s ends at second 1,000.
        [(3, 0.50, 10), (4, 0.70, 5), (2, None, 0), (5, 0.60, 30), (6, 0.90, 1010)],
        baselines=(0.95, 0.80),
        strategy="random",
        seed=0,
    )
    write(Path("b"), [(1, 0.40, 10), (2, 0.894, 20)], strategy="random", seed=1, data="e")
    write(
        Path("c"), [(1, 0.896, 10), (2, 0.2, 20), (3, 0.3, 30)],
        strategy="evolution", seed=2, data="f", finished=False,
    )  # fmt: skip
    return ["a", "b", "c"]


def document(capsys, *arguments: str) -> dict:
    assert run(["compare", *arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_courses_by_hand(three, capsys):
    found = document(capsys, *three)
    a, b, c = found["runs"]
    assert [(each["run"], each["strategy"], each["seed"]) for each in found["runs"]] == [
        ("a", "random", 0), ("b", "random", 1), ("c", "evolution", 2)
    ]  # fmt: skip
    assert [each["trials"] for each in found["runs"]] == [4, 2, 3]
    assert [each["finished"] for each in found["runs"]] == [True, True, False]
    # The first baseline was never proposed: its 95 % count for nobody.
    assert found["best"]["expression"] == "f6(x)" and found["best"]["accuracy"] == 0.90
    assert a["by_trials"] == [[1, 0.5], [2, 0.8], [4, 0.9]]
    # By seconds trial 2 came first, with 70 %; the baseline counts from then, too.
    assert a["by_seconds"] == [[5.0, 0.8], [50.0, 0.9]]
    assert (a["best"]["trials"], a["best"]["seconds"]) == (4, 50.0)
    assert (b["best"]["accuracy"], b["near"]) == (0.894, None)
    assert (c["near"]["trials"], c["near"]["seconds"]) == (1, 10.0)
    assert c["by_trials"] == [[1, 0.896], [3, 0.896]]


def test_strategies_over_the_trials_that_all_have(three, capsys):
    found = document(capsys, *three)
    assert found["common_trials"] == 2
    random, evolution = found["strategies"]
    assert (random["strategy"], random["seeds"]) == ("random", [0, 1])
    # Within two trials run a has the baseline's 80 %, run b its 89.4 %.
    assert random["median"] == pytest.approx((0.80 + 0.894) / 2)
    assert random["spread"] == pytest.approx((0.894 - 0.80) / 2**0.5)
    assert (random["lowest"], random["highest"]) == (0.80, 0.894)
    assert (random["near"], random["median_near"]) == ([4, None], None)
    assert (evolution["median"], evolution["spread"]) == (0.896, None)
    assert evolution["median_near"] == 1


def test_a_table_for_people(three, capsys):
    assert run(["compare", *three]) == 0
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if line.startswith("c "))
    assert row.split()[:3] == ["c", "evolution", "2"] and "3 …" in row and "89.60 %" in row
    assert "84.70 %" in text and "± 6.65" in text


def test_plots_are_pictures(three, capsys, tmp_path):
    assert run(["compare", *three, "--plot", "all.svg"]) == 0
    text = (tmp_path / "all.svg").read_text()
    assert "<svg" in text
    assert run(["compare", *three, "--plot", "all.png"]) == 0
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"steps": 7}, "`steps` is 400 in a, 7 in other"),
        ({"child": "resnet14"}, "`child` is 'resnet8' in a, 'resnet14' in other"),
        ({"dataset": "cifar10"}, "`dataset` is 'digits' in a, 'cifar10' in other"),
        (
            {"lr": 0.1, "width": 8},
            "`width` is 16 in a, 8 in other; `lr` is 0.05 in a, 0.1 in other",
        ),
        ({"replicates": 2}, "`replicates` is 1 in a, 2 in other"),
        ({"rungs": "9:3,10:1"}, "`rungs` is '' in a, '9:3,10:1' in other"),
        ({"data": "x"}, "the images of digits with seed 0 are not the same"),
    ],
    ids=str,
)
def test_other_conditions_are_refused_by_name(values, message, three, capsys, contents):
    write(Path("other"), [(1, 0.5, 1)], strategy="random", **values)
    before = contents(Path("a"))
    assert run(["compare", "a", "other"]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and shown.out == ""
    found = document(capsys, "a", "other", "--anyway")
    assert any(message.split("; ")[0] in note for note in found["notes"])
    assert len(found["runs"]) == 2 and contents(Path("a")) == before


def test_what_may_differ_is_noted(three, capsys):
    write(Path("two"), [(1, 0.5, 1)], strategy="evolution", core_units=2, evolution_population=7)
    notes = document(capsys, "a", "c", "two")["notes"]
    assert "`core_units` is 1 in a and c, 2 in two" in notes
    assert any(note.startswith("`evolution_population` is ") for note in notes)
    write(Path("again"), [(1, 0.5, 1)], strategy="random", seed=0)
    assert document(capsys, "a", "again")["notes"] == ["2 runs of random have seed 0: one history"]


def test_real_runs_with_rungs_and_replicates(tmp_path, make_run, capsys):
    """Against the ranking: a function counts with its last rung, once that is complete."""
    folders = [
        make_run(tmp_path / f"seed{seed}", rungs="50:6,100:3", replicates=2, trials=20, seed=seed)
        for seed in (0, 1)
    ]
    found = document(capsys, *map(str, folders))
    for folder, each in zip(folders, found["runs"], strict=True):
        assert run(["top", str(folder), "--json"]) == 0
        ranking = json.loads(capsys.readouterr().out)["candidates"]
        own = [c for c in ranking if c["rung"] == 1 and c["reward"] is not None]
        own = [c for c in own if not c["baseline"]]
        assert each["trials"] == 20 + 6 * 2
        assert each["best"]["accuracy"] == own[0]["reward"]
        assert each["best"]["expression"] == own[0]["expression"]
        assert 20 < each["best"]["trials"] <= 32


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "`runs` must be two folders at least, got 0"),
        (["a"], "`runs` must be two folders at least, got 1"),
        (["a", "./a"], "is named twice"),
        (["a", "nowhere"], "nowhere does not exist"),
        (["a", "b", "--plot", "x.jpg"], "`plot` must end in .png or .svg, got 'x.jpg'"),
    ],
)
def test_wrong_requests(arguments, message, three, capsys, tmp_path):
    before = sorted(tmp_path.iterdir())
    assert run(["compare", *arguments]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and shown.out == ""
    assert sorted(tmp_path.iterdir()) == before
