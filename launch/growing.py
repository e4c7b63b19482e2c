"""A new run that grows from another one: it knows that one's rewards and goes on where it learnt.

Everything is checked before anything is made, and everything that the new run needs is copied into
its own journal: the run it grew from may be deleted. Nothing of that run is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.journal import Journal
from spaces import Decision, OperatorSet, OperatorSource, SearchSpace
from spaces.operator_source import BUILT_IN

from .config import Science
from .errors import RequestError
from .flags import differences, flags
from .inspection.reading import reading
from .run import read_run_config

if TYPE_CHECKING:
    from search.known import KnownTraining
    from search.state import State

TRAINING = frozenset(
    {"seed"} | {f.name for f in flags().values() if f.section == "train" and f.name != "steps"}
)
"""What has to be equal for a training to be the same; its steps are told apart one by one."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a run that grows from another begins with."""

    origin: Mapping[str, str]
    """`run` and `history_sha256` of that one."""
    write: Callable[[Journal], None]
    """Writes it into the new journal, within its first transaction."""


@contextmanager
def growing(
    parent: Path, science: Science, source: OperatorSource, data_sha256: str
) -> Iterator[Beginning]:
    """What the new run takes over from `parent`, for as long as the context lasts.

    Args:
        parent: The run that it grows from.
        science: What the new run is asked to do.
        source: Its operators.
        data_sha256: Digest of its images.

    Raises:
        RequestError: `parent` is no run, or its results are not those of the trainings asked for.
    """
    from search.known import known_trainings
    from search.ranking import history_sha256

    from .prepare import prepare_jax

    there, _ = read_run_config(parent)
    _check_training(parent, science, there)
    prepare_jax()
    operators = source.load()
    with reading(parent) as journal:
        _check_journal(parent, journal, science, data_sha256)
        _check_operators(parent, journal, science, source, operators)
        name = parent.resolve().name
        steps = [rung.steps for rung in there.search.ladder(there.train.steps)]
        state = _first_state(parent, journal, science, there, operators)

        def write(new: Journal) -> None:
            from search.known import keep

            keep(new, known_trainings(journal, name, steps))
            new.put_meta("from_run", name)
            if state is not None:
                new.put_snapshot(0, *state)

        yield Beginning({"run": name, "history_sha256": history_sha256(journal)}, write)


def _check_training(parent: Path, here: Science, there: Science) -> None:
    found = list(differences(here, there, TRAINING))
    if found:
        raise RequestError(f"`from`: what {parent} knows is of other trainings: {'; '.join(found)}")
    ours, theirs = (
        sorted({rung.steps for rung in each.search.ladder(each.train.steps)})
        for each in (here, there)
    )
    if not set(ours) & set(theirs):
        raise RequestError(
            f"`from`: what {parent} knows is of other trainings: `steps` is "
            f"{', '.join(map(str, theirs))} there, {', '.join(map(str, ours))} here"
        )
    strategies = {here.search.strategy, there.search.strategy}
    if strategies == {"controller"} and here.controller.hidden != there.controller.hidden:
        raise RequestError(
            f"`from`: the controller of {parent} has another width: `controller_hidden` is "
            f"{there.controller.hidden} there, {here.controller.hidden} here"
        )


def _check_journal(parent: Path, journal: Journal, here: Science, data_sha256: str) -> None:
    known = journal.meta("data_sha256")
    if known is None:
        raise RequestError(f"`from`: {parent} has trained nothing yet")
    if known != data_sha256:
        raise RequestError(
            f"`from`: the images of {here.train.dataset} are not those of {parent}: `data_sha256` "
            f"is {known[:12]}… there, {data_sha256[:12]}… here"
        )


def _check_operators(
    parent: Path, journal: Journal, here: Science, source: OperatorSource, operators: OperatorSet
) -> None:
    from search.meaning import operators_with_other_meaning

    others = operators_with_other_meaning(journal, operators, here.train.beta_init)
    if others:
        names = ", ".join(f"`{name}`" for name in others)
        raise RequestError(
            f"`operators`: {names} of {source.spec} means something else in {parent}: other values, "
            f"gradients or initial values under one name; rename it, or search without --from"
        )


def _first_state(
    parent: Path, journal: Journal, here: Science, there: Science, operators: OperatorSet
) -> tuple[bytes, Mapping[str, Any]] | None:
    """What the strategy begins with, encoded, and its metrics; None if it begins afresh."""
    from search.carry_over import controller_state, population_state
    from search.known import known_trainings
    from search.state import decode_state, encode_state

    space = SearchSpace(operators, here.space.core_units)
    ladders = [each.search.ladder(each.train.steps) for each in (here, there)]
    first = ladders[0][0].steps
    strategy = here.strategy_config().build(space)
    fresh: State = strategy.init(seed=here.search.seed)
    if here.search.strategy == "evolution":
        known: Iterator[KnownTraining] = known_trainings(
            journal, parent.name, [rung.steps for rung in ladders[1]]
        )
        size = here.evolution.population
        state = population_state(fresh, space, known, steps=first, population=size)
        return encode_state(state), strategy.metrics(state)
    snapshot = journal.snapshot()
    if {here.search.strategy, there.search.strategy} != {"controller"} or snapshot is None:
        return None
    try:
        before = _decisions(parent, journal, there)
        state = controller_state(
            decode_state(snapshot[1]),
            before,
            fresh,
            space.decisions,
            keep_baseline=ladders[1][0].steps == first,
        )
    except RequestError:
        raise
    except (ValueError, KeyError) as error:
        raise RequestError(f"`from`: the controller of {parent} cannot be read: {error}") from None
    return encode_state(state), strategy.metrics(state)


def _decisions(parent: Path, journal: Journal, there: Science) -> tuple[Decision, ...]:
    """The decisions of the run's space by the names of their choices."""
    from search.carry_over import decisions_of
    from spaces import PAPER

    core_units = there.space.core_units
    told = list(journal.metrics())
    choices = next((m["choices"] for _, m in reversed(told) if "choices" in m), None)
    if choices is not None:
        return decisions_of(choices, core_units)
    sha256 = journal.meta("operators_sha256")
    if there.space.operators == BUILT_IN and sha256 == PAPER.digest:
        return SearchSpace(PAPER, core_units).decisions
    raise RequestError(
        f"`from`: the controller of {parent} does not say what its choices are called"
    )
