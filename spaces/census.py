"""What a space holds: how many candidates are invalid, constant, equal to another, and left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from .canonical import canonical
from .fingerprint import FingerprintIndex, fingerprint_of
from .preflight import run_preflight
from .probe import Prober
from .program import OperatorTable
from .space import SearchSpace

BATCH = 64
"""Candidates between two reports of progress."""


@dataclass(frozen=True, slots=True)
class Census:
    """Counts over `counted` candidates; they add up."""

    size: int
    """Candidates in the space, exactly."""
    counted: int
    """Candidates that were looked at: all, or a uniform sample."""
    invalid: int
    """A value or gradient is not finite."""
    constant: int
    """Independent of x."""
    duplicate: int
    """Equal to one that was counted before."""
    distinct: int
    """Left to be trained."""

    @property
    def complete(self) -> bool:
        """Whether every candidate was looked at."""
        return self.counted == self.size


def take_census(
    space: SearchSpace,
    *,
    sample: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Census:
    """Counts a space, or a uniform sample of it.

    Args:
        space: The space.
        sample: How many candidates to draw; None enumerates all of them.
        seed: Seed of the draw.
        progress: Called with how many are done and how many there are.
    """
    rng = np.random.default_rng(seed)
    total = space.size if sample is None else sample
    draws = iter(space) if sample is None else (space.sample(rng) for _ in range(sample))
    prober = Prober(OperatorTable.for_run(space.operators, core_units=space.core_units))
    index: FingerprintIndex[str] = FingerprintIndex()
    verdicts: dict[str, str] = {}
    counts: dict[str, int] = dict.fromkeys(("invalid", "constant", "duplicate", "distinct"), 0)
    done = 0
    while batch := tuple(islice(draws, BATCH)):
        candidates = [canonical(space.candidate(tokens), space.operators) for tokens in batch]
        fresh = list({str(c): c for c in candidates if str(c) not in verdicts}.values())
        for candidate, probe in zip(fresh, prober.probe(fresh), strict=True):
            verdict, _ = run_preflight(probe)
            if verdict == "ok":
                found = fingerprint_of(probe)
                verdict = "distinct" if index.find(found) is None else "duplicate"
                if verdict == "distinct":
                    index.add(str(candidate), found)
            verdicts[str(candidate)] = verdict
        for candidate in candidates:
            verdict = verdicts[str(candidate)]
            counts[verdict] += 1
            if verdict == "distinct":
                verdicts[str(candidate)] = "duplicate"
        done += len(candidates)
        if progress is not None:
            progress(done, total)
    return Census(size=space.size, counted=total, **counts)
