"""What each actor knew: what its update read, how far a change came, and what each rule needs beyond that.

Nothing here asks for the name of a rule: what is told follows from facts of its row, from reads that were seen in the
``actors`` engine, from changes that were followed tick by tick, and from runs beside backprop's update.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from pcsim.analysis.light_cones import Cone, changed_kind, measured_cone
from pcsim.claims.rule_needs import need_rows
from pcsim.claims.rules_compared import compared, with_times
from pcsim.engines import ENGINES, open_engine
from pcsim.engines.base import tick_by_tick
from pcsim.engines.isolation import Reads, Witness
from pcsim.errors import Attempts, InputError, Problem, wrong
from pcsim.graph.graph import number_format
from pcsim.rules import RULES, Rule, rule
from pcsim.run.task import engine_of
from pcsim.scenario.reader import load
from pcsim.scenario.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcsim.engines.base import Task
    from pcsim.scenario.reader import Source

Row = dict[str, Any]

WITNESS = "actors"
"""The engine whose actors are watched."""
WATCHED_TICKS = 3
"""Ticks in which actors are watched: what an op reads does not depend on when."""
MOST_WATCHED = 300
"""Actors of a graph that are watched; the memory of each is hidden from each other one."""


@dataclass(frozen=True)
class LocalityReport:
    """What a scenario's actors read, how far changes travel, and what rules need; every table is a list of plain rows.

    Attributes
    ----------
    facts : title, rule, engine, actors, edges, parameters
    actors : a row for each actor under the scenario's rule: of which edges it read values and errors in a tick, and
        whether what it sends or learns depends on its parameters and on inputs kept from the feedforward sweep
    cones : a row for each change and vertex: distance in ticks, and the tick at which the first bit differed
    needs : a row for each rule and need beyond locality in space: what for, and how many actors it concerns
    rules : a row for each rule, side by side: update beside backprop's, motion, slope of the free energy, ticks
    outside : changes that came before their distance, and actors that touched what is not theirs: none, or why
    """

    facts: Row
    actors: list[Row]
    cones: list[Row]
    needs: list[Row]
    rules: list[Row]
    outside: list[str]

    def as_dict(self) -> Row:
        """Return all tables as plain data."""
        return {row.name: getattr(self, row.name) for row in fields(self)}

    def __str__(self) -> str:
        facts = self.facts
        lines = [f"{facts['title'] or 'locality'}: {facts['actors']} actors, rule {facts['rule']}"]
        reached = [row for row in self.cones if row["distance"] is not None]
        same = sum(row["distance"] == row["arrival"] for row in reached)
        lines += [f"changes reached {same} of {len(reached)} vertices at their distance, {len(self.outside)} before"]
        own = [row for row in self.needs if row["rule"] == facts["rule"] and row["actors"]]
        lines += [f"beyond locality: {row['need']} ({row['actors']} of {row['of']} {row['what']})" for row in own]
        return "\n".join(lines)


def locality(
    source: Scenario | Source,
    overrides: Mapping[str, Any] | None = None,
    *,
    vertices: Sequence[str] | None = None,
    rules: Sequence[str | Mapping[str, Any]] | None = None,
    engine: str | None = None,
    times: bool = False,
) -> LocalityReport:
    """Return what actors read, how far changes travel and what rules need beyond their neighbours' messages.

    Parameters
    ----------
    source, overrides : a Scenario, or a path or mapping that ``pcsim.load`` takes, and {dotted key: value}
    vertices : those that are changed, each in a run of its own; default: an output, a vertex between, an input
    rules : names or settings as under ``rule`` of a scenario; default: the scenario's own, and every other row
    engine : for the changes; default: the scenario's own. Reads are seen in ``actors``
    times : each rule is also run until it converges, and its time told beside backprop's ([Z] result 3)

    Raises InputError for what is wrong, RunError where an actor touches what is not its own.
    """
    scenario = source if isinstance(source, Scenario) else load(source, overrides)
    if scenario.document.solve != "simulate":
        raise wrong("solve", f"{scenario.document.solve} has no ticks to look at; leave it out, or say simulate")
    asked = _Asked(scenario, rules)
    name, start = engine_of(scenario, engine)
    task = scenario.task()
    changed = default_changes(task) if vertices is None else list(vertices)
    asked.check_changes(task, changed)
    cones = [measured_cone(task, start, vertex) for vertex in changed]
    side_by_side = [compared(scenario, row) for row in asked.rules]
    watched = {row.name: watched_reads(task, row) for row in asked.rules}
    facts = {
        "title": scenario.document.title,
        "rule": scenario.rule.name,
        "engine": name,
        "actors": len(task.graph.active),
        "edges": len(task.graph.edges),
        "parameters": len(task.parameters),
    }
    return LocalityReport(
        facts,
        actors=actor_rows(task, watched[scenario.rule.name] or {}),
        cones=[row for cone in cones for row in cone.rows()],
        needs=[row for one in asked.rules for row in need_rows(task, one, watched[one.name])],
        rules=with_times(scenario, asked.rules, side_by_side) if times else side_by_side,
        outside=[_outside(cone, *found) for cone in cones for found in cone.outside],
    )


class _Asked(Attempts):
    """What was asked for, checked before anything runs."""

    def __init__(self, scenario: Scenario, rules: Any) -> None:
        self.problems: list[Problem] = []
        own = scenario.rule
        if rules is None:
            self.rules = [own, *(row for row in RULES.values() if row.name != own.name)]
            return
        settings = [{"name": one} if isinstance(one, str) else dict(one) for one in rules]
        found = [self.attempt(lambda one=one: rule(**{"name": "", **one})) for one in settings]  # type: ignore[misc]
        others = [row for row in found if row is not None and row.name != own.name]
        self.rules = [own, *others]

    def check_changes(self, task: Task, vertices: Sequence[str]) -> None:
        """Raise InputError with everything that is wrong."""
        for vertex in vertices:
            self.attempt(lambda vertex=vertex: changed_kind(task, vertex))  # type: ignore[misc]
        if self.problems:
            raise InputError(self.problems)


def default_changes(task: Task) -> list[str]:
    """Return the first output, the free vertex in the middle, and the first input of floating-point numbers."""
    graph = task.graph
    free = [name for name in graph.active if graph.role(name) == "free"]
    inputs = [name for name in task.inputs if number_format(graph.vertices[name]) == "float"]
    return [*graph.outputs[:1], *free[len(free) // 2 :][:1], *inputs[:1]]


def _outside(cone: Cone, vertex: str, tick: int) -> str:
    return f"{cone.kind} of {cone.vertex} changed {vertex} at tick {tick}, distance {cone.distance[vertex]}"


# -- what was read -------------------------------------------------------------------------------------------


def watched_reads(task: Task, row: Rule) -> dict[str, Reads] | None:
    """Return what each actor read under a rule; None where no actors run it, or there are too many.

    Raises RunError where one touched what is not its own.
    """
    if ENGINES[WITNESS].refusal(row) or len(task.graph.active) > MOST_WATCHED:
        return None
    session: Any = open_engine(WITNESS)(replace(task, rule=row, ticks=WATCHED_TICKS))
    witness = Witness(session)
    tick_by_tick(session, 0, WATCHED_TICKS, last=True)
    for actor in session.actors.values():  # rules that fire later learn from the same factors
        if actor.vertex.params:
            witness(actor, "learn", actor.contributions)
    return dict(witness.reads)


def actor_rows(task: Task, reads: Mapping[str, Reads]) -> list[Row]:
    """Return what each actor read: names of edges, and what it depends on of its own."""
    graph, rows = task.graph, []
    for name in graph.active:
        found = reads.get(name, Reads())
        rows.append({
            "actor": name,
            "role": graph.role(name),
            "values_from": [edge.pre for edge in graph.incoming[name] if edge.slot in found.values],
            "errors_from": [edge.post for edge in graph.outgoing[name] if edge.key in found.errors],
            "sends_with_parameters": ("send", "parameters") in found.depends,
            "sends_with_inputs": ("send", "inputs") in found.depends,
            "learns_with_inputs": ("learn", "inputs") in found.depends,
            "watched": bool(reads),
        })  # fmt: skip
    return rows
