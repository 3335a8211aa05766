"""Columns and lanes of a drawing: a long arrow has a lane in each column it crosses, so it meets no box."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pcsim.view.picture import Arrow, Picture

SWEEPS = 16
Columns = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Link:
    """A piece of an arrow between neighbouring columns; ``number`` tells parallel ones apart."""

    pre: str
    post: str
    number: int


@dataclass(frozen=True)
class Layout:
    """Boxes and lanes of each column, from the bottom, and the links that each arrow takes."""

    columns: Columns
    routes: tuple[tuple[Link, ...], ...]

    @property
    def links(self) -> tuple[Link, ...]:
        """All links, each once: arrows without a label that leave one box share a lane."""
        return tuple(dict.fromkeys(link for route in self.routes for link in route))


def layout(picture: Picture) -> Layout:
    """Order boxes and lanes so that few arrows cross (Sugiyama's barycentre sweeps)."""
    seen: Counter[tuple[str, str]] = Counter()
    columns: list[dict[str, None]] = [{} for _ in picture.headings]
    for box in picture.boxes.values():
        columns[box.column][box.key] = None
    routes = []
    for number, arrow in enumerate(picture.arrows):
        repeat = seen[arrow.pre, arrow.post]
        seen[arrow.pre, arrow.post] += 1
        lane = f"{number}" if arrow.label else f"{arrow.uneven}{repeat}"
        routes.append(_route(picture, arrow, repeat, lane))
        for place, link in enumerate(routes[-1][:-1], picture.boxes[arrow.pre].column + 1):
            columns[place][link.post] = None
    found = Layout(tuple(map(tuple, columns)), tuple(routes))
    return Layout(_ordered(found), found.routes)


def _route(picture: Picture, arrow: Arrow, repeat: int, lane: str) -> tuple[Link, ...]:
    first, last = picture.boxes[arrow.pre].column, picture.boxes[arrow.post].column
    lanes = [f"\0{arrow.pre}\0{lane}\0{place}" for place in range(first + 1, last)]
    stops = [arrow.pre, *lanes, arrow.post]
    numbers = [repeat if not lanes else 0] * (len(stops) - 1)
    return tuple(Link(*stop) for stop in zip(stops, stops[1:], numbers, strict=False))


def is_lane(key: str) -> bool:
    """Tell a lane from a box: the name of a vertex has no character that does not show."""
    return key.startswith("\0")


def _ordered(found: Layout) -> Columns:
    before, after = neighbours(found.links)
    best = now = found.columns
    fewest = crossings(now, found.links)
    for sweep in range(SWEEPS):
        now = _sweep(now, before) if sweep % 2 == 0 else _sweep(now[::-1], after)[::-1]
        if (count := crossings(now, found.links)) < fewest:
            best, fewest = now, count
    return best


def neighbours(links: Iterable[Link]) -> tuple[Mapping[str, list[str]], Mapping[str, list[str]]]:
    """Return what is linked to each box or lane on its left, and on its right."""
    before: dict[str, list[str]] = defaultdict(list)
    after: dict[str, list[str]] = defaultdict(list)
    for link in links:
        before[link.post].append(link.pre)
        after[link.pre].append(link.post)
    return before, after


def _sweep(columns: Sequence[tuple[str, ...]], beside: Mapping[str, list[str]]) -> Columns:
    """Sort each column by the mean place of what it is linked to in the column before."""
    done = [columns[0]]
    for column in columns[1:]:
        place = {key: (2 * rank + 1) / len(done[-1]) for rank, key in enumerate(done[-1])}
        own = {key: (2 * rank + 1) / len(column) for rank, key in enumerate(column)}
        wish = {key: _mean([place[other] for other in beside.get(key, ())], own[key]) for key in column}
        done.append(tuple(sorted(column, key=wish.__getitem__)))
    return tuple(done)


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def crossings(columns: Columns, links: Iterable[Link]) -> int:
    """Return how many pairs of links cross."""
    place = {key: (number, rank) for number, column in enumerate(columns) for rank, key in enumerate(column)}
    gaps: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for link in links:
        gaps[place[link.pre][0]].append((place[link.pre][1], place[link.post][1]))
    return sum(_crossings(np.array(pairs)) for pairs in gaps.values())


def _crossings(pairs: np.ndarray) -> int:
    left, right = pairs[:, 0], pairs[:, 1]
    return int(((left[:, None] < left) & (right[:, None] > right)).sum())
