"""Plans a run: what is trained next, and what the strategy is told, in an order of its own.

The order is that of proposals, never that of arrival: proposal t is made when the outcomes of all
proposals up to t − W have been told, and no later ones, however many workers there are. W, the
window, belongs to the run. So one seed makes one history, and a run that was interrupted goes on
as if it had not been: the strategy is restored from its last snapshot and asked again, and must
answer with the proposals that the journal has. A strategy that learns nothing is told nothing, and
waits for nothing.

Rungs are successive halving (Jamieson, Talwalkar, AISTATS 2016): every candidate is trained on the
first rung's budget, the best of them again from scratch on the next one's. The strategy is told the
first rung only. Where a rung trains as the one before it does, with more seeds, its first trials
are those of the rung before, under numbers of their own. Likewise a run that grew from another has
that one's trials: they are planned as any others, and have their outcomes at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from spaces import Candidate, OperatorTable, SearchSpace

from .examine import Examiner
from .journal import Journal, JournalError
from .known import Known
from .outcome import Outcome, Trial
from .ranking import standing
from .schema import CandidateRow, ProposalRow
from .standings import Standings
from .state import decode_state, encode_state
from .strategy import Proposal, State, Strategy

REPEATS = 1_000
"""A strategy that proposes so many times in a row nothing new is at its end."""

TOGETHER = 32
"""Proposals that one transaction has at most: the driver must not be away for long, in which nobody
takes results; with a window of thousands it would make thousands at once, a millisecond or two each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is to do; it never changes once the run exists."""

    trials: int
    """Trials on the first rung, baselines and what is known already not counted; each replicate
    counts."""
    window: int
    """W: a proposal depends on outcomes that are at least so many proposals older, if on any."""
    chance: float
    """Accuracy of guessing: the reward of invalid, constant and diverged candidates."""
    replicates: tuple[int, ...] = (1,)
    """For each rung, how many seeds a candidate is trained with."""
    promoted: tuple[int, ...] = ()
    """How many candidates go on from each rung to the next; one fewer than there are rungs."""
    repeated: frozenset[int] = frozenset()
    """Rungs that train as the rung before them does, with more seeds: what that one trained is
    taken over."""
    steps: tuple[int, ...] = ()
    """For each rung, how many steps its children are trained; empty: what earlier runs know is not
    looked for."""
    seed: int = 0
    """Seed of the strategy."""

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("window", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be ≥ {least}, got {getattr(self, name)}")
        if len(self.promoted) != len(self.replicates) - 1:
            raise ValueError(
                f"`promoted` must have one entry fewer than `replicates`, got {self.promoted} and "
                f"{self.replicates}"
            )
        if len(self.steps) not in (0, len(self.replicates)):
            raise ValueError(
                f"`steps` must have an entry for each rung or none, got {self.steps} and "
                f"{self.replicates}"
            )


class Planner:
    """Turns proposals into trials and outcomes into rewards, and journals both.

    Args:
        plan: The run's budget.
        space: Where candidates come from.
        table: What programs may name: the space's operators and the baselines'.
        strategy: Who proposes.
        baselines: Known functions that are trained first, on every rung.
        journal: The run's journal, new or with everything that happened so far.

    Raises:
        JournalError: The journal does not fit what the strategy does now.
    """

    def __init__(
        self,
        plan: Plan,
        space: SearchSpace,
        table: OperatorTable,
        strategy: Strategy,
        baselines: Sequence[Candidate],
        journal: Journal,
    ) -> None:
        self.plan = plan
        self._space = space
        self._strategy = strategy
        self._journal = journal
        self._examiner = Examiner(space.operators, table, journal)
        self._standings = Standings(plan.replicates, plan.chance)
        self._known = Known(journal)
        self._proposals: dict[int, tuple[Proposal, int]] = {}
        """Those that a strategy that learns has not been told of, each with its candidate."""
        self._told = 0
        self._next = 0
        self._repeats = 0
        self._budgeted = 0
        self._baselines: set[int] = set()
        self._waiting: deque[Trial] = deque()
        self._attempts = journal.attempts()
        self._rung = 0
        self.proposing = True
        self.ending = ""
        self._state: State = strategy.init(seed=plan.seed)
        self._restore()
        if not self._standings.planned:
            with journal.transaction():
                for number in self._examiner.examine(baselines):
                    if self._examiner.root(number) == number and number not in self._baselines:
                        self._plan_trials(journal.candidate(number), rung=0, baseline=True)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to be trained or told."""
        return not self.proposing and not self._open and self._rung == len(self.plan.promoted)

    @property
    def learns(self) -> bool:
        """Whether proposals wait for rewards."""
        return self._strategy.learns

    @property
    def proposals(self) -> int:
        """How many proposals the strategy has made."""
        return self._next

    @property
    def done(self) -> int:
        """Trials with an outcome."""
        return self._standings.done

    @property
    def known(self) -> int:
        """Trials whose outcome an earlier run had."""
        return len(self._known.trials)

    @property
    def expected(self) -> int:
        """Trials that the finished run will have, as far as can be told now."""
        ahead = max(0, self.plan.trials - self._budgeted) if self.proposing else 0
        later = sum(
            (count + len(self._baselines)) * replicates
            for count, replicates in zip(
                self.plan.promoted[self._rung :],
                self.plan.replicates[self._rung + 1 :],
                strict=True,
            )
        )
        return self._standings.planned + ahead + later

    def best(self) -> tuple[float, str] | None:
        """The highest reward of any trial on the highest rung so far, and its function."""
        found = self._standings.best(self._rung)
        return None if found is None else (found[0], self.formula(found[1]))

    def formula(self, candidate: int) -> str:
        """A candidate as people read it."""
        return self._journal.candidate(candidate).formula

    def due(self, count: int) -> list[Trial]:
        """Up to `count` trials that shall be dispatched now."""
        while len(self._waiting) < count and self._advance():
            pass
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def look_ahead(self, count: int) -> None:
        """Plans some more unless `count` trials wait, as far as the order of things allows it now."""
        if len(self._waiting) < count:
            self._advance()

    def record(self, results: Sequence[tuple[Trial, Outcome]]) -> None:
        """Commits what came of trials, together; from then on they count as done."""
        if results:
            with self._journal.transaction():
                for trial, outcome in results:
                    self._journal.add_outcome(trial.id, outcome)
            for trial, outcome in results:
                self._standings.note(trial.id, outcome)

    def attempts(self, trial: Trial) -> int:
        """How often a worker died under a trial."""
        return self._attempts.get(trial.id, 0)

    def attempt(self, trial: Trial) -> int:
        """Commits that a worker died under a trial; returns how often that happened to it."""
        with self._journal.transaction():
            self._attempts[trial.id] = self._journal.add_attempt(trial.id)
        return self._attempts[trial.id]

    def give_back(self, trial: Trial) -> None:
        """Puts a trial that has to be run again in front of the others."""
        self._waiting.appendleft(trial)

    def _advance(self) -> bool:
        """Makes more trials, if the order of things allows it now."""
        if self.proposing and self._propose():
            return True
        if not self.proposing and self._open == 0 and self._rung < len(self.plan.promoted):
            return self._promote()
        return False

    def _propose(self) -> bool:
        """Proposals that may be made now, a handful in one transaction."""
        count = self._askable()
        if not count:
            return False
        last = self._next + TOGETHER
        with self._journal.transaction():
            while count := min(count, last - self._next):
                asked = self._ask(count)
                found = [self._space.candidate(proposal.tokens) for proposal in asked]
                for proposal, number in zip(asked, self._examiner.examine(found), strict=True):
                    self._journal.add_proposal(
                        ProposalRow(self._next, number, proposal.tokens, proposal.details)
                    )
                    self._accept(proposal, number)
                if asked and self._next % self._strategy.checkpoint_every == 0:
                    self._snapshot()
                if len(asked) < count:
                    self._end("every candidate of the space has been proposed")
                count = self._askable()
        return True

    def _askable(self) -> int:
        """How many proposals may be made whatever comes of them: what ends the search, the next
        snapshot and what the strategy is to be told first are as if they were made one by one.
        """
        if not self.proposing:
            return 0
        if self._budgeted >= self.plan.trials:
            self._end("")
            return 0
        if self._repeats >= REPEATS:
            self._end(
                f"the strategy proposed nothing new {REPEATS} times in a row: "
                f"{self._budgeted} of {self.plan.trials} trials were made"
            )
            return 0
        every = self._strategy.checkpoint_every
        count = min(
            -(-(self.plan.trials - self._budgeted) // self.plan.replicates[0]),
            REPEATS - self._repeats,
            every - self._next % every,
        )
        if not self.learns:
            return count
        count = min(count, self.plan.window)
        first = self._next - self.plan.window  # what has to be resolved for one more
        to_tell = range(self._told, first + count)
        return next((t for t in to_tell if not self._resolved(t)), first + count) - first

    def _ask(self, count: int) -> list[Proposal]:
        """So many proposals; fewer at the end of the space."""
        asked: list[Proposal] = []
        while len(asked) < count:
            self._tell(self._next + len(asked) - self.plan.window + 1)
            self._state, proposal = self._strategy.ask(self._state)
            if proposal is None:
                break
            asked.append(proposal)
        return asked

    def _tell(self, until: int) -> None:
        """Tells the strategy the rewards of proposals up to `until`, exclusive, in order."""
        while self.learns and self._told < until:
            proposal, candidate = self._proposals.pop(self._told)
            self._state = self._strategy.tell(self._state, proposal, self._reward(candidate))
            self._told += 1

    def _accept(self, proposal: Proposal, candidate: int) -> None:
        """Numbers a proposal, and plans its trials if nobody has planned them."""
        if self.learns:
            self._proposals[self._next] = (proposal, candidate)
        self._next += 1
        root = self._examiner.root(candidate)
        if root is None or self._standings.has(root, 0):
            self._repeats += 1
        else:
            self._repeats = 0
            self._plan_trials(self._examiner.row(root), rung=0, baseline=False)

    def _end(self, reason: str) -> None:
        self.proposing = False
        self.ending = reason

    def _resolved(self, t: int) -> bool:
        root = self._examiner.root(self._proposals[t][1])
        return root is None or self._standings.complete(root, 0)

    def _reward(self, candidate: int) -> float | None:
        """Mean accuracy on the first rung; chance for what is useless; None if nobody knows."""
        root = self._examiner.root(candidate)
        return self.plan.chance if root is None else self._standings.reward(root, 0)

    def _plan_trials(self, row: CandidateRow, *, rung: int, baseline: bool) -> None:
        for replicate in range(self.plan.replicates[rung]):
            number = self._standings.planned + 1
            trial = Trial(number, row.id, row.expression, replicate, rung, baseline)
            self._journal.add_trial(trial)
            earlier = self._earlier(trial)
            if earlier is None and self.plan.steps:
                earlier = self._known.take(trial, row, self.plan.steps[rung])
            self._adopt(trial)
            if earlier is None:
                self._waiting.append(trial)
            else:
                self._journal.add_outcome(trial.id, earlier)
                self._standings.note(trial.id, earlier)

    def _earlier(self, trial: Trial) -> Outcome | None:
        """What came of the same training on the rung before, if there was one."""
        before = trial.rung - 1
        if trial.rung not in self.plan.repeated or trial.replicate >= self.plan.replicates[before]:
            return None
        same = self._standings.first(trial.candidate, before) + trial.replicate
        outcome = self._journal.outcome(same)
        if outcome is None or outcome.status == "failed":
            return None
        return replace(outcome, seconds=0.0, details={**outcome.details, "same_as": same})

    def _adopt(self, trial: Trial) -> None:
        self._standings.plan(trial)
        if trial.baseline:
            self._baselines.add(trial.candidate)
        elif trial.rung == 0 and trial.id not in self._known.trials:
            self._budgeted += 1

    @property
    def _open(self) -> int:
        """Trials that are planned and have no outcome."""
        return self._standings.planned - self._standings.done

    def _promote(self) -> bool:
        """Sends the best of a finished rung, and every baseline, to the next one."""
        ordered = sorted(
            self._standings.candidates(self._rung),
            key=lambda candidate: (
                standing(self._standings.known(candidate, self._rung)),
                candidate,
            ),
        )
        ordinary = [candidate for candidate in ordered if candidate not in self._baselines]
        going_on = self._baselines.union(ordinary[: self.plan.promoted[self._rung]])
        self._rung += 1
        with self._journal.transaction():
            for candidate in ordered:
                if candidate in going_on:
                    self._plan_trials(
                        self._journal.candidate(candidate),
                        rung=self._rung,
                        baseline=candidate in self._baselines,
                    )
        return True

    def _snapshot(self) -> None:
        self._journal.put_snapshot(
            self._next, encode_state(self._state), self._strategy.metrics(self._state)
        )

    def conclude(self) -> None:
        """Tells the strategy what is still untold and keeps its last state: the run is finished."""
        if self._journal.meta("finished") is not None:
            return
        self._tell(self._next)
        with self._journal.transaction():
            self._snapshot()
            self._journal.put_meta("finished", self.ending or "done")

    def _restore(self) -> None:
        """Takes up everything that the journal has, and checks that the strategy agrees with it."""
        for trial, outcome in self._journal.trials(details=False):
            self._rung = max(self._rung, trial.rung)
            self._adopt(trial)
            if outcome is None:
                self._waiting.append(trial)
            else:
                self._standings.note(trial.id, outcome)
        met = set(self._baselines)
        for candidate in self._journal.proposed():
            root = self._examiner.root(candidate)
            self._repeats = self._repeats + 1 if root is None or root in met else 0
            met.add(root or 0)
        snapshot = self._journal.snapshot()
        if snapshot is not None:
            try:
                self._next, self._state = snapshot[0], decode_state(snapshot[1])
            except (ValueError, RecursionError) as error:
                raise JournalError(
                    f"the strategy's state in the journal of {self._journal.folder} cannot be read: "
                    f"{error}"
                ) from None
            self._told = max(0, self._next - self.plan.window)
        for row in self._journal.proposals(since=self._told):
            proposal = Proposal(row.tokens, row.details)
            if row.t >= self._next:
                self._replay(row, proposal)
                self._next = row.t + 1
            if self.learns:
                self._proposals[row.t] = (proposal, row.candidate)
        if self._rung:
            self._end("")

    def _replay(self, row: ProposalRow, proposal: Proposal) -> None:
        asked = self._ask(1)
        if not asked or asked[0].tokens != proposal.tokens:
            raise JournalError(
                f"proposal {row.t} in the journal of {self._journal.folder} is not what the "
                f"strategy proposes now: another version of actsearch or of its libraries made it"
            )
