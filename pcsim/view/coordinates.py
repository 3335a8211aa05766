"""Where things stand in a drawing, in inches: boxes and lanes kept apart, links at ports of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pcsim.view.lanes import is_lane, neighbours
from pcsim.view.style import LINE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcsim.view.lanes import Layout, Link
    from pcsim.view.picture import Arrow, Picture

Point = tuple[float, float]
Measure = Callable[[str], tuple[float, float]]

PAD = 0.09
"""Room around the text of a box."""
APART, PORT, GAP = 0.2, 0.13, 0.45
"""Least distance between boxes of a column, between ports of a box, and between columns."""
ROUNDS = 60


@dataclass(frozen=True)
class Positions:
    """Heights of centres, and extents, of boxes and lanes; ports of links; both edges of each column."""

    height: Mapping[str, float]
    extent: Mapping[str, float]
    start: Mapping[Link, Point]
    end: Mapping[Link, Point]
    columns: tuple[Point, ...]


def positions_of(picture: Picture, found: Layout, measure: Measure) -> Positions:
    """Return where everything stands; ``measure`` returns the width and height of a text."""
    rooms = _rooms(picture, found, measure)
    extent = _extents(picture, rooms)
    columns, height = _columns(picture, found, measure), _heights(found, extent)
    edge = {key: ends for keys, ends in zip(found.columns, columns, strict=True) for key in keys}
    start = _ports(rooms, height, {key: ends[1] for key, ends in edge.items()}, leaving=True)
    end = _ports(rooms, height, {key: ends[0] for key, ends in edge.items()}, leaving=False)
    return Positions(height, extent, start, end, columns)


def labels(picture: Picture, found: Layout) -> dict[Link, Arrow]:
    """Return the arrow whose label stands on a link: the middle one of its route."""
    pairs = zip(picture.arrows, found.routes, strict=True)
    return {route[(len(route) - 1) // 2]: arrow for arrow, route in pairs if arrow.label}


def _rooms(picture: Picture, found: Layout, measure: Measure) -> dict[Link, float]:
    """Return the height that each link needs at its ports: more where it carries a label."""
    rooms = dict.fromkeys(found.links, PORT)
    for link, arrow in labels(picture, found).items():
        rooms[link] = max(PORT, measure(arrow.label)[1] + 0.08)
    return rooms


def _extents(picture: Picture, rooms: Mapping[Link, float]) -> dict[str, float]:
    """Return how high boxes are, so that all their ports have room, and lanes."""
    left, right = _sums(rooms, leaving=False), _sums(rooms, leaving=True)
    lanes = {key: PORT for link in rooms for key in (link.pre, link.post) if is_lane(key)}
    return lanes | {key: max(2 * (LINE + PAD), left[key], right[key]) for key in picture.boxes}


def _sums(rooms: Mapping[Link, float], *, leaving: bool) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for link, room in rooms.items():
        sums[link.pre if leaving else link.post] += room
    return sums


def _columns(picture: Picture, found: Layout, measure: Measure) -> tuple[Point, ...]:
    """Return the edges of columns; all boxes of a column are as wide as its widest text needs."""
    widths = [measure(text)[0] - 0.3 for text in picture.headings]
    for box in picture.boxes.values():
        widths[box.column] = max(0.5, widths[box.column], *(measure(line)[0] + 2 * PAD for line in box.lines))
    lefts = np.concatenate([[0.0], np.cumsum(np.add(widths[:-1], _gaps(picture, found, measure)))])
    return tuple((float(left), float(left) + width) for left, width in zip(lefts, widths, strict=True))


def _gaps(picture: Picture, found: Layout, measure: Measure) -> list[float]:
    """Return the room between columns: wider for labels, and where many links run up and down."""
    column = {key: number for number, keys in enumerate(found.columns) for key in keys}
    gaps = [GAP] * (len(found.columns) - 1)
    for link in found.links:
        gaps[column[link.pre]] += 0.012
    for link, arrow in labels(picture, found).items():
        number = column[link.pre]
        gaps[number] = max(gaps[number], measure(arrow.label)[0] + GAP + 0.25)
    return gaps


def _heights(found: Layout, extent: Mapping[str, float]) -> dict[str, float]:
    """Return the height of each centre: near what it is linked to, without overlap in its column."""
    before, after = neighbours(found.links)
    height = {key: 0.0 for column in found.columns for key in column}
    for turn in range(ROUNDS):
        for column in found.columns if turn % 2 == 0 else reversed(found.columns):
            wish = [_wish(height, [*before.get(key, ()), *after.get(key, ())], key) for key in column]
            firm = [0.05 if is_lane(key) else 1.0 for key in column]  # a lane gives way to a box
            height |= zip(column, apart(wish, [extent[key] for key in column], firm), strict=True)
    return height


def _wish(height: Mapping[str, float], others: Sequence[str], key: str) -> float:
    # like pulls like: a chain of boxes stays straight, and so does a long arrow, beside each other
    weights = [1.0 if is_lane(other) == is_lane(key) else 0.15 for other in others]
    return float(np.average([height[other] for other in others], weights=weights)) if others else 0.0


def apart(wish: Sequence[float], extent: Sequence[float], firm: Sequence[float]) -> list[float]:
    """Return the heights nearest to those wished (least squares, weighted) at which nothing overlaps.

    With the least distances taken off, that is regression by a non-decreasing sequence: neighbours in
    the wrong order are pooled to their mean.

    >>> apart([0.0, 0.0], [1.0, 1.0], [1.0, 1.0])
    [-0.6, 0.6]
    """
    steps = [0.0, *((one + other) / 2 + APART for one, other in pairwise(extent))]
    base = np.cumsum(steps)
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(np.subtract(wish, base), firm, strict=True):
        pool = (float(value), weight, 1)
        while pools and pools[-1][0] > pool[0]:
            pool = _pooled(pools.pop(), pool)
        pools.append(pool)
    return [float(x) for x in np.repeat([pool[0] for pool in pools], [pool[2] for pool in pools]) + base]


def _pooled(one: tuple[float, float, int], other: tuple[float, float, int]) -> tuple[float, float, int]:
    weight = one[1] + other[1]
    return (one[0] * one[1] + other[0] * other[1]) / weight, weight, one[2] + other[2]


def _ports(
    rooms: Mapping[Link, float], height: Mapping[str, float], edge: Mapping[str, float], *, leaving: bool
) -> dict[Link, Point]:
    """Return where links touch their boxes: one above the other, in the order of their far ends."""
    of_box: dict[str, list[Link]] = defaultdict(list)
    for link in sorted(rooms, key=lambda link: (height[link.post if leaving else link.pre], link.number)):
        of_box[link.pre if leaving else link.post].append(link)
    ports: dict[Link, Point] = {}
    for key, mine in of_box.items():
        room = np.array([0.0 if is_lane(key) else rooms[link] for link in mine])
        middle = height[key] - room.sum() / 2 + room.cumsum() - room / 2
        ports |= {link: (edge[key], float(y)) for link, y in zip(mine, middle, strict=True)}
    return ports
