"""Ticks to convergence against something that a sweep varies: depth, step size, width, delay."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, pairwise
from math import log10
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import wrong
from pcsim.view.scales import decades, draw_decades
from pcsim.view.style import BLACK, COLOURS, MARKERS, legend_below, look, new_axes, remark, short_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

HIDDEN = 0.025
"""Part of the height of the axes within which one mark hides another."""

AT_ONCE = 0.5
"""Where 0 ticks are drawn on an axis that has no zero."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes
    ----------
    x : what was varied
    series : runs of one series share a colour and a marker
    measured : ticks to convergence, None if it was not reached within ``horizon``; or another value
    horizon : ticks of the run
    predicted : the same by theory; None where theory has no closed form
    diverged : the run grew without bound
    spread : where a bar around a mean begins and ends
    share : how many of the runs a mean is of, where it is not of all: ``4 of 5``
    """

    x: float
    series: str
    measured: float | None
    horizon: int
    predicted: float | None
    diverged: bool = False
    spread: tuple[float, float] | None = None
    share: str = ""


@dataclass(frozen=True)
class _Kind:
    """Runs that share one look: how they are named, and how they are drawn."""

    label: str
    marker: str


_UNFINISHED: Any = {"color": BLACK, "markersize": 8, "markeredgewidth": 1.5, "markerfacecolor": "white"}
LATE, DIVERGED = _Kind("not within the horizon", "^"), _Kind("diverged", "x")


@dataclass(frozen=True)
class _ValueAxis:
    """The y axis: where a value is drawn, where a run without one, and what runs that have a value are called."""

    height: Callable[[float], float]
    end: Callable[[Point], float]
    ended: str


@look()
def ticks_against(points: Sequence[Point], *, x_label: str, title: str, y_label: str | None = None) -> Figure:
    """Draw ticks to convergence against ``x``, one colour and marker a series, theory as a line beneath.

    Runs that did not converge stand at their horizon, as open arrowheads or (diverged) crosses. Both axes
    are logarithmic, but for x where some x is not positive.

    With a ``y_label`` what was measured is no count of ticks: it is drawn over whole decades, exact zeros on
    a line of their own, diverged runs at the top, and runs without a value not at all. Raises InputError where
    there is no point.
    """
    points = [point for point in points if y_label is None or point.diverged or point.measured is not None]
    if not points:
        raise wrong((), "there is no run to draw: the sweep is empty")
    figure, axes = new_axes(3.5, title)
    axes.set_xlabel(x_label, parse_math=False)
    axes.set_ylabel(fill(y_label or "ticks to convergence", 34), parse_math=False)
    axes.grid(color="#E8E8E8", linewidth=0.6)
    axes.set_axisbelow(True)
    _x_axis(axes, [point.x for point in points])
    scale = _tick_axis(axes, points) if y_label is None else _value_axis(axes, points)
    legend_below(figure, _draw(axes, points, scale))
    return figure


def _tick_axis(axes: Axes, points: Sequence[Point]) -> _ValueAxis:
    scale = _ValueAxis(lambda ticks: max(ticks, AT_ONCE), lambda point: max(point.horizon, AT_ONCE), "converged")
    ends = [scale.end(point) for point in points if _kind(point)]
    _y_axis(axes, [*map(scale.height, _values(points)), *ends])
    return scale


def _value_axis(axes: Axes, points: Sequence[Point]) -> _ValueAxis:
    span = decades(np.array(_values(points), float))
    draw_decades(axes, span, "exact")
    return _ValueAxis(lambda value: float(span.heights(np.array(value, float))), lambda _: 10.0**span.high, "finished")


def _values(points: Sequence[Point]) -> list[float]:
    """Return all that is drawn of what was measured and predicted."""
    ends = [(_measured(point), point.predicted, *(point.spread or ())) for point in points]
    return [value for each in ends for value in each if value is not None]


def _measured(point: Point) -> float | None:
    return None if point.diverged else point.measured


def _draw(axes: Axes, points: Sequence[Point], scale: _ValueAxis) -> list[Artist]:
    handles: list[Artist] = []
    names = dict.fromkeys(point.series for point in points)
    labels = short_names(names, 30)
    series = [sorted((p for p in points if p.series == name), key=lambda point: point.x) for name in names]
    step = min(7.0, 28 / len(series)) if any(point.spread for point in points) else 0.0
    for number, (mine, colour, marker) in enumerate(zip(series, cycle(COLOURS), cycle(MARKERS), strict=False)):
        beneath = 0 if step else min(3, _beneath(axes, mine, series[number + 1 :], scale))
        aside = _aside(axes, step * (number - (len(series) - 1) / 2))
        look_of = _Look(labels[mine[0].series], colour, marker, 7 + 4 * beneath, aside)
        handles += _draw_series(axes, mine, scale, look_of)
        for point in mine:
            _draw_unfinished(axes, point, scale, colour, points)
    return handles + _explained(points, scale.ended)


@dataclass(frozen=True)
class _Look:
    """How a series is drawn; ``transform`` puts series with bars side by side."""

    label: str
    colour: str
    marker: str
    size: float
    transform: Any


def _aside(axes: Axes, shift: float) -> Any:
    """Return the places of data, so many points to the right."""
    from matplotlib.transforms import ScaledTranslation

    return axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)


def _beneath(axes: Axes, mine: Sequence[Point], later: Sequence[Sequence[Point]], scale: _ValueAxis) -> int:
    """Return how many later series have a mark on one of these: what lies beneath is drawn larger, to be seen."""
    low, high = axes.get_ylim()
    near = HIDDEN * log10(high / low)

    def places(points: Sequence[Point]) -> list[tuple[float, float]]:
        return [(p.x, log10(scale.height(value))) for p in points if (value := _measured(p)) is not None]

    here = places(mine)
    return sum(any(x == x2 and abs(y - y2) < near for x, y in here for x2, y2 in places(other)) for other in later)


def _draw_series(axes: Axes, points: Sequence[Point], scale: _ValueAxis, look_of: _Look) -> list[Artist]:
    colour, size, at = look_of.colour, look_of.size, look_of.transform
    theory = [(point.x, scale.height(point.predicted)) for point in points if point.predicted is not None]
    if len(theory) > 1:
        axes.plot(*zip(*theory, strict=True), color=colour, linewidth=size / 4 - 0.5, zorder=2 - 0.001 * size)
    elif theory:
        axes.scatter(*theory[0], s=250, color=colour, marker="_", linewidth=1.2, zorder=2, transform=at)
    found = [(point.x, scale.height(value)) for point in points if (value := _measured(point)) is not None]
    x, y = zip(*found, strict=True) if found else ((), ())
    [line] = axes.plot(x, y, color=colour, linestyle="", marker=look_of.marker, markersize=size, transform=at)
    line.set(markeredgecolor="white", markeredgewidth=0.4, zorder=3 - 0.001 * size, label=look_of.label)
    for point in points:
        _draw_spread(axes, point, scale, look_of)
    return [line]


def _draw_spread(axes: Axes, point: Point, scale: _ValueAxis, look_of: _Look) -> None:
    if point.spread is not None:
        ends = [scale.height(end) for end in point.spread]
        [bar] = axes.plot([point.x] * 2, ends, color=look_of.colour, marker="_", transform=look_of.transform)
        bar.set(linewidth=1.4, markersize=6, zorder=2.5)
    if point.share and (value := _measured(point)) is not None:
        axes.text(
            point.x, scale.height(value), f"  {point.share}", fontsize=8, va="bottom", transform=look_of.transform
        )


def _draw_unfinished(axes: Axes, point: Point, scale: _ValueAxis, colour: str, points: Sequence[Point]) -> None:
    kind = _kind(point)
    if kind is not None:
        # runs of several series that end at one place stand side by side, 9 points apart
        here = [
            other for other in points if _kind(other) and (other.x, scale.end(other)) == (point.x, scale.end(point))
        ]
        shift = 9 * (here.index(point) - (len(here) - 1) / 2)
        place = _aside(axes, shift)
        [mark] = axes.plot(point.x, scale.end(point), linestyle="", marker=kind.marker, transform=place)
        mark.set(**_UNFINISHED, zorder=4, clip_on=False)
        mark.set_color(colour)


def _kind(point: Point) -> _Kind | None:
    return DIVERGED if point.diverged else LATE if point.measured is None else None


def _explained(points: Sequence[Point], ended: str) -> list[Artist]:
    """Return one legend entry each for theory, for spreads, and for the runs that did not converge."""
    from matplotlib.lines import Line2D

    found = {_kind(point) for point in points}
    theory = Line2D([], [], color=BLACK, linewidth=1.2, label="theory (line)")
    kinds = [
        Line2D([], [], linestyle="", marker=kind.marker, label=kind.label, **_UNFINISHED)
        for kind in (LATE, DIVERGED)
        if kind in found
    ]
    bars = Line2D([], [], color=BLACK, linestyle="", marker="|", markersize=11, label="± standard deviation over seeds")
    shares = f"k of n: mean of the k {ended} runs"
    return [
        *([theory] if any(point.predicted is not None for point in points) else ()),
        *([bars] if any(point.spread for point in points) else ()),
        *kinds,
        *([remark(shares)] if any(point.share for point in points) else ()),
    ]


def _x_axis(axes: Axes, values: Sequence[float]) -> None:
    """Give the x axis room for every run: matplotlib leaves out those that are drawn aside."""
    places = sorted(set(values))
    if places[0] <= 0:
        pad = 0.06 * (places[-1] - places[0]) or 0.5
        axes.set_xlim(places[0] - pad, places[-1] + pad)
        return
    axes.set_xscale("log", base=2)
    axes.set_xlim(*_around(places))
    least = 0.06 * log10(places[-1] / places[0])
    roomy = all(log10(after / before) > least for before, after in pairwise(places))
    _plain(axes.xaxis, places if roomy and len(places) <= 8 else None, 2)


def _y_axis(axes: Axes, heights: Sequence[float]) -> None:
    base = 2 if max(heights) < 1000 * min(heights) else 10
    axes.set_yscale("log", base=base)
    axes.set_ylim(*_around(heights))
    _plain(axes.yaxis, None, base)


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Return the limits of a logarithmic axis that holds these values and their markers."""
    low, high = min(values), max(values)
    pad = (high / low) ** 0.06 if high > low else 1.4
    return low / pad, high * pad


def _plain(axis: Axis, places: Sequence[float] | None, base: int) -> None:
    """Label an axis with plain numbers, at these places or at powers of the base."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(FixedLocator(places) if places else LogLocator(base=base, numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))
    axis.set_minor_locator(NullLocator())
