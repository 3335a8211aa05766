"""From a validated document to a Graph: names, shapes and parameters checked, all problems at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from pcsim.errors import InputError, Path, Problem, nearest, wrong
from pcsim.graph.formula import vertices_of_formula
from pcsim.graph.graph import Edge, Graph, Parameter, Vertex
from pcsim.graph.models import GraphDocument, InitEntry, VertexEntry
from pcsim.graph.order import find_cycle, natural, topological_depths
from pcsim.graph.problems import problems_of
from pcsim.ops import OPS, make_call, parse_attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pcsim.arrays import Shape
    from pcsim.ops.op import Call, Op, ParameterSpec


def graph_from(data: Mapping[str, Any]) -> Graph:
    """Make a graph from a document given as plain data without ``$``; raises InputError."""
    try:
        return build(GraphDocument.model_validate(data))
    except ValidationError as error:
        raise InputError(problems_of(error, GraphDocument)) from None


def build(document: GraphDocument) -> Graph:
    """Make a graph from a validated document; raises InputError with every problem found."""
    entries, outputs = _entries(document)
    builder = _Builder(document, entries)
    graph = builder.graph(outputs)
    if builder.problems:
        raise InputError(builder.problems)
    return graph


def _entries(document: GraphDocument) -> tuple[dict[str, VertexEntry], list[str]]:
    if document.formula is None:
        return document.vertices, document.outputs
    found, output = vertices_of_formula(document.formula, document.parameters)
    entries = {name: VertexEntry.model_validate(_named(name, entry, document)) for name, entry in found.items()}
    return entries, document.outputs or [output]


def _named(name: str, entry: dict[str, Any], document: GraphDocument) -> dict[str, Any]:
    """Give a formula's parameter vertex the shape and the parameter that the document names."""
    if entry["op"] != "parameter":
        return entry
    return {"op": "parameter", "shape": document.parameters[name].shape, "params": {"value": name}}


@dataclass
class _Builder:
    document: GraphDocument
    entries: Mapping[str, VertexEntry]
    problems: list[Problem] = field(default_factory=list)
    vertices: dict[str, Vertex] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)

    def graph(self, outputs: list[str]) -> Graph:
        for name, entry in self.document.parameters.items():
            self.parameters[name] = Parameter(name, tuple(entry.shape), entry.init.row())
        inputs = {name: self._inputs(name, entry) for name, entry in self.entries.items()}
        for name in self._sorted(inputs):
            self._vertex(name, self.entries[name], inputs[name])
        edges = self._edges()
        names = self._outputs(outputs)
        if self.problems:
            return Graph({}, (), {}, ())
        self._unused()
        head = Graph({}, (), self.parameters, tuple(names), self.document.title, self.document.source)
        return assemble(self.vertices.values(), edges, _observed(self.vertices, edges, head))

    def wrong(self, path: Path, message: str) -> None:
        self.problems.append(Problem(path, message))

    def _inputs(self, name: str, entry: VertexEntry) -> list[str]:
        for slot, item in enumerate(entry.inputs):
            if item.source not in self.entries:
                hint = nearest(item.source, (other for other in self.entries if other != name))
                self.wrong(("vertices", name, "inputs", slot), f"there is no vertex {item.source!r}{hint}")
        return [item.source for item in entry.inputs]

    def _sorted(self, inputs: dict[str, list[str]]) -> list[str]:
        known = {name: [pre for pre in pres if pre in inputs] for name, pres in inputs.items()}
        depths = topological_depths(known, ((pre, name) for name, pres in known.items() for pre in pres))
        if len(depths) < len(known):
            cycle = find_cycle(dict(known), depths)
            self.wrong(("vertices", cycle[-1], "inputs"),
                       f"the graph has a cycle: {' -> '.join(cycle)}; unroll it over time, one vertex a step")  # fmt: skip
        return sorted(depths, key=lambda name: depths[name])

    def _vertex(self, name: str, entry: VertexEntry, inputs: list[str]) -> None:
        op = OPS.get(entry.op)
        if op is None:
            self.wrong(("vertices", name, "op"), f"unknown op {entry.op!r}" + nearest(entry.op, OPS, "pcsim list ops"))
        elif all(pre in self.vertices for pre in inputs):
            try:
                shapes = tuple(self.vertices[pre].shape for pre in inputs)
                call = make_call(op, shapes, parse_attributes(op, entry.attributes))
                self.vertices[name] = Vertex(name, op, call, self._params(name, entry, op, call), self._precision(entry, call))
            except InputError as error:
                self.problems += error.map(lambda problem: problem.under("vertices", name)).problems

    def _params(self, name: str, entry: VertexEntry, op: Op, call: Call) -> tuple[tuple[str, str], ...]:
        specs = op.params(call)
        inits = {"value": entry.init} if op.role == "parameter" and entry.init else entry.init
        for key, given in (("params", entry.params), ("init", inits)):
            if unknown := [slot for slot in given if slot not in specs]:
                raise wrong((key, unknown[0]), f"op {op.name!r} has no parameter {unknown[0]!r}" + nearest(unknown[0], specs))
        default = {slot: name if op.role == "parameter" else f"{name}.{slot}" for slot in specs}
        for slot, spec in specs.items():
            if slot in entry.params:
                self._shared(slot, entry.params[slot], spec, inits)
            else:
                self._own(slot, default[slot], spec, inits)
        return tuple((slot, entry.params.get(slot, default[slot])) for slot in sorted(specs))

    def _shared(self, slot: str, parameter: str, spec: ParameterSpec, inits: Mapping[str, Any]) -> None:
        if parameter not in self.document.parameters:
            hint = nearest(parameter, self.document.parameters, "they are listed under 'parameters'")
            raise wrong(("params", slot), f"there is no parameter {parameter!r}{hint}")
        found = self.parameters[parameter]
        if found.shape != spec.shape:
            raise wrong(("params", slot), f"parameter {parameter!r} has shape {list(found.shape)}, expected {list(spec.shape)}")
        if slot in inits:
            raise wrong(("init", slot), f"parameter {parameter!r} starts as 'parameters' says: give its init there")
        if found.fan_in is None and spec.fan_in is not None:
            self.parameters[parameter] = replace(found, fan_in=spec.fan_in)

    def _own(self, slot: str, parameter: str, spec: ParameterSpec, inits: Mapping[str, Any]) -> None:
        if parameter in self.parameters:
            raise wrong((), f"its parameter {parameter!r} has the name of another one; rename one of them")
        init = spec.init
        if slot in inits:
            try:
                init = InitEntry.model_validate(inits[slot]).row()
            except ValidationError as error:
                path = ("init",) if parameter.endswith(slot) is False else ("init", slot)
                raise InputError(p.under(*path) for p in problems_of(error, InitEntry)) from None
        self.parameters[parameter] = Parameter(parameter, spec.shape, init, spec.fan_in)

    def _precision(self, entry: VertexEntry, call: Call) -> float | tuple[Any, ...]:
        try:
            values = np.asarray(entry.precision, dtype=float)
        except (TypeError, ValueError):
            raise wrong("precision", f"expected a number or numbers of shape {list(call.shape)}") from None
        if not np.all(np.isfinite(values) & (values > 0)):
            raise wrong("precision", "a precision is a finite number above 0")
        if values.ndim == 0:
            return float(values)
        if values.shape != call.shape:
            raise wrong("precision", f"has shape {list(values.shape)}, expected one number or shape {list(call.shape)}")
        return _frozen(values.tolist())

    def _edges(self) -> list[Edge]:
        edges = []
        for name, entry in self.entries.items():
            for slot, item in enumerate(entry.inputs):
                source = self.entries.get(item.source)
                delay = item.delay
                if source is not None and source.op == "parameter" and (delay.value or delay.error):
                    self.wrong(("vertices", name, "inputs", slot, "delay"),
                               f"{item.source!r} is a parameter: its edges carry no delay, what it receives waits for it")  # fmt: skip
                edges.append(Edge(item.source, name, slot, delay.value, delay.error, (name, slot)))
        return edges

    def _outputs(self, given: list[str]) -> list[str]:
        for place, name in enumerate(given):
            if name not in self.entries:
                self.wrong(("outputs", place), f"there is no vertex {name!r}" + nearest(name, self.entries))
            elif name in self.vertices and self.vertices[name].op.role != "function":
                self.wrong(("outputs", place), f"{name!r} is a {self.vertices[name].op.name}: it cannot be an output")
            elif name in given[:place]:
                self.wrong(("outputs", place), f"{name!r} is listed twice")
        feeding = {item.source for entry in self.entries.values() for item in entry.inputs}
        sinks = [name for name, vertex in self.vertices.items() if name not in feeding and vertex.op.role == "function"]
        if not given and not sinks and not self.problems:
            self.wrong(("vertices",), "the graph has no output: no vertex computes anything")
        return given or sinks

    def _unused(self) -> None:
        used = {parameter for vertex in self.vertices.values() for _, parameter in vertex.params}
        for name in self.document.parameters:
            if name not in used:
                self.wrong(("parameters", name), "no vertex uses this parameter; share it with 'params: {weight: NAME}'")


def _observed(vertices: dict[str, Vertex], edges: list[Edge], head: Graph) -> Graph:
    """Observe each output that also feeds others through an identity vertex of its own."""
    feeding = {edge.pre for edge in edges}
    names = []
    for name in head.outputs:
        if name not in feeding:
            names.append(name)
            continue
        shape, observer = vertices[name].shape, f"{name}.observed"
        if observer in vertices:
            raise wrong(("vertices", observer), "this name is kept for the observer of an output that feeds others")
        precision = vertices[name].precision
        vertices[observer] = Vertex(observer, OPS["identity"], make_call(OPS["identity"], (shape,), ()), (), precision)
        vertices[name] = replace(vertices[name], precision=1.0)
        edges.append(Edge(name, observer, 0, 0, 0, (observer, 0)))
        names.append(observer)
    return replace(head, outputs=tuple(names))


def assemble(vertices: Iterable[Vertex], edges: Iterable[Edge], head: Graph) -> Graph:
    """Put checked parts into canonical order; parameters, outputs and title come from ``head``.

    Raises InputError where two vertices have one name.
    """
    table = {vertex.name: vertex for vertex in vertices}
    lines = _named_edges(edges)
    depths = topological_depths(table, ((edge.pre, edge.post) for edge in lines))
    order = sorted(table, key=lambda name: (depths[name], natural(name)))
    place = {name: number for number, name in enumerate(order)}
    return Graph(
        {name: table[name] for name in order},
        tuple(sorted(lines, key=lambda edge: (place[edge.post], edge.slot))),
        {name: head.parameters[name] for name in sorted(head.parameters, key=natural)},
        tuple(sorted(head.outputs, key=natural)),
        head.title,
        head.source,
    )


def _named_edges(edges: Iterable[Edge]) -> list[Edge]:
    count: Counter[tuple[str, str]] = Counter()
    named = []
    for edge in sorted(edges, key=lambda edge: edge.slot):
        number = count[edge.pre, edge.post]
        count[edge.pre, edge.post] += 1
        named.append(replace(edge, name=f"{edge.pre}->{edge.post}" + (f"#{number}" if number else "")))
    return named


def _frozen(values: Any) -> Any:
    return tuple(map(_frozen, values)) if isinstance(values, list) else values


def shape_of(graph: Graph, name: str) -> Shape:
    """Return the shape of a vertex; raises InputError naming the nearest vertex if there is none."""
    if name not in graph.vertices:
        raise wrong((), f"there is no vertex {name!r}" + nearest(name, graph.vertices))
    return graph.vertices[name].shape
