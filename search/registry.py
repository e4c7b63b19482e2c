"""The strategies by the names that `--strategy` takes.

Importing this costs NumPy alone: a strategy that needs jax imports it in `build`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .controller import ControllerConfig
from .evolution import EvolutionConfig
from .exhaustive import ExhaustiveConfig
from .random_search import RandomConfig
from .strategy import StrategyConfig

STRATEGIES: Mapping[str, type[StrategyConfig]] = MappingProxyType(
    {
        "exhaustive": ExhaustiveConfig,
        "random": RandomConfig,
        "controller": ControllerConfig,
        "evolution": EvolutionConfig,
    }
)
"""Name → config class; `STRATEGIES[name]().build(space)` is a strategy with its defaults."""
