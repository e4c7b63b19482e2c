"""Whatever text or bytes arrive: the documented error, soon, and without a heap of memory.

This is the short form. The long one, by default a million inputs:

    uv run python tests/fuzz/long.py --inputs 1000000
"""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings

from launch.errors import RequestError
from launch.flags import build, read_config
from spaces import PAPER, ExpressionError, parse

EXAMPLES = {"expressions": 500, "configurations": 500, "journals": 200}


def _targets() -> ModuleType:
    """The module beside this one; tests are imported by path and are no package."""
    spec = importlib.util.spec_from_file_location(
        "fuzz_targets", Path(__file__).with_name("targets.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


fuzz = _targets()


@pytest.fixture(scope="module")
def all_targets(small_run, tmp_path_factory):
    return fuzz.targets(small_run, tmp_path_factory.mktemp("fuzzed"))


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_only_the_documented_error_comes_out(name, all_targets):
    target = all_targets[name]

    @settings(
        max_examples=EXAMPLES[name],
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
        ],
    )
    @given(target.inputs)
    def check(given_input):
        target.check(given_input)

    check()


DEEP_TEXTS = {
    "parentheses": "(" * 100_000,
    "calls": "sin(" * 100_000 + "x" + ")" * 100_000,
    "calls within the limit of characters": "sin(" * 900 + "x" + ")" * 300,
    "binary calls": "mul(x, " * 570,
    "a megabyte of one name": "x" * 1_000_000,
    "the longest name that is read": "sigmoi" * 666,
    "a megabyte of spaces": " " * 1_000_000 + "x",
    "units": "u1 = x; " * 500,
    "units of many names": "".join(f"u{n} = sin(x); " for n in range(1, 250)),
    "operands": "mul(" + "x, " * 1_300 + "x)",
}


@pytest.mark.parametrize("name", DEEP_TEXTS)
def test_deep_expressions_are_refused_at_once(name):
    with fuzz.bounded(), pytest.raises(ExpressionError) as caught:
        parse(DEEP_TEXTS[name], PAPER)
    fuzz.one_line(str(caught.value))


DEEP_FILES = {
    "lists": b"[" * 100_000,
    "closed lists": b"[" * 100_000 + b"]" * 100_000,
    "objects": b'{"train":' * 100_000,
    "closed objects": b'{"train":' * 50_000 + b"1" + b"}" * 50_000,
    "nested value": b'{"train": {"steps": ' + b"[" * 400 + b"]" * 400 + b"}}",
    "digits": b'{"train": {"steps": ' + b"9" * 100_000 + b"}}",
    "a megabyte of text": b'{"train": {"dataset": "' + b"x" * 1_200_000 + b'"}}',
    "a long value": b'{"train": {"steps": "' + b"x" * 900_000 + b'"}}',
    "a long section": b'{"' + b"x" * 900_000 + b'": {}}',
    "a long entry": b'{"train": {"' + b"x" * 900_000 + b'": 3}}',
    "many rungs": b'{"search": {"rungs": "' + b"1:1," * 200_000 + b'"}}',
    "resources": b'{"placement": {"resources": "' + b"[" * 100_000 + b'"}}',
}


@pytest.mark.parametrize("name", DEEP_FILES)
def test_deep_configurations_are_refused_at_once(name, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(DEEP_FILES[name])
    with fuzz.bounded(), pytest.raises(RequestError) as caught:
        build(read_config(path))
    fuzz.one_line(str(caught.value))


def _computes() -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("stuck", "told"), [(_computes, "SIGPROF"), (lambda: time.sleep(60.0), "SIGALRM")]
)
def test_a_hang_is_found_whether_it_computes_or_waits(stuck, told: str, monkeypatch) -> None:
    monkeypatch.setattr(fuzz, "LIMIT_S", 0.05)
    monkeypatch.setattr(fuzz, "WAITING", 4.0 if told == "SIGALRM" else 1000.0)
    with pytest.raises(fuzz.HangError, match=told), fuzz.bounded():
        stuck()
