"""What a graph must compute and move in a tick: operations of matrix products, the rest, bytes, messages.

Products count a multiplication and an addition each, as the row of an op declares them. Elementwise work counts one
operation for each number that a function, a slope or an update makes. Bytes are the least that a tick can move
where nothing stays in a cache: every weight once for each product, every state array read and written once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from pcsim.errors import InputError, Problem
from pcsim.ops.op import Cost, undeclared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.engines import Task
    from pcsim.graph.graph import Edge, Vertex


@dataclass(frozen=True)
class Work:
    """Work of some ticks: floating-point operations, bytes, and messages over edges (or synapses)."""

    products: float = 0.0
    elementwise: float = 0.0
    bytes: float = 0.0
    messages: float = 0.0

    @property
    def operations(self) -> float:
        """Floating-point operations, of products and of the rest."""
        return self.products + self.elementwise

    def __add__(self, other: Work) -> Work:
        return Work(
            self.products + other.products,
            self.elementwise + other.elementwise,
            self.bytes + other.bytes,
            self.messages + other.messages,
        )

    def times(self, count: float) -> Work:
        """Return the work of so many of these."""
        return Work(self.products * count, self.elementwise * count, self.bytes * count, self.messages * count)


def tick_work(task: Task) -> Work:
    """Return the work of one tick of every vertex: it predicts (where predictions move) and sends."""
    return _total(task, forward=task.rule.moving, back=True)


def update_work(task: Task) -> Work:
    """Return the work of one whole update by backprop: forward sweep, errors back, parameters.

    No tick is needed for more: what a rule does beyond this counts as time, not as work.
    """
    return _total(task, forward=True, back=True) + _parameters(task)


def cost_of(vertex: Vertex) -> Cost:
    """Return what the vertex's op declares; where it declares nothing, a multiply-add for each of its parameters."""
    declared = vertex.op.cost(vertex.call)
    if declared != Cost():
        return declared
    numbers = float(sum(prod(spec.shape) for spec in vertex.op.params(vertex.call).values()))
    return Cost(multiply_adds=numbers, weights=numbers)


def vertex_work(task: Task) -> dict[str, tuple[Work, Work]]:
    """Return the work of each vertex, forward and back: its prediction, and the errors that it sends."""
    vertices = task.graph.vertices
    return {name: (_forward(vertices[name], task), _back(vertices[name], task)) for name in task.graph.active}


@dataclass(frozen=True)
class ActorCost:
    """What one actor computes and moves, for a whole batch.

    Attributes
    ----------
    vertex, op : whose it is
    units : numbers of its value, for one sample
    cost : what its op declares, for one sample
    forward, back, learn : work of its prediction, of the errors that it sends, of the derivatives of its parameters
    """

    vertex: str
    op: str
    units: int
    cost: Cost
    forward: Work
    back: Work
    learn: Work


def actor_costs(task: Task) -> dict[str, ActorCost]:
    """Return what each vertex that has an error computes; raises InputError for ops that declare no cost, by name."""
    vertices, work = task.graph.vertices, vertex_work(task)
    unknown = [vertices[name] for name in task.graph.active if vertices[name].op.cost is undeclared]
    if unknown:
        raise InputError([Problem(("vertices", one.name, "op"), _undeclared_text(one)) for one in unknown])
    return {
        name: ActorCost(
            name, vertices[name].op.name, prod(vertices[name].shape), cost_of(vertices[name]), forward, back,
            _learn(vertices[name], task),
        )
        for name, (forward, back) in work.items()
    }  # fmt: skip


def _undeclared_text(vertex: Vertex) -> str:
    return (
        f"op {vertex.op.name!r} does not declare what it costs, so its work is not known; give its row "
        "cost=lambda call: Cost(multiply_adds=...), or cost=elementwise where each number is computed by itself"
    )


def _total(task: Task, *, forward: bool, back: bool) -> Work:
    work = Work()
    for ahead, sent in vertex_work(task).values():
        if forward:
            work += ahead
        if back:
            work += sent
    return work


def _forward(vertex: Vertex, task: Task) -> Work:
    cost, edges = cost_of(vertex), task.graph.incoming[vertex.name]
    units = prod(vertex.shape) * task.batch
    sums = 1 if cost.multiply_adds else max(1, len(edges) - 1)
    elementwise = (2.0 if cost.curved else 1.0) * units * sums
    moved = cost.weights + 4 * units
    products = 2.0 * cost.multiply_adds * task.batch
    return Work(products, elementwise, moved * task.dtype.itemsize, _messages(cost, edges))


def _back(vertex: Vertex, task: Task) -> Work:
    cost, vertices = cost_of(vertex), task.graph.vertices
    edges = [edge for edge in task.graph.incoming[vertex.name] if vertices[edge.pre].op.role == "function"]
    units = prod(vertex.shape) * task.batch
    state = 3.0 * units  # of one deviation: what is kept of it, what arrived, and their sum
    moved = (3.0 if cost.curved else 2.0) * units
    if not edges:
        return Work(0.0, state, moved * task.dtype.itemsize, 0.0)
    products = 2.0 * cost.multiply_adds * task.batch * cost.back * len(edges)
    sent = sum(prod(vertices[edge.pre].shape) for edge in edges) * task.batch
    late = sum(prod(vertices[edge.pre].shape) for edge in edges if edge.error_delay) * task.batch
    moved += cost.weights + sent + 2 * late
    elementwise = state + (units if cost.curved else 0.0) + sent
    return Work(products, elementwise, moved * task.dtype.itemsize, _messages(cost, edges))


def _messages(cost: Cost, edges: Sequence[Edge]) -> float:
    return float(len(edges)) if cost.messages is None else cost.messages


def _parameters(task: Task) -> Work:
    """Return the work of all parameters' derivatives, once."""
    work = Work()
    for name in task.graph.active:
        work += _learn(task.graph.vertices[name], task)
    return work


def _learn(vertex: Vertex, task: Task) -> Work:
    """Return the work of the derivatives of the parameters that a vertex uses, once."""
    if not vertex.params:
        return Work()
    cost = cost_of(vertex)
    return Work(2.0 * cost.multiply_adds * task.batch, bytes=2.0 * cost.weights * task.dtype.itemsize)
