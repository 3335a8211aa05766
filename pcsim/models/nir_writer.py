"""Graphs as graphs of NIR: layers without activations, convolutions, pooling, scales and delays.

Vertices that add up, and identity vertices, are ``Delay`` nodes of no time: edges into a node of NIR add up.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import InputError, Problem, wrong
from pcsim.graph.initialise import initialise
from pcsim.models.model import Model
from pcsim.models.nir_file import nir_module
from pcsim.ops.reductions import axis_within
from pcsim.ops.sliding import sides, slid_over, sliding, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import DTypeLike

    from pcsim.graph.graph import Edge, Graph, Vertex

TICK = 1e-3
"""What a tick lasts in a written graph, in seconds, where nothing is said."""


def to_nir(
    graph: Graph | Model, parameters: Mapping[str, Any] | None = None, dtype: DTypeLike | None = None, *,
    dt: float = TICK,
) -> Any:  # fmt: skip
    """Return a graph as a ``nir.NIRGraph``.

    Parameters
    ----------
    graph : a graph, or a model made elsewhere
    parameters : {parameter: (*shape)}; what is not given starts as the graph says, with seed 0
    dtype : of the numbers; default: as they are given
    dt : what a tick lasts; the graph's metadata have it under ``dt``

    Raises
    ------
    InputError
        With every vertex and edge that NIR has no node for.
    """
    if isinstance(graph, Model):
        graph, parameters = graph.graph, {**graph.parameters, **(parameters or {})}
    given = {name: np.asarray(array) for name, array in (parameters or {}).items()}
    others = [name for name in graph.parameters if name not in given]
    values = {**initialise(graph, 0, names=others), **given}
    kind = None if dtype is None else np.dtype(dtype)
    return _Writer(graph, {name: np.asarray(array, kind) for name, array in values.items()}, dt).nir_graph()


class _Writer:
    """A graph of NIR under way."""

    def __init__(self, graph: Graph, values: dict[str, Any], dt: float) -> None:
        self.graph, self.values, self.dt = graph, values, dt
        self.nir = nir_module()
        self.nodes: dict[str, Any] = {}
        self.lines: list[tuple[str, str]] = []
        self.problems: list[Problem] = []
        self.numbers = self._numbers()

    def _numbers(self) -> dict[str, Any]:
        """Return the vertices that are fixed numbers or parameters: NIR has them within the node that takes them."""
        found = {}
        for name, vertex in self.graph.vertices.items():
            if vertex.op.role == "parameter":
                found[name] = self.values[vertex.params[0][1]]
            elif vertex.op.name == "constant":
                value = vertex.call["value"]
                found[name] = np.broadcast_to(np.asarray(getattr(value, "array", value), float), vertex.shape)
        return found

    def nir_graph(self) -> Any:
        """Return the graph; raises InputError with every problem."""
        for name, vertex in self.graph.vertices.items():
            if name not in self.numbers:
                self.attempt(("vertices", name), self.vertex, name, vertex)
        if self.problems:
            raise InputError(self.problems)
        for name in self.graph.outputs:
            self.output(name)
        metadata = {"dt": self.dt, **({"title": self.graph.title} if self.graph.title else {})}
        return self.nir.NIRGraph(self.nodes, self.lines, metadata)

    def attempt(self, path: tuple[str, ...], step: Callable[..., None], *arguments: Any) -> None:
        """Take a step; keep what is wrong."""
        try:
            step(*arguments)
        except (InputError, ValueError) as error:
            found = error.problems if isinstance(error, InputError) else [Problem((), str(error))]
            self.problems += [problem.under(*path) for problem in found]

    def vertex(self, name: str, vertex: Vertex) -> None:
        """Write a vertex and the edges into it."""
        if "/" in name:
            raise wrong((), "a name in a file of NIR holds no '/'; rename it")
        if not vertex.shape:
            raise wrong("shape", "NIR has no node without axes; expected a shape such as [1]")
        if vertex.op.name not in NODES:
            raise wrong("op", f"NIR has no node for op {vertex.op.name!r}")
        self.nodes[name] = NODES[vertex.op.name](self, vertex)
        taken: set[str] = set()
        for edge in self.graph.incoming[name]:
            if edge.pre not in self.numbers:
                self.edge(edge, again=edge.pre in taken)
                taken.add(edge.pre)
            elif vertex.op.name != "multiply":
                message = f"NIR has fixed and learnt numbers in a Scale alone, and {edge.pre!r} is an input of "
                raise wrong(("inputs", edge.slot), f"{message}op {vertex.op.name!r}")

    def edge(self, edge: Edge, *, again: bool) -> None:
        """Write an edge: with a Delay node where it is late, or where there is another between the same two nodes."""
        if edge.value_channel or edge.error_channel or self.graph.vertices[edge.post].acts:
            what = "NIR delivers every message: it has no channel, and all vertices act at every tick; leave them out"
            raise wrong(("inputs", edge.slot), what)
        if edge.value_delay != edge.error_delay:
            delays = f"{edge.value_delay} for values and {edge.error_delay} for errors"
            raise wrong(("inputs", edge.slot), f"NIR has one delay for both ways, got {delays}")
        if not edge.value_delay and not again:
            self.lines.append((edge.pre, edge.post))
            return
        name = self.unique(edge.name)
        shape = self.graph.vertices[edge.pre].shape
        self.nodes[name] = self.nir.Delay(np.full(shape, edge.value_delay * self.dt))
        self.lines += [(edge.pre, name), (name, edge.post)]

    def output(self, name: str) -> None:
        """Write an output."""
        made = self.unique(f"{name}.output")
        self.nodes[made] = self.nir.Output(np.array(self.graph.vertices[name].shape))
        self.lines.append((name, made))

    def unique(self, name: str) -> str:
        """Return a name that no node or vertex has."""
        while name in self.nodes or name in self.graph.vertices:
            name += "'"
        return name


# -- the nodes -----------------------------------------------------------------------------------------------


def parameters_of(writer: _Writer, vertex: Vertex) -> dict[str, Any]:
    """Return {slot: numbers}; raises InputError where the layer applies a function."""
    activation = vertex.call["activation"]
    if activation not in ("none", "identity"):
        message = f"NIR has no node for the function {activation!r}; its neurons have dynamics of their own"
        raise wrong("activation", message)
    return {slot: writer.values[name] for slot, name in vertex.params}


def source(writer: _Writer, vertex: Vertex) -> Any:
    """Return an Input."""
    if ("format", "whole") in vertex.call.attributes:
        raise wrong("format", "NIR has no inputs of whole numbers")
    return writer.nir.Input(np.array(vertex.shape))


def affine(writer: _Writer, vertex: Vertex) -> Any:
    """Return an Affine, or a Linear where there is no bias."""
    if len(vertex.shape) != 1:
        raise wrong("shape", f"NIR has layers of one axis, got {list(vertex.shape)}")
    found = parameters_of(writer, vertex)
    return writer.nir.Affine(**found) if "bias" in found else writer.nir.Linear(**found)


def convolution(writer: _Writer, vertex: Vertex) -> Any:
    """Return a Conv1d or a Conv2d."""
    found, call = parameters_of(writer, vertex), vertex.call
    front, extents = slid_over(call, 1)
    rank = len(extents)
    if rank > 2 or len(front) != 1:
        message = f"NIR has convolutions of [channels, extent] or [channels, height, width], got {list(call.shapes[0])}"
        raise wrong("shape", message)
    bias = found.get("bias", np.zeros(call["channels"], found["weight"].dtype))
    stride, dilation = (spread(name, call[name], rank) for name in ("stride", "dilation"))
    padding, groups = even_padding(call["padding"], rank), call["groups"]
    if rank == 1:
        return writer.nir.Conv1d(extents[0], found["weight"], stride[0], padding[0], dilation[0], groups, bias)
    return writer.nir.Conv2d(extents, found["weight"], stride, padding, dilation, groups, bias)


def even_padding(padding: Any, rank: int) -> tuple[int, ...]:
    """Return the padding of each axis, which NIR has equal before and behind."""
    pairs = sides(padding, rank)
    if any(before != behind for before, behind in pairs):
        raise wrong("padding", f"NIR has equal padding before and behind, got {[list(pair) for pair in pairs]}")
    return tuple(before for before, _ in pairs)


def average(writer: _Writer, vertex: Vertex) -> Any:
    """Return an AvgPool2d."""
    call, windows = vertex.call, sliding(slid_over(vertex.call, 0)[1], vertex.call)
    padding = even_padding(call["padding"], windows.rank)
    odd = call["ceil"] or (any(padding) and not call["count_padding"]) or set(windows.dilation) != {1}
    if odd or windows.rank != 2 or len(vertex.shape) != 3:
        message = "NIR has averages over height and width of [channels, height, width], padding counted, nothing else"
        raise wrong("op", message)
    return writer.nir.AvgPool2d(*map(np.array, (windows.kernel, windows.stride, padding)))


def scale(writer: _Writer, vertex: Vertex) -> Any:
    """Return a Scale: the product with numbers that are fixed or learnt."""
    pres = [edge.pre for edge in writer.graph.incoming[vertex.name]]
    known = [writer.numbers[pre] for pre in pres if pre in writer.numbers]
    if len(known) != len(pres) - 1:
        raise wrong("inputs", "NIR multiplies by numbers that are fixed or learnt, not one vertex by another")
    kept = next(pre for pre in pres if pre not in writer.numbers)
    if writer.graph.vertices[kept].shape != vertex.shape:
        raise wrong("shape", "a Scale of NIR keeps the shape of what it takes")
    return writer.nir.Scale(np.array(np.broadcast_to(prod(known), vertex.shape)))


def flat(writer: _Writer, vertex: Vertex) -> Any:
    """Return a Flatten; a reshape is one where it makes all axes one."""
    rank = len(vertex.call.shapes[0])
    if vertex.op.name == "reshape" and len(vertex.shape) != 1:
        raise wrong("shape", f"NIR makes axes one, it has no other shapes, such as {list(vertex.shape)}")
    given = dict(vertex.call.attributes)
    start, end = (axis_within(given.get(key, default), rank) for key, default in (("start", 0), ("end", -1)))
    return writer.nir.Flatten({"input": np.array(vertex.call.shapes[0])}, start, end)


def together(writer: _Writer, vertex: Vertex) -> Any:
    """Return a Delay of no time, into which several edges may lead."""
    if any(shape != vertex.shape for shape in vertex.call.shapes):
        raise wrong("shape", f"NIR adds up inputs of one shape, got {', '.join(map(str, vertex.call.shapes))}")
    return writer.nir.Delay(np.zeros(vertex.shape))


NODES: dict[str, Callable[[_Writer, Vertex], Any]] = {
    "input": source, "affine": affine, "conv": convolution, "average_pool": average, "multiply": scale,
    "flatten": flat, "reshape": flat, "add": together, "identity": together,
}  # fmt: skip
"""How a vertex of each op is written."""
