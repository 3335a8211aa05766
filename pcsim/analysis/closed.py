"""Fixed predictions without ticks: what a run shows at any tick, from one sweep forward and one back.

The share of the backprop error that travels h edges and error delay D in all has arrived, at tick t, with the factor
``c_h(t - D)`` (``analysis/theory.py``). A vertex whose paths to the outputs all have one (h, D), as on a chain and on
any graph levelled by identity vertices, has one share; others have one for each kind of path.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Unpack

import numpy as np

from pcsim.analysis.backprop import sweep
from pcsim.analysis.conditions import asymmetric, weighed_vertices
from pcsim.analysis.theory import path_parts, transients
from pcsim.engines.base import begun_again, notes, refuse_precisions, taken_up
from pcsim.engines.contributions import contributions_of
from pcsim.engines.faults import overflowed, report
from pcsim.engines.operands import moved_buffers, source_value
from pcsim.engines.state import State, check, delayed_edges, history_lengths
from pcsim.errors import InputError, Problem
from pcsim.graph.crossings import why_channels
from pcsim.graph.graph import active_by_shape
from pcsim.graph.levels import vertex_levels
from pcsim.ops.local import Local
from pcsim.program.lower import precision_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pcsim.analysis.backprop import Swept
    from pcsim.engines.base import Given, Read, Session, Task
    from pcsim.graph.graph import Edge, Graph

Array = np.ndarray

MOST_KINDS = 20_000
"""Kinds of path, beyond one for each vertex, that are still followed one by one."""


def closed_form(task: Task) -> Session:
    """Return a session that works out what it is asked for instead of simulating it.

    Raises InputError where no closed form is known, with every reason.
    """
    if problems := list(_objections(task)):
        raise InputError(problems)
    return ClosedSession(task)


def _objections(task: Task) -> Iterator[Problem]:
    """Yield what keeps a task from being solved in closed form."""
    rule, here = task.rule, "closed_form"
    if rule.moving or rule.fires.waits or rule.fires.applies:
        yield Problem(
            ("solve",),
            f"{here} needs fixed predictions and updates at ticks known beforehand: fpa, bp; got {rule.name!r}",
        )
        return
    if task.graph.has_channels:
        yield Problem(("solve",), f"{here} has every message delivered; here {why_channels(task.graph)}")
    if kept := asymmetric(task.graph):
        yield Problem(("solve",), f"{here} needs symmetric feedback; {kept[0]!r} has another")
    if not rule.step_size < 2:
        yield Problem(("solve",), f"{here} needs a step size below 2, got {rule.step_size:g}")
    if any(rate != rule.step_size for rate in task.step_sizes.values()):
        yield Problem(("solve",), f"{here} needs one step size for all vertices")
    if task.initial:
        yield Problem(("solve",), f"{here} starts from the feedforward values; initial values are given")
    if weighed := [*weighed_vertices(task), *_weighed_outputs(task)]:
        yield Problem(("solve",), f"{here} needs precisions of 1; {weighed[0]!r} has another")
    if _surplus_kinds(task.graph) is None:
        yield Problem(
            ("solve",),
            f"{here} follows each kind of path (edges, delay) to the outputs; here are more than {MOST_KINDS:,} beyond "
            "one for each vertex (level: delay or identity makes them fewer)",
        )


def _weighed_outputs(task: Task) -> list[str]:
    return [name for name in task.graph.outputs if np.any(precision_of(task.graph, name, task.rule) != 1)]


def _surplus_kinds(graph: Graph) -> int | None:
    """Return how many kinds of path there are beyond one for each vertex; None if they are too many."""
    found: dict[str, set[tuple[int, int]]] = {}
    surplus = 0
    for name in reversed(graph.active):
        here = {(0, 0)} if graph.role(name) == "output" else set()
        for edge in graph.outgoing[name]:
            here |= {(hops + 1, delay + edge.error_delay) for hops, delay in found[edge.post]}
        found[name] = here
        surplus += max(0, len(here) - 1)
        if surplus > MOST_KINDS:
            return None
    return surplus


def arrivals(hops: int, ticks: int, step_size: float) -> Array:
    """Return ``c_h(t)`` for h = 0 .. hops and t = 0 .. ticks - 1: (hops + 1, ticks), float64.

    Up to gamma = 1 each row follows from the one before, ``c_h(t+1) = (1 - gamma) c_h(t) + gamma c_{h-1}(t)``, as it
    does in a run; above 1 roundings would grow on the way, as they do in a run.
    """
    if step_size > 1:
        return np.stack([row for row, _ in transients(hops, ticks, step_size)])
    from scipy.signal import lfilter

    table = np.zeros((hops + 1, ticks))
    table[0] = 1
    for row in range(1, hops + 1):
        table[row, 1:] = lfilter([step_size], [1.0, step_size - 1], table[row - 1, :-1])
    return table


class ClosedSession:
    """A run in which nothing runs: arrays are (1, batch, *shape), as in ``actors``."""

    def __init__(self, task: Task) -> None:
        self.graph, self.rule = task.graph, task.rule
        levels = vertex_levels(task.graph)
        self.levels = {name: -1 if (level := levels[name]) is None else level for name in task.graph.active}
        self._begin(task)

    references: Mapping[str, Array] = MappingProxyType({})

    def _begin(self, task: Task) -> None:
        self.task, self.tick, self.next_tick = task, 0, 0
        self.theta = {name: np.array(value, task.dtype) for name, value in task.parameters.items()}
        self.learnt = {name: np.zeros_like(value) for name, value in self.theta.items()}
        self.fire_ticks: dict[str, int] = {}
        with np.errstate(all="ignore"):
            self.local = sweep(task)
            self._check_sweep()
            self.parts = path_parts(task)
            hops = max((hops for parts in self.parts.values() for hops, _ in parts), default=0)
            self.arrived = arrivals(hops, task.ticks, self.rule.step_size)

    def _check_sweep(self) -> None:
        ended = {name: "value" for name, local in self.local.items() if not np.isfinite(local.mu).all()}
        if ended:
            report(self.graph, self._start, self._inputs, lambda vertex: self.local[vertex.name].params, None, ended)

    def _inputs(self, name: str) -> tuple[Array, ...]:
        return tuple(self._start(edge.pre) for edge in self.graph.incoming[name])

    def _start(self, name: str) -> Array:
        """Return the feedforward value of a vertex."""
        if name in self.local:
            return self.local[name].mu
        vertex = self.graph.vertices[name]
        if vertex.op.role == "parameter":
            return self.theta[vertex.params[0][1]][None, None]
        return source_value(self.task, name)[None]

    def error(self, name: str, tick: int) -> Array:
        """Return the error of a vertex at a tick; before tick 0 there is none."""
        error = np.zeros_like(self._start(name))
        for (hops, delay), part in self.parts.get(name, {}).items():
            if tick >= delay:
                error = error + self.task.dtype.type(self.arrived[hops, tick - delay]) * part
        return error

    def _value(self, name: str, tick: int) -> Array:
        return np.asarray(self._start(name) + self.error(name, tick))

    def predict(self, tick: int) -> None:
        """Go to a tick; raises RunError where an error leaves the number format."""
        self.tick = tick
        with np.errstate(all="ignore"):
            growing = self.rule.step_size > 1
            for name in self.graph.active if growing else ():
                if not np.isfinite(self.error(name, tick)).all():
                    overflowed(name, tick, "error", self.task.dtype)

    def send(self, tick: int) -> None:
        """Messages are worked out when they are read."""

    def deliver(self, tick: int) -> None:
        """Messages are worked out when they are read."""

    def move(self) -> None:
        """Values are worked out when they are read."""
        self.next_tick = self.tick + 1

    def learn(self, tick: int, *, last: bool) -> None:
        """Let the parameters that each firing vertex uses take its error."""
        with np.errstate(all="ignore"):
            for name in self.graph.active:
                if self.rule.fires.due(tick, self.levels[name], last):
                    self._accumulate(self.local[name], tick)

    def _accumulate(self, local: Swept, tick: int) -> None:
        name, error = local.vertex.name, self.error(local.vertex.name, tick)
        contributions = list(contributions_of(self.graph, name, self._call(local), error))
        if contributions:
            self.fire_ticks[name] = tick
        for parameter, (contribution,) in contributions:
            if not np.isfinite(contribution).all():
                overflowed(name, tick, "update", self.task.dtype)
            self.learnt[parameter] += contribution

    def _call(self, local: Swept) -> Local:
        """Return a vertex's call; feedback is symmetric."""
        vertex, params = local.vertex, local.params
        inputs, how = local.inputs, vertex.feedback
        return Local(np, vertex.op, vertex.call, params, params, inputs, local.mu, local.saved, how)

    def advance(
        self, first: int, end: int, *, last: bool, squares: Array | None = None, apart: Array | None = None
    ) -> None:
        """Go to the last of some ticks; only ticks that fire or are measured are looked at on the way."""
        measure = notes(self, first, squares, apart, self.references)
        for tick in range(first, end):
            final = tick == end - 1
            if self.rule.step_size > 1 or final:
                self.predict(tick)
            if squares is not None or apart is not None:
                self.tick = tick
                measure(tick)
            if final or not self.rule.fires.only_last:
                self.learn(tick, last=last and final)
        self.next_tick = end

    def compare_with(self, references: Mapping[str, Array] | None) -> None:
        """Say what errors are compared with."""
        self.references = dict(references or {})

    def restart(self, **given: Unpack[Given]) -> None:
        """Begin again at tick 0; what is not given stays."""
        refuse_precisions(given, "the closed form is of precision 1; use solve: simulate")
        self._begin(begun_again(self.task, **given))

    def snapshot(self) -> State:
        """Return the state before the next tick, all of it worked out."""
        task, tick, graph = self.task, self.next_tick, self.graph
        deviations = {name: self._wide(name, self.error(name, tick))[0].copy() for name in graph.active}
        values = {
            name: np.stack([self._wide(name, self.error(name, tick - back))[0] for back in range(ticks, 0, -1)])
            for name, ticks in history_lengths(graph).items()
        }
        errors = {
            edge.name: np.stack([self._back(edge, tick + k)[0] for k in range(edge.error_delay)])
            for edge in delayed_edges(graph)
        }
        return State(tick, deviations, values, errors, self.parameters(), self.updates(), {}, self.fired(), {},
                     task.seed, task.batch_number, "closed_form")  # fmt: skip

    def load(self, state: State) -> None:
        """Go on from a state of this task: what is learnt is taken over, all else is worked out."""
        check(state, self.task)
        self._begin(taken_up(self.task, state))
        self.next_tick, self.fire_ticks = state.tick, dict(state.fired)
        self.learnt = {name: np.array(array) for name, array in state.updates.items()}

    def buffers(self) -> dict[str, Array]:
        """Return what ops keep from batch to batch, as this batch leaves it."""
        found: dict[str, Array] = {}
        for local in self.local.values():
            found |= moved_buffers(local.vertex, local.params, local.inputs)
        return found

    def executed(self) -> dict[str, str]:
        """Return what works out each vertex: the closed form."""
        return dict.fromkeys(self.graph.active, "closed_form")

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return the active vertices by shape."""
        return active_by_shape(self.graph)

    def reader(self, quantity: str, names: Sequence[str]) -> Read:
        """Return a function that works out a quantity of some vertices or edges at the tick."""
        return lambda: np.concatenate([self._read(quantity, name) for name in names])

    def _read(self, quantity: str, name: str) -> Array:
        with np.errstate(all="ignore"):
            if quantity.endswith("message"):
                return self._message(quantity, self.graph.edge(name))
            if quantity == "error":
                return self._wide(name, self.error(name, self.tick))
            return self._wide(name, self._start(name) if quantity == "prediction" else self._value(name, self.tick))

    def _wide(self, name: str, array: Array) -> Array:
        """Return an array with its batch, which parameters do not have."""
        return np.broadcast_to(array, (1, self.task.batch, *self.graph.vertices[name].shape))

    def _message(self, quantity: str, edge: Edge) -> Array:
        """Return what arrives over an edge at the tick: what was sent ``delay`` ticks ago."""
        if quantity == "value message":
            return self._wide(edge.pre, self._value(edge.pre, self.tick - edge.value_delay))
        return self._back(edge, self.tick)

    def _back(self, edge: Edge, tick: int) -> Array:
        """Return the error message over an edge that is due at a tick."""
        back = self.local[edge.post].back(self.error(edge.post, tick - edge.error_delay))
        return self._wide(edge.pre, back[[each.key for each in self.graph.incoming[edge.post]].index(edge.key)])

    def updates(self, *, copy: bool = True) -> dict[str, Array]:  # noqa: ARG002  they are copies
        """Return what each parameter has learnt."""
        return {name: array.copy() for name, array in self.learnt.items()}

    def parameters(self, *, copy: bool = True) -> dict[str, Array]:  # noqa: ARG002  they are copies
        """Return each parameter's value."""
        return {name: array.copy() for name, array in self.theta.items()}

    def fired(self) -> dict[str, int]:
        """Return the tick at which the parameters that each vertex uses took its error."""
        return dict(self.fire_ticks)

    def frozen(self) -> dict[str, int]:
        """Return the vertices that were frozen: none is."""
        return {}
