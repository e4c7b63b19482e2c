"""The simulation behind docs/scale.md: small clusters whose answer is known by hand."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launch.config import PlacementConfig, Science, SearchConfig, SpaceConfig
from launch.message import Report
from launch.run import start_or_resume
from search.evolution import EvolutionConfig
from search.journal import Journal
from search.outcome import Trial
from search.planner import Plan, Planner
from search.strategy import Proposal
from spaces import PAPER, OperatorTable, SearchSpace, parse

ONE_RUNG = SimpleNamespace(
    science=SimpleNamespace(train=SimpleNamespace(steps=1), search=SearchConfig())
)
"""As much of a run as the driver's loop looks at."""


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of this folder, which is no package."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module


def conditions(module: Any, **changes: Any) -> Any:
    exact = {"child_s": 60.0, "spread": 0.0, "start_s": 0.0, "per_node": 1}
    return module("simulated_pool").Conditions(**{**exact, **changes})


def test_a_slow_worker_holds_the_others_back_as_counted_by_hand(module: Any) -> None:
    # Two workers, W = 2, one takes 180 s a child and the other 60 s: every 180 s the fast one
    # trains two and waits 60 s, until the proposal before the last one has its reward. W = 4 lets
    # it go on meanwhile.
    slow = conditions(module, workers=2, slow=0.5, slow_times=3.0)
    idle_of = module("scale").idle_of
    assert idle_of(slow, 2, 400, new=1.0)["idle"] == pytest.approx(1 / 6, abs=0.01)
    assert idle_of(slow, 4, 400, new=1.0)["idle"] == pytest.approx(0, abs=0.01)
    assert idle_of(conditions(module, workers=5), 5, 400, new=1.0)["idle"] == 0
    assert idle_of(conditions(module, workers=5), 1, 400, new=1.0)["idle"] == pytest.approx(0.8)


def test_proposals_that_are_not_trained_use_the_window_up(module: Any) -> None:
    half = {"new": 0.5, "trials": 4_000}
    idle_of = module("scale").idle_of
    few, many = (
        idle_of(conditions(module, workers=50, spread=0.1), window, **half)["idle"]
        for window in (50, 200)
    )
    assert few == pytest.approx(0.5, abs=0.1)
    assert many < 0.01


NAMES = ("sin", "tanh", "sigmoid", "atan", "cos", "erf", "softplus")
FEW = PAPER.only(*NAMES, "identity", "mul", "sub")


class Distinct:
    """A strategy that proposes functions of which no two are equal."""

    checkpoint_every = 10
    learns = True

    def __init__(self, space: SearchSpace) -> None:
        pairs = itertools.combinations(NAMES, 2)
        texts = [f"{binary}({a}(x), {b}(x))" for a, b in pairs for binary in ("mul", "sub")]
        self.tokens = [space.tokens(parse(text, FEW)) for text in texts]

    def init(self, *, seed: int) -> Any:
        return {"asked": 0}

    def ask(self, state: Any) -> Any:
        return {"asked": state["asked"] + 1}, Proposal(self.tokens[state["asked"]])

    def tell(self, state: Any, proposal: Proposal, reward: float | None) -> Any:
        return state

    def metrics(self, state: Any) -> dict[str, float | list]:
        return {}


def test_the_order_alone_takes_the_time_of_the_real_planner(module: Any, tmp_path: Path) -> None:
    pools, scale = module("simulated_pool"), module("scale")
    harsh = conditions(
        module, workers=6, spread=0.4, start_s=20.0, deaths=0.1, per_node=2, node_hours=0.1
    )
    space = SearchSpace(FEW, 1)
    real = Planner(
        Plan(trials=40, window=9, chance=0.1),
        space,
        OperatorTable.for_run(FEW, core_units=1),
        Distinct(space),
        [],
        Journal.create(tmp_path, {}),
    )
    ends, died = [], []
    for planner in (real, module("ordered_planner").Ordered(40, 9)):
        pool = pools.SimulatedPool(
            harsh, pools.Clock(lambda: 0.0), pools.Rates(), scale.result_of, seed=3
        )
        scale.work(planner, pool, ONE_RUNG, scale.Meter(pool, planner, warm=1_000))
        ends.append(pool.clock.now)
        died.append(pool.sums.died)
    assert real.done == real.proposals == 40
    assert ends[0] == ends[1] > 40 * 60 / 6
    assert died[0] == died[1] > 5


def test_a_busy_driver_makes_workers_wait(module: Any) -> None:
    # A driver that needs 10 s for a trial: one worker of 60-second children waits 10 of every 70
    # seconds, and a hundred get ten results in 100 s.
    pools, scale = module("simulated_pool"), module("scale")
    for workers, idle, load, rate in ((1, 1 / 7, 1 / 7, 1 / 70), (100, 0.94, 1.0, 0.1)):
        clock = pools.Clock(lambda: 0.0)
        pool = pools.SimulatedPool(
            conditions(module, workers=workers), clock, pools.Rates(trial_s=10.0), scale.result_of
        )
        planner = module("ordered_planner").Ordered(20 * workers, 5 * workers)
        meter = scale.Meter(pool, planner, warm=2 * workers)
        scale.work(planner, pool, ONE_RUNG, meter)
        found = meter.found()
        assert found["results_a_second"] == pytest.approx(rate, rel=0.1, abs=0.005)
        assert found["driver_load"] == pytest.approx(load, abs=0.01)
        assert found["idle_for_the_driver"] == pytest.approx(idle, abs=0.01)
        assert found["idle_for_the_order"] == 0


def test_a_simulated_cluster_makes_the_history_of_one_worker(module: Any, tmp_path: Path) -> None:
    operators = tmp_path / "few.py"
    operators.write_text(
        f"from spaces import PAPER\nOPS = PAPER.only{tuple(operator.name for operator in FEW)}\n"
    )
    histories = []
    for cluster in (
        conditions(module, workers=1),
        conditions(module, workers=12, spread=0.5, deaths=0.05, per_node=4, node_hours=0.3),
    ):
        science = Science(
            space=SpaceConfig(operators=str(operators)),
            search=SearchConfig(strategy="evolution", trials=40, window=24, baselines="none"),
            evolution=EvolutionConfig(population=10, tournament=3),
        )
        folder = tmp_path / f"of{cluster.workers}"
        run = start_or_resume(folder, science, PlacementConfig(workers=str(cluster.workers)))
        found = module("scale").driven(run, cluster, module("scale").RATES)
        histories.append(found["history_sha256"])
        assert found["trials"] == 40
    assert found["died"] > 0
    assert histories[0] == histories[1]


def test_what_is_measured_alone(module: Any) -> None:
    parts = module("scale_parts")
    rows = {row["what"]: row["bytes"] for row in parts.sizes_table(8)}
    assert rows["images of CIFAR-10, 32 pixels"] == 50_000 * 3_072 + 4 * 50_000
    # As text; pickled they were 0.9 and 5.4 kB.
    assert 500 < rows["result without β"] < 2_000
    assert 2_000 < rows["result of a ResNet-20 with three β"] < 12_000
    (row,) = parts.pool_table([3])  # which sees to it that every pass brings an answer
    assert row["workers"] == 3


def test_an_invented_result_is_as_a_trainer_s(module: Any) -> None:
    result = module("scale").result_of(Trial(1, 1, "mul(x, sigmoid(scale(x)))", 0, 0, False), 60.0)
    outcome = Report.of(result).outcome
    assert outcome.status == "ok" and outcome.seconds == 60.0
    assert len(outcome.details["curve"]) == 20
    assert len(outcome.details["beta"]) == 19
