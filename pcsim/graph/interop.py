"""Graphs as networkx graphs and back.

What survives ``from_networkx(to_networkx(graph))``: everything, so that the two graphs are equal and
run to the same bits. That includes the observers of outputs (``NAME.observed``), identity vertices that
levelling put in (``a~b~1``), and ``Edge.key``, the place of an edge in the sum of errors: an edge that is a
part of one of the document's carries it as ``part_of``. Names of edges are made anew from their ends and
slots. What networkx holds besides (layouts, colours) does not survive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.documents.frozen_arrays import MOST_WRITTEN_OUT, FrozenArray
from pcsim.errors import InputError, Problem, wrong
from pcsim.graph.assembly import assemble
from pcsim.graph.build import graph_from
from pcsim.ops import OPS

if TYPE_CHECKING:
    import networkx as nx

    from pcsim.graph.graph import Edge, Graph, Parameter, Vertex

Link = tuple[str, dict[str, Any]]
"""One edge into a vertex: where it comes from, and its attributes."""

_WAYS = ("value", "error")


def to_networkx(graph: Graph) -> nx.MultiDiGraph[str]:
    """Return a graph as plain data in a networkx MultiDiGraph, nodes in canonical order.

    Nodes have ``op``, ``shape``, ``attributes`` (those of the op that are not its defaults), ``params``
    and ``precision``. Edges are keyed by slot and have ``slot``, ``value_delay`` and ``error_delay``, in ticks.
    The graph has ``title``, ``source``, ``outputs`` and ``parameters``: {name: {shape, init}}.
    """
    import networkx as nx

    parameters = {name: _parameter(parameter) for name, parameter in graph.parameters.items()}
    made: nx.MultiDiGraph[str] = nx.MultiDiGraph(
        title=graph.title, source=graph.source, outputs=list(graph.outputs), parameters=parameters
    )
    for vertex in graph.vertices.values():
        made.add_node(vertex.name, **_node(vertex))
    for edge in graph.edges:
        made.add_edge(edge.pre, edge.post, edge.slot, **_line(edge))
    return made


def _node(vertex: Vertex) -> dict[str, Any]:
    rows = vertex.op.attributes
    known = dict(vertex.call.attributes)
    follow = {key for key, row in rows.items() if row.follows and known[row.follows] is not None}
    given = {key: _plain(known[key]) for key in known if key not in follow and known[key] != rows[key].default}
    feedback = {} if vertex.feedback.symmetric else {"feedback": vertex.feedback.name}
    return {
        "op": vertex.op.name,
        "shape": list(vertex.shape),
        "attributes": given,
        "params": dict(vertex.params),
        "precision": _plain(vertex.precision),
        **feedback,
    }


def _line(edge: Edge) -> dict[str, Any]:
    delays = {"slot": edge.slot, "value_delay": edge.value_delay, "error_delay": edge.error_delay}
    return delays if edge.key == (edge.post, edge.slot) else {**delays, "part_of": list(edge.key)}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    kind, argument = parameter.init
    if kind == "file":
        file, key = argument
        return {"shape": list(parameter.shape), "init": {"file": file} | ({} if key is None else {"key": key})}
    return {"shape": list(parameter.shape), "init": {kind: {} if argument is None else _plain(argument)}}


def _plain(value: Any) -> Any:
    """Return lists, numbers and arrays: one of more than 1,000 numbers stays an array; names become text."""
    array = value.array if isinstance(value, FrozenArray) else value
    if isinstance(array, np.ndarray | np.generic):
        kept = array.size > MOST_WRITTEN_OUT or isinstance(array, np.ma.MaskedArray)
        return array if kept else _plain(array.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def from_networkx(graph: nx.DiGraph[Any]) -> Graph:
    """Make a graph from a networkx DiGraph or MultiDiGraph.

    Each node needs ``op``; what else it has is as in a graph document: ``inputs`` are the edges,
    attributes of the op stand beside ``op`` or under ``attributes``, ``shape`` of what is worked out is
    compared. Edges may have ``slot`` (the place among the inputs of their end; default: the order in which
    networkx lists the edges into it), and ``delay`` (as in a document) or ``value_delay`` and
    ``error_delay``. networkx lists parallel edges together: give ``slot`` where another order is meant.
    Names of nodes become text.

    Raises
    ------
    InputError
        With every problem found; paths read as in a graph document: ``vertices.NAME.op``.
    """
    names, links = _read(graph)
    made = graph_from(document_from(graph))
    _check_shapes(made, {name: graph.nodes[node] for node, name in names.items()})
    return _with_keys(made, {(name, slot): link for name in links for slot, link in enumerate(links[name])})


def document_from(graph: nx.DiGraph[Any]) -> dict[str, Any]:
    """Return a networkx graph as a graph document; raises InputError as ``from_networkx`` does."""
    names, links = _read(graph)
    problems: list[Problem] = []
    nodes = {
        name: _attempt(problems, lambda: _entry(name, graph.nodes[node], links[name]))  # noqa: B023
        for node, name in names.items()
    }
    if problems:
        raise InputError(problems)
    return _document(graph, nodes)


def _read(graph: nx.DiGraph[Any]) -> tuple[dict[Any, str], dict[str, list[Link]]]:
    """Return the name of each node, and the edges into it by slot."""
    names = _names(graph)
    problems: list[Problem] = []
    links = {name: _attempt(problems, lambda: _links(graph, node, names)) for node, name in names.items()}  # noqa: B023
    if problems:
        raise InputError(problems)
    return names, links


def _attempt(problems: list[Problem], step: Any) -> Any:
    try:
        return step()
    except InputError as error:
        problems += error.problems
        return None


def _names(graph: Any) -> dict[Any, str]:
    if not getattr(graph, "is_directed", bool)():
        raise wrong((), f"expected a networkx DiGraph or MultiDiGraph, got a {type(graph).__name__}")
    names = {node: str(node) for node in graph.nodes}
    seen: dict[str, Any] = {}
    for node, name in names.items():
        if seen.setdefault(name, node) != node:
            raise wrong(("vertices", name), f"nodes {seen[name]!r} and {node!r} have one name; rename one of them")
    return names


def _links(graph: nx.DiGraph[Any], node: Any, names: Mapping[Any, str]) -> list[Link]:
    """Return the edges into a node, by slot."""
    found: list[Link] = [(names[pre], dict(data)) for pre, _, data in graph.in_edges(node, data=True)]
    given = [data["slot"] for _, data in found if "slot" in data]
    path = ("vertices", names[node], "inputs")
    if given and len(given) < len(found):
        raise wrong(path, "some edges have a slot and some have none; give all of them one, or none")
    if given and (not all(type(slot) is int for slot in given) or sorted(given) != list(range(len(found)))):
        raise wrong(path, f"the edges have slots {given}, expected each of 0 to {len(found) - 1} once")
    return sorted(found, key=lambda link: link[1]["slot"]) if given else found


def _entry(name: str, data: Mapping[str, Any], links: list[Link]) -> dict[str, Any]:
    """Return a node as a graph document writes it."""
    if not isinstance(data.get("op"), str):
        raise wrong(("vertices", name, "op"), f"each node needs an op, got {data.get('op')!r} (pcsim list ops)")
    own = {str(key): _plain(value) for key, value in data.items() if key not in ("attributes", "inputs")}
    attributes = _plain(data.get("attributes", {}))
    if not isinstance(attributes, dict):
        raise wrong(("vertices", name, "attributes"), "expected a dict of the op's attributes")
    if "attributes" in data or not _takes_shape(data["op"]):
        own.pop("shape", None)
    return {**own, **attributes, "inputs": [_input(name, slot, link) for slot, link in enumerate(links)]}


def _takes_shape(op: str) -> bool:
    return op in OPS and "shape" in OPS[op].attributes


def _input(name: str, slot: int, link: Link) -> dict[str, Any]:
    source, data = link
    ways = {way: data[f"{way}_delay"] for way in _WAYS if f"{way}_delay" in data}
    if ways and "delay" in data:
        path = ("vertices", name, "inputs", slot)
        raise wrong(path, "an edge has either delay, or value_delay and error_delay")
    return {"from": source, "delay": _plain(ways or data.get("delay", 0))}


def _document(graph: nx.DiGraph[Any], vertices: Mapping[str, Any]) -> dict[str, Any]:
    given = graph.graph
    return {
        "title": str(given.get("title", given.get("name", ""))),
        "source": str(given.get("source", "")),
        "outputs": [str(name) for name in given.get("outputs", ())],
        "parameters": _plain(given.get("parameters", {})),
        "vertices": dict(vertices),
    }


def _check_shapes(graph: Graph, nodes: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse nodes that say another shape than the one worked out."""
    problems = [
        Problem(("vertices", name, "shape"), f"is {data['shape']}, but {list(graph.vertices[name].shape)} follows")
        for name, data in nodes.items()
        if "shape" in data and ("attributes" in data or not _takes_shape(data["op"]))
        and _plain(data["shape"]) != list(graph.vertices[name].shape)
    ]  # fmt: skip
    if problems:
        raise InputError(problems)


def _with_keys(graph: Graph, links: Mapping[tuple[str, int], Link]) -> Graph:
    """Return the graph with the keys of edges that are parts of others."""
    parts = {place: link[1]["part_of"] for place, link in links.items() if "part_of" in link[1]}
    if not parts:
        return graph
    edges = [
        replace(edge, key=_key(parts[edge.post, edge.slot], edge)) if (edge.post, edge.slot) in parts else edge
        for edge in graph.edges
    ]
    return assemble(graph.vertices.values(), edges, graph)


def _key(given: Any, edge: Edge) -> tuple[str, int]:
    if isinstance(given, list | tuple) and len(given) == 2 and type(given[1]) is int:
        return str(given[0]), given[1]
    path = ("vertices", edge.post, "inputs", edge.slot, "part_of")
    raise wrong(path, f"expected [vertex, slot] of the edge that this is a part of, got {given!r}")
