"""Who talks to whom: vertices, edges with delays, parameters; immutable and in one canonical order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, fields
from functools import cached_property, wraps
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pcsim.errors import clipped
from pcsim.graph.order import depths_and_cycles, find_cycle, natural, topological_depths
from pcsim.ops import FEEDBACKS
from pcsim.ops.op import BufferSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import networkx as nx
    import xarray as xr

    from pcsim.arrays import Shape
    from pcsim.graph.channels import Acts, Channel
    from pcsim.ops.op import Call, Feedback, Format, Op

Precision = float | tuple[Any, ...]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from ``pre`` to input ``slot`` of ``post``; values go forward, errors back.

    Attributes
    ----------
    value_delay, error_delay : int
        Ticks, 0 or more. With 0 a value arrives within the tick, an error with the next correction.
    key : (str, int)
        The post vertex and slot of the document's edge that this one is part of. Errors are summed in the
        order of keys, so an edge split by identity vertices keeps its place in the sum.
    name : str
        ``pre->post``; parallel edges are ``pre->post#1``, ``pre->post#2``, ...
    value_channel, error_channel : Channel or None
        What happens to messages beside their delay; None: each is delivered as it is.
    """

    pre: str
    post: str
    slot: int
    value_delay: int
    error_delay: int
    key: tuple[str, int]
    name: str = ""
    value_channel: Channel | None = None
    error_channel: Channel | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor used by one vertex or shared by many; a leaf actor of its own ([S])."""

    name: str
    shape: Shape
    init: tuple[str, Any] = ("uniform_fan_in", None)
    fan_in: int | None = None
    fan_out: int | None = None


@dataclass(frozen=True, slots=True)
class Vertex:
    """One elementary function with its value units and error units, all of shape ``call.shape``."""

    name: str
    op: Op
    call: Call
    params: tuple[tuple[str, str], ...] = ()
    """Pairs of parameter slot of the op and name of the parameter that fills it."""
    precision: Precision = 1.0
    feedback: Feedback = FEEDBACKS["symmetric"]
    """With which operands its error messages are computed."""
    acts: Acts | None = None
    """At which ticks it sends and moves; None: at all."""
    precision_changes: bool = False
    """Whether runs of one session may differ in its precision: it is lowered with one, also while that is 1."""

    def __repr__(self) -> str:
        text = f"Vertex({self.name!r}, {self.op.name}, shape {list(self.shape)}, {len(self.call.shapes)} inputs)"
        return clipped(text, 500)

    @property
    def buffers(self) -> dict[str, BufferSpec]:
        """What the vertex keeps from batch to batch: the buffers of its op, and feedback weights of its own."""
        weights = self.feedback.weights(self.op, self.call)
        return {**self.op.buffers(self.call), **{name: BufferSpec(spec.shape) for name, spec in weights.items()}}

    @property
    def shape(self) -> Shape:
        """Shape of the vertex, without the batch axis."""
        return self.call.shape


@dataclass(frozen=True)
class Graph:
    """A directed graph of vertices, in canonical order: by depth, then by name.

    Vertices that lie on a cycle together have one depth. Standard inference alone runs cyclic graphs.

    The order does not depend on the order of the document, so a permuted document makes an equal graph
    and a bit-identical run. Outputs never feed others: an output that did is observed through an
    identity vertex ``NAME.observed``, which takes its place among the outputs.
    """

    vertices: Mapping[str, Vertex]
    edges: tuple[Edge, ...]
    parameters: Mapping[str, Parameter]
    outputs: tuple[str, ...]
    title: str = ""
    source: str = ""
    buffers: Mapping[str, Parameter] = field(default_factory=dict)
    """{``vertex.buffer``: how it starts}, of those whose start a document gives; others start as their op says."""

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and copy keep: the graph, without what was worked out of it."""
        return {row.name: getattr(self, row.name) for row in fields(self)}

    def __repr__(self) -> str:
        return (
            f"Graph({clipped(self.title)!r}, {len(self.vertices)} vertices, {len(self.edges)} edges, "
            f"{len(self.parameters)} parameters, outputs {clipped(', '.join(self.outputs[:20]))})"
        )

    @cached_property
    def incoming(self) -> Mapping[str, tuple[Edge, ...]]:
        """Edges into each vertex, by slot."""
        lists: dict[str, list[Edge]] = {name: [] for name in self.vertices}
        for edge in self.edges:
            lists[edge.post].append(edge)
        return {name: _sorted(edges, attrgetter("slot")) for name, edges in lists.items()}

    @cached_property
    def outgoing(self) -> Mapping[str, tuple[Edge, ...]]:
        """Edges out of each vertex, in the order in which their errors are summed."""
        lists: dict[str, list[Edge]] = {name: [] for name in self.vertices}
        for edge in self.edges:
            lists[edge.pre].append(edge)
        return {name: _sorted(edges, attrgetter("key")) for name, edges in lists.items()}

    @cached_property
    def uses(self) -> Mapping[str, tuple[str, ...]]:
        """Vertices that use each parameter: through a parameter slot, or as an input."""
        users: dict[str, set[str]] = defaultdict(set)
        for vertex in self.vertices.values():
            for _, parameter in vertex.params:
                if vertex.op.role == "parameter":
                    users[parameter].update(edge.post for edge in self.outgoing[vertex.name])
                else:
                    users[parameter].add(vertex.name)
        return {name: tuple(sorted(users[name], key=natural)) for name in self.parameters}

    def role(self, name: str) -> str:
        """Return ``source``, ``parameter``, ``output`` or ``free``."""
        role = self.vertices[name].op.role
        return role if role != "function" else "output" if name in self._outputs else "free"

    @cached_property
    def _outputs(self) -> frozenset[str]:
        return frozenset(self.outputs)

    @cached_property
    def depths(self) -> Mapping[str, int]:
        """Longest distance of each vertex from the sources, in edges; those within a cycle count for nothing."""
        return self._order[0]

    @cached_property
    def _inputs(self) -> Mapping[str, list[str]]:
        return {name: [edge.pre for edge in edges] for name, edges in self.incoming.items()}

    @cached_property
    def _order(self) -> tuple[Mapping[str, int], frozenset[str]]:
        return depths_and_cycles(self._inputs)

    @cached_property
    def cyclic(self) -> frozenset[str]:
        """Vertices that lie on a cycle: they have no feedforward value."""
        return self._order[1]

    @cached_property
    def a_cycle(self) -> str:
        """One of the cycles, in words: ``a -> b -> a``; empty where there is none."""
        return " -> ".join(find_cycle(self._inputs, topological_depths(self._inputs))) if self.cyclic else ""

    @cached_property
    def active(self) -> tuple[str, ...]:
        """Vertices that have error units: all but sources and parameters."""
        return tuple(name for name, vertex in self.vertices.items() if vertex.op.role == "function")

    @cached_property
    def has_channels(self) -> bool:
        """Whether some message is not simply sent at every tick and delivered, or some vertex does not always act."""
        channels = any(edge.value_channel or edge.error_channel for edge in self.edges)
        return channels or any(vertex.acts for vertex in self.vertices.values())

    def carries_errors(self, edge: Edge) -> bool:
        """Return whether errors travel back over an edge: not into a clamped source."""
        return self.vertices[edge.pre].op.role != "source"

    def edge(self, name: str) -> Edge:
        """Return the edge of that name (``a->b``, ``a->b#1``); raises KeyError."""
        return self._edges[name.removesuffix("#0")]

    @cached_property
    def _edges(self) -> Mapping[str, Edge]:
        return {edge.name: edge for edge in self.edges}

    to_networkx: ClassVar[Callable[..., nx.MultiDiGraph[str]]]
    from_networkx: ClassVar[Callable[[nx.DiGraph[Any]], Graph]]
    synapses: ClassVar[Callable[..., xr.Dataset]]
    """These are defined in modules that need this class, and set in ``pcsim/graph/__init__.py``."""


def number_format(vertex: Vertex) -> Format:
    """Return what numbers a vertex carries: ``whole`` for a source of whole numbers, else ``float``."""
    return "whole" if ("format", "whole") in vertex.call.attributes else "float"


def _sorted(edges: list[Edge], key: Callable[[Edge], Any]) -> tuple[Edge, ...]:
    return tuple(edges if len(edges) < 2 else sorted(edges, key=key))


def kept(function: Callable[[Graph], T]) -> Callable[[Graph], T]:
    """Make a function of a graph work its result out once: it stays with the graph, and goes with it."""
    key = f"{function.__module__}.{function.__qualname__}"

    @wraps(function)
    def once(graph: Graph) -> T:
        results = vars(graph)
        if key not in results:
            results[key] = function(graph)
        result: T = results[key]
        return result

    return once


@kept
def active_by_shape(graph: Graph) -> list[tuple[str, ...]]:
    """Return the active vertices, those of one shape together, in the graph's order."""
    groups: dict[Shape, list[str]] = defaultdict(list)
    for name in graph.active:
        groups[graph.vertices[name].shape].append(name)
    return [tuple(names) for names in groups.values()]
