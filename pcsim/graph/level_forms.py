"""Levelling in both forms, and what each form takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Literal

import numpy as np

from pcsim.errors import RunError, nearest, wrong
from pcsim.graph.assembly import assemble
from pcsim.graph.graph import Edge, Vertex, kept
from pcsim.graph.levels import slacks, vertex_levels
from pcsim.ops import OPS, make_call
from pcsim.resources import ALWAYS_THERE, available, mebibytes

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from numpy.typing import DTypeLike

    from pcsim.graph.graph import Graph
    from pcsim.ops.op import Call

Form = Literal["none", "delay", "identity"]
FORMS = ("none", "delay", "identity")


def level(graph: Graph, form: Form) -> Graph:
    """Make all paths between two vertices equally long ([S] algorithm 2).

    ``delay`` lengthens the delays of short edges, ``identity`` puts identity vertices on them;
    ``none`` returns the graph as it is. Edges from parameters stay: what a parameter receives waits. Edges
    into dead ends (no output can be reached from there) become so long that nothing comes back from them
    before the last level; [S] has no dead ends.

    Raises
    ------
    InputError
        If there is no such form.
    RunError
        Where there is no memory for the identity vertices, before any is made.
    """
    if form == "none":
        return graph
    if form not in FORMS:
        raise wrong("level", f"unknown form {form!r}" + nearest(form, FORMS))
    if graph.cyclic:
        raise wrong("level", f"the graph has a cycle: {graph.a_cycle}: it has no levels; unroll it over time")
    if not any(slacks(graph)):
        return graph
    if form == "delay":
        return _with_delays(graph)
    check_identities(graph)
    return _with_identities(graph)


@kept
def _with_delays(graph: Graph) -> Graph:
    edges = (_longer(edge, short) if short else edge for edge, short in zip(graph.edges, slacks(graph), strict=True))
    return assemble(graph.vertices.values(), edges, graph)


def _longer(edge: Edge, short: int) -> Edge:
    return replace(edge, value_delay=edge.value_delay + short, error_delay=edge.error_delay + short)


@kept
def _with_identities(graph: Graph) -> Graph:
    call = cache(lambda shape: make_call(OPS["identity"], (shape,), ()))
    vertices, edges, taken = list(graph.vertices.values()), [], set(graph.vertices)
    for edge, short in zip(graph.edges, slacks(graph), strict=True):
        if not short:
            edges.append(edge)
        elif not _takes_identities(graph, edge):
            edges.append(_longer(edge, short))
        else:
            line = _line(_stem(edge, taken), short, call(graph.vertices[edge.pre].shape))
            taken |= {vertex.name for vertex in line}
            pres = [edge.pre, *(vertex.name for vertex in line)]
            vertices += line
            edges += [Edge(pre, vertex.name, 0, 0, 0, edge.key) for pre, vertex in zip(pres, line, strict=False)]
            edges.append(replace(edge, pre=pres[-1]))
    return assemble(vertices, edges, graph)


def _takes_identities(graph: Graph, edge: Edge) -> bool:
    """Return whether identity vertices may stand on an edge: before a dead end they would be dead ends, and short."""
    return vertex_levels(graph)[edge.post] is not None


def _stem(edge: Edge, taken: Container[str]) -> str:
    """Return how the names of the identity vertices on an edge begin: as no vertex is named already."""
    stem = edge.name.replace("->", "~")
    while f"{stem}~1" in taken:
        stem += "~"
    return stem


def _line(stem: str, count: int, call: Call) -> list[Vertex]:
    """Return the identity vertices that stand on an edge."""
    return [Vertex(f"{stem}~{number}", OPS["identity"], call) for number in range(1, count + 1)]


# -- what each form takes ------------------------------------------------------------------------------------

IDENTITY_VERTEX = 1250
"""Bytes that an identity vertex and its edge take, about, beside its values."""


@dataclass(frozen=True)
class FormSize:
    """What a graph holds in one form, between two ticks.

    Attributes
    ----------
    vertices, edges : how many there are
    values : bytes of the values of all vertices; their predictions and errors take as much again each
    values_in_flight : bytes of past values that some edge delivers late, once for all edges of a vertex. Values of
        clamped vertices never move, and are not kept; nor are any where predictions are fixed
    errors_in_flight : bytes of error messages on edges with a delay: the sum over edges of delay times size. None
        travels to a clamped source
    """

    vertices: int
    edges: int
    values: int
    values_in_flight: int
    errors_in_flight: int


@dataclass(frozen=True)
class Levelling:
    """What a graph holds as it is, and in both forms of levelling.

    Attributes
    ----------
    uneven : how many edges are too short
    none, delay, identity : the graph as it is, with longer delays, with identity vertices
    """

    uneven: int
    none: FormSize
    delay: FormSize
    identity: FormSize


def levelling(graph: Graph, batch: int = 1, dtype: DTypeLike = "float64") -> Levelling:
    """Return what a graph takes in each form of levelling; neither form is made for it."""
    one = batch * np.dtype(dtype).itemsize
    short, none = slacks(graph), (0,) * len(graph.edges)
    put = tuple(more * _takes_identities(graph, edge) for edge, more in zip(graph.edges, short, strict=True))
    stay = tuple(more - less for more, less in zip(short, put, strict=True))
    forms = (_form_size(graph, *form, one) for form in ((none, none), (short, none), (stay, put)))
    return Levelling(sum(map(bool, short)), *forms)


def _form_size(graph: Graph, longer: Sequence[int], put: Sequence[int], one: int) -> FormSize:
    """Return what a graph holds with edges longer by so many ticks, and so many identity vertices on them."""
    lines: dict[tuple[str, str], int] = {}
    values, errors = sum(prod(vertex.shape) for vertex in graph.vertices.values()), 0
    for edge, ticks, count in zip(graph.edges, longer, put, strict=True):
        size = prod(graph.vertices[edge.pre].shape)
        values += count * size
        if count or graph.role(edge.pre) == "free":
            line = edge.pre, edge.name if count else ""  # the last identity vertex on an edge keeps its values
            lines[line] = max(lines.get(line, 0), edge.value_delay + ticks)
            errors += (edge.error_delay + ticks) * size
    past = sum(length * prod(graph.vertices[pre].shape) for (pre, _), length in lines.items())
    new = sum(put)
    return FormSize(len(graph.vertices) + new, len(graph.edges) + new, values * one, past * one, errors * one)


def check_identities(graph: Graph, batch: int = 0, dtype: DTypeLike = "float64") -> None:
    """Raise RunError where identity vertices, with their values for a batch, do not fit into memory."""
    found = levelling(graph, batch, dtype)
    count = found.identity.vertices - found.none.vertices
    wanted = count * IDENTITY_VERTEX + found.identity.values
    free = available() if wanted > ALWAYS_THERE else None
    if free is not None and wanted > free:
        delay = levelling(graph, max(batch, 1), dtype).delay
        message = (
            f"level: identity puts {count:,} identity vertices on {found.uneven:,} edges, which takes "
            f"{mebibytes(wanted)} at least, and this machine has {mebibytes(free)} of memory left; level: delay adds "
            f"no vertex and holds {mebibytes(delay.values_in_flight + delay.errors_in_flight)} of messages in flight"
        )
        raise RunError(message)
