"""The state of a run between two ticks, keyed by vertex, edge and parameter: the same for every engine."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import InputError, Problem
from pcsim.graph.crossings import crossings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pcsim.engines.base import Task
    from pcsim.graph.crossings import Kind
    from pcsim.graph.graph import Graph

Array = np.ndarray
Arrays = dict[str, Array]


@dataclass(frozen=True)
class State:
    """Everything from which a run goes on, given its task. Arrays are copies, on the host.

    Feedforward values are no part of it: they follow from the task. Vertices on cycles have none; their deviations are
    from the values that they began with, which are here.

    Attributes
    ----------
    tick : the next tick
    deviations : {active vertex: (batch, *shape)}, values less feedforward values
    values : {vertex: (ticks, batch, *shape)}, value messages under way by sender: its deviations in the last ticks, the
        oldest first, of free vertices from which some edge has a value delay
    errors : {edge: (ticks, batch, *shape)}, error messages under way: row k is due at ``tick + k``
    parameters, updates : {parameter: (*shape)}, values, and what has been learnt
    applied : what of the updates the values have taken already, under rules that learn within the run
    fired, frozen : {vertex: tick}
    seed, batch_number : name the random draws of this batch
    multipliers : {free vertex: (batch, *shape)}, under rules whose vertices keep one
    value_channels, error_channels : {edge: (arrays, batch, *shape)}, of what crosses a channel: what its receiver holds
        and the tick at which that was sent, what was sent last, how often each unit has sent and how often that was
        lost; then what was sent at each tick from which something may be under way, the oldest first, and which units
        sent it
    starts : {vertex on a cycle: (batch, *shape)}, the value that it began with
    engine, private : the engine that made it, and what beyond the above lets that engine go on bit for bit
    """

    tick: int
    deviations: Arrays
    values: Arrays
    errors: Arrays
    parameters: Arrays
    updates: Arrays
    applied: Arrays
    fired: dict[str, int]
    frozen: dict[str, int]
    seed: int = 0
    batch_number: int = 0
    engine: str = ""
    private: Arrays = field(default_factory=dict)
    multipliers: Arrays = field(default_factory=dict)
    value_channels: Arrays = field(default_factory=dict)
    error_channels: Arrays = field(default_factory=dict)
    starts: Arrays = field(default_factory=dict)

    def __repr__(self) -> str:
        waiting = sum(map(len, self.errors.values())) + sum(map(len, self.values.values()))
        return f"State(tick {self.tick}, {len(self.deviations)} vertices, {waiting} messages under way)"

    def own(self, engine: str) -> Arrays:
        """Return what an engine kept for itself; nothing of another's."""
        return self.private if self.engine == engine else {}

    def renamed(self, kept: Callable[[str], str | None]) -> State:
        """Return the state under other names; names for which ``kept`` returns None are left out."""

        def changed(found: Mapping[str, Any]) -> dict[str, Any]:
            return {new: value for name, value in found.items() if (new := kept(name)) is not None}

        parts: dict[str, Any] = {key: changed(getattr(self, key)) for key in NAMED}
        return State(self.tick, **parts, seed=self.seed, batch_number=self.batch_number)


CHANNELS: dict[Kind, str] = {"value": "value_channels", "error": "error_channels"}
ARRAYS = ("deviations", "values", "errors", "parameters", "updates", "applied", "multipliers", "starts",
          *CHANNELS.values())  # fmt: skip
"""The fields that hold arrays by name."""

NAMED = (*ARRAYS, "fired", "frozen")
"""All fields that are keyed by vertex, edge or parameter."""

assert set(NAMED) < {one.name for one in fields(State)}


def history_lengths(graph: Graph) -> dict[str, int]:
    """Return {free vertex: ticks}: how long each vertex's values are under way at most, where some edge delays them."""
    longest: dict[str, int] = {}
    for edge in graph.edges:
        crosses = (edge.name, "value") in crossings(graph)
        if edge.value_delay and graph.role(edge.pre) == "free" and not crosses:
            longest[edge.pre] = max(longest.get(edge.pre, 0), edge.value_delay)
    return longest


def multiplied(task: Task) -> list[str]:
    """Return the vertices that keep a multiplier under a task's rule."""
    graph = task.graph
    return [name for name in graph.active if task.rule.keeps_multipliers and graph.role(name) == "free"]


def starts(task: Task) -> Arrays:
    """Return {vertex on a cycle: (batch, *shape)}, the values that these began with."""
    return {name: np.array(task.initial[name], task.dtype) for name in sorted(task.graph.cyclic)}


def past(history: Array | None, ticks: int, like: Array) -> Array:
    """Return the last so many rows of a history, with zeros before its beginning: (ticks, *like.shape)."""
    found = np.zeros((ticks, *like.shape), like.dtype)
    if history is not None and (count := min(ticks, len(history))):
        found[ticks - count :] = history[len(history) - count :]
    return found


def check(state: State, task: Task) -> None:
    """Check that a state is one of a task; raises InputError naming what does not fit."""
    if problems := list(_problems(state, task)):
        raise InputError(problems)


def _problems(state: State, task: Task) -> Iterator[Problem]:
    graph, batch = task.graph, task.batch
    shapes = {name: (batch, *graph.vertices[name].shape) for name in graph.active}
    late = {edge.name: (edge.error_delay, *shapes[edge.pre]) for edge in delayed_edges(graph)}
    parameters = {name: row.shape for name, row in graph.parameters.items()}
    multipliers = {name: shapes[name] for name in multiplied(task)}
    expected = (("deviations", shapes), ("errors", late), ("parameters", parameters), ("updates", parameters))
    begun = {name: shapes[name] for name in graph.cyclic}
    crossing: dict[str, dict[str, Any]] = {key: {} for key in CHANNELS.values()}
    for (name, kind), one in crossings(graph).items():
        crossing[CHANNELS[kind]][name] = (one.arrays, *shapes[one.edge.pre])
    for key, wanted in (*expected, ("multipliers", multipliers), ("starts", begun), *crossing.items()):
        yield from _compare(key, getattr(state, key), wanted, task.dtype)
    if not 0 <= state.tick <= task.ticks:
        yield Problem(("resume",), f"the state is that before tick {state.tick}, of a run of {task.ticks} ticks")


def _compare(key: str, found: Mapping[str, Array], wanted: Mapping[str, Any], dtype: Any) -> Iterator[Problem]:
    if missing := sorted(wanted.keys() ^ found.keys()):
        yield Problem(("resume",), f"the state is of another graph: its {key} differ in {', '.join(missing[:3])}")
        return
    for name, shape in wanted.items():
        if found[name].shape != shape:
            got, expected = list(found[name].shape), list(shape)
            yield Problem(("resume",), f"the state is of another run: {key} of {name!r} are {got}, expected {expected}")
        elif found[name].dtype != dtype:
            message = f"the state is of another number format: {key} of {name!r} are {found[name].dtype}, not {dtype}"
            yield Problem(("resume",), message)


def delayed_edges(graph: Graph) -> list[Any]:
    """Return the edges over which errors travel for a tick or more, on a line of their own."""
    known = crossings(graph)
    free = (edge for edge in graph.edges if edge.error_delay and (edge.name, "error") not in known)
    return [edge for edge in free if graph.vertices[edge.pre].op.role == "function"]
