"""Levels, the edges that are too short, and the light cone."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from pcsim.graph.graph import kept

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pcsim.graph.graph import Edge, Graph


@kept
def vertex_levels(graph: Graph) -> Mapping[str, int | None]:
    """Return each vertex's level: the longest distance to an output, error delays included, in ticks.

    Outputs are level 0; a vertex from which no output can be reached has level None, and so has one from which an
    output is reached over a cycle: there is no longest distance.
    """
    levels: dict[str, int | None] = {}
    endless = _over_cycles(graph) if graph.cyclic else frozenset[str]()
    for name in reversed(tuple(graph.vertices)):
        if name in endless or name in graph.cyclic:
            levels[name] = None
            continue
        behind = [
            level + 1 + edge.error_delay for edge in graph.outgoing[name] if (level := levels[edge.post]) is not None
        ]
        levels[name] = max(behind) if behind else 0 if graph.role(name) == "output" else None
    return levels


def _over_cycles(graph: Graph) -> frozenset[str]:
    """Return the vertices from which an output is reached over a cycle."""
    behind = {name: [edge.pre for edge in edges] for name, edges in graph.incoming.items()}
    return frozenset(reached(behind, graph.cyclic & reached(behind, graph.outputs)))


def reached(lines: Mapping[str, Iterable[str]], begin: Iterable[str]) -> set[str]:
    """Return the names that are reached along lines from some names, these included."""
    found, waiting = set(begin), list(begin)
    while waiting:
        for name in lines[waiting.pop()]:
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


@kept
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
    known = _light_cones(graph)
    if (moving, learning) not in known:
        known[moving, learning] = _light_cone(graph, moving, learning)
    return dict(known[moving, learning])


@kept
def _light_cones(_: Graph) -> dict[tuple[bool, bool], Mapping[str, int | None]]:
    return {}


def _light_cone(graph: Graph, moving: bool, learning: bool) -> Mapping[str, int | None]:
    return spreading(graph, dict.fromkeys(graph.outputs, 0), moving=moving, learning=learning)


def spreading(
    graph: Graph, errors: Mapping[str, int], values: Iterable[str] = (), *, moving: bool, learning: bool = False
) -> dict[str, int | None]:
    """Return the first tick at which each vertex's error can change, once some are changed at these ticks.

    Parameters
    ----------
    errors : {vertex: tick at which its error is changed}
    values : vertices whose value is changed at tick 0, and with it their error
    """
    cone = _Cone(graph, moving, learning)
    for name, tick in errors.items():
        cone.soon(tick, cone.errs, name)
    for name in values:
        cone.soon(0, cone.errs, name)
        if moving:
            cone.soon(0, cone.moves, name)
    while cone.ticks:
        tick = heappop(cone.ticks)
        for first, name in cone.due[tick]:  # grows while it is read: a value can disturb within the tick
            cone.reach(tick, first, name)
        del cone.due[tick]
    return {name: cone.errs.get(name) for name in graph.active}


@dataclass(frozen=True)
class _Cone:
    """What has been disturbed so far, and when more will be."""

    graph: Graph
    moving: bool
    learning: bool
    errs: dict[str, int] = field(default_factory=dict)
    """The first tick of an error."""
    moves: dict[str, int] = field(default_factory=dict)
    """The first tick at which a value has moved."""
    changed: set[str] = field(default_factory=set)
    """Parameters that have learnt."""
    due: dict[int, list[tuple[dict[str, int], str]]] = field(default_factory=dict)
    """What is disturbed in coming ticks: of ``errs`` or ``moves``, and the vertex."""
    ticks: list[int] = field(default_factory=list)
    """A heap of the keys of ``due``."""

    def soon(self, tick: int, first: dict[str, int], name: str) -> None:
        if name in first:
            return
        if tick not in self.due:
            self.due[tick] = []
            heappush(self.ticks, tick)
        self.due[tick].append((first, name))

    def reach(self, tick: int, first: dict[str, int], name: str) -> None:
        if name in first:
            return
        first[name] = tick
        if first is self.moves:
            for edge in self.graph.outgoing[name]:
                self.soon(tick + edge.value_delay, self.errs, edge.post)
            return
        self._error(tick, name)
        if self.learning:
            self._learning(tick, name)

    def _error(self, tick: int, name: str) -> None:
        """Follow the error of a vertex to those that it is sent to, and into its own value."""
        for edge in self.graph.incoming[name]:
            if self.graph.role(edge.pre) == "free":
                self.soon(tick + 1 + edge.error_delay, self.errs, edge.pre)
                if self.moving:
                    self.soon(tick + 1 + edge.error_delay, self.moves, edge.pre)
        if self.moving and self.graph.role(name) == "free":
            self.soon(tick + 1, self.moves, name)

    def _learning(self, tick: int, name: str) -> None:
        """Follow what the parameters of a vertex learn from it to their other users."""
        for parameter in _parameters(self.graph, name) - self.changed:
            self.changed.add(parameter)
            for user in self.graph.uses[parameter]:
                self.soon(tick + 1, self.errs, user)


def _parameters(graph: Graph, name: str) -> set[str]:
    """Return the parameters that a vertex uses, in its slots or as inputs."""
    pres = (graph.vertices[edge.pre] for edge in graph.incoming[name])
    leaves = (vertex for vertex in pres if vertex.op.role == "parameter")
    return {parameter for vertex in (graph.vertices[name], *leaves) for _, parameter in vertex.params}


@kept
def uneven_edges(graph: Graph) -> tuple[Edge, ...]:
    """Return the edges that make a graph unlevelled: what they carry arrives too soon.

    Too soon for an error is before the level of the vertex that it is for; too soon for a value is,
    where no output can be reached any more, before the last level: such a dead end would answer with an error
    while others have not had theirs. What a source holds never changes and nothing is sent to it: no length of its
    edges matters.
    """
    short = zip(graph.edges, slacks(graph), strict=True)
    return tuple(edge for edge, ticks in short if ticks > 0 and graph.role(edge.pre) != "source")


@kept
def slacks(graph: Graph) -> tuple[int, ...]:
    """Return the ticks by which each edge is too short; on a cyclic graph, which has no levels, none is."""
    if graph.cyclic:
        return (0,) * len(graph.edges)
    found = vertex_levels(graph)
    # the deepest level is a source's or a parameter's, and stays when edges are split; errors end one before it
    last = max((level for level in found.values() if level is not None), default=1) - 1
    return tuple(_slack(graph, edge, found, last) for edge in graph.edges)


def _slack(graph: Graph, edge: Edge, found: Mapping[str, int | None], last: int) -> int:
    pre, post = found[edge.pre], found[edge.post]
    carries = graph.vertices[edge.post].op.slot(edge.slot).differentiable
    if pre is None or graph.vertices[edge.pre].op.role == "parameter" or not carries:
        return 0
    if post is not None:
        return pre - post - 1 - edge.error_delay
    # a vertex of level l has moved at tick l
    return max(0, last + 1 - pre - edge.value_delay) if graph.role(edge.pre) == "free" else 0
