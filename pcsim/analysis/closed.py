"""Fixed predictions without ticks: what a run shows at any tick, from one sweep forward and one back.

The part of the backprop error that travels h edges and error delay D in all has arrived, at tick t, with the factor
``c_h(t - D)`` (``analysis/theory.py``). A vertex whose paths to the outputs all have one (h, D), as on a chain and on
any graph levelled by identity vertices, has one part; others have one for each kind of path.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.backprop import sweep
from pcsim.analysis.theory import path_parts, weighed_vertices
from pcsim.engines.base import begun_again
from pcsim.engines.faults import overflowed, report
from pcsim.errors import InputError, Problem
from pcsim.graph.levels import vertex_levels
from pcsim.program.lower import precision_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pcsim.analysis.backprop import Local
    from pcsim.engines.base import Read, Session, Task
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
    if rule.moving or rule.fires not in ("end", "level"):
        yield Problem(
            ("solve",),
            f"{here} needs fixed predictions, and updates at the end or by level: fpa, bp; got {rule.name!r}",
        )
        return
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

    Each row follows from the one before, ``c_h(t+1) = (1 - gamma) c_h(t) + gamma c_{h-1}(t)``, as it does in a run.
    """
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
        self.levels = vertex_levels(task.graph)
        self._begin(task)

    def _begin(self, task: Task) -> None:
        self.task, self.tick = task, 0
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
            report(self.graph, self._start, self._inputs, lambda name: self.theta[name][None], None, ended)

    def _inputs(self, name: str) -> tuple[Array, ...]:
        return tuple(self._start(edge.pre) for edge in self.graph.incoming[name])

    def _start(self, name: str) -> Array:
        """Return the feedforward value of a vertex."""
        if name in self.local:
            return self.local[name].mu
        vertex = self.graph.vertices[name]
        if vertex.op.role == "parameter":
            return self.theta[vertex.params[0][1]][None, None]
        return np.asarray(self.task.inputs[name], self.task.dtype)[None]

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

    def move(self) -> None:
        """Values are worked out when they are read."""

    def learn(self, tick: int, *, last: bool) -> None:
        """Let each vertex that fires teach its parameters."""
        with np.errstate(all="ignore"):
            for name in self.graph.active:
                if last if self.rule.fires == "end" else self.levels[name] == tick:
                    self._accumulate(self.local[name], tick)

    def _accumulate(self, local: Local, tick: int) -> None:
        name, error = local.vertex.name, self.error(local.vertex.name, tick)
        contributions = list(self._contributions(local, error))
        if contributions:
            self.fire_ticks[name] = tick
        for parameter, contribution in contributions:
            if not np.isfinite(contribution).all():
                overflowed(name, tick, "update", self.task.dtype)
            self.learnt[parameter] += contribution

    def _contributions(self, local: Local, error: Array) -> Iterator[tuple[str, Array]]:
        """Yield what a vertex sends to each parameter: of a slot, or used as an input."""
        contributions = local.contributions(error) if local.vertex.params else {}
        for slot, parameter in local.vertex.params:
            yield parameter, contributions[slot][0]
        pres = [self.graph.vertices[edge.pre] for edge in self.graph.incoming[local.vertex.name]]
        if any(pre.op.role == "parameter" for pre in pres):
            for pre, message in zip(pres, local.back(error), strict=True):
                if pre.op.role == "parameter":
                    yield pre.params[0][1], message[0, 0]

    def advance(self, first: int, end: int, *, last: bool, norms: Array | None = None) -> None:
        """Go to the last of some ticks; only ticks that teach or are measured are looked at on the way."""
        names = [name for names in self.layout() for name in names]
        for tick in range(first, end):
            final = tick == end - 1
            if self.rule.step_size > 1 or final:
                self.predict(tick)
            if norms is not None:
                norms[tick - first] = [float(np.linalg.norm(self.error(name, tick).astype(float))) for name in names]
            if self.rule.fires == "level" or final:
                self.learn(tick, last=last and final)

    def restart(
        self,
        inputs: Mapping[str, Array] | None = None,
        targets: Mapping[str, Array] | None = None,
        parameters: Mapping[str, Array] | None = None,
    ) -> None:
        """Begin again at tick 0; what is not given stays."""
        self._begin(begun_again(self.task, inputs, targets, parameters))

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return the active vertices by shape."""
        groups: dict[Any, list[str]] = defaultdict(list)
        for name in self.graph.active:
            groups[self.graph.vertices[name].shape].append(name)
        return [tuple(names) for names in groups.values()]

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
        local = self.local[edge.post]
        back = local.back(self.error(edge.post, self.tick - edge.error_delay))
        return self._wide(edge.pre, back[[each.key for each in self.graph.incoming[edge.post]].index(edge.key)])

    def updates(self) -> dict[str, Array]:
        """Return what each parameter has learnt."""
        return dict(self.learnt)

    def parameters(self) -> dict[str, Array]:
        """Return each parameter's value."""
        return dict(self.theta)

    def fired(self) -> dict[str, int]:
        """Return the tick at which each vertex taught its parameters."""
        return dict(self.fire_ticks)

    def frozen(self) -> dict[str, int]:
        """Return the vertices put to rest: none is."""
        return {}
