"""The guide docs/python.md: every block of code in it runs, in its order, on a real search."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "python.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Path, str]:
    """The guide as one script, run as a user runs it; each block announces itself."""
    folder = tmp_path_factory.mktemp("guide")
    parts = [f"print('--- block {n}', flush=True)\n{text}" for n, text in enumerate(blocks())]
    (folder / "guide.py").write_text("\n".join(parts), encoding="utf-8")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    done = subprocess.run(
        [sys.executable, "guide.py"],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_every_block_runs(ran):
    _, printed = ran
    count = GUIDE.read_text(encoding="utf-8").count("```python")
    assert count >= 6
    assert [line for line in printed.splitlines() if line.startswith("--- ")] == [
        f"--- block {number}" for number in range(count)
    ]


def test_it_prints_what_it_says(ran):
    folder, printed = ran
    parts = re.split(r"^--- block \d+\n", printed, flags=re.M)[1:]
    ranks = [line.split()[0] for line in parts[0].splitlines()[:3]]
    assert ranks == ["1", "2", "3"]
    assert len(parts[0].splitlines()[-1]) == 64  # history_sha256
    assert "5 trials done, finished" in parts[1] and "resnet8" in parts[1]
    assert "blocks.0.act1" in parts[1]
    assert "x · σ(βx)" in parts[2] and "Swish" in parts[2]
    assert "{'beta': 1.0}" in parts[3]
    assert parts[4].strip() == "(32,)"
    assert r"x \cdot \sigma\left(\beta x\right)" in parts[5]
    assert sorted(path.name for path in (folder / "runs" / "notebook").iterdir()) == [
        "config.json",
        "journal.sqlite",
        "lock",
    ]
