"""Runs that were made without training, for tests of what looks at runs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

MAKER = Path(__file__).with_name("made_run.py")


def _maker():
    """The module beside this one; tests are imported by path and are no package."""
    spec = importlib.util.spec_from_file_location("made_run", MAKER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """`make_run(folder, **values)` makes a run, see `made_run.py`, and returns its folder."""
    module = _maker()

    def make(folder: Path, **values) -> Path:
        return module.made_run(folder, **values).folder

    return make


@pytest.fixture(scope="session")
def maker() -> list[str]:
    """The command that makes a run slowly; what it is to make follows."""
    return [sys.executable, str(MAKER)]


@pytest.fixture(scope="session")
def a_run(make_run, tmp_path_factory) -> Path:
    """A finished run of one core unit: 300 trials and two baselines. Only to be read."""
    return make_run(tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """The files of a folder, to see that nothing has touched them."""
    return lambda folder: {path.name: path.read_bytes() for path in folder.iterdir()}
