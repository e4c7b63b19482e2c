"""What a run is asked to do: frozen dataclasses that are the Python API, the flags and config.json.

`launch.flags` makes options and documents of them.

Science decides what is found and never changes once a run exists. Placement decides where and how
long it runs, and may change whenever the run is resumed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from search.controller import ControllerConfig
from search.evolution import EvolutionConfig
from search.exhaustive import ExhaustiveConfig
from search.registry import STRATEGIES
from spaces import CATALOGUE, known_function
from spaces.space import MAX_CORE_UNITS
from spaces.suggest import did_you_mean
from trainers.config import TrainConfig

from .address import check_form

FORMS = ("traced", "specialised")
EXECUTIONS = ("auto", *FORMS)
BASELINES = ",".join(known.key for known in CATALOGUE if known.group == "baseline")


@dataclass(frozen=True, slots=True)
class Rung:
    """One fidelity of a run."""

    steps: int
    """Training steps, from scratch and on their own schedule."""
    replicates: int
    """Seeds that each candidate is trained with."""
    promoted: int | None
    """How many candidates go on to the next rung; None on the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceConfig:
    """Which functions may be found."""

    operators: str = "paper"
    """Operator set: `paper`, `FILE.py[:NAME]` or `module:NAME`."""
    core_units: int = 1
    """Core units of a candidate, 1 to 8."""

    def __post_init__(self) -> None:
        _whole("core_units", self.core_units, 1, MAX_CORE_UNITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """How they are looked for, and how long."""

    strategy: str = "controller"
    """Who proposes: exhaustive, random, controller or evolution."""
    trials: int = 60
    """Trials to train, baselines not counted; with rungs, trials of the first rung."""
    replicates: int = 1
    """Seeds that each candidate is trained with; with rungs, on the last rung."""
    rungs: str = ""
    """Successive halving, for example `60:400,300:60,1500:12`: train to 60 steps, 400 go on, …; the
    last number is how many are listed. A last rung of the same steps adds seeds to the one before,
    as `1500:12,1500:12` with `--replicates 3`. Empty: one rung of `--steps`."""
    baselines: str = BASELINES
    """Known functions trained beside the candidates: names with commas between, `all` or `none`."""
    window: int = 8
    """A proposal of a strategy that learns depends on outcomes at least so many proposals older,
    whatever the number of workers; four times their number keeps them busy."""
    seed: int = 0
    """Seed of everything: proposals, data split, initial weights, batches."""
    execution: str = "auto"
    """How candidates run: traced (one compilation for all), specialised (one each), or auto."""

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            near = did_you_mean(self.strategy, STRATEGIES)
            raise ValueError(
                f"`strategy` must be one of {', '.join(STRATEGIES)}, got {self.strategy!r}{near}"
            )
        if self.execution not in EXECUTIONS:
            raise ValueError(
                f"`execution` must be one of {', '.join(EXECUTIONS)}, "
                f"got {self.execution!r}{did_you_mean(self.execution, EXECUTIONS)}"
            )
        _whole("trials", self.trials, 1)
        _whole("replicates", self.replicates, 1)
        _whole("window", self.window, 1)
        _whole("seed", self.seed, 0, 2**31 - 1)
        _ = self.baseline_keys
        _ = self.ladder(1)

    @property
    def baseline_keys(self) -> tuple[str, ...]:
        """Keys in the catalogue."""
        if self.baselines in ("", "none"):
            return ()
        if self.baselines == "all":
            return tuple(known.key for known in CATALOGUE)
        keys = tuple(key.strip() for key in self.baselines.split(","))
        for key in keys:
            if len(keys) == 1 and (near := did_you_mean(key, ("all", "none"))):
                raise ValueError(f"unknown baseline `{key}`{near}")
            known_function(key)
        return keys

    def ladder(self, steps: int) -> tuple[Rung, ...]:
        """The rungs; `steps` is the budget of a run that has only one."""
        if not self.rungs:
            return (Rung(steps, self.replicates, None),)
        found = []
        parts = self.rungs.split(",")
        for number, part in enumerate(parts, start=1):
            budget, colon, count = part.partition(":")
            if not (colon and _is_count(budget.strip()) and _is_count(count.strip())):
                raise ValueError(
                    f"`rungs` must be STEPS:COUNT pairs with commas between, as 60:400,1500:12, "
                    f"got {self.rungs!r}"
                )
            last = number == len(parts)
            found.append(
                Rung(int(budget), self.replicates if last else 1, None if last else int(count))
            )
            if int(budget) < 1 or int(count) < 1:
                raise ValueError(f"`rungs` must have numbers ≥ 1, got {part!r}")
            if int(budget) >= 2**31:
                raise ValueError(f"`rungs` must have steps < 2147483648, got {part!r}")
        budgets = [rung.steps for rung in found]
        if budgets[:-1] != sorted(set(budgets[:-1])) or budgets != sorted(budgets):
            raise ValueError(
                f"`rungs` must have increasing steps, the last two may be equal, got {self.rungs!r}"
            )
        return tuple(found)

    @property
    def listed(self) -> int | None:
        """How many candidates a table of the run lists; None: as many as the table likes."""
        return int(self.rungs.rpartition(":")[2]) if self.rungs else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementConfig:
    """Where a run works and how long; may differ at every resume."""

    workers: str = "auto"
    """Children trained at a time: a number, or auto (as many as the machines hold)."""
    cpus_per_worker: int = 1
    """Cores of a worker, which is pinned to them on this machine. On a CPU they share each batch, and
    outcomes equal those of another number to rounding only."""
    gpus_per_worker: float = 0.0
    """GPUs of a worker; a fraction shares one."""
    resources: str = ""
    """Other Ray resources of a worker as JSON, for example {"TPU": 4}."""
    address: str = ""
    """A running Ray cluster: auto, HOST:PORT or ray://…; empty starts Ray on this machine."""
    ship: bool = False
    """Take this project's code along to the nodes of the cluster, which then need its libraries
    only."""
    node_timeout: str = "5m"
    """End the run when no node of a cluster has had room for a worker for this long: seconds, or
    with a unit, as 90m."""
    data_dir: str = ""
    """Folder with the data set's official files; empty downloads them once."""
    time_limit: str = ""
    """Stop after this long, to be resumed: seconds, or with a unit, as 90m or 8h."""
    grace: float = 30.0
    """Seconds that trials under way may still take after Ctrl-C."""
    trial_timeout: str = ""
    """Give a trial up after this long, compilation included, and record it as failed: seconds, or
    with a unit, as 90m; empty waits for ever."""

    def __post_init__(self) -> None:
        if self.workers != "auto" and not (_is_count(self.workers) and int(self.workers) >= 1):
            raise ValueError(
                f"`workers` must be auto or a number ≥ 1, "
                f"got {self.workers!r}{did_you_mean(self.workers, ['auto'])}"
            )
        check_form(self.address)
        _whole("cpus_per_worker", self.cpus_per_worker, 1)
        if not 0 <= self.gpus_per_worker < float("inf"):
            raise ValueError(f"`gpus_per_worker` must be ≥ 0, got {self.gpus_per_worker}")
        if self.gpus_per_worker > 1 and self.gpus_per_worker != int(self.gpus_per_worker):
            raise ValueError(
                f"`gpus_per_worker` must be a whole number above 1, got {self.gpus_per_worker}"
            )
        if not 0 <= self.grace < float("inf"):
            raise ValueError(f"`grace` must be ≥ 0 seconds, got {self.grace}")
        _ = self.custom_resources
        _ = self.time_limit_s, self.trial_timeout_s, self.node_timeout_s
        if self.ship and not self.address:
            raise ValueError(
                "`ship` takes code to a cluster: name one as `address`, or say --no-ship"
            )

    @property
    def custom_resources(self) -> dict[str, float]:
        """`resources` as a mapping."""
        if not self.resources:
            return {}
        try:
            found = json.loads(self.resources)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not all(map(_positive, found.values())):
            raise ValueError(
                f"`resources` must be a JSON object of positive numbers, whole above 1, "
                f'as {{"TPU": 4}}, got {self.resources[:200]!r}'
            )
        for name, flag in _NAMED_ELSEWHERE.items():
            if name in found:
                raise ValueError(f"`resources` must not name {name}{flag}, got {self.resources!r}")
        return {str(key): float(value) for key, value in found.items()}

    @property
    def platform(self) -> str:
        """What a worker computes on: `cpu`, `gpu` or `tpu`."""
        if self.gpus_per_worker:
            return "gpu"
        return "tpu" if "TPU" in self.custom_resources else "cpu"

    @property
    def time_limit_s(self) -> float | None:
        """`time_limit` in seconds."""
        return _duration("time_limit", self.time_limit)

    @property
    def node_timeout_s(self) -> float | None:
        """`node_timeout` in seconds; None: it waits for ever."""
        return _duration("node_timeout", self.node_timeout)

    @property
    def trial_timeout_s(self) -> float | None:
        """`trial_timeout` in seconds."""
        return _duration("trial_timeout", self.trial_timeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Science:
    """Everything that decides what a run finds."""

    space: SpaceConfig = field(default_factory=SpaceConfig)
    """Which functions may be found."""
    search: SearchConfig = field(default_factory=SearchConfig)
    """How they are looked for."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The child that judges them."""
    controller: ControllerConfig = field(default_factory=ControllerConfig)
    """Options of `--strategy controller`."""
    evolution: EvolutionConfig = field(default_factory=EvolutionConfig)
    """Options of `--strategy evolution`."""
    exhaustive: ExhaustiveConfig = field(default_factory=ExhaustiveConfig)
    """Options of `--strategy exhaustive`."""

    def strategy_config(self) -> Any:
        """The options of the strategy that the run uses."""
        return getattr(self, self.search.strategy, None) or STRATEGIES[self.search.strategy]()


_NAMED_ELSEWHERE = {
    "CPU": ", which is `--cpus-per-worker`",
    "GPU": ", which is `--gpus-per-worker`",
    "memory": ", which Ray counts itself",
    "object_store_memory": ", which Ray counts itself",
}
"""Ray's own resources, and what to say of them."""


def _duration(name: str, text: str) -> float | None:
    """Seconds that a text like 90m means; None of an empty one."""
    if not text:
        return None
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], units[text[-1]]) if text[-1] in units else (text, 1)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise ValueError(
            f"`{name}` must be seconds, or a number with s, m, h or d, as 90m, got {text!r}"
        )
    return seconds


def _is_count(text: str) -> bool:
    """Whether it is a whole number that somebody may mean."""
    return text.isdecimal() and len(text) <= 18


def _positive(value: Any) -> bool:
    """Whether Ray can count so many of something: a share of one, or whole ones."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value <= 1 or (value < 2**31 and value == int(value) > 0)


def _whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"`{name}` must be a whole number, got {value!r}")
    if value < least or (most is not None and value > most):
        allowed = f"≥ {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"`{name}` must be {allowed}, got {value}")
