"""Delays that each vertex learns from its own inbox, until all its errors arrive together.

A vertex knows when the first error has come over each edge that it feeds, and nothing else of the graph. In each round
one wave of errors runs back from the outputs. The vertex then lengthens each edge by as much as its error was ahead of
the last one, and shortens all of them by what even the shortest has too much. Once the vertices nearer the outputs have
settled, one round settles a vertex; so after at most as many rounds as a graph is deep all errors arrive together, and
the delays are those of levelling ([S] algorithm 2), which looks at the whole graph.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines import open_engine
from pcsim.errors import wrong
from pcsim.graph.crossings import why_channels
from pcsim.graph.levels import levels, vertex_levels
from pcsim.rules import rule
from pcsim.scenario.reader import load
from pcsim.scenario.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.engines.base import Task
    from pcsim.graph.graph import Edge, Graph
    from pcsim.scenario.reader import Source


@dataclass(frozen=True)
class DelayRound:
    """What one wave of errors showed.

    Attributes
    ----------
    round : counted from 0
    slack : ticks by which errors at the same vertex came apart, summed over vertices
    uneven : vertices at which some did
    delay : ticks of error delay on all edges, before this round changed them
    """

    round: int
    slack: int
    uneven: int
    delay: int


@dataclass(frozen=True)
class DelayLearning:
    """Delays learnt by a local rule: the graph that has them, and each round on the way.

    Attributes
    ----------
    graph : the graph with the delays of the last round
    rounds : what each wave showed; in the last one the slack is 0 if the rule has settled
    silent : edges over which no error came (a slope of zero): their delays stay
    """

    graph: Graph
    rounds: tuple[DelayRound, ...]
    silent: tuple[str, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether all errors of each vertex arrive together."""
        return self.rounds[-1].slack == 0

    def plain(self) -> dict[str, Any]:
        """Return everything as data that JSON can hold."""
        delays = {edge.name: edge.error_delay for edge in self.graph.edges if edge.error_delay}
        rounds = [asdict(row) for row in self.rounds]
        return {"settled": self.settled, "rounds": rounds, "delays": delays, "silent": list(self.silent)}

    def __repr__(self) -> str:
        last = self.rounds[-1]
        return f"DelayLearning({len(self.rounds)} rounds, slack {last.slack}, {last.delay} ticks of delay)"


def learn_delays(
    source: Scenario | Source, overrides: Mapping[str, Any] | None = None, *, rounds: int | None = None
) -> DelayLearning:
    """Learn delays of a scenario's graph, as it is before levelling, by a local rule: errors then arrive together.

    Parameters
    ----------
    source, overrides : a Scenario, or what ``pcsim.load`` takes; its data make the errors of each wave
    rounds : at most so many; default: as many as the graph is deep, and one to see it

    Raises
    ------
    InputError
        Where an edge has a channel, or a vertex waits for errors that cannot come: no output can be reached from it.
    """
    scenario = source if isinstance(source, Scenario) else load(source, overrides)
    task = replace(scenario.task(), graph=scenario.unlevelled)
    _refuse(task.graph)
    most = rounds or max(task.graph.depths.values()) + 1
    shortest = {edge.name: edge for edge in task.graph.edges}
    found: list[DelayRound] = []
    while True:
        arrivals = listen(task)
        found.append(_seen(len(found), task.graph, arrivals))
        if not found[-1].slack or len(found) == most:
            break
        task = replace(task, graph=_changed(task.graph, shortest, arrivals))
    listening = {name for inbox in arrivals.values() for name in inbox}
    free = [edge for edge in task.graph.edges if task.graph.role(edge.pre) == "free"]
    return DelayLearning(task.graph, tuple(found), tuple(edge.name for edge in free if edge.name not in listening))


def _refuse(graph: Graph) -> None:
    if graph.has_channels:
        raise wrong("channels", f"{why_channels(graph)}: arrivals of one wave say nothing of the next; leave it out")
    if dead := [name for name in graph.active if vertex_levels(graph)[name] is None]:
        raise wrong("graph", f"no output can be reached from {dead[0]!r}: no error comes from which it could learn")


def listen(task: Task) -> dict[str, dict[str, int]]:
    """Return {vertex: {edge that it feeds: the tick at which the first error came}}, of one wave of errors.

    Predictions stay as they are, so that a vertex sends once something has come, and nothing else moves it.
    """
    wave = rule("fpa", step_size=1.0)
    ticks = levels(task.graph) + 1
    session = open_engine("numpy")(replace(task, rule=wave, ticks=ticks, exact_dynamics=True, initial={}))
    groups: dict[Any, list[Edge]] = defaultdict(list)
    for edge in task.graph.edges:
        if task.graph.role(edge.pre) == "free":
            groups[task.graph.vertices[edge.pre].shape].append(edge)
    readers = [(edges, session.reader("error message", [edge.name for edge in edges])) for edges in groups.values()]
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for tick in range(ticks):
        session.predict(tick)
        session.send(tick)
        session.deliver(tick)
        for edges, read in readers:
            for edge, message in zip(edges, read(), strict=True):
                if np.any(message):
                    found[edge.pre].setdefault(edge.name, tick)
        session.move()
    return found


def chosen_delays(
    delays: Mapping[str, int], shortest: Mapping[str, int], arrivals: Mapping[str, int]
) -> dict[str, int]:
    """Return the delays that one vertex chooses, from when errors came over its edges: the local rule.

    >>> chosen_delays({"a": 0, "b": 1}, {"a": 0, "b": 1}, {"a": 2, "b": 5})
    {'a': 3, 'b': 1}
    """
    last = max(arrivals.values())
    longer = {edge: delays[edge] + last - tick for edge, tick in arrivals.items()}
    excess = min(longer[edge] - shortest[edge] for edge in longer)
    return {edge: ticks - excess for edge, ticks in longer.items()}


def _changed(graph: Graph, shortest: Mapping[str, Edge], arrivals: Mapping[str, Mapping[str, int]]) -> Graph:
    new: dict[str, int] = {}
    for name, inbox in arrivals.items():
        now = {edge.name: edge.error_delay for edge in graph.outgoing[name]}
        new |= chosen_delays(now, {edge: shortest[edge].error_delay for edge in now}, inbox)
    edges = []
    for edge in graph.edges:
        first, ticks = shortest[edge.name], new.get(edge.name, edge.error_delay)
        more = ticks - first.error_delay
        edges.append(replace(edge, error_delay=ticks, value_delay=first.value_delay + more))
    return replace(graph, edges=tuple(edges))


def _seen(number: int, graph: Graph, arrivals: Mapping[str, Mapping[str, int]]) -> DelayRound:
    apart = [max(inbox.values()) - min(inbox.values()) for inbox in arrivals.values()]
    return DelayRound(number, sum(apart), sum(map(bool, apart)), sum(edge.error_delay for edge in graph.edges))
