"""Graphs as networkx graphs and back.

What survives ``from_networkx(to_networkx(graph))``: everything, so that the two graphs are equal and
run to the same bits. That includes the observers of outputs (``NAME.observed``), identity vertices that
levelling put in (``a~b~1``), and ``Edge.key``, the place of an edge in the sum of errors: an edge that is a
part of one of the document's carries it as ``part_of``. Names of edges are made anew from their ends and
slots. What networkx holds besides (layouts, colours) does not survive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.documents import from_plain, plain
from pcsim.documents.frozen_arrays import MOST_WRITTEN_OUT, FrozenArray, reads_as_array
from pcsim.errors import Attempts, InputError, Problem, nearest, slip_of, wrong
from pcsim.graph.assembly import assemble
from pcsim.graph.build import graph_from
from pcsim.graph.channels import CHANNEL_KINDS, Acts, Channel
from pcsim.graph.text_attributes import with_text, without_text
from pcsim.ops import OPS
from pcsim.ops.attributes import whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    import networkx as nx

    from pcsim.errors import Path
    from pcsim.graph.graph import Edge, Graph, Parameter, Vertex


Link = tuple[str, dict[str, Any]]
"""One edge into a vertex: where it comes from, and its attributes."""

_WAYS = ("value", "error")

_OF_GRAPH = ("title", "name", "source", "outputs", "parameters")
_OF_EDGE = ("slot", "delay", "value_delay", "error_delay", "part_of", *CHANNEL_KINDS)

_UNSAID = {"params": {}, "precision": 1.0}
"""What an entry means where it does not say it."""

_DRAWING = frozenset({
    "alpha", "bipartite", "color", "colour", "fillcolor", "font", "fontcolor", "fontsize", "height", "id", "label",
    "labels", "layer", "linewidth", "penwidth", "pos", "position", "size", "style", "subset", "title", "tooltip", "viz",
    "width", "x", "y", "z",
})  # fmt: skip
"""Attributes of nodes and edges with which graphs are drawn, and which files of graphs carry along."""

_ELSEWHERE = {"weight": "; weights are parameters of the vertex that an edge leads to: say there how they start (init)"}
"""Attributes that other libraries give edges, and where a graph document says the same."""


def to_networkx(graph: Graph, *, text: bool = False) -> nx.MultiDiGraph[str]:
    """Return a graph as plain data in a networkx MultiDiGraph, nodes in canonical order.

    ``json.dumps(nx.node_link_data(graph.to_networkx(text=True), edges="edges"))`` is text whatever the graph holds.

    Nodes have ``op``, ``shape``, ``attributes`` (those of the op that are not its defaults), ``params``
    and ``precision``, and ``init`` where buffers start otherwise than their op says. Edges are keyed by slot and have
    ``slot``, ``value_delay`` and ``error_delay``, in ticks, and what their channels do.
    The graph has ``title``, ``source``, ``outputs`` and ``parameters``: {name: {shape, init}}.

    text : lists and mappings as JSON text, so that networkx can write GraphML and GML; ``from_networkx`` reads it
    """
    import networkx as nx

    parameters = {name: _parameter(parameter) for name, parameter in graph.parameters.items()}
    made: nx.MultiDiGraph[str] = nx.MultiDiGraph(
        title=graph.title, source=graph.source, outputs=list(graph.outputs), parameters=parameters
    )
    for vertex in graph.vertices.values():
        made.add_node(vertex.name, **_node(vertex))
    for name, buffer in graph.buffers.items():
        vertex_name, _, slot = name.rpartition(".")
        made.nodes[vertex_name].setdefault("init", {})[slot] = _parameter(buffer)["init"]
    for edge in graph.edges:
        made.add_edge(edge.pre, edge.post, edge.slot, **_line(edge))
    return with_text(made) if text else made


def _node(vertex: Vertex) -> dict[str, Any]:
    rows = vertex.op.attributes
    known = dict(vertex.call.attributes)
    follow = {key for key, row in rows.items() if row.follows and known[row.follows] is not None}
    given = {key: _plain(known[key]) for key in known if key not in follow and known[key] != rows[key].default}
    feedback = {} if vertex.feedback.symmetric else {"feedback": vertex.feedback.name}
    acts = {} if vertex.acts is None else {"acts": _said(vertex.acts, Acts(), ("every", "offset", "chance"))}
    return {
        "op": vertex.op.name,
        "shape": list(vertex.shape),
        "attributes": given,
        "params": dict(vertex.params),
        "precision": _plain(vertex.precision),
        **feedback,
        **acts,
    }


def _line(edge: Edge) -> dict[str, Any]:
    delays = {"slot": edge.slot, "value_delay": edge.value_delay, "error_delay": edge.error_delay, **_channels(edge)}
    return delays if edge.key == (edge.post, edge.slot) else {**delays, "part_of": list(edge.key)}


def _channels(edge: Edge) -> dict[str, Any]:
    """Return the channels of an edge as a document writes them."""
    ways = {"value": edge.value_channel, "error": edge.error_channel}
    said = {way: _said(channel, Channel(), tuple(CHANNEL_KINDS)) for way, channel in ways.items() if channel}
    return {
        key: found for key in CHANNEL_KINDS if (found := {way: row[key] for way, row in said.items() if key in row})
    }


def _said(row: Any, default: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return what a row says that its default does not."""
    return {key: value for key in keys if (value := getattr(row, key)) != getattr(default, key)}


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
    ``error_delay``, and what a channel does (``jitter``, ``loss``, ...). networkx lists parallel edges together, in the
    order in which they were added, whatever their keys: give ``slot`` where another order is meant.
    Names of nodes become text. What says how to draw a graph (labels, positions, colours) is left out, as are
    attributes of the whole graph that are unlike any of a document; other unknown attributes are refused.
    Lists and mappings may be JSON text, as ``to_networkx(text=True)`` writes them for files.

    Raises
    ------
    InputError
        With every problem found; paths read as in a graph document: ``vertices.NAME.op``.
    """
    graph = without_text(graph)
    read = _read(graph)
    if read.problems and not read.entries:
        raise InputError(read.problems)
    made = graph_from(_document(graph, read), problems=read.problems)
    _check_shapes(made, {name: graph.nodes[node] for node, name in read.names.items()})
    parts = {(name, slot): link for name in read.links for slot, link in enumerate(read.links[name])}
    return _with_keys(made, parts)


def document_from(graph: nx.DiGraph[Any]) -> dict[str, Any]:
    """Return a networkx graph as a graph document; raises InputError as ``from_networkx`` does."""
    graph = without_text(graph)
    read = _read(graph)
    if read.problems:
        raise InputError(read.problems)
    document = _document(graph, read)
    return {**document, "vertices": {name: _brief(entry) for name, entry in document["vertices"].items()}}


def _brief(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry without what a document need not say, its inputs behind its op."""
    links = [_brief_input(link) for link in entry["inputs"]]
    rest = {key: value for key, value in entry.items() if key not in ("op", "inputs") and value != _UNSAID.get(key)}
    return {"op": entry["op"], **({"inputs": links} if links else {}), **rest}


def _brief_input(link: Mapping[str, Any]) -> Any:
    """Return an input as a document writes it: its name alone where it is not late."""
    delay = link["delay"]
    if isinstance(delay, Mapping) and len(delay) == len(_WAYS) and delay["value"] == delay["error"]:
        delay = delay["value"]
    if delay == 0 and len(link) == 2:
        return link["from"]
    return {**link, "delay": delay}


@dataclass
class _Reading(Attempts):
    """What was read of a networkx graph.

    Attributes
    ----------
    names : the name of each node
    links : the edges into each vertex, by slot
    entries : vertices as a document writes them, those left out in which something is wrong
    parameters, outputs : as a document writes them
    """

    names: dict[Any, str]
    links: dict[str, list[Link]] = field(default_factory=dict)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def _read(graph: nx.DiGraph[Any]) -> _Reading:
    read = _Reading(_names(graph))
    read.attempt(lambda: _check_known(graph.graph))
    read.parameters = read.attempt(lambda: _read_value(("parameters",), graph.graph.get("parameters", {}))) or {}
    read.outputs = read.attempt(lambda: _outputs(graph.graph.get("outputs", ()))) or []
    for node, name in read.names.items():
        links = read.attempt(lambda: _links(graph, node, read.names))  # noqa: B023
        entry = read.attempt(lambda: _entry(name, graph.nodes[node], links or []))  # noqa: B023
        if links is not None and entry is not None:
            read.links[name], read.entries[name] = links, entry
    return read


def _names(graph: Any) -> dict[Any, str]:
    if not getattr(graph, "is_directed", bool)():
        raise wrong((), f"expected a networkx DiGraph or MultiDiGraph, got a {type(graph).__name__}")
    names = {node: _name(node) for node in graph.nodes}
    seen: dict[str, Any] = {}
    for node, name in names.items():
        if seen.setdefault(name, node) != node:
            raise wrong(("vertices", name), f"nodes {seen[name]!r} and {node!r} have one name; rename one of them")
    return names


def _name(node: Any) -> str:
    """Return the name of a node as text; numbers of NumPy within tuples read like others.

    >>> _name(("h", np.int64(2))), _name(7)
    ("('h', 2)", '7')
    """
    return str(_without_numpy(node))


def _without_numpy(node: Any) -> Any:
    if isinstance(node, np.generic):
        return node.item()
    return tuple(map(_without_numpy, node)) if type(node) is tuple else node


def _check_known(given: Mapping[Any, Any]) -> None:
    """Refuse slips in the names of attributes of the whole graph, which may have others beside those of a document."""
    slips = [(str(key), slip) for key in given if key not in _OF_GRAPH and (slip := slip_of(str(key), _OF_GRAPH))]
    problems = [Problem((key,), f"unknown key {key!r}; did you mean {slip!r}?") for key, slip in slips]
    if problems:
        raise InputError(problems)


def _outputs(given: Any) -> list[str]:
    try:
        if not isinstance(given, str | bytes):
            return [_name(name) for name in given]
    except TypeError:
        pass
    raise wrong("outputs", f"expected a list of nodes, got {given!r:.60}")


def _links(graph: nx.DiGraph[Any], node: Any, names: Mapping[Any, str]) -> list[Link]:
    """Return the edges into a node, by slot."""
    found: list[Link] = [(names[pre], dict(data)) for pre, _, data in graph.in_edges(node, data=True)]
    path = ("vertices", names[node], "inputs")
    given = [_slot(path, data["slot"]) for _, data in found if "slot" in data]
    if given and len(given) < len(found):
        raise wrong(path, "some edges have a slot and some have none; give all of them one, or none")
    if given and set(given) != set(range(len(found))):
        slots = ", ".join(map(str, given))
        raise wrong(path, f"the edges have slots [{slots}], expected each of 0 to {len(found) - 1} once")
    return sorted(found, key=lambda link: link[1]["slot"]) if given else found


def _slot(path: Path, given: Any) -> Any:
    """Return a slot as a whole number, also where it is written 2.0; what is none stays text, for the error."""
    value = _read_value((*path, "slot"), given)
    try:
        return whole(value)
    except ValueError:
        return repr(value)


def _entry(name: str, data: Mapping[Any, Any], links: list[Link]) -> dict[str, Any]:
    """Return a node as a graph document writes it; raises InputError with every problem of the node and its edges."""
    problems = [problem for slot, link in enumerate(links) for problem in _problems_of(name, slot, link)]
    given, op = {str(key): value for key, value in data.items()}, data.get("op")
    attributes = given.pop("attributes", {})
    if not isinstance(op, str):
        problems.append(Problem(("vertices", name, "op"), f"each node needs an op, got {op!r} (pcsim list ops)"))
    if not isinstance(attributes, Mapping):
        problems.append(Problem(("vertices", name, "attributes"), "expected a dict of the op's attributes"))
    if "inputs" in given:
        problems.append(
            Problem(("vertices", name, "inputs"), "the inputs of a node are the edges into it; remove these")
        )
    if problems:
        raise InputError(problems)
    legal = OPS[op].attributes if op in OPS else {}
    own = {key: value for key, value in given.items() if key in legal or key not in _DRAWING}
    if "attributes" in data or not _takes_shape(str(op)):
        own.pop("shape", None)
    values = {key: _read_value(("vertices", name, key), value) for key, value in {**own, **attributes}.items()}
    return {**values, "inputs": [_input(name, slot, link) for slot, link in enumerate(links)]}


def _problems_of(name: str, slot: int, link: Link) -> Iterator[Problem]:
    """Yield what is wrong with the names of the attributes of an edge."""
    path = ("vertices", name, "inputs", slot)
    keys = {str(key) for key in link[1]}
    for key in sorted(keys - {*_OF_EDGE, *_DRAWING}):
        hint = _ELSEWHERE.get(key) or nearest(key.lower(), _OF_EDGE)
        yield Problem((*path, key), f"unknown key {key!r}{hint}")
    if "delay" in keys and keys & {f"{way}_delay" for way in _WAYS}:
        yield Problem(path, "an edge has either delay, or value_delay and error_delay")


def _read_value(path: Path, value: Any) -> Any:
    """Return a value as a document holds it; what only Python can say stays as it is."""
    if not isinstance(value, list | tuple | Mapping) and not reads_as_array(value):
        return value
    try:
        return plain(from_plain(dict(value) if isinstance(value, Mapping) else value, "networkx"))
    except InputError as error:
        raise error.map(lambda problem: problem.under(*path)) from None


def _takes_shape(op: str) -> bool:
    return op in OPS and "shape" in OPS[op].attributes


def _input(name: str, slot: int, link: Link) -> dict[str, Any]:
    source, data = link
    ways = {way: data[f"{way}_delay"] for way in _WAYS if f"{way}_delay" in data}
    delay = _read_value(("vertices", name, "inputs", slot, "delay"), ways or data.get("delay", 0))
    channels = {
        key: _read_value(("vertices", name, "inputs", slot, key), data[key]) for key in CHANNEL_KINDS if key in data
    }
    return {"from": source, "delay": delay, **channels}


def _document(graph: nx.DiGraph[Any], read: _Reading) -> dict[str, Any]:
    given = graph.graph
    return {
        "title": str(given.get("title", given.get("name", ""))),
        "source": str(given.get("source", "")),
        "outputs": read.outputs,
        "parameters": read.parameters,
        "vertices": read.entries,
    }


def _check_shapes(graph: Graph, nodes: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse nodes that say another shape than the one worked out."""
    problems = [
        Problem(("vertices", name, "shape"), f"is {data['shape']}, but {list(graph.vertices[name].shape)} follows")
        for name, data in nodes.items()
        if "shape" in data and ("attributes" in data or not _takes_shape(data["op"]))
        and _read_value(("vertices", name, "shape"), data["shape"]) != list(graph.vertices[name].shape)
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
