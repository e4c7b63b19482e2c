"""What a run came to, in a few lines: how much was trained, how busy the workers were, its hash."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from search.journal import Journal
from search.known import known_trials
from search.outcome import BY_CHANCE
from search.ranking import history_sha256


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts over a whole run, and the effort of its last sitting."""

    trials: int
    """Finished trials, baselines included."""
    baselines: int
    """Finished trials of baselines."""
    diverged: int
    failed: int
    by_chance: int
    """Those of the failed that the machine decided and not the seed: see `BY_CHANCE`."""
    known: int
    """Those of them whose outcome an earlier run had; they were not trained again."""
    parent: str
    """The run that this one grew from; empty if from none."""
    proposals: int
    """Proposals that the strategy made."""
    distinct: int
    """Different spellings among them."""
    invalid: int
    """Spellings that pre-flight refused: not finite, or constant."""
    equal: int
    """Spellings equal to an earlier function."""
    sittings: int
    effort: dict[str, Any]
    """Of the last sitting that trained anything: see `launch.tally.Tally`."""
    ending: str
    """Why the strategy ended before its budget, if it did."""
    history: str
    """`history_sha256`."""

    @property
    def busy(self) -> float | None:
        """Workers' seconds in trials over wall-clock × workers, since the first dispatch."""
        return self._share("busy_s")

    @property
    def training(self) -> float | None:
        """The same, of training and evaluation alone: compilation and start-up left out."""
        return self._share("training_s")

    def _share(self, part: str) -> float | None:
        whole = self.effort.get("wall_s", 0.0) * self.effort.get("workers", 0)
        return self.effort[part] / whole if whole else None


def summarise(journal: Journal) -> Summary:
    """Counts a run."""
    statuses: Counter[str] = Counter()
    baselines = by_chance = 0
    for trial, outcome in journal.trials(details=False):
        if outcome is not None:
            statuses[outcome.status] += 1
            baselines += trial.baseline
            by_chance += BY_CHANCE in outcome.details
    proposed = Counter(journal.proposed())
    rows = [row for row in journal.candidates(sampled=False) if row.id in proposed]
    efforts = [details for _, details in journal.sittings()]
    ending = journal.meta("finished") or ""
    return Summary(
        trials=statuses.total(),
        baselines=baselines,
        diverged=statuses["diverged"],
        failed=statuses["failed"],
        by_chance=by_chance,
        known=len(known_trials(journal)),
        parent=journal.meta("from_run") or "",
        proposals=proposed.total(),
        distinct=len(rows),
        invalid=sum(row.verdict != "ok" for row in rows),
        equal=sum(row.equal_to is not None for row in rows),
        sittings=len(efforts),
        effort=next((e for e in reversed(efforts) if e.get("trials")), {}),
        ending="" if ending == "done" else ending,
        history=history_sha256(journal),
    )


def as_lines(summary: Summary) -> list[str]:
    """The summary for people."""
    s, effort = summary, summary.effort
    known = f", of which {s.known} known from {s.parent}" if s.parent else ""
    lines = [
        f"{s.trials} trials{known} ({s.baselines} of baselines, {s.diverged} diverged, "
        f"{s.failed} failed); "
        f"{s.proposals} proposals: {s.distinct} spellings, of which {s.invalid} invalid or constant "
        f"and {s.equal} equal to another",
    ]
    if effort:
        lines.append(
            f"{effort['workers']} workers on {', '.join(effort['devices']) or 'unknown devices'}: "
            f"busy {_percent(s.busy)} of {effort['wall_s']:.0f} s × {effort['workers']} "
            f"(training and evaluation {_percent(s.training)}, compiling {effort['compile_s']:.0f} s); "
            f"peak memory of a worker {effort['peak_memory_mb']:.0f} MB"
        )
        lines.append(
            f"execution {effort['execution']} ({effort['reason']}): "
            f"{effort['compilations']} compilations for {effort['trials']} trials"
        )
    if s.by_chance:
        lines.append(
            f"{s.by_chance} of the failed timed out or lost every worker: a run of the same seed "
            f"may have outcomes there, and go another way from there on"
        )
    if s.sittings > 1:
        lines.append(f"{s.sittings} sittings; worker figures are of the last")
    if s.ending:
        lines.append(f"ended early: {s.ending}")
    lines.append(f"history_sha256 {s.history}")
    return lines


def as_dict(summary: Summary) -> dict[str, Any]:
    """The summary as JSON-able data."""
    return {
        "trials": summary.trials,
        "baselines": summary.baselines,
        "diverged": summary.diverged,
        "failed": summary.failed,
        "by_chance": summary.by_chance,
        "known": summary.known,
        "from": summary.parent or None,
        "proposals": summary.proposals,
        "distinct": summary.distinct,
        "invalid": summary.invalid,
        "equal": summary.equal,
        "sittings": summary.sittings,
        "busy": summary.busy,
        "training": summary.training,
        "effort": summary.effort,
        "ending": summary.ending,
        "history_sha256": summary.history,
    }


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
