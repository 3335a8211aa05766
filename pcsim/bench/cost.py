"""What a graph must compute and move in a tick: operations of matrix products, the rest, bytes, messages.

Products count a multiplication and an addition each, exactly as the ops define them. Elementwise work counts one
operation for each number that a function, a slope or an update makes. Bytes are the least that a tick can move
where nothing stays in a cache: every weight once for each product, every state array read and written once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcsim.engines import Task
    from pcsim.graph.graph import Graph, Vertex


@dataclass(frozen=True)
class Cost:
    """Work of some ticks: floating-point operations, bytes, and messages over edges (or synapses)."""

    products: float = 0.0
    elementwise: float = 0.0
    bytes: float = 0.0
    messages: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.products + other.products,
            self.elementwise + other.elementwise,
            self.bytes + other.bytes,
            self.messages + other.messages,
        )

    def times(self, count: float) -> Cost:
        """Return the work of so many of these."""
        return Cost(self.products * count, self.elementwise * count, self.bytes * count, self.messages * count)


def tick_cost(task: Task) -> Cost:
    """Return the work of one literal tick: every vertex predicts (where predictions move) and sends."""
    return _total(task, forward=task.rule.moving, back=True)


def update_cost(task: Task) -> Cost:
    """Return the work of one whole update by backprop: forward sweep, errors back, parameters.

    No tick is needed for more: what a rule does beyond this counts as time, not as work.
    """
    return _total(task, forward=True, back=True) + _lessons(task)


def _total(task: Task, *, forward: bool, back: bool) -> Cost:
    graph, cost = task.graph, Cost()
    for name in graph.active:
        vertex = graph.vertices[name]
        if forward:
            cost += _forward(graph, vertex, task)
        if back:
            cost += _back(graph, vertex, task)
    return cost


def _forward(graph: Graph, vertex: Vertex, task: Task) -> Cost:
    units, edges = prod(vertex.shape) * task.batch, graph.incoming[vertex.name]
    sums = 1 if product_of(vertex) else max(1, len(edges) - 1)
    elementwise = (2.0 if _curved(vertex) else 1.0) * units * sums
    moved = _weights(vertex) + 4 * units
    return Cost(
        product_of(vertex) * task.batch, elementwise, moved * task.dtype.itemsize, messages_of(vertex, len(edges))
    )


def _back(graph: Graph, vertex: Vertex, task: Task) -> Cost:
    edges = [edge for edge in graph.incoming[vertex.name] if graph.vertices[edge.pre].op.role == "function"]
    units = prod(vertex.shape) * task.batch
    state = 3.0 * units  # of one deviation: what is kept of it, what arrived, and their sum
    moved = (3.0 if _curved(vertex) else 2.0) * units
    if not edges:
        return Cost(0.0, state, moved * task.dtype.itemsize, 0.0)
    products = product_of(vertex) * task.batch * _products_back(vertex, len(edges) / len(graph.incoming[vertex.name]))
    sent = sum(prod(graph.vertices[edge.pre].shape) for edge in edges) * task.batch
    late = sum(prod(graph.vertices[edge.pre].shape) for edge in edges if edge.error_delay) * task.batch
    moved += _weights(vertex) + sent + 2 * late
    elementwise = state + (units if _curved(vertex) else 0.0) + sent
    return Cost(products, elementwise, moved * task.dtype.itemsize, messages_of(vertex, len(edges)))


def _lessons(task: Task) -> Cost:
    """Return the work of all parameters' derivatives, once."""
    cost = Cost()
    for name in task.graph.active:
        vertex = task.graph.vertices[name]
        if vertex.params:
            cost += Cost(product_of(vertex) * task.batch, bytes=2.0 * _weights(vertex) * task.dtype.itemsize)
    return cost


def product_of(vertex: Vertex) -> float:
    """Return the operations of a vertex's product, forward, for one sample."""
    name, call = vertex.op.name, vertex.call
    if name == "affine":
        return 2.0 * prod(call.shapes[0]) * int(call["units"])
    if name == "matmul":
        return 2.0 * prod(call.shape) * call.shapes[0][-1]
    if name == "projection":
        return 2.0 * len(call["synapses"])
    if name == "weighted_sum":
        return 2.0 * prod(call.shape) * len(call.shapes)
    return 0.0


def _products_back(vertex: Vertex, share: float) -> float:
    """Return how many products like its own a vertex sends back in, where this share of its inputs take errors."""
    if vertex.op.name == "matmul":
        return 2 * share
    return share if vertex.op.name == "weighted_sum" else 1.0


def messages_of(vertex: Vertex, edges: int) -> float:
    """Return the messages over a vertex's inputs: one an edge, or one a synapse."""
    return float(len(vertex.call["synapses"])) if vertex.op.name == "projection" else float(edges)


def _weights(vertex: Vertex) -> float:
    """Return the numbers of a vertex's matrix or row; a synapse also has a column, half a number or one."""
    if vertex.op.name == "affine":
        return float(vertex.call.shapes[0][-1] * vertex.call["units"])
    if vertex.op.name == "weighted_sum":
        return float(len(vertex.call.shapes))
    return 2.0 * len(vertex.call["synapses"]) if vertex.op.name == "projection" else 0.0


def _curved(vertex: Vertex) -> bool:
    """Return whether a slope is kept and multiplied by."""
    given = dict(vertex.call.attributes)
    return given.get("activation", vertex.op.name) not in ("none", "identity", "add", "subtract", "affine")
