"""What a benchmark of peers found: medians with their spread, as JSON and as a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peer import Score

TRIALS = 100
"""Candidates of one process over which the amortised figure spreads what is paid once."""

Spread = dict[str, float]
"""`median`, `min` and `max`."""


def spread(values: Iterable[float], digits: int = 3) -> Spread:
    """Median, smallest and largest of some numbers."""
    found = list(values)
    return {
        "median": round(statistics.median(found), digits),
        "min": round(min(found), digits),
        "max": round(max(found), digits),
    }


def throughput(
    rounds: Sequence[Mapping[str, Sequence[Score]]],
    one_off_s: Mapping[str, float],
    reference: str,
) -> dict[str, Any]:
    """Candidates per hour of each form.

    Args:
        rounds: For each round and form, the score of each process.
        one_off_s: What each form costs once per process, in seconds.
        reference: The form that the others are compared with, round by round.

    Returns:
        By form: rates are those of all processes together. `times_reference_by_cpu` is the ratio
        of processor time instead of rates: on a core that others use too it varies less.
    """
    rates = {
        form: [sum(3600 / score.total_s for score in each[form]) for each in rounds]
        for form in rounds[0]
    }
    cpu_s = {
        form: [sum(score.cpu_s for score in each[form]) for each in rounds] for form in rounds[0]
    }
    found = {}
    for form, own in rates.items():
        scores = [score for each in rounds for score in each[form]]
        processes = len(rounds[0][form])
        mean = statistics.mean(score.total_s for score in scores)
        found[form] = {
            "candidates_per_hour": spread(own, 1),
            "candidates_per_hour_of_first_100": round(
                3600 * processes * TRIALS / (one_off_s[form] + TRIALS * mean), 1
            ),
            "times_reference": spread(a / b for a, b in zip(own, rates[reference], strict=True)),
            "times_reference_by_cpu": spread(
                b / a for a, b in zip(cpu_s[form], cpu_s[reference], strict=True)
            ),
            "total_s": spread(score.total_s for score in scores),
            "cpu_s": spread(score.cpu_s for score in scores),
            "compile_s": spread(score.compile_s for score in scores),
            "train_s": spread(score.train_s for score in scores),
            "evaluate_s": spread(score.evaluate_s for score in scores),
            "one_off_s": round(one_off_s[form], 1),
        }
    return found


def step_times(rounds: Sequence[Mapping[str, Sequence[float]]], reference: str) -> dict[str, Any]:
    """Milliseconds of a step of each form.

    Args:
        rounds: For each round and form, the seconds of a step in each process.
        reference: The form that the others are compared with, round by round.
    """
    return {
        form: {
            "step_ms": spread(1e3 * seconds for each in rounds for seconds in each[form]),
            "times_reference": spread(
                statistics.mean(each[form]) / statistics.mean(each[reference]) for each in rounds
            ),
        }
        for form in rounds[0]
    }


def strongest(forms: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The best form of each kind by its median: ours, PyTorch's in float32 and in any arithmetic."""
    rate = "candidates_per_hour" in next(iter(forms.values()))

    def goodness(form: str) -> float:
        figure = forms[form]["candidates_per_hour" if rate else "step_ms"]["median"]
        return figure if rate else -figure

    peers = [form for form in forms if form.startswith("torch")]
    kinds = {
        "actsearch": [form for form in forms if form.startswith(("traced", "specialised"))],
        "torch, float32": [form for form in peers if not form.endswith("-bf16")],
        "torch": peers,
    }
    return {kind: max(own, key=goodness) for kind, own in kinds.items() if own}


def table(forms: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Forms as lines of text, columns by the names of their figures."""
    lines = [["form", *columns.values()]]
    for form, figures in forms.items():
        lines.append([form, *(_cell(figures[name]) for name in columns)])
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if place == 0 else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _cell(figure: Spread | float) -> str:
    if isinstance(figure, dict):
        return "{:.3g} ({:.3g}–{:.3g})".format(*(figure[n] for n in ("median", "min", "max")))
    return f"{figure:.3g}"


THROUGHPUT_COLUMNS = {
    "candidates_per_hour": "candidates/h",
    "times_reference": "x reference",
    "times_reference_by_cpu": "by CPU time",
    "total_s": "s/candidate",
    "cpu_s": "CPU s",
    "compile_s": "compile s",
    "train_s": "train s",
    "evaluate_s": "evaluate s",
    "one_off_s": "one-off s",
    "candidates_per_hour_of_first_100": "candidates/h of first 100",
}
"""Columns of a table of `throughput`."""

STEP_COLUMNS = {"step_ms": "ms/step", "times_reference": "x reference"}
"""Columns of a table of `step_times`."""
