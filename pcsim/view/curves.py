"""Curves over ticks: convergence to backprop, the norms of errors, free energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pcsim.view.scales import Decades, decades, draw_decades, whole_numbers, whole_ticks
from pcsim.view.style import (
    BLACK,
    BLUE,
    GREY,
    LINES,
    MARKERS,
    VERMILLION,
    legend_below,
    look,
    new_axes,
    sequential,
    short,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

Array = np.ndarray

FEW = 8
"""Up to so many vertices each has its own entry in the legend; beyond, a colour bar shows the levels."""

RASTER = 100_000
"""Points from which lines are written into an SVG as a picture: as paths they would take megabytes."""


@dataclass(frozen=True)
class _Lines:
    """Series by vertex: ``values`` is (vertex, tick), ``levels`` is -1 where no output can be reached."""

    ticks: Array
    values: Array
    levels: Array
    names: tuple[str, ...]

    @property
    def colours(self) -> tuple[ListedColormap, Array]:
        """The colours of all levels, and that of each line."""
        table = sequential(int(self.levels.max(initial=0)) + 1)
        return table, np.where(self.levels[:, None] < 0, _rgba(GREY), table(np.maximum(self.levels, 0)))


def _rgba(colour: str) -> tuple[float, ...]:
    from matplotlib.colors import to_rgba

    return to_rgba(colour)


def _lines(data: xr.DataArray) -> _Lines:
    data = data.transpose("vertex", "tick")
    levels = data["level"].to_numpy() if "level" in data.coords else np.full(data.sizes["vertex"], -1)
    names = tuple(map(str, data["vertex"].to_numpy()))
    return _Lines(data["tick"].to_numpy(), data.to_numpy().astype(float), levels.astype(int), names)


@look()
def convergence(
    divergence: xr.DataArray, tolerance: float | None, title: str, theory: xr.DataArray | None = None
) -> Figure:
    """Draw how the errors of vertices come to those of backprop, tick by tick.

    Parameters
    ----------
    divergence : relative L2 difference, dims (tick, vertex), coords tick, vertex and level
        (-1: reaches no output)
    tolerance : drawn as a dashed line
    theory : what theory predicts, of the same dims; drawn thin and dark, beneath what was measured

    Values that are no number are left out; zeros stand on a line of their own, named ``exact``.
    """
    figure, axes, handles = _figure(divergence, theory, title, tolerance, "exact")
    axes.set_ylabel("relative difference from backprop")
    if tolerance is not None and tolerance > 0:
        label = f"tolerance {tolerance:g}".replace("e-0", "e-")
        line = axes.axhline(tolerance, color=VERMILLION, linewidth=1.2, linestyle="--", label=label, zorder=5)
        handles.append(line)
    legend_below(figure, handles)
    return figure


@look()
def norms(norm: xr.DataArray, title: str, theory: xr.DataArray | None = None) -> Figure:
    """Draw the norm of each vertex's error against ticks; arguments as in ``convergence``."""
    figure, axes, handles = _figure(norm, theory, title, None, "exactly 0")
    axes.set_ylabel("norm of the error")
    legend_below(figure, handles)
    return figure


def _figure(
    data: xr.DataArray, theory: xr.DataArray | None, title: str, tolerance: float | None, zero: str
) -> tuple[Figure, Axes, list[Artist]]:
    lines = _lines(data)
    figure, axes = new_axes(3.4 + 0.08 * min(FEW, len(lines.names)), title)
    span = decades(lines.values, () if tolerance is None else (tolerance,))
    draw_decades(axes, span, zero)
    whole_ticks(axes, lines.ticks)
    few = len(lines.names) <= FEW
    handles = _draw_few(axes, lines, span) if few else _draw_many(figure, axes, lines, span)
    return figure, axes, handles + _draw_theory(axes, theory, span)


def _draw_few(axes: Axes, lines: _Lines, span: Decades) -> list[Artist]:
    handles: list[Artist] = []
    _, colours = lines.colours
    step = max(1, len(lines.ticks) // 8)
    for number, name in enumerate(lines.names):
        level = int(lines.levels[number])
        [line] = axes.plot(
            lines.ticks, span.heights(lines.values[number]), color=colours[number], linewidth=1.8, alpha=0.85,
            linestyle=LINES[number % len(LINES)], marker=MARKERS[number % len(MARKERS)], markersize=5,
            markevery=(number * step // FEW, step), label=_label(name, level), zorder=3,
        )  # fmt: skip
        handles.append(line)
    return handles


def _label(name: str, level: int) -> str:
    return f"{short(name)} (level {level})" if level >= 0 else f"{short(name)} (reaches no output)"


def _draw_many(figure: Figure, axes: Axes, lines: _Lines, span: Decades) -> list[Artist]:
    from matplotlib.lines import Line2D

    table, colours = lines.colours
    width = 1.4 if len(lines.names) <= 60 else 0.7
    _collect(axes, lines.ticks, span.heights(lines.values), colours, width, 3)
    _level_bar(figure, axes, table)
    lost = (lines.levels < 0).any()
    return [Line2D([], [], color=GREY, linewidth=width, label="reaches no output")] if lost else []


def _collect(axes: Axes, ticks: Array, heights: Array, colours: Array | str, width: float, order: float) -> None:
    from matplotlib.collections import LineCollection

    points = np.stack([np.broadcast_to(ticks, heights.shape), heights], axis=-1)
    lines = LineCollection(list(points), colors=colours, linewidths=width, alpha=0.85, zorder=order)
    lines.set_rasterized(heights.size > RASTER)
    lines.set_in_layout(False)
    axes.add_collection(lines, autolim=False)


def _level_bar(figure: Figure, axes: Axes, table: ListedColormap) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    mappable = ScalarMappable(Normalize(-0.5, table.N - 0.5), table)
    ticks = MaxNLocator(nbins=8, integer=True, min_n_ticks=1)
    bar = figure.colorbar(mappable, ax=axes, ticks=ticks, label="level (0: outputs)", format=whole_numbers())
    bar.outline.set_visible(False)


def _draw_theory(axes: Axes, theory: xr.DataArray | None, span: Decades) -> list[Artist]:
    from matplotlib.lines import Line2D

    if theory is None:
        return []
    lines = _lines(theory)
    _collect(axes, lines.ticks, span.heights(lines.values), BLACK, 0.8, 2)
    return [Line2D([], [], color=BLACK, linewidth=0.8, label="theory")]


@look()
def series_figure(energy: xr.DataArray, title: str = "") -> Figure:
    """Draw free energy against ticks: on a logarithmic axis where it is positive and falls by much."""
    figure, axes = new_axes(2.9, title)
    values = energy.transpose("tick").to_numpy().astype(float)
    values = np.where(np.isfinite(values), values, np.nan)
    ticks = energy["tick"].to_numpy()
    known = values[np.isfinite(values)]
    if known.size and known.min() > 0 and known.max() > 100 * known.min():
        draw_decades(axes, decades(known), "")
    axes.plot(ticks, values, color=BLUE, linewidth=1.8, marker="o" if len(ticks) <= 30 else "", markersize=4)
    axes.set_ylabel("free energy")
    whole_ticks(axes, ticks)
    return figure
