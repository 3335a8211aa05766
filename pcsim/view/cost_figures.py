"""Figures of what an update costs: time against processors, times beside bounds, energy against latency."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

from pcsim.view.style import BLACK, COLOURS, GREY, LINES, MARKERS, legend_below, look, new_axes, remark, save

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

    from pcsim.claims.cost_report import CostReport
    from pcsim.claims.costing import Row


def cost_figures(found: CostReport, folder: Path) -> list[Path]:
    """Draw every figure of a report as PNG and SVG; return the files."""
    figures = {"processors": processors_figure, "bounds": bounds_figure, "hardware": hardware_figure}
    drawn = {name: draw(found) for name, draw in figures.items()}
    return [path for name, figure in drawn.items() if figure is not None for path in save(figure, folder / name)]


@look()
def processors_figure(found: CostReport) -> Figure:
    """Draw the time of each method against the number of processors: a list schedule within Brent's bounds."""
    figure, axes = new_axes(2.9, found.facts["title"])
    handles: list[Artist] = []
    looks = zip(cycle(COLOURS), cycle(MARKERS), cycle(LINES), strict=False)
    methods = dict.fromkeys(row["method"] for row in found.processors)
    for method, (colour, marker, line) in zip(methods, looks, strict=False):
        rows = [row for row in found.processors if row["method"] == method]
        counts = [row["processors"] for row in rows]
        axes.fill_between(counts, [row["least"] for row in rows], [row["most"] for row in rows],
                          color=colour, alpha=0.15, linewidth=0)  # fmt: skip
        handles += axes.plot(counts, [row["scheduled"] for row in rows], color=colour, marker=marker, linestyle=line,
                             markersize=5, linewidth=1.5, label=method)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("processors")
    axes.set_ylabel("operations one after the other")
    legend_below(figure, [*handles, remark("bands: Brent's bounds; lines: a list schedule")])
    return figure


@look()
def bounds_figure(found: CostReport) -> Figure | None:
    """Draw what each rule takes in its ticks beside the bounds of [Z]; None where no rule has any."""
    rows = [row for row in found.bounds if row["converged"] is not None]
    if not rows:
        return None
    figure, axes = new_axes(2.9, found.facts["title"])
    places = range(len(rows))
    spans = {row["method"]: row["span"] for row in found.times}
    drawn: list[Any] = [
        axes.plot(places, [row["converged"] for row in rows], "o", color=COLOURS[0], markersize=7,
                  label="eq. 3.28, ticks of this run"),
        axes.plot(places, [spans[row["method"]] for row in rows], "x", color=COLOURS[1], markersize=7,
                  label="counted (C back, too), one processor for each actor"),
    ]  # fmt: skip
    lines = {"shortest": ("eq. 3.30, as many ticks as levels", GREY), "backprop": ("eq. 3.31 and 2.6, backprop", BLACK)}
    for key, (label, colour) in lines.items():
        drawn.append([axes.axhline(rows[0][key], color=colour, linewidth=1.2, linestyle=LINES[len(drawn) % 3],
                                   label=label)])  # fmt: skip
    axes.set_xticks(list(places), [f"{row['method']}\n{row['ticks']:,} ticks" for row in rows], rotation=20, ha="right")
    axes.set_yscale("log")
    axes.set_ylabel("operations one after the other")
    legend_below(figure, [handle for handles in drawn for handle in handles])
    return figure


@look()
def hardware_figure(found: CostReport) -> Figure:
    """Draw energy against latency of each method on each hardware, for one sample."""
    figure, axes = new_axes(3.2, found.facts["title"])
    methods = dict(zip(dict.fromkeys(row["method"] for row in found.ranking), cycle(COLOURS), strict=False))
    kinds = dict(zip(dict.fromkeys(row["hardware"] for row in found.ranking), cycle(MARKERS), strict=False))
    for row in found.ranking:
        axes.plot(row["seconds"], row["joules"], kinds[row["hardware"]], color=methods[row["method"]], markersize=6,
                  alpha=0.85)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("latency of an update, seconds a sample")
    axes.set_ylabel("energy, joules a sample")
    legend_below(figure, [*_keys(methods, "s", None), *_keys(kinds, None, BLACK), remark(_turning(found.turns))])
    return figure


def _keys(named: dict[str, str], marker: str | None, colour: str | None) -> list[Artist]:
    """Return entries of a legend: of colours, where the marker is one, or of markers."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], linestyle="", marker=marker or look_, color=colour or look_, label=name)
        for name, look_ in named.items()
    ]


def _turning(rows: list[Row]) -> str:
    """Return how many neighbours of the order of energy a constant within 25 % would swap."""
    pairs = {(row["passes"], row["passed"]) for row in rows if row["order"] == "energy"}
    return f"a constant 25 % off turns {len(pairs)} pairs of the order of energy"
