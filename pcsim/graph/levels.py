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
    from collections.abc import Iterator, Mapping

    from pcsim.graph.graph import Graph

Form = Literal["none", "delay", "identity"]
FORMS = ("none", "delay", "identity")


def vertex_levels(graph: Graph) -> dict[str, int | None]:
    """Return each vertex's level: the longest distance to an output, error delays included, in ticks.

    Outputs are level 0; a vertex from which no output can be reached has level None.
    """
    levels: dict[str, int | None] = {}
    for name in reversed(tuple(graph.vertices)):
        behind = [
            level + 1 + edge.error_delay for edge in graph.outgoing[name] if (level := levels[edge.post]) is not None
        ]
        levels[name] = max(behind, default=0 if graph.role(name) == "output" else None)
    return levels


def levels(graph: Graph) -> int:
    """Return 1 + the largest level of a vertex that is no source: the ticks that ``zil`` takes."""
    found = vertex_levels(graph)
    return 1 + max((level for name in graph.active if (level := found[name]) is not None), default=0)


def light_cone(graph: Graph, *, moving: bool, learning: bool = False) -> dict[str, int | None]:
    """Return the first tick at which each vertex's error can differ from zero.

    With fixed predictions that is the shortest distance to an output along error messages
    ([Z] theorem 1). With ``moving`` predictions a value that has moved also disturbs what it feeds,
    within the tick (plus the value delay), so on a graph with skip edges the error can come sooner,
    over a neighbour. With ``learning`` (parameters that learn at every tick) a shared parameter that one user
    has changed disturbs its other users in the next tick.
    """
    errs: dict[str, int] = {}
    moves: dict[str, int] = {}
    changed: set[str] = set()
    queue = [(0, "errs", name) for name in sorted(graph.outputs)]
    while queue:
        tick, what, name = heappop(queue)
        if name in (first := errs if what == "errs" else moves):
            continue
        first[name] = tick
        if what == "moves":
            for edge in graph.outgoing[name]:
                heappush(queue, (tick + edge.value_delay, "errs", edge.post))
            continue
        for follow in _consequences(graph, name, moving=moving):
            heappush(queue, (tick + follow[0], *follow[1:]))
        for parameter in _parameters(graph, name) - changed if learning else ():
            changed.add(parameter)
            for user in graph.uses[parameter]:
                heappush(queue, (tick + 1, "errs", user))
    return {name: errs.get(name) for name in graph.active}


def _consequences(graph: Graph, name: str, *, moving: bool) -> Iterator[tuple[int, str, str]]:
    """Yield what the error of a vertex brings about, and how many ticks later."""
    for edge in graph.incoming[name]:
        if graph.role(edge.pre) == "free":
            yield 1 + edge.error_delay, "errs", edge.pre
            if moving:
                yield 1 + edge.error_delay, "moves", edge.pre
    if moving and graph.role(name) == "free":
        yield 1, "moves", name


def _parameters(graph: Graph, name: str) -> set[str]:
    """Return the parameters that a vertex uses, in its slots or as inputs."""
    pres = (graph.vertices[edge.pre] for edge in graph.incoming[name])
    leaves = (vertex for vertex in pres if vertex.op.role == "parameter")
    return {parameter for vertex in (graph.vertices[name], *leaves) for _, parameter in vertex.params}


def uneven_edges(graph: Graph) -> tuple[Edge, ...]:
    """Return the edges that make a graph unlevelled: what they carry arrives too soon.

    Too soon for an error is before the level of the vertex that it is for; too soon for a value is,
    where no output can be reached any more, before the last level: such a dead end would answer with an error
    while others have not had theirs.
    """
    return tuple(edge for edge, short in _slacks(graph).items() if short > 0)


def _slacks(graph: Graph) -> dict[Edge, int]:
    """Return the ticks by which each edge is too short."""
    found = vertex_levels(graph)
    # the deepest level is a source's or a parameter's, and stays when edges are split; errors end one before it
    last = max((level for level in found.values() if level is not None), default=1) - 1
    return {edge: _slack(graph, edge, found, last) for edge in graph.edges}


def _slack(graph: Graph, edge: Edge, found: Mapping[str, int | None], last: int) -> int:
    pre, post = found[edge.pre], found[edge.post]
    if pre is None or graph.vertices[edge.pre].op.role == "parameter":
        return 0
    if post is not None:
        return pre - post - 1 - edge.error_delay
    # a vertex of level l has moved at tick l
    return max(0, last + 1 - pre - edge.value_delay) if graph.role(edge.pre) == "free" else 0


def level(graph: Graph, form: Form) -> Graph:
    """Make all paths between two vertices equally long ([S] algorithm 2).

    ``delay`` lengthens the delays of short edges, ``identity`` puts identity vertices on them;
    ``none`` returns the graph as it is. Edges from parameters stay: what a parameter receives waits. Edges
    into dead ends (no output can be reached from there) become so long that nothing comes back from them
    before the last level; [S] has no dead ends.
    """
    if form == "none":
        return graph
    if form not in FORMS:
        raise wrong("level", f"unknown form {form!r}" + nearest(form, FORMS))
    slack = _slacks(graph)
    if not any(slack.values()):
        return graph
    return _with_delays(graph, slack) if form == "delay" else _with_identities(graph, slack)


def _with_delays(graph: Graph, slack: Mapping[Edge, int]) -> Graph:
    edges = (_longer(edge, short) for edge, short in slack.items())
    return assemble(graph.vertices.values(), edges, graph)


def _longer(edge: Edge, short: int) -> Edge:
    return replace(edge, value_delay=edge.value_delay + short, error_delay=edge.error_delay + short)


def _with_identities(graph: Graph, slack: Mapping[Edge, int]) -> Graph:
    found = vertex_levels(graph)
    vertices, edges = list(graph.vertices.values()), []
    for edge, short in slack.items():
        if found[edge.post] is None:  # identity vertices before a dead end would be dead ends, and short, themselves
            edges.append(_longer(edge, short))
            continue
        pre = edge.pre
        for number in range(1, short + 1):
            vertex = _identity(graph, edge, number)
            vertices.append(vertex)
            edges.append(Edge(pre, vertex.name, 0, 0, 0, edge.key))
            pre = vertex.name
        edges.append(replace(edge, pre=pre))
    return assemble(vertices, edges, graph)


def _identity(graph: Graph, edge: Edge, number: int) -> Vertex:
    shape = graph.vertices[edge.pre].shape
    name = f"{edge.name.replace('->', '~')}~{number}"
    return Vertex(name, OPS["identity"], make_call(OPS["identity"], (shape,), ()))
