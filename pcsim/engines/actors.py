"""The oracle: one object per vertex, an inbox, no reference to another actor.

It interprets graph and rule directly and ignores the lowered program, so that it can be held against
every other engine. It is slow and obvious on purpose. An actor knows its own state and its inbox;
the ``Network`` carries messages and knows nothing of what is in them. What an actor is given, messages and parameters,
is read-only: an op that writes to it ends the run. ``engines/isolation.py`` also sees what an actor reads.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Unpack, cast

import numpy as np

from pcsim.engines.array.memory import HostMemory
from pcsim.engines.base import begun_again, may_freeze, notes, taken_up, tick_by_tick
from pcsim.engines.faults import overflowed, report
from pcsim.engines.isolation import alone, read_only, refuse
from pcsim.engines.operands import moved_buffers, operands_of, source_value
from pcsim.engines.state import CHANNELS, State, check, delayed_edges, history_lengths, multiplied, past, starts
from pcsim.engines.transmission import COUNTS, Clocks, changed, extra_ticks, lost, quantised, streams_of, threshold_of
from pcsim.graph.crossings import FACTS, crossings
from pcsim.graph.graph import active_by_shape
from pcsim.graph.levels import vertex_levels
from pcsim.ops import LOSSES
from pcsim.program.lower import precision_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pcsim.engines.base import Given, Read, Task
    from pcsim.engines.isolation import Watch
    from pcsim.graph.crossings import Crossing, Kind
    from pcsim.graph.graph import Edge, Vertex
    from pcsim.rules import Rule

Array = np.ndarray


@dataclass
class Network:
    """Carries messages: what is sent at tick t over delay d is delivered at tick t + d, once."""

    flying: dict[int, list[tuple[Edge, str, Array]]] = field(default_factory=lambda: defaultdict(list))

    def send(self, due: int, edge: Edge, kind: str, content: Array) -> None:
        """Send a ``value`` or an ``error`` over an edge, to arrive at tick ``due``."""
        content.setflags(write=False)  # of what is sent, no actor changes anything in place
        self.flying[due].append((edge, kind, content))

    def deliver(self, tick: int, inboxes: Mapping[str, dict[str, dict[Any, Array]]]) -> None:
        """Put what is due at this tick into the inboxes."""
        for edge, kind, content in self.flying.pop(tick, []):
            to, key = (edge.post, edge.slot) if kind == "value" else (edge.pre, edge.key)
            inboxes[to][kind][key] = content


class ChannelLine:
    """Carries one kind of message over one edge that is not simply delivered; arrays are (1, batch, *shape).

    ``flying`` holds what is under way by the tick at which it is due: (tick at which it was sent, content, units that
    sent it).
    """

    def __init__(self, one: Crossing, task: Task) -> None:
        zeros = np.zeros((1, task.batch, *task.graph.vertices[one.edge.pre].shape), task.dtype)
        self.one, self.clock, self.flying = one, Clocks([one.acts]), defaultdict[int, list[Any]](list)
        self.held, self.last, self.sent, self.lost = (zeros.copy() for _ in range(4))
        self.stamp = zeros - 1
        self.clock.begin(task)
        self.stream = streams_of(task, [one])[0]

    def due(self, tick: int) -> int:
        """Return when what is sent at a tick arrives."""
        return tick + self.one.delay + int(extra_ticks(self.stream, self.one.channel.jitter, tick))

    def send(self, tick: int, message: Array) -> None:
        """Send what has changed, if the sender acts; it arrives later, or not."""
        content = quantised(np, self.one.channel.quantise, message)
        units = changed(content, self.last, message.dtype.type(threshold_of(self.one))) & self.clock.acting(tick)[0]
        self.last = np.where(units, content, self.last)
        self.sent += units
        if lost(self.stream, self.one.channel.loss, tick):
            self.lost += units
        else:
            self.flying[self.due(tick)].append((tick, content, units))

    def arrive(self, tick: int) -> Array:
        """Return what the receiver holds once what is due has come: the newest that ever came."""
        for when, content, units in sorted(self.flying.pop(tick, []), key=lambda message: message[0]):
            newer = units & (when > self.stamp)
            self.held, self.stamp = np.where(newer, content, self.held), np.where(newer, when, self.stamp)
        return self.held

    def saved(self, tick: int) -> Array:
        """Return the line before a tick, as ``State`` has it."""
        content = np.zeros((self.one.ticks, *self.held.shape[1:]), self.held.dtype)
        mask = content.copy()
        for when, sent, units in (message for messages in self.flying.values() for message in messages):
            row = when - (tick - self.one.ticks)
            content[row], mask[row] = np.where(units, sent, 0)[0], units[0]
        return np.concatenate([self.held, self.stamp, self.last, self.sent, self.lost, content, mask])

    def load(self, tick: int, saved: Array) -> None:
        """Go on from what ``saved`` returned."""
        self.held, self.stamp, self.last, self.sent, self.lost = (row[None].copy() for row in saved[:FACTS])
        ticks = self.one.ticks
        self.flying.clear()
        for row in range(ticks):
            content, units, when = saved[FACTS + row][None], saved[FACTS + ticks + row][None] != 0, tick - ticks + row
            if units.any():
                self.flying[self.due(when)].append((when, content, units))


@dataclass
class Actor:
    """A vertex: its function, its units, and the tick at which its parameters took its error.

    Arrays are (1, batch, *shape). ``start`` is the feedforward value, ``deviation`` the value less
    ``start``; ``reference`` is the prediction from feedforward inputs, so that the error
    ``deviation - (prediction - reference)`` is exactly zero until something has moved.
    """

    vertex: Vertex
    free: bool
    loss: str | None
    target: Array | None
    precision: Array
    level: int | None
    gamma: float
    start: Array
    params: dict[str, Array]
    """Parameters (1, *shape), buffers and draws."""
    held: bool
    """Whether it is on a cycle, where ``start`` is given, and is no prediction."""
    deviation: Array = field(default_factory=lambda: np.zeros(()))
    reference: Array = field(default_factory=lambda: np.zeros(()))
    mu: Array = field(default_factory=lambda: np.zeros(()))
    shift: Array = field(default_factory=lambda: np.zeros(()))
    error: Array = field(default_factory=lambda: np.zeros(()))
    saved: tuple[Array, ...] = ()
    inputs: tuple[Array, ...] = ()
    inbox: dict[str, dict[Any, Array]] = field(default_factory=lambda: {"value": {}, "error": {}})
    fired: int | None = None
    ignores_errors: bool = False
    multiplier: Array | None = None
    """Where the rule has free vertices keep one."""
    rho: float = 1.0
    alpha: float = 0.0
    clock: Clocks | None = None
    """When it sends and moves; None: at every tick."""

    @property
    def value(self) -> Array:
        """The value units, x = start + deviation, in the memory order of ``start``: sums of an op depend on it."""
        return np.ascontiguousarray(self.start + self.deviation)

    def settle(self, inputs: tuple[Array, ...], initial: Array | None) -> None:
        """Start: predict from the feedforward values of the inputs, clamp or set the value."""
        self._predict(inputs)
        self.reference, self.shift = self.start if self.held else self.mu, np.zeros_like(self.start)
        self.deviation = np.zeros_like(self.start)
        if self.target is not None:
            self.deviation = LOSSES[self.loss or ""].error(np, self.start, self.target)
        elif initial is not None:
            self.deviation = initial - self.start
        self.error = self.deviation

    def predict(self, *, moving: bool) -> None:
        """Predict from the inbox, if predictions move, and take the error."""
        if moving:
            self._predict(tuple(self.inbox["value"][slot] for slot in range(len(self.inputs))))
            self.shift = self.mu - self.reference
            if self.loss is None or LOSSES[self.loss].clamps:
                self.error = self.deviation - self.shift
            else:
                self.error = LOSSES[self.loss].error(np, self.start + self.shift, self.target)
                self.deviation = self.error + self.shift
        else:
            self.error = self.deviation

    def _predict(self, inputs: tuple[Array, ...]) -> None:
        self.inputs = inputs
        self.mu, self.saved = self.vertex.op.forward(np, self.vertex.call, self.params, inputs)
        self.mu = np.broadcast_to(self.mu, self.start.shape)

    @property
    def credit(self) -> Array:
        """What is sent back and learnt from: Pi eps, or lambda + rho Pi eps."""
        weighted = self.precision * self.error
        kept = self.multiplier
        return np.asarray(weighted if kept is None else kept + weighted.dtype.type(self.rho) * weighted)

    def messages(self) -> tuple[Array, ...]:
        """Return J^T Pi eps, one message per input."""
        op, g = self.vertex.op, self.credit
        how, call = self.vertex.feedback, self.vertex.call
        operands = how.applied(np, op, call, self.params)
        return how.messages(np, op, call, operands, self.inputs, self.mu, self.saved, g)

    def to_leaves(self) -> tuple[Array, ...]:
        """Return J^T Pi eps for each input with the forward operands: what parameters used as inputs receive."""
        op, g = self.vertex.op, self.credit
        return op.to_inputs(np, self.vertex.call, self.params, self.inputs, self.mu, self.saved, g)

    def contributions(self) -> dict[str, Array]:
        """Return (d mu / d p)^T Pi eps for each parameter slot."""
        op, g = self.vertex.op, self.credit
        return op.to_params(np, self.vertex.call, self.params, self.inputs, self.mu, self.saved, g)

    def received(self) -> Array:
        """Return the sum of the errors that are due, by edge key."""
        received = np.zeros_like(self.start)
        for key in sorted(self.inbox["error"] if not self.ignores_errors else ()):
            received = received + self.inbox["error"][key]
        return received

    def ignore(self) -> None:
        """Drop what has arrived in this tick, and set to zero what is NaN or infinite."""
        self.ignores_errors = True
        inbox = self.inbox["error"]
        inbox.update({key: np.zeros_like(error) for key, error in inbox.items() if not np.isfinite(error).all()})

    def freeze(self) -> None:
        """Go back to the feedforward value, with no error; a clamped output stays clamped."""
        self.shift, self.error = np.zeros_like(self.start), np.zeros_like(self.start)
        if self.loss is None or not LOSSES[self.loss].clamps:
            self.deviation = np.zeros_like(self.start)

    def correct(self) -> None:
        """Sum the errors that are due, by edge key, and move: x += gamma (-Pi eps + sum)."""
        received, gamma = self.received(), self.start.dtype.type(self.gamma)
        if self.multiplier is not None:
            self.deviation = self.deviation + gamma * (received - self.credit)
            self.multiplier = self.multiplier + gamma.dtype.type(self.alpha) * self.error
            return
        rate = (self.gamma * self.precision).astype(self.start.dtype)
        self.deviation = (1 - rate) * self.deviation + (rate * self.shift + gamma * received)


class ActorSession:
    """A run of actors on a clock; ``watch`` is called with each act of an actor, and acts for it."""

    watch: Watch = staticmethod(alone)

    def __init__(self, task: Task) -> None:
        self.rule = task.rule
        self.levels = vertex_levels(task.graph)
        self.references: dict[str, Array] = {}
        self.may_freeze = may_freeze(task)
        HostMemory().admit(memory(task))
        self._begin(task)

    def _begin(self, task: Task) -> None:
        """Everything that a run begins with."""
        self.task, self.network, self.operands, self.graph = task, Network(), operands_of(task), task.graph
        self.theta = {name: np.array(value, task.dtype)[None] for name, value in task.parameters.items()}
        self.learnt = {name: np.zeros_like(value) for name, value in self.theta.items()}
        self.tick = self.next_tick = 0
        self.frozen_at: dict[str, int] = {}
        self.applied = dict(self.learnt)
        self.lines = {key: ChannelLine(one, task) for key, one in crossings(self.graph).items()}
        with np.errstate(all="ignore"):
            self.start = {name: read_only(value) for name, value in self._feedforward().items()}
            self.actors = {name: self._actor(name) for name in self.graph.active}
            self._fill_value_lines()

    def _feedforward(self) -> dict[str, Array]:
        start: dict[str, Array] = {}
        for name, vertex in self.graph.vertices.items():
            if vertex.op.role == "source":
                start[name] = source_value(self.task, name)[None]
            elif vertex.op.role == "parameter":
                start[name] = self.theta[vertex.params[0][1]][:, None]
            elif name in self.graph.cyclic:
                start[name] = np.array(self.task.initial[name][None], self.task.dtype, order="C")
            else:
                inputs = tuple(start[edge.pre] for edge in self.graph.incoming[name])
                mu = self._first_prediction(vertex, inputs)
                start[name] = np.array(
                    np.broadcast_to(mu, (1, self.task.batch, *vertex.shape)), self.task.dtype, order="C"
                )
        if ended := {name: "value" for name, value in start.items() if not np.isfinite(value).all()}:
            sources = self.graph.incoming
            report(self.graph, start.__getitem__, lambda name: tuple(start[edge.pre] for edge in sources[name]),
                   self._params, None, ended)  # fmt: skip
        return start

    def _first_prediction(self, vertex: Vertex, inputs: tuple[Array, ...]) -> Array:
        try:
            return np.asarray(vertex.op.forward(np, vertex.call, self._params(vertex), inputs)[0])
        except ValueError as error:
            refuse(vertex, error)
            raise

    def _params(self, vertex: Vertex) -> dict[str, Array]:
        learnt = {slot: read_only(self.theta[parameter]) for slot, parameter in vertex.params}
        return learnt | self.operands.get(vertex.name, {})

    def _actor(self, name: str) -> Actor:
        graph, vertex, task = self.graph, self.graph.vertices[name], self.task
        target = task.targets.get(name)
        precision = np.asarray(precision_of(graph, name, self.rule), task.dtype)
        actor = Actor(
            vertex,
            graph.role(name) == "free",
            task.losses.get(name),
            None if target is None else target[None],
            precision,
            self.levels[name],
            task.step_sizes.get(name, self.rule.step_size),
            self.start[name],
            self._params(vertex),
            name in graph.cyclic,
        )
        if self.rule.keeps_multipliers and actor.free:
            actor.multiplier, actor.rho, actor.alpha = (
                np.zeros_like(actor.start),
                self.rule.rho,
                self.rule.multiplier_step,
            )
        if vertex.acts is not None:
            actor.clock = Clocks([vertex.acts])
            actor.clock.begin(task)
        initial = task.initial.get(name)
        actor.settle(
            tuple(self.start[edge.pre] for edge in graph.incoming[name]), None if initial is None else initial[None]
        )
        return actor

    def _fill_value_lines(self) -> None:
        """Before tick 0, value lines hold the feedforward values."""
        for edge in self.graph.edges:
            for due in range(edge.value_delay if (edge.name, "value") not in self.lines else 0):
                self.network.send(due, edge, "value", self.start[edge.pre])

    def predict(self, tick: int) -> None:
        """Send every value, deliver those due, predict."""
        self.tick = tick
        for actor in self.actors.values():
            actor.inbox["error"].clear()
            actor.ignores_errors = False
        if self.may_freeze:
            self._check(tick, lambda actor: actor.deviation)
        for edge in self.graph.edges:
            if self.lines and (line := self.lines.get((edge.name, "value"))):
                line.send(tick, self.actors[edge.pre].deviation)
                self.actors[edge.post].inbox["value"][edge.slot] = read_only(self.start[edge.pre] + line.arrive(tick))
            else:
                self.network.send(tick + edge.value_delay, edge, "value", self._value(edge.pre))
        self._deliver(tick)
        with np.errstate(all="ignore"):
            for actor in self.actors.values():
                self.watch(actor, "predict", actor.predict, moving=self.rule.moving)
        self._check(tick, lambda actor: actor.error)

    def _value(self, name: str) -> Array:
        vertex = self.graph.vertices[name]
        if vertex.op.role == "parameter":
            return self.theta[vertex.params[0][1]][:, None]
        actor = self.actors.get(name)
        return self.start[name] if actor is None else actor.value

    def _deliver(self, tick: int) -> None:
        self.network.deliver(tick, {name: actor.inbox for name, actor in self.actors.items()})

    def send(self, tick: int) -> None:
        """Send every error."""
        with np.errstate(all="ignore"):
            for name, actor in self.actors.items():
                self._send_errors(tick, name, actor)

    def deliver(self, tick: int) -> None:
        """Take the errors that are due."""
        with np.errstate(all="ignore"):
            self._deliver(tick)
            for (_, kind), line in self.lines.items():
                if kind == "error":
                    self.actors[line.one.edge.pre].inbox["error"][line.one.edge.key] = read_only(line.arrive(tick))
            self._check(tick, lambda actor: actor.received(), due=1)

    def move(self) -> None:
        """Move the free values to the next tick."""
        self.next_tick = self.tick + 1
        with np.errstate(all="ignore"):
            for actor in self.actors.values():
                if actor.free and (actor.clock is None or actor.clock.acting(self.tick)[0]):
                    self.watch(actor, "move", actor.correct)

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
        """Return the state before the next tick."""
        flying = [(due, *message) for due, messages in self.network.flying.items() for message in messages]
        private = {f"{due}/{kind}/{edge.name}": content[0].copy() for due, edge, kind, content in flying}
        return State(
            self.next_tick,
            {name: actor.deviation[0].copy() for name, actor in self.actors.items()},
            self._values_under_way(),
            self._errors_under_way(),
            self.parameters(),
            self.updates(),
            {name: value[0].copy() for name, value in self.applied.items()} if self.rule.fires.applies else {},
            self.fired(),
            self.frozen(),
            self.task.seed,
            self.task.batch_number,
            "actors",
            private,
            {name: self._multiplier(name)[0].copy() for name in multiplied(self.task)},
            starts=starts(self.task),
            **self._crossing(),
        )

    def _crossing(self) -> dict[str, dict[str, Array]]:
        """Return what crosses channels."""
        found: dict[str, dict[str, Array]] = {key: {} for key in CHANNELS.values()}
        for (name, kind), line in self.lines.items():
            found[CHANNELS[kind]][name] = line.saved(self.next_tick)
        return found

    def _values_under_way(self) -> dict[str, Array]:
        """Return the deviations of each vertex in the last ticks, as far back as some value is under way."""
        found = {
            name: np.zeros((ticks, *self.start[name].shape[1:]), self.task.dtype)
            for name, ticks in history_lengths(self.graph).items()
        }
        for due, messages in self.network.flying.items():
            for edge, kind, content in messages:
                if kind == "value" and edge.pre in found:
                    sent = due - edge.value_delay - self.next_tick  # ticks ago, negative
                    found[edge.pre][len(found[edge.pre]) + sent] = (content - self.start[edge.pre])[0]
        return found

    def _errors_under_way(self) -> dict[str, Array]:
        found = {
            edge.name: np.zeros((edge.error_delay, *self.start[edge.pre].shape[1:]), self.task.dtype)
            for edge in delayed_edges(self.graph)
        }
        for due, messages in self.network.flying.items():
            for edge, kind, content in messages:
                if kind == "error":
                    found[edge.name][due - self.next_tick] = content[0]
        return found

    def load(self, state: State) -> None:
        """Go on from a state of this task, whichever engine it is from."""
        check(state, self.task)
        self._begin(taken_up(self.task, state))
        self.next_tick, self.frozen_at = state.tick, dict(state.frozen)
        for name, actor in self.actors.items():
            actor.deviation, actor.fired = state.deviations[name][None].copy(), state.fired.get(name)
            if actor.multiplier is not None:
                actor.multiplier = state.multipliers[name][None].copy()
        self.network = Network()
        self._fill_lines(state)
        self.theta = {name: value[None].copy() for name, value in state.parameters.items()}
        self.learnt = {name: value[None].copy() for name, value in state.updates.items()}
        self.applied = {name: state.applied[name][None].copy() if state.applied else np.zeros_like(value)
                        for name, value in self.theta.items()}  # fmt: skip
        if self.rule.fires.applies:
            for actor in self.actors.values():
                actor.params = self._params(actor.vertex)

    def _fill_lines(self, state: State) -> None:
        """Put the messages of a state under way again."""
        own, tick = state.own("actors"), state.tick
        for (name, kind), line in self.lines.items():
            line.load(tick, getattr(state, CHANNELS[kind])[name])
        for edge in self.graph.edges:
            if (edge.name, "value") in self.lines:
                continue
            ago = past(state.values.get(edge.pre), edge.value_delay, self.start[edge.pre][0])
            for k in range(edge.value_delay):
                mine = own.get(f"{tick + k}/value/{edge.name}")
                self.network.send(
                    tick + k, edge, "value", self.start[edge.pre] + ago[k] if mine is None else mine[None]
                )
        for edge in delayed_edges(self.graph):
            for k, content in enumerate(state.errors[edge.name]):
                self.network.send(tick + k, edge, "error", content[None].copy())

    def buffers(self) -> dict[str, Array]:
        """Return what ops keep from batch to batch, as this batch leaves it."""
        found: dict[str, Array] = {}
        for name, actor in self.actors.items():
            inputs = tuple(self.start[edge.pre] for edge in self.graph.incoming[name])
            began = {slot: np.asarray(self.task.parameters[each], self.task.dtype)[None]
                     for slot, each in actor.vertex.params}  # fmt: skip
            found |= moved_buffers(actor.vertex, {**self._params(actor.vertex), **began}, inputs)
        return found

    def executed(self) -> dict[str, str]:
        """Return what works out each vertex: an actor of its own."""
        return dict.fromkeys(self.graph.active, "actors")

    def _send_errors(self, tick: int, name: str, actor: Actor) -> None:
        edges = self.graph.incoming[name]
        if any(self._moves(edge) for edge in edges):
            for edge, message in zip(edges, self.watch(actor, "send", actor.messages), strict=True):
                if self.lines and (line := self.lines.get((edge.name, "error"))):
                    line.send(tick, message)
                elif self._moves(edge):
                    self.network.send(tick + edge.error_delay, edge, "error", message)

    def _moves(self, edge: Edge) -> bool:
        return self.graph.vertices[edge.pre].op.role == "function"

    def _check(self, tick: int, quantity: Callable[[Actor], Array], due: int = 0) -> None:
        """Name what is not finite; an actor that has fired before ``tick + due`` is frozen instead."""
        ended = [name for name, actor in self.actors.items() if not np.isfinite(quantity(actor)).all()]
        for name in ended:
            if not self.may_freeze or self._waits(self.actors[name], tick, due):
                inputs = self._inputs
                report(self.graph, self._value, inputs, self._params, tick, dict.fromkeys(ended, "error"))
        for name in ended:
            self.frozen_at.setdefault(name, tick)
            if due:
                self.actors[name].ignore()
            else:
                self.actors[name].freeze()

    def _waits(self, actor: Actor, tick: int, due: int) -> bool:
        """Return whether an actor has neither fired yet nor is about to: its numbers still matter."""
        if actor.level is None:
            return False
        untaught = self.rule.fires.waits and actor.fired is None and self._contributes(actor)
        return actor.level >= tick + due or (untaught and not (due and bool(np.any(actor.error != 0))))

    def _inputs(self, name: str) -> tuple[Array, ...]:
        return self.actors[name].inputs

    def learn(self, tick: int, *, last: bool) -> None:
        """Let the parameters that each firing vertex uses take its error."""
        with np.errstate(all="ignore"):
            for actor in self.actors.values():
                if fires(self.rule, actor, tick, last=last):
                    actor.fired = tick
                    self._accumulate(actor)
        if self.rule.fires.applies:
            self._apply()

    def _accumulate(self, actor: Actor) -> None:
        scale = self.task.dtype.type(self.rule.output_variance)
        for parameter, contribution in self._contributions(actor):
            if not np.isfinite(contribution).all():
                overflowed(actor.vertex.name, actor.fired, "update", self.task.dtype)
            self.learnt[parameter] = self.learnt[parameter] + scale * contribution

    def _contributions(self, actor: Actor) -> Iterator[tuple[str, Array]]:
        """Yield what an actor sends to each parameter: of a slot, or used as an input."""
        contributions = self.watch(actor, "learn", actor.contributions) if actor.vertex.params else {}
        for slot, parameter in actor.vertex.params:
            yield parameter, contributions[slot]
        pres = [self.graph.vertices[edge.pre] for edge in self.graph.incoming[actor.vertex.name]]
        if any(pre.op.role == "parameter" for pre in pres):
            for pre, message in zip(pres, self.watch(actor, "learn", actor.to_leaves), strict=True):
                if pre.op.role == "parameter":
                    yield pre.params[0][1], message[:, 0]

    def _apply(self) -> None:
        for name in self.theta:
            step = self.learnt[name] - self.applied[name]
            self.theta[name] = self.theta[name] + self.task.dtype.type(self.rule.learning_rate) * step
        self.applied = dict(self.learnt)
        for actor in self.actors.values():
            actor.params = self._params(actor.vertex)

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return the active vertices by shape."""
        return active_by_shape(self.graph)

    def reader(self, quantity: str, names: Sequence[str]) -> Read:
        """Return a function that stacks a quantity of some vertices or edges."""
        return lambda: np.concatenate([self._read(quantity, name) for name in names])

    def _read(self, quantity: str, name: str) -> Array:
        if quantity.endswith("message"):
            return self._message(quantity, self.graph.edge(name))
        if quantity.endswith(COUNTS):
            kind, _, what = quantity.partition(" ")
            counts: Array = getattr(self.lines[name, cast("Kind", kind)], what)
            return counts
        actor = self.actors.get(name)
        if actor is None:
            vertex = self.graph.vertices[name]
            shown = np.broadcast_to(self._value(name), (1, self.task.batch, *vertex.shape))
            return np.asarray(shown if quantity != "error" else np.zeros_like(shown))
        if quantity == "value":
            return actor.value
        if quantity == "prediction":
            return np.asarray(actor.start + actor.shift)
        if quantity == "credit":
            return actor.credit
        return self._multiplier(name) if quantity == "multiplier" else actor.error

    def _multiplier(self, name: str) -> Array:
        kept = self.actors[name].multiplier
        return np.zeros_like(self.start[name]) if kept is None else kept

    def _message(self, quantity: str, edge: Edge) -> Array:
        if quantity == "value message":
            return np.broadcast_to(self.actors[edge.post].inbox["value"][edge.slot], self.start[edge.pre].shape)
        inbox = self.actors[edge.pre].inbox["error"] if edge.pre in self.actors else {}
        return inbox.get(edge.key, np.zeros_like(self.start[edge.pre]))

    def updates(self, *, copy: bool = True) -> dict[str, Array]:  # noqa: ARG002  they are copies
        """Return what each parameter has learnt."""
        return {name: value[0].copy() for name, value in self.learnt.items()}

    def parameters(self, *, copy: bool = True) -> dict[str, Array]:  # noqa: ARG002  they are copies
        """Return each parameter's value now."""
        return {name: value[0].copy() for name, value in self.theta.items()}

    def fired(self) -> dict[str, int]:
        """Return the tick at which the parameters that each vertex uses took its error."""
        contributors = {name: actor for name, actor in self.actors.items() if self._contributes(actor)}
        return {name: actor.fired for name, actor in contributors.items() if actor.fired is not None}

    def frozen(self) -> dict[str, int]:
        """Return the vertices that became NaN or infinite after they had fired and were frozen, and the tick."""
        return dict(self.frozen_at)

    def _contributes(self, actor: Actor) -> bool:
        edges = self.graph.incoming[actor.vertex.name]
        return bool(actor.vertex.params) or any(self.graph.role(edge.pre) == "parameter" for edge in edges)


def memory(task: Task) -> dict[str, int]:
    """Return the bytes that a session of actors holds: states, messages of a tick or under way, parameters."""
    graph, octets = task.graph, task.dtype.itemsize
    sizes = {name: task.batch * prod(vertex.shape) * octets for name, vertex in graph.vertices.items()}
    # start, shift, deviation, value and error; a value and an error for each tick that an edge takes
    messages = sum(sizes[edge.pre] * (2 + edge.value_delay + edge.error_delay) for edge in graph.edges)
    parameters = sum(array.size for array in task.parameters.values()) * octets
    return {"values and errors": 5 * sum(sizes.values()), "messages": messages, "parameters": 2 * parameters}


def fires(rule: Rule, actor: Actor, tick: int, *, last: bool) -> bool:
    """Return whether the parameters of a vertex take its error at this tick."""
    if not rule.fires.due(tick, -1 if actor.level is None else actor.level, last):
        return False
    return not rule.fires.waits or (actor.fired is None and bool(np.any(actor.error != 0)))


def start(task: Task) -> ActorSession:
    """Start a run."""
    return ActorSession(task)
