"""What ONNX has no word for, noted in the metadata of a model that pcsim writes, and read back by it.

Under ``pcsim.graph`` stands the graph document: delays, precisions and feedback with it, and layers that are several
nodes. It is read in place of the nodes as long as these are as they were written, which ``pcsim.nodes``, their
fingerprint, tells; weights are always those of the file.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pcsim.errors import InputError
from pcsim.graph.interop import document_from
from pcsim.graph.text_attributes import as_numbers
from pcsim.models.model import Model

if TYPE_CHECKING:
    from pcsim.graph.graph import Graph

GRAPH, NODES = "pcsim.graph", "pcsim.nodes"

LONGEST = 2**24
"""Characters of a document from which on it is left out."""


def document_text(graph: Graph) -> str:
    """Return a graph document as JSON, without how parameters start; nothing where only Python can say it."""
    document = document_from(graph.to_networkx())
    parts = {
        "parameters": {name: {"shape": list(row.shape)} for name, row in graph.parameters.items()},
        "vertices": {
            name: {key: value for key, value in entry.items() if key != "init"}
            for name, entry in document["vertices"].items()
        },
    }
    try:
        text = json.dumps({**document, **parts}, default=as_numbers)
    except InputError:
        return ""
    return text if len(text) <= LONGEST else ""


def fingerprint(model: Any, weights: frozenset[str]) -> str:
    """Return what tells whether a model's nodes, constants and ends are as they were; weights may change."""
    graph = model.graph
    parts = [node.SerializeToString(deterministic=True) for node in graph.node]
    parts += [f"{info.name} ".encode() for info in (*graph.input, *graph.output)]
    for tensor in graph.initializer:
        parts.append(f"{tensor.name} {tensor.data_type} {list(tensor.dims)}".encode())
        if tensor.name not in weights:
            parts.append(tensor.SerializeToString(deterministic=True))
    return sha256(b"".join(parts)).hexdigest()


def noted(model: Any, numbers: Any) -> Model | None:
    """Return the model that the metadata say; None where there are none, or where its nodes have changed since.

    numbers : (tensor) -> array
    """
    said = {entry.key: entry.value for entry in model.metadata_props}
    if not {GRAPH, NODES} <= said.keys():
        return None
    document = json.loads(said[GRAPH])
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = weights_of(document, held)
    if not set(document["parameters"]) <= set(held) or fingerprint(model, weights) != said[NODES]:
        return None
    vertices = document["vertices"]
    inputs = {name: tuple(entry["shape"]) for name, entry in vertices.items() if entry["op"] == "input"}
    parameters = {name: numbers(held[name]) for name in held if name in weights}
    return Model(document, parameters, inputs, tuple(document["outputs"]))


def weights_of(document: dict[str, Any], held: dict[str, Any]) -> frozenset[str]:
    """Return the names of parameters, and of what vertices keep from batch to batch."""
    parameters, vertices = document["parameters"], document["vertices"]
    return frozenset(name for name in held if name in parameters or name.rpartition(".")[0] in vertices)
