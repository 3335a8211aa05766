"""Curves over ticks: convergence to backprop, the norms of errors, free energy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.view.scales import Decades, decades, draw_decades, whole_numbers, whole_ticks
from pcsim.view.style import (
    BLUE,
    GREY,
    LINES,
    MARKERS,
    VERMILLION,
    legend_below,
    look,
    new_axes,
    new_panels,
    remark,
    sequential,
    short_names,
    some,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

Array = np.ndarray

FEW = 8
"""Up to so many vertices each has its own entry in the legend; beyond, panels and a colour bar show the levels."""

PANELS = 4

BAND = "#D9D9D9"
"""The colour of what theory predicts: a band beneath, so that it is seen where the measured line lies on it."""

THICKNESS = 0.006
"""Part of the height of the axes within which lines lie on each other."""

RASTER = 100_000
"""Points from which lines are written into an SVG as a picture: as paths they would take megabytes."""


@dataclass(frozen=True)
class _Lines:
    """Series by vertex: ``values`` is (vertex, tick), ``levels`` is -1 where no output can be reached."""

    ticks: Array
    values: Array
    levels: Array
    names: tuple[str, ...]

    @cached_property
    def shown(self) -> dict[str, str]:
        """How each name is written in a legend."""
        return short_names(self.names)

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
    theory : what theory predicts, of the same dims; drawn as a wide grey band beneath what was measured

    Values that are no number are left out; zeros stand on a line of their own, named ``exact``. Lines that coincide are
    one line, whose entry in the legend names them all.
    """
    figure, panels, handles = _figure(divergence, theory, title, tolerance, "exact")
    figure_label(figure, panels, "relative difference from backprop")
    if tolerance is not None and tolerance > 0:
        label = f"tolerance {tolerance:g}".replace("e-0", "e-")
        look_of: Any = {"color": VERMILLION, "linewidth": 1.2, "linestyle": "--", "label": label, "zorder": 5}
        handles += [axes.axhline(tolerance, **look_of) for axes in panels][:1]
    legend_below(figure, handles)
    return figure


@look()
def norms(norm: xr.DataArray, title: str, theory: xr.DataArray | None = None) -> Figure:
    """Draw the norm of each vertex's error against ticks; arguments as in ``convergence``."""
    figure, panels, handles = _figure(norm, theory, title, None, "exactly 0")
    figure_label(figure, panels, "norm of the error")
    legend_below(figure, handles)
    return figure


def figure_label(figure: Figure, panels: Sequence[Axes], text: str) -> None:
    """Label the y axis of the panels: once for all of them."""
    if len(panels) == 1:
        panels[0].set_ylabel(text)
    else:
        figure.supylabel(text, fontsize=10)


def _figure(
    data: xr.DataArray, theory: xr.DataArray | None, title: str, tolerance: float | None, zero: str
) -> tuple[Figure, list[Axes], list[Artist]]:
    lines = _lines(data)
    expected = None if theory is None else _lines(theory)
    groups = _panels(lines)
    figure, panels = new_panels(3.2, title, [_span_of(lines, g) for g in groups])
    span = decades(lines.values, () if tolerance is None else (tolerance,))
    few = len(lines.names) <= FEW
    most = 8 if len(panels) == 1 else 4
    for axes, group in zip(panels, groups, strict=True):
        draw_decades(axes, span, zero, most)
        whole_ticks(axes, lines.ticks, most)
        axes.label_outer()
        if expected is not None:
            heights, width = span.heights(expected.values[group]), 5.0 if few else 3.0
            _collect(axes, expected.ticks, heights, BAND, width, 2)
        if not few:
            _draw_many(axes, lines, group, span)
    handles = _draw_few(panels[0], lines, span, zero) if few else _explain_many(figure, panels, lines)
    return figure, panels, handles + _explain_theory(expected, span) + _left_out(lines, span)


def _panels(lines: _Lines) -> list[Array]:
    """Return the lines of each panel: up to eight in one; more by level, in up to four of about equal size."""
    order = np.argsort(lines.levels, kind="stable")
    starts = np.flatnonzero(np.diff(lines.levels[order], prepend=-2))
    if len(order) <= FEW or len(starts) < 2:
        return [np.arange(len(order))]
    count = min(PANELS, len(starts))
    wanted = np.arange(1, count) * len(order) / count
    cuts = sorted({int(starts[1:][np.abs(starts[1:] - place).argmin()]) for place in wanted})
    return np.split(order, cuts)


def _span_of(lines: _Lines, group: Array) -> str:
    """Return how a panel is called: by the levels of its lines."""
    first, last = int(lines.levels[group].min()), int(lines.levels[group].max())
    lost = "" if first >= 0 else "no output reached" if last < 0 else "no output reached, and "
    first = max(first, 0)
    return lost + ("" if last < 0 else f"level {first}" if first == last else f"levels {first} to {last}")


def _draw_few(axes: Axes, lines: _Lines, span: Decades, zero: str) -> list[Artist]:
    handles: list[Artist] = []
    _, colours = lines.colours
    step = max(1, len(lines.ticks) // 8)
    for number, alike in enumerate(_alike(lines, span)):
        first = alike[0]
        [line] = axes.plot(
            lines.ticks, span.heights(lines.values[first]), color=colours[first], linewidth=1.8, alpha=0.85,
            linestyle=LINES[number % len(LINES)], marker=MARKERS[number % len(MARKERS)], markersize=5,
            markevery=(number * step // FEW, step), label=_label(lines, alike, zero), zorder=3,
        )  # fmt: skip
        handles.append(line)
    return handles


def _alike(lines: _Lines, span: Decades) -> list[list[int]]:
    """Return the lines that can be seen, those together that lie on each other."""
    heights = np.log10(span.heights(lines.values), where=lines.values >= 0, out=np.full(lines.values.shape, np.nan))
    near = THICKNESS * (span.high - span.low)
    groups: list[list[int]] = []
    for number in np.flatnonzero(_seen(lines, span)).tolist():
        one = heights[number]
        for group in groups:
            if np.allclose(one, heights[group[0]], rtol=0, atol=near, equal_nan=True):
                group.append(number)
                break
        else:
            groups.append([number])
    return groups


def _seen(lines: _Lines, span: Decades) -> Array:
    """Return which lines have a point within the axes."""
    heights = span.heights(lines.values)
    bottom = span.zero or 10.0**span.low
    return np.asarray(((heights >= bottom) & (heights <= 10.0**span.high)).any(axis=1))


def _label(lines: _Lines, alike: Sequence[int], zero: str) -> str:
    """Return what the legend calls lines that lie on each other: their names, what they are levels of, and zeros."""
    values, names = lines.values[list(alike)], [lines.shown[lines.names[number]] for number in alike]
    sign = " = " if all(np.array_equal(row, values[0], equal_nan=True) for row in values) else " ≈ "
    levels = sorted({int(lines.levels[number]) for number in alike})
    shown = sign.join(names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"])
    return f"{shown} ({_places(levels)})" + (f": {zero} throughout" if not values.any() else "")


def _places(levels: Sequence[int]) -> str:
    """Return levels, in ascending order, as words: ``levels 1 to 5``."""
    known = [level for level in levels if level >= 0]
    parts = ["reaches no output"] if len(known) < len(levels) else []
    if len(known) > 2 and known[-1] - known[0] == len(known) - 1:
        parts.append(f"levels {known[0]} to {known[-1]}")
    elif known:
        parts.append(f"level{'s' if len(known) > 1 else ''} {', '.join(map(str, known))}")
    return ", ".join(parts)


def _left_out(lines: _Lines, span: Decades) -> list[Artist]:
    """Return remarks on the lines that cannot be seen, and why, and on the numbers that are none."""
    hidden = np.flatnonzero(~_seen(lines, span))
    wrong = ~np.isfinite(np.delete(lines.values, hidden, axis=0)).all(axis=0)
    remarks = [remark(f"not finite {_when(lines.ticks, wrong)}")] if wrong.any() else []
    if not len(hidden):
        return remarks
    lost = [number for number in hidden if not np.isfinite(lines.values[number]).any()]
    why = {"no number": lost, "outside of the axis": [number for number in hidden if number not in lost]}
    parts = [f"{some([lines.names[k] for k in found])} ({reason})" for reason, found in why.items() if found]
    return [*remarks, remark(f"not drawn: {'; '.join(parts)}")]


def _when(ticks: Array, chosen: Array) -> str:
    """Return which ticks are chosen: from one on, or one by one."""
    first = int(chosen.argmax())
    if chosen[first:].all() and first + 1 < len(ticks):
        return f"from tick {ticks[first]} on"
    return f"at {'tick' if chosen.sum() == 1 else 'ticks'} {some([str(tick) for tick in ticks[chosen]])}"


def _draw_many(axes: Axes, lines: _Lines, group: Array, span: Decades) -> None:
    colours, heights = lines.colours[1][group], span.heights(lines.values[group])
    if len(lines.ticks) == 1:
        axes.scatter(np.broadcast_to(lines.ticks, len(group)), heights[:, 0], s=12, color=colours, zorder=3)
    else:
        width = 1.4 if len(lines.names) <= 60 else 0.7
        _collect(axes, lines.ticks, heights, colours, width, 3, raster=lines.values.size > RASTER)


def _collect(
    axes: Axes, ticks: Array, heights: Array, colours: Array | str, width: float, order: float, *, raster: bool = False
) -> None:
    from matplotlib.collections import LineCollection

    points = np.stack([np.broadcast_to(ticks, heights.shape), heights], axis=-1)
    lines = LineCollection(list(points), colors=colours, linewidths=width, alpha=0.85, zorder=order)
    lines.set_rasterized(raster)
    lines.set_in_layout(False)
    axes.add_collection(lines, autolim=False)


def _explain_many(figure: Figure, panels: Sequence[Axes], lines: _Lines) -> list[Artist]:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    table, _ = lines.colours
    if (lines.levels >= 0).any():
        mappable = ScalarMappable(Normalize(-0.5, table.N - 0.5), table)
        ticks = MaxNLocator(nbins=8, integer=True, min_n_ticks=1)
        bar = figure.colorbar(mappable, ax=panels, ticks=ticks, label="level (0: outputs)", format=whole_numbers())
        bar.outline.set_visible(False)
    lost = (lines.levels < 0).any()
    return [Line2D([], [], color=GREY, linewidth=1.4, label="reaches no output")] if lost else []


def _explain_theory(theory: _Lines | None, span: Decades) -> list[Artist]:
    from matplotlib.lines import Line2D

    if theory is None or not _seen(theory, span).any():
        return []
    return [Line2D([], [], color=BAND, linewidth=5, label="theory")]


@look()
def series_figure(energy: xr.DataArray, title: str = "") -> Figure:
    """Draw free energy against ticks: on a logarithmic axis where it is positive and falls by much."""
    figure, axes = new_axes(2.9, title)
    values = energy.transpose("tick").to_numpy().astype(float)
    finite = np.isfinite(values)
    ticks, known = energy["tick"].to_numpy(), values[finite]
    if known.size and known.min() > 0 and known.max() > 100 * known.min():
        draw_decades(axes, decades(known), "")
    shown, marker = np.where(finite, values, np.nan), "o" if len(ticks) <= 30 else ""
    axes.plot(ticks, shown, color=BLUE, linewidth=1.8, marker=marker, markersize=4)
    axes.set_ylabel("free energy")
    whole_ticks(axes, ticks)
    if not finite.all():
        legend_below(figure, [remark(f"not finite {_when(ticks, ~finite)}")])
    return figure
