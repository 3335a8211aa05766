"""The reference: reverse-mode differentiation over the graph, one vertex after the other.

It shares the ops with the engines and nothing else: no ticks, no delays, no lowering ([S] eq. 2-4).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.base import kept_by_task
from pcsim.engines.operands import operands_of, source_value
from pcsim.engines.squares import row_products, squares_of
from pcsim.errors import wrong
from pcsim.ops import LOSSES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcsim.engines.base import Task
    from pcsim.graph.graph import Vertex

Array = np.ndarray


@dataclass(frozen=True)
class Swept:
    """One vertex as it stands in the feedforward sweep. Arrays are (1, batch, *shape)."""

    vertex: Vertex
    params: dict[str, Array]
    inputs: tuple[Array, ...]
    mu: Array
    saved: tuple[Array, ...]

    def back(self, g: Array) -> tuple[Array, ...]:
        """Return J^T g for each input."""
        return self.vertex.op.to_inputs(np, self.vertex.call, self.params, self.inputs, self.mu, self.saved, g)

    def contributions(self, g: Array) -> dict[str, Array]:
        """Return (d mu / d p)^T g for each parameter slot."""
        return self.vertex.op.to_params(np, self.vertex.call, self.params, self.inputs, self.mu, self.saved, g)


def sweep(task: Task) -> dict[str, Swept]:
    """Return the feedforward sweep: every vertex with what its derivatives need; on cycles, with what it began with."""
    theta = {name: np.asarray(value, task.dtype)[None] for name, value in task.parameters.items()}
    operands = operands_of(task)
    values: dict[str, Array] = {}
    found: dict[str, Swept] = {}
    given = {name: np.asarray(task.initial[name], task.dtype)[None] for name in task.graph.cyclic}
    values |= given
    for name, vertex in task.graph.vertices.items():
        if vertex.op.role == "source":
            values[name] = source_value(task, name)[None]
        elif vertex.op.role == "parameter":
            values[name] = theta[vertex.params[0][1]][:, None]
        else:
            inputs = tuple(values[edge.pre] for edge in task.graph.incoming[name])
            params = {slot: theta[parameter] for slot, parameter in vertex.params} | operands.get(name, {})
            mu, saved = vertex.op.forward(np, vertex.call, params, inputs)
            here = np.broadcast_to(np.asarray(mu, task.dtype), (1, task.batch, *vertex.shape))
            values[name] = given.get(name, here)
            found[name] = Swept(vertex, params, inputs, values[name], saved)
    return found


@dataclass(frozen=True)
class Reference:
    """What backprop says: the negated loss gradient at every vertex and parameter, and the loss."""

    errors: Mapping[str, Array]
    """{vertex: (batch, *shape)}: -dL/dmu, the sign of eps."""
    gradients: Mapping[str, Array]
    """{parameter: (*shape)}: -dL/dp, summed over the batch: the descent direction."""
    loss: float

    @cached_property
    def pieces(self) -> list[tuple[list[str], Array, Array]]:
        """The gradients in float64, those of one size side by side, in pieces that fit into a near cache.

        Each is (parameters, (parameters, size), sum of the squares of each).
        """
        names: dict[int, list[str]] = {}
        for name, gradient in self.gradients.items():
            names.setdefault(gradient.size, []).append(name)
        cut = [
            each[first : first + per]
            for size, each in names.items()
            for per in [max(1, PIECE // max(1, size))]
            for first in range(0, len(each), per)
        ]
        with np.errstate(all="ignore"):
            flat = [(each, side_by_side(self.gradients, each)) for each in cut]
            return [(each, rows, row_products(rows, rows)) for each, rows in flat]


PIECE = 2**15
"""Numbers that are compared at once: 256 KiB in float64."""


def side_by_side(arrays: Mapping[str, Array], names: Sequence[str]) -> Array:
    """Return arrays of one size in float64: (names, size)."""
    if len(names) == 1:
        return arrays[names[0]].reshape(1, -1).astype(np.float64, copy=False)
    return np.stack([arrays[name].ravel() for name in names], dtype=np.float64, casting="unsafe")


@kept_by_task
def backprop(task: Task) -> Reference:
    """Differentiate the loss of a task; precisions of outputs weigh their errors.

    Raises InputError where the graph has a cycle: there is no order in which to go back.
    """
    if task.graph.cyclic:
        what = f"backprop needs an acyclic graph, and this one has a cycle: {task.graph.a_cycle}"
        raise wrong("graph", f"{what}; the updates of rule il at rest are the descent direction of its free energy")
    with np.errstate(all="ignore"):
        return _backprop(task, sweep(task))


@kept_by_task
def reference(task: Task) -> Reference:
    """Return what runs are measured against: backprop; on a cyclic graph, which has none, zeros and an unknown loss."""
    if not task.graph.cyclic:
        return backprop(task)
    shapes = {name: (task.batch, *task.graph.vertices[name].shape) for name in task.graph.active}
    gradients = {name: np.zeros(row.shape, task.dtype) for name, row in task.graph.parameters.items()}
    return Reference({name: np.zeros(shape, task.dtype) for name, shape in shapes.items()}, gradients, float("nan"))


def _backprop(task: Task, local: Mapping[str, Swept]) -> Reference:
    errors = {name: np.zeros_like(local[name].mu) for name in task.graph.active}
    gradients = {name: np.zeros((1, *p.shape), task.dtype) for name, p in task.graph.parameters.items()}
    loss = 0.0
    for name in task.graph.outputs:  # their order is that of names, however the graph is levelled
        target = task.targets[name]
        wanted, row = np.asarray(target, task.dtype)[None], LOSSES[task.losses[name]]
        errors[name] = weight(local[name].vertex, row.error(np, local[name].mu, wanted))
        loss += float(np.sum(row.value(np, local[name].mu, wanted)))
    for name in reversed(task.graph.active):
        _send_back(task, local[name], errors, gradients)
    return Reference(
        {name: error[0] for name, error in errors.items()}, {name: value[0] for name, value in gradients.items()}, loss
    )


ROUNDINGS = 64
"""Roundings of what a sum was made of that may be left of it where it is zero."""


@kept_by_task
def rounded_to_zero(task: Task) -> frozenset[str]:
    """Return the vertices whose backprop error is zero but for rounding, such as behind the sum of a softmax.

    What is left of an error is held against what it is made of: the absolute messages that would have come had their
    parts not cancelled, for which the parts of each error are multiplied by random numbers around 1.
    """
    errors, graph = backprop(task).errors, task.graph
    most = {name: float(np.max(np.abs(error), initial=0.0)) for name, error in errors.items()}
    behind = {name: max((most[edge.post] for edge in graph.outgoing[name]), default=0.0) for name in most}
    eps = float(np.finfo(task.dtype).eps)
    if not any(0 < most[name] <= np.sqrt(eps) * behind[name] for name in most):
        return frozenset()
    with np.errstate(all="ignore"):
        made_of = _magnitudes(task, sweep(task))
    return frozenset(name for name in most if 0 < most[name] <= ROUNDINGS * eps * made_of[name])


def _magnitudes(task: Task, local: Mapping[str, Swept]) -> dict[str, float]:
    """Return about how large the messages are that each error is the sum of."""
    rng, graph = np.random.default_rng(0), task.graph
    errors = {name: np.abs(error)[None] for name, error in backprop(task).errors.items()}
    sums = {name: np.zeros_like(error) for name, error in errors.items()}
    for name in reversed(graph.active):
        here = np.maximum(errors[name], sums[name])
        apart = here * rng.uniform(0.5, 1.5, here.shape) * rng.choice([-1.0, 1.0], here.shape)
        for edge, message in zip(graph.incoming[name], local[name].back(apart.astype(task.dtype)), strict=True):
            if edge.pre in sums:
                sums[edge.pre] = sums[edge.pre] + np.abs(message)
    return {name: float(np.max(each, initial=0.0)) for name, each in sums.items()}


@kept_by_task
def scales(task: Task) -> dict[str, float]:
    """Return what differences from the backprop error of each vertex are divided by: its norm, L2 over batch and units.

    Where it is zero, or rounding of zero, that of the errors of the whole graph; 1 where that is zero too, and on a
    cyclic graph.
    """
    if task.graph.cyclic:
        return dict.fromkeys(task.graph.active, 1.0)
    errors, nothing = backprop(task).errors, rounded_to_zero(task)
    names = list(errors)
    norms = {name: float(np.sqrt(squares_of(np, errors[name][None])[0])) for name in names}
    whole = float(np.linalg.norm(list(norms.values()))) or 1.0
    return {name: whole if name in nothing or norms[name] == 0 else norms[name] for name in names}


def weight(vertex: Vertex, error: Array) -> Array:
    """Return Pi eps."""
    return error if vertex.precision == 1 else np.asarray(vertex.precision, error.dtype) * error


def _send_back(task: Task, local: Swept, errors: dict[str, Array], gradients: dict[str, Array]) -> None:
    g = errors[local.vertex.name]
    for slot, contribution in local.contributions(g).items() if local.vertex.params else ():
        gradients[dict(local.vertex.params)[slot]] += contribution
    edges = task.graph.incoming[local.vertex.name]
    if all(task.graph.role(edge.pre) == "source" for edge in edges):
        return
    for edge, message in zip(edges, local.back(g), strict=True):
        role: Any = task.graph.role(edge.pre)
        if role == "parameter":
            gradients[task.graph.vertices[edge.pre].params[0][1]] += message[:, 0]
        elif role != "source":
            errors[edge.pre] = errors[edge.pre] + message
