"""Graph and rule to Program: equal actors become one step, their edges index arrays."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.garbage import uncollected
from pcsim.graph.crossings import crossings
from pcsim.graph.graph import number_format
from pcsim.graph.levels import levels, vertex_levels
from pcsim.graph.order import natural
from pcsim.program.program import (
    Channels,
    DelayBuffer,
    History,
    Inbox,
    Late,
    ParameterSlot,
    Program,
    ShapeGroup,
    Slot,
    Step,
    delay_buffer,
    rows_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from pcsim.arrays import Shape
    from pcsim.graph.crossings import Crossing
    from pcsim.graph.crossings import Kind as MessageKind
    from pcsim.graph.graph import Edge, Graph, Vertex
    from pcsim.rules import Rule

SHARED_BY = 8
"""From so many users on, the users of a shared parameter are a kind of their own (else its rows are copied)."""

Kind = tuple[Any, ...]


def ticks_of(graph: Graph, rule: Rule) -> int:
    """Return how many ticks a run takes at most."""
    return levels(graph) if rule.ticks == "levels" else rule.ticks


@uncollected()
def lower(graph: Graph, rule: Rule, *, keep_values: bool = False, prompt: bool = False) -> Program:
    """Group equal actors into steps and lay out groups, inboxes and delay lines.

    ``keep_values`` keeps delayed values also where predictions are fixed and nothing reads them (for
    recording messages). ``prompt``: whoever runs the program takes each error message once, when all that is due to
    its receiver is there, whatever its delay; so there are no delay lines.
    """
    kinds = _kinds(graph)
    groups = _groups(graph, kinds, rule)
    row = {name: number for group in groups.values() for number, name in enumerate(group.names)}
    parameters = _parameter_rows(graph, kinds)
    parameter_row = {name: number for names in parameters.values() for number, name in enumerate(names)}
    histories, lines = _histories(graph, row, keep_values) if rule.moving or keep_values else ({}, {})
    layout = _Layout(graph, row, parameter_row, lines, vertex_levels(graph), _crossing_values(graph))
    steps = tuple(layout.step(names) for names in kinds.values())
    inboxes = {shape: _inbox(graph, edges, row, groups[shape], prompt) for shape, edges in layout.inboxes.items()}
    return Program(graph, rule, groups, steps, inboxes, histories, parameters, layout.channels())


def _kinds(graph: Graph) -> dict[Kind, list[str]]:
    """Return the active vertices by kind, kinds and vertices both by depth."""
    kinds: dict[Kind, list[str]] = defaultdict(list)
    users = Counter(parameter for vertex in graph.vertices.values() for _, parameter in vertex.params)
    for name in graph.active:
        kinds[_kind(graph, graph.vertices[name], users)].append(name)
    return kinds


def _kind(graph: Graph, vertex: Vertex, users: Mapping[str, int]) -> Kind:
    pres = tuple(graph.vertices[edge.pre].op.role for edge in graph.incoming[vertex.name])
    shared = tuple(name if users[name] >= SHARED_BY else None for _, name in vertex.params)
    cyclic = vertex.name in graph.cyclic
    return graph.role(vertex.name), vertex.op.name, vertex.call, vertex.feedback.name, pres, shared, cyclic


def _groups(graph: Graph, kinds: Mapping[Kind, list[str]], rule: Rule) -> dict[Shape, ShapeGroup]:
    names: dict[Shape, list[str]] = defaultdict(list)
    count: Counter[tuple[Shape, str]] = Counter()
    for role in ("free", "output"):
        for members in (members for kind, members in kinds.items() if kind[0] == role):
            shape = graph.vertices[members[0]].shape
            names[shape] += members
            count[shape, role] += len(members)
    for name, vertex in graph.vertices.items():
        if vertex.op.role == "source":
            names[vertex.shape].append(name)
    return {
        shape: _group(graph, shape, members, count[shape, "free"], count[shape, "output"], rule)
        for shape, members in names.items()
    }


def _group(graph: Graph, shape: Shape, names: list[str], free: int, outputs: int, rule: Rule) -> ShapeGroup:
    active = free + outputs
    return ShapeGroup(shape, tuple(names), free, active, _precision(graph, names[:active], shape, rule))


def _precision(graph: Graph, names: Sequence[str], shape: Shape, rule: Rule) -> NDArray[Any] | None:
    changes = any(graph.vertices[name].precision_changes for name in names)
    if not changes and rule.output_variance == 1 and all(graph.vertices[name].precision == 1 for name in names):
        return None
    rows = [precision_of(graph, name, rule) for name in names]
    if not changes and all(row.ndim == 0 and row == 1 for row in rows):
        return None
    return stacked_precisions(graph, names, shape, rule)


def stacked_precisions(graph: Graph, names: Sequence[str], shape: Shape, rule: Rule) -> NDArray[Any]:
    """Return the precisions of vertices of one shape under a rule, (vertices, 1, *shape)."""
    return np.stack([np.broadcast_to(precision_of(graph, name, rule), shape) for name in names])[:, None]


def precision_of(graph: Graph, name: str, rule: Rule) -> Any:
    """Return a vertex's precision under a rule: outputs divide theirs by the output variance."""
    precision = np.asarray(graph.vertices[name].precision)
    return precision / rule.output_variance if graph.role(name) == "output" else precision


def _parameter_rows(graph: Graph, kinds: Mapping[Kind, list[str]]) -> dict[Shape, tuple[str, ...]]:
    """Return the parameters by shape, in the order of their first use, so that most stacks are slices."""
    order = [
        parameter
        for names in kinds.values()
        for slot in range(len(graph.vertices[names[0]].params))
        for parameter in (graph.vertices[name].params[slot][1] for name in names)
    ]
    found: dict[Shape, list[str]] = defaultdict(list)
    for name in dict.fromkeys([*order, *graph.parameters]):
        found[graph.parameters[name].shape].append(name)
    return {shape: tuple(names) for shape, names in found.items()}


def _histories(graph: Graph, row: Mapping[str, int], keep_values: bool) -> tuple[dict[Shape, History], dict[str, int]]:
    """Return one line per vertex whose value is read late, as long as its longest delay.

    Where values are recorded a line is one longer: what arrives must outlast what is sent.
    """
    longest: dict[str, int] = {}
    for edge in graph.edges:
        if edge.value_delay and graph.role(edge.pre) == "free" and (edge.name, "value") not in crossings(graph):
            longest[edge.pre] = max(longest.get(edge.pre, 0), edge.value_delay + keep_values)
    by_shape: dict[Shape, list[str]] = defaultdict(list)
    for name in sorted(longest, key=natural):
        by_shape[graph.vertices[name].shape].append(name)
    histories = {
        shape: History(_index(row[name] for name in names), delay_buffer(_index(longest[name] for name in names)))
        for shape, names in by_shape.items()
    }
    return histories, {name: number for names in by_shape.values() for number, name in enumerate(names)}


def _crossing_values(graph: Graph) -> dict[Shape, list[Crossing]]:
    """Return the values that cross channels, by the shape of the sender."""
    found: dict[Shape, list[Crossing]] = defaultdict(list)
    for (_, kind), one in crossings(graph).items():
        if kind == "value":
            found[graph.vertices[one.edge.pre].shape].append(one)
    return found


@dataclass(frozen=True)
class _Layout:
    """Where everything lies, while steps are made; ``inboxes`` grows by one edge a message."""

    graph: Graph
    row: Mapping[str, int]
    parameter_row: Mapping[str, int]
    lines: Mapping[str, int]
    levels: Mapping[str, int | None]
    values: Mapping[Shape, list[Crossing]]
    inboxes: dict[Shape, list[Edge]] = field(default_factory=lambda: defaultdict(list))

    def step(self, names: list[str]) -> Step:
        graph, vertex = self.graph, self.graph.vertices[names[0]]
        inputs = [graph.incoming[name] for name in names]
        slots = tuple(self.slot(tuple(edges[slot] for edges in inputs)) for slot in range(len(vertex.call.shapes)))
        levels_here = _index(-1 if (level := self.levels[name]) is None else level for name in names)
        start = self.row[names[0]]
        return Step(vertex.op, vertex.call, vertex.feedback, slice(start, start + len(names)), tuple(names),
                    levels_here, _index(graph.depths[name] for name in names), slots,
                    self.parameters(names))  # fmt: skip

    def parameters(self, names: list[str]) -> tuple[ParameterSlot, ...]:
        used = [self.graph.vertices[name].params for name in names]
        return tuple(
            ParameterSlot(slot, self.graph.parameters[parameter].shape,
                          _stack(self.parameter_row[pairs[place][1]] for pairs in used))
            for place, (slot, parameter) in enumerate(used[0])
        )  # fmt: skip

    def slot(self, edges: tuple[Edge, ...]) -> Slot:
        pre = self.graph.vertices[edges[0].pre]
        if pre.op.role == "parameter":
            rows = _stack(self.parameter_row[self.graph.vertices[edge.pre].params[0][1]] for edge in edges)
            return Slot(pre.shape, rows, True, None, None, edges)
        messages = None
        if pre.op.role != "source":
            inbox = self.inboxes[pre.shape]
            messages = slice(len(inbox), len(inbox) + len(edges))
            inbox.extend(edges)
        rows = rows_of(_index(self.row[edge.pre] for edge in edges))
        whole = number_format(pre) == "whole"
        return Slot(pre.shape, rows, False, messages, self.late(edges), edges, whole, self.crossing(pre.shape, edges))

    def crossing(self, shape: Shape, edges: tuple[Edge, ...]) -> Late | None:
        """Return the inputs of a slot that cross channels."""
        if shape not in self.values:
            return None
        lines = {one.edge.name: line for line, one in enumerate(self.values[shape])}
        places = [place for place, edge in enumerate(edges) if edge.name in lines]
        here = _index(lines[edges[place].name] for place in places)
        return Late(_index(places), here, np.zeros_like(here)) if places else None

    def channels(self) -> dict[tuple[MessageKind, Shape], Channels]:
        """Return what crosses channels, once all steps are made."""
        found: dict[tuple[MessageKind, Shape], Channels] = {
            ("value", shape): Channels(tuple(ones), _index(self.row[one.edge.pre] for one in ones))
            for shape, ones in self.values.items()
        }
        known = crossings(self.graph)
        for shape, edges in self.inboxes.items() if known else ():
            ones = [(row, known[edge.name, "error"]) for row, edge in enumerate(edges) if (edge.name, "error") in known]
            if ones:
                found["error", shape] = Channels(tuple(one for _, one in ones), _index(row for row, _ in ones))
        return found

    def late(self, edges: tuple[Edge, ...]) -> Late | None:
        crossing = crossings(self.graph)
        late = [
            (place, edge)
            for place, edge in enumerate(edges)
            if edge.value_delay and edge.pre in self.lines and (edge.name, "value") not in crossing
        ]
        if not late:
            return None
        return Late(_index(place for place, _ in late), _index(self.lines[edge.pre] for _, edge in late),
                    _index(edge.value_delay for _, edge in late))  # fmt: skip


def _stack(index: Iterable[int]) -> Any:
    rows = _index(index)
    return slice(int(rows[0]), int(rows[0]) + 1) if (rows == rows[0]).all() else rows_of(rows)


def _inbox(graph: Graph, edges: list[Edge], row: Mapping[str, int], group: ShapeGroup, prompt: bool) -> Inbox:
    receivers = _index(row[edge.pre] for edge in edges)
    message = {edge.name: number for number, edge in enumerate(edges)}
    order = _index(message[edge.name] for name in group.names[: group.free] for edge in graph.outgoing[name])
    starts = np.searchsorted(receivers[order], np.arange(group.free + 1)).astype(np.intp)
    alone = rows_of(receivers)
    known = crossings(graph)
    late = _index(
        number
        for number, edge in enumerate(edges)
        if edge.error_delay and not prompt and (edge.name, "error") not in known
    )
    lengths = _index(edges[number].error_delay for number in late)
    return Inbox(receivers, order, starts, alone if isinstance(alone, slice) else None, late,
                delay_buffer(lengths) if len(late) else DelayBuffer(lengths, lengths), tuple(edges))  # fmt: skip


def _index(numbers: Iterable[Any]) -> NDArray[np.intp]:
    return np.fromiter(numbers, dtype=np.intp)
