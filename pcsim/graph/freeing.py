"""A graph in which some sources and outputs are free: values are inferred where otherwise data are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pcsim.errors import nearest, wrong
from pcsim.graph.assembly import assemble
from pcsim.graph.graph import Edge, Graph, Vertex, number_format
from pcsim.graph.names import edge_name
from pcsim.ops import OPS, make_call

if TYPE_CHECKING:
    from collections.abc import Sequence


def prior_of(source: str) -> str:
    """Return the name of the source that a free source is drawn to."""
    return f"{source}.prior"


def freed(graph: Graph, names: Sequence[str], precision: float) -> Graph:
    """Return a graph in which these sources and outputs are free vertices.

    A source becomes an identity vertex of the same name behind a new source, ``NAME.prior``; ``precision`` weighs its
    error, so that at 0 nothing draws it there. An output stays as it is, without a target.

    Raises
    ------
    InputError
        For a name that is neither, and for a source of whole numbers, which cannot move.
    """
    sources = [name for name in graph.vertices if graph.role(name) == "source"]
    vertices, edges = dict(graph.vertices), list(graph.edges)
    for name in names:
        if name not in (*sources, *graph.outputs):
            hint = nearest(name, [*sources, *graph.outputs])
            raise wrong("free", f"{name!r} is neither a source nor an output{hint}")
        if name in graph.outputs:
            continue
        source, prior = vertices[name], prior_of(name)
        if number_format(source) == "whole":
            raise wrong("free", f"{name!r} holds whole numbers, which cannot move; free another source")
        call = make_call(OPS["identity"], (source.shape,), ())
        vertices[prior] = replace(source, name=prior)
        vertices[name] = Vertex(name, OPS["identity"], call, (), precision)
        edges.append(Edge(prior, name, 0, 0, 0, (name, 0), edge_name(prior, name)))
    outputs = tuple(name for name in graph.outputs if name not in names)
    return assemble(vertices.values(), edges, replace(graph, outputs=outputs))
