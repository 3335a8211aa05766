"""Graphs written to files that other tools read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcsim.errors import nearest, wrong
from pcsim.graph.dot import delay_label, to_dot, vertex_label
from pcsim.graph.levels import vertex_levels
from pcsim.graph.text_attributes import as_numbers
from pcsim.models.model import Model
from pcsim.models.nir_file import nir_module
from pcsim.models.nir_writer import to_nir
from pcsim.models.onnx_writer import to_onnx

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import DTypeLike

    from pcsim.graph.graph import Graph

LARGEST = 2**31 - 2**16
"""Bytes of an ONNX model from which on its numbers stand in a file of their own."""


def export(
    graph: Graph | Model, path: str | PathLike[str], parameters: Mapping[str, Any] | None = None,
    dtype: DTypeLike | None = None, form: str | None = None,
) -> Path:  # fmt: skip
    """Write a graph to a file that another tool reads; return its path.

    Parameters
    ----------
    graph : a graph, or a model made elsewhere
    path : its ending says the format: .onnx, .nir, .graphml, .dot or .gv, .json (node-link data of networkx)
    parameters, dtype : as of `to_onnx`; formats without numbers say how parameters start
    form : the format, whatever the ending

    Raises
    ------
    InputError
        For an unknown format, and with everything that the format cannot say.
    OSError
        Where the file cannot be written; nothing is left of it.
    """
    if isinstance(graph, Model):
        graph, parameters = graph.graph, {**graph.parameters, **(parameters or {})}
    target = Path(path)
    name = form or ENDINGS.get(target.suffix.lower(), target.suffix.removeprefix("."))
    if name not in FORMATS:
        raise wrong("format", f"unknown format {name!r}" + nearest(name, FORMATS))
    content = FORMATS[name](graph, parameters, dtype)
    part = target.with_name(f"{target.name}.part")
    try:
        part.write_bytes(content)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


Content = Callable[["Graph", "Mapping[str, Any] | None", "DTypeLike | None"], bytes]


def onnx_bytes(graph: Graph, parameters: Mapping[str, Any] | None, dtype: DTypeLike | None) -> bytes:
    """Return a graph as an ONNX file, checked."""
    model = to_onnx(graph, parameters, dtype)
    if (size := model.ByteSize()) > LARGEST:
        raise wrong((), f"an ONNX file holds at most 2 GiB, and this model takes {size / 2**30:.1f} GiB; try float32")
    return bytes(model.SerializeToString())


def graphml_bytes(graph: Graph, *_: Any) -> bytes:
    """Return a graph as GraphML that networkx reads: with labels to draw by, and each vertex's level as ``layer``."""
    import networkx as nx

    made, found = graph.to_networkx(text=True), vertex_levels(graph)
    for name, data in made.nodes(data=True):
        level = found[name]
        data |= {"label": "\n".join(vertex_label(graph.vertices[name]))} | ({} if level is None else {"layer": level})
    for edge in graph.edges:
        if label := delay_label(edge):
            made.edges[edge.pre, edge.post, edge.slot]["label"] = label
    stream = BytesIO()
    nx.write_graphml(made, stream)
    return stream.getvalue()


def dot_bytes(graph: Graph, *_: Any) -> bytes:
    """Return a graph in DOT."""
    return to_dot(graph).encode()


def json_bytes(graph: Graph, *_: Any) -> bytes:
    """Return a graph as node-link data of networkx."""
    import networkx as nx

    data = nx.node_link_data(graph.to_networkx(), edges="edges")
    return json.dumps(data, indent=1, ensure_ascii=False, default=as_numbers).encode()


def nir_bytes(graph: Graph, parameters: Mapping[str, Any] | None, dtype: DTypeLike | None) -> bytes:
    """Return a graph as a file of NIR."""
    stream = BytesIO()
    nir_module().write(stream, to_nir(graph, parameters, dtype))
    return stream.getvalue()


FORMATS: dict[str, Content] = {
    "onnx": onnx_bytes,
    "nir": nir_bytes,
    "graphml": graphml_bytes,
    "dot": dot_bytes,
    "json": json_bytes,
}
"""What a graph can be written as."""

ENDINGS = {".gv": "dot"} | {f".{name}": name for name in FORMATS}
