"""Graphs as ONNX models: the forward pass, a few nodes for each vertex, with the batch as the first axis of everything.

What ONNX has no word for is noted beside: levels in the ``doc_string`` of nodes, the graph document in the metadata of
the model (``onnx_notes``), so that `from_onnx` brings delays and levelling back.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.operands import buffer_shapes
from pcsim.errors import InputError, Problem, wrong
from pcsim.graph.graph import Graph, number_format
from pcsim.graph.initialise import initialise
from pcsim.graph.levels import vertex_levels
from pcsim.models import (
    onnx_write_arrays,
    onnx_write_functions,
    onnx_write_layers,
    onnx_write_norms,
    onnx_write_places,
)
from pcsim.models.model import Model
from pcsim.models.onnx_notes import GRAPH, NODES, document_text, fingerprint
from pcsim.models.onnx_vertex import Nodes, Writing, spread
from pcsim.resources import install

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike

    from pcsim.graph.graph import Vertex
from pcsim.models.onnx_vertex import Row

OPSET, IR_VERSION = 20, 9
"""Operators as of ONNX 1.15: what runtimes of the last years read."""

BATCH = "batch"
"""The name of the first extent of inputs and outputs."""

WRITERS: dict[str, Row] = {
    **onnx_write_functions.ROWS, **onnx_write_arrays.ROWS, **onnx_write_layers.ROWS, **onnx_write_norms.ROWS,
    **onnx_write_places.ROWS,
}  # fmt: skip
"""How a vertex of each op is written."""

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


def to_onnx(graph: Graph | Model, parameters: Mapping[str, Any] | None = None, dtype: DTypeLike | None = None) -> Any:
    """Return a graph as an ``onnx.ModelProto`` that computes its outputs from its inputs.

    Parameters
    ----------
    graph : a graph, or a model made elsewhere
    parameters : {parameter: (*shape)}, and {``VERTEX.BUFFER``: (*shape)} of running statistics; what is not given
        starts as the graph says, with seed 0
    dtype : float32 or float64; default: the format of the parameters given, else float32

    Raises
    ------
    InputError
        Where ONNX has no operators for an op: all such vertices are named.
    """
    if isinstance(graph, Model):
        graph, parameters = graph.graph, {**graph.parameters, **(parameters or {})}
    given = {name: np.asarray(array) for name, array in (parameters or {}).items()}
    kind = np.dtype(dtype or next((array.dtype for array in given.values() if array.dtype == np.float64), np.float32))
    _check_ops(graph)
    model = _Model(graph, _values(graph, given, kind), Nodes(_package(), kind))
    return model.proto()


def _package() -> Any:
    try:
        return import_module("onnx")
    except ModuleNotFoundError:
        raise wrong("onnx", f"to write ONNX models the package onnx is needed: {install('onnx')}") from None


def _check_ops(graph: Graph) -> None:
    """Refuse vertices whose ops have no row, all at once."""
    active = [graph.vertices[name] for name in graph.active]
    problems = [
        Problem(("vertices", vertex.name, "op"), f"ONNX has no operator for op {vertex.op.name!r}")
        for vertex in active
        if vertex.op.name not in WRITERS
    ]
    if problems:
        raise InputError(problems)


def _values(graph: Graph, given: Mapping[str, Any], dtype: np.dtype[Any]) -> Arrays:
    """Return parameters and buffers in the format of the model."""
    shapes = {name: row.shape for name, row in graph.parameters.items()} | buffer_shapes(graph)
    others = [name for name in (*graph.parameters, *graph.buffers) if name not in given]
    starts = _starts(graph) | initialise(graph, 0, names=others)
    values = starts | {name: given[name] for name in given if name in shapes}
    problems = [
        Problem((name,), f"has shape {list(array.shape)}, expected {list(shapes[name])}")
        for name, array in values.items()
        if array.shape != shapes[name]
    ]
    if problems:
        raise InputError(problems)
    return {name: np.asarray(array, dtype) for name, array in values.items()}


def _starts(graph: Graph) -> Arrays:
    """Return what buffers start from."""
    vertices = [graph.vertices[name] for name in graph.active]
    return {
        f"{vertex.name}.{key}": np.full(row.shape, row.start)
        for vertex in vertices
        for key, row in vertex.op.buffers(vertex.call).items()
    }


class _Model:
    """A model under way: the tensor of each vertex, and whether it depends on what is fed."""

    def __init__(self, graph: Graph, values: Arrays, nodes: Nodes) -> None:
        self.graph, self.values, self.nodes = graph, values, nodes
        self.onnx = nodes.onnx
        self.tensors: dict[str, str] = {}
        self.batched: dict[str, bool] = {}
        self.problems: list[Problem] = []
        nodes.taken |= {*values, *graph.vertices}

    def proto(self) -> Any:
        """Return the whole model, checked."""
        for name, vertex in self.graph.vertices.items():
            self.vertex(name, vertex)
        if self.problems:
            raise InputError(self.problems)
        helper = self.onnx.helper
        outputs = [self.info(name) for name in self.graph.outputs]
        made = helper.make_graph(
            self.nodes.nodes, self.graph.title or "pcsim", self.inputs(), outputs, self.initializers(),
            doc_string=self.graph.source, value_info=self.inner(),
        )  # fmt: skip
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION, producer_name="pcsim")
        helper.set_model_props(model, self.notes(model))
        return model

    # -- vertices --------------------------------------------------------------------------------------------

    def vertex(self, name: str, vertex: Vertex) -> None:
        """Write one vertex."""
        self.batched[name] = vertex.op.name == "input"
        if vertex.op.role == "parameter":
            row = self.nodes.constant(np.asarray([0], np.int64))
            self.tensors[name] = self.own(name, "Unsqueeze", [vertex.params[0][1], row])
        elif vertex.op.name == "input":
            self.tensors[name] = self.name_of(name)
        elif vertex.op.role == "source":
            self.tensors[name] = self.constant(name, vertex)
        else:
            self.function(name, vertex)

    def name_of(self, name: str) -> str:
        """Return the name of a vertex's tensor: its own, unless a parameter has it."""
        return self.nodes.unique(f"{name}/value") if name in self.values else name

    def own(self, name: str, kind: str, inputs: list[str]) -> str:
        """Return the tensor of a vertex that a node makes."""
        made = self.name_of(name)
        self.nodes.nodes.append(self.onnx.helper.make_node(kind, inputs, [made], made))
        return made

    def constant(self, name: str, vertex: Vertex) -> str:
        """Return a constant as an initializer of batch extent 1."""
        value = vertex.call["value"]
        kind = np.int64 if number_format(vertex) == "whole" else self.nodes.dtype
        array = np.broadcast_to(np.asarray(getattr(value, "array", value), kind), vertex.shape)
        made = self.name_of(name)
        self.nodes.arrays[made] = array[None]
        return made

    def function(self, name: str, vertex: Vertex) -> None:
        """Write what a vertex computes; the last of its nodes has its name."""
        pres = [edge.pre for edge in self.graph.incoming[name]]
        inputs = tuple(self.tensors.get(pre, "") for pre in pres)  # nothing of a vertex that is refused
        batched = tuple(self.batched[pre] for pre in pres)
        buffers = {key: f"{name}.{key}" for key in vertex.op.buffers(vertex.call)}
        writing = Writing(self.nodes, vertex, inputs, batched, {**dict(vertex.params), **buffers})
        self.batched[name] = any(batched)
        first = len(self.nodes.nodes)
        try:
            made = WRITERS[vertex.op.name](writing)
        except ValueError as error:
            self.problems.append(Problem(("vertices", name, "op"), f"op {vertex.op.name!r}: {error}"))
            return
        if self.graph.role(name) == "output" and not any(batched) and (fed := self.fed()):
            made, self.batched[name] = spread(writing, made, len(vertex.shape), fed), True
        if first == len(self.nodes.nodes):
            made = writing.node("Identity", made)
        self.tensors[name] = self.named(name, made, first)

    def fed(self) -> str:
        """Return a tensor whose first extent is the batch; nothing where the model has no inputs."""
        return next(
            (self.tensors[name] for name, batched in self.batched.items() if batched and name in self.tensors), ""
        )

    def named(self, name: str, made: str, first: int) -> str:
        """Give the tensor that a vertex's nodes make the name of the vertex, and note its level with each of them."""
        level, final = vertex_levels(self.graph)[name], self.name_of(name)
        for node in self.nodes.nodes[first:]:
            node.doc_string = "" if level is None else f"level {level}"
            for names in (node.input, node.output):
                names[:] = [final if each == made else each for each in names]
        return final

    # -- the model -------------------------------------------------------------------------------------------

    def info(self, name: str) -> Any:
        """Return what a vertex's tensor is: its number format, and its shape with the batch in front."""
        vertex, helper = self.graph.vertices[name], self.onnx.helper
        kind = np.dtype(np.int64) if number_format(vertex) == "whole" else self.nodes.dtype
        shape = [BATCH if self.batched[name] else 1, *vertex.shape]
        return helper.make_tensor_value_info(self.tensors[name], helper.np_dtype_to_tensor_dtype(kind), shape)

    def inputs(self) -> list[Any]:
        """Return the inputs of the model."""
        return [self.info(name) for name, vertex in self.graph.vertices.items() if vertex.op.name == "input"]

    def inner(self) -> list[Any]:
        """Return what all vertices are that are neither inputs nor outputs."""
        outputs = frozenset(self.graph.outputs)
        return [self.info(name) for name in self.graph.active if name not in outputs]

    def initializers(self) -> list[Any]:
        """Return parameters, buffers and constants that some node takes."""
        used = {each for node in self.nodes.nodes for each in node.input}
        arrays = self.values | self.nodes.arrays
        numbers = self.onnx.numpy_helper
        return [numbers.from_array(np.ascontiguousarray(arrays[name]).reshape(arrays[name].shape), name)
                for name in arrays if name in used]  # fmt: skip

    def notes(self, model: Any) -> dict[str, str]:
        """Return what is noted in the metadata: the graph document, and what tells whether nodes are changed."""
        text = document_text(self.graph)
        return {GRAPH: text, NODES: fingerprint(model, frozenset(self.values))} if text else {}
