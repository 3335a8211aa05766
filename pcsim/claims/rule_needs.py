"""What a rule needs beyond the messages of neighbours, from facts of its row and of the graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pcsim.analysis.plasticity import Trail, follow
from pcsim.engines import open_engine
from pcsim.engines.base import kept_by_task
from pcsim.engines.contributions import contributes
from pcsim.graph.levels import uneven_edges
from pcsim.rules import FIRINGS, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pcsim.engines.base import Task
    from pcsim.engines.isolation import Reads

Row = dict[str, Any]
Counts = tuple[int | None, int]
"""How many it concerns, None where that was not seen, and of how many."""

DESCENT = Rule("descent", "standard inference at step size 1: values move by minus the slope of the free energy",
               moving=True, fires=FIRINGS["end"], source="[Z] eq. 3.8-3.10", step_size=1.0, ticks=1)  # fmt: skip


@dataclass(frozen=True)
class Asker:
    """What is known of a rule on a graph."""

    task: Task
    row: Rule
    reads: Mapping[str, Reads] | None

    @property
    def active(self) -> int:
        """The number of actors."""
        return len(self.task.graph.active)

    @property
    def learning(self) -> int:
        """The number of actors from which a parameter learns."""
        return sum(contributes(self.task.graph, name) for name in self.task.graph.active)

    def depending(self, *wanted: tuple[str, str]) -> list[str] | None:
        """Return the actors seen to depend on one of these (phase, what); None where none were watched."""
        if self.reads is None:
            return None
        return [name for name, found in self.reads.items() if found.depends & set(wanted)]


@dataclass(frozen=True)
class Need:
    """One need: its name, what it means, what is counted, and how."""

    name: str
    summary: str
    what: str
    count: Callable[[Asker], Counts]


def need_rows(task: Task, row: Rule, reads: Mapping[str, Reads] | None) -> list[Row]:
    """Return a row for each need of a rule: how many actors (or edges, or parameters) it concerns, of how many."""
    asker = Asker(task, row, reads)
    found = []
    for need in NEEDS:
        count, of = need.count(asker)
        found.append({"rule": row.name, "need": need.name, "actors": count, "of": of, "what": need.what,
                      "why": need.summary})  # fmt: skip
    return found


def _where(condition: Any, count: int, of: int) -> Counts:
    return (count if condition else 0), of


def _swept(asker: Asker) -> Counts:
    given = sum(name in asker.task.initial for name in asker.task.graph.active)
    return asker.active - given, asker.active


def _kept(asker: Asker) -> Counts:
    found = asker.depending(("send", "inputs"), ("learn", "inputs"))
    return (None if found is None else 0 if asker.row.moving else len(found)), asker.active


def _transposed(asker: Asker) -> Counts:
    found, vertices = asker.depending(("send", "parameters")), asker.task.graph.vertices
    return (None if found is None else sum(vertices[name].feedback.symmetric for name in found)), asker.active


def _uneven(asker: Asker) -> Counts:
    edges = uneven_edges(asker.task.graph)
    return _where(asker.row.fires.at_front, len(edges), len(asker.task.graph.edges))


def _shared_by_vertices(asker: Asker) -> Counts:
    uses = asker.task.graph.uses
    return sum(len(users) > 1 for users in uses.values()), len(uses)


def _shared_over_positions(asker: Asker) -> Counts:
    found = trails_of(asker.task)
    return sum(any(count > 1 for count in trail.users.values()) for trail in found.values()), len(found)


@kept_by_task
def trails_of(task: Task) -> dict[str, Trail]:
    """Return what the update of each parameter is made of after a tick of inference: its sites are the same for all."""
    once = replace(task, rule=DESCENT, ticks=1, keep_values=True, step_sizes={})
    return follow(once, open_engine("numpy")(once), every=2)


NEEDS = (
    Need("phase: feedforward sweep", "values begin from it, layer by layer, before tick 0", "actors", _swept),
    Need("phase: clamp", "outputs take their targets once the sweep is through", "actors",
         lambda asker: (len(asker.task.graph.outputs), asker.active)),
    Need("phase: end of inference", "told to all from which parameters learn: a count of ticks, a test of convergence",
         "actors", lambda asker: _where(asker.row.fires.only_last, asker.learning, asker.active)),
    Need("global trigger of learning", "the tick, which all must know", "actors",
         lambda asker: _where(asker.row.needs and not asker.row.sweeps, asker.learning, asker.active)),
    Need("order of all vertices", "a tick is a sweep there and back", "actors",
         lambda asker: _where(asker.row.sweeps, asker.active, asker.active)),
    Need("feedforward values kept", "slopes and inputs of tick 0, not those active when errors come", "actors", _kept),
    Need("weights transposed", "errors are sent with the parameters of the way forward", "actors", _transposed),
    Need("paths of equal length", "over these edges an error comes too soon and is learnt from", "edges", _uneven),
    Need("weights shared by vertices", "one number sums what vertices far apart, or times, send it", "parameters",
         _shared_by_vertices),
    Need("weights shared over positions", "one number sums what positions far apart send it", "parameters",
         _shared_over_positions),
)  # fmt: skip
