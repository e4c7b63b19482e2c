"""Drawings of a candidate and of a comparison, as PNG or SVG; needs the extra `plot`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaces.suggest import did_you_mean

from ..errors import RequestError
from ..printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")

BLUE, ORANGE = "#1f5fa8", "#d9822b"
COLOURS = (BLUE, ORANGE, "#3a923a", "#b0413e", "#7b5ea7", "#5b5b5b", "#2a9d9d", "#b88a00")


def check_plot(destination: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Refuses what could not be drawn before anything is read.

    Raises:
        RequestError: The suffix is no picture's, its folder is missing, or matplotlib is.
    """
    if destination.suffix.lower() not in suffixes:
        near = did_you_mean(destination.suffix.lower(), suffixes)
        raise RequestError(
            f"`plot` must end in {' or '.join(suffixes)}, got {str(destination)!r}{near}"
        )
    if not destination.parent.is_dir():
        raise RequestError(f"`plot`: there is no folder {destination.parent}")
    try:
        with chdir("/"):  # a `matplotlibrc` in the working directory may be a stranger's
            import matplotlib.figure  # noqa: F401  # only to see that it is there
    except ImportError:
        raise RequestError(
            "`plot` needs matplotlib, which the extra `plot` brings: "
            "pip install 'actsearch[plot]', or matplotlib>=3.9 by itself"
        ) from None


def draw_candidate(details: Mapping[str, Any], destination: Path) -> None:
    """The graph of f and f′ beside the training of its last trial.

    Args:
        details: From `launch.inspection.details.details_of`; its `graph` is there.
        destination: The picture, checked by `check_plot`.

    Raises:
        RequestError: It cannot be written.
    """
    from matplotlib.figure import Figure

    with _plain_text():
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        graph, training = figure.subplots(1, 2)
        name = f"   {details['name']}" if details["name"] else ""
        title = printable(f"{details['formula']}{name}")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        _draw_graph(graph, details["graph"])
        _draw_training(training, details["trials"])
        _save(figure, destination)


def _draw_graph(axes: Axes, graph: Mapping[str, Any]) -> None:
    import numpy as np

    x, f, slope = (np.array(graph[name], float) for name in ("x", "f", "slope"))
    axes.axhline(0, color="0.8", linewidth=0.8)
    axes.axvline(0, color="0.8", linewidth=0.8)
    axes.plot(x, f, color=BLUE, linewidth=2, label="f")
    axes.plot(x, slope, color=ORANGE, linewidth=1.2, linestyle="--", label="f′")
    low, high = np.nanquantile([f, slope], [0.03, 0.97])
    margin = 0.15 * max(high - low, 1e-3)
    axes.set_xlim(-5, 5)
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlabel("x")
    axes.legend(frameon=False, fontsize=8)
    _bare(axes)


def _draw_training(axes: Axes, trials: Sequence[Mapping[str, Any]]) -> None:
    trained = [trial for trial in trials if trial["curve"]]
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    _bare(axes)
    if not trained:
        axes.text(0.5, 0.5, "no training", transform=axes.transAxes, ha="center", color="0.5")
        return
    highest = max(trial["rung"] for trial in trained)
    for number, trial in enumerate(each for each in trained if each["rung"] == highest):
        steps = [point["step"] for point in trial["curve"]]
        reward = "" if trial["reward"] is None else f", {100 * trial['reward']:.2f} %"
        axes.plot(
            steps,
            [point["loss"] for point in trial["curve"]],
            color=COLOURS[number % len(COLOURS)],
            label=f"seed {trial['replicate']}: {trial['status']}{reward}",
        )
    axes.legend(frameon=False, fontsize=8)


def draw_comparison(courses: Sequence[Mapping[str, Any]], destination: Path) -> None:
    """Best accuracy so far of several runs, by trials and by seconds.

    Args:
        courses: For each run `label`, and `by_trials` and `by_seconds`, pairs of where and accuracy.
        destination: The picture, checked by `check_plot`.

    Raises:
        RequestError: It cannot be written.
    """
    from matplotlib.figure import Figure

    with _plain_text():
        _draw_panels(Figure(figsize=(10, 4), layout="constrained"), courses, destination)


def _draw_panels(figure: Figure, courses: Sequence[Mapping[str, Any]], destination: Path) -> None:
    panels = figure.subplots(1, 2, sharey=True)
    strategies = list(dict.fromkeys(course["strategy"] for course in courses))
    for axes, entry, unit in zip(
        panels, ("by_trials", "by_seconds"), ("trials", "seconds"), strict=True
    ):
        for course in courses:
            points = course[entry]
            axes.step(
                [place for place, _ in points],
                [100 * accuracy for _, accuracy in points],
                where="post",
                color=COLOURS[strategies.index(course["strategy"]) % len(COLOURS)],
                alpha=0.8,
                label=printable(course["label"]),
            )
        axes.set_xlabel(unit)
        _bare(axes)
    panels[0].set_ylabel("best accuracy so far, %")
    panels[0].legend(frameon=False, fontsize=8)
    _save(figure, destination)


@contextmanager
def _plain_text() -> Iterator[None]:
    """No text is read as TeX: names and formulas may hold a dollar sign, and be a stranger's."""
    import matplotlib

    with matplotlib.rc_context({"text.usetex": False, "text.parse_math": False}):
        yield


def _bare(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _save(figure: Figure, destination: Path) -> None:
    try:
        figure.savefig(destination, dpi=130, format=destination.suffix.lower()[1:])
    except OSError as error:
        raise RequestError(f"`plot`: cannot write {destination}: {error.strerror}") from None
