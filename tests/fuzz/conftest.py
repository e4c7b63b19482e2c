"""A small sound run for those who damage copies of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

MAKER = Path(__file__).parent.parent / "launch" / "made_run.py"


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Path:
    """A finished run of eight trials and two baselines, made without training. Only to be read."""
    spec = importlib.util.spec_from_file_location("made_run", MAKER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("runs") / "small"
    return module.made_run(folder, trials=8, baselines="relu,swish").folder
