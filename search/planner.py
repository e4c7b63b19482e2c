"""Plans a run: what is trained next, and what the strategy is told, in an order of its own.

The order is that of proposals, never that of arrival: proposal t is made when the outcomes of all
proposals up to t − W have been told, and no later ones, however many workers there are. W, the
window, belongs to the run. So one seed makes one history, and a run that was interrupted goes on
as if it had not been: the strategy is restored from its last snapshot and asked again, and must
answer with the proposals that the journal has.

Rungs are successive halving (Jamieson, Talwalkar, AISTATS 2016): every candidate is trained on the
first rung's budget, the best of them again from scratch on the next one's. The strategy is told the
first rung only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from spaces import Candidate, OperatorTable, SearchSpace

from .examine import Examiner
from .journal import Journal, JournalError, ProposalRow
from .outcome import Outcome, Trial
from .ranking import standing
from .state import decode_state, encode_state
from .strategy import Proposal, State, Strategy

REPEATS = 1_000
"""A strategy that proposes so many times in a row nothing new is at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is to do; it never changes once the run exists."""

    trials: int
    """Trials on the first rung, baselines not counted; each replicate counts."""
    window: int
    """W: a proposal depends on outcomes that are at least so many proposals older."""
    chance: float
    """Accuracy of guessing: the reward of invalid, constant and diverged candidates."""
    replicates: tuple[int, ...] = (1,)
    """For each rung, how many seeds a candidate is trained with."""
    promoted: tuple[int, ...] = ()
    """How many candidates go on from each rung to the next; one fewer than there are rungs."""
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
        self._examiner = Examiner(space.operators, table)
        self._proposals: dict[int, tuple[Proposal, int]] = {}
        self._told = 0
        self._next = 0
        self._repeats = 0
        self._planned = 0
        self._by_root: dict[tuple[int, int], list[Trial]] = {}
        self._outcomes: dict[int, tuple[float, float | None] | None] = {}
        self._waiting: deque[Trial] = deque()
        self._open = 0
        self._rung = 0
        self._number = 0
        self._baselines = 0
        self.proposing = True
        self.ending = ""
        self._state: State = strategy.init(seed=plan.seed)
        self._restore()
        if not self._number:
            with journal.transaction():
                for candidate in baselines:
                    row, new = self._examiner.examine(candidate)
                    if new:
                        journal.add_candidate(row)
                    if row.equal_to is None and row.verdict == "ok":
                        self._plan_trials(row.id, rung=0, baseline=True)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to be trained or told."""
        return not self.proposing and not self._open and self._rung == len(self.plan.promoted)

    @property
    def proposals(self) -> int:
        """How many proposals the strategy has made."""
        return self._next

    @property
    def done(self) -> int:
        """Trials with an outcome."""
        return len(self._outcomes)

    @property
    def expected(self) -> int:
        """Trials that the finished run will have, as far as can be told now."""
        ahead = max(0, self.plan.trials - self._planned) if self.proposing else 0
        later = sum(
            (count + self._baselines) * replicates
            for count, replicates in zip(
                self.plan.promoted[self._rung :],
                self.plan.replicates[self._rung + 1 :],
                strict=True,
            )
        )
        return self._number + ahead + later

    def best(self) -> tuple[float, str] | None:
        """The highest reward of any trial on the highest rung so far, and its function."""
        found = [
            (outcome[0], self._examiner[candidate].formula)
            for (candidate, rung), trials in self._by_root.items()
            for trial in trials
            if rung == self._rung and (outcome := self._outcomes.get(trial.id)) is not None
        ]
        return max(found, default=None)

    def formula(self, candidate: int) -> str:
        """A candidate as people read it."""
        return self._examiner[candidate].formula

    def due(self, count: int) -> list[Trial]:
        """Up to `count` trials that shall be dispatched now; planned further ahead if need be."""
        while len(self._waiting) < count and self._advance():
            pass
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def record(self, trial: Trial, outcome: Outcome) -> None:
        """Commits what came of a trial; from then on it counts as done."""
        with self._journal.transaction():
            self._journal.add_outcome(trial.id, outcome)
        self._note(trial, outcome)

    def attempt(self, trial: Trial) -> int:
        """Commits that a worker died under a trial; returns how often that happened to it."""
        with self._journal.transaction():
            return self._journal.add_attempt(trial.id)

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
        """Proposals up to the next one that makes a trial, in one transaction."""
        if not self._may_ask():
            return False
        with self._journal.transaction():
            while self._may_ask():
                proposal = self._ask()
                if proposal is None:
                    self._end("every candidate of the space has been proposed")
                    break
                row, new = self._examiner.examine(self._space.candidate(proposal.tokens))
                if new:
                    self._journal.add_candidate(row)
                self._journal.add_proposal(
                    ProposalRow(self._next, row.id, proposal.tokens, proposal.details)
                )
                fresh = self._accept(proposal, row.id)
                if self._next % self._strategy.checkpoint_every == 0:
                    self._snapshot()
                if fresh:
                    self._plan_trials(row.root, rung=0, baseline=False)
                    break
        return True

    def _may_ask(self) -> bool:
        if not self.proposing:
            return False
        if self._planned >= self.plan.trials:
            self._end("")
        elif self._repeats >= REPEATS:
            self._end(
                f"the strategy proposed nothing new {REPEATS} times in a row: "
                f"{self._planned} of {self.plan.trials} trials were made"
            )
        else:
            return all(
                self._resolved(t) for t in range(self._told, self._next - self.plan.window + 1)
            )
        return False

    def _ask(self) -> Proposal | None:
        self._tell(self._next - self.plan.window + 1)
        self._state, proposal = self._strategy.ask(self._state)
        return proposal

    def _tell(self, until: int) -> None:
        """Tells the strategy the rewards of proposals up to `until`, exclusive, in order."""
        while self._told < until:
            proposal, candidate = self._proposals.pop(self._told)
            self._state = self._strategy.tell(self._state, proposal, self._reward(candidate))
            self._told += 1

    def _accept(self, proposal: Proposal, candidate: int) -> bool:
        """Numbers a proposal; returns whether it asks for trials that nobody has planned."""
        row = self._examiner[candidate]
        fresh = row.verdict == "ok" and (row.root, 0) not in self._by_root
        self._proposals[self._next] = (proposal, candidate)
        self._repeats = 0 if fresh else self._repeats + 1
        self._next += 1
        return fresh

    def _end(self, reason: str) -> None:
        self.proposing = False
        self.ending = reason

    def _resolved(self, t: int) -> bool:
        row = self._examiner[self._proposals[t][1]]
        if row.verdict != "ok":
            return True
        return all(trial.id in self._outcomes for trial in self._by_root[row.root, 0])

    def _reward(self, candidate: int) -> float | None:
        """Mean accuracy on the first rung; chance for what is useless; None if nobody knows."""
        row = self._examiner[candidate]
        if row.verdict != "ok":
            return self.plan.chance
        found = [self._outcomes[trial.id] for trial in self._by_root[row.root, 0]]
        known = [outcome[0] for outcome in found if outcome is not None]
        return sum(known) / len(known) if known else None

    def _plan_trials(self, candidate: int, *, rung: int, baseline: bool) -> None:
        for replicate in range(self.plan.replicates[rung]):
            self._number += 1
            text = self._examiner[candidate].expression
            trial = Trial(self._number, candidate, text, replicate, rung, baseline)
            self._journal.add_trial(trial)
            self._adopt(trial)

    def _adopt(self, trial: Trial) -> None:
        self._by_root.setdefault((trial.candidate, trial.rung), []).append(trial)
        self._planned += not trial.baseline and trial.rung == 0
        self._baselines += trial.baseline and trial.rung == trial.replicate == 0
        self._waiting.append(trial)
        self._open += 1

    def _note(self, trial: Trial, outcome: Outcome) -> None:
        self._open -= 1
        if outcome.status == "failed":
            self._outcomes[trial.id] = None
        else:
            reward = outcome.reward if outcome.reward is not None else self.plan.chance
            self._outcomes[trial.id] = (reward, outcome.loss)

    def _promote(self) -> bool:
        """Sends the best of a finished rung, and every baseline, to the next one."""
        standings = []
        for (candidate, rung), trials in self._by_root.items():
            if rung == self._rung:
                found = [o for trial in trials if (o := self._outcomes[trial.id]) is not None]
                standings.append((standing(found), trials[0].baseline, candidate))
        standings.sort(key=lambda entry: (entry[0], entry[2]))
        ordinary = [c for _, baseline, c in standings if not baseline]
        going_on = set(ordinary[: self.plan.promoted[self._rung]])
        going_on |= {c for _, baseline, c in standings if baseline}
        self._rung += 1
        with self._journal.transaction():
            for _, baseline, candidate in standings:
                if candidate in going_on:
                    self._plan_trials(candidate, rung=self._rung, baseline=baseline)
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
        for row in self._journal.candidates():
            self._examiner.restore(row)
        for trial, outcome in self._journal.trials():
            self._number = trial.id
            self._rung = max(self._rung, trial.rung)
            self._adopt(trial)
            if outcome is not None:
                self._note(trial, outcome)
        self._waiting = deque(t for t in self._waiting if t.id not in self._outcomes)
        trials = {key for key in self._by_root if key[1] == 0}
        snapshot = self._journal.snapshot()
        firsts: set[tuple[int, int]] = {
            (trial.candidate, 0)
            for group in self._by_root.values()
            for trial in group
            if trial.baseline
        }
        for row in self._journal.proposals():
            key = (self._examiner[row.candidate].root, 0)
            fresh = key in trials and key not in firsts
            firsts.add(key)
            self._repeats = 0 if fresh else self._repeats + 1
            proposal = Proposal(row.tokens, row.details)
            if snapshot is None or row.t >= snapshot[0]:
                self._replay(row, proposal)
            self._proposals[row.t] = (proposal, row.candidate)
            self._next = row.t + 1
            if snapshot is not None and self._next == snapshot[0]:
                self._state = decode_state(snapshot[1])
                self._told = max(0, self._next - self.plan.window)
                for t in range(self._told):
                    self._proposals.pop(t, None)
        if self._rung:
            self._end("")

    def _replay(self, row: ProposalRow, proposal: Proposal) -> None:
        asked = self._ask()
        if asked is None or asked.tokens != proposal.tokens:
            raise JournalError(
                f"proposal {row.t} in the journal of {self._journal.folder} is not what the "
                f"strategy proposes now: another version of actsearch or of its libraries made it"
            )
