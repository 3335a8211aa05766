"""From a document to a Graph: names, shapes and parameters checked, all problems at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, TypeVar

from pcsim.errors import InputError, Path, Problem, nearest, wrong
from pcsim.garbage import uncollected
from pcsim.graph.assembly import assemble, observed
from pcsim.graph.cycle_shapes import shapes_on_cycles
from pcsim.graph.formula import vertices_of_formula
from pcsim.graph.graph import Edge, Graph, Parameter, Vertex, number_format
from pcsim.graph.graph_document import DelayEntry, GraphDocument, InputEntry, VertexEntry
from pcsim.graph.initialise import stream
from pcsim.graph.names import edge_name
from pcsim.graph.order import depths_and_cycles, natural
from pcsim.graph.problems import valid_part
from pcsim.graph.vertex_parts import (
    NUMBER_FORMATS,
    check_slots,
    check_values,
    checked_attributes,
    feedback_of,
    init_row,
    precision_of,
    text_of,
)
from pcsim.ops import FEEDBACKS, OPS, make_call
from pcsim.ops.calls import check_arity
from pcsim.ops.op import ParameterSpec, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pcsim.arrays import Shape
    from pcsim.graph.channels import Acts, Channel
    from pcsim.ops.op import BufferSpec, Call, Op, Realised

T = TypeVar("T")

HINTS = 20
"""So many problems of a document get one: each compares a name with all that there are."""


@uncollected()
def graph_from(data: Mapping[str, Any], folder: FilePath = FilePath(), problems: Iterable[Problem] = ()) -> Graph:
    """Make a graph from a document given as plain data without ``$``; raises InputError with every problem found.

    Files of synapses are sought in ``folder`` (default: the working directory). ``problems`` are those known already,
    of parts that the document is left without.
    """
    document, found = valid_part(GraphDocument, data, _part)
    if document is None:
        raise InputError([*problems, *found])
    return build(document, [*problems, *found], folder)


def _part(path: Path) -> Path:
    """Return what to leave out of a document where a path is wrong, so that the rest can be checked."""
    return path[:2] if path and path[0] in ("vertices", "parameters") else path[:1]


def build(document: GraphDocument, problems: Iterable[Problem] = (), folder: FilePath = FilePath()) -> Graph:
    """Make a graph from a validated document; raises InputError with every problem found.

    ``problems`` are those known already, of parts that the document is left without.
    """
    before = list(problems)
    try:
        entries, outputs = _entries(document)
        builder = _Builder(document, entries, folder, before, frozenset(_part(problem.path) for problem in before))
        graph = builder.graph(outputs)
    except InputError as error:
        raise InputError([*before, *error.problems]) from None
    if builder.problems:
        raise InputError(builder.problems)
    return graph


def _entries(document: GraphDocument) -> tuple[dict[str, VertexEntry], list[str]]:
    if document.formula is None:
        return document.vertices, document.outputs
    found, output = vertices_of_formula(document.formula, document.parameters)
    entries = {name: VertexEntry.model_validate(named(name, entry, document)) for name, entry in found.items()}
    return entries, document.outputs or [output]


def named(name: str, entry: dict[str, Any], document: GraphDocument) -> dict[str, Any]:
    """Give a formula's parameter vertex the shape and the parameter that the document names."""
    if entry["op"] != "parameter":
        return entry
    return {"op": "parameter", "shape": document.parameters[name].shape, "params": {"value": name}}


@dataclass
class _Builder:
    document: GraphDocument
    entries: Mapping[str, VertexEntry]
    folder: FilePath
    """Files of synapses are sought here."""
    problems: list[Problem] = field(default_factory=list)
    broken: frozenset[Path] = frozenset()
    """Parts that are wrong already: what needs them is left alone."""
    vertices: dict[str, Vertex] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    buffers: dict[str, Parameter] = field(default_factory=dict)
    realised: dict[str, Realised] = field(default_factory=dict)
    """Vertices that take an input more than once, each time over an edge of its own."""
    calls: dict[tuple[str, tuple[Shape, ...], str], Call] = field(default_factory=dict)
    cyclic: frozenset[str] = frozenset()
    """Vertices on cycles: some of their inputs come behind them."""
    shapes: dict[str, Shape] = field(default_factory=dict)
    """Of vertices on cycles, before these are made."""

    def graph(self, outputs: list[str]) -> Graph:
        self._named_parameters()
        inputs = {name: self._inputs(name, entry) for name, entry in self.entries.items()}
        for name in self._sorted(inputs):
            self._vertex(name, self.entries[name], inputs[name])
        for name in sorted(self.cyclic & self.vertices.keys(), key=natural):
            self._close(name)
        edges = self._edges()
        names = self._outputs(outputs)
        if self.problems:
            return Graph({}, (), {}, ())
        self._unused()
        self._fan_ins(edges)
        head = Graph({}, (), self.parameters, tuple(names), self.document.title, self.document.source, self.buffers)
        return assemble(self.vertices.values(), edges, observed(self.vertices, edges, head))

    def wrong(self, path: Path, message: str) -> None:
        self.problems.append(Problem(path, message))

    def hint(self, name: str, legal: Iterable[str], where: str = "") -> str:
        """Return what a wrong name may stand for; nothing where many problems are known already."""
        return nearest(name, legal, where) if len(self.problems) < HINTS else ""

    def attempt(self, path: Path, step: Callable[[], T]) -> T | None:
        """Return what a step makes, or None: its problems are kept, under the path."""
        try:
            return step()
        except InputError as error:
            self.problems += error.map(lambda problem: problem.under(*path)).problems
            return None

    def _named_parameters(self) -> None:
        for name, entry in self.document.parameters.items():
            shape, init = tuple(entry.shape), entry.init.row()
            self.attempt(("parameters", name), lambda: check_values(init, shape))  # noqa: B023
            self.parameters[name] = Parameter(name, shape, init)

    def _inputs(self, name: str, entry: VertexEntry) -> list[str]:
        for slot, item in enumerate(entry.inputs):
            if item.source not in self.entries and ("vertices", item.source) not in self.broken:
                others = (other for other in self.entries if other != name)
                hint = self.hint(item.source, others)
                self.wrong(("vertices", name, "inputs", slot), f"there is no vertex {item.source!r}{hint}")
        return [item.source for item in entry.inputs]

    def _sorted(self, inputs: dict[str, list[str]]) -> list[str]:
        """Return the names in canonical order: what is shared must not depend on the document's order."""
        known = {name: [pre for pre in pres if pre in inputs] for name, pres in inputs.items()}
        depths, self.cyclic = depths_and_cycles(known)
        return sorted(depths, key=lambda name: (depths[name], natural(name)))

    def _shape(self, name: str) -> Shape | None:
        """Return the shape of a vertex, also of one on a cycle that is not made yet; None where it is not known."""
        return self.vertices[name].shape if name in self.vertices else self.shapes.get(name)

    def _follow_cycles(self) -> None:
        """Work out the shapes of vertices on cycles, as far as what feeds them is known."""
        left = self.cyclic - self.shapes.keys()
        waiting = {name: [item.source for item in self.entries[name].inputs] for name in left}

        def shape(name: str, shapes: tuple[Shape, ...]) -> Shape | None:
            entry = self.entries[name]
            if entry.op not in OPS or OPS[entry.op].role != "function":
                return None
            try:
                return self._call_of(name, OPS[entry.op], shapes, entry.attributes).shape
            except InputError:
                return None

        self.shapes |= shapes_on_cycles(waiting, self._shape, shape)

    def _close(self, name: str) -> None:
        """Check a vertex on a cycle, once all its inputs are made."""
        entry, vertex = self.entries[name], self.vertices[name]
        if all(item.source in self.vertices for item in entry.inputs):
            self._carried(name, entry, vertex.op)
        if self.shapes.get(name) != vertex.shape:
            what = f"round its cycle {name!r} would need the shapes {list(self.shapes[name])} and {list(vertex.shape)}"
            self.wrong(("vertices", name), f"{what}; all vertices along a cycle must fit each other")

    def _vertex(self, name: str, entry: VertexEntry, inputs: list[str]) -> None:
        path = ("vertices", name)
        if (op := OPS.get(entry.op)) is None:
            hint = nearest(entry.op, OPS, "pcsim list ops")
            self.wrong((*path, "op"), f"unknown op {entry.op!r}{hint}")
            return
        if name in self.cyclic and name not in self.shapes:
            self._follow_cycles()
        made = inputs if name in self.cyclic else [pre for pre in inputs if pre in self.vertices]
        shapes = tuple([shape for pre in made if (shape := self._shape(pre)) is not None])
        if len(shapes) == len(inputs):
            call = self.attempt(path, lambda: self._call_of(name, op, shapes, entry.attributes))
            if call is not None:
                self._complete(name, entry, op, call)
            return
        checked = self.attempt(path, lambda: checked_attributes(op, entry.attributes, self.folder))
        self.attempt(path, lambda: check_arity(op, len(inputs)))
        if checked is not None and name in self.cyclic and all(pre in self.entries for pre in inputs):
            what = "the shapes along its cycle cannot be worked out from the inputs that are known"
            self.wrong(path, f"{what}; put a vertex with 'units' on the cycle, such as an affine one")

    def _call_of(self, name: str, op: Op, shapes: tuple[Shape, ...], given: Mapping[str, Any]) -> Call:
        if op.realise is None:
            return self._call(op, shapes, given)
        check_arity(op, len(shapes))
        site = Site(shapes, lambda seed, kind: stream(seed, kind, name), self.folder)
        made = self.realised[name] = op.realise(checked_attributes(op, given, self.folder), site)
        return make_call(op, tuple(shapes[place] for place in made.inputs), made.attributes)

    def _call(self, op: Op, shapes: tuple[Shape, ...], given: Mapping[str, Any]) -> Call:
        """Return the call of a vertex; vertices that say the same share one."""
        said = text_of(given)
        found = None if said is None else self.calls.get((op.name, shapes, said))
        if found is None:
            found = make_call(op, shapes, checked_attributes(op, given, self.folder))
            if said is not None:
                self.calls[op.name, shapes, said] = found
        return found

    def _complete(self, name: str, entry: VertexEntry, op: Op, call: Call) -> None:
        params = self.attempt(("vertices", name), lambda: self._params(name, entry, op, call))
        precision = self.attempt(("vertices", name), lambda: precision_of(entry, call))
        feedback = self.attempt(("vertices", name), lambda: feedback_of(entry, call))
        if name not in self.cyclic:
            self._carried(name, entry, op)
        # Also when one of them is wrong: what this vertex feeds has its shape and can be checked.
        self.vertices[name] = Vertex(
            name,
            op,
            call,
            params or (),
            precision or 1.0,
            feedback or FEEDBACKS["symmetric"],
            self._acts(name, entry, op),
        )

    def _acts(self, name: str, entry: VertexEntry, op: Op) -> Acts | None:
        acts = entry.acts.row(name) if "acts" in entry.model_fields_set else None
        if acts is not None and op.role != "function":
            self.wrong(("vertices", name, "acts"), f"{name!r} neither predicts nor moves; leave it out")
        return acts

    def _carried(self, name: str, entry: VertexEntry, op: Op) -> None:
        """Refuse inputs of the wrong number format, and such as an error would have to return to where none can."""
        for number, (item, _) in enumerate(self._lines(name, entry)):
            slot, pre = op.slot(number), self.vertices[item.source]
            if not slot.differentiable and pre.op.role != "source":
                what = (
                    f"no error returns over {slot.name!r} of op {op.name!r}: it takes an input, and {pre.name!r} moves"
                )
            elif slot.format != (given := number_format(pre)):
                takes, holds = NUMBER_FORMATS[slot.format], NUMBER_FORMATS[given]
                what = f"op {op.name!r} takes {takes}, and {pre.name!r} holds {holds}"
            else:
                continue
            self.wrong(("vertices", name, "inputs", number), what)

    def _params(self, name: str, entry: VertexEntry, op: Op, call: Call) -> tuple[tuple[str, str], ...]:
        specs = op.params(call)
        single = op.role == "parameter" and bool(entry.init)
        inits = {"value": entry.init} if single else entry.init
        weights = FEEDBACKS[entry.feedback].weights(op, call) if entry.feedback in FEEDBACKS else {}
        if entry.params or inits or weights:
            buffers: dict[str, BufferSpec | ParameterSpec] = {**op.buffers(call), **weights}
            legal = {"params": list(specs), "init": [*specs, *buffers]}
            check_slots(op, legal, {"params": entry.params, "init": inits})
            self._kept(name, buffers, inits)
        default = {slot: name if op.role == "parameter" else f"{name}.{slot}" for slot in specs}
        for slot, spec in specs.items():
            if slot in entry.params:
                self._shared(slot, entry.params[slot], spec, inits)
            else:
                self._own(("init",) if single else ("init", slot), default[slot], spec, inits.get(slot))
        return tuple((slot, entry.params.get(slot, default[slot])) for slot in sorted(specs))

    def _kept(self, name: str, buffers: Mapping[str, BufferSpec | ParameterSpec], inits: Mapping[str, Any]) -> None:
        """Note how the buffers of a vertex start, where its entry says so; feedback weights are drawn in any case."""
        for slot, spec in buffers.items():
            if isinstance(spec, ParameterSpec):
                init = init_row(("init", slot), inits[slot]) if slot in inits else spec.init
                check_values(init, spec.shape, ("init", slot))
                full = f"{name}.{slot}"
                self.buffers[full] = Parameter(full, spec.shape, init, spec.fan_in, spec.fan_out)
            elif slot in inits:
                init = init_row(("init", slot), inits[slot])
                check_values(init, spec.shape, ("init", slot))
                self.buffers[f"{name}.{slot}"] = Parameter(f"{name}.{slot}", spec.shape, init)

    def _shared(self, slot: str, parameter: str, spec: ParameterSpec, inits: Mapping[str, Any]) -> None:
        if ("parameters", parameter) in self.broken:
            return
        if parameter not in self.document.parameters:
            hint = self.hint(parameter, self.document.parameters, "they are listed under 'parameters'")
            raise wrong(("params", slot), f"there is no parameter {parameter!r}{hint}")
        found = self.parameters[parameter]
        if found.shape != spec.shape:
            message = f"parameter {parameter!r} has shape {list(found.shape)}, expected {list(spec.shape)}"
            raise wrong(("params", slot), message)
        if slot in inits:
            raise wrong(("init", slot), f"parameter {parameter!r} starts as 'parameters' says: give its init there")
        if found.fan_in is None and spec.fan_in is not None:
            self.parameters[parameter] = replace(found, fan_in=spec.fan_in, fan_out=spec.fan_out)

    def _own(self, path: Path, parameter: str, spec: ParameterSpec, given: Any) -> None:
        if parameter in self.parameters:
            raise wrong((), f"its parameter {parameter!r} has the name of another one; rename one of them")
        init = spec.init if given is None else init_row(path, given)
        check_values(init, spec.shape, path)
        self.parameters[parameter] = Parameter(parameter, spec.shape, init, spec.fan_in, spec.fan_out)

    def _fan_ins(self, edges: list[Edge]) -> None:
        """Let a parameter that is taken as an input know how many of its products are summed to one number."""
        taken = [edge for edge in edges if self.vertices[edge.pre].op.role == "parameter"]
        for edge in sorted(taken, key=lambda edge: (natural(edge.post), edge.slot)):
            parameter, user = self.parameters[self.vertices[edge.pre].params[0][1]], self.vertices[edge.post]
            if parameter.fan_in is None:
                extent = user.op.fan_in(user.call, edge.slot)
                self.parameters[parameter.name] = replace(parameter, fan_in=extent)

    def _edges(self) -> list[Edge]:
        edges = []
        for name, entry in self.entries.items():
            for slot, (item, more) in enumerate(self._lines(name, entry)):
                source = self.entries.get(item.source)
                delay = DelayEntry(value=item.delay.value + more, error=item.delay.error + more) if more else item.delay
                if source is not None and source.op == "parameter" and (delay.value or delay.error):
                    message = f"{item.source!r} is a parameter: its edges carry no delay, what it receives waits for it"
                    self.wrong(("vertices", name, "inputs", slot, "delay"), message)
                line = edge_name(item.source, name)
                channels = self._channels(("vertices", name, "inputs", slot), item)
                edges.append(Edge(item.source, name, slot, delay.value, delay.error, (name, slot), line, *channels))
        return edges

    def _channels(self, path: Path, item: InputEntry) -> tuple[Channel | None, Channel | None]:
        """Return the channels of an input: of values, of errors."""
        channels = item.channels()
        pre = self.vertices.get(item.source) if any(channels) else None
        if pre is not None and pre.op.role != "function":
            what = "what it receives waits" if pre.op.role == "parameter" else "what it holds never changes"
            self.wrong(path, f"{item.source!r} is a {pre.op.role}: its edges carry no channel, {what}")
        return channels

    def _lines(self, name: str, entry: VertexEntry) -> list[tuple[InputEntry, int]]:
        """Return the input of each slot, and how much longer it travels than the document's entry says."""
        if name not in self.realised:
            return [(item, 0) for item in entry.inputs]
        made = self.realised[name]
        return [(entry.inputs[place], delay) for place, delay in zip(made.inputs, made.delays, strict=True)]

    def _outputs(self, given: list[str]) -> list[str]:
        first: dict[str, int] = {}
        for place, name in enumerate(given):
            if ("vertices", name) in self.broken:
                continue
            if name not in self.entries:
                self.wrong(("outputs", place), f"there is no vertex {name!r}" + self.hint(name, self.entries))
            elif name in self.vertices and self.vertices[name].op.role != "function":
                op = self.vertices[name].op.name
                article = "an" if op[0] in "aeiou" else "a"
                self.wrong(("outputs", place), f"{name!r} is {article} {op}: it cannot be an output")
            elif first.setdefault(name, place) != place:
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
                self.wrong(
                    ("parameters", name), "no vertex uses this parameter; share it with 'params: {weight: NAME}'"
                )
