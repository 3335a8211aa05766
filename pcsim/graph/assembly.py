"""Puts checked parts together: outputs observed, everything in canonical order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING

from pcsim.errors import wrong
from pcsim.graph.graph import Edge, Graph, Vertex
from pcsim.graph.names import edge_name
from pcsim.graph.order import depths_and_cycles, natural
from pcsim.ops import OPS, make_call

if TYPE_CHECKING:
    from collections.abc import Iterable


def observed(vertices: dict[str, Vertex], edges: list[Edge], head: Graph) -> Graph:
    """Observe each output that also feeds others through an identity vertex of its own."""
    feeding = {edge.pre for edge in edges}
    names = []
    for name in head.outputs:
        if name not in feeding:
            names.append(name)
            continue
        shape, observer = vertices[name].shape, f"{name}.observed"
        if observer in vertices:
            raise wrong(("vertices", observer), "this name is kept for the observer of an output that feeds others")
        precision = vertices[name].precision
        vertices[observer] = Vertex(observer, OPS["identity"], make_call(OPS["identity"], (shape,), ()), (), precision)
        vertices[name] = replace(vertices[name], precision=1.0)
        edges.append(Edge(name, observer, 0, 0, 0, (observer, 0)))
        names.append(observer)
    return replace(head, outputs=tuple(names))


def assemble(vertices: Iterable[Vertex], edges: Iterable[Edge], head: Graph) -> Graph:
    """Put checked parts into canonical order; parameters, buffers, outputs and title come from ``head``.

    Raises InputError where two vertices have one name.
    """
    table: dict[str, Vertex] = {}
    for vertex in vertices:
        if vertex.name in table:
            hint = "rename one (an identity vertex is called PRE~POST~NUMBER)"
            raise wrong(("vertices", vertex.name), f"two vertices are named {vertex.name!r}; {hint}")
        table[vertex.name] = vertex
    lines = _named_edges(edges)
    inputs: dict[str, list[str]] = {name: [] for name in table}
    for edge in lines:
        inputs[edge.post].append(edge.pre)
    depths, _ = depths_and_cycles(inputs)
    order = sorted(table, key=lambda name: (depths[name], natural(name)))
    place = {name: number for number, name in enumerate(order)}
    return Graph(
        {name: table[name] for name in order},
        tuple(sorted(lines, key=lambda edge: (place[edge.post], edge.slot))),
        {name: head.parameters[name] for name in sorted(head.parameters, key=natural)},
        tuple(sorted(head.outputs, key=natural)),
        head.title,
        head.source,
        {name: head.buffers[name] for name in sorted(head.buffers, key=natural)},
    )


def _named_edges(edges: Iterable[Edge]) -> list[Edge]:
    count: dict[tuple[str, str], int] = defaultdict(int)
    named = []
    for edge in sorted(edges, key=attrgetter("slot")):
        number = count[edge.pre, edge.post]
        count[edge.pre, edge.post] = number + 1
        name = edge_name(edge.pre, edge.post, number)
        named.append(edge if edge.name == name else replace(edge, name=name))
    return named
