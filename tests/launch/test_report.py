"""The report: what is gathered from a run, and the file that is written."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from launch.cli import run
from launch.config import BASELINES
from launch.flags import build, to_json
from launch.report import gather, render
from launch.report.course import decision_labels, thinned
from launch.report.formulas import FormulaTable
from launch.report.listing import KINDS
from launch.report.operator_use import operator_use, operators_of
from search.controller import ControllerConfig
from search.journal import CandidateRow, Journal
from search.outcome import Outcome, Trial
from search.planner import Plan, Planner
from search.random_search import RandomConfig
from search.ranking import history_sha256
from search.schema import ProposalRow
from spaces import PAPER, OperatorTable, SearchSpace, known_function
from spaces.grid import POINTS, grid

EVIL = "</script><script>alert(1)</script>"


def beta(layer: str, mean: float, low: float, high: float) -> dict:
    return {"layer": layer, "operator": "scale", "param": "beta", "slot": 1, "mean": mean,
            "std": 0.5, "min": low, "max": high}  # fmt: skip


def write_run(folder: Path, **values) -> Path:
    """Eight functions on two rungs, the second with two seeds, made by hand."""
    folder.mkdir()
    asked = {"trials": 5, "rungs": "20:2,50:2", "replicates": 2, "dataset": "cifar10", **values}
    (folder / "config.json").write_text(json.dumps(to_json(*build(asked))))
    journal = Journal.create(folder, {"operators_sha256": "abc"})
    curve = np.stack([grid(), np.full(POINTS, 0.25)]).astype(np.float32)
    rows = [
        ("relu(x)", "max(x, 0)", r"\max\left(x, 0\right)", "ReLU", "ok", "", None),
        ("gate(scale(x), x)", "x · σ(βx)", r"x \cdot \sigma\left(\beta x\right)", "Swish", "ok", "", None),
        ("mul(x, sin(x))", EVIL, r"\frac{", None, "ok", "", None),
        ("add(cube(x), x)", "x³ + x", "x^{3} + x", None, "ok", "", None),
        ("sqrt(x)", "√(x)", r"\sqrt{x}", None, "invalid", "f(x) is nan at x = -4.96", None),
        ("sub(x, x)", "x − x", "x - x", None, "constant", "f does not change on [−5, 5]", None),
        ("max(relu(x), x)", "max(max(x, 0), x)", "x", "ReLU", "ok", "", 1),
        ("add(sin(x), x)", "sin(x) + x", r"\sin\left(x\right) + x", None, "ok", "", None),
    ]  # fmt: skip
    # Candidate, replicate, rung, outcome.
    trials = [
        (1, 0, 0, Outcome("ok", 0.80, 0.6, 1.0)),
        (2, 0, 0, Outcome("ok", 0.70, 0.7, 2.0)),
        (3, 0, 0, Outcome("ok", 0.60, 0.8, 2.0)),
        (4, 0, 0, Outcome("diverged", seconds=0.5, details={"reason": "loss became nan at step 4"})),
        (8, 0, 0, Outcome("ok", 0.75, 0.7, 2.0)),
        (1, 0, 1, Outcome("ok", 0.90, 0.3, 3.0)),
        (1, 1, 1, Outcome("ok", 0.91, 0.3, 3.0)),
        (2, 0, 1, Outcome("ok", 0.94, 0.20, 4.0,
                          {"beta": [beta("act", 1.0, 0.5, 1.5), beta("act2", 3.0, 2.0, 4.0)]})),
        (2, 1, 1, Outcome("ok", 0.96, 0.30, 4.0,
                          {"beta": [beta("act", 2.0, 0.0, 2.5), beta("act2", 3.0, 1.0, 5.0)]})),
    ]  # fmt: skip
    with journal.transaction():
        for number, (text, plain, latex, name, verdict, reason, equal) in enumerate(rows, start=1):
            shape = curve if verdict == "ok" and equal is None else None
            journal.add_candidate(
                CandidateRow(number, text, plain, latex, name, verdict, reason, equal, None, shape)
            )
        for t, number in enumerate((2, 3, 4, 5, 6, 7, 8)):
            journal.add_proposal(ProposalRow(t, number, (0, 0, 0), {}))
        for number, (candidate, replicate, rung, outcome) in enumerate(trials, start=1):
            text = rows[candidate - 1][0]
            journal.add_trial(Trial(number, candidate, text, replicate, rung, candidate == 1))
            journal.add_outcome(number, outcome)
    journal.close()
    return folder


@pytest.fixture
def made(tmp_path):
    return write_run(tmp_path / "made")


def column(data, name, kind=None):
    kinds = [KINDS[number] for number in data["functions"]["kind"]]
    return [v for v, k in zip(data["functions"][name], kinds, strict=True) if kind in (None, k)]


def test_the_ranking_is_told_by_columns(made):
    data = gather(made)
    assert column(data, "expression", "ranked") == [
        "gate(scale(x), x)", "relu(x)", "add(sin(x), x)", "mul(x, sin(x))",
    ]  # fmt: skip
    assert column(data, "reward", "ranked") == [0.95, 0.905, 0.75, 0.6]
    assert column(data, "spread", "ranked") == [0.01414, 0.00707, None, None]
    assert column(data, "loss", "ranked") == [0.25, 0.3, 0.7, 0.8]
    assert column(data, "seconds", "ranked") == [10.0, 7.0, 2.0, 2.0]
    assert column(data, "rung", "ranked") == [2, 2, 1, 1]
    assert column(data, "trials", "ranked") == [3, 3, 1, 1]
    assert column(data, "rank", "ranked") == [1, 2, 3, 4]
    assert column(data, "baseline", "ranked") == [0, 1, 0, 0]
    assert column(data, "aliases", "ranked") == [0, 1, 0, 0]
    assert data["rungs"] == [20, 50]
    # 45,000 of 50,000 images are trained on, 5,000 judge.
    assert data["error"] == pytest.approx(math.sqrt(0.95 * 0.05 / 5_000), abs=1e-5)


def test_what_has_no_result_is_counted_and_listed_with_its_reason(made):
    data = gather(made)
    assert data["counts"] == {
        "ranked": 4, "diverged": 1, "failed": 0, "untrained": 0, "invalid": 1, "constant": 1,
        "equal": 1,
    }  # fmt: skip
    assert data["reasons"] == {
        "diverged": [("loss became nan at step …", 1)],
        "invalid": [("f(x) is nan at x = …", 1)],
        "constant": [("f does not change on [−5, 5]", 1)],
    }
    reasons = [data["reason_texts"][number] for number in column(data, "reason")]
    told = dict(zip(column(data, "expression"), reasons, strict=True))
    assert told["add(cube(x), x)"] == "loss became nan at step 4"
    assert told["sqrt(x)"] == "f(x) is nan at x = -4.96"
    (root,) = column(data, "root", "equal")
    assert column(data, "expression")[root] == "relu(x)"


def test_curves_are_those_of_the_journal_on_its_grid(made):
    data = gather(made)
    np.testing.assert_allclose(data["x"], grid(), atol=1e-4)
    assert [curve["row"] for curve in data["curves"]] == [0, 1, 2, 3]
    np.testing.assert_allclose(data["curves"][0]["f"], grid(), atol=1e-4)
    assert set(data["curves"][0]["slope"]) == {0.25}


def test_the_course_has_records_and_baselines_of_each_rung(made):
    first, second = gather(made)["course"]
    assert (first["steps"], second["steps"]) == (20, 50)
    # Trials of baselines are not counted: 2, 3, 4 and 8 are the first to fourth.
    assert first["points"] == [(1, 0.7, 0), (2, 0.6, 3), (4, 0.75, 2)]
    assert first["best"] == [(1, 0.7, 0), (4, 0.75, 2)]
    assert first["lost"] == [3]
    assert first["baselines"] == [(0, 0.8, 1), (0, 0.8, 1)]
    assert second["points"] == [(6, 0.95, 0)]
    assert [point[1] for point in second["baselines"]] == [0.905, 0.905]


def test_thinning_keeps_what_it_is_told_to():
    items = list(range(10_000))
    kept = thinned(items, 100, keep=lambda item: item == 4_321)
    assert 100 <= len(kept) <= 101 and 4_321 in kept and kept == sorted(kept)
    assert max(np.diff(kept)) <= 101
    assert thinned(items[:5], 100) == items[:5]


@pytest.mark.parametrize(
    "expression, unary, binary",
    [
        ("mul(x, sigmoid(x))", {"identity", "sigmoid"}, {"mul"}),
        ("relu(x)", {"relu"}, set()),
        ("add(mul(cos(x), neg(x)), tanh(x))", {"identity", "cos", "neg", "tanh"}, {"add", "mul"}),
        ("tanh(add(sin(x), erf(x)))", {"tanh", "sin", "erf"}, {"add"}),
        ("u1 = mul(neg(x), square(x)); div(tanh(u1), u1)",
         {"identity", "neg", "square", "tanh"}, {"mul", "div"}),
    ],
)  # fmt: skip
def test_operators_are_read_from_text(expression, unary, binary):
    found = operators_of(expression)
    assert (found.unary, found.binary) == (unary, binary)


def test_means_by_operator_and_by_pair():
    found = operator_use(
        [("mul(x, sin(x))", 0.2), ("mul(cos(x), sin(x))", 0.4), ("add(x, sin(x))", 0.9),
         ("mul(x, tanh(x))", None)]
    )  # fmt: skip
    use = {entry[0]: entry[1:] for entry in found["operators"]}
    assert use["sin"] == ["unary", 3, 0.5, 0.2, 0.9, 0]
    assert use["mul"][:3] == ["binary", 2, 0.3] and use["mul"][-1] == 1
    assert use["identity"][1:3] == [2, 0.55]
    assert use["tanh"][1] == 0
    names = [entry[0] for entry in found["operators"]]
    # Three observations come before fewer, none at all last.
    assert (names[0], names[-1]) == ("sin", "tanh") and names.index("add") < names.index("mul")
    pairs = {frozenset((names[a], names[b])): rest for a, b, *rest in found["pairs"]}
    assert pairs[frozenset(("mul", "sin"))] == [2, 0.3, 0]
    assert pairs[frozenset(("mul", "identity"))] == [1, 0.2, 1]
    assert pairs[frozenset(("tanh", "identity"))] == [0, 0.0, 1]


def test_operators_of_a_run_count_what_was_proposed_on_the_first_rung(made):
    use = {entry[0]: entry[1:] for entry in gather(made)["use"]["operators"]}
    assert use["gate"][1:3] == [1, 0.7]
    assert use["relu"][1:3] == [1, 0.8]  # a baseline, proposed in another spelling
    assert use["cube"][1] == 0 and use["cube"][-1] == 1
    assert use["sqrt"][-1] == use["sub"][-1] == 1


def test_trained_vectors_are_means_over_seeds(made):
    (entry,) = gather(made)["beta"]
    assert entry["row"] == 0
    assert entry["lines"] == [
        {"label": "β of scale", "layers": ["act", "act2"], "mean": [1.5, 3.0], "std": [0.5, 0.5],
         "min": [0.0, 1.0], "max": [2.5, 5.0]}
    ]  # fmt: skip


def test_another_run_stands_beside_and_says_if_it_compares(made, tmp_path):
    same = write_run(tmp_path / "same", seed=1)
    other = write_run(tmp_path / "other", width=8)
    first, second = gather(made, [same, other])["against"]
    assert first["best"] == [[1, 0.7, "x · σ(βx)"], [4, 0.75, "sin(x) + x"]]
    assert (first["title"], first["end"], first["comparable"]) == ("same", 4, True)
    assert first["unlike"] == [("seed", "1", "0")]
    assert second["unlike"] == [("width", "8", "16")] and not second["comparable"]


def test_formulas_are_typeset_and_what_cannot_be_is_not():
    table = FormulaTable()

    def text(number: int) -> str:
        tag, *rest = table.nodes[number]
        leaf = tag in ("mi", "mo", "mn", "mspace")
        return str(rest[0]) if leaf else "".join(text(int(child)) for child in rest)

    number = table.add(r"x \cdot \sigma\left(\beta x\right)")
    assert number and text(number) == "x·σ(βx)"
    assert text(table.add(r"\frac{\sqrt{x}}{x^{2} + \varepsilon}")) == "xx2+ε"
    assert [text(table.add(r"\alpha \min\left(x, 0\right)"))] == ["αthinmin(x,0)"]
    before = len(table.nodes)
    assert table.add(r"x \cdot \sigma\left(\beta x\right)") == number and len(table.nodes) == before
    assert table.add(r"\frac{") == 0 and table.add("") == 0
    assert {node[0] for node in table.nodes} <= {
        "mrow", "mi", "mo", "mn", "mspace", "mfrac", "msqrt", "msup", "msub"
    }  # fmt: skip


def test_decisions_have_names():
    for units in (1, 2, 3):
        decisions = SearchSpace(PAPER, units).decisions
        labels = decision_labels([decision.choices for decision in decisions])
        kinds = [decision.kind.rstrip("12") for decision in decisions]
        assert [kind for _, kind in labels] == kinds
        assert [label.split(",")[0] for label, _ in labels] == [f"unit {d.unit}" for d in decisions]
    assert decision_labels([["sin", "cos"], ["sin", "cos"], ["x", "u1"]])[2] == (
        "unit 2, input 1",
        "input",
    )


def planned(folder: Path, *, trials: int, strategy) -> Path:
    """A run over two core units by the real planner, whose outcomes are made up."""
    folder.mkdir()
    asked = {"core_units": 2, "trials": trials, "dataset": "cifar10", "window": 64}
    (folder / "config.json").write_text(json.dumps(to_json(*build(asked))))
    space = SearchSpace(PAPER, 2)
    baselines = [known_function(key).candidate for key in BASELINES.split(",")]
    table = OperatorTable.for_run(PAPER, core_units=2, extra=baselines)
    journal = Journal.create(folder, {"operators_sha256": "abc"})
    plan = Plan(trials=trials, window=64, chance=0.1)
    planner = Planner(plan, space, table, strategy.build(space), baselines, journal)
    points = [{"step": 15 * n, "loss": 1.6233960628509, "accuracy": 0.39166667} for n in range(20)]
    while due := planner.due(64):
        results = []
        for trial in due:
            luck = int.from_bytes(hashlib.sha256(trial.expression.encode()).digest()[:4], "big")
            if luck % 5:
                details = {"curve": points, "seconds": {"train": 6.0}}
                share = round(0.1 + 0.3 * luck / 2**32, 4)
                results.append((trial, Outcome("ok", share, 2.3 - 2 * share, 6.3, details)))
            else:
                reason = f"loss became nan at step {luck % 300}"
                results.append((trial, Outcome("diverged", details={"reason": reason})))
        planner.record(results)
    planner.conclude()
    journal.close()
    return folder


def test_the_controllers_probabilities_have_the_operators_names(tmp_path):
    small = ControllerConfig(batch_size=6, hidden=8, epochs=2)
    folder = planned(tmp_path / "run", trials=40, strategy=small)
    data = gather(folder)
    decisions = data["strategy"]["decisions"]
    expected = SearchSpace(PAPER, 2).decisions
    assert [d["choices"] for d in decisions] == [list(d.choices) for d in expected]
    for decision in decisions:
        np.testing.assert_allclose(np.sum(decision["p"], axis=0), 1, atol=2e-3)
        assert len(decision["p"][0]) == len(data["strategy"]["at"])
    series = data["strategy"]["series"]
    largest = sum(math.log(len(d.choices)) for d in expected)
    assert series["entropy"][0] == pytest.approx(largest, rel=0.02)
    assert 0.1 <= series["baseline"][-1] <= 0.4
    journal = Journal.read(folder)
    assert data["history"] == history_sha256(journal)
    assert sum(data["counts"].values()) == len(list(journal.candidates()))
    journal.close()


def test_choices_come_from_the_journal_where_operators_are_ones_own(made):
    path = made / "config.json"
    path.write_text(path.read_text().replace('"operators": "paper"', '"operators": "mine.py:OPS"'))
    journal = Journal.open(made)
    told = {
        "probabilities": [[0.25, 0.75], [1.0, 0.0]],
        "choices": [["bend", "fold"], ["add", "mul"]],
    }
    with journal.transaction():
        journal.put_snapshot(7, b"", {"entropy": 1.5, **told})
    journal.close()
    found = gather(made)["strategy"]
    assert [d["choices"] for d in found["decisions"]] == told["choices"]
    assert found["decisions"][0]["p"] == [[0.25], [0.75]] and found["at"] == [7]
    assert found["series"] == {"entropy": [1.5]}


class Page(HTMLParser):
    """Scripts, styles, addresses and the policy of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict, str]] = []
        self.styles: list[str] = []
        self.addresses: list[str] = []
        self.policy = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self._inside = tag
        if tag == "script":
            self.scripts.append((found, ""))
        if tag == "style":
            self.styles.append("")
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(found["content"])
        self.addresses += [v for k, v in attrs if k in ("src", "href", "action", "data") and v]

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        if self._inside == "style":
            self.styles[-1] += data


def test_the_page_admits_its_own_scripts_and_nothing_else(made):
    data = gather(made)
    page = Page(render(data).decode())
    (attributes, embedded), *executed = page.scripts
    assert attributes == {"type": "application/json", "id": "data"}
    assert "<" not in embedded and json.loads(embedded) == json.loads(json.dumps(data))
    assert len(executed) == 2 and not any(attributes for attributes, _ in executed)
    rules = dict(rule.split(" ", 1) for rule in page.policy.split("; "))
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for _, text in executed
    }
    assert set(rules["script-src"].split()) == hashes
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in rules["script-src"] + rules["style-src"] + rules["default-src"]
    assert page.addresses == [] and EVIL in data["functions"]["formula"]


def test_a_title_is_text(tmp_path):
    folder = write_run(tmp_path / "<b>&amp;")
    text = render(gather(folder)).decode()
    assert "<title>&lt;b&gt;&amp;amp; · actsearch</title>" in text


def test_the_command_writes_the_file_and_says_where(made, tmp_path, capsys):
    assert run(["report", str(made)]) == 0
    written = (made / "report.html").read_bytes()
    assert capsys.readouterr().out == f"{made / 'report.html'}  {len(written) / 1e6:.1f} MB\n"
    assert written.startswith(b"<!doctype html>")
    assert {path.name for path in made.iterdir()} == {
        "config.json", "journal.sqlite", "lock", "report.html"
    }  # fmt: skip
    output = tmp_path / "elsewhere.html"
    assert run(["report", str(made), "--output", str(output), "--against", str(made)]) == 0
    assert output.stat().st_size > 1e6


def test_a_copied_folder_is_enough(made, tmp_path):
    copy = tmp_path / "copy" / "made"
    copy.mkdir(parents=True)
    for name in ("config.json", "journal.sqlite"):
        shutil.copy(made / name, copy)
    left, right = gather(made), gather(copy)
    assert {**left, "made": ""} == {**right, "made": ""}


def test_a_run_that_goes_on_can_be_reported(made):
    journal = Journal.open(made)
    with journal.transaction():
        journal.add_candidate(
            CandidateRow(9, "cos(x)", "cos(x)", "x", None, "ok", "", None, None, None)
        )
        journal.add_trial(Trial(10, 9, "cos(x)", 0, 0, False))
    data = gather(made)
    journal.close()
    assert data["counts"]["untrained"] == 1 and not data["finished"]


def test_a_run_in_which_nothing_was_trained_has_a_page(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(to_json(*build({}))))
    Journal.create(folder, {"operators_sha256": "abc"}).close()
    data = gather(folder)
    assert data["counts"]["ranked"] == 0 and data["course"] == [] and render(data)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere"], "nowhere does not exist"),
        (["{made}", "--against", "nowhere"], "nowhere does not exist"),
        (["{made}", "--output", "{made}/journal.sqlite"], "`output` must be a file that ends in .html"),
        (["{made}", "--output", "{made}/no/such/place.html"], "a file in a folder that is there"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_one_line_and_writes_nothing(arguments, message, made, capsys):
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    assert run(["report", *(part.format(made=made) for part in arguments)]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and shown.out == ""
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before


def test_a_damaged_journal_is_one_line(made, capsys):
    (made / "journal.sqlite").write_bytes(b"no journal at all" * 100)
    assert run(["report", str(made)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_reporting_needs_no_heavy_import(made):
    code = (
        "import sys; from launch.cli import run; "
        f"code = run(['report', {str(made)!r}]); "
        "heavy = {'jax', 'flax', 'ray', 'sympy', 'optax', 'plotly', 'matplotlib'} & set(sys.modules); "
        "sys.exit(code or (f'imported {heavy}' if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_ten_thousand_trials_make_a_page_below_8_mb(tmp_path):
    folder = planned(tmp_path / "run", trials=10_000, strategy=RandomConfig())
    data = gather(folder)
    assert sum(data["counts"][kind] for kind in ("ranked", "diverged")) == 10_009
    assert len(data["course"][0]["points"]) < 2_100
    size = len(render(data))
    assert 5e6 < size < 8e6
