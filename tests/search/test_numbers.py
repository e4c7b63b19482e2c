"""Numbers at their limits: rewards of any kind leave every strategy finite, ranks never hang on
rounding, and nothing that is no number reaches the journal.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections import deque
from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from search import lstm, ppo
from search.controller import ControllerConfig
from search.evolution import EvolutionConfig
from search.exhaustive import ExhaustiveConfig
from search.journal import Journal
from search.outcome import Outcome, Trial
from search.planner import Plan, Planner
from search.random_search import RandomConfig
from search.ranking import history_sha256, rank, rank_rows, standing
from search.schema import CandidateRow
from search.state import decode_state, encode_state
from search.strategy import Proposal, State, Strategy
from spaces import PAPER, OperatorTable, SearchSpace

SPACE = SearchSpace(PAPER, core_units=1)
CHOICES = tuple(len(decision.choices) for decision in SPACE.decisions)
SMALL = ControllerConfig(hidden=8, batch_size=4, epochs=2)
CONTROLLER = SMALL.build(SPACE)
SHAPE = lstm.Shape(CHOICES, SMALL.hidden)
Rewards = list[float | None]

score = jax.jit(lstm.score, static_argnames="shape")

accuracies = st.floats(0, 1)
beside = st.integers(-3, 3)
"""Steps between neighbouring floats."""


def neighbour(value: float, steps: int) -> float:
    for _ in range(abs(steps)):
        value = math.nextafter(value, math.copysign(math.inf, steps))
    return min(max(value, 0.0), 1.0)


@st.composite
def sequences(draw: st.DrawFn) -> Rewards:
    """Rewards of a whole search: any, equal, tinily different, few among failures, or none."""
    length = draw(st.integers(1, 40))
    base = draw(accuracies)
    each = draw(
        st.sampled_from(
            [
                st.one_of(st.none(), accuracies),
                st.just(base),
                st.one_of(st.none(), st.just(base)),
                beside.map(lambda steps: neighbour(base, steps)),
                st.sampled_from([0.0, 5e-324, 1e-42, 1e-38, 1e-30]),
                st.sampled_from([0.0, 1.0]),
            ]
        )
    )
    rewards: Rewards = draw(st.lists(each, min_size=length, max_size=length))
    if draw(st.booleans()):
        known = draw(st.integers(0, length - 1))
        return [reward if n == known else None for n, reward in enumerate(rewards)]
    return rewards


def searched(strategy: Strategy, rewards: Rewards, lag: int) -> list[State]:
    """The states after each tell and the ask that follows it; proposals are legal all the way."""
    state, waiting, found = strategy.init(seed=0), deque(), []
    for number in range(len(rewards) + lag):
        state, proposal = strategy.ask(state)
        assert proposal is not None
        assert SPACE.tokens(SPACE.candidate(proposal.tokens)) == proposal.tokens
        assert all(math.isfinite(p) for p in proposal.details.get("log_probs", ()))
        waiting.append(proposal)
        if number >= lag:
            state = strategy.tell(state, waiting.popleft(), rewards[number - lag])
            found.append(state)
    state, _ = strategy.ask(state)
    return [*found, state]


def check_finite(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            check_finite(item)
    elif isinstance(value, list):
        for item in value:
            check_finite(item)
    elif isinstance(value, float | np.ndarray):
        assert np.isfinite(value).all()


def check_plain(strategy: Strategy, state: State) -> None:
    """Finite throughout, storable, and its metrics are strict JSON."""
    check_finite(state)
    json.dumps(strategy.metrics(state), allow_nan=False)
    assert encode_state(decode_state(encode_state(state))) == encode_state(state)


def check_proper(state: State) -> None:
    """What the controller's policy would draw now: distributions, over what there is alone."""
    # Each choice of each decision at least once.
    tokens = np.arange(max(CHOICES))[:, None] % np.array(CHOICES, np.int32)[None, :]
    rollout = score(state["params"], tokens.astype(np.int32), shape=SHAPE)
    log_probs, entropy, probabilities = (
        np.asarray(leaf) for leaf in (rollout.log_probs, rollout.entropy, rollout.probabilities)
    )
    assert np.isfinite(log_probs).all() and (log_probs <= 0).all()
    assert np.isfinite(entropy).all() and (entropy >= 0).all()
    assert (entropy <= np.log(CHOICES)[None, :] + 1e-5).all()
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=2), 1, atol=1e-5)
    for decision, count in enumerate(CHOICES):
        assert not probabilities[:, decision, count:].any()


def updates(rewards: Rewards) -> int:
    """How many of the batches hold a reward to learn from."""
    size = SMALL.batch_size
    batches = [rewards[n : n + size] for n in range(0, len(rewards) - size + 1, size)]
    return sum(any(reward is not None for reward in batch) for batch in batches)


# The strategies


@settings(max_examples=60, deadline=None)
@example([None] * 12, 0)
@example([0.1] * 20, 3)
@example([0.0] * 8, 0)
@example([1.0, None, None, None] * 3, 7)
@example([0.3, math.nextafter(0.3, 1)] * 10, 0)
@given(sequences(), st.sampled_from([0, 1, 7]))
def test_any_accuracies_keep_the_controller_sound(rewards: Rewards, lag: int) -> None:
    states = searched(CONTROLLER, rewards, lag)
    for state in states:
        check_plain(CONTROLLER, state)
    state = states[-1]
    check_proper(state)
    # Adam counts an epoch only if its gradient was finite.
    assert state["adam"]["count"] == updates(rewards) * SMALL.epochs
    told = rewards[: len(rewards) // SMALL.batch_size * SMALL.batch_size]
    known = [reward for reward in told if reward is not None]
    if known:
        assert min(known) - 1e-12 <= state["baseline"] <= max(known) + 1e-12
        assert min(known) - 1e-12 <= state["mean_reward"] <= max(known) + 1e-12
    else:
        assert (state["baseline"], state["mean_reward"]) == (None, None)


@settings(max_examples=40, deadline=None)
@example([1.7e308, 1.7e308, 1.7e308, -1.7e308])
@example([1e20, -1e20, 0.0, 0.0, 1e300, 1e300, 1.0, 1.0])
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=16))
def test_any_finite_rewards_keep_the_controller_sound(rewards: list[float]) -> None:
    """Beyond accuracies: `tell` allows every finite number."""
    state = searched(CONTROLLER, list(rewards), 0)[-1]
    check_plain(CONTROLLER, state)
    check_proper(state)
    assert state["adam"]["count"] == len(rewards) // SMALL.batch_size * SMALL.epochs


def test_equal_rewards_teach_by_the_entropy_alone() -> None:
    """All advantages are 0: what is left makes the policy no surer."""
    states = searched(CONTROLLER, [0.7] * 40, 0)
    assert states[-1]["baseline"] == pytest.approx(0.7, abs=1e-12)
    last, first = (
        score(state["params"], np.zeros((1, len(CHOICES)), np.int32), shape=SHAPE).entropy
        for state in (states[-1], CONTROLLER.init(seed=0))
    )
    assert np.sum(last) >= np.sum(first) - 1e-4


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["params", "adam"])
def test_an_update_that_leaves_float32_is_not_made(
    where: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It happens: eight core units, 300 hidden, learning rate 1, stale rewards of a million."""
    update = ppo.update

    def overflowing(*arguments: Any, **options: Any) -> Any:
        params, adam = jax.tree.map(np.array, update(*arguments, **options))
        (params if where == "params" else adam.nu)["bias"][-1, 0] = value
        return params, adam

    start = searched(CONTROLLER, [0.2, 0.4, 0.6, 0.8], 0)[-1]
    state = start
    with monkeypatch.context() as patch:
        patch.setattr(ppo, "update", overflowing)
        for reward in (0.1, 0.9, 0.4, 0.4):
            state, proposal = CONTROLLER.ask(state)
            assert proposal is not None
            state = CONTROLLER.tell(state, proposal, reward)
    kept = [encode_state({"": [each["params"], each["adam"]]}) for each in (start, state)]
    assert kept[0] == kept[1]
    assert (state["told"], state["mean_reward"]) == ([], pytest.approx(0.45))
    for reward in (0.1, 0.9, 0.4, 0.4):
        state, proposal = CONTROLLER.ask(state)
        assert proposal is not None
        state = CONTROLLER.tell(state, proposal, reward)
    assert state["adam"]["count"] == start["adam"]["count"] + SMALL.epochs


LIMITS = {
    "init_scale": 100.0,
    "learning_rate": 1.0,
    "clip": 1000.0,
    "entropy_weight": 1000.0,
}


@pytest.mark.parametrize("name", LIMITS)
def test_options_beyond_their_limit_are_refused(name: str) -> None:
    for beyond in (math.nextafter(LIMITS[name], math.inf), 1e39, 10**400):
        with pytest.raises(ValueError, match=f"`{name}` must be ≤ {LIMITS[name]:g}, got"):
            dataclasses.replace(SMALL, **{name: beyond})


def test_at_all_limits_together_the_controller_is_sound() -> None:
    strategy = dataclasses.replace(SMALL, **LIMITS).build(SPACE)
    state = searched(strategy, [0.1, 0.9, None, 0.4] * 10, 3)[-1]
    check_plain(strategy, state)
    check_proper(state)
    assert state["adam"]["count"] == 20


OTHERS: dict[str, Strategy] = {
    "evolution": EvolutionConfig(population=5, tournament=3).build(SPACE),
    "random": RandomConfig().build(SPACE),
    "exhaustive": ExhaustiveConfig(shuffle=True).build(SPACE),
}


@pytest.mark.parametrize("name", OTHERS)
@settings(max_examples=40, deadline=None)
@example([None] * 12, 0)
@example([0.1] * 20, 3)
@given(sequences(), st.sampled_from([0, 7]))
def test_any_accuracies_keep_the_other_strategies_sound(
    name: str, rewards: Rewards, lag: int
) -> None:
    strategy = OTHERS[name]
    states = searched(strategy, rewards, lag)
    for state in states:
        check_plain(strategy, state)
    if name == "evolution":
        known = [reward for reward in rewards if reward is not None]
        assert states[-1]["rewards"].tolist() == known[-5:]
        assert len(states[-1]["tokens"]) == len(known[-5:])


def test_evolution_prefers_nobody_among_equals() -> None:
    strategy = EvolutionConfig(population=4, tournament=10).build(SPACE)
    state = strategy.init(seed=0)
    # No two of them have a choice in common, so that a child is beside its parent alone.
    members = [(token,) * len(CHOICES) for token in range(4)]
    for tokens in members:
        state = strategy.tell(state, Proposal(tokens), 0.1)
    parents = np.zeros(4)
    for _ in range(1000):
        state, proposal = strategy.ask(state)
        assert proposal is not None
        distances = [sum(map(int.__ne__, proposal.tokens, member)) for member in members]
        assert min(distances) == 1
        parents[int(np.argmin(distances))] += 1
    # χ² with 3 degrees of freedom: 24 has p < 3e-5.
    assert np.sum((parents - 250) ** 2 / 250) < 24


# The ranking


def row(number: int) -> CandidateRow:
    return CandidateRow(number, f"c{number}", "", "", None, "ok", "", None, None, None)


VALID = 37
"""Validation images: accuracies are n / VALID."""

outcomes = st.one_of(
    st.builds(
        lambda right, loss: Outcome("ok", right / VALID, loss),
        st.integers(30, VALID),
        st.sampled_from([None, 0.0, 5e-324, 0.25, 0.5, 1e300, 1.7e308]),
    ),
    st.sampled_from([Outcome("diverged"), Outcome("failed")]),
)


def exactly(trials: list[tuple[Trial, Outcome]]) -> tuple[Any, ...]:
    """The key of one candidate by the words of the design, in fractions."""
    rung = max(trial.rung for trial, _ in trials)
    top = [outcome for trial, outcome in trials if trial.rung == rung]
    last = (trials[0][0].candidate,)
    if any(outcome.reward is None for outcome in top):
        return (1, -rung, 0, 0, 0, *last)
    right = sum(round(outcome.reward * VALID) for outcome in top if outcome.reward is not None)
    losses = [outcome.loss for outcome in top]
    known = [Fraction(loss) for loss in losses if loss is not None]
    if len(known) < len(losses) or sum(known) > Fraction(1.79e308):
        return (0, -rung, Fraction(-right, len(top)), 1, 0, *last)
    return (0, -rung, Fraction(-right, len(top)), 0, Fraction(sum(known), len(top)), *last)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[Trial, Outcome]]:
    """Trials of up to eight candidates on up to two rungs, of two and of three replicates."""
    found = []
    for number in range(1, draw(st.integers(1, 8)) + 1):
        for rung in range(draw(st.integers(1, 2))):
            for replicate in range(2 + rung):
                trial = Trial(len(found) + 1, number, f"c{number}", replicate, rung, False)
                found.append((trial, draw(outcomes)))
    return found


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories(), st.randoms(use_true_random=False))
def test_ranks_are_those_of_exact_arithmetic_in_any_order(
    history: list[tuple[Trial, Outcome]], rng: random.Random
) -> None:
    of: dict[int, list[tuple[Trial, Outcome]]] = {}
    for entry in history:
        of.setdefault(entry[0].candidate, []).append(entry)
    rows, shuffled = [row(number) for number in of], list(history)
    rng.shuffle(rows)
    rng.shuffle(shuffled)
    ranked = [candidate.row.id for candidate in rank_rows(rows, shuffled)]
    assert ranked == sorted(of, key=lambda number: exactly(of[number]))


def test_a_tie_of_accuracies_is_broken_by_the_loss_and_not_by_rounding() -> None:
    """In floating point 261/300 + 267/300 is not 262/300 + 266/300, and so one would always win."""
    ties = 0
    for total in range(520, 600):
        splits = [(right, total - right) for right in range(total - 300, total // 2)]
        for one in splits:
            rewards = [[right / 300 for right in pair] for pair in (splits[0], one)]
            ties += sum(rewards[0]) != sum(rewards[1])
            standings = [standing([(reward, 0.5) for reward in each]) for each in rewards]
            assert standings[0] == standings[1]
            assert standing([(reward, 0.4) for reward in rewards[0]]) < standings[1]
            assert standing([(reward, 0.6) for reward in rewards[0]]) > standings[1]
    # The sums themselves would have decided so many.
    assert ties > 100


def test_one_image_more_is_better_whatever_the_loss() -> None:
    images = 1_000_000
    for right in range(images - 1000, images):
        assert standing([((right + 1) / images, 9.0)]) < standing([(right / images, 0.0)])


# The journal


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_outcome(value: float) -> None:
    with pytest.raises(ValueError, match=f"`reward` must be finite or None, got {value}"):
        Outcome("ok", value, 0.5)
    with pytest.raises(ValueError, match=f"`loss` must be finite or None, got {value}"):
        Outcome("ok", 0.5, value)


SMALL_SPACE = SearchSpace(
    PAPER.only("identity", "sin", "sigmoid", "relu", "scale", "add", "mul", "max"), 1
)
TABLE = OperatorTable.for_run(SMALL_SPACE.operators, core_units=1)
STRATEGIES = {
    "controller": SMALL.build(SMALL_SPACE),
    "evolution": EvolutionConfig(population=5, tournament=3).build(SMALL_SPACE),
}
DIVERGED = Outcome("diverged", details={"reason": "loss became nan at step 1"})
FAILED = Outcome("failed", details={"reason": "out of memory"})
COURSES: dict[str, list[Outcome]] = {
    "all equal": [Outcome("ok", 0.1, 0.5)],
    "all diverged": [DIVERGED],
    "all failed": [FAILED],
    "one in eight": [Outcome("ok", 0.9, 0.5), *[FAILED] * 4, *[DIVERGED] * 3],
    "tiny": [Outcome("ok", 5e-324, 5e-324), Outcome("ok", 0.0, 1e-310), FAILED],
    "neighbours": [Outcome("ok", neighbour(0.5, n), 1.7e308) for n in (-1, 0, 1)],
}


def work(planner: Planner, course: list[Outcome], *, stop_after: int | None = None) -> None:
    """Trains in order; what comes of a trial depends on its number alone."""
    done = 0
    while not planner.finished and done != stop_after:
        for trial in planner.due(1):
            planner.record([(trial, course[trial.id % len(course)])])
            done += 1
    if planner.finished:
        planner.conclude()


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("course", COURSES.values(), ids=list(COURSES))
def test_a_run_of_whatever_outcomes_ends_is_ranked_and_resumes(
    course: list[Outcome], name: str, tmp_path: Any
) -> None:
    plan = Plan(trials=24, window=4, chance=0.1)
    found = []
    for stops in ([], [5, 1, 9]):
        folder = tmp_path / f"run{len(stops)}"
        folder.mkdir()
        journal = Journal.create(folder, {})
        for stop in [*stops, None]:
            planner = Planner(plan, SMALL_SPACE, TABLE, STRATEGIES[name], [], journal)
            work(planner, course, stop_after=stop)
            journal.close()
            journal = Journal.open(folder)
        ranked = rank(journal)
        assert len(ranked) == 24
        # Neighbouring floats are one accuracy: 1e-9 is less than any image.
        keys = [(c.reward is None, -round(c.reward or 0, 9), c.loss or 0, c.row.id) for c in ranked]
        assert keys == sorted(keys)
        for candidate in ranked:
            ((trial, outcome),) = candidate.trials
            written = course[trial.id % len(course)]
            assert (outcome.status, outcome.reward, outcome.loss) == (
                written.status,
                written.reward,
                written.loss,
            )
        snapshot = journal.snapshot()
        assert snapshot is not None
        check_plain(STRATEGIES[name], decode_state(snapshot[1]))
        found.append((history_sha256(journal), snapshot))
        journal.close()
    assert found[0] == found[1]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(("course", "known"), [("all failed", None), ("all diverged", 0.1)])
def test_failures_teach_nothing_and_what_diverged_is_as_good_as_chance(
    course: str, known: float | None, name: str, tmp_path: Any
) -> None:
    journal = Journal.create(tmp_path, {})
    plan = Plan(trials=24, window=4, chance=0.1)
    planner = Planner(plan, SMALL_SPACE, TABLE, STRATEGIES[name], [], journal)
    work(planner, COURSES[course])
    assert all(candidate.reward is None for candidate in rank(journal))
    # Otherwise chance would be told for another reason.
    assert {candidate.verdict for candidate in journal.candidates()} == {"ok"}
    snapshot = journal.snapshot()
    assert snapshot is not None
    state = decode_state(snapshot[1])
    if name == "evolution":
        assert state["rewards"].tolist() == ([] if known is None else [known] * 5)
    else:
        assert state["baseline"] == pytest.approx(known)
        assert (state["adam"]["count"] > 0) == (known is not None)
    journal.close()
