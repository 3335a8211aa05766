"""A graph as it is used once training is over: running statistics in place of the batch's, nothing dropped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcsim.graph.graph import Graph, Vertex


def after_training(graph: Graph) -> Graph:
    """Return the graph with the attributes that ops have once training is over; parameters and names are the same."""
    return replace(graph, vertices={name: _settled(vertex) for name, vertex in graph.vertices.items()})


def _settled(vertex: Vertex) -> Vertex:
    changed = vertex.op.after_training
    if not changed:
        return vertex
    attributes = tuple((key, changed.get(key, value)) for key, value in vertex.call.attributes)
    return replace(vertex, call=replace(vertex.call, attributes=attributes))
