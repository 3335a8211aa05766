"""The heat map: where the error is, level by level and tick by tick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.view.scales import whole_numbers, whole_ticks
from pcsim.view.style import BLACK, GREY, PALE, legend_below, look, new_axes, sequential

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

Array = np.ndarray
HATCH = "////"


@look()
def heat_map(norm: xr.DataArray, cone: Mapping[int, int] | None = None, title: str = "") -> Figure:
    """Draw the error of each level at each tick as a colour; exact zeros are light grey.

    Parameters
    ----------
    norm : norm of the error, dims (tick, vertex), coords tick, vertex and level
        (-1: reaches no output, and is left out)
    cone : the first tick at which a level's error can differ from zero; drawn as a line

    A level's error is the root of the sum of squares over its vertices. Cells that hold no number are hatched.
    """
    levels, values = by_level(norm)
    figure, axes = new_axes(2.9 + 0.05 * min(20, len(levels)), title)
    mesh = _mesh(axes, norm["tick"].to_numpy(), values)
    label = "log₁₀ of the error's norm"
    bar = figure.colorbar(mesh, ax=axes, label=label, ticks=places_of(*mesh.get_clim()), format=whole_numbers())
    bar.outline.set_visible(False)
    _level_axis(axes, levels)
    legend_below(figure, [*_special(axes, values), *(_cone(axes, levels, cone) if cone else ())])
    return figure


def by_level(norm: xr.DataArray) -> tuple[Array, Array]:
    """Return the levels, ascending, and the norms (level, tick) over the vertices of each."""
    data = norm.transpose("vertex", "tick").to_numpy().astype(float)
    of_vertex = norm["level"].to_numpy().astype(int)
    levels = np.unique(of_vertex[of_vertex >= 0])
    rows = [_together(data[of_vertex == level]) for level in levels]
    return levels, np.reshape(rows, (len(levels), data.shape[1]))


def _together(rows: Array) -> Array:
    """Return the root of the sum of squares, without overflow and without losing tiny values to zero."""
    known = np.isfinite(rows)
    total: Array = np.hypot.reduce(np.where(known, rows, 0.0), axis=0)
    return np.where(known.any(axis=0), total, np.nan)


def _mesh(axes: Axes, ticks: Array, values: Array) -> QuadMesh:
    positive = values > 0
    logs = np.full(values.shape, np.nan)
    np.log10(values, out=logs, where=positive)
    low, high = (logs[positive].min(), logs[positive].max()) if positive.any() else (-1.0, 0.0)
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    logs[values == 0] = low - 1  # below the least colour, so that it takes the colour of zeros
    rows = np.arange(len(values) + 1) - 0.5
    mesh = axes.pcolormesh(_edges(ticks), rows, logs, cmap=_colours(), vmin=low, vmax=high, rasterized=True)
    whole_ticks(axes, ticks)
    axes.set_xlim(*_edges(ticks)[[0, -1]])
    return mesh


def _colours() -> Any:
    return sequential(256).with_extremes(under=PALE, bad=(0, 0, 0, 0))


def places_of(low: float, high: float) -> Any:
    """Return where a colour bar has its numbers: at whole ones, but where the colours span few of them."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=7, integer=high - low > 2, min_n_ticks=2)


def _edges(ticks: Array) -> Array:
    """Return the borders of cells around ticks: half way between neighbours."""
    halves = np.diff(ticks) / 2 if len(ticks) > 1 else np.full(1, 0.5)
    between = ticks[:-1] + halves[: len(ticks) - 1]
    return np.concatenate([[ticks[0] - halves[0]], between, [ticks[-1] + halves[-1]]])


def _level_axis(axes: Axes, levels: Array) -> None:
    """Name the rows by their levels; where levels are missing between two rows, a white line and dots say so."""
    rows = [float(row) for row in range(0, len(levels), -(-len(levels) // 12) or 1)]
    names = ["outputs  0" if levels[int(row)] == 0 else str(levels[int(row)]) for row in rows]
    breaks = (np.flatnonzero(np.diff(levels) > 1) + 0.5).tolist()
    for height in breaks:
        axes.axhline(height, color="white", linewidth=2)
    if len(levels) <= 12:
        rows, names = [*rows, *breaks], [*names, *("⋮" for _ in breaks)]
    axes.set_yticks(rows, names)
    axes.set_ylabel("level")
    axes.tick_params(axis="y", length=0)


def _special(axes: Axes, values: Array) -> list[Artist]:
    """Return what explains cells that have no colour of the bar; those that are not finite are hatched."""
    from matplotlib.patches import Patch

    zero, lost = values == 0, np.isnan(values)
    early = bool((np.logical_and.accumulate(zero, axis=1) == zero).all())
    label = "exactly 0: outside the light cone" if early else "exactly 0"
    known = [Patch(facecolor=PALE, label=label)] if zero.any() else []
    if not lost.any():
        return [*known]
    axes.patch.set(hatch=HATCH, edgecolor=GREY, linewidth=0)
    return [*known, Patch(facecolor="white", edgecolor=GREY, hatch=HATCH, linewidth=0, label="not finite")]


def _cone(axes: Axes, levels: Array, cone: Mapping[int, int]) -> list[Artist]:
    rows = [row for row, level in enumerate(levels) if int(level) in cone]
    first = np.repeat([cone[int(levels[row])] - 0.5 for row in rows], 2)
    height = np.ravel([(row - 0.5, row + 0.5) for row in rows])
    return [cone_line(axes, first, height)]


def cone_line(axes: Axes, ticks: Array, heights: Array) -> Artist:
    """Draw the light cone: a black line with a white border, seen on any colour."""
    from matplotlib.patheffects import Normal, Stroke

    [line] = axes.plot(ticks, heights, color=BLACK, linewidth=1.5, label="light cone", scalex=False)
    line.set_path_effects([Stroke(linewidth=3.5, foreground="white"), Normal()])
    return line
