"""Rules whose vertices keep errors: each tick is a sweep of values forward and one of errors back.

A vertex is worth its prediction and its error, ``x = mu + e``. Forward, vertex by vertex, the errors are carried along;
back, each vertex sends ``J^T g``, where ``g`` is all that has come to it, ``-dL/dx``, and an output's error times its
precision. So in one tick every error hears of every output, and ``e += gamma (g - Pi e)`` descends the free energy

    F(e) = 1/2 sum of e Pi e + L(x(e)),    dF/de = Pi e - g

whose equilibrium, ``Pi e = g``, is that of standard predictive coding: there, too, a vertex's weighted error is what it
gets back. The error is the state itself, so nothing is lost in the difference of two values. On a clock on which a
message takes a tick, one such tick is as many as the graph is deep, there and back (measure ``parallel_ticks``).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Unpack

import numpy as np

from pcsim.engines.base import begun_again, notes, taken_up, tick_by_tick
from pcsim.engines.contributions import contributes, contributions_of
from pcsim.engines.faults import overflowed, report
from pcsim.engines.operands import moved_buffers, operands_of, source_value
from pcsim.engines.state import State, check
from pcsim.errors import wrong
from pcsim.graph.crossings import why_channels
from pcsim.graph.graph import active_by_shape
from pcsim.ops import LOSSES
from pcsim.ops.local import Local
from pcsim.program.lower import precision_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcsim.engines.base import Given, Read, Session, Task
    from pcsim.graph.graph import Edge, Vertex

Array = np.ndarray
Arrays = dict[str, Array]


class SweepSession:
    """A run in errors, vertex by vertex: arrays are (1, batch, *shape), as in ``actors``.

    Attributes
    ----------
    errors : {active vertex: e}; an output's is that of its loss
    values : {vertex: x}, parameters used as inputs among them, with a batch of 1
    local : {active vertex: its call} of the last sweep forward
    received : {active vertex: g}, the sum of what came back in the last sweep
    """

    name = "sweeps"

    def __init__(self, task: Task) -> None:
        self.graph, self.rule = task.graph, task.rule
        self.free = [name for name in task.graph.active if task.graph.role(name) == "free"]
        self._begin(task)

    references: Mapping[str, Array] = MappingProxyType({})

    def _begin(self, task: Task) -> None:
        self.task, self.tick, self.next_tick = task, 0, 0
        self.precision = {
            name: np.asarray(precision_of(task.graph, name, task.rule), task.dtype) for name in task.graph.active
        }
        self.theta = {name: np.asarray(value, task.dtype)[None] for name, value in task.parameters.items()}
        self.operands = operands_of(task)
        self.learnt = {name: np.zeros_like(value) for name, value in self.theta.items()}
        self.fire_ticks: dict[str, int] = {}
        self.errors = {
            name: np.zeros((1, task.batch, *self.graph.vertices[name].shape), task.dtype) for name in self.graph.active
        }
        self.values: Arrays = {}
        self.local: dict[str, Local] = {}
        self.received = dict(self.errors)
        with np.errstate(all="ignore"):
            self.forward(None)
            self.start = {name: local.mu for name, local in self.local.items()}
            self.forward(0, {name: value[None] for name, value in task.initial.items()})

    def forward(self, tick: int | None, given: Mapping[str, Array] = MappingProxyType({})) -> None:
        """Sweep values forward with the errors that vertices have; a value that is ``given`` sets its error.

        Raises RunError where a value becomes NaN or infinite.
        """
        ended: dict[str, str] = {}
        for name, vertex in self.graph.vertices.items():
            if vertex.op.role == "source":
                self.values[name] = source_value(self.task, name)[None]
            elif vertex.op.role == "parameter":
                self.values[name] = self.theta[vertex.params[0][1]][:, None]
            else:
                self._predict(vertex, given.get(name))
                if not np.isfinite(self.values[name]).all():
                    ended[name] = "value"
        if ended:
            report(self.graph, self.values.__getitem__, self._inputs, self._params, tick, ended)

    def _predict(self, vertex: Vertex, given: Array | None) -> None:
        name, params, inputs = vertex.name, self._params(vertex), self._inputs(vertex.name)
        mu, saved = vertex.op.forward(np, vertex.call, params, inputs)
        mu = np.broadcast_to(np.asarray(mu, self.task.dtype), self.errors[name].shape)
        feedback = vertex.feedback.applied(np, vertex.op, vertex.call, params)
        how = vertex.feedback
        self.local[name] = Local(np, vertex.op, vertex.call, params, feedback, inputs, mu, saved, how)
        if name in self.task.targets:
            target = np.asarray(self.task.targets[name], self.task.dtype)[None]
            self.errors[name] = LOSSES[self.task.losses[name]].error(np, mu, target)
        elif given is not None:
            self.errors[name] = np.asarray(given - mu, self.task.dtype)
        self.values[name] = mu + self.errors[name]

    def _inputs(self, name: str) -> tuple[Array, ...]:
        return tuple(self.values[edge.pre] for edge in self.graph.incoming[name])

    def _params(self, vertex: Vertex) -> dict[str, Array]:
        learnt = {slot: self.theta[parameter] for slot, parameter in vertex.params}
        return learnt | self.operands.get(vertex.name, {})

    def weighted(self, name: str) -> Array:
        """Return Pi e."""
        return np.asarray(self.precision[name] * self.errors[name])

    def back(self) -> None:
        """Sweep errors back: what has come to a vertex from all that it feeds goes on to all that feeds it."""
        self.received = {name: np.zeros_like(error) for name, error in self.errors.items()}
        for name in reversed(self.graph.active):
            self._pass_on(name)

    def _pass_on(self, name: str) -> None:
        edges = self.graph.incoming[name]
        if any(edge.pre in self.received for edge in edges):
            for edge, message in zip(edges, self.local[name].messages(self._passed(name)), strict=True):
                if edge.pre in self.received:
                    self.received[edge.pre] = self.received[edge.pre] + message

    def _passed(self, name: str) -> Array:
        """Return what a vertex passes back: g, or of an output its weighted error."""
        return self.weighted(name) if name in self.task.targets else self.received[name]

    def predict(self, tick: int) -> None:
        """Sweep forward; raises RunError where a value becomes NaN or infinite."""
        self.tick = tick
        if tick:
            with np.errstate(all="ignore"):
                self.forward(tick)

    def send(self, _tick: int, /) -> None:
        """Sweep back."""
        with np.errstate(all="ignore"):
            self.back()

    def deliver(self, tick: int) -> None:
        """Check what has come; raises RunError where it is NaN or infinite."""
        ended = {name: "error" for name, received in self.received.items() if not np.isfinite(received).all()}
        if ended:
            report(self.graph, self.values.__getitem__, self._inputs, self._params, tick, ended)

    def learn(self, tick: int, *, last: bool) -> None:
        """Let all parameters take the errors, in the last tick."""
        if not self.rule.fires.due(tick, 0, last):
            return
        with np.errstate(all="ignore"):
            for name in self.graph.active:
                self._accumulate(name, tick)

    def _accumulate(self, name: str, tick: int) -> None:
        if not contributes(self.graph, name):
            return
        self.fire_ticks[name] = tick
        variance = self.task.dtype.type(self.rule.output_variance)
        for parameter, contribution in contributions_of(self.graph, name, self.local[name], self.weighted(name)):
            if not np.isfinite(contribution).all():
                overflowed(name, tick, "update", self.task.dtype)
            self.learnt[parameter] = self.learnt[parameter] + variance * contribution

    def move(self) -> None:
        """Move the errors of free vertices: e += gamma (g - Pi e)."""
        self.next_tick = self.tick + 1
        with np.errstate(all="ignore"):
            for name in self.free:
                gamma = self.task.dtype.type(self.task.step_sizes.get(name, self.rule.step_size))
                self.errors[name] = self.errors[name] + gamma * (self.received[name] - self.weighted(name))

    def advance(
        self, first: int, end: int, *, last: bool, squares: Array | None = None, apart: Array | None = None
    ) -> None:
        """Advance some ticks, and note norms of errors, and of how far they are from references, where wanted."""
        measure = notes(self, first, squares, apart, self.references)
        tick_by_tick(self, first, end, last=last, measure=None if squares is None is apart else measure)

    def compare_with(self, references: Mapping[str, Array] | None) -> None:
        """Say what errors are compared with."""
        self.references = dict(references or {})

    def restart(self, **given: Unpack[Given]) -> None:
        """Begin again at tick 0; what is not given stays."""
        self._begin(begun_again(self.task, **given))

    def snapshot(self) -> State:
        """Return the state before the next tick: errors, and the values that they make."""
        with np.errstate(all="ignore"):
            self.forward(self.next_tick)
        task = self.task
        deviations = {name: (self.values[name] - self.start[name])[0] for name in self.graph.active}
        private = {name: error[0].copy() for name, error in self.errors.items()}
        return State(self.next_tick, deviations, {}, {}, self.parameters(), self.updates(), {}, self.fired(), {},
                     task.seed, task.batch_number, self.name, private)  # fmt: skip

    def load(self, state: State) -> None:
        """Go on from a state of this task."""
        check(state, self.task)
        self._begin(taken_up(self.task, state))
        self.next_tick, self.fire_ticks = state.tick, dict(state.fired)
        self.learnt = {name: np.array(array)[None] for name, array in state.updates.items()}
        own = state.own(self.name)
        with np.errstate(all="ignore"):
            self.forward(state.tick, {name: self.start[name] + state.deviations[name][None] for name in self.free})
            self.errors |= {name: error[None].copy() for name, error in own.items()}
            self.forward(state.tick)

    def buffers(self) -> Arrays:
        """Return what ops keep from batch to batch, as this batch leaves it."""
        found: Arrays = {}
        for name in self.graph.active:
            vertex = self.graph.vertices[name]
            inputs = tuple(self.start.get(edge.pre, self.values[edge.pre]) for edge in self.graph.incoming[name])
            found |= moved_buffers(vertex, self._params(vertex), inputs)
        return found

    def executed(self) -> dict[str, str]:
        """Return what works out each vertex."""
        return dict.fromkeys(self.graph.active, self.name)

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return the active vertices by shape."""
        return active_by_shape(self.graph)

    def reader(self, quantity: str, names: Sequence[str]) -> Read:
        """Return a function that reads a quantity of some vertices or edges."""
        return lambda: np.concatenate([self._read(quantity, name) for name in names])

    def _read(self, quantity: str, name: str) -> Array:
        if quantity.endswith("message"):
            return self._message(quantity, self.graph.edge(name))
        if quantity == "prediction" and name in self.local:
            return np.asarray(self.local[name].mu)
        if quantity == "error":
            return self.errors.get(name, np.zeros_like(self.values[name]))
        return self.values[name]

    def _message(self, quantity: str, edge: Edge) -> Array:
        """Return what went over an edge in the sweep of this tick."""
        if quantity == "value message":
            return self.values[edge.pre]
        slots = [each.key for each in self.graph.incoming[edge.post]]
        return np.asarray(self.local[edge.post].messages(self._passed(edge.post))[slots.index(edge.key)])

    def updates(self, *, copy: bool = True) -> Arrays:  # noqa: ARG002  they are copies
        """Return what each parameter has learnt."""
        return {name: value[0].copy() for name, value in self.learnt.items()}

    def parameters(self, *, copy: bool = True) -> Arrays:  # noqa: ARG002  they are copies
        """Return each parameter's value."""
        return {name: value[0].copy() for name, value in self.theta.items()}

    def fired(self) -> dict[str, int]:
        """Return the tick at which the parameters that each vertex uses took its error."""
        return dict(self.fire_ticks)

    def frozen(self) -> dict[str, int]:
        """Return the vertices that were frozen: none is."""
        return {}


def start(task: Task) -> Session:
    """Start a run in errors; raises InputError where edges have delays, or the rule keeps something else."""
    if not task.rule.sweeps:
        raise wrong(("rule", "name"), f"rule {task.rule.name!r} keeps no errors; take an engine of pcsim list engines")
    if task.graph.has_channels:
        message = f"rule {task.rule.name!r} sweeps the whole graph in one tick, and {why_channels(task.graph)}; take il"
        raise wrong("rule", message)
    if late := [edge.name for edge in task.graph.edges if edge.value_delay or edge.error_delay]:
        raise wrong(
            ("rule", "name"),
            f"rule {task.rule.name!r} sweeps the whole graph in one tick, and {late[0]} has a delay; "
            "say level: none or level: identity, or take il",
        )
    return SweepSession(task)
