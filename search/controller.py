"""The RNN controller: proposes candidates decision by decision, and learns from rewards by PPO.

Ramachandran et al. 2017, §2: candidates are drawn in batches into a queue, workers take them, and
when a batch of rewards is in, the controller is updated. The network is in `lstm`, the update in
`ppo`; here is the strategy around them, whose state is plain data: parameters, Adam's moments, the
moving average of rewards, a key, the queue of candidates not yet asked for and the buffer of those
told since the last update.

A candidate's log-probabilities are recorded when it is drawn and come back with its reward, so PPO
knows the policy that drew it however late the reward is. After an update what is left of the queue
is thrown away and drawn anew, so that candidates come from the newest policy the lag allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .strategy import Proposal, State, checked

if TYPE_CHECKING:
    from spaces import SearchSpace

_LARGEST_REWARD = 1e6
"""A larger reward, or smaller than minus this, counts as this: its square is far inside float32.
Accuracies are 0 to 1."""

_LARGEST = {"init_scale": 100, "learning_rate": 1, "clip": 1000, "entropy_weight": 1000}
"""Options beyond these leave the range of float32 sooner than they learn: Adam moves a weight by
about the learning rate at every step, and weights start around 0.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerConfig:
    """Options of the controller.

    The paper's hyperparameters are not published. The defaults are NASNet's (Zoph et al. 2018,
    arXiv 1707.07012) but for two: its learning rate of 3.5e-4 is slow for a search of hundreds of
    trials, and its entropy weight of 1e-5 lets a faster controller collapse. Best reward found
    within 300 and 600 different candidates (a repeated one costs nothing, 1,000 repeats in a row
    end a run), lag 4, mean over 16 seeds that were not used for choosing:

    | learning rate, entropy weight | additive      | failures      | curve         | different |
    |-------------------------------|---------------|---------------|---------------|-----------|
    | random search                 | 0.693   0.698 | 0.772   0.776 | 0.777   0.791 |       600 |
    | 3.5e-4, 1e-5 (NASNet's)       | 0.731   0.805 | 0.770   0.792 | 0.765   0.782 |       597 |
    | 2e-3, 1e-5                    | 0.792   0.803 | 0.781   0.819 | 0.759   0.778 |       333 |
    | 2e-3, 3e-3 (the defaults)     | 0.772   0.811 | 0.783   0.820 | 0.771   0.799 |       600 |
    | regularized evolution         | 0.785   0.804 | 0.817   0.830 | 0.809   0.851 |       600 |

    All on spaces of two core units; *additive*: operators and neighbouring pairs have qualities
    (`tests/search/test_controller.py`); *failures*: the same under a square root, 8 % of the
    operators fail at a reward of 0.1, noise 0.015; *curve*: closeness on [-4, 4] to a function of
    the paper's Fig. 3, noise 0.01; *different*: candidates on *additive* before a run ended.
    """

    hidden: int = 100
    """Width H of the LSTM, and of its embeddings."""
    init_scale: float = 0.1
    """Weights start uniform in ± this."""
    batch_size: int = 20
    """Rewards B that make an update."""
    epochs: int = 10
    """Gradient steps on a batch, each over all of it."""
    learning_rate: float = 2e-3
    """Learning rate of Adam."""
    clip: float = 0.2
    """PPO's ε: a probability ratio outside 1 ± ε is given no further push."""
    entropy_weight: float = 3e-3
    """Weight of the entropy bonus, in reward per nat; choices whose rewards differ by less than
    about this are kept alive."""
    baseline_decay: float = 0.95
    """Decay of the moving average of rewards, per reward; it starts at the first batch's mean."""

    def __post_init__(self) -> None:
        for name in ("hidden", "batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be ≥ 1, got {getattr(self, name)}")
        for name in ("init_scale", "learning_rate", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"`{name}` must be > 0 and finite, got {getattr(self, name)}")
        if not 0 <= self.entropy_weight < float("inf"):
            raise ValueError(f"`entropy_weight` must be ≥ 0 and finite, got {self.entropy_weight}")
        for name, largest in _LARGEST.items():
            if getattr(self, name) > largest:
                raise ValueError(f"`{name}` must be ≤ {largest}, got {getattr(self, name)}")
        if not 0 <= self.baseline_decay < 1:
            raise ValueError(f"`baseline_decay` must be in [0, 1), got {self.baseline_decay}")

    def build(self, space: SearchSpace) -> Controller:
        """Returns the controller over `space`; imports jax."""
        return Controller(space, self)


class Controller:
    """See the module."""

    learns = True

    def __init__(self, space: SearchSpace, config: ControllerConfig) -> None:
        # Those who only read a config or a registry must not pay for jax.
        from . import lstm, ppo

        choices = tuple(len(decision.choices) for decision in space.decisions)
        if not choices:
            raise ValueError("`space` must have at least one decision, got none")
        self._lstm, self._ppo = lstm, ppo
        self._names = [list(decision.choices) for decision in space.decisions]
        self._config = config
        self._shape = lstm.Shape(choices, config.hidden)
        self._hyper = ppo.Hyperparameters(
            learning_rate=config.learning_rate,
            clip=config.clip,
            entropy_weight=config.entropy_weight,
            epochs=config.epochs,
        )

    @property
    def checkpoint_every(self) -> int:
        """A batch: between two updates nothing is learned that asking again would not give."""
        return self._config.batch_size

    def init(self, *, seed: int) -> State:
        """Returns the state of a search that has proposed nothing."""
        key, first = np.random.SeedSequence(seed).generate_state(4, np.uint32).reshape(2, 2)
        params = self._lstm.initial(first, shape=self._shape, init_scale=self._config.init_scale)
        params = _plain(params)
        return {
            "params": params,
            "adam": {
                "count": np.zeros((), np.int32),
                "mu": _zeros(params),
                "nu": _zeros(params),
            },
            "baseline": None,
            "mean_reward": None,
            "key": key,
            "queue": self._empty(),
            "told": [],
            "entropy": None,
            "probabilities": np.zeros((0, 0), np.float32),
        }

    def ask(self, state: State) -> tuple[State, Proposal | None]:
        """Returns the head of the queue, drawing a batch when it is empty; never None."""
        if not len(state["queue"]["tokens"]):
            state = self._refilled(state)
        tokens, log_probs = state["queue"]["tokens"], state["queue"]["log_probs"]
        proposal = Proposal(tuple(tokens[0].tolist()), {"log_probs": log_probs[0].tolist()})
        return {
            **state,
            "queue": {"tokens": tokens[1:], "log_probs": log_probs[1:]},
        }, proposal

    def tell(self, state: State, proposal: Proposal, reward: float | None) -> State:
        """Notes the reward; when a batch of them is in, updates the network."""
        entry = {
            "tokens": list(proposal.tokens),
            "log_probs": list(proposal.details["log_probs"]),
            "reward": _bounded(checked(reward)),
        }
        state = {**state, "told": [*state["told"], entry]}
        return self._updated(state) if len(state["told"]) == self._config.batch_size else state

    def metrics(self, state: State) -> dict[str, float | list]:
        """Returns what is known of these.

        `mean_reward` of the last batch told, `baseline`; and of the last batch drawn: `entropy` in
        nats, mean over candidates of the sum over decisions, and `probabilities`, for each decision
        a list with each choice's probability, averaged over the candidates. `choices` has their
        names in the same order, so that who only reads the journal need not know the operators.
        """
        known = {
            "mean_reward": state["mean_reward"],
            "baseline": state["baseline"],
            "entropy": state["entropy"],
            "probabilities": [
                [round(p, 6) for p in row[:count].tolist()]
                # Before the first batch there are no rows.
                for row, count in zip(state["probabilities"], self._shape.choices, strict=False)
            ],
        }
        if known["probabilities"]:
            known["choices"] = self._names
        return {name: value for name, value in known.items() if value not in (None, [])}

    def _refilled(self, state: State) -> State:
        """Draws a batch into the empty queue."""
        key, rollout = self._lstm.sample(
            state["params"],
            state["key"],
            shape=self._shape,
            batch=self._config.batch_size,
        )
        tokens, log_probs, entropy, probabilities = (np.asarray(leaf) for leaf in rollout)
        return {
            **state,
            "key": np.asarray(key),
            "queue": {"tokens": tokens, "log_probs": log_probs},
            "entropy": float(entropy.sum(axis=1).mean()),
            "probabilities": probabilities.mean(axis=0),
        }

    def _updated(self, state: State) -> State:
        """Learns from the full buffer, and empties it.

        An update that leaves the range of float32 is not made: the network stays as it was.
        """
        told = state["told"]
        state = {**state, "told": []}
        known = [entry["reward"] for entry in told if entry["reward"] is not None]
        if not known:
            return state
        mean = sum(known) / len(known)
        baseline = mean if state["baseline"] is None else state["baseline"]
        decay = self._config.baseline_decay
        advantages = np.zeros(len(told), np.float32)
        weights = np.zeros(len(told), np.float32)
        for index, entry in enumerate(told):
            if entry["reward"] is not None:
                advantages[index] = entry["reward"] - baseline
                weights[index] = 1 / len(known)
                baseline = decay * baseline + (1 - decay) * entry["reward"]
        batch = self._ppo.Batch(
            tokens=np.array([entry["tokens"] for entry in told], np.int32),
            log_probs=np.array([entry["log_probs"] for entry in told], np.float32),
            advantages=advantages,
            weights=weights,
        )
        params, adam = self._ppo.update(
            state["params"],
            self._ppo.Moments(**state["adam"]),
            batch,
            shape=self._shape,
            hyper=self._hyper,
        )
        learned = {"params": _plain(params), "adam": _plain(adam._asdict())}
        return {
            **state,
            **(learned if _finite(learned) else {}),
            "baseline": baseline,
            "mean_reward": mean,
            "queue": self._empty(),
        }

    def _empty(self) -> dict[str, np.ndarray]:
        """Returns a queue with nothing in it."""
        none = (0, len(self._shape.choices))
        return {
            "tokens": np.zeros(none, np.int32),
            "log_probs": np.zeros(none, np.float32),
        }


def _bounded(reward: float | None) -> float | None:
    """Returns the reward within ± `_LARGEST_REWARD`."""
    return None if reward is None else min(max(reward, -_LARGEST_REWARD), _LARGEST_REWARD)


def _finite(tree: Any) -> bool:
    """Whether nested dicts of arrays hold finite numbers only."""
    if isinstance(tree, dict):
        return all(map(_finite, tree.values()))
    return bool(np.isfinite(tree).all())


def _plain(tree: Any) -> Any:
    """Returns nested dicts of arrays as NumPy arrays."""
    if isinstance(tree, dict):
        return {name: _plain(leaf) for name, leaf in tree.items()}
    return np.asarray(tree)


def _zeros(tree: Any) -> Any:
    """Returns zeros in the shape of nested dicts of arrays."""
    if isinstance(tree, dict):
        return {name: _zeros(leaf) for name, leaf in tree.items()}
    return np.zeros_like(tree)
