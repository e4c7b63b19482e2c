"""A run that grows from another: nothing known is trained again, and what was learnt goes on."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from search import lstm
from search.carry_over import controller_state, decisions_of, population_state
from search.controller import ControllerConfig
from search.evolution import EvolutionConfig
from search.exhaustive import ExhaustiveConfig
from search.journal import Journal
from search.known import is_grown, keep, known_trainings, known_trials
from search.meaning import operators_with_other_meaning
from search.outcome import Outcome, Trial
from search.planner import Plan, Planner
from search.random_search import RandomConfig
from search.ranking import history_sha256
from search.state import decode_state, encode_state
from search.strategy import Proposal
from spaces import PAPER, Operator, OperatorSet, OperatorTable, SearchSpace, parse

SMALL = PAPER.only("identity", "sin", "sigmoid", "relu", "scale", "add", "mul", "max")
LARGE = PAPER.only(
    "identity", "sin", "sigmoid", "relu", "scale", "tanh", "exp", "add", "sub", "mul", "max"
)
STRATEGIES = {
    "exhaustive": ExhaustiveConfig(shuffle=True),
    "random": RandomConfig(),
    "controller": ControllerConfig(batch_size=6, hidden=8, epochs=2),
    "evolution": EvolutionConfig(population=8, tournament=3),
}


def outcome_of(trial: Trial) -> Outcome:
    if "mul" in trial.expression and "sin" in trial.expression:
        return Outcome("diverged", seconds=1.0, details={"reason": "loss became nan"})
    if "add(relu" in trial.expression:
        return Outcome("failed", seconds=1.0, details={"reason": "out of memory"})
    text = f"{trial.expression} {trial.replicate} {trial.rung}"
    reward = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
    return Outcome("ok", reward, 1.0, 2.0, {"curve": [1, 2]})


def plan(**changes: Any) -> Plan:
    return Plan(**{"trials": 24, "window": 6, "chance": 0.1, "steps": (50,), **changes})


def planner_of(
    journal: Journal,
    strategy: Any = "random",
    the_plan: Plan | None = None,
    operators: OperatorSet = SMALL,
    core_units: int = 1,
    baselines: Sequence[str] = ("relu(x)",),
) -> Planner:
    space = SearchSpace(operators, core_units)
    known = [parse(text, PAPER) for text in baselines]
    table = OperatorTable.for_run(operators, core_units=core_units, extra=known)
    built = STRATEGIES[strategy].build(space) if isinstance(strategy, str) else strategy
    return Planner(the_plan or plan(), space, table, built, known, journal)


def work(planner: Planner, *, workers=1, seed=0, stop_after=None) -> list[Trial]:
    """Workers that finish in an arbitrary order; returns the trials that they trained."""
    rng, under_way, trained = random.Random(seed), [], []
    while not planner.finished and len(trained) != stop_after:
        under_way += planner.due(workers - len(under_way))
        planner.look_ahead(workers)
        if planner.finished:
            break
        assert under_way, "neither finished nor anything to do"
        trial = under_way.pop(rng.randrange(len(under_way)))
        planner.record([(trial, outcome_of(trial))])
        trained.append(trial)
    if planner.finished:
        planner.conclude()
    return trained


@pytest.fixture
def make(tmp_path):
    """Makes journals, each in a folder of its own; with `parents`, one that grew from them."""
    opened: list[Journal] = []

    def make(parent: Journal | None = None, *, name="parent", steps=(50,), state=None) -> Journal:
        folder = tmp_path / f"run{len(opened)}"
        folder.mkdir()

        def begin(journal: Journal) -> None:
            assert parent is not None
            keep(journal, known_trainings(parent, name, steps))
            if state is not None:
                journal.put_snapshot(0, state, {})

        opened.append(Journal.create(folder, {}, None if parent is None else begin))
        return opened[-1]

    yield make
    for journal in opened:
        journal.close()


@pytest.fixture
def parent(make) -> Journal:
    journal = make()
    work(planner_of(journal))
    return journal


def reopened(journal: Journal) -> Journal:
    journal.close()
    journal.__dict__.update(Journal.open(journal.folder).__dict__)
    return journal


def trained_in(journal: Journal) -> dict[tuple[str, int], tuple[Trial, Outcome]]:
    return {
        (trial.expression, trial.replicate): (trial, outcome)
        for trial, outcome in journal.trials()
        if outcome is not None
    }


class Fixed:
    """A strategy with a fixed list of proposals that writes down what it is told."""

    checkpoint_every = 1_000_000
    learns = True

    def __init__(self, expressions, operators=SMALL):
        self.space = SearchSpace(operators, 1)
        self.tokens = [self.space.tokens(parse(e, operators)) for e in expressions]
        self.heard: list[float | None] = []

    def init(self, *, seed):
        return {"asked": 0}

    def ask(self, state):
        if state["asked"] == len(self.tokens):
            return state, None
        return {"asked": state["asked"] + 1}, Proposal(self.tokens[state["asked"]])

    def tell(self, state, proposal, reward):
        self.heard.append(reward)
        return state

    def metrics(self, state):
        return {}


# What is known


def test_what_is_known_is_not_trained_and_does_not_count(make, parent):
    before = trained_in(parent)
    grown = make(parent)
    planner = planner_of(grown, operators=LARGE, the_plan=plan(trials=60))
    assert planner.expected == 1 + 60  # ReLU, the baseline, is known and planned
    trained = work(planner, workers=2)
    done = {key for key, (_, outcome) in before.items() if outcome.status != "failed"}
    assert not done & {(trial.expression, trial.replicate) for trial in trained}
    assert sum(not trial.baseline for trial in trained) == 60
    taken = known_trials(grown)
    assert len(taken) == planner.known > 5
    assert planner.expected == planner.done == len(taken) + 60
    told = {trial.id: outcome for trial, outcome in before.values()}
    for trial, outcome in trained_in(grown).values():
        origin = outcome.details.get("known_from")
        assert (trial.id in taken) == (origin is not None)
        if origin is not None:
            there = told[origin["trial"]]
            assert outcome == replace(
                there, seconds=0.0, details={**there.details, "known_from": origin}
            )
            assert origin["run"] == "parent"
            same = before.get((trial.expression, trial.replicate))
            assert same is None or same[0].id == origin["trial"]  # None: spelled otherwise


def test_the_run_that_it_grew_from_may_be_deleted(make, parent):
    grown = make(parent)
    parent.close()
    shutil.rmtree(parent.folder)
    work(planner_of(reopened(grown), "exhaustive", plan(trials=1_000)))
    assert len(known_trials(grown)) > 20
    parent.folder.mkdir()
    Journal.create(parent.folder, {}).close()  # for the fixture, which closes it


def test_the_strategy_is_told_what_is_known_and_failures_are_trained_again(make):
    names = ["add(x, sin(x))", "mul(x, sin(x))", "add(relu(x), sin(x))", "max(x, sin(x))"]
    first = make()
    work(planner_of(first, Fixed(names[:3]), baselines=()))
    grown, told = make(first), Fixed(names)
    trained = work(planner_of(grown, told, baselines=()))
    assert [trial.expression for trial in trained] == ["add(relu(x), sin(x))", "max(x, sin(x))"]
    rewards = [outcome.reward for _, outcome in trained_in(first).values()]
    assert told.heard[:3] == [rewards[0], 0.1, None]
    assert len(told.heard) == 4


def test_an_equal_function_in_another_spelling_is_known(make):
    first = make()
    work(planner_of(first, Fixed(["max(x, relu(x))"]), baselines=()))
    (told,) = trained_in(first).values()
    grown = make(first)
    planner = planner_of(grown, Fixed(["max(relu(x), relu(x))"]), baselines=("relu(x)",))
    assert work(planner) == []
    (found,) = trained_in(grown).items()
    assert found[0] == ("relu(x)", 0)
    assert found[1][1].reward == told[1].reward


def test_another_number_of_steps_is_another_training(make, parent):
    grown = make(parent)
    trained = work(planner_of(grown, the_plan=plan(steps=(60,))))
    assert known_trials(grown) == set() and len(trained) == 24 + 1


def test_replicates_and_rungs_are_known_one_by_one(make):
    first, steps = make(), (50, 90)
    halving = plan(trials=8, replicates=(1, 2), promoted=(3,), steps=steps)
    work(planner_of(first, the_plan=halving))
    more = plan(trials=8, replicates=(2, 3), promoted=(30,), steps=steps)
    grown = make(first, steps=steps)
    trained = work(planner_of(grown, the_plan=more))
    told = {(t.expression, t.replicate, t.rung) for t, o in first.trials() if o and o.reward}
    assert not told & {(t.expression, t.replicate, t.rung) for t in trained}
    taken = {
        (t.expression, t.replicate, t.rung) for t, o in grown.trials() if "known_from" in o.details
    }
    assert {rung for _, _, rung in taken & told} == {0, 1}
    assert sum(trial.rung == 0 and not trial.baseline for trial in trained) in (8, 9)


def test_a_repeated_rung_counts_what_is_known_once(make, parent):
    grown = make(parent)
    repeated = plan(
        trials=4, replicates=(1, 2), promoted=(30,), steps=(50, 50), repeated=frozenset({1})
    )
    work(planner_of(grown, the_plan=repeated))
    rungs = {t.id: t.rung for t, _ in grown.trials()}
    assert {rungs[number] for number in known_trials(grown)} == {0}


def test_a_run_may_grow_again_and_says_where_a_result_is_from(make, parent):
    second = make(parent)
    work(planner_of(second, Fixed(["max(x, scale(x))"]), baselines=()))
    assert len(known_trials(second)) < 2
    third = make(second, name="second")
    trained = work(planner_of(third, "exhaustive", plan(trials=1_000), baselines=()))
    done = {key for key, (_, o) in trained_in(parent).items() if o.status != "failed"}
    done |= {("max(x, scale(x))", 0)}
    assert not done & {(t.expression, t.replicate) for t in trained}
    origins = {o.details["known_from"]["run"] for _, o in trained_in(third).values()
               if "known_from" in o.details}  # fmt: skip
    assert origins <= {"parent", "second"} and "parent" in origins
    if ("max(x, scale(x))", 0) not in trained_in(parent):
        assert "second" in origins


def test_a_run_that_grew_from_none_has_no_tables_and_knows_nothing(parent):
    assert not is_grown(parent) and known_trials(parent) == set()
    tables = parent.execute("SELECT name FROM sqlite_master").fetchall()
    assert not [name for (name,) in tables if "known" in name]


# One history


def beginning(strategy: str, parent: Journal) -> bytes | None:
    """What a grown run's strategy starts from."""
    after = SearchSpace(LARGE, 1)
    built: Any = STRATEGIES[strategy].build(after)
    if strategy == "controller":
        snapshot = parent.snapshot()
        assert snapshot is not None
        trained, before = decode_state(snapshot[1]), SearchSpace(SMALL, 1).decisions
        state = controller_state(
            trained, before, built.init(seed=0), after.decisions, keep_baseline=True
        )
        return encode_state(state)
    if strategy == "evolution":
        known = known_trainings(parent, "parent", (50,))
        return encode_state(
            population_state(built.init(seed=0), after, known, steps=50, population=8)
        )
    return None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_history_whoever_works_and_however_often_it_is_interrupted(strategy, make):
    first = make()
    work(planner_of(first, strategy))
    histories, states = set(), set()
    for workers in (1, 2, 4):
        grown = make(first, state=beginning(strategy, first))
        work(planner_of(grown, strategy, operators=LARGE), workers=workers, seed=workers)
        histories.add(history_sha256(grown))
        states.add(grown.snapshot())
        assert known_trials(grown)
    broken = make(first, state=beginning(strategy, first))
    sitting = 0
    while True:
        planner = planner_of(reopened(broken), strategy, operators=LARGE)
        if len(work(planner, workers=3, seed=sitting, stop_after=4)) < 4:
            break
        sitting += 1
    assert sitting >= 5
    assert histories == {history_sha256(broken)}
    assert states == {broken.snapshot()}


# Operators


def bent(name: str, slope: float) -> Operator:
    return Operator(name, 1, lambda x: jnp.tanh(slope * x))


def straight_through(x):
    return x + jax.lax.stop_gradient(jnp.tanh(x) - x)


BENT = SMALL.with_unary(bent("bend", 1.0))


@pytest.fixture
def bent_run(make) -> Journal:
    journal = make()
    space = SearchSpace(BENT, 1)
    table = OperatorTable.for_run(BENT, core_units=1)
    built = ExhaustiveConfig(shuffle=True).build(space)
    work(Planner(plan(trials=60), space, table, built, [], journal))
    return journal


@pytest.mark.parametrize(
    "operators, names",
    [
        (BENT, []),
        (LARGE, []),
        (LARGE.with_unary(bent("bend", 1.0), bent("other", 3.0)), []),
        (SMALL.with_unary(bent("bend", 1.001)), ["bend"]),
        (SMALL.with_unary(Operator("bend", 1, straight_through)), ["bend"]),
        (SMALL.with_binary(Operator("bend", 2, lambda a, b: a + b)), ["bend"]),
        (SMALL.without("sin").with_unary(Operator("sin", 1, lambda x: jnp.sin(2 * x))), ["sin"]),
    ],
)
def test_operators_that_mean_something_else_are_named(operators, names, bent_run):
    assert operators_with_other_meaning(bent_run, operators, None) == names


def test_a_name_alone_makes_nothing_known(make, bent_run):
    """Functions are compared by value, so an operator of the same name gives nothing away."""
    other = SMALL.with_unary(bent("bend", 0.5))
    grown = make(bent_run)
    space = SearchSpace(other, 1)
    table = OperatorTable.for_run(other, core_units=1)
    built = ExhaustiveConfig(shuffle=True).build(space)
    work(Planner(plan(trials=1_000), space, table, built, [], grown))
    taken = [t.expression for t, _ in grown.trials() if t.id in known_trials(grown)]
    with_bend = [expression for expression in taken if "bend" in expression]
    # tanh(x) and tanh(x/2) are below x where x is positive: there a maximum hides them.
    assert len(taken) > 20 and all(text.startswith("max(") for text in with_bend)
    names = {t.expression for t, o in bent_run.trials() if o is not None and o.status != "failed"}
    assert any("bend" in text and not text.startswith("max(") for text in names - set(taken))


# The controller


def weights(space: SearchSpace, *, seed: int, hidden: int = 8, scale: float = 1.0) -> Any:
    """Parameters as `lstm.initial` makes them, of any size, and their shape."""
    shape = lstm.Shape(tuple(len(d.choices) for d in space.decisions), hidden)
    rng = np.random.default_rng(seed)

    def uniform(*dims: int) -> np.ndarray:
        return rng.uniform(-scale, scale, dims).astype(np.float32)

    t, v, h = len(shape.choices), max(shape.choices), hidden
    dense_h = {"kernel": uniform(h, 4 * h), "bias": uniform(4 * h)}
    return {
        "cell": {"dense_i": {"kernel": uniform(h, 4 * h)}, "dense_h": dense_h},
        "start": uniform(h),
        "embedding": uniform(t, v, h),
        "kernel": uniform(t, h, v),
        "bias": uniform(t, v),
    }, shape


score = jax.jit(lstm.score, static_argnames="shape")


def probabilities(params: Any, shape: lstm.Shape, tokens: np.ndarray) -> np.ndarray:
    """`[B, T, V]`."""
    return np.asarray(score(params, jnp.asarray(tokens), shape=shape).probabilities)


def carried(before: SearchSpace, after: SearchSpace) -> tuple[Any, Any, Any]:
    trained, _ = weights(before, seed=1)
    fresh, shape = weights(after, seed=2, scale=0.1)
    state = controller_state(
        {"params": trained, "baseline": 0.7},
        before.decisions,
        {"params": fresh, "baseline": None, "adam": "fresh"},
        after.decisions,
        keep_baseline=True,
    )
    assert (state["baseline"], state["adam"]) == (0.7, "fresh")
    return trained, state["params"], shape


@pytest.mark.parametrize("core_units", [1, 2])
def test_an_identical_space_gives_the_same_distribution(core_units):
    space = SearchSpace(SMALL, core_units)
    trained, params, shape = carried(space, space)
    tokens = np.array([space.sample(np.random.default_rng(n)) for n in range(16)], np.int32)
    before, after = (probabilities(p, shape, tokens) for p in (trained, params))
    assert np.ptp(before[0, 0, :5]) > 0.05
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("core_units", [1, 2])
def test_shared_choices_of_the_first_decision_keep_their_ratios(core_units):
    before, after = SearchSpace(SMALL, 1), SearchSpace(LARGE, core_units)
    trained, params, shape = carried(before, after)
    names, there = before.decisions[0].choices, after.decisions[0].choices
    old = probabilities(trained, weights(before, seed=1)[1], np.zeros((1, 3), np.int32))
    new = probabilities(params, shape, np.zeros((1, len(after.decisions)), np.int32))
    shared = new[0, 0, [there.index(name) for name in names]]
    assert shared.sum() < 0.99  # the others have their share
    np.testing.assert_allclose(shared / shared.sum(), old[0, 0, : len(names)], rtol=1e-5)


def test_later_decisions_keep_their_ratios_where_the_path_is_shared():
    before, after = SearchSpace(SMALL, 2), SearchSpace(LARGE, 3)
    trained, params, shape = carried(before, after)
    path = [before.sample(np.random.default_rng(n)) for n in range(8)]
    named = [
        [d.choices[token] for d, token in zip(before.decisions, tokens, strict=True)]
        for tokens in path
    ]
    longer = [
        [d.choices.index(name) for d, name in zip(after.decisions, names, strict=False)] + [0] * 5
        for names in named
    ]
    old = probabilities(trained, weights(before, seed=1)[1], np.array(path, np.int32))
    new = probabilities(params, shape, np.array(longer, np.int32))
    for place, (was, now) in enumerate(zip(before.decisions, after.decisions, strict=False)):
        shared = new[:, place, [now.choices.index(name) for name in was.choices]]
        np.testing.assert_allclose(
            shared / shared.sum(axis=1, keepdims=True),
            old[:, place, : len(was.choices)],
            rtol=1e-4,
        )


def test_a_further_core_unit_begins_as_the_last_trained_one():
    before, after = SearchSpace(SMALL, 2), SearchSpace(SMALL, 3)
    trained, params, _ = carried(before, after)
    fresh, _ = weights(after, seed=2, scale=0.1)
    place = {(d.kind, d.unit): n for n, d in enumerate(after.decisions)}
    old = {(d.kind, d.unit): n for n, d in enumerate(before.decisions)}
    for kind in ("unary1", "unary2", "binary"):
        there, here = old[kind, 2], place[kind, 3]
        count = len(before.decisions[there].choices)  # what follows is padding
        for name, part in (("kernel", np.s_[:, :count]), ("embedding", np.s_[:count])):
            np.testing.assert_array_equal(params[name][here][part], trained[name][there][part])
    here, there = place["input1", 3], old["input1", 2]
    assert after.decisions[here].choices == ("x", "u1", "u2")
    np.testing.assert_array_equal(params["kernel"][here][:, :2], trained["kernel"][there][:, :2])
    np.testing.assert_array_equal(params["kernel"][here][:, 2], fresh["kernel"][here][:, 2])
    first_inputs = controller_inputs_of_unit_two()
    np.testing.assert_array_equal(*first_inputs)


def controller_inputs_of_unit_two() -> tuple[np.ndarray, np.ndarray]:
    """Of a controller that has known one unit only, whose inputs are no decision: as fresh."""
    before, after = SearchSpace(SMALL, 1), SearchSpace(SMALL, 2)
    _, params, _ = carried(before, after)
    fresh, _ = weights(after, seed=2, scale=0.1)
    place = next(n for n, d in enumerate(after.decisions) if d.kind == "input1")
    return params["kernel"][place], fresh["kernel"][place]


def test_a_controller_of_another_width_or_space_is_refused():
    space = SearchSpace(SMALL, 1)
    trained, _ = weights(space, seed=1, hidden=6)
    fresh, _ = weights(space, seed=1)
    with pytest.raises(ValueError, match="width 8 over 3 decisions"):
        controller_state(
            {"params": trained, "baseline": None},
            space.decisions,
            {"params": fresh},
            space.decisions,
            keep_baseline=True,
        )


ONE_BINARY = SMALL.without("add", "max")
ONE_UNARY = SMALL.only("scale", "add", "max")


@pytest.mark.parametrize("operators", [SMALL, LARGE, PAPER, ONE_BINARY, ONE_UNARY])
@pytest.mark.parametrize("core_units", [1, 2, 4])
def test_decisions_are_told_from_the_names_of_their_choices(operators, core_units):
    decisions = SearchSpace(operators, core_units).decisions
    assert decisions_of([d.choices for d in decisions], core_units) == decisions


def test_names_that_make_no_space_are_refused():
    with pytest.raises(ValueError, match="4 decisions do not make 1 core units"):
        decisions_of([["a", "b"]] * 4, 1)


# Evolution


def test_a_population_begins_with_the_best_that_are_known(make, parent):
    space = SearchSpace(LARGE, 2)
    fresh = EvolutionConfig(population=5).build(space).init(seed=3)
    known = list(known_trainings(parent, "parent", (50,)))
    state = population_state(fresh, space, known, steps=50, population=5)
    rewards = sorted(
        outcome.reward
        for trial, outcome in trained_in(parent).values()
        if outcome.reward is not None and not trial.baseline
    )
    assert state["rewards"].tolist() == rewards[-5:]
    spelled = [str(space.candidate(tokens)) for tokens in state["tokens"].tolist()]
    by_text = {expression: o.reward for (expression, _), (_, o) in trained_in(parent).items()}
    assert [by_text[str(parse(text, LARGE).pruned())] for text in spelled] == rewards[-5:]
    assert population_state(fresh, space, known, steps=60, population=5) == fresh
