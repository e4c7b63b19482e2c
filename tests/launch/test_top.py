"""`actsearch top`: orders and filters, on a run that a real planner made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.cli import run
from launch.inspection.selection import operators_in


def listed(capsys, *arguments) -> list[dict]:
    assert run(["top", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["candidates"]


def test_other_orders_keep_the_rank_of_the_ranking(a_run, capsys):
    ranking = listed(capsys, a_run)
    assert [each["rank"] for each in ranking] == list(range(1, len(ranking) + 1))
    by_expression = {each["expression"]: each for each in ranking}
    for by, sign in (("loss", 1), ("seconds", -1), ("trials", -1)):
        found = listed(capsys, a_run, "--by", by)
        values = [sign * each[by] for each in found if by != "loss" or each["reward"] is not None]
        assert values == sorted(values)
        assert {each["expression"]: each for each in found} == by_expression
    longest_first = [each["rank"] for each in listed(capsys, a_run, "--by", "seconds")]
    assert longest_first != sorted(longest_first)


def test_loss_does_not_compare_rungs(tmp_path, make_run, capsys):
    folder = make_run(tmp_path / "rungs", rungs="10:4,20:2", trials=40)
    found = [each for each in listed(capsys, folder, "--by", "loss") if each["reward"] is not None]
    assert {each["rung"] for each in found} == {0, 1}
    keys = [(-each["rung"], each["loss"]) for each in found]
    assert keys == sorted(keys)


def test_by_name(a_run, capsys):
    for name in ("swish", "Swish", "SWISH"):
        (only,) = listed(capsys, a_run, "--name", name)
        assert only["expression"] == "gate(scale(x), x)" and only["baseline"]
    assert listed(capsys, a_run, "--name", "gelu") == []  # known, and not met
    assert run(["top", str(a_run), "--name", "gelu"]) == 0
    assert "0 of them fit" in capsys.readouterr().out


def test_contains_takes_several_operators_at_once(a_run, capsys):
    everything = listed(capsys, a_run)
    for asked in (["gate"], ["max", "relu"], ["gate", "scale"]):
        flags = [part for name in asked for part in ("--contains", name)]
        found = listed(capsys, a_run, *flags)
        expected = [e for e in everything if all(f"{n}(" in e["expression"] for n in asked)]
        assert found == expected
    assert 0 < len(listed(capsys, a_run, "--contains", "gate")) < len(everything)
    assert operators_in("u1 = mul(x, tanh (x)); add(u1, relu(u1))") == {
        *("mul", "tanh", "add", "relu")
    }


def test_failed_lists_what_has_no_reward_and_why(a_run, capsys):
    ranking, found = listed(capsys, a_run), listed(capsys, a_run, "--failed")
    assert {each["status"] for each in found} == {"diverged", "failed", "invalid", "constant"}
    assert all(each["reason"] and each["reward"] is None for each in found)
    trained = [each for each in found if each["rank"] is not None]
    assert trained == [each for each in ranking if each["reward"] is None]
    assert all(each["trials"] == 0 for each in found if each["rank"] is None)
    (sine, *_) = [each for each in found if each["status"] == "diverged"]
    assert "sin" in sine["expression"] and sine["reason"] == "loss became nan at step 7"
    assert run(["top", str(a_run), "--failed", "--limit", "500"]) == 0
    table = capsys.readouterr().out
    assert "out of memory" in table and "loss became nan at step 7" in table
    assert found[-1]["reason"].split()[0] in table


def test_filters_work_together_and_with_csv(a_run, capsys):
    found = listed(capsys, a_run, "--failed", "--contains", "sin", "--by", "seconds", "--limit", 3)
    assert len(found) == 3 and all("sin(" in each["expression"] for each in found)
    assert run(["top", str(a_run), "--contains", "gate", "--csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(listed(capsys, a_run, "--contains", "gate"))


WRONG = [
    (["--by", "lss"], 'Did you mean "loss"?'),
    (["--name", "swsh"], "no function is known as 'swsh': did you mean `swish`?"),
    (["--contains", "sigmod"], "no operator is called 'sigmod': did you mean `sigmoid`?"),
    (["--contains", "swish"], "'swish' is a function and no operator; see --name"),
    (["--contains", "gate", "--contains", "qq"], "no operator is called 'qq', must be one of"),
    (["--contains", "identity"], "`contains` cannot be `identity`: expressions leave it out"),
    (["--limit", "0"], "`limit` must be ≥ 1, got 0"),
]


@pytest.mark.parametrize("arguments, message", WRONG, ids=lambda v: " ".join(v)[:40])
def test_near_misses_are_named(arguments, message, a_run, capsys, contents):
    before = contents(a_run)
    assert run(["top", str(a_run), *arguments]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and shown.out == ""
    assert contents(a_run) == before


def test_a_reader_who_has_read_enough_is_no_failure(a_run):
    """As in `actsearch top RUN | head -1`: the rest goes nowhere, the exit code is 0."""
    command = [sys.executable, "-m", "launch", "top", str(a_run), "--limit", "300"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_live_run_is_read_at_one_moment(tmp_path, maker, capsys):
    """Ranking while another process adds candidates and trials never sees half of it."""
    folder = tmp_path / "live"
    process = subprocess.Popen([*maker, str(folder), '{"trials": 400}', "0.0"], env=_environment())
    looks, seen = 0, set()
    try:
        while process.poll() is None:
            if (folder / "journal.sqlite").exists():
                code = run(["top", str(folder), "--json"])
                shown = capsys.readouterr()
                if code == 0:
                    found = json.loads(shown.out)["candidates"]
                    seen.add(len(found))
                    looks += 1
                else:  # the tables are not there yet
                    assert not seen, shown.err
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0 and looks > 3 and len(seen) > 1


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
