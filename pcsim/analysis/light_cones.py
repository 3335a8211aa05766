"""How far a change travels: one vertex changed at tick 0, and every vertex whose state then differs in any bit.

Two sessions of one engine tick side by side, one of them with the change. Beside what is measured stands the distance
map, worked out from the graph, its delays and facts of the rule alone. An actor that read anything but its own state
and its messages would differ before its distance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import nearest, wrong
from pcsim.graph.graph import number_format
from pcsim.graph.levels import spreading, vertex_levels
from pcsim.ops import LOSSES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pcsim.engines.base import Engine, Session, Task
    from pcsim.graph.graph import Graph

Array = np.ndarray

SIZE = 0.5
"""Standard deviation of the change of each number."""


@dataclass(frozen=True)
class Cone:
    """One change and how far it came.

    Attributes
    ----------
    vertex : the vertex that was changed at tick 0
    kind : what of it: ``value``, ``target``, or ``input``, which the feedforward sweep carries on
    vertices : all vertices that have error units
    distance : the first tick at which the state of each can differ; None where the change never comes
    differs : (ticks, vertices), whether any bit of value, prediction or error differs
    """

    vertex: str
    kind: str
    vertices: tuple[str, ...]
    distance: Mapping[str, int | None]
    differs: Array

    @property
    def arrival(self) -> dict[str, int | None]:
        """The first tick at which the state of each vertex did differ, in the ticks that were run."""
        came, first = np.asarray(self.differs.any(axis=0)), self.differs.argmax(axis=0)
        return {name: int(first[k]) if came[k] else None for k, name in enumerate(self.vertices)}

    @property
    def outside(self) -> list[tuple[str, int]]:
        """Vertex and tick of every difference before its distance: there is none where actors are local."""
        never = len(self.differs)
        reach = [tick if (tick := self.distance[name]) is not None else never for name in self.vertices]
        early = self.differs & (np.arange(never)[:, None] < np.array(reach))
        return [(self.vertices[k], int(tick)) for tick, k in np.argwhere(early)]

    @property
    def late(self) -> list[str]:
        """Vertices that the change reached later than its distance, or not at all, within the ticks that were run."""
        found, ticks = self.arrival, len(self.differs)
        return [name for name in self.vertices
                if (at := self.distance[name]) is not None and at < ticks and found[name] != at]  # fmt: skip

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each vertex: its distance and when the change came."""
        found = self.arrival
        return [{"changed": self.vertex, "kind": self.kind, "vertex": name, "distance": self.distance[name],
                 "arrival": found[name]} for name in self.vertices]  # fmt: skip


def changed_kind(task: Task, vertex: str) -> str:
    """Return what of a vertex can be changed; raises InputError where nothing can."""
    graph = task.graph
    if vertex not in graph.vertices:
        raise wrong("vertex", f"unknown vertex {vertex!r}" + nearest(vertex, graph.vertices))
    kinds = {"free": "value", "output": "target", "source": "input"}
    role = graph.role(vertex)
    if role not in kinds or (role == "source" and vertex not in task.inputs):
        message = f"vertex {vertex!r} is given no data and never moves, expected one that has a value, target or input"
        raise wrong("vertex", message)
    if number_format(graph.vertices[vertex]) == "whole":
        raise wrong("vertex", f"vertex {vertex!r} holds whole numbers, expected one that holds floating-point numbers")
    return kinds[role]


def distances(task: Task, vertex: str) -> dict[str, int | None]:
    """Return the first tick at which the state of each vertex can differ, once one is changed at tick 0.

    An error takes its delay and a tick to come back to the vertex before; where predictions move, a value disturbs
    what it feeds within the tick, or its delay later. An input is carried forward by the sweep before tick 0; from
    then on it makes a difference wherever there is an error. It is an upper bound of the cone, which slopes that are
    zero make smaller.
    """
    graph, rule, kind = task.graph, task.rule, changed_kind(task, vertex)
    swept = _behind(graph, {vertex}) if kind == "input" else set()
    if rule.sweeps:
        return _by_sweeps(graph, swept or {vertex}, kind)
    spread = partial(spreading, graph, moving=rule.moving, learning=rule.fires.applies)
    if kind != "input":
        return spread({vertex: 0} if kind == "target" else {}, [vertex] if kind == "value" else [])
    given = [name for name in task.initial if graph.role(name) == "free"]
    began = spread(dict.fromkeys(graph.outputs, 0), given)
    found = spread({name: tick for name in swept if (tick := began[name]) is not None})
    return {name: 0 if name in swept else tick for name, tick in found.items()}


def _behind(graph: Graph, names: set[str]) -> set[str]:
    """Return all active vertices that are fed by some, over any number of edges, and those of them that are active."""
    found = set(names)
    for name in graph.vertices:
        if any(edge.pre in found for edge in graph.incoming[name]):
            found.add(name)
    return found & set(graph.active)


def _before(graph: Graph, names: set[str]) -> set[str]:
    """Return all free vertices that feed some, over any number of edges, and those of them that are free."""
    found = set(names)
    for name in reversed(tuple(graph.vertices)):
        if any(edge.post in found for edge in graph.outgoing[name]):
            found.add(name)
    return {name for name in found if graph.role(name) == "free"}


def _by_sweeps(graph: Graph, changed: set[str], kind: str) -> dict[str, int | None]:
    """Return distances where a tick sweeps values forward and errors back: all that is connected in a few ticks."""
    found: dict[str, int | None] = dict.fromkeys(graph.active)
    reached = changed if kind == "target" else _behind(graph, changed) | changed
    with_errors = {
        name for name, level in vertex_levels(graph).items() if level is not None
    }  # errors come from outputs
    tick = 0
    while fresh := [name for name in reached if name in found and found[name] is None]:
        found.update(dict.fromkeys(fresh, tick))
        reached, tick = _behind(graph, _before(graph, reached & with_errors)) | reached, tick + 1
    return found


def measured_cone(task: Task, start: Engine, vertex: str, ticks: int | None = None, seed: int = 0) -> Cone:
    """Return how far a change of one vertex comes, in so many ticks; default: until the farthest has been reached.

    Raises InputError where the vertex cannot be changed, RunError where a value becomes NaN or infinite.
    """
    distance = distances(task, vertex)
    farthest = max((at for at in distance.values() if at is not None), default=0)
    pair = [start(one) for one in changed_tasks(task, start, vertex, seed)]
    compare = comparison(*pair)
    rows = [compare(tick) for tick in range(farthest + 1 if ticks is None else ticks)]
    order = [name for group in pair[0].layout() for name in group]
    names = task.graph.active
    places = [order.index(name) for name in names]
    return Cone(vertex, changed_kind(task, vertex), names, distance, np.array(rows)[:, places])


def comparison(one: Session, other: Session) -> Callable[[int], Array]:
    """Return a function that runs a tick of both and tells which vertices, in the order of layout, differ."""
    readers = [
        [(one.reader(what, group), other.reader(what, group)) for what in ("value", "prediction", "error")]
        for group in one.layout()
    ]

    def compare(tick: int) -> Array:
        for session in (one, other):
            session.predict(tick)
            session.send(tick)
            session.deliver(tick)
        found = [np.any([_differ(read(), again()) for read, again in group], axis=0) for group in readers]
        for session in (one, other):
            session.learn(tick, last=False)
            session.move()
        return np.concatenate(found)

    return compare


def _differ(a: Any, b: Any) -> Array:
    """Return which rows of two arrays differ in any bit."""
    whole = np.dtype(f"u{a.dtype.itemsize}")
    first, second = (np.ascontiguousarray(x).view(whole).reshape(len(x), -1) for x in (a, b))
    return np.asarray((first != second).any(axis=1))


def changed_tasks(task: Task, start: Engine, vertex: str, seed: int = 0) -> tuple[Task, Task]:
    """Return two tasks that differ in one vertex alone: in its value at tick 0, its target, or its input."""
    kind = changed_kind(task, vertex)
    if kind == "value":
        given = task.initial[vertex] if vertex in task.initial else _first_value(start(task), vertex)
        plain = replace(task, initial={**task.initial, vertex: given})
        return plain, replace(plain, initial={**plain.initial, vertex: _moved(given, seed)})
    if kind == "input":
        return task, replace(task, inputs={**task.inputs, vertex: _moved(task.inputs[vertex], seed)})
    change = _mixed if LOSSES[task.losses[vertex]].takes_classes else _moved
    return task, replace(task, targets={**task.targets, vertex: change(task.targets[vertex], seed)})


def _first_value(session: Session, vertex: str) -> Array:
    """Return the value of a vertex at tick 0, (batch, *shape)."""
    session.predict(0)
    session.send(0)
    session.deliver(0)
    return np.array(session.reader("value", [vertex])()[0])


def _moved(given: Array, seed: int) -> Array:
    drawn = np.random.default_rng([seed, 14]).standard_normal(given.shape)
    return np.asarray(given + SIZE * drawn, given.dtype)


def _mixed(given: Array, seed: int) -> Array:
    """Return other probabilities of classes: each target mixed with drawn ones."""
    drawn = np.random.default_rng([seed, 14]).dirichlet(np.ones(given.shape[-1]), given.shape[:-1])
    return np.asarray((given + drawn) / 2, given.dtype)
