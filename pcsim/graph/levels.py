"""Levels, levelling in both forms, and the light cone."""

from __future__ import annotations

from dataclasses import replace
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Literal

from pcsim.errors import nearest, wrong
from pcsim.graph.build import assemble
from pcsim.graph.graph import Edge, Vertex
from pcsim.ops import OPS, make_call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.graph.graph import Graph

Form = Literal["none", "delay", "identity"]
FORMS = ("none", "delay", "identity")


def vertex_levels(graph: Graph) -> dict[str, int | None]:
    """Return each vertex's level: the longest distance to an output, error delays included, in ticks.

    Outputs are level 0; a vertex from which no output can be reached has level None.
    """
    levels: dict[str, int | None] = {}
    for name in reversed(graph.vertices):
        behind = [
            level + 1 + edge.error_delay
            for edge in graph.outgoing[name]
            if (level := levels[edge.post]) is not None
        ]
        levels[name] = max(behind, default=0 if graph.role(name) == "output" else None)
    return levels


def levels(graph: Graph) -> int:
    """Return 1 + the largest level of a vertex that is no source: the ticks that ``zil`` takes."""
    found = vertex_levels(graph)
    return 1 + max((level for name in graph.active if (level := found[name]) is not None), default=0)


def light_cone(graph: Graph, *, moving: bool) -> dict[str, int | None]:
    """Return the first tick at which each vertex's error can differ from zero.

    With fixed predictions that is the shortest distance to an output along error messages
    ([Z] theorem 1). With ``moving`` predictions a value that has moved also disturbs what it feeds,
    within the tick (plus the value delay), so on a graph with skip edges the error can come sooner,
    over a neighbour: each vertex k that has moved at tick t disturbs its users at t + value delay.
    """
    found: dict[str, int] = {}
    queue = [(0, name) for name in sorted(graph.outputs)]
    while queue:
        tick, name = heappop(queue)
        if name in found:
            continue
        found[name] = tick
        for edge in graph.incoming[name]:
            if graph.role(edge.pre) == "free":
                heappush(queue, (tick + 1 + edge.error_delay, edge.pre))
                if moving:
                    _disturb(graph, edge.pre, tick + 1 + edge.error_delay, queue)
        if moving:
            _disturb(graph, name, tick + 1, queue)
    return {name: found.get(name) for name in graph.active}


def _disturb(graph: Graph, name: str, moved: int, queue: list[tuple[int, str]]) -> None:
    for edge in graph.outgoing[name]:
        heappush(queue, (moved + edge.value_delay, edge.post))


def uneven_edges(graph: Graph) -> tuple[Edge, ...]:
    """Return the edges that make a graph unlevelled: their error arrives before the vertex's level."""
    found = vertex_levels(graph)
    return tuple(edge for edge in graph.edges if _slack(graph, edge, found) > 0)


def _slack(graph: Graph, edge: Edge, found: Mapping[str, int | None]) -> int:
    """Return the ticks by which an edge is shorter than the levels of its ends."""
    pre, post = found[edge.pre], found[edge.post]
    if pre is None or post is None or graph.role(edge.pre) == "parameter":
        return 0
    return pre - post - 1 - edge.error_delay


def level(graph: Graph, form: Form) -> Graph:
    """Make all paths between two vertices equally long ([S] algorithm 2).

    ``delay`` lengthens the delays of short edges, ``identity`` puts identity vertices on them;
    ``none`` returns the graph as it is. Edges from parameters stay: what a parameter receives waits.
    """
    if form == "none":
        return graph
    if form not in FORMS:
        raise wrong("level", f"unknown form {form!r}" + nearest(form, FORMS))
    found = vertex_levels(graph)
    slack = {edge: _slack(graph, edge, found) for edge in graph.edges}
    if not any(slack.values()):
        return graph
    return _with_delays(graph, slack) if form == "delay" else _with_identities(graph, slack)


def _with_delays(graph: Graph, slack: Mapping[Edge, int]) -> Graph:
    edges = (
        replace(edge, value_delay=edge.value_delay + short, error_delay=edge.error_delay + short)
        for edge, short in slack.items()
    )
    return assemble(graph.vertices.values(), edges, graph)


def _with_identities(graph: Graph, slack: Mapping[Edge, int]) -> Graph:
    vertices, edges = dict(graph.vertices), []
    for edge, short in slack.items():
        pre = edge.pre
        for number in range(1, short + 1):
            vertex = _identity(graph, edge, number)
            vertices[vertex.name] = vertex
            edges.append(Edge(pre, vertex.name, 0, 0, 0, edge.key))
            pre = vertex.name
        edges.append(replace(edge, pre=pre))
    return assemble(vertices.values(), edges, graph)


def _identity(graph: Graph, edge: Edge, number: int) -> Vertex:
    shape = graph.vertices[edge.pre].shape
    name = f"{edge.name.replace('->', '~')}~{number}"
    return Vertex(name, OPS["identity"], make_call(OPS["identity"], (shape,), ()))
