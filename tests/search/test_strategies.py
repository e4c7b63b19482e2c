"""What holds for every strategy of the registry, and for the two that learn nothing."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import subprocess
import sys
from collections import deque
from typing import Any

import numpy as np
import pytest

from search.controller import ControllerConfig
from search.evolution import EvolutionConfig
from search.exhaustive import ExhaustiveConfig
from search.random_search import RandomConfig
from search.registry import STRATEGIES
from search.state import decode_state, encode_state
from search.strategy import Proposal, State, Strategy, StrategyConfig
from spaces import PAPER, OperatorSet, SearchSpace

SPACE = SearchSpace(PAPER, core_units=2)
TINY = SearchSpace(OperatorSet("tiny", PAPER.unary[:3], PAPER.binary[:2]), core_units=1)
LAGS = (0, 3, 11)

# Small enough that a few dozen proposals reach what a strategy does once it has learned.
SMALL: dict[str, StrategyConfig] = {
    "controller": ControllerConfig(hidden=8, batch_size=5, epochs=2),
    "evolution": EvolutionConfig(population=7, tournament=3),
}


@pytest.fixture(params=STRATEGIES)
def config(request: pytest.FixtureRequest) -> StrategyConfig:
    return SMALL.get(request.param) or STRATEGIES[request.param]()


@pytest.fixture
def strategy(config: StrategyConfig) -> Strategy:
    return config.build(SPACE)


def reward_of(number: int, proposal: Proposal) -> float | None:
    """A reward that depends on the tokens; every seventh is lost."""
    return None if number % 7 == 3 else sum(proposal.tokens) / 150


def ask(strategy: Strategy, state: State) -> tuple[State, Proposal]:
    state, proposal = strategy.ask(state)
    assert proposal is not None
    return state, proposal


def run(strategy: Strategy, *, seed: int, proposals: int, lag: int, resume: bool) -> Any:
    """Returns all proposals and the last state; `resume` stores and reads the state at each step."""
    state, waiting, asked = strategy.init(seed=seed), deque(), []
    for number in range(proposals):
        state, proposal = ask(strategy, state)
        asked.append(proposal)
        waiting.append((proposal, reward_of(number, proposal)))
        if resume:
            state = decode_state(encode_state(state))
        if len(waiting) > lag:
            state = strategy.tell(state, *waiting.popleft())
        if resume:
            state = decode_state(encode_state(state))
    return asked, encode_state(state)


def test_the_registry_costs_no_jax() -> None:
    heavy = "{'jax', 'flax', 'optax', 'ray'}"
    code = f"import search.registry, sys; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_configs_are_frozen_and_survive_json(config: StrategyConfig) -> None:
    assert dataclasses.is_dataclass(config) and not isinstance(config, type)
    for field in dataclasses.fields(config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, 1)
    stored = json.loads(json.dumps(dataclasses.asdict(config)))
    assert type(config)(**stored) == config


def test_proposals_are_legal_plain_data(strategy: Strategy) -> None:
    asked, _ = run(strategy, seed=0, proposals=40, lag=2, resume=False)
    for proposal in asked:
        assert SPACE.tokens(SPACE.candidate(proposal.tokens)) == proposal.tokens
        assert all(type(token) is int for token in proposal.tokens)
        assert json.loads(json.dumps(dict(proposal.details))) == proposal.details


@pytest.mark.parametrize("lag", LAGS)
def test_resumed_at_any_moment_equals_uninterrupted(strategy: Strategy, lag: int) -> None:
    straight = run(strategy, seed=3, proposals=40, lag=lag, resume=False)
    resumed = run(strategy, seed=3, proposals=40, lag=lag, resume=True)
    assert resumed == straight


def test_a_strategy_object_remembers_nothing(config: StrategyConfig, strategy: Strategy) -> None:
    first = run(strategy, seed=3, proposals=20, lag=1, resume=False)
    assert run(strategy, seed=3, proposals=20, lag=1, resume=False) == first
    assert run(config.build(SPACE), seed=3, proposals=20, lag=1, resume=False) == first


def test_nothing_is_mutated(strategy: Strategy) -> None:
    state = strategy.init(seed=1)
    for number in range(30):
        at_first = encode_state(state)
        asked, proposal = ask(strategy, state)
        assert encode_state(state) == at_first
        after_ask = encode_state(asked)
        told = strategy.tell(asked, proposal, reward_of(number, proposal))
        assert encode_state(asked) == after_ask
        after_tell = encode_state(told)
        strategy.metrics(told)
        assert encode_state(told) == after_tell
        state = told


@pytest.mark.parametrize("name", ["random", "controller", "evolution"])
def test_the_seed_decides(name: str) -> None:
    strategy = (SMALL.get(name) or STRATEGIES[name]()).build(SPACE)
    runs = [run(strategy, seed=seed, proposals=5, lag=0, resume=False)[0] for seed in range(3)]
    assert all(one != other for one, other in itertools.combinations(runs, 2))


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_no_number_is_refused(strategy: Strategy, reward: float) -> None:
    state, proposal = ask(strategy, strategy.init(seed=0))
    with pytest.raises(ValueError, match="`reward` must be finite or None"):
        strategy.tell(state, proposal, reward)


def test_metrics_are_numbers_and_lists(strategy: Strategy) -> None:
    state = strategy.init(seed=0)
    json.dumps(strategy.metrics(state), allow_nan=False)
    for number in range(12):
        state, proposal = ask(strategy, state)
        state = strategy.tell(state, proposal, reward_of(number, proposal))
    for value in strategy.metrics(state).values():
        assert type(value) in (float, list)
    json.dumps(strategy.metrics(state), allow_nan=False)


def visited(space: SearchSpace, seed: int, *, shuffle: bool) -> list[tuple[int, ...]]:
    strategy = ExhaustiveConfig(shuffle=shuffle).build(space)
    state, tokens = strategy.init(seed=seed), []
    while True:
        state, proposal = strategy.ask(state)
        if proposal is None:
            assert strategy.ask(state) == (state, None)
            assert strategy.metrics(state) == {"visited": 1.0}
            return tokens
        tokens.append(proposal.tokens)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("space", [TINY, SearchSpace(PAPER, core_units=1)], ids=["18", "6250"])
def test_exhaustive_visits_everything_once(space: SearchSpace, seed: int) -> None:
    ordered = visited(space, seed, shuffle=False)
    assert ordered == [space.tokens_at(index) for index in range(space.size)]
    shuffled = visited(space, seed, shuffle=True)
    assert shuffled != ordered
    assert sorted(shuffled) == sorted(ordered)


def test_shuffled_order_depends_on_the_seed_and_spreads() -> None:
    space = SearchSpace(PAPER, core_units=1)
    orders = [visited(space, seed, shuffle=True) for seed in range(5)]
    assert len({tuple(order[:10]) for order in orders}) == 5
    for order in orders:
        # The space's own order would see one first operator in the first 250.
        assert len({tokens[0] for tokens in order[:250]}) >= 20


def test_a_space_of_one_candidate_ends_after_it() -> None:
    one = SearchSpace(OperatorSet("one", PAPER.unary[:1], PAPER.binary[:1]), core_units=1)
    assert visited(one, 0, shuffle=True) == visited(one, 0, shuffle=False) == [()]
    for name in ("controller", "evolution"):
        with pytest.raises(ValueError, match="`space` must have at least one decision"):
            STRATEGIES[name]().build(one)


def test_a_huge_space_is_shuffled_without_memory() -> None:
    space = SearchSpace(PAPER, core_units=8)
    assert space.size > 2**100
    strategy = ExhaustiveConfig(shuffle=True).build(space)
    state, seen = strategy.init(seed=0), []
    for _ in range(200):
        state, proposal = ask(strategy, decode_state(encode_state(state)))
        seen.append(proposal.tokens)
    assert len(set(seen)) == 200
    # Every decision takes part, the slowest of the enumeration too.
    assert all(len(set(column)) > 1 for column in zip(*seen, strict=True))


def test_random_search_is_uniform_and_independent() -> None:
    strategy = RandomConfig().build(TINY)
    state, counts, pairs = strategy.init(seed=5), np.zeros(TINY.size), np.zeros((3, 3))
    previous = None
    for _ in range(3600):
        state, proposal = ask(strategy, state)
        index = np.ravel_multi_index(proposal.tokens, [len(d.choices) for d in TINY.decisions])
        counts[index] += 1
        if previous is not None:
            pairs[previous, proposal.tokens[0]] += 1
        previous = proposal.tokens[0]
    # χ² with 17 and 8 degrees of freedom: 51 and 36 have p < 3e-5.
    assert np.sum((counts - 200) ** 2 / 200) < 51
    assert np.sum((pairs - 400) ** 2 / 400) < 36
