"""What a run was asked to do and where it worked, as labels and values for people."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Sequence
from typing import Any

from search.journal import Journal
from search.schema import SCHEMA_VERSION
from spaces import PAPER, SearchSpace
from trainers.dataset import dataset_spec

from ..config import PlacementConfig, Rung, Science
from ..inspection.summary import Summary

Facts = list[tuple[str, list[tuple[str, str]]]]


def facts(
    journal: Journal,
    science: Science,
    placement: PlacementConfig,
    summary: Summary,
    decisions: Sequence[dict[str, Any]],
) -> Facts:
    """Groups of label and value.

    Args:
        journal: The run's journal.
        science: What was asked.
        placement: Where it was to work.
        summary: What it came to.
        decisions: The decisions of the space as far as the strategy told them.
    """
    train, search = science.train, science.search
    rungs = search.ladder(train.steps)
    size = train.image_size
    groups = [
        ("Space", _space(science, decisions)),
        (
            "Child",
            [
                ("network", f"{train.child}, {train.width} channels"),
                ("images", "at their own size" if size is None else f"{size} × {size}"),
                ("precision", train.precision),
            ],
        ),
        ("Data", _data(journal, science)),
        (
            "Budget",
            [
                ("trials", _trials(science, rungs)),
                ("steps", " → ".join(_count(rung.steps) for rung in rungs)),
                *([("goes on", _promoted(rungs))] if len(rungs) > 1 else []),
                ("batch size", str(train.batch_size)),
                ("learning rate", f"{train.lr:g}, {train.schedule}, warm-up {train.warmup:.0%}"),
                ("weight decay", f"{train.weight_decay:g}"),
            ],
        ),
        (
            "Strategy",
            [
                ("name", search.strategy),
                *_options(science.strategy_config()),
                ("window", f"{search.window} proposals"),
                ("seed", str(search.seed)),
            ],
        ),
        ("Machine", _machine(journal, placement, summary)),
    ]
    return [(title, [(label, value) for label, value in rows if value]) for title, rows in groups]


def in_brief(
    science: Science,
    placement: PlacementConfig,
    summary: Summary,
    decisions: Sequence[dict[str, Any]],
) -> str:
    """What was searched, in a few lines."""
    train, search = science.train, science.search
    space = {label: value for label, value in _space(science, decisions) if value}
    units = science.space.core_units
    size = "" if train.image_size is None else f" at {train.image_size} × {train.image_size}"
    steps = " → ".join(_count(rung.steps) for rung in search.ladder(train.steps))
    workers = summary.effort.get("workers", placement.workers)
    devices = ", ".join(summary.effort.get("devices") or [])
    return (
        f"Searched: {units} core unit{'s' if units > 1 else ''}; operators: {space['operators']}"
        f"{'; ' + space['size'] if 'size' in space else ''}. Strategy {search.strategy}, seed "
        f"{search.seed}. Judged by {train.child} of {train.width} channels on {train.dataset}{size}, "
        f"{steps} steps of {train.batch_size} images; workers: {workers}"
        f"{' on ' + devices if devices else ''}."
    )


def standard_error(science: Science, accuracy: float) -> float | None:
    """Of one measured accuracy, from the number of validation images; None if nobody knows it."""
    try:
        images = science.train.valid_size or dataset_spec(science.train.dataset).valid_size
    except ValueError:
        return None
    return math.sqrt(max(accuracy * (1 - accuracy), 0.0) / images)


def _space(science: Science, decisions: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    units = science.space.core_units
    rows = [("operators", science.space.operators), ("core units", str(units))]
    size = None
    if science.space.operators == "paper":
        counts = f"{len(PAPER.unary)} unary, {len(PAPER.binary)} binary"
        rows[0] = ("operators", f"{counts} (paper)")
        size = SearchSpace(PAPER, units).size
    elif decisions:
        size = math.prod(len(decision["choices"]) for decision in decisions)
    return [*rows, ("size", f"{_count(size)} spellings" if size else "")]


def _data(journal: Journal, science: Science) -> list[tuple[str, str]]:
    train = science.train
    rows = [("set", train.dataset)]
    try:
        spec = dataset_spec(train.dataset)
    except ValueError:
        pass
    else:
        valid = train.valid_size or spec.valid_size
        rows += [
            ("training", f"{_count(spec.examples - valid)} images"),
            ("validation", f"{_count(valid)} images, {spec.num_classes} classes"),
        ]
    rows.append(("augmentation", "on" if train.augment else "off"))
    return [*rows, ("sha256", _short(journal.meta("data_sha256")))]


def _trials(science: Science, rungs: Sequence[Rung]) -> str:
    seeds = [str(rung.replicates) for rung in rungs]
    several = any(count != "1" for count in seeds)
    return _count(science.search.trials) + (f", {' → '.join(seeds)} seeds each" if several else "")


def _promoted(rungs: Sequence[Rung]) -> str:
    return " → ".join(_count(rung.promoted) for rung in rungs if rung.promoted is not None)


def _options(config: Any) -> list[tuple[str, str]]:
    """The strategy's own options, where they differ from its defaults."""
    return [
        (field.name.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value))
        for field in dataclasses.fields(config)
        if (value := getattr(config, field.name)) != field.default
    ]


def _machine(
    journal: Journal, placement: PlacementConfig, summary: Summary
) -> list[tuple[str, str]]:
    effort = summary.effort
    created = datetime.datetime.fromtimestamp(float(journal.meta("created") or 0))
    rows = [("begun", created.strftime("%Y-%m-%d %H:%M")), ("worked", duration(journal.worked()))]
    if effort:
        devices = ", ".join(effort.get("devices") or ["unknown device"])
        rows.append(("workers", f"{effort.get('workers', placement.workers)} on {devices}"))
        rows.append(("execution", str(effort.get("execution", ""))))
        if summary.busy is not None:
            rows.append(("busy", f"{100 * summary.busy:.0f} %"))
    else:
        rows.append(("workers", placement.workers))
    if summary.sittings > 1:
        rows.append(("sittings", str(summary.sittings)))
    return [*rows, ("journal", f"schema {SCHEMA_VERSION}")]


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 9.6 min, 3.2 h."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _count(number: int) -> str:
    """With thin spaces between thousands; very large ones as a power of ten."""
    return (
        f"{number:.2e}".replace("e+", " · 10^")
        if number >= 10**12
        else f"{number:,}".replace(",", " ")
    )


def _short(digest: str | None) -> str:
    return f"{digest[:12]}…" if digest else ""
