"""Graphs as text in the DOT language of Graphviz: vertices by level, with their ops, shapes and delays."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pcsim.graph.levels import vertex_levels

if TYPE_CHECKING:
    from pcsim.graph.graph import Edge, Graph, Vertex

FORMS = {"source": "ellipse", "parameter": "diamond"}
"""How vertices are drawn that compute nothing."""


def to_dot(graph: Graph) -> str:
    r"""Return a graph in DOT: vertices of one level side by side, outputs last; edges with a delay say it in ticks.

    >>> from pcsim.graph import graph_from
    >>> vertices = {"x": {"op": "input", "shape": [2]}, "y": {"op": "tanh", "inputs": ["x"]}}
    >>> print(to_dot(graph_from({"vertices": vertices})), end="")
    digraph "pcsim" {
      rankdir=LR; node [shape=box];
      "x" [label="x\ninput [2]", shape=ellipse];
      "y" [label="y\ntanh [2]"];
      {rank=same; "x"}
      {rank=same; "y"}
      "x" -> "y";
    }
    """
    found = vertex_levels(graph)
    ranks: dict[int | None, list[str]] = defaultdict(list)
    for name in graph.vertices:
        ranks[found[name]].append(quoted(name))
    order = sorted((level for level in ranks if level is not None), reverse=True)
    lines = [
        "rankdir=LR; node [shape=box];",
        *map(_node, graph.vertices.values()),
        *(f"{{rank=same; {'; '.join(ranks[level])}}}" for level in order),
        *map(_line, graph.edges),
    ]
    return "\n".join([f"digraph {quoted(graph.title or 'pcsim')} {{", *(f"  {line}" for line in lines), "}", ""])


def vertex_label(vertex: Vertex) -> tuple[str, str]:
    """Return the two lines of a vertex: its name, and its op with its shape."""
    return vertex.name, f"{vertex.op.name} {list(vertex.shape)}"


def delay_label(edge: Edge) -> str:
    """Return the delay of an edge in ticks, or both where they differ; nothing where there is none.

    >>> from pcsim.graph import Edge
    >>> delay_label(Edge("a", "b", 0, 2, 2, ("b", 0))), delay_label(Edge("a", "b", 0, 0, 2, ("b", 0)))
    ('2', 'value 0, error 2')
    """
    if edge.value_delay != edge.error_delay:
        return f"value {edge.value_delay}, error {edge.error_delay}"
    return str(edge.value_delay or "")


def quoted(*lines: str) -> str:
    r"""Return text as a string of DOT; several lines are one below the other.

    >>> print(quoted('say "a\\b"', 'c'))
    "say \"a\\b\"\nc"
    """
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'


def _node(vertex: Vertex) -> str:
    form = FORMS.get(vertex.op.role, "")
    return f"{quoted(vertex.name)} [label={quoted(*vertex_label(vertex))}{f', shape={form}' if form else ''}];"


def _line(edge: Edge) -> str:
    label = delay_label(edge)
    return f"{quoted(edge.pre)} -> {quoted(edge.post)}{f' [label={quoted(label)}]' if label else ''};"
