"""What can be recorded of a graph: which quantity of which name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.errors import nearest, wrong
from pcsim.trace.entries import QUANTITIES

if TYPE_CHECKING:
    from pcsim.graph.graph import Graph


def recordable(graph: Graph, quantity: str, kind: str | None = None) -> list[str]:
    """Return of which vertices, edges or parameters a quantity can be recorded; of none for the energy.

    kind : of messages, ``value`` or ``error``; either where it is not given
    """
    if quantity in ("update", "learnt"):
        return list(graph.parameters)
    if quantity == "message":
        edges = (edge for edge in graph.edges if graph.vertices[edge.pre].op.role != "parameter")
        return [edge.name for edge in edges if kind != "error" or graph.carries_errors(edge)]
    roles = {"value": ("source", "function"), "energy": ()}.get(quantity, ("function",))
    return [name for name, vertex in graph.vertices.items() if vertex.op.role in roles]


def check_recordable(graph: Graph, name: str, quantity: str | None, kind: str | None = None, key: str = "name") -> None:
    """Raise InputError where no scenario records a quantity of this name; ``quantity`` None: anything at all."""
    can = [each for each in QUANTITIES if name in recordable(graph, each)]
    if not can:
        edges = {edge.name: edge for edge in graph.edges}
        if name in graph.vertices or name in edges:
            raise wrong(key, f"nothing can be recorded of {name!r}: it is, or leaves, a vertex that holds a parameter")
        asked = key if key in ("vertex", "edge") else "vertex, edge or parameter"
        known = [] if key == "edge" else [*graph.vertices, *graph.parameters]
        if key != "vertex":
            ends = set(name.split("->"))
            near = [other for other, edge in edges.items() if ends & {edge.pre, edge.post}]
            known += near or list(edges)
        raise wrong(key, f"the graph has no {asked} {name!r}{nearest(name, known)}")
    if quantity is not None and quantity not in can:
        what = f"{_what(graph, name)} {name!r}"
        raise wrong(key, f"no {quantity} can be recorded of {what}; of it there is: {_list(can)}")
    if quantity == "message" and name not in recordable(graph, quantity, kind):
        raise wrong(key, f"no error crosses {name!r}: what it leaves is held where it is; ask for kind value")


def _what(graph: Graph, name: str) -> str:
    """Return what a name is of: a parameter, an edge, an input, or another vertex."""
    if name in graph.vertices:
        return "input" if graph.vertices[name].op.role == "source" else "vertex"
    return "parameter" if name in graph.parameters else "edge"


def _list(can: list[str]) -> str:
    return ", ".join(each for each in can if each != "learnt")
