"""From a scenario's ``record`` to channels of a trace: what is read from a session, where, how often."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from pcsim.analysis.theory import MOST_NUMBERS, divergence_series
from pcsim.engines.base import kept_by_task
from pcsim.errors import InputError, Problem, nearest
from pcsim.graph.levels import vertex_levels
from pcsim.graph.names import chosen
from pcsim.graph.synapse_table import synapse_columns
from pcsim.program.program import rows_of
from pcsim.trace.channel import NONE, Channel, Static, shape_key
from pcsim.trace.entries import SYNAPSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pcsim.analysis.meter import Meter
    from pcsim.arrays import Shape
    from pcsim.engines.base import Read, Session, Task
    from pcsim.graph.graph import Graph
    from pcsim.scenario.scenario_document import RecordEntry
    from pcsim.trace.channel import Coordinates

UNITS = ("value", "prediction", "error", "multiplier")
SERIES = ("energy", "norm", "divergence")

_OF_FOLDERS = re.compile(r"[\w.~@:+-]*\w[\w.~@:+-]*")
"""Names of vertices that name a folder too."""


def selected(graph: Graph, patterns: str | Sequence[str]) -> tuple[str, ...]:
    """Return the vertices that patterns such as ``h*`` choose, in canonical order; raises InputError."""
    names = [name for name, vertex in graph.vertices.items() if vertex.op.role != "parameter"]
    if isinstance(patterns, str):
        return tuple(names)
    wanted: set[str] = set()
    for place, pattern in enumerate(patterns):
        of_edges = _of_edges(graph, pattern)
        known = [edge.name for edge in graph.edges] if of_edges else names
        found = chosen(pattern, known)
        wanted.update(() if of_edges else found)
        if not found:
            kind = "edge" if of_edges else "vertex"
            raise InputError(
                [Problem(("vertices", place), f"no {kind} is named {pattern!r}" + nearest(pattern, known))]
            )
    return tuple(name for name in names if name in wanted)


def _of_edges(graph: Graph, pattern: str) -> bool:
    """Return whether a pattern is one of edges: it holds an arrow, and no vertex is named so."""
    return "->" in pattern and pattern not in graph.vertices


def selected_edges(graph: Graph, patterns: str | Sequence[str]) -> list[str]:
    """Return the edges that patterns choose, by their own name or by that of a vertex at either end."""
    vertices = set(selected(graph, patterns))
    names = [edge.name for edge in graph.edges]
    wished = [] if isinstance(patterns, str) else [pattern for pattern in patterns if _of_edges(graph, pattern)]
    wanted = {name for pattern in wished for name in chosen(pattern, names)}
    return [
        edge.name
        for edge in graph.edges
        if graph.vertices[edge.pre].op.role != "parameter"
        and (edge.pre in vertices or edge.post in vertices or edge.name in wanted)
    ]


def check_record(graph: Graph, record: Iterable[RecordEntry]) -> None:
    """Check that probes name what exists and that one quantity has one rhythm; raises InputError."""
    problems: list[Problem] = []
    rhythm: dict[str, int] = {}
    for place, entry in enumerate(record):
        try:
            selected(graph, entry.vertices)
        except InputError as error:
            problems += error.map(lambda problem: problem.under("record", place)).problems  # noqa: B023
        for what in entry.what:
            node = "series" if what in SERIES else what
            if rhythm.setdefault(node, entry.every) != entry.every:
                message = f"{what!r} is recorded every {rhythm[node]} ticks by another probe: give both one rhythm"
                problems.append(Problem(("record", place, "every"), message))
    if problems:
        raise InputError(problems)


def channels(
    task: Task, session: Session, meter: Meter | None, record: Iterable[RecordEntry], run: int = 0
) -> list[Channel]:
    """Return the channels that probes ask for; each name once, whichever probe asked.

    ``run`` says which of the runs that the meter follows the session is.
    """
    wanted: dict[str, dict[str, None]] = defaultdict(dict)
    every: dict[str, int] = {}
    for entry in record:
        for what in entry.what:
            every[what] = entry.every
            wanted[what] |= dict.fromkeys(_names(task.graph, what, entry))
    return [
        channel
        for what, names in wanted.items()
        for channel in _Probe(task, session, meter, what, every[what], run).channels(list(names))
    ]


def record_bytes(task: Task, entry: RecordEntry) -> int:
    """Return the bytes of one record of a probe, in a trace before compression."""
    return sum(_quantity_bytes(task, what, list(_names(task.graph, what, entry))) for what in entry.what)


def _quantity_bytes(task: Task, what: str, names: list[str]) -> int:
    graph, number = task.graph, task.dtype.itemsize
    if what in SERIES:
        of_each = 2 if what == "divergence" and not task.rule.moving else 1  # theory beside it
        return 8 if what == "energy" else 8 * of_each * len(set(names) & set(graph.active))
    if what == "update":
        return number * sum(prod(graph.parameters[name].shape) for name in names)
    if what == "message":
        sides = {name: 2 if graph.carries_errors(graph.edge(name)) else 1 for name in names}
        numbers = sum(sides[name] * prod(graph.vertices[graph.edge(name).pre].shape) for name in names)
    else:
        kept = (graph.vertices[name] for name in names)
        numbers = sum(prod(one.shape) for one in kept if what == "value" or one.op.role == "function")
    return number * task.batch * numbers


def watched(record: Iterable[RecordEntry]) -> tuple[tuple[int, ...], bool]:
    """Return how often something is read that a session does not note by itself, and whether it gives norms.

    Norms of every tick come from the session, for many ticks at once, where nothing else is read at every tick.
    """
    pairs = {(what, entry.every) for entry in record for what in entry.what}
    everies = {every for what, every in pairs if (what, every) != ("norm", 1)}
    return tuple(sorted(everies)), ("norm", 1) in pairs


def only_series(record: Iterable[RecordEntry]) -> bool:
    """Return whether all that is recorded follows from the norms of every tick."""
    return all(what in SERIES and entry.every == 1 for entry in record for what in entry.what)


def _names(graph: Graph, what: str, entry: RecordEntry) -> Iterable[str]:
    if what == "update":
        return graph.parameters
    return selected_edges(graph, entry.vertices) if what == "message" else selected(graph, entry.vertices)


def _by_shape(names: Iterable[str], shape: Callable[[str], Shape]) -> dict[Shape, list[str]]:
    groups: dict[Shape, list[str]] = defaultdict(list)
    for name in names:
        groups[shape(name)].append(name)
    return groups


def _axes(shape: Shape) -> tuple[str, ...]:
    return tuple(f"axis_{number}" for number in range(len(shape)))


@dataclass(frozen=True)
class _Probe:
    """Makes the channels of one quantity."""

    task: Task
    session: Session
    meter: Meter | None
    what: str
    every: int
    run: int

    def channels(self, names: list[str]) -> list[Channel]:
        makers: Mapping[str, Callable[[list[str]], list[Channel]]] = {
            **dict.fromkeys(UNITS, self.units),
            **dict.fromkeys(SERIES, self.series),
            "message": self.messages,
            "update": self.updates,
        }
        return makers[self.what](names)

    def units(self, names: list[str]) -> list[Channel]:
        vertices = self.task.graph.vertices
        kept = names if self.what == "value" else [name for name in names if vertices[name].op.role == "function"]
        return [
            self.batched(self.what, "vertex", members, shape, self.joined(members))
            for shape, members in _by_shape(kept, lambda name: vertices[name].shape).items()
        ]

    def batched(
        self, path: str, label: str, names: list[str], shape: Shape, read: Read, coords: Coordinates = NONE
    ) -> Channel:
        full = (len(names), self.task.batch, *shape)
        dims = (label, "batch", *_axes(shape))
        node = f"{path}/{shape_key(shape)}"
        return Channel(node, self.what, dims, full, self.task.dtype, read, tuple(names), coords, self.every)

    def joined(self, names: list[str]) -> Read:
        """Return a reader over active vertices and sources alike."""
        vertices = self.task.graph.vertices
        split = [[n for n in names if (vertices[n].op.role == "source") == source] for source in (False, True)]
        reads = [self.session.reader(self.what, part) for part in split if part]
        if not all(split):
            return reads[0]
        place = {name: number for number, name in enumerate(names)}
        rows = [rows_of(np.array([place[name] for name in part], np.intp)) for part in split]
        found = np.empty((len(names), self.task.batch, *vertices[names[0]].shape), self.task.dtype)

        def read() -> np.ndarray:
            for where, part in zip(rows, reads, strict=True):
                found[where] = part()
            return found

        return read

    def series(self, names: list[str]) -> list[Channel]:
        meter, number = self.meter, np.dtype(float)
        if self.what == "energy" and meter is not None:
            energy: Read = lambda: np.asarray(meter.energy[self.run])  # noqa: E731
            return [Channel("series", self.what, (), (), number, energy, (), {}, self.every)]
        order = [name for group in self.session.layout() for name in group] if meter is None else meter.names
        place = {name: row for row, name in enumerate(order)}
        kept = tuple(name for name in names if name in place)
        index = np.array([place[name] for name in kept], np.intp)
        found = vertex_levels(self.task.graph)
        coords = {
            "level": ("vertex", np.array([-1 if (level := found[name]) is None else level for name in kept], int))
        }

        def channel(variable: str, read: Read) -> Channel:
            return Channel("series", variable, ("vertex",), (len(kept),), number, read, kept, coords, self.every)

        if meter is None:
            return [channel(self.what, self.norms(index))]
        rows = meter.rows[self.run][index]
        made = [channel(self.what, lambda: getattr(meter, self.what)[rows])]
        theory = self.theory(kept) if self.what == "divergence" else None
        if theory is not None:
            made.append(channel("theory", lambda: theory[:, meter.tick // self.every]))
        return made

    def norms(self, index: np.ndarray) -> Read:
        """Return a reader of the norms of errors, straight from the session."""
        reads = [(len(group), self.session.reader("error", group)) for group in self.session.layout()]

        def read() -> np.ndarray:
            errors = [read().reshape(count, -1) for count, read in reads]
            norms = np.concatenate([np.sqrt(np.einsum("ij,ij->i", error, error)) for error in errors])
            return np.asarray(norms[index])

        return read

    def theory(self, names: Sequence[str]) -> np.ndarray | None:
        rows = -(-self.task.ticks // self.every)
        if len(names) * rows > MOST_NUMBERS:
            return None
        return theory_curves(self.task, tuple(names), self.every)

    def messages(self, names: list[str]) -> list[Channel]:
        graph = self.task.graph
        return [
            self.batched(f"message/{kind}", "edge", members, shape, self.session.reader(f"{kind} message", members),
                         edge_coordinates(graph, members, kind))
            for kind, kept in (("value", names), ("error", [n for n in names if graph.carries_errors(graph.edge(n))]))
            for shape, members in _by_shape(kept, lambda name: graph.vertices[graph.edge(name).pre].shape).items()
        ]  # fmt: skip

    def updates(self, names: list[str]) -> list[Channel]:
        return [
            Channel(f"update/{shape_key(shape)}", self.what, ("parameter", *_axes(shape)), (len(members), *shape),
                    self.task.dtype, self.learnt(members), tuple(members), {}, self.every)
            for shape, members in _by_shape(names, lambda name: self.task.graph.parameters[name].shape).items()
        ]  # fmt: skip

    def learnt(self, names: Sequence[str]) -> Read:
        def read() -> np.ndarray:
            found = self.session.updates()
            return np.stack([found[name] for name in names])

        return read


def edge_coordinates(graph: Graph, names: Iterable[str], kind: str) -> Coordinates:
    """Return what is to know of edges: pre, post, slot, and the delay of messages of a kind, in ticks."""
    edges = [graph.edge(name) for name in names]
    return {
        "pre": ("edge", np.array([edge.pre for edge in edges])),
        "post": ("edge", np.array([edge.post for edge in edges])),
        "slot": ("edge", np.array([edge.slot for edge in edges], int)),
        "delay": ("edge", np.array([getattr(edge, f"{kind}_delay") for edge in edges], int)),
    }


@kept_by_task
def theory_curves(task: Task, names: tuple[str, ...], every: int) -> np.ndarray | None:
    """Return the divergence that theory gives at the recorded ticks: (vertices, records); None where it gives none."""
    return divergence_series(task, names, np.arange(0, task.ticks, every))


def by_synapse(graph: Graph, population: str) -> list[Static]:
    """Return which neurons the synapses of a population connect, and their ticks, in the order of its weights.

    They are in the node ``synapses/NAME``; what no folder can be named is written as in an address (``%2E``).
    """
    plain = _OF_FOLDERS.fullmatch(population) and population != "zarr.json"
    node = f"{SYNAPSES}/{population if plain else quote(population, safe='').replace('.', '%2E')}"
    return [(node, name, ("synapse",), column, ()) for name, column in synapse_columns(graph, population).items()]


def by_parameter(group: str, arrays: Mapping[str, np.ndarray]) -> list[Static]:
    """Return arrays of parameters, such as what was learnt, as static arrays of a trace, stacked by shape."""
    return [
        (
            f"{group}/{shape_key(shape)}",
            group,
            ("parameter", *_axes(shape)),
            np.stack([arrays[name] for name in names]),
            tuple(names),
        )
        for shape, names in _by_shape(arrays, lambda name: arrays[name].shape).items()
    ]
