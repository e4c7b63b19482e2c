"""Draws the best functions of a run from its journal.

uv run --group docs python docs/plot_top.py RUN docs/top.png
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("svg" if sys.argv[2].endswith("svg") else "agg")
import matplotlib.pyplot as plt

from search.journal import Journal
from search.ranking import rank
from spaces.grid import grid


def main(run: Path, destination: Path, count: int = 8) -> None:
    """One small panel per function: f, f′ and the accuracy it reached."""
    journal = Journal.read(run)
    best = [c for c in rank(journal) if c.reward is not None][:count]
    figure, axes = plt.subplots(2, count // 2, figsize=(2.9 * count / 2, 5), sharex=True)
    for place, (axis, candidate) in enumerate(zip(axes.flat, best, strict=True), start=1):
        curve = journal.candidate(candidate.row.id).curve
        assert curve is not None
        axis.axhline(0, color="0.8", linewidth=0.8)
        axis.axvline(0, color="0.8", linewidth=0.8)
        axis.plot(grid(), curve[0], color="#1f5fa8", linewidth=2, label="f")
        axis.plot(grid(), curve[1], color="#d9822b", linewidth=1.2, linestyle="--", label="f′")
        axis.set_ylim(-2.5, 5)
        axis.set_xlim(-5, 5)
        name = f"  {candidate.row.name}" if candidate.row.name else ""
        title = textwrap.fill(f"{place}. {candidate.row.formula}", 40, break_long_words=False)
        axis.set_title(title, fontsize=9, loc="left")
        axis.text(
            0.03, 0.95, f"{100 * (candidate.reward or 0):.2f} %{name}",
            transform=axis.transAxes, va="top", fontsize=9, color="0.3",
        )  # fmt: skip
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes.flat[0].legend(loc="lower right", frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(destination, dpi=130)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
