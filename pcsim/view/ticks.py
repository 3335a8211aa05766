"""Ticks to convergence against something that a sweep varies: depth, step size, width, delay."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, pairwise
from math import log10
from typing import TYPE_CHECKING, Any

from pcsim.errors import wrong
from pcsim.view.style import BLACK, COLOURS, MARKERS, legend_below, look, new_axes, short

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

AT_ONCE = 0.5
"""Where 0 ticks are drawn on an axis that has no zero."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes
    ----------
    x : what was varied
    series : runs of one series share a colour and a marker
    measured : ticks to convergence; None if it was not reached within ``horizon``
    horizon : ticks of the run
    predicted : ticks to convergence by theory; None where theory has no closed form
    diverged : the run grew without bound
    """

    x: float
    series: str
    measured: float | None
    horizon: int
    predicted: float | None
    diverged: bool = False


@dataclass(frozen=True)
class _Kind:
    """Runs that share one look: how they are told, and how they are drawn."""

    label: str
    marker: str


_UNFINISHED: Any = {"color": BLACK, "markersize": 8, "markeredgewidth": 1.5, "markerfacecolor": "white"}
LATE, DIVERGED = _Kind("not within the horizon", "^"), _Kind("diverged", "x")


@look()
def ticks_against(
    points: Sequence[Point], *, x_label: str, title: str, y_label: str = "ticks to convergence"
) -> Figure:
    """Draw ticks to convergence against ``x``, one colour and marker a series, theory as a line beneath.

    Runs that did not converge stand at their horizon, as open arrowheads or (diverged) crosses. Both axes
    are logarithmic, but for x where some x is not positive. Raises InputError where there is no point.
    """
    if not points:
        raise wrong((), "there is no run to draw: the sweep is empty")
    figure, axes = new_axes(3.8, title)
    axes.set_xlabel(x_label, parse_math=False)
    axes.set_ylabel(y_label, parse_math=False)
    axes.grid(color="#E8E8E8", linewidth=0.6)
    axes.set_axisbelow(True)
    _x_axis(axes, [point.x for point in points])
    _y_axis(axes, [height for point in points for height in _heights(point)])
    legend_below(figure, _draw(axes, points))
    return figure


def _heights(point: Point) -> Iterable[float]:
    found = (_measured(point) or point.horizon, point.predicted)
    return [max(height, AT_ONCE) for height in found if height is not None]


def _measured(point: Point) -> float | None:
    return None if point.diverged else point.measured


def _draw(axes: Axes, points: Sequence[Point]) -> list[Artist]:
    handles: list[Artist] = []
    names = list(dict.fromkeys(point.series for point in points))
    for name, colour, marker in zip(names, cycle(COLOURS), cycle(MARKERS), strict=False):
        mine = sorted((point for point in points if point.series == name), key=lambda point: point.x)
        handles += _draw_series(axes, name, mine, colour, marker)
        for point in mine:
            _draw_unfinished(axes, point, colour, points)
    return handles + _explained(points)


def _draw_series(axes: Axes, name: str, points: Sequence[Point], colour: str, marker: str) -> list[Artist]:
    theory = [(point.x, max(point.predicted, AT_ONCE)) for point in points if point.predicted is not None]
    if theory:
        axes.plot(*zip(*theory, strict=True), color=colour, linewidth=1.2, zorder=2)
    found = [(point.x, max(ticks, AT_ONCE)) for point in points if (ticks := _measured(point)) is not None]
    x, y = zip(*found, strict=True) if found else ((), ())
    [line] = axes.plot(x, y, color=colour, linestyle="", marker=marker, markersize=7, label=short(name, 30))
    line.set(markeredgecolor="white", markeredgewidth=0.4, zorder=3)
    return [line]


def _draw_unfinished(axes: Axes, point: Point, colour: str, points: Sequence[Point]) -> None:
    from matplotlib.transforms import ScaledTranslation

    kind = _kind(point)
    if kind is not None:
        # runs of several series that end at one place stand side by side, 9 points apart
        here = [other for other in points if _kind(other) and _end(other) == _end(point)]
        shift = 9 * (here.index(point) - (len(here) - 1) / 2)
        aside = axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
        [mark] = axes.plot(point.x, point.horizon, linestyle="", marker=kind.marker, transform=aside)
        mark.set(**_UNFINISHED, zorder=4)
        mark.set_color(colour)


def _end(point: Point) -> tuple[float, int]:
    return point.x, point.horizon


def _kind(point: Point) -> _Kind | None:
    return DIVERGED if point.diverged else LATE if point.measured is None else None


def _explained(points: Sequence[Point]) -> list[Artist]:
    """Return one legend entry each for theory and for the runs that did not converge."""
    from matplotlib.lines import Line2D

    found = {_kind(point) for point in points}
    theory = Line2D([], [], color=BLACK, linewidth=1.2, label="theory (line)")
    kinds = [
        Line2D([], [], linestyle="", marker=kind.marker, label=kind.label, **_UNFINISHED)
        for kind in (LATE, DIVERGED)
        if kind in found
    ]
    return [*([theory] if any(point.predicted is not None for point in points) else ()), *kinds]


def _x_axis(axes: Axes, values: Sequence[float]) -> None:
    if min(values) <= 0:
        return
    axes.set_xscale("log", base=2)
    places = sorted(set(values))
    least = 0.06 * log10(places[-1] / places[0])
    roomy = all(log10(after / before) > least for before, after in pairwise(places))
    _plain(axes.xaxis, places if roomy and len(places) <= 8 else None, 2)


def _y_axis(axes: Axes, heights: Sequence[float]) -> None:
    base = 2 if max(heights) < 1000 * min(heights) else 10
    axes.set_yscale("log", base=base)
    axes.set_ylim(min(heights) / 1.4, max(heights) * 1.4)
    _plain(axes.yaxis, None, base)


def _plain(axis: Axis, places: Sequence[float] | None, base: int) -> None:
    """Label an axis with plain numbers, at these places or at powers of the base."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(FixedLocator(places) if places else LogLocator(base=base, numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))
    axis.set_minor_locator(NullLocator())
