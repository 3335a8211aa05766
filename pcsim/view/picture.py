"""What a drawing of a graph shows, as data: boxes in columns by level, and arrows between them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pcsim.graph.levels import uneven_edges, vertex_levels
from pcsim.view.style import short_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pcsim.graph.graph import Edge, Graph

MOST_BOXES = 60
"""Up to so many vertices each has a box; beyond, those of one level and op share one."""

MOST_COLUMNS = 16
"""Of a grouped graph with more levels, the middle ones share one box."""

MOST_LETTERS = 20

LOST = "reaches no output"
"""The role, in a drawing, of a vertex that no error can reach; such vertices have no level."""


@dataclass(frozen=True)
class Box:
    """One vertex, or the ``count`` vertices of a group: two lines of text, a role, a place from the left."""

    key: str
    column: int
    lines: tuple[str, str]
    role: str
    count: int = 1


@dataclass(frozen=True)
class Arrow:
    """One edge, or all edges from one group to another; ``label`` tells its delays."""

    pre: str
    post: str
    label: str
    uneven: bool


@dataclass(frozen=True)
class Picture:
    """Boxes by key, arrows, the heading of each column from the left, and the columns after a gap in levels."""

    boxes: Mapping[str, Box]
    arrows: tuple[Arrow, ...]
    headings: tuple[str, ...]
    breaks: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Group:
    """A key that tells the box of a vertex, and the range of levels in its column."""

    key: str
    last: int
    first: int
    elided: bool = False
    reaches: bool = True


def picture(graph: Graph) -> Picture:
    """Return what to draw: single vertices up to 60, groups beyond."""
    found = drawn_levels(graph)
    grouped = len(graph.vertices) > MOST_BOXES
    groups = _groups(graph, found) if grouped else _singles(graph, found)
    columns = sorted({(group.first, group.last) for group in groups.values()}, reverse=True)
    members: dict[_Group, list[str]] = defaultdict(list)
    for name in graph.vertices:
        members[groups[name]].append(name)
    shown = short_names((names[0] for names in members.values() if len(names) == 1), MOST_LETTERS)
    boxes = [_box(graph, group, names, columns, shown) for group, names in members.items()]
    arrows = _bundles(graph, groups) if grouped else _arrows(graph)
    breaks = [k for k in range(1, len(columns)) if columns[k - 1][1] - columns[k][0] > 1]
    headings = tuple(_heading(*ends) for ends in columns)
    return Picture({box.key: box for box in boxes}, tuple(arrows), headings, tuple(breaks))


def drawn_levels(graph: Graph) -> dict[str, int]:
    """Return the level of each vertex; one that reaches no output stands right of all that feeds it.

    A cyclic graph has no levels: its vertices stand by their depth.
    """
    if graph.cyclic:
        last = max(graph.depths.values())
        return {name: last - depth for name, depth in graph.depths.items()}
    found = dict(vertex_levels(graph))
    drawn: dict[str, int] = {}
    for name in graph.vertices:
        level = found[name]
        before = [drawn[edge.pre] - 1 for edge in graph.incoming[name]]
        drawn[name] = min(before, default=0) if level is None else level
    return drawn


def _heading(first: int, last: int) -> str:
    if first != last:
        return f"levels {first} to {last}"
    return "outputs: level 0" if first == 0 else f"level {first}" if first > 0 else LOST


def _singles(graph: Graph, found: Mapping[str, int]) -> dict[str, _Group]:
    reached = vertex_levels(graph)
    lost = {name for name, level in reached.items() if level is None} if not graph.cyclic else set()
    return {name: _Group(name, level, level, reaches=name not in lost) for name, level in found.items()}


def _groups(graph: Graph, found: Mapping[str, int]) -> dict[str, _Group]:
    order = sorted(set(found.values()), reverse=True)
    half = MOST_COLUMNS // 2
    middle = order[half : len(order) - half] if len(order) > MOST_COLUMNS else []
    elided = {level: _Group("...", middle[-1], middle[0], elided=True) for level in middle}
    groups = {}
    for name, single in _singles(graph, found).items():
        key = f"{single.first} {graph.vertices[name].op.name} {graph.role(name)} {single.reaches}"
        groups[name] = elided.get(single.first) or replace(single, key=key)
    return groups


def _box(
    graph: Graph, group: _Group, names: Sequence[str], columns: Sequence[tuple[int, int]], shown: Mapping[str, str]
) -> Box:
    column, count = columns.index((group.first, group.last)), len(names)
    if group.elided:
        return Box(group.key, column, ("…", f"x {count}"), "free", count)
    op = graph.vertices[names[0]].op.name
    role = graph.role(names[0]) if group.reaches else LOST
    lines = (shown[names[0]], op) if count == 1 else (op, f"x {count}")
    return Box(group.key, column, lines, role, count)


def _arrows(graph: Graph) -> list[Arrow]:
    uneven = set(uneven_edges(graph))
    return [Arrow(edge.pre, edge.post, _delays([edge]), edge in uneven) for edge in graph.edges]


def _bundles(graph: Graph, groups: Mapping[str, _Group]) -> list[Arrow]:
    uneven = set(uneven_edges(graph))
    bundles: dict[tuple[str, str], list[Edge]] = defaultdict(list)
    for edge in graph.edges:
        bundles[groups[edge.pre].key, groups[edge.post].key].append(edge)
    return [
        Arrow(pre, post, _delays(edges), not uneven.isdisjoint(edges))
        for (pre, post), edges in bundles.items()
        if pre != post
    ]


def _delays(edges: Iterable[Edge]) -> str:
    """Return how delays read: ``2``, ``value 0, error 2``, ``0 to 5``, or nothing where there is none."""
    found = {(edge.value_delay, edge.error_delay) for edge in edges}
    if found == {(0, 0)}:
        return ""
    every = {delay for pair in found for delay in pair}
    if len(every) == 1:
        return str(min(every))
    return f"{min(every)} to {max(every)}" if len(found) > 1 else "value {},\nerror {}".format(*found.pop())
