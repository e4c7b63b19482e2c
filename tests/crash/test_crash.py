"""A short campaign: every named fault point and random moments, then one equal history.

The long one, with a hundred kills, is `campaign.py` as a script.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def _campaign():
    """The module beside this one; tests are imported by path and are no package."""
    place = Path(__file__).with_name("campaign.py")
    spec = importlib.util.spec_from_file_location("crash_campaign", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks for its own names
    spec.loader.exec_module(module)
    return module


def test_whatever_is_killed_the_same_command_makes_the_same_history(tmp_path: Path):
    module = _campaign()
    rungs = ("--steps", "12", "--rungs", "8:4,12:3", "--trials", "70")
    campaign = module.Campaign(tmp_path, (*module.CHILD, *module.CONTROLLER, *rungs))
    sound, begin = campaign.finish("sound"), time.monotonic()
    for point, count in (
        ("run half made", 1),
        ("proposal in its transaction", 3),
        ("proposals committed", 1),
        ("trial dispatched", 2),
        ("outcome in its transaction", 2),
        ("outcome committed", 2),
        ("inside the update", 1),
        ("state in its transaction", 1),
    ):
        campaign.die_at(point, count)
    campaign.die_in_a_report()
    chance = random.Random(5)
    for what in ("everything", "worker"):
        campaign.die_at_random(chance, what)
    campaign.die_at("rung in its transaction")
    campaign.die_at("end in its transaction")
    killed = campaign.finish("killed")
    figures = campaign.compare()
    assert killed["summary"]["history_sha256"] == sound["summary"]["history_sha256"]
    assert killed["summary"]["by_chance"] == 0
    assert [each["reward"] for each in killed["candidates"]] == [
        each["reward"] for each in sound["candidates"]
    ]
    assert campaign.leftovers() == []
    assert figures["kills"].keys() >= {*module.POINTS, "everything", "worker", "driver"}
    print(f"{figures} in {time.monotonic() - begin:.0f} s")
