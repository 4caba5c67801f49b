"""The chart of the README."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from executions.benchmarks.api import CALLS, GUIDE_SYNC, LISTS, OF_MANY, WRITING, at
from executions.benchmarks.report import Report

# One colour for each database, lighter where more is asked of it.
COLOURS = {
    "SQLite": "#14532d",
    "SQLite, token": "#16a34a",
    f"SQLite{OF_MANY}": "#86efac",
    WRITING: "#bef264",
    "PostgreSQL": "#1e3a8a",
    "PostgreSQL, token": "#3b82f6",
    f"PostgreSQL{OF_MANY}": "#93c5fd",
}
PEER = "#737373"


def draw(rates: Report, drains: dict[str, tuple[float, float]], path: Path) -> None:
    """Write it as SVG. `drains` are executions a second by database, ours and Celery's."""
    with mpl.rc_context({"svg.hashsalt": "executions", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[3, 1])
        _draw_calls(left, rates)
        _draw_drains(right, drains)
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None})


def _draw_calls(axes: Axes, rates: Report) -> None:
    candidates = [name for name in COLOURS if (at(LISTS[0], 16), name) in rates.rates]
    width = 0.8 / len(candidates)
    for number, name in enumerate(candidates):
        offset = (number - (len(candidates) - 1) / 2) * width
        calls = LISTS if name == WRITING else CALLS
        bars = axes.bar(
            [CALLS.index(call) + offset for call in calls],
            [rates.ratio(at(call, 16), name) for call in calls],
            width,
            label=name,
            color=COLOURS[name],
        )
        axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=1)
    axes.axhline(1, color=PEER, linewidth=1, linestyle="--", label=GUIDE_SYNC)
    axes.set_xticks(range(len(CALLS)), CALLS)
    axes.set_title("Answers a second at 16 connections, the guide's being 1", loc="left")
    axes.legend(frameon=False, fontsize=8)


def _draw_drains(axes: Axes, drains: dict[str, tuple[float, float]]) -> None:
    for place, (name, (ours, peer)) in enumerate(drains.items()):
        for offset, rate, colour in ((-0.2, ours, COLOURS[name]), (0.2, peer, PEER)):
            axes.bar_label(axes.bar(place + offset, rate, 0.38, color=colour), fmt="%.0f")
        axes.text(place + 0.2, peer / 2, "Celery", ha="center", rotation=90, color="white")
        axes.text(place - 0.2, ours / 2, "ours", ha="center", rotation=90, color="white")
    axes.set_xticks(range(len(drains)), list(drains))
    axes.set_title("Executions a second", loc="left")
