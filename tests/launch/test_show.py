"""`actsearch show`: one candidate of a run, found by rank, text or name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from launch.cli import run
from launch.errors import RequestError
from launch.inspection.lookup import Lookup
from launch.inspection.sparkline import sparkline
from search.journal import Journal
from spaces.grid import grid

ROOT = Path(__file__).parents[2]


def shown(capsys, folder, wanted, *flags) -> dict:
    assert run(["show", str(folder), wanted, "--json", *flags]) == 0, capsys.readouterr().err
    document = json.loads(capsys.readouterr().out)
    assert document["run"] == str(folder)
    return document["candidate"]


@pytest.fixture(scope="module")
def repeated(make_run, tmp_path_factory) -> Path:
    """A run of two rungs, the last with three seeds."""
    folder = tmp_path_factory.mktemp("runs") / "rungs"
    return make_run(folder, rungs="50:4,100:2", replicates=3, trials=25, seed=3)


def test_rank_expression_spelling_name_and_formula_find_the_same(a_run, capsys):
    expected = shown(capsys, a_run, "swish")
    assert (expected["expression"], expected["formula"]) == ("gate(scale(x), x)", "x · σ(βx)")
    assert (expected["name"], expected["baseline"]) == ("Swish", True)
    ways = ("Swish", str(expected["rank"]), "gate( scale(x),x )", "gate(scale(identity(x)), x)")
    for wanted in (*ways, "x · σ(βx)"):
        assert shown(capsys, a_run, wanted) == expected
    assert run(["top", str(a_run), "--json"]) == 0
    ranking = json.loads(capsys.readouterr().out)["candidates"]
    record = ranking[expected["rank"] - 1]
    assert record.pop("trials") == len(expected["trials"])
    assert {name: expected[name] for name in record} == record


def test_the_document_has_trials_training_vectors_and_graph(a_run, capsys):
    found = shown(capsys, a_run, "swish")
    (trial,) = found["trials"]
    assert (trial["rung"], trial["steps"], trial["replicate"]) == (0, 100, 0)
    assert (trial["status"], trial["reward"]) == ("ok", found["reward"])
    assert [point["step"] for point in trial["curve"]] == list(range(5, 101, 5))
    assert {beta["layer"] for beta in trial["beta"]} == {"act", "blocks.0.act1"}
    x = grid()
    sigmoid = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(found["graph"]["x"], x, rtol=1e-6)
    np.testing.assert_allclose(found["graph"]["f"], x * sigmoid, rtol=1e-5, atol=1e-6)
    slope = sigmoid * (1 + x * (1 - sigmoid))
    np.testing.assert_allclose(found["graph"]["slope"], slope, rtol=1e-4, atol=1e-5)


def test_other_spellings_are_listed_and_lead_to_the_one_that_was_trained(a_run, capsys):
    journal = Journal.read(a_run)
    rows = {row.id: row for row in journal.candidates(sampled=False)}
    alias = next(row for row in rows.values() if row.equal_to is not None)
    root = rows[alias.root]
    expected = {row.expression for row in rows.values() if row.equal_to == root.id}
    journal.close()
    found = shown(capsys, a_run, alias.expression)
    assert (found["expression"], found["spelling"]) == (root.expression, alias.expression)
    assert set(found["aliases"]) == expected and found["proposed"] >= len(expected)
    assert run(["show", str(a_run), alias.expression]) == 0
    text = capsys.readouterr().out
    assert f"equal to {alias.expression}, which was asked for" in text
    assert all(spelling in text for spelling in expected)


def test_what_was_not_trained_has_its_reason(a_run, capsys):
    journal = Journal.read(a_run)
    row = next(row for row in journal.candidates() if row.verdict == "invalid")
    journal.close()
    found = shown(capsys, a_run, row.expression)
    assert (found["rank"], found["status"], found["reason"]) == (None, "invalid", row.reason)
    assert (found["graph"], found["trials"]) == (None, [])
    assert run(["show", str(a_run), row.expression]) == 0
    assert f"not trained: invalid: {row.reason}" in capsys.readouterr().out
    plot = a_run.parent / "invalid.png"
    assert run(["show", str(a_run), row.expression, "--plot", str(plot)]) == 2
    assert f"has no graph: {row.reason}" in capsys.readouterr().err and not plot.exists()


def test_rungs_and_seeds_are_rows(repeated, capsys):
    found = shown(capsys, repeated, "1")
    steps = [(t["rung"], t["steps"], t["replicate"]) for t in found["trials"]]
    assert steps == [(0, 50, 0), (1, 100, 0), (1, 100, 1), (1, 100, 2)]
    rewards = [trial["reward"] for trial in found["trials"][1:]]
    assert found["reward"] == pytest.approx(sum(rewards) / 3)
    assert found["spread"] == pytest.approx(np.std(rewards, ddof=1))


def test_what_was_taken_over_says_where_it_was_trained(tmp_path, make_run, capsys):
    """On a rung that only adds seeds, and in a run that grew from another."""
    values = {"rungs": "50:4,100:2,100:2", "replicates": 2, "trials": 25, "seed": 3}
    folder = make_run(tmp_path / "rungs", **values)
    trials = shown(capsys, folder, "1")["trials"]
    origins = [trial["taken_from"] for trial in trials]
    assert origins == [None, None, {"run": None, "trial": trials[1]["trial"]}, None]
    assert run(["show", str(folder), "1"]) == 0
    assert f"trained as trial {trials[1]['trial']}\n" in capsys.readouterr().out

    grown = make_run(tmp_path / "grown", parent=folder, **values)
    again = shown(capsys, grown, "relu")["trials"][0]
    first = shown(capsys, folder, "relu")["trials"][0]
    assert again["taken_from"] == {"run": "rungs", "trial": first["trial"]}
    assert run(["show", str(grown), "relu"]) == 0
    assert f"trained as trial {first['trial']} of rungs" in capsys.readouterr().out


def test_what_is_planned_is_said_to_be(tmp_path, make_run, capsys):
    folder = make_run(tmp_path / "begun", stop_after=1)
    assert shown(capsys, folder, "relu")["status"] == "ok"
    planned = shown(capsys, folder, "swish")
    assert (planned["rank"], planned["status"]) == (None, "untrained")
    assert [trial["status"] for trial in planned["trials"]] == ["planned"]
    assert run(["show", str(folder), "swish"]) == 0
    assert "not trained yet" in capsys.readouterr().out


def test_people_see_curves_and_vectors(a_run, capsys):
    assert run(["show", str(a_run), "swish"]) == 0
    text = capsys.readouterr().out
    assert "x · σ(βx)   Swish ▪ baseline" in text and "beta of scale" in text
    assert "█" in text and "▁" in text and "blocks.0.act1" in text


def test_a_sparkline_by_hand():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([7.0, 0.0]) == "█▁"
    assert sparkline([2.0, 2.0]) == "▅▅"
    assert sparkline([]) == ""


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plots_are_pictures(suffix, a_run, capsys, tmp_path):
    picture = tmp_path / f"swish.{suffix}"
    shown(capsys, a_run, "swish", "--plot", str(picture))
    content = picture.read_bytes()
    if suffix == "svg":
        root = ElementTree.fromstring(content)
        assert root.tag.endswith("svg") and len(list(root.iter())) > 100
    else:
        assert content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) > 10_000


WRONG = [
    (["swsh"], "has met no 'swsh': did you mean `swish`?"),
    (["gelu"], "has met no function known as GELU"),
    (["gate(scal(x), x)"], "did you mean `gate(scale(x), x)`?"),
    (["mul(x, sigmiod(x))"], "column 8: unknown operator `sigmiod`: did you mean `sigmoid`?"),
    (["0"], "must be a rank from 1 to"),
    (["-4"], "an expression or a name, got -4"),
    (["99999"], "an expression or a name, got 99999"),
    (["1", "--plot", "a.pgn"], "`plot` must end in .png or .svg, got 'a.pgn': did you mean `.png`"),
    (["1", "--plot", "nowhere/a.png"], "there is no folder nowhere"),
]


def test_a_misspelt_operator_is_named_where_nobody_has_the_run_s_operators(a_run):
    journal = Journal.read(a_run)
    try:
        lookup = Lookup(journal, a_run, None)
        for wanted in ("mul(x, sigmiod(x))", "sigmiod(x)"):
            with pytest.raises(
                RequestError, match="unknown operator `sigmiod`: did you mean `sigm"
            ):
                lookup.find(wanted)
        with pytest.raises(RequestError, match=r"has met no 'erf\(sin\(sin\(erf\(x\)\)\)\)'"):
            lookup.find("erf(sin(sin(erf(x))))")
    finally:
        journal.close()


@pytest.mark.parametrize("arguments, message", WRONG, ids=lambda v: " ".join(v)[:40])
def test_near_misses_are_named(arguments, message, a_run, capsys, contents, tmp_path, monkeypatch):
    before = contents(a_run)
    monkeypatch.chdir(tmp_path)
    assert run(["show", str(a_run), *arguments]) == 2
    told = capsys.readouterr()
    assert message in told.err and told.err.count("\n") == 1 and told.out == ""
    assert contents(a_run) == before and list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_extra_is_named(a_run, tmp_path):
    program = (
        "import sys; sys.modules['matplotlib'] = None; from launch.cli import run; "
        "sys.exit(run(sys.argv[1:]))"
    )
    picture = tmp_path / "a.png"
    arguments = ["show", str(a_run), "1", "--plot", str(picture)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "the extra `plot`" in done.stderr and not picture.exists()
