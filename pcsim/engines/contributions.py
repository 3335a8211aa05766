"""What the parameters of one vertex receive, for sessions that look at vertices one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcsim.arrays import Array
    from pcsim.graph.graph import Graph
    from pcsim.ops.local import Local


def contributions_of(graph: Graph, name: str, local: Local, g: Array) -> Iterator[tuple[str, Array]]:
    """Yield (parameter, (1, *shape)): (d mu / d p)^T g for each parameter of a vertex, of a slot or used as an input.

    ``g`` is (1, batch, *shape): the vertex's error times its precision.
    """
    vertex = graph.vertices[name]
    if vertex.params:
        made = local.contributions(g)
        yield from ((parameter, made[slot]) for slot, parameter in vertex.params)
    leaves = [graph.vertices[edge.pre] for edge in graph.incoming[name]]
    if any(leaf.op.role == "parameter" for leaf in leaves):
        for leaf, message in zip(leaves, local.to_leaves(g), strict=True):
            if leaf.op.role == "parameter":
                yield leaf.params[0][1], message[:, 0]


def contributes(graph: Graph, name: str) -> bool:
    """Return whether some parameter receives from a vertex."""
    edges = graph.incoming[name]
    return bool(graph.vertices[name].params) or any(graph.role(edge.pre) == "parameter" for edge in edges)
