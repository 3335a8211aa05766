"""The tables of what an update costs: each is made when it is asked for, of counted work and of measured ticks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.cost import actor_costs
from pcsim.analysis.hardware import Demand, constant_rows
from pcsim.analysis.parallel_time import backprop_phases, inference, rule_phases, times_of, zahid_bounds
from pcsim.analysis.placement import PLACEMENTS, put_on_chip
from pcsim.analysis.rankings import Candidate, ranked, turns
from pcsim.errors import InputError, PcsimError, shortened
from pcsim.graph.levels import levels
from pcsim.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pcsim.analysis.cost import ActorCost
    from pcsim.analysis.hardware import Hardware
    from pcsim.analysis.parallel_time import Phase
    from pcsim.analysis.placement import Placed
    from pcsim.engines import Task
    from pcsim.graph.graph import Graph
    from pcsim.rules import Rule
    from pcsim.scenario.scenario import Scenario

Row = dict[str, Any]

BACKPROP = "backprop"

ASSUMPTIONS = (
    "counts: an operation is a multiplication, an addition, or one number that a function, a slope or a step makes",
    "counts: bytes are the least that a tick can move where nothing stays in a cache",
    "times: an operation takes one unit of time and messages none; no tick begins before the one before it has ended",
    "times: derivatives of parameters are left out, as in Zahid et al. 2023",
    "counts and times: as if every message were sent whole and at every tick, also over channels",
    "ticks: those of a run of this scenario, until its criterion of convergence is met and stays so",
)
"""What holds for every hardware."""


@dataclass(frozen=True)
class Method:
    """Backprop, or a rule with the ticks that it takes; ``why`` there are none that can be counted.

    ``sent`` is the share of messages that a run sends where edges have channels, ``forward`` and ``back``.
    """

    name: str
    row: Rule | None
    graph: Graph
    together: Mapping[str, ActorCost]
    single: Mapping[str, ActorCost]
    ticks: int | None = None
    why: str = ""
    sent: Mapping[str, float] = field(default_factory=dict)

    @property
    def phases(self) -> tuple[Phase, ...] | None:
        """The phases of an update; None where it never ends."""
        if self.row is None:
            return backprop_phases()
        return None if self.ticks is None else rule_phases(self.row, self.ticks)


@dataclass(frozen=True)
class Costing:
    """What is asked for, and the tables that answer it.

    Attributes
    ----------
    rules : whose ticks are measured, or taken as ``ticks``
    placement, counts : a row of ``PLACEMENTS``; numbers of processors, None for powers of two
    hardware : rows of ``HARDWARE``, with the constants that were asked for
    progress : called with (rules measured, rules)
    """

    scenario: Scenario
    rules: Sequence[Rule]
    ticks: int | None
    placement: str
    counts: Sequence[int] | None
    hardware: Mapping[str, Hardware]
    engine: str | None = None
    progress: Callable[[int, int], None] = lambda _done, _total: None
    kept: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def task(self) -> Task:
        """What a run of the scenario is given."""
        return self.scenario.task()

    @cached_property
    def methods(self) -> list[Method]:
        """Backprop, and each rule with its ticks."""
        found = [self._method_of(BACKPROP, None, replace(self.task, graph=self.scenario.graph))]
        for number, row in enumerate(self.rules, 1):
            found.append(self._method(row))
            self.progress(number, len(self.rules))
        return found

    @property
    def own(self) -> Method:
        """The first rule; backprop where none was asked for."""
        return self.methods[min(1, len(self.rules))]

    # -- tables ------------------------------------------------------------------------------------------------

    @property
    def facts(self) -> Row:
        """Title, rule, sizes."""
        graph = self.task.graph
        return {
            "title": self.scenario.document.title,
            "rule": self.own.name,
            "batch": self.task.batch,
            "actors": len(graph.active),
            "edges": len(graph.edges),
            "levels": levels(graph),
            "placement": self.placement,
            "measured": self.ticks is None,
        }

    @property
    def actors(self) -> list[Row]:
        """The work of each actor for the whole batch, and of a tick of the first rule."""
        return _actor_rows(actor_costs(self.task), self.own.row)

    @property
    def edges(self) -> list[Row]:
        """What crosses each edge in a tick of the scenario's rule, and hops on the first mesh."""
        mesh = next(iter(self.meshes), None)
        return _edge_rows(self.task, self.own.row, None if mesh is None else self.placed(mesh, self.placement))

    @property
    def times(self) -> list[Row]:
        """Work and span of each method."""
        return [_time_row(method, self.methods[0], self.task.batch) for method in self.methods]

    @property
    def processors(self) -> list[Row]:
        """Brent's bounds and a list schedule of each method, for each number of processors."""
        return [row for method in self.methods for row in self._processor_rows(method)]

    @property
    def bounds(self) -> list[Row]:
        """The bounds of [Z], for each rule whose messages cross an edge in a tick."""
        rules = [one for one in self.methods if one.row is not None and not one.row.sweeps]
        return [_bound_row(method, levels(self.task.graph)) for method in rules]

    @property
    def placements(self) -> list[Row]:
        """Hops, energy and latency of the first rule, for each placement on each mesh."""
        return [self._placement_row(mesh, name) for mesh in self.meshes for name in PLACEMENTS]

    @property
    def ranking(self) -> list[Row]:
        """Every method on every hardware, the least energy first."""
        orders = {unit: [one.name for one, _ in ranked(self._ordered(unit), self._varied)]
                  for unit in ("joules", "seconds")}  # fmt: skip
        rows = []
        for number, name in enumerate(orders["joules"], 1):
            row, model = self._candidates[name]
            found = model(self.hardware[row["hardware"]].values)
            rows.append({"energy_rank": number, "latency_rank": orders["seconds"].index(name) + 1, **row,
                         "joules": found.joules, "seconds": found.seconds, "parts": dict(found.energy)})  # fmt: skip
        return rows

    @property
    def turns(self) -> list[Row]:
        """Which constants turn which neighbours of an order."""
        return [
            {"order": order, "device": turn.constant[0], "constant": turn.constant[1] or "all together",
             "factor": turn.factor, "passes": turn.passes, "passed": turn.passed}
            for order, unit in (("energy", "joules"), ("latency", "seconds"))
            for turn in turns(self._ordered(unit), self._varied)
        ]  # fmt: skip

    @property
    def constants(self) -> list[Row]:
        """The constants of the hardware."""
        return constant_rows(self.hardware)

    @property
    def assumptions(self) -> list[str]:
        """What all of it assumes."""
        return list(dict.fromkeys(chain(ASSUMPTIONS, *(row.assumptions for row in self.hardware.values()))))

    @property
    def meshes(self) -> list[str]:
        """Hardware on which actors are placed."""
        return [name for name, row in self.hardware.items() if row.mesh]

    def placed(self, hardware: str, placement: str, graph: Graph | None = None) -> Placed:
        """Return a graph, by default the one that is run, on a mesh; raises InputError where it cannot be placed so."""
        graph = self.task.graph if graph is None else graph
        key = hardware, id(graph), placement
        if key not in self.kept:
            weights = {name: actor.cost.weights for name, actor in self._costs(graph)[1].items()}
            chip = self.hardware[hardware].chip(self.hardware[hardware].values)
            self.kept[key] = put_on_chip(graph, weights, chip, placement, self.scenario.document.seed)
        found: Placed = self.kept[key]
        return found

    # -- methods -----------------------------------------------------------------------------------------------

    def _method(self, row: Rule) -> Method:
        method = self._method_of(f"{row.name}, step {row.step_size:g}", row, self.task)
        return replace(method, ticks=self.ticks) if self.ticks is not None else self._measured(method, row)

    def _method_of(self, name: str, row: Rule | None, task: Task) -> Method:
        return Method(name, row, task.graph, *self._costs(task.graph))

    def _costs(self, graph: Graph) -> tuple[dict[str, ActorCost], dict[str, ActorCost]]:
        """Return the costs of a graph's actors in float32: for the batch, and for one sample."""
        if id(graph) not in self.kept:
            task = replace(self.task, graph=graph, dtype=np.dtype(np.float32))
            self.kept[id(graph)] = actor_costs(task), actor_costs(replace(task, batch=1))
        found: tuple[dict[str, ActorCost], dict[str, ActorCost]] = self.kept[id(graph)]
        return found

    def _measured(self, method: Method, row: Rule) -> Method:
        """Return a method with the ticks that a run takes to converge, the last one included; or why it has none."""
        channels = self.task.graph.has_channels
        asked: Row = {"stop": "converged", "record": [], "train": None, "sweep": {}, "solve": "simulate",
                      "measure": ["ticks_to_convergence", *(["traffic"] if channels else [])]}  # fmt: skip
        scenario = replace(self.scenario, rule=row, document=self.scenario.document.model_copy(update=asked))
        try:
            run = simulate(scenario, engine=self.engine)
        except PcsimError as error:
            return replace(method, why=shortened(str(error).split("\n"))[0])
        if run.manifest["status"] == "interrupted":
            raise KeyboardInterrupt
        ticks = run.summary["ticks_to_convergence"]["ticks"]
        if ticks is None:
            return replace(method, why=f"not converged in {run.summary['horizon']:,} ticks")
        return replace(method, ticks=ticks + 1, sent=_sent(run.summary["traffic"]["channels"]) if channels else {})

    def _processor_rows(self, method: Method) -> list[Row]:
        if method.phases is None:
            return []
        times = times_of(method.phases, method.graph, method.together, self.task.batch)
        actors = len(method.together)
        counts = self.counts or [*(2**power for power in range(actors.bit_length()) if 2**power < actors), actors]
        return [
            {"method": method.name, "processors": count, "least": least, "scheduled": scheduled, "most": most,
             "speedup": times.work / scheduled}
            for count in counts
            for (least, most), scheduled in [(times.brent(count), times.scheduled(count))]
        ]  # fmt: skip

    # -- hardware ----------------------------------------------------------------------------------------------

    def _placement_row(self, hardware: str, placement: str) -> Row:
        named, method = {"hardware": hardware, "placement": placement}, self.own
        try:
            placed = self.placed(hardware, placement, method.graph)
        except InputError as error:
            return {**named, "why": error.problems[0].message}
        hops = [placed.hops(edge) for edge in method.graph.edges]
        tick = (rule_phases(method.row, 1) if method.row else backprop_phases())[1:-1]
        row = {**named, "cores": len(set(placed.cores.tolist())), "tiles": placed.tiles,
               "mean_hops": placed.mean_hops, "most_hops": max(hops, default=0), "why": ""}  # fmt: skip
        parts = {"tick": tick, "update": method.phases}
        return row | {
            f"{part}_{unit}": getattr(found, unit)
            for part, phases in parts.items()
            if phases is not None
            for found in [self._model(hardware, method, phases, placed)(self.hardware[hardware].values)]
            for unit in ("joules", "seconds")
        }

    def _model(self, hardware: str, method: Method, phases: Sequence[Phase], placed: Placed | None) -> Any:
        batch = self.scenario.document.batch
        return self.hardware[hardware].model(
            Demand(method.graph, phases, method.together, method.single, batch, placed, method.sent)
        )

    @cached_property
    def _candidates(self) -> dict[str, tuple[Row, Any]]:
        """{name: (row, model)} of each method on each hardware."""
        found = {}
        for method in self.methods:
            for name, row in self.hardware.items():
                if method.phases is not None:
                    placed = self.placed(name, self.placement, method.graph) if row.mesh else None
                    entry = {"method": method.name, "hardware": name, "ticks": method.ticks}
                    found[f"{method.name} on {name}"] = entry, self._model(name, method, method.phases, placed)
        return found

    def _ordered(self, unit: str) -> list[Candidate]:
        return [
            Candidate(name, partial(_size, model, self.hardware[row["hardware"]].device, unit))
            for name, (row, model) in self._candidates.items()
        ]

    @property
    def _varied(self) -> dict[tuple[str, str], float]:
        return {
            (row.device, key): constant.value
            for row in self.hardware.values()
            for key, constant in row.constants.items()
            if constant.varied
        }


def _sent(traffic: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the share of messages that a run sent over its channels, forward and back."""
    ways = {"forward": traffic["value"], "back": traffic["error"]}
    return {way: found["sent"] / found["dense"] for way, found in ways.items() if found["dense"]}


def _size(model: Any, device: str, unit: str, constants: Mapping[tuple[str, str], float]) -> float:
    """Return the energy or the latency of a method for any values of the constants of all hardware."""
    return float(getattr(model({key: value for (owner, key), value in constants.items() if owner == device}), unit))


def _actor_rows(actors: Mapping[str, ActorCost], rule_: Rule | None) -> list[Row]:
    """Return the work of each actor for the whole batch, and of a tick of the rule."""
    tick = {part for phase in (rule_phases(rule_, 1)[1:-1] if rule_ else ()) for part in phase.does}
    rows = []
    for name, actor in actors.items():
        parts = {"forward": actor.forward, "back": actor.back, "learn": actor.learn}
        row: Row = {"actor": name, "op": actor.op, "units": actor.units}
        row |= {f"{part}_multiply_adds": work.products / 2 for part, work in parts.items()}
        row |= {
            "tick_multiply_adds": sum(parts[part].products for part in tick) / 2,
            "tick_other": sum(parts[part].elementwise for part in tick),
            "tick_bytes": sum(parts[part].bytes for part in tick),
        }
        rows.append(row)
    return rows


def _edge_rows(task: Task, row: Rule | None, placed: Placed | None) -> list[Row]:
    """Return what crosses each edge in a tick: values where they move, and errors but to clamped sources."""
    graph, rows = task.graph, []
    for edge in graph.edges:
        numbers = int(np.prod(graph.vertices[edge.pre].shape, dtype=int)) * task.batch
        moves = row is not None and row.moving and graph.role(edge.pre) == "free"
        rows.append({
            "edge": edge.name,
            "numbers": numbers,
            "value_bytes": numbers * task.dtype.itemsize * moves,
            "error_bytes": numbers * task.dtype.itemsize * graph.carries_errors(edge),
            "value_delay": edge.value_delay,
            "error_delay": edge.error_delay,
            "hops": None if placed is None else placed.hops(edge),
        })  # fmt: skip
    return rows


def _time_row(method: Method, reference: Method, batch: int) -> Row:
    """Return the times of a method beside those of backprop, by one processor and by one for each actor."""
    row: Row = {"method": method.name, "ticks": method.ticks, "why": method.why, "work": None, "span": None,
                "span_over_backprop_work": None, "span_over_backprop_span": None,
                "sent": dict(method.sent)}  # fmt: skip
    known = times_of(reference.phases or (), reference.graph, reference.together, batch)
    if method.phases is None:
        return row
    times = times_of(inference(method.phases), method.graph, method.together, batch)
    return row | {
        "work": times.work,
        "span": times.span,
        "span_over_backprop_work": times.span / known.work,
        "span_over_backprop_span": times.span / known.span,
    }


def _bound_row(method: Method, count: int) -> Row:
    """Return the bounds of [Z] beside the ticks that were measured."""
    bounds = zahid_bounds(method.together, count, method.ticks)
    chain = all(len(method.graph.incoming[name]) == 1 for name in method.graph.active)
    return {
        "method": method.name,
        "chain": chain,
        "levels": count,
        "ticks": method.ticks,
        "converged": bounds.converged,
        "shortest": bounds.shortest,
        "backprop": bounds.backprop,
    }
