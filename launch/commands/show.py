"""`actsearch show`: everything that a run knows of one candidate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from spaces import PAPER
from spaces.operator_source import BUILT_IN

from ..errors import DONE, RequestError
from ..inspection.details import details_of
from ..inspection.lookup import Lookup
from ..inspection.plots import check_plot, draw_candidate
from ..inspection.reading import reading
from ..inspection.sparkline import sparkline
from ..inspection.tables import loss, stdout
from ..printable import json_line
from ..run import read_run_config

Flag = Annotated[bool, Parameter(negative="")]


def show(
    run: Path,
    candidate: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    plot: Path | None = None,
    json: Flag = False,
) -> int:
    """One candidate of a run: formula, spellings, trials, training, trained β, graph.

    Parameters
    ----------
    run
        The run's folder.
    candidate
        Its number in the ranking, an expression, or the name of a known function.
    plot
        Draw f, f′ and the training into this file, .png or .svg.
    json
        Print one JSON document.
    """
    if plot is not None:
        check_plot(plot)
    science, _ = read_run_config(run)
    operators = PAPER if science.space.operators == BUILT_IN else None
    with reading(run) as journal:
        lookup = Lookup(journal, run, operators)
        found = lookup.find(candidate)
        details = details_of(journal, found, science.search.ladder(science.train.steps))
    if plot is not None:
        if details["graph"] is None:
            raise RequestError(f"{details['expression']} has no graph: {details['reason']}")
        draw_candidate(details, plot)
    if json:
        document = {"run": str(run), "candidate": details}
        print(json_line(document))
        return DONE
    out = stdout()
    for part in _parts(details, of=len(lookup.ranked)):
        out.print(part, highlight=False, soft_wrap=isinstance(part, Text))
    return DONE


def _parts(details: Mapping[str, Any], *, of: int) -> Iterator[Text | Table]:
    """What is printed, from top to bottom."""
    yield _heading(details)
    yield Text(_standing(details, of))
    yield Text(f"expression  {details['expression']}")
    yield Text(f"LaTeX       {details['latex']}")
    if details["spelling"] != details["expression"]:
        yield Text(f"            equal to {details['spelling']}, which was asked for")
    times = details["proposed"]
    yield Text(f"proposed    {times} times" if times != 1 else "proposed    once")
    for number, alias in enumerate(details["aliases"]):
        yield Text(f"{'also as' if not number else '':11} {alias}")
    if details["trials"]:
        yield Text()
        yield _trials(details["trials"])
        yield from _training(details["trials"])
        yield from _vectors(details["trials"])


def _heading(details: Mapping[str, Any]) -> Text:
    text = Text(details["formula"], style="bold")
    if details["name"]:
        text.append(f"   {details['name']}", style="not bold")
    return text.append(" ▪ baseline", style="cyan") if details["baseline"] else text


def _standing(details: Mapping[str, Any], of: int) -> str:
    """Rank and accuracy, or why there is none."""
    if details["rank"] is None:
        if details["status"] == "untrained":
            return "not trained yet: no trial has finished"
        return f"not trained: {details['status']}: {details['reason']}"
    place = f"rank {details['rank']} of {of}"
    if details["reward"] is None:
        return f"{place}: {details['status']}: {details['reason']}"
    spread = "" if details["spread"] is None else f" ± {100 * details['spread']:.2f}"
    lost = "" if details["loss"] is None else f", loss {loss(details['loss'])}"
    return f"{place}: accuracy {100 * details['reward']:.2f} %{spread}{lost}"


def _plain(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        left = column.startswith("<")
        table.add_column(column.lstrip("<"), justify="left" if left else "right")
    return table


def _trials(trials: list[dict[str, Any]]) -> Table:
    table = _plain("trial", "rung", "steps", "seed", "<status", "accuracy", "loss", "s", "<")
    for trial in trials:
        table.add_row(
            str(trial["trial"]),
            str(trial["rung"] + 1),
            str(trial["steps"] or "–"),
            str(trial["replicate"]),
            trial["status"],
            "–" if trial["reward"] is None else f"{100 * trial['reward']:.2f} %",
            loss(trial["loss"]),
            "–" if trial["seconds"] is None else f"{trial['seconds']:.1f}",
            Text(trial["reason"] or _origin(trial["taken_from"])),
        )
    return table


def _origin(origin: Mapping[str, Any] | None) -> str:
    if origin is None:
        return ""
    run = f" of {origin['run']}" if origin["run"] else ""
    return f"trained as trial {origin['trial']}{run}"


def _training(trials: list[dict[str, Any]]) -> Iterator[Text | Table]:
    trained = [trial for trial in trials if trial["curve"]]
    if not trained:
        return
    yield Text()
    table = _plain("training of trial", "<to step", "<loss", "<accuracy")
    for trial in trained:
        curve = trial["curve"]
        losses = [point["loss"] for point in curve]
        shares = [100 * point["accuracy"] for point in curve]
        table.add_row(
            str(trial["trial"]),
            str(curve[-1]["step"]),
            f"{losses[0]:.3f} {sparkline(losses)} {losses[-1]:.3f}",
            f"{shares[0]:.1f} {sparkline(shares)} {shares[-1]:.1f} %",
        )
    yield table


def _vectors(trials: list[dict[str, Any]]) -> Iterator[Text | Table]:
    """Trained vectors of the last trial that has some."""
    trial = next((trial for trial in reversed(trials) if trial["beta"]), None)
    if trial is None:
        return
    yield Text()
    table = _plain(
        f"<layer, after trial {trial['trial']}", "<vector", "mean", "deviation", "least", "most"
    )
    several = len({beta["slot"] for beta in trial["beta"]}) > 1
    for beta in trial["beta"]:
        place = f", place {beta['slot']}" if several else ""
        table.add_row(
            beta["layer"],
            f"{beta['param']} of {beta['operator']}{place}",
            *(f"{beta[entry]:.3f}" for entry in ("mean", "std", "min", "max")),
        )
    yield table
