"""The planner: one seed, one history, whoever works on it and however often it is interrupted."""

from __future__ import annotations

import gc
import hashlib
import random
import tracemalloc
from typing import Any

import numpy as np
import pytest

from search import planner as planner_module
from search.controller import ControllerConfig
from search.evolution import EvolutionConfig
from search.exhaustive import ExhaustiveConfig
from search.journal import Journal, JournalError
from search.outcome import Outcome
from search.planner import REPEATS, TOGETHER, Plan, Planner
from search.random_search import RandomConfig
from search.ranking import history_sha256, rank
from search.strategy import Proposal
from spaces import PAPER, OperatorTable, SearchSpace, parse

SMALL = PAPER.only(
    "identity", "neg", "sqrt", "scale", "sin", "sigmoid", "relu", "add", "mul", "sub", "max"
)
SPACE = SearchSpace(SMALL, 1)
BASELINES = [parse("relu(x)", SMALL), parse("gelu(x)", SMALL)]
TABLE = OperatorTable.for_run(SMALL, core_units=1, extra=BASELINES)
STRATEGIES = {
    "exhaustive": ExhaustiveConfig(shuffle=True),
    "random": RandomConfig(),
    "controller": ControllerConfig(batch_size=6, hidden=8, epochs=2),
    "evolution": EvolutionConfig(population=8, tournament=3),
}


def reward_of(expression: str, replicate: int = 0, rung: int = 0) -> float:
    digest = hashlib.sha256(f"{expression} {replicate} {rung}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def outcome_of(trial) -> Outcome:
    if "sin" in trial.expression and "mul" in trial.expression:
        return Outcome("diverged", details={"reason": "loss became nan at step 3"})
    if "sub(relu" in trial.expression:
        return Outcome("failed", details={"reason": "out of memory"})
    return Outcome("ok", reward_of(trial.expression, trial.replicate, trial.rung), 1.0)


def plan(**changes) -> Plan:
    return Plan(**{"trials": 30, "window": 6, "chance": 0.1, **changes})


def planner_of(journal, strategy: Any = "random", the_plan=None, baselines=BASELINES, space=SPACE):
    built = STRATEGIES[strategy].build(space) if isinstance(strategy, str) else strategy
    return Planner(the_plan or plan(), space, TABLE, built, baselines, journal)


def work(planner, *, workers=1, seed=0, stop_after=None, ahead=0, together=1) -> int:
    """Workers that finish in an arbitrary order; returns how many trials finished.

    `ahead` trials are planned in advance, and up to `together` outcomes recorded at once.
    """
    rng, under_way, finished = random.Random(seed), [], 0
    while not planner.finished:
        under_way += planner.due(workers - len(under_way))
        planner.look_ahead(ahead)
        if planner.finished:
            break
        assert under_way, "neither finished nor anything to do"
        count = min(len(under_way), rng.randint(1, together))
        if stop_after is not None:
            count = min(count, stop_after - finished)
        trials = [under_way.pop(rng.randrange(len(under_way))) for _ in range(count)]
        planner.record([(trial, outcome_of(trial)) for trial in trials])
        finished += count
        if finished == stop_after:
            return finished
    planner.conclude()
    return finished


@pytest.fixture
def fresh(tmp_path):
    """Makes journals, each in a folder of its own."""
    opened = []

    def make(name="run"):
        folder = tmp_path / f"{name}{len(opened)}"
        folder.mkdir()
        opened.append(Journal.create(folder, {}))
        return opened[-1]

    yield make
    for journal in opened:
        journal.close()


def reopened(journal):
    journal.close()
    again = Journal.open(journal.folder)
    journal.__dict__.update(again.__dict__)
    return journal


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_any_number_of_workers_makes_one_history(strategy, fresh):
    histories = set()
    for workers, seed, ahead, together in ((1, 0, 0, 1), (2, 1, 2, 1), (4, 2, 9, 1), (4, 3, 4, 4)):
        journal = fresh()
        planner = planner_of(journal, strategy)
        work(planner, workers=workers, seed=seed, ahead=ahead, together=together)
        histories.add(history_sha256(journal))
    assert len(histories) == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_interrupted_equals_uninterrupted(strategy, fresh):
    whole = fresh("whole")
    work(planner_of(whole, strategy), workers=2)
    broken, sitting = fresh("broken"), 0
    while True:
        sitting += 1
        planner = planner_of(reopened(broken), strategy)
        ahead = sitting % 3
        if (
            planner.finished
            or work(planner, workers=3, seed=sitting, stop_after=5, ahead=ahead) < 5
        ):
            break
    assert sitting > 5
    if not planner.finished:
        work(planner, workers=1)
    planner.conclude()
    assert history_sha256(broken) == history_sha256(whole)
    assert broken.snapshot() == whole.snapshot()


@pytest.mark.parametrize("strategy", ["controller", "evolution"])
def test_how_many_proposals_go_together_changes_nothing(strategy, fresh, monkeypatch):
    histories = set()
    for together in (1, 7, 1_000):
        monkeypatch.setattr(planner_module, "TOGETHER", together)
        journal = fresh()
        planner = planner_of(journal, strategy, plan(trials=70, window=40))
        work(planner, workers=5, seed=together, ahead=30)
        histories.add((history_sha256(journal), journal.snapshot()))
    assert len(histories) == 1


def test_a_wide_window_is_not_filled_at_once(fresh):
    planner = planner_of(fresh(), "random", plan(trials=150, window=1_000), baselines=[])
    planner.look_ahead(100)
    assert planner.proposals == TOGETHER
    assert len(planner.due(60)) == 60


def test_another_seed_makes_another_history(fresh):
    histories = []
    for seed in (0, 1):
        journal = fresh()
        work(planner_of(journal, the_plan=plan(seed=seed)))
        histories.append(history_sha256(journal))
    assert histories[0] != histories[1]


def test_the_budget_counts_trained_trials_without_baselines(fresh):
    journal = fresh()
    work(planner_of(journal), workers=2)
    trials = [trial for trial, _ in journal.trials()]
    assert sum(not trial.baseline for trial in trials) == 30
    assert [trial.expression for trial in trials if trial.baseline] == ["relu(x)", "gelu(x)"]
    assert trials[0].baseline and trials[1].baseline


def test_equal_functions_share_one_trial_and_invalid_ones_have_none(fresh):
    journal = fresh()
    work(planner_of(journal, "exhaustive", plan(trials=10_000)))
    rows = {row.expression: row for row in journal.candidates()}
    trained = {trial.candidate for trial, _ in journal.trials()}
    assert rows["max(x, relu(x))"].equal_to == rows["relu(x)"].id
    assert rows["max(x, relu(x))"].id not in trained
    assert rows["sub(x, neg(x))"].root == rows["add(x, x)"].root
    assert rows["add(x, sqrt(x))"].verdict == "invalid"
    assert rows["sub(x, x)"].verdict == "constant"
    assert not {row.id for row in rows.values() if row.verdict != "ok"} & trained
    assert len(trained) == sum(
        row.equal_to is None and row.verdict == "ok" for row in rows.values()
    )


class Told:
    """A strategy with a fixed list of proposals that writes down what it is told."""

    checkpoint_every = 1_000_000
    learns = True

    def __init__(self, expressions):
        self.tokens = [SPACE.tokens(parse(e, SMALL)) for e in expressions]
        self.heard = []

    def init(self, *, seed):
        return {"asked": 0}

    def ask(self, state):
        if state["asked"] == len(self.tokens):
            return state, None
        return {"asked": state["asked"] + 1}, Proposal(self.tokens[state["asked"]])

    def tell(self, state, proposal, reward):
        self.heard.append((str(SPACE.candidate(proposal.tokens)), reward, state["asked"]))
        return state

    def metrics(self, state):
        return {}


def test_rewards_come_in_proposal_order_with_the_window_s_lag(fresh):
    names = ["add(x, sin(x))", "add(x, sqrt(x))", "mul(x, sin(x))", "max(x, relu(x))",
             "sub(relu(x), x)", "add(sin(x), x)"]  # fmt: skip
    told = Told(names)
    work(planner_of(fresh(), told, plan(window=2)), workers=2, seed=5)
    assert [reward for _, reward, _ in told.heard] == [
        reward_of("add(x, sin(x))"),
        0.1,  # invalid: chance
        0.1,  # diverged: chance
        reward_of("relu(x)"),  # equal to a baseline: its reward
        None,  # the machinery failed: nobody knows
        reward_of("add(x, sin(x))"),  # the same function in another spelling
    ]
    asked_when_told = [asked for _, _, asked in told.heard]
    assert asked_when_told == [2, 3, 4, 5, 6, 6]


def test_the_window_keeps_the_strategy_waiting(fresh):
    told = Told(
        [
            f"add(x, {u}(x))" if u != "x" else "mul(x, x)"
            for u in ("sin", "sigmoid", "relu", "x", "scale")
        ]
    )
    planner = planner_of(fresh(), told, plan(window=2), baselines=[])
    due = planner.due(5)
    assert len(due) == 2
    planner.record([(due[1], outcome_of(due[1]))])
    assert planner.due(5) == []
    planner.record([(due[0], outcome_of(due[0]))])
    assert len(planner.due(5)) == 2


def test_looking_ahead_stops_where_the_window_does(fresh):
    planner = planner_of(fresh(), "evolution", plan(window=3), baselines=[])
    planner.look_ahead(100)
    assert planner.proposals >= 3
    asked, due = planner.proposals, planner.due(100)
    assert due and planner.proposals == asked
    planner.record([(trial, outcome_of(trial)) for trial in due])
    planner.look_ahead(1)
    assert planner.proposals > asked


def test_who_learns_nothing_waits_for_nothing(fresh):
    planner = planner_of(fresh(), "random", plan(window=1), baselines=[])
    assert len(planner.due(20)) == 20


def test_the_state_is_kept_where_the_strategy_asks_for_it(fresh):
    """Though proposals are asked for and looked at several at once."""
    journal, strategy = fresh(), STRATEGIES["random"].build(SPACE)
    assert strategy.checkpoint_every % TOGETHER
    planner, kept = planner_of(journal, strategy, plan(trials=10_000), baselines=[]), []
    while planner.proposals < 3 * strategy.checkpoint_every:
        planner.look_ahead(10_000)
        if (snapshot := journal.snapshot()) is not None and snapshot[0] not in kept:
            kept.append(snapshot[0])
    assert kept == [strategy.checkpoint_every * n for n in (1, 2, 3)]


def test_memory_of_a_trial_is_small(fresh):
    """What the journal has is not kept; the strategy's own state does not grow."""
    space = SearchSpace(SMALL, 2)
    table = OperatorTable.for_run(SMALL, core_units=2)
    built = STRATEGIES["random"].build(space)
    planner = Planner(plan(trials=1_400), space, table, built, [], fresh())
    work(planner, stop_after=400)
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        work(planner, stop_after=800)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0 < grown / 800 < 500  # bytes


def test_a_strategy_that_repeats_itself_ends_the_run_and_says_so(fresh):
    told = Told(["add(x, sin(x))"] * (2 * REPEATS))
    planner = planner_of(fresh(), told)
    work(planner)
    assert planner.ending == (
        f"the strategy proposed nothing new {REPEATS} times in a row: 1 of 30 trials were made"
    )
    assert planner.proposals == REPEATS + 1


def test_replicates_are_trials_and_the_reward_is_their_mean(fresh):
    told = Told(["add(x, sin(x))", "add(x, sigmoid(x))"])
    journal = fresh()
    work(planner_of(journal, told, plan(trials=6, replicates=(3,)), baselines=[]), workers=2)
    expected = np.mean([reward_of("add(x, sin(x))", r) for r in range(3)])
    assert told.heard[0][1] == pytest.approx(expected, rel=1e-12)
    assert sum(1 for _ in journal.trials()) == 6


def test_rungs_promote_the_best_and_every_baseline(fresh):
    journal = fresh()
    the_plan = plan(trials=20, replicates=(1, 1, 2), promoted=(6, 2))
    work(planner_of(journal, the_plan=the_plan), workers=3, seed=7)
    by_rung = {rung: set() for rung in range(3)}
    rewards = {}
    for trial, outcome in journal.trials():
        by_rung[trial.rung].add(trial.expression)
        rewards[trial.expression, trial.rung] = outcome.reward or 0.0
    baselines = {"relu(x)", "gelu(x)"}
    for rung, count in ((0, 6), (1, 2)):
        ordinary = sorted(by_rung[rung] - baselines, key=lambda e: -rewards[e, rung])
        assert by_rung[rung + 1] == set(ordinary[:count]) | baselines
    ranked = rank(journal)
    assert {c.row.expression for c in ranked[:4]} == by_rung[2]
    assert all(len(c.rewards) == 2 and c.spread is not None for c in ranked[:4])


def test_a_repeated_rung_takes_over_what_was_trained(fresh):
    journal = fresh()
    the_plan = plan(trials=12, replicates=(1, 1, 3), promoted=(6, 2), repeated=frozenset({2}))
    planner = planner_of(journal, the_plan=the_plan)
    trained = work(planner)
    found = {(t.expression, t.rung, t.replicate): (t, o) for t, o in journal.trials()}
    last = [(trial, outcome) for trial, outcome in found.values() if trial.rung == 2]
    assert len(last) == (2 + 2) * 3
    assert trained == planner.done - 4
    for trial, outcome in last:
        same = found.get((trial.expression, 1, trial.replicate))
        assert outcome is not None
        assert (same is None) == (trial.replicate > 0) == ("same_as" not in outcome.details)
        if same is not None:
            before, known = same
            assert (outcome.reward, outcome.seconds) == (known.reward, 0.0)
            assert outcome.details["same_as"] == before.id
    assert planner.finished


@pytest.mark.parametrize("repeated", [frozenset(), frozenset({1})])
def test_rungs_survive_interruption(fresh, repeated):
    the_plan = plan(trials=12, replicates=(1, 2), promoted=(4,), repeated=repeated)
    whole, broken = fresh(), fresh()
    work(planner_of(whole, the_plan=the_plan), workers=2)
    for sitting in range(20):
        planner = planner_of(reopened(broken), the_plan=the_plan)
        if work(planner, workers=2, seed=sitting, stop_after=3) < 3:
            break
    assert history_sha256(broken) == history_sha256(whole)


def test_a_trial_given_back_is_due_again_first(fresh):
    planner = planner_of(fresh())
    first, second = planner.due(2)
    assert planner.attempt(first) == 1
    planner.give_back(first)
    assert planner.due(1) == [first]
    assert second.id != first.id


def test_expected_trials_are_right_from_the_start(fresh):
    journal = fresh()
    planner = planner_of(journal, the_plan=plan(trials=10, replicates=(1, 3), promoted=(2,)))
    assert planner.expected == 2 + 10 + (2 + 2) * 3
    work(planner)
    assert planner.expected == planner.done == sum(1 for _ in journal.trials())


def test_a_journal_that_the_strategy_does_not_agree_with_is_refused(fresh):
    journal = fresh()
    work(planner_of(journal, "evolution"), stop_after=3)
    reopened(journal)
    with pytest.raises(
        JournalError, match=r"proposal 0 in the journal of .* is not what the strat"
    ):
        planner_of(journal, STRATEGIES["exhaustive"].build(SPACE))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"trials": 0}, "`trials` must be ≥ 1, got 0"),
        ({"window": 0}, "`window` must be ≥ 1, got 0"),
        ({"promoted": (3,)}, "`promoted` must have one entry fewer than `replicates`"),
    ],
)
def test_a_plan_is_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        plan(**changes)


def test_the_best_so_far_survives_a_resume(fresh):
    journal = fresh()
    assert planner_of(journal).best() is None
    work(planner_of(reopened(journal)), stop_after=9)
    rewards = {t.expression: o.reward for t, o in journal.trials() if o is not None and o.reward}
    best = planner_of(reopened(journal)).best()
    assert best is not None and best[0] == max(rewards.values())
