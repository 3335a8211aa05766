"""Runs side by side: one graph with other seeds, step sizes, inputs or targets, as one program that ticks once for all.

The tasks become one task over their disjoint union, in which vertex ``h`` of run 2 is ``h@2``. Equal actors of
different runs then stack by themselves: a tick costs as many array operations as one run's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import wrong
from pcsim.graph.graph import Graph
from pcsim.program.lower import precision_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcsim.engines.base import Engine, Read, Session, Task
    from pcsim.graph.graph import Edge, Parameter, Vertex

Array = np.ndarray


@dataclass
class Ensemble:
    """Runs of one clock.

    Attributes
    ----------
    tasks : of each run
    task, clock : the union of the tasks, and its session, which ticks
    names : of each run, {active vertex: what the union calls it}
    members : of each run, a session that is read under the run's own names; to drive it is to drive all
    """

    tasks: Sequence[Task]
    task: Task
    clock: Session
    names: Sequence[Mapping[str, str]]
    members: Sequence[Session] = ()
    answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    taken: dict[int, dict[str, Array]] = field(default_factory=dict)

    def forget(self) -> None:
        """Begin again: what was answers and taken counts no more."""
        self.answers.clear()
        self.taken.clear()

    def end(self, run: int) -> None:
        """Let one run learn what it learns in its last tick, which stands still, though the others go on."""
        member = self.members[run]
        if self.task.rule.fires == "end" and isinstance(member, Member):
            self.taken[run] = contributions(member.task, member)

    def learn(self, tick: int, *, last: bool) -> None:
        """Let the parameters of all runs learn."""
        self.answers.clear()
        self.clock.learn(tick, last=last)

    def advance(self, first: int, end: int, *, last: bool, norms: Array | None = None) -> None:
        """Advance ticks of all runs; ``norms`` are in the order of the clock's layout."""
        self.answers.clear()
        self.clock.advance(first, end, last=last, norms=norms)

    def ask(self, what: str) -> Mapping[str, Any]:
        """Return ``updates``, ``parameters``, ``fired`` or ``rested`` of all runs; they are asked for once a tick."""
        if what not in self.answers:
            self.answers[what] = getattr(self.clock, what)()
        return self.answers[what]

    def columns(self, run: int) -> Array:
        """Return where the vertices of a run are in the clock's layout, by the layout of its member."""
        places = {name: place for place, name in enumerate(name for group in self.clock.layout() for name in group)}
        return np.array(
            [places[self.names[run][name]] for group in self.members[run].layout() for name in group], np.intp
        )


def alone(task: Task, start: Engine) -> Ensemble:
    """Return one run, as runs side by side are returned."""
    session = start(task)
    return Ensemble([task], task, session, [{name: name for name in task.graph.active}], [session])


def together(tasks: Sequence[Task], start: Engine) -> Ensemble:
    """Start runs side by side.

    Raises
    ------
    InputError
        If the tasks differ in more than parameters, data and step size.
    RunError
        If the numbers of one of them end in the feedforward sweep.
    """
    for number, task in enumerate(tasks):
        if different := _differences(tasks[0], task):
            raise wrong(("tasks", number), f"cannot run beside the first: it differs in {', '.join(different)}")
    names = [{name: joined(name, run) for name in tasks[0].graph.active} for run in range(len(tasks))]
    whole = union(tasks)
    ensemble = Ensemble(tasks, whole, start(whole), names)
    ensemble.members = [Member(task, run, ensemble) for run, task in enumerate(tasks)]
    return ensemble


def agree(tasks: Sequence[Task]) -> bool:
    """Return whether tasks can run side by side."""
    return not any(_differences(tasks[0], task) for task in tasks)


def _differences(first: Task, other: Task) -> list[str]:
    """Return in what two tasks differ that must be one in an ensemble."""
    same = ("ticks", "batch", "dtype", "keep_values", "exact_dynamics")
    found = [key for key in same if getattr(first, key) != getattr(other, key)]
    found += [] if _equal(first.graph, other.graph) else ["graph"]
    found += ["rule"] if replace(first.rule, step_size=other.rule.step_size) != other.rule else []
    found += ["loss"] if dict(first.losses) != dict(other.losses) else []
    return found + (["initial"] if set(first.initial) != set(other.initial) else [])


def _equal(first: Graph, other: Graph) -> bool:
    """Return whether two graphs are one; how parameters begin does not count, and arrays are one or they differ."""
    if first is other:
        return True
    try:
        same_vertices = dict(first.vertices) == dict(other.vertices)
    except ValueError:  # arrays in a call
        return False
    shapes = ({name: row.shape for name, row in graph.parameters.items()} for graph in (first, other))
    return (
        same_vertices and first.edges == other.edges and first.outputs == other.outputs and next(shapes) == next(shapes)
    )


def joined(name: str, run: int) -> str:
    """Return what the union calls a vertex, an edge or a parameter of a run.

    >>> joined("h1", 2), joined("h1->h2#1", 2)
    ('h1@2', 'h1@2->h2@2#1')
    """
    if "->" not in name:
        return f"{name}@{run}"
    pre, _, rest = name.partition("->")
    post, mark, number = rest.partition("#")
    return f"{pre}@{run}->{post}@{run}{mark}{number}"


def union(tasks: Sequence[Task]) -> Task:
    """Return the disjoint union of tasks that may run side by side."""
    first = tasks[0]
    per_run = ("parameters", "inputs", "targets", "losses", "initial")
    parts: dict[str, Any] = {
        key: {joined(name, run): value for run, task in enumerate(tasks) for name, value in getattr(task, key).items()}
        for key in per_run
    }
    free = [name for name in first.graph.active if first.graph.role(name) == "free"]
    sizes = {
        joined(name, run): size
        for run, task in enumerate(tasks)
        for name in free
        if (size := task.step_sizes.get(name, task.rule.step_size)) != first.rule.step_size
    }
    return replace(first, graph=_copies(first.graph, len(tasks)), step_sizes=sizes, **parts)


def _copies(graph: Graph, runs: int) -> Graph:
    """Return as many copies of a graph side by side; vertex by vertex, so that rows read in order stay in order."""
    vertices = {
        joined(name, run): _vertex(vertex, run) for name, vertex in graph.vertices.items() for run in range(runs)
    }
    parameters = {
        joined(name, run): _parameter(parameter, run)
        for name, parameter in graph.parameters.items()
        for run in range(runs)
    }
    edges = tuple(_edge(edge, run) for edge in graph.edges for run in range(runs))
    outputs = tuple(joined(name, run) for name in graph.outputs for run in range(runs))
    return Graph(vertices, edges, parameters, outputs, graph.title, graph.source)


def _vertex(vertex: Vertex, run: int) -> Vertex:
    params = tuple((slot, joined(parameter, run)) for slot, parameter in vertex.params)
    return replace(vertex, name=joined(vertex.name, run), params=params)


def _parameter(parameter: Parameter, run: int) -> Parameter:
    return replace(parameter, name=joined(parameter.name, run))


def _edge(edge: Edge, run: int) -> Edge:
    # the key stays: it orders the messages to one vertex, and these are all of one run
    return replace(edge, pre=joined(edge.pre, run), post=joined(edge.post, run), name=joined(edge.name, run))


class Member:
    """One of the runs, under its own names. To drive it is to drive all: there is one clock."""

    def __init__(self, task: Task, run: int, ensemble: Ensemble) -> None:
        self.task, self.run, self.ensemble = task, run, ensemble
        mine = {name: own for own, name in ensemble.names[run].items()}
        groups = [tuple(mine[name] for name in group if name in mine) for group in ensemble.clock.layout()]
        self.groups = [group for group in groups if group]

    def predict(self, tick: int) -> None:
        """Let all runs predict."""
        self.ensemble.clock.predict(tick)

    def send(self, tick: int) -> None:
        """Let all runs send."""
        self.ensemble.clock.send(tick)

    def learn(self, tick: int, *, last: bool) -> None:
        """Let all runs learn."""
        self.ensemble.learn(tick, last=last)

    def move(self) -> None:
        """Let all runs move."""
        self.ensemble.clock.move()

    def advance(self, first: int, end: int, *, last: bool, norms: Array | None = None) -> None:
        """Let all runs play; ``norms`` are those of this one."""
        everyone = None if norms is None else np.empty((end - first, len(self.ensemble.task.graph.active)))
        self.ensemble.advance(first, end, last=last, norms=everyone)
        if norms is not None and everyone is not None:
            norms[...] = everyone[:, self.ensemble.columns(self.run)]

    def restart(
        self,
        inputs: Mapping[str, Array] | None = None,
        targets: Mapping[str, Array] | None = None,
        parameters: Mapping[str, Array] | None = None,
    ) -> None:
        """Let all runs begin again, this one with other data."""
        self.ensemble.forget()
        given = (
            None if data is None else {joined(name, self.run): value for name, value in data.items()}
            for data in (inputs, targets, parameters)
        )
        self.ensemble.clock.restart(*given)

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return this run's active vertices by shape, in the order that all have."""
        return self.groups

    def reader(self, quantity: str, names: Sequence[str]) -> Read:
        """Return a function that reads a quantity of this run."""
        return self.ensemble.clock.reader(quantity, [joined(name, self.run) for name in names])

    def updates(self) -> dict[str, Array]:
        """Return what each parameter of this run has learnt."""
        taken = self.ensemble.taken.get(self.run)
        return self._of("updates", self.task.graph.parameters) if taken is None else taken

    def parameters(self) -> dict[str, Array]:
        """Return the value now of each parameter of this run."""
        return self._of("parameters", self.task.graph.parameters)

    def fired(self) -> dict[str, int]:
        """Return the tick at which each vertex of this run taught its parameters."""
        return self._of("fired", self.task.graph.active)

    def frozen(self) -> dict[str, int]:
        """Return the vertices of this run that were put to rest, and the tick."""
        return self._of("rested", self.task.graph.active)

    def _of(self, what: str, names: Any) -> dict[str, Any]:
        found = self.ensemble.ask(what)
        return {name: found[key] for name in names if (key := joined(name, self.run)) in found}


def contributions(task: Task, session: Session) -> dict[str, Array]:
    """Return what each parameter would learn from this tick: (d mu / d p)^T Pi eps, summed over users and batch."""
    graph, held = task.graph, session.parameters()
    theta = {name: np.asarray(held[name])[None] for name in graph.parameters}
    learnt = {name: np.zeros_like(value) for name, value in theta.items()}
    with np.errstate(all="ignore"):
        for name in graph.active:
            leaves = [edge for edge in graph.incoming[name] if graph.role(edge.pre) == "parameter"]
            if graph.vertices[name].params or leaves:
                _accumulate(task, session, graph.vertices[name], theta, learnt)
    variance = task.dtype.type(task.rule.output_variance)
    return {name: value[0] if variance == 1 else variance * value[0] for name, value in learnt.items()}


def _accumulate(
    task: Task, session: Session, vertex: Vertex, theta: Mapping[str, Array], learnt: Mapping[str, Array]
) -> None:
    graph, op, call = task.graph, vertex.op, vertex.call
    edges = graph.incoming[vertex.name]
    inputs = tuple(_arrived(task, session, edge, theta) for edge in edges)
    params = {slot: theta[name] for slot, name in vertex.params}
    mu, saved = op.forward(np, call, params, inputs)
    precision = np.asarray(precision_of(graph, vertex.name, task.rule), task.dtype)
    g = precision * session.reader("error", [vertex.name])()
    if vertex.params:
        used = dict(vertex.params)
        for slot, contribution in op.to_params(np, call, params, inputs, mu, saved, g).items():
            learnt[used[slot]][...] += contribution
    if any(graph.role(edge.pre) == "parameter" for edge in edges):
        for edge, message in zip(edges, op.to_inputs(np, call, params, inputs, mu, saved, g), strict=True):
            if graph.role(edge.pre) == "parameter":
                learnt[graph.vertices[edge.pre].params[0][1]][...] += message[:, 0]


def _arrived(task: Task, session: Session, edge: Edge, theta: Mapping[str, Array]) -> Array:
    """Return an input as the vertex sees it at this tick, (1, batch, *shape)."""
    role = task.graph.role(edge.pre)
    if role == "parameter":
        return theta[task.graph.vertices[edge.pre].params[0][1]][:, None]
    if task.rule.moving:
        return session.reader("value message", [edge.name])()
    return session.reader("value" if role == "source" else "prediction", [edge.pre])()
