"""What driver and worker tell each other arrives as it was sent, and is what the journal keeps."""

from __future__ import annotations

import json
from types import MappingProxyType

import pytest

from launch.message import Report, Task
from search.json_text import JsonObject, as_json
from trainers.result import BetaSummary, CurvePoint, Result, Seconds

RESULTS = {
    "ok": Result(
        status="ok",
        accuracy=0.1 + 0.2,
        loss=5e-324,
        curve=(CurvePoint(step=1, loss=1e300, accuracy=1 / 3),),
        beta=(
            BetaSummary(
                layer="stem", operator="größer", param="β", slot=1, mean=-0.0, std=0, min=1, max=2
            ),
        ),
        steps=12,
        seconds=Seconds(compile=3.0, start=0.25, train=1.5, first=1.0, evaluate=0.125),
        compilations=2,
    ),
    "diverged": Result(
        status="diverged", reason="loss is nan,\nstep 3 — “early”", loss=2.0, steps=3
    ),
    "failed": Result(status="failed", reason="\N{SNOWMAN}\x00\u2028"),
}


def test_a_task_arrives_as_it_was_sent():
    task = Task("u1 = mul(x, größer(x)); add(u1, cos(u1))", 3, 10_000)
    assert Task.unpack(task.pack()) == task


@pytest.mark.parametrize("status", RESULTS)
def test_a_report_arrives_as_it_was_sent(status):
    report = Report.of({**RESULTS[status].to_dict(), "elapsed": 0.7, "peak_memory_mb": 512.5})
    found = Report.unpack(report.pack())
    assert found == report
    assert (found.outcome.seconds, found.peak_memory_mb) == (0.7, 512.5)
    assert found.outcome.reason == (RESULTS[status].reason or "")
    # What the journal gets, and seals, is what it would have got of the dictionary itself.
    assert isinstance(found.outcome.details, JsonObject)
    assert as_json(found.outcome.details) == as_json(report.outcome.details)


def test_a_report_says_what_the_worker_did():
    report = Report.of(RESULTS["ok"].to_dict())
    assert (report.training_s, report.compile_s, report.compilations) == (1.875, 3.0, 2)
    assert (report.outcome.reward, report.outcome.loss) == (0.1 + 0.2, 5e-324)
    assert set(report.outcome.details) == {"curve", "beta", "steps", "seconds"}
    diverged = Report.of(RESULTS["diverged"].to_dict()).outcome
    assert (diverged.reward, diverged.loss) == (None, None)


def test_what_is_no_result_is_refused_where_it_was_made():
    with pytest.raises(ValueError, match="`reward` must be finite or None, got nan"):
        Report.of({"status": "ok", "accuracy": float("nan"), "loss": 1.0})


def test_an_object_is_read_when_it_is_asked():
    text = '{"a":1,"b":[2]}'
    found = JsonObject(text)
    assert (dict(found), len(found), found["b"], found.get("c")) == (json.loads(text), 2, [2], None)
    assert found == {"a": 1, "b": [2]} and found != {"a": 1}
    assert JsonObject("no object").text == "no object"
    assert as_json(MappingProxyType({"one": found})) == f'{{"one":{text}}}'
    with pytest.raises(TypeError, match="set is nothing that JSON has"):
        as_json({1})
