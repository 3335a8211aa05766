"""Graphs of NIR as graphs with their weights: its nodes without dynamics of their own, and its delays.

Several edges into a node add up. A ``Delay`` of no time is an identity vertex; any other makes an edge longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import Attempts, InputError, Problem, wrong
from pcsim.graph.order import find_cycle, topological_depths
from pcsim.models.builder import Builder, Tensor
from pcsim.models.nir_file import flattened, read_nir
from pcsim.ops.attributes import MOST_TICKS

if TYPE_CHECKING:
    from os import PathLike

    from pcsim.models.model import Model

OWN_DYNAMICS = ("CubaLI", "CubaLIF", "I", "IF", "LI", "LIF")
"""Nodes whose state follows an equation of their own."""

ROUNDING = 1e-6
"""How far a delay may be from a whole number of ticks, relative to it."""


def from_nir(source: str | PathLike[str] | Any, dt: float | None = None) -> Model:
    """Return a graph of NIR as a graph with its weights.

    Parameters
    ----------
    source : a path, or a ``nir.NIRGraph``
    dt : what a tick lasts, in NIR's unit of time; default: what the graph's metadata say under ``dt``

    Raises
    ------
    InputError
        With every node that has no meaning here: neurons with dynamics of their own, cycles, delays that are no whole
        number of ticks or differ within a layer.
    """
    graph: Any = source if hasattr(source, "nodes") and hasattr(source, "edges") else read_nir(source)
    nodes, lines = flattened(graph)
    said = (graph.metadata or {}).get("dt")
    return _Reader(nodes, lines, dt if dt is not None or said is None else float(said), _title(graph)).model()


def _title(graph: Any) -> str:
    title = (graph.metadata or {}).get("title", "")
    return title.decode() if isinstance(title, bytes) else str(title)


@dataclass(frozen=True)
class Arriving:
    """What a node hands on: a tensor, so many ticks later."""

    tensor: Tensor
    ticks: int = 0


@dataclass
class _Reader(Attempts):
    """A graph under way.

    Attributes
    ----------
    nodes, lines : of NIR, flattened
    dt : what a tick lasts
    sent : what each node hands on
    delays : {(vertex, slot): ticks}
    """

    nodes: dict[str, Any]
    lines: list[tuple[str, str]]
    dt: float | None
    title: str
    builder: Builder = field(init=False)
    problems: list[Problem] = field(default_factory=list)
    sent: dict[str, Arriving] = field(default_factory=dict)
    delays: dict[tuple[str, int], int] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def model(self) -> Model:
        """Return the model; raises InputError with every problem."""
        self.builder = Builder(self.title)
        inputs: dict[str, list[str]] = {name: [] for name in self.nodes}
        for pre, post in self.lines:
            inputs[post].append(pre)
        self.refuse(inputs)
        depths = topological_depths(inputs)
        for name in sorted(depths, key=depths.__getitem__):
            self.attempt(lambda: self.node(name, inputs[name]))  # noqa: B023
        if self.problems:
            raise InputError(self.problems)
        return self.delayed(self.builder.model(self.outputs))

    def refuse(self, inputs: dict[str, list[str]]) -> None:
        """Refuse nodes that have no meaning here, and a cycle, all at once."""
        for name, node in self.nodes.items():
            kind = type(node).__name__
            if kind in OWN_DYNAMICS:
                self.problems.append(Problem(("nodes", name), f"{kind} has dynamics of its own, which pcsim has not"))
            elif kind not in NODES:
                self.problems.append(Problem(("nodes", name), f"no vertex stands for a node {kind}"))
        depths = topological_depths(inputs)
        if len(depths) < len(inputs):
            cycle = " -> ".join(find_cycle(inputs, depths))
            message = f"the graph has a cycle: {cycle}; unroll it over time, one node a step"
            self.problems.append(Problem(("edges",), message))
        if self.problems:
            raise InputError(self.problems)

    def node(self, name: str, pres: list[str]) -> None:
        """Read a node whose inputs have been read."""
        if not all(pre in self.sent for pre in pres):
            return
        read = NODES[type(self.nodes[name]).__name__]
        try:
            self.sent[name] = read(self, name, self.nodes[name], pres)
        except InputError as error:
            raise error.map(lambda problem: problem.under("nodes", name)) from None

    # -- what nodes are made of ------------------------------------------------------------------------------

    def summed(self, name: str, pres: Sequence[str]) -> Arriving:
        """Return what arrives at a node: several edges are a vertex that adds them up."""
        if not pres:
            raise wrong((), "no edge leads to it: add an Input node")
        if len(pres) == 1:
            return self.sent[pres[0]]
        arriving = [self.sent[pre] for pre in pres]
        return Arriving(self.vertex("add", arriving, name))

    def vertex(self, op: str, arriving: Sequence[Arriving], name: str, **given: Any) -> Tensor:
        """Return a vertex that takes what arrives, with the delays of its edges."""
        params = given.pop("params", None)
        made = self.builder.vertex(op, [each.tensor for each in arriving], given, params=params, name=name)
        self.delays |= {(made.vertex, slot): each.ticks for slot, each in enumerate(arriving) if each.ticks}
        return made

    def parameter(self, name: str, array: Any) -> Tensor:
        """Return a parameter."""
        return self.builder.parameter(name, np.asarray(array))

    def ticks(self, delay: Any) -> int:
        """Return a delay in ticks; raises InputError where it is no whole number, or not one for the whole layer."""
        first, last = (float(extreme(np.asarray(delay, float))) for extreme in (np.min, np.max))
        if first != last:
            raise wrong((), f"delays differ within the layer, from {first:g} to {last:g}: expected one for all")
        if not first:
            return 0
        if self.dt is None:
            raise wrong((), f"a delay of {first:g} units of time: say with dt what a tick lasts")
        ticks = first / self.dt
        if not 0 <= ticks <= MOST_TICKS or abs(ticks - round(ticks)) > ROUNDING * max(1.0, ticks):
            message = f"a delay of {first:g} is {ticks:g} ticks of {self.dt:g}: expected a whole number, 0 or more"
            raise wrong((), message)
        return round(ticks)

    def delayed(self, model: Model) -> Model:
        """Return the model with the delays of its edges."""
        vertices = {name: dict(entry) for name, entry in model.plain["vertices"].items()}
        for (name, slot), ticks in self.delays.items():
            inputs = list(vertices[name]["inputs"])
            inputs[slot] = {"from": inputs[slot], "delay": ticks}
            vertices[name]["inputs"] = inputs
        return replace(model, plain={**model.plain, "vertices": vertices})


# -- the nodes -----------------------------------------------------------------------------------------------

Read = Callable[[_Reader, str, Any, list[str]], Arriving]


def shape_of(types: Any) -> tuple[int, ...]:
    """Return the one shape that NIR gives the ends of a node."""
    (shape,) = types.values()
    return tuple(map(int, np.atleast_1d(shape)))


def source(reader: _Reader, name: str, node: Any, pres: list[str]) -> Arriving:
    """Return an input; one of a graph within the graph hands on what it gets."""
    if pres:
        return reader.summed(name, pres)
    return Arriving(reader.builder.input(name, shape_of(node.input_type)))


def sink(reader: _Reader, name: str, _node: Any, pres: list[str]) -> Arriving:
    """Read an output: the vertex that leads to it, or one of its own where an edge is late or several add up."""
    arriving = reader.summed(name, pres)
    if any(pre == name for pre, _ in reader.lines):
        return arriving
    late = arriving.ticks or arriving.tensor.vertex in reader.builder.inputs.values()
    made = reader.vertex("identity", [arriving], name) if late else arriving.tensor
    known = {tensor.vertex for tensor in reader.outputs.values()}
    made = reader.vertex("identity", [Arriving(made)], name) if made.vertex in known else made
    reader.outputs[made.vertex] = made
    return arriving


def linear(reader: _Reader, name: str, node: Any, pres: list[str]) -> Arriving:
    """Return a layer without an activation."""
    weight, bias = np.asarray(node.weight), getattr(node, "bias", None)
    if weight.ndim != 2:
        raise wrong((), f"its weight has {weight.ndim} axes, expected 2: units and fan-in")
    x = arriving_of(reader, name, pres)
    params = {"weight": reader.parameter(f"{name}.weight", weight)}
    params |= {} if bias is None else {"bias": reader.parameter(f"{name}.bias", bias)}
    return Arriving(reader.vertex("affine", [x], name, units=len(weight), bias=bias is not None, params=params))


def arriving_of(reader: _Reader, name: str, pres: list[str]) -> Arriving:
    """Return what arrives at a node that computes something: several edges have a vertex of their own."""
    return reader.summed(f"{name}.sum", pres)


def per_axis(value: Any, rank: int) -> list[int]:
    """Return a number for each axis."""
    return [int(each) for each in np.broadcast_to(np.asarray(value), (rank,))]


def convolution(reader: _Reader, name: str, node: Any, pres: list[str]) -> Arriving:
    """Return a convolution over one axis or two."""
    weight = np.asarray(node.weight)
    kernel, rank = list(weight.shape[2:]), weight.ndim - 2
    stride, dilation = per_axis(node.stride, rank), per_axis(node.dilation, rank)
    params = {"weight": reader.parameter(f"{name}.weight", weight)}
    params |= {} if node.bias is None else {"bias": reader.parameter(f"{name}.bias", node.bias)}
    given = {
        "channels": len(weight), "kernel": kernel, "stride": stride, "dilation": dilation,
        "padding": padding_of(node.padding, kernel, dilation), "groups": int(node.groups),
        "bias": node.bias is not None,
    }  # fmt: skip
    return Arriving(reader.vertex("conv", [arriving_of(reader, name, pres)], name, params=params, **given))


def padding_of(padding: Any, kernel: list[int], dilation: list[int]) -> list[list[int]]:
    """Return what is added before and behind each axis; ``same`` keeps extents, with the odd one behind."""
    said = padding.decode() if isinstance(padding, bytes) else padding if isinstance(padding, str) else ""
    if said == "same":
        more = [gap * (size - 1) for gap, size in zip(dilation, kernel, strict=True)]
        return [[each // 2, each - each // 2] for each in more]
    return [[each, each] for each in per_axis(0 if said else padding, len(kernel))]


def average(reader: _Reader, name: str, node: Any, pres: list[str]) -> Arriving:
    """Return averages of windows, padding counted."""
    return Arriving(pooled(reader, name, node, pres))


def pooled(reader: _Reader, name: str, node: Any, pres: list[str]) -> Tensor:
    """Return averages of windows."""
    around = [[each, each] for each in per_axis(node.padding, 2)]
    given = {"kernel": per_axis(node.kernel_size, 2), "stride": per_axis(node.stride, 2), "padding": around}
    return reader.vertex("average_pool", [arriving_of(reader, name, pres)], name, **given)


def total(reader: _Reader, name: str, node: Any, pres: list[str]) -> Arriving:
    """Return sums of windows: their averages times the elements of one."""
    mean = pooled(reader, f"{name}.average", node, pres)
    size = reader.builder.constant(float(prod(per_axis(node.kernel_size, 2))))
    return Arriving(reader.vertex("multiply", [Arriving(mean), Arriving(size)], name))


def flat(reader: _Reader, name: str, node: Any, pres: list[str]) -> Arriving:
    """Return some axes made one; NIR counts them without the batch."""
    given = {"start": int(node.start_dim), "end": int(node.end_dim)}
    return Arriving(reader.vertex("flatten", [arriving_of(reader, name, pres)], name, **given))


def scaled(reader: _Reader, name: str, node: Any, pres: list[str]) -> Arriving:
    """Return the input times a parameter, element by element."""
    scale = Arriving(reader.parameter(f"{name}.scale", node.scale))
    return Arriving(reader.vertex("multiply", [arriving_of(reader, name, pres), scale], name))


def threshold(reader: _Reader, name: str, node: Any, pres: list[str]) -> Arriving:
    """Return 1 above a threshold, else 0; its slope is 0."""
    bound = Arriving(reader.parameter(f"{name}.threshold", node.threshold))
    above = reader.vertex("subtract", [arriving_of(reader, name, pres), bound], f"{name}.above")
    return Arriving(reader.vertex("sign", [Arriving(reader.vertex("relu", [Arriving(above)], f"{name}.part"))], name))


def delay(reader: _Reader, name: str, node: Any, pres: list[str]) -> Arriving:
    """Return what arrives, later; a delay of no time is an identity vertex, or the sum of what arrives."""
    ticks, arriving = reader.ticks(node.delay), reader.summed(name, pres)
    if ticks:
        return replace(arriving, ticks=arriving.ticks + ticks)
    return arriving if len(pres) > 1 else Arriving(reader.vertex("identity", [arriving], name))


NODES: dict[str, Read] = {
    "Input": source, "Output": sink, "Affine": linear, "Linear": linear, "Conv1d": convolution, "Conv2d": convolution,
    "AvgPool2d": average, "SumPool2d": total, "Flatten": flat, "Scale": scaled, "Threshold": threshold, "Delay": delay,
}  # fmt: skip
"""How each node is read."""
