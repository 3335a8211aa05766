"""Runs side by side: one graph with other seeds, step sizes, inputs or targets, as one program that ticks once for all.

The tasks become one task over their disjoint union, in which vertex ``h`` of run 2 is ``h@2``. Equal actors of
different runs then stack by themselves: a tick costs as many array operations as one run's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import numpy as np

from pcsim.engines.base import begun_again, data_of, refuse_precisions
from pcsim.engines.contributions import contributes, contributions_of
from pcsim.engines.operands import buffer_names, buffers_of, draws_of, operands_of, source_value
from pcsim.errors import wrong
from pcsim.graph.channels import Acts, Channel
from pcsim.graph.graph import Graph
from pcsim.graph.levels import vertex_levels
from pcsim.ops.local import Local
from pcsim.program.lower import precision_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcsim.engines.base import Engine, Given, Read, Session, Task
    from pcsim.engines.state import State
    from pcsim.graph.graph import Edge, Parameter, Vertex
    from pcsim.ops.op import Params

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
    block : how many ticks fit into one call, as far as is known from those before
    evaluation : what measures the runs, kept for when they begin again
    """

    tasks: Sequence[Task]
    task: Task
    clock: Session
    names: Sequence[Mapping[str, str]]
    members: Sequence[Session] = ()
    block: int = 1
    evaluation: Any = None
    answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    taken: dict[int, dict[str, Array]] = field(default_factory=dict)

    def begin_again(self, given: Given) -> None:
        """Begin the only run again, with other data or parameters where they are given."""
        self.forget()
        self.clock.restart(**given)
        if any(given.values()):
            self.evaluation = None
            self.task = self.clock.task
            self.tasks = [self.task]

    def forget(self) -> None:
        """Begin again: answers and updates of the run before are dropped."""
        self.answers.clear()
        self.taken.clear()

    def end(self, run: int, tick: int) -> None:
        """Let one run learn what it learns only in its last tick, this one, though the others go on."""
        member = self.members[run]
        if isinstance(member, Member) and (late := _due_because_last(member.task, tick, member.fired())):
            self.taken[run] = dict(member.updates())
            for name, more in contributions(member.task, member, late).items():
                self.taken[run][name] = self.taken[run][name] + more

    def learn(self, tick: int, *, last: bool) -> None:
        """Let the parameters of all runs learn."""
        self.answers.clear()
        self.clock.learn(tick, last=last)

    def advance(
        self, first: int, end: int, *, last: bool, squares: Array | None = None, apart: Array | None = None
    ) -> None:
        """Advance ticks of all runs; ``squares`` and ``apart`` are in the order of the clock's layout."""
        self.answers.clear()
        self.clock.advance(first, end, last=last, squares=squares, apart=apart)

    def ask(self, what: str) -> Mapping[str, Any]:
        """Return ``updates``, ``parameters``, ``fired`` or ``frozen`` of all runs; they are asked for once a tick."""
        if what not in self.answers:
            self.answers[what] = getattr(self.clock, what)()
        return self.answers[what]

    def room(self, ticks: int) -> Array:
        """Return room for the squares of all runs at so many ticks, NaN until they are known."""
        return np.full((ticks, sum(map(len, self.clock.layout()))), np.nan)

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
        If a value of one of them becomes NaN or infinite in the feedforward sweep.
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
    ('h1@2', 'h1->h2#1@2')
    """
    return f"{name}@{run}"


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
    drawn = {joined(name, run): arrays for run, task in enumerate(tasks) for name, arrays in draws_of(task).items()}
    buffers = {
        f"{joined(name, run)}.{key}": array
        for run, task in enumerate(tasks)
        for name, arrays in buffers_of(task).items()
        for key, array in arrays.items()
    }
    parts |= {"draws": drawn, "buffers": buffers}
    seeds = [task.seed for task in tasks]
    return replace(first, graph=_copies(first.graph, seeds), step_sizes=sizes, **parts)


def _copies(graph: Graph, seeds: Sequence[int]) -> Graph:
    """Return copies of a graph side by side; vertex by vertex, so that rows read in order stay in order.

    ``seeds`` name the random numbers of each one's channels.
    """
    runs = len(seeds)
    vertices = {
        joined(name, run): _vertex(vertex, run, seeds[run])
        for name, vertex in graph.vertices.items()
        for run in range(runs)
    }
    parameters = {
        joined(name, run): _parameter(parameter, run)
        for name, parameter in graph.parameters.items()
        for run in range(runs)
    }
    edges = tuple(_edge(edge, run, seeds[run]) for edge in graph.edges for run in range(runs))
    outputs = tuple(joined(name, run) for name in graph.outputs for run in range(runs))
    return Graph(vertices, edges, parameters, outputs, graph.title, graph.source)


def _vertex(vertex: Vertex, run: int, seed: int) -> Vertex:
    params = tuple((slot, joined(parameter, run)) for slot, parameter in vertex.params)
    return replace(vertex, name=joined(vertex.name, run), params=params, acts=_seeded(vertex.acts, seed))


def _parameter(parameter: Parameter, run: int) -> Parameter:
    return replace(parameter, name=joined(parameter.name, run))


def _edge(edge: Edge, run: int, seed: int) -> Edge:
    # the key stays: it orders the messages to one vertex, and names their random numbers
    pre, post, name = (joined(each, run) for each in (edge.pre, edge.post, edge.name))
    value, error = (_seeded(channel, seed) for channel in (edge.value_channel, edge.error_channel))
    return replace(edge, pre=pre, post=post, name=name, value_channel=value, error_channel=error)


R = TypeVar("R", Channel, Acts)


def _seeded(row: R | None, seed: int) -> R | None:
    """Return a row whose random numbers are those of a run."""
    return row if row is None or row.seed is not None else replace(row, seed=seed)


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

    def deliver(self, tick: int) -> None:
        """Let all runs deliver."""
        self.ensemble.clock.deliver(tick)

    def learn(self, tick: int, *, last: bool) -> None:
        """Let all runs learn."""
        self.ensemble.learn(tick, last=last)

    def move(self) -> None:
        """Let all runs move."""
        self.ensemble.clock.move()

    def advance(
        self, first: int, end: int, *, last: bool, squares: Array | None = None, apart: Array | None = None
    ) -> None:
        """Let all runs advance; ``squares`` and ``apart`` are those of this one."""
        everyone = [None if kept is None else self.ensemble.room(end - first) for kept in (squares, apart)]
        self.ensemble.advance(first, end, last=last, squares=everyone[0], apart=everyone[1])
        columns = self.ensemble.columns(self.run)
        for kept, whole in zip((squares, apart), everyone, strict=True):
            if kept is not None and whole is not None:
                kept[...] = whole[:, columns]

    def compare_with(self, references: Mapping[str, Array] | None) -> None:
        """Refuse: runs side by side are compared all at once, by the clock that they share."""
        message = f"say it to the clock of all runs, not to run {self.run} (got {type(references).__name__})"
        raise TypeError(message)

    def restart(self, **given: Unpack[Given]) -> None:
        """Let all runs begin again, this one with other data."""
        refuse_precisions(given, "runs side by side keep theirs; use a session of its own")
        ensemble = self.ensemble
        ensemble.forget()
        self.task = begun_again(self.task, **given)
        ensemble.tasks = [self.task if run == self.run else task for run, task in enumerate(ensemble.tasks)]
        ensemble.clock.restart(**data_of(union(ensemble.tasks)))

    def snapshot(self) -> State:
        """Return the state of this run, without what its engine keeps for itself."""
        mine = {joined(name, self.run): name for name in (*self.task.graph.active, *self.task.graph.parameters)}
        mine |= {joined(edge.name, self.run): edge.name for edge in self.task.graph.edges}
        state = self.ensemble.clock.snapshot().renamed(mine.get)
        return replace(state, seed=self.task.seed, batch_number=self.task.batch_number)

    def load(self, _state: State, /) -> None:
        """Refuse: runs side by side have one clock, and one of them cannot go on from a tick of its own."""
        raise wrong("resume", "runs side by side have one clock; load the state into a session of its own")

    def buffers(self) -> dict[str, Array]:
        """Return what the ops of this run keep from batch to batch, as this batch leaves it."""
        found = self.ensemble.clock.buffers()
        return {
            f"{name}.{key}": found[f"{joined(name, self.run)}.{key}"] for name, key in buffer_names(self.task.graph)
        }

    def executed(self) -> dict[str, str]:
        """Return what works out each vertex of this run."""
        return self._of("executed", self.task.graph.active)

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return this run's active vertices by shape, in the order that all have."""
        return self.groups

    def reader(self, quantity: str, names: Sequence[str]) -> Read:
        """Return a function that reads a quantity of this run."""
        return self.ensemble.clock.reader(quantity, [joined(name, self.run) for name in names])

    def updates(self, *, copy: bool = True) -> dict[str, Array]:  # noqa: ARG002  they are copies
        """Return what each parameter of this run has learnt."""
        taken = self.ensemble.taken.get(self.run)
        return self._of("updates", self.task.graph.parameters) if taken is None else taken

    def parameters(self, *, copy: bool = True) -> dict[str, Array]:  # noqa: ARG002  they are copies
        """Return the value now of each parameter of this run."""
        return self._of("parameters", self.task.graph.parameters)

    def fired(self) -> dict[str, int]:
        """Return the tick at which the parameters that each vertex of this run uses took its error."""
        return self._of("fired", self.task.graph.active)

    def frozen(self) -> dict[str, int]:
        """Return the vertices of this run that were frozen, and the tick."""
        return self._of("frozen", self.task.graph.active)

    def _of(self, what: str, names: Any) -> dict[str, Any]:
        found = self.ensemble.ask(what)
        return {name: found[key] for name in names if (key := joined(name, self.run)) in found}


def _due_because_last(task: Task, tick: int, fired: Mapping[str, int]) -> list[str]:
    """Return the vertices that fire at a tick if it is the last one, and else do not; ``fired`` has those that have."""
    levels, row = vertex_levels(task.graph), task.rule.fires
    numbers = {name: -1 if (level := levels[name]) is None else level for name in task.graph.active}
    late = (name for name, level in numbers.items() if row.due(tick, level, True) and not row.due(tick, level, False))
    return [name for name in late if not (row.waits and name in fired)]


def contributions(task: Task, session: Session, names: Sequence[str]) -> dict[str, Array]:
    """Return what each parameter learns from some vertices at this tick, (d mu / d p)^T Pi eps."""
    graph, held, operands = task.graph, session.parameters(), operands_of(task)
    theta = {name: np.asarray(held[name])[None] for name in graph.parameters}
    learnt = {name: np.zeros_like(value) for name, value in theta.items()}
    with np.errstate(all="ignore"):
        for name in names:
            vertex = graph.vertices[name]
            if contributes(graph, name):
                params = {slot: theta[parameter] for slot, parameter in vertex.params} | operands.get(name, {})
                g = _credit(task, session, name)
                local = _local(task, session, vertex, params, theta)
                for parameter, received in contributions_of(graph, name, local, g):
                    learnt[parameter][...] += received
    variance = task.dtype.type(task.rule.output_variance)
    return {name: value[0] if variance == 1 else variance * value[0] for name, value in learnt.items()}


def _credit(task: Task, session: Session, name: str) -> Array:
    """Return what the parameters of a vertex learn from at this tick, (1, batch, *shape)."""
    if task.rule.keeps_multipliers:
        return session.reader("credit", [name])()
    precision = np.asarray(precision_of(task.graph, name, task.rule), task.dtype)
    return np.asarray(precision * session.reader("error", [name])())


def _local(task: Task, session: Session, vertex: Vertex, params: Params, theta: Mapping[str, Array]) -> Local:
    """Return a vertex's call with the inputs that it sees at this tick."""
    inputs = tuple(_arrived(task, session, edge, theta) for edge in task.graph.incoming[vertex.name])
    mu, saved = vertex.op.forward(np, vertex.call, params, inputs)
    return Local(np, vertex.op, vertex.call, params, params, inputs, mu, saved, vertex.feedback)


def _arrived(task: Task, session: Session, edge: Edge, theta: Mapping[str, Array]) -> Array:
    """Return an input as the vertex sees it at this tick, (1, batch, *shape)."""
    role = task.graph.role(edge.pre)
    if role == "parameter":
        return theta[task.graph.vertices[edge.pre].params[0][1]][:, None]
    if role == "source":
        return source_value(task, edge.pre)[None]
    if task.rule.moving:
        return session.reader("value message", [edge.name])()
    return session.reader("prediction", [edge.pre])()
