"""The result of a benchmark: a table to read, figures to compare, series to plot."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Plot:
    """Hold lines over a common axis, and the lines at which a goal is met."""

    x: str
    y: str
    lines: Mapping[str, Points]
    goals: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Hold a benchmark's title, its table, its figures by name, and its plot."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    figures: dict[str, float]
    plot: Plot

    def table(self) -> Table:
        """Return the table as the terminal shows it."""
        shown = Table(*self.columns, title=self.title)
        for row in self.rows:
            shown.add_row(*(f"{cell:,.1f}" if isinstance(cell, float) else str(cell) for cell in row))
        return shown

    def save_plot(self, name: str) -> Path:
        """Draw the plot into docs/images; return the file."""
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt

        figure, axes = plt.subplots(figsize=(8, 4))
        for label, points in self.plot.lines.items():
            axes.plot(*zip(*points), label=label, marker=".")
        for label, value in self.plot.goals.items():
            axes.axhline(value, linestyle="--", color="grey", label=label)
        axes.set(xlabel=self.plot.x, ylabel=self.plot.y, title=self.title)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        # Beside the plot, where the legend hides no line.
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        file = IMAGES / f"bench-{name}.png"
        figure.savefig(file, dpi=110, bbox_inches="tight")
        plt.close(figure)
        return file


def median(values: Sequence[float]) -> float:
    """Return the median; 0 without values."""
    return statistics.median(values) if values else 0.0
