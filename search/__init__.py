"""Proposes candidates and learns from rewards: strategies, journal, ranking. No Ray, no training.

Names that need JAX are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .controller import ControllerConfig as ControllerConfig
from .evolution import EvolutionConfig as EvolutionConfig
from .exhaustive import ExhaustiveConfig as ExhaustiveConfig
from .journal import Journal as Journal
from .journal import JournalError as JournalError
from .outcome import Outcome as Outcome
from .outcome import Trial as Trial
from .random_search import RandomConfig as RandomConfig
from .ranking import RankedCandidate as RankedCandidate
from .ranking import history_sha256 as history_sha256
from .ranking import rank as rank
from .registry import STRATEGIES as STRATEGIES
from .strategy import Proposal as Proposal
from .strategy import State as State
from .strategy import Strategy as Strategy
from .strategy import StrategyConfig as StrategyConfig

if TYPE_CHECKING:
    from .planner import Plan as Plan
    from .planner import Planner as Planner

_LAZY = {"Plan": "planner", "Planner": "planner"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
