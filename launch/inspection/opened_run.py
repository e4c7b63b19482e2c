"""A run opened for reading from Python: while it goes on, or long after, from its folder alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from search.journal import Journal
from search.schema import CandidateRow
from spaces import (
    Candidate,
    OperatorSet,
    OperatorSetError,
    OperatorSource,
    parse,
    read_source,
)
from spaces.catalogue import known_operators
from spaces.operator_source import BUILT_IN

from ..errors import RequestError
from ..run import CONFIG_NAME, read_run_config
from .details import details_of
from .frames import candidates_frame, trials_frame
from .function import Function
from .lookup import Found, Lookup
from .reading import reading
from .summary import Summary, summarise

if TYPE_CHECKING:
    import pandas as pd

    from .flax_activation import CandidateActivation


def open_run(folder: Path | str, *, operators: str | None = None) -> OpenedRun:
    """Opens a run for reading; nothing in its folder is changed or executed.

    Args:
        folder: The run's folder.
        operators: Where its own operators are, `FILE.py:NAME` or `module:NAME`; needed to call
            candidates of a run that has some, and only then.

    Raises:
        RequestError: It is no run, or its operators are others.
    """
    return OpenedRun(Path(folder), operators)


class OpenedRun:
    """A run as it is at the moment of each call; made by `open_run`."""

    def __init__(self, folder: Path, operators: str | None = None) -> None:
        self.folder = folder
        self.science, self.placement = read_run_config(folder)
        self._source = operators
        self._open = True
        with self._reading() as journal:
            there = journal.meta("operators_sha256") or ""
        if operators is not None:
            source = _source_of(operators)
            if source.sha256 != there:
                raise RequestError(
                    f"`operators`: {source.spec} is not what {folder} was made with "
                    f"(SHA-256 {source.sha256[:12]}…, there {there[:12]}…)"
                )

    def __enter__(self) -> OpenedRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Refuses further reading; nothing is held open between calls."""
        self._open = False

    def __repr__(self) -> str:
        with self._reading() as journal:
            _, done, _ = journal.pulse()
            state = "goes on or was stopped" if journal.meta("finished") is None else "finished"
        return f"<run {self.folder}: {done} trials done, {state}>"

    @contextmanager
    def _reading(self) -> Iterator[Journal]:
        if not self._open:
            raise RequestError(f"{self.folder} has been closed")
        with reading(self.folder) as journal:
            yield journal

    @property
    def config(self) -> dict[str, Any]:
        """The content of its config.json; `science` and `placement` are the same, checked."""
        return json.loads((self.folder / CONFIG_NAME).read_text(encoding="utf-8"))

    @property
    def finished(self) -> bool:
        """Whether nothing is left to be done."""
        with self._reading() as journal:
            return journal.meta("finished") is not None

    def summary(self) -> Summary:
        """What the run has come to: counts, effort, `history`."""
        with self._reading() as journal:
            return summarise(journal)

    def candidates(self) -> list[OpenedCandidate]:
        """Every function that was trained, best first; those without a reward are last."""
        with self._reading() as journal:
            lookup = Lookup(journal, self.folder, None)
        found = (lookup.at(rank) for rank in range(1, len(lookup.ranked) + 1))
        return [OpenedCandidate(self, each) for each in found]

    def best(self, n: int = 10) -> list[OpenedCandidate]:
        """The `n` best of them that have a reward."""
        if n < 1:
            raise RequestError(f"`n` must be ≥ 1, got {n}")
        return [each for each in self.candidates() if each.reward is not None][:n]

    def __iter__(self) -> Iterator[OpenedCandidate]:
        return iter(self.candidates())

    def __len__(self) -> int:
        """How many functions were trained."""
        return len(self.candidates())

    def __getitem__(self, wanted: int | str) -> OpenedCandidate:
        """One candidate.

        Args:
            wanted: Its rank, from 1, an expression in any spelling, or the name of a known
                function. A spelling that the run has not met is looked for by value.

        Raises:
            RequestError: The run has none; a near miss is suggested.
        """
        with self._reading() as journal:
            operators = self.operators if self.can_evaluate else None
            equal = _equal_in(journal, operators) if operators is not None else None
            lookup = Lookup(journal, self.folder, operators, equal)
            found = lookup.at(wanted) if isinstance(wanted, int) else lookup.find(str(wanted))
        return OpenedCandidate(self, found)

    def frame(self) -> pd.DataFrame:
        """One row per candidate that was met, best first: see `launch.inspection.frames.candidates_frame`."""
        with self._reading() as journal:
            return candidates_frame(journal)

    def trials_frame(self) -> pd.DataFrame:
        """One row per trial: see `launch.inspection.frames.trials_frame`."""
        with self._reading() as journal:
            return trials_frame(journal, self.science.search.ladder(self.science.train.steps))

    def details(self, found: Found) -> dict[str, Any]:
        """Everything that the run knows of a candidate: see `launch.inspection.details.details_of`."""
        with self._reading() as journal:
            ladder = self.science.search.ladder(self.science.train.steps)
            return details_of(journal, found, ladder)

    @property
    def can_evaluate(self) -> bool:
        """Whether its operators are at hand: the paper's, or those that were named."""
        return self._source is not None or self.science.space.operators == BUILT_IN

    @cached_property
    def operators(self) -> OperatorSet:
        """Its operators.

        Raises:
            RequestError: They are its own and were not named.
        """
        if not self.can_evaluate:
            raise RequestError(
                f"{self.folder} was made with operators of its own: name them, "
                f"open_run(…, operators={self.science.space.operators!r})"
            )
        try:
            return _source_of(self._source or BUILT_IN).load()
        except OperatorSetError as error:
            raise RequestError(str(error)) from None


class OpenedCandidate:
    """A candidate of a run: what was measured of it, and the function itself."""

    def __init__(self, run: OpenedRun, found: Found) -> None:
        self._run = run
        self._found = found
        self.rank = found.rank
        """Place in the ranking, from 1; None if nothing of it has been trained."""
        row, ranked = found.candidate.row, found.candidate
        self.expression = row.expression
        self.formula = row.formula
        self.latex = row.latex
        self.name = row.name
        """Title of the known function that it is, or None."""
        self.baseline = ranked.baseline
        self.reward = ranked.reward
        """Mean validation accuracy on its highest rung, 0 to 1, or None."""
        self.spread = ranked.spread
        self.loss = ranked.loss
        self.rung = ranked.rung
        self.seconds = ranked.seconds
        self.status = ranked.status
        self.reason = ranked.reason
        self.aliases = tuple(ranked.aliases)
        """Other spellings that were proposed."""

    def __repr__(self) -> str:
        told = self.status if self.reward is None else f"{100 * self.reward:.2f} %"
        return f"<{self.formula}: {told}>"

    def _repr_latex_(self) -> str:
        return f"${self.latex}$"

    def details(self) -> dict[str, Any]:
        """Everything that the run knows of it: trials, training curves, trained vectors, graph."""
        return self._run.details(self._found)

    @cached_property
    def function(self) -> Function:
        """The function itself.

        Raises:
            RequestError: The run's operators are its own and were not named.
        """
        operators = self._run.operators
        hidden = known_operators(operators).values()
        candidate = parse(self.expression, operators, hidden=hidden)
        return Function(candidate, operators, self._run.science.train.beta_init)

    @property
    def vectors(self) -> dict[str, float]:
        """Initial values of its trainable vectors by name."""
        return dict(self.function.vectors)

    def __call__(self, x: Any, **vectors: Any) -> Any:
        """f(x) of numbers or arrays: see `launch.inspection.function.Function`."""
        return self.function(x, **vectors)

    def flax(self, channels: int | None = None, **vectors: Any) -> CandidateActivation:
        """A Flax NNX module: see `launch.inspection.function.Function.flax`."""
        return self.function.flax(channels, **vectors)


def _source_of(spec: str) -> OperatorSource:
    try:
        return read_source(spec)
    except OperatorSetError as error:
        raise RequestError(str(error)) from None


def _equal_in(
    journal: Journal, operators: OperatorSet
) -> Callable[[Candidate, Sequence[CandidateRow]], int | None]:
    """Finds the candidate of a journal that equals one by value."""

    def find(candidate: Candidate, rows: Sequence[CandidateRow]) -> int | None:
        from spaces import FingerprintIndex, Prober, fingerprint_of

        index: FingerprintIndex[int] = FingerprintIndex()
        for row in journal.candidates():
            if row.fingerprint is not None:
                index.add(row.id, row.fingerprint)
        prober = Prober(Function(candidate, operators).table)
        found = fingerprint_of(prober.probe([candidate])[0])
        return index.find(found) if np.isfinite(found).all() else None

    return find
