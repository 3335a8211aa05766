"""Figures of claims: what was measured as lines, the paper's numbers as open marks beside them."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

from pcsim.claims.measured_rows import Rows, is_number
from pcsim.view.style import COLOURS, LINES, MARKERS, legend_below, look, new_axes, remark, short_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SERIES = 14
"""So many lines are drawn; a remark says how many more there are."""

FEW = 40
"""Up to so many points of a line are marked."""


@look()
def claim_figure(record: Mapping[str, Any]) -> Figure | None:
    """Draw the measured rows of a claim as its ``figure`` says; None where it says nothing, or nothing was measured."""
    asked = record["figure"]
    if asked is None:
        return None
    series = asked.get("series", [])
    lines = _lines(record["rows"], asked, series)
    if not lines:
        return None
    figure, axes = new_axes(2.9)
    axes.set_xlabel(asked["x"], parse_math=False)
    axes.set_ylabel(asked["y"].replace("_", " "), parse_math=False)
    kinds = _categories(axes, [x for points in lines.values() for x, _ in points])
    looks = _looks(lines)
    handles = _draw(axes, lines, kinds, looks, hollow=False)
    paper = _lines(record["numbers"], asked, [name for name in series if name in _columns(record["numbers"])])
    handles += _draw(axes, paper, kinds, {**_looks(paper), **looks}, hollow=True)
    _scales(axes, asked.get("log", []), [y for points in (*lines.values(), *paper.values()) for _, y in points])
    more = len(lines) - MOST_SERIES
    legend_below(figure, [*handles, *([remark(f"not drawn: {more} more")] if more > 0 else [])])
    return figure


Points = list[tuple[Any, float]]


def _columns(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    return {column for row in rows for column in row}


def _lines(rows: Sequence[Mapping[str, Any]], asked: Mapping[str, Any], series: list[str]) -> dict[str, Points]:
    """Return the points of each series, the mean over rows of one x, in the order of x where it is a number."""
    chosen = Rows((), tuple(rows)).where(asked.get("where", {}))
    found: dict[str, Points] = {}
    for name, group in chosen.apart(series):
        at: dict[Any, list[float]] = {}
        for row, y in group.numbers(asked["y"]):
            if row.get(asked["x"]) is not None:
                at.setdefault(row[asked["x"]], []).append(y)
        points = [(x, sum(values) / len(values)) for x, values in at.items()]
        if points:
            found[name] = sorted(points) if all(is_number(x) for x, _ in points) else points
    return found


def _categories(axes: Axes, xs: Sequence[Any]) -> dict[Any, int] | None:
    """Return where each x stands that is a text; None where all are numbers."""
    if all(map(is_number, xs)):
        return None
    kinds = {x: number for number, x in enumerate(dict.fromkeys(xs))}
    axes.set_xticks(list(kinds.values()), [str(x) for x in kinds], rotation=20, ha="right", parse_math=False)
    return kinds


Looks = dict[str, tuple[str, str, Any]]


def _looks(lines: dict[str, Points]) -> Looks:
    """Return colour, marker and line of each series."""
    return dict(zip(lines, zip(cycle(COLOURS), cycle(MARKERS), cycle(LINES), strict=False), strict=False))


def _draw(
    axes: Axes, lines: dict[str, Points], kinds: dict[Any, int] | None, looks: Looks, *, hollow: bool
) -> list[Artist]:
    labels = short_names(lines, 34)
    handles: list[Artist] = []
    for name, points in list(lines.items())[:MOST_SERIES]:
        colour, marker, line = looks[name]
        xs = [x if kinds is None else kinds[x] for x, _ in points if kinds is None or x in kinds]
        ys = [y for x, y in points if kinds is None or x in kinds]
        bare = hollow or kinds is not None
        [drawn] = axes.plot(
            xs, ys, color=colour, linestyle="none" if bare else line, linewidth=1.6,
            marker=marker if bare or len(xs) <= FEW else "", markersize=8 if hollow else 5,
            markerfacecolor="none" if hollow else colour, label=_label(labels[name], hollow=hollow),
        )  # fmt: skip
        handles.append(drawn)
    return handles


def _label(name: str, *, hollow: bool) -> str:
    return " ".join(filter(None, (name, "(paper)" if hollow else ""))) or "measured"


def _scales(axes: Axes, log: Sequence[str], ys: Sequence[float]) -> None:
    """Make axes logarithmic; where a number is zero, y is linear near zero."""
    if "x" in log:
        axes.set_xscale("log")
    positive = [y for y in ys if y > 0]
    if "y" in log and positive:
        if min(ys) > 0:
            axes.set_yscale("log")
        else:
            axes.set_yscale("symlog", linthresh=min(positive))
