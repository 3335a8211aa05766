"""Standard predictive coding as a function of the values that were: what moves a value, delays included.

With moving predictions a value moves by its own error and by the errors that come back. An error that was sent d ticks
ago was made of a value of d ticks ago, and of inputs that were sent before that. So what moves values at tick t is a
function of ``x(t), x(t-1) .. x(t-D)``, D the longest way of a value to an error and back, and of nothing else:

    x(t+1) = x(t) + gamma force(x(t) .. x(t-D))

Nothing here needs an order of vertices: a graph with cycles is no other case. Samples of a batch are apart, so
that many points are looked at in one call, side by side along the batch.
"""

from __future__ import annotations

from collections import defaultdict
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.base import kept_by_task, with_changes
from pcsim.engines.operands import buffers_of, draws_of, source_value
from pcsim.ops import LOSSES
from pcsim.ops.local import Local
from pcsim.program.lower import precision_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcsim.engines.base import Task

Array = np.ndarray

SMALL = 1e-5
"""The step of the central differences that stand for derivatives, relative to the values."""
MOST_AT_ONCE = 4_000_000
"""Numbers that one call looks at: points times units."""


class Dynamics:
    """What moves the free values of a task, in float64.

    Attributes
    ----------
    size, batch : units of all free vertices, samples
    where : {free vertex: its units}
    shown : {active vertex: where its errors are, among those of all vertices}
    late : the delays after which a value may still move something, ascending; the first is 0
    """

    def __init__(self, task: Task) -> None:
        self.task = with_changes(task, {"dtype": np.dtype(np.float64)})
        self.graph, self.batch = task.graph, task.batch
        free = [name for name in task.graph.active if task.graph.role(name) == "free"]
        self.where, self.size = self._side_by_side(free)
        self.shown, self.errors = self._side_by_side(task.graph.active)
        self.precision = {name: np.asarray(precision_of(task.graph, name, task.rule), float) for name in self.shown}
        self.theta = {name: np.asarray(value, float)[None] for name, value in task.parameters.items()}
        self.buffers, self.draws = buffers_of(self.task), draws_of(self.task)
        self.back: dict[str, dict[int, list[tuple[int, slice]]]] = {name: self._back(name) for name in self.shown}
        self.late = self._late()

    def _side_by_side(self, names: Sequence[str]) -> tuple[dict[str, slice], int]:
        ends = np.cumsum([0, *(prod(self.graph.vertices[name].shape) for name in names)]).tolist()
        return {name: slice(a, b) for name, a, b in zip(names, ends, ends[1:], strict=False)}, int(ends[-1])

    def _back(self, name: str) -> dict[int, list[tuple[int, slice]]]:
        """Return {error delay: (input, units that it comes from)} of the inputs that are free."""
        found: dict[int, list[tuple[int, slice]]] = defaultdict(list)
        for slot, edge in enumerate(self.graph.incoming[name]):
            if edge.pre in self.where:
                found[edge.error_delay].append((slot, self.where[edge.pre]))
        return dict(found)

    def _late(self) -> tuple[int, ...]:
        found = {0}
        for name, back in self.back.items():
            ahead = {edge.value_delay for edge in self.graph.incoming[name] if edge.pre in self.where}
            found |= {late + way for late in (0, *back) for way in (0, *ahead)}
        return tuple(sorted(found))

    @property
    def depth(self) -> int:
        """The longest delay after which a value may still move something."""
        return self.late[-1]

    def flat(self, values: dict[str, Array]) -> Array:
        """Return what free vertices have, (batch, *shape) each, side by side: (batch, units)."""
        parts = [np.asarray(values[name], float).reshape(self.batch, -1) for name in self.where]
        return np.concatenate([np.zeros((self.batch, 0)), *parts], axis=1)

    def force(self, history: Sequence[Array], tick: int | None = None) -> tuple[Array, Array]:
        """Return what moves free values, before the step size, and the errors of all vertices.

        Parameters
        ----------
        history : values, the newest first, (points, units); points are samples, or several times all samples
        tick : nothing has been sent before tick 0; None: long after it

        Returns
        -------
        (points, units) and (points, units of all active vertices)
        """
        move = np.zeros_like(history[0])
        errors = np.zeros((len(move), self.errors))
        for name, back in self.back.items():
            now = self._seen(name, history, 0)
            errors[:, self.shown[name]] = now[1].reshape(len(move), -1)
            if name in self.where:
                move[:, self.where[name]] -= (self.precision[name] * now[1]).reshape(len(move), -1)
            for late, slots in back.items():
                if tick is None or late <= tick:
                    local, error = now if late == 0 else self._seen(name, history, late)
                    messages = local.messages(self.precision[name] * error)
                    for slot, units in slots:
                        move[:, units] += np.broadcast_to(messages[slot], local.inputs[slot].shape).reshape(
                            len(move), -1
                        )
        return move, errors

    def _seen(self, name: str, history: Sequence[Array], late: int) -> tuple[Local, Array]:
        """Return the call of a vertex and its error as they were ``late`` ticks ago."""
        vertex, points = self.graph.vertices[name], len(history[0])
        oldest, edges = len(history) - 1, self.graph.incoming[name]
        inputs = tuple(self._input(edge.pre, history[min(late + edge.value_delay, oldest)]) for edge in edges)
        params = {slot: self.theta[parameter] for slot, parameter in vertex.params}
        params |= {key: array[None] for key, array in self.buffers.get(name, {}).items()}
        params |= {key: self._tiled(array, points)[None] for key, array in self.draws.get(name, {}).items()}
        mu, saved = vertex.op.forward(np, vertex.call, params, inputs)
        mu = np.broadcast_to(np.asarray(mu, float), (1, points, *vertex.shape))
        feedback = vertex.feedback.applied(np, vertex.op, vertex.call, params)
        local = Local(np, vertex.op, vertex.call, params, feedback, inputs, mu, saved, vertex.feedback)
        if name in self.task.targets:
            target = self._tiled(np.asarray(self.task.targets[name], float), points)[None]
            return local, LOSSES[self.task.losses[name]].error(np, mu, target)
        own = history[min(late, len(history) - 1)][:, self.where[name]]
        return local, own.reshape(mu.shape) - mu

    def _tiled(self, array: Array, points: int) -> Array:
        return array if points == len(array) else np.tile(array, (points // len(array), *[1] * (array.ndim - 1)))

    def _input(self, name: str, values: Array) -> Array:
        vertex = self.graph.vertices[name]
        if name in self.where:
            return values[:, self.where[name]].reshape(1, len(values), *vertex.shape)
        if vertex.op.role == "parameter":
            return self.theta[vertex.params[0][1]][:, None]
        return self._tiled(source_value(self.task, name), len(values))[None]

    def slope_changes(self, name: str, points: Array) -> Array:
        """Return by how much what a vertex sends back changes from tick to tick, relative to its size.

        points : (ticks, batch, units), values of a run; its errors are taken as fixed

        Returns
        -------
        (ticks - 1, batch * units of the inputs)
        """
        local, error = self._seen(name, [points.reshape(-1, points.shape[2])], 0)
        fixed = np.tile(
            np.random.default_rng(0).normal(size=(self.batch, *error.shape[2:])), (len(points), *[1] * (error.ndim - 2))
        )
        slots = [slot for found in self.back[name].values() for slot, _ in found]
        sent = [np.broadcast_to(local.messages(fixed[None])[slot], local.inputs[slot].shape) for slot in slots]
        flat = np.concatenate([each.reshape(len(points), -1) for each in sent], axis=1)
        return np.asarray(np.abs(np.diff(flat, axis=0)) / max(float(np.abs(flat).max(initial=0.0)), 1e-300))

    def gain(self, name: str, history: Sequence[Array]) -> float:
        """Return |J^T g| / |g| of a vertex, over its free inputs and all samples, for a random g."""
        local, error = self._seen(name, history, 0)
        way = np.random.default_rng(0).normal(size=error.shape)
        messages = local.messages(way)
        sent = [messages[slot] for found in self.back[name].values() for slot, _ in found]
        return float(np.sqrt(sum(np.sum(np.square(each)) for each in sent)) / np.linalg.norm(way))

    def slopes(self, point: Array, late: int) -> tuple[Array, Array]:
        """Return how force and errors change with the values of ``late`` ticks ago, all values being ``point``.

        Returns
        -------
        (batch, units, units) and (batch, units of all active vertices, units)
        """
        force, errors = np.zeros((self.batch, self.size, self.size)), np.zeros((self.batch, self.errors, self.size))
        for units in self._in_pieces():
            away = np.zeros((len(units), self.size))
            away[np.arange(len(units)), units] = SMALL
            ahead, behind = (self._pushed(point, sign * away, late) for sign in (1, -1))
            for found, up, down in zip((force, errors), ahead, behind, strict=True):
                found[:, :, units] = ((up - down) / (2 * SMALL)).reshape(len(units), self.batch, -1).transpose(1, 2, 0)
        return force, errors

    def _in_pieces(self) -> Iterator[Array]:
        per = max(1, MOST_AT_ONCE // max(1, self.batch * max(self.size, self.errors)))
        for first in range(0, self.size, per):
            yield np.arange(first, min(first + per, self.size))

    def _pushed(self, point: Array, away: Array, late: int) -> tuple[Array, Array]:
        """Return force and errors where the values of ``late`` ticks ago were elsewhere, all samples for each way."""
        still = np.tile(point, (len(away), 1))
        moved = still + np.repeat(away, self.batch, axis=0)
        return self.force([moved if each == late else still for each in range(self.depth + 1)])

    def along(self, point: Array, ways: Array) -> Array:
        """Return how force changes with all values that were: (late, batch, units) -> (batch, units)."""
        size = float(np.abs(ways).max(initial=0.0))
        if size == 0:
            return np.zeros_like(point)
        step = SMALL / size
        ahead, behind = (self.force([point + sign * step * way for way in ways])[0] for sign in (1, -1))
        return np.asarray((ahead - behind) / (2 * step))


@kept_by_task
def dynamics_of(task: Task) -> Dynamics:
    """Return the dynamics of a task."""
    return Dynamics(task)
