"""The drawing of a graph: levels from left to right, roles by colour and border, delays on the arrows."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

from pcsim.view.coordinates import labels, positions_of
from pcsim.view.lanes import layout
from pcsim.view.picture import LOST, picture
from pcsim.view.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LINE,
    ORANGE,
    VERMILLION,
    WIDTH,
    legend_columns,
    look,
    text_size,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pcsim.graph.graph import Graph
    from pcsim.view.coordinates import Point, Positions
    from pcsim.view.lanes import Layout, Link
    from pcsim.view.picture import Box, Picture

MARGIN, ROW = 0.15, 0.2
DARK = "#303030"

ROLES: dict[str, dict[str, Any]] = {
    "source": {"facecolor": "#CFE6F5", "edgecolor": BLUE, "linewidth": 1.2, "linestyle": "-"},
    "parameter": {"facecolor": "#D3EEE5", "edgecolor": GREEN, "linewidth": 1.2, "linestyle": (0, (3, 1.5))},
    "free": {"facecolor": "#FFFFFF", "edgecolor": DARK, "linewidth": 1.0, "linestyle": "-"},
    "output": {"facecolor": "#FBE7BF", "edgecolor": ORANGE, "linewidth": 2.6, "linestyle": "-"},
    LOST: {"facecolor": "#EEEEEE", "edgecolor": GREY, "linewidth": 1.2, "linestyle": (0, (1, 1.2))},
}
"""Roles differ in border as well as in colour, so that they are told apart in grey."""

UNEVEN = "shorter than its level: needs levelling"


@look()
def drawing(graph: Graph) -> Figure:
    """Draw a graph: sources on the left, outputs on the right, one column a level.

    Above 60 vertices, those of one level, op and role share a box that tells their number. Edges shorter
    than their level are dashed and in the warning colour.
    """
    from matplotlib.figure import Figure

    shown = picture(graph)
    found = layout(shown)
    placed = positions_of(shown, found, text_size)
    title = fill(graph.title, 60)
    canvas = _canvas(placed, title, _handles(shown))
    figure = Figure(figsize=(canvas.width, canvas.height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(canvas.left, canvas.left + canvas.width)
    axes.set_ylim(canvas.bottom, canvas.bottom + canvas.height)
    axes.set_axis_off()
    _draw(axes, shown, found, placed)
    _surround(figure, axes, canvas, title, _handles(shown))
    return figure


@dataclass(frozen=True)
class _Canvas:
    """The figure in the coordinates of the drawing, in inches."""

    left: float
    bottom: float
    width: float
    height: float
    columns: int
    """Columns of the legend."""


def _canvas(placed: Positions, title: str, handles: Sequence[Artist]) -> _Canvas:
    low = min(placed.height[key] - placed.extent[key] / 2 for key in placed.height)
    high = max(placed.height[key] + placed.extent[key] / 2 for key in placed.height)
    across = placed.columns[-1][1]
    width = max(WIDTH, across + 2 * MARGIN + 0.3)
    columns = legend_columns([str(handle.get_label()) for handle in handles], width)
    below = ROW * -(-len(handles) // columns) + 2 * MARGIN + 0.25
    above = MARGIN + (0.1 + ROW * (title.count("\n") + 1) if title else 0.0)
    return _Canvas((across - width) / 2, low - below, width, high - low + below + above, columns)


def _draw(axes: Axes, shown: Picture, found: Layout, placed: Positions) -> None:
    for arrow, route in zip(shown.arrows, found.routes, strict=True):
        _draw_arrow(axes, route, placed, uneven=arrow.uneven)
    for box in shown.boxes.values():
        _draw_box(axes, box, placed)
    taken: list[Rectangle] = []
    for link, arrow in labels(shown, found).items():
        at = _free_spot(link, arrow.label, placed, found.links, taken)
        axes.text(*at, arrow.label, ha="center", va="center", linespacing=1.0, zorder=4,
                  color=VERMILLION if arrow.uneven else BLACK,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # fmt: skip
    low = min(placed.height[key] - placed.extent[key] / 2 for key in placed.height)
    for (left, right), heading in zip(placed.columns, shown.headings, strict=True):
        axes.text((left + right) / 2, low - 0.12, heading, ha="center", va="top", color="#555555")
    for column in shown.breaks:
        middle = (placed.columns[column - 1][1] + placed.columns[column][0]) / 2
        axes.text(middle, low - 0.12, "…", ha="center", va="top", color="#555555")


def _draw_arrow(axes: Axes, route: Sequence[Link], placed: Positions, *, uneven: bool) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    points, codes = [placed.start[route[0]]], [Path.MOVETO]
    for link in route:
        begin, end = placed.start[link], placed.end[link]
        middle = (begin[0] + end[0]) / 2
        points += [begin, (middle, begin[1]), (middle, end[1]), end]
        codes += [Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    colour, style = (VERMILLION, (0, (4, 1.5))) if uneven else (DARK, "-")
    path = Path(points, codes)
    axes.add_patch(FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=9, shrinkA=0, shrinkB=0,
                                   color=colour, linestyle=style, linewidth=1.1, zorder=2))  # fmt: skip


def _draw_box(axes: Axes, box: Box, placed: Positions) -> None:
    from matplotlib.patches import FancyBboxPatch

    (left, right), height = placed.columns[box.column], placed.extent[box.key]
    y = placed.height[box.key]
    shape = "square,pad=0" if box.role in ("source", "parameter") else "round,pad=0,rounding_size=0.08"
    corner, width = (left, y - height / 2), right - left
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=shape, zorder=3, **ROLES[box.role]))
    for line, weight, aside in zip(box.lines, ("bold", "normal"), (LINE / 2, -LINE / 2), strict=True):
        axes.text((left + right) / 2, y + aside, line, ha="center", va="center", weight=weight,
                  zorder=4, parse_math=False)  # fmt: skip


Rectangle = tuple[float, float, float, float]


def _free_spot(link: Link, label: str, placed: Positions, links: Iterable[Link], taken: list[Rectangle]) -> Point:
    """Return a place on a link where its label hides nothing, or as little as there is to choose from."""
    width, height = text_size(label)
    x = placed.start[link][0]
    gap = [other for other in links if other != link and placed.start[other][0] == x]
    lines = [_along(other, placed, step / 20) for other in gap for step in range(21)]

    def around(at: Point) -> Rectangle:
        return at[0] - width / 2, at[1] - height / 2, at[0] + width / 2, at[1] + height / 2

    def cost(at: Point) -> float:
        own = around(at)
        hidden = sum(_within(point, own) for point in lines)
        return hidden + 100 * sum(_overlap(own, other) for other in taken)

    best = min((_along(link, placed, t) for t in (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74)), key=cost)
    taken.append(around(best))
    return best


def _along(link: Link, placed: Positions, t: float) -> Point:
    """Return the point of a link's Bezier curve at ``t``."""
    (x, y), (x1, y1) = placed.start[link], placed.end[link]
    return x + (x1 - x) * (1.5 * t * (1 - t) + t**3), y + (y1 - y) * t * t * (3 - 2 * t)


def _within(point: Point, box: Rectangle) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _handles(shown: Picture) -> list[Artist]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    present = {box.role for box in shown.boxes.values()}
    handles: list[Artist] = [Patch(**ROLES[role], label=role) for role in ROLES if role in present]
    if any(arrow.label for arrow in shown.arrows):
        handles.append(Line2D([], [], color=BLACK, linestyle="", marker="$2$", label="delay in ticks"))
    if any(arrow.uneven for arrow in shown.arrows):
        handles.append(Line2D([], [], color=VERMILLION, linestyle=(0, (4, 1.5)), label=UNEVEN))
    return handles


def _surround(figure: Figure, axes: Axes, canvas: _Canvas, title: str, handles: Sequence[Artist]) -> None:
    x, top = canvas.left + canvas.width / 2, canvas.bottom + canvas.height - MARGIN
    axes.text(x, top, title, ha="center", va="top", fontsize=10, parse_math=False)
    figure.legend(handles=handles, loc="lower center", ncols=canvas.columns)
