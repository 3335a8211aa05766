"""What an update costs: counted work, time with many processors, and a model of its energy and latency on hardware.

Work is counted from the graph (``analysis/cost.py``), ticks are measured by a run of each rule, times follow from both
(``analysis/parallel_time.py``), and hardware is a table of models (``analysis/hardware.py``).

>>> print(cost("scenarios/zil-equals-bp.yaml"))                                              # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.cost import actor_costs
from pcsim.analysis.hardware import HARDWARE, Demand, with_values
from pcsim.analysis.parallel_time import backprop_phases, inference, rule_phases, times_of, zahid_bounds
from pcsim.analysis.placement import PLACEMENTS, put_on_chip
from pcsim.analysis.rankings import MARGIN, Candidate, ranked, turns
from pcsim.errors import Attempts, InputError, PcsimError, Problem, nearest, shortened, whole
from pcsim.graph.levels import levels
from pcsim.rules import RULES, rule
from pcsim.scenario.reader import load
from pcsim.scenario.scenario import Scenario
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
    from pcsim.scenario.reader import Source

Row = dict[str, Any]

HORIZON = 2000
"""Ticks after which a rule whose ticks are measured counts as not converged."""

BACKPROP = "backprop"

ASSUMPTIONS = (
    "counts: an operation is a multiplication, an addition, or one number that a function, a slope or a step makes",
    "counts: bytes are the least that a tick can move where nothing stays in a cache",
    "times: an operation takes one unit of time and messages none; no tick begins before the one before it has ended",
    "times: derivatives of parameters are left out, as in Zahid et al. 2023",
    "ticks: those of a run of this scenario, until its criterion of convergence is met and stays so",
)
"""What holds for every hardware."""


@dataclass(frozen=True)
class CostReport:
    """What an update of a scenario costs; every table is a list of plain rows.

    Attributes
    ----------
    facts : title, rule, batch, levels, number of actors, placement
    actors : a row for each actor: multiply-adds, other operations and bytes of its prediction, of the errors it sends
        and of its parameters' derivatives, for the whole batch; and what it does in a tick
    edges : a row for each edge: numbers, bytes of a tick each way, delays, and hops on the first mesh
    times : a row for backprop and each rule: ticks, work, span, span over backprop's work and span, in operations
    processors : for each of them and each number of processors, Brent's bounds and a list schedule
    bounds : for each rule whose messages cross an edge a tick the bounds of [Z] eq. 3.27 to 3.36, in operations
    placements : for each placement cores, tiles, hops, energy and latency of a tick and of an update for one sample
    ranking : methods on hardware by energy of an update for one sample, the least first, with their latency
    turns : which constant of the hardware, within 25 % of its value, changes an order, of energy or of latency
    constants : of the hardware, with their sources
    assumptions : what the figures assume, in sentences
    placed : the graph on each mesh, by hardware
    """

    facts: Row
    actors: list[Row]
    edges: list[Row]
    times: list[Row]
    processors: list[Row]
    bounds: list[Row]
    placements: list[Row]
    ranking: list[Row]
    turns: list[Row]
    constants: list[Row]
    assumptions: list[str]
    placed: Mapping[str, Placed] = field(repr=False)

    def as_dict(self) -> Row:
        """Return all tables as plain data."""
        return {row.name: getattr(self, row.name) for row in fields(self) if row.name != "placed"}

    def graph(self, hops_per_tick: int = 1, hardware: str | None = None) -> Graph:
        """Return the graph with the delays that its place on a mesh makes, to be simulated.

        Messages travel ``hops_per_tick`` hops in a tick; ``hardware`` is a mesh, by default the first.
        """
        name = next(iter(self.placed)) if hardware is None else hardware
        if name not in self.placed:
            raise InputError([Problem(("hardware",), f"no mesh is named {name!r}" + nearest(name, self.placed))])
        return self.placed[name].delayed(hops_per_tick)

    def __str__(self) -> str:
        lines = [f"{self.facts['title'] or 'cost'}: {self.facts['actors']} actors, batch {self.facts['batch']}"]
        lines += [
            f"{row['method']}: {_ticks_text(row)}; span {_short(row['span'])}, work {_short(row['work'])} operations"
            for row in self.times
        ]
        lines += [f"{row['energy_rank']}. {row['method']} on {row['hardware']}: {row['joules']:.3g} J, "
                  f"{row['seconds']:.3g} s a sample" for row in self.ranking]  # fmt: skip
        return "\n".join([*lines, f"orders that a constant within {MARGIN:.0%} turns: {len(self.turns)}"])


def _ticks_text(row: Row) -> str:
    return row["why"] or ("no ticks" if row["ticks"] is None else f"{row['ticks']:,} ticks")


def _short(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"


def cost(
    source: Scenario | Source,
    overrides: Mapping[str, Any] | None = None,
    *,
    rules: Sequence[str | Mapping[str, Any]] | None = None,
    ticks: int | None = None,
    placement: str = "greedy",
    processors: Sequence[int] | None = None,
    constants: Mapping[str, float] | None = None,
    engine: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CostReport:
    """Return what an update costs by backprop and by rules, in operations and on hardware.

    Parameters
    ----------
    source, overrides : a Scenario, or a path or mapping that ``pcsim.load`` takes, and {dotted key: value}
    rules : names or settings as under ``rule`` of a scenario; default: the scenario's own, and every row that learns
        once from values as they are (not ``bp``, which is the reference)
    ticks : so many are counted for each rule; default: those that a run of each takes to converge
    placement : a row of ``PLACEMENTS``, for energy and delays on a mesh
    processors : numbers of processors; default: powers of two up to one for each actor
    constants : other values of constants of the hardware: {"loihi.units_per_core": 64}
    engine : for the runs that measure ticks
    progress : called with (rules measured, rules)

    Raises InputError for what is wrong, and for ops that do not declare what they cost, by name.
    """
    scenario = source if isinstance(source, Scenario) else load(source, overrides)
    asked = _Asked(scenario, rules, ticks, placement, processors, constants)
    return asked.costing(engine).report(progress or (lambda _done, _total: None))


class _Asked(Attempts):
    """What was asked for, checked before anything runs."""

    def __init__(self, scenario: Scenario, rules: Any, ticks: Any, placement: Any, processors: Any, constants: Any):
        self.problems: list[Problem] = []
        self.scenario, self.placement = scenario, placement
        if placement not in PLACEMENTS:
            known = nearest(str(placement), PLACEMENTS, "pcsim list placements")
            self.problems.append(Problem(("placement",), f"unknown placement {placement!r}{known}"))
        self.rules = self._rules(rules)
        self.ticks = None if ticks is None else self._count("ticks", ticks)
        self.processors = None if processors is None else [self._count("processors", one) for one in processors]
        self.hardware = self._hardware(constants or {})

    def costing(self, engine: str | None) -> _Costing:
        """Return the account; raises InputError with all that is wrong."""
        if self.problems:
            raise InputError(self.problems)
        return _Costing(self.scenario, self.rules, self.ticks, self.placement, self.processors, self.hardware, engine)

    def _count(self, key: str, value: Any) -> int:
        try:
            if (count := whole(value)) >= 1:
                return count
        except ValueError:
            pass
        self.problems.append(Problem((key,), f"must be a whole number of at least 1, got {value!r}"))
        return 1

    def _rules(self, rules: Any) -> list[Rule]:
        if rules is None:
            own = self.scenario.rule
            others = [row for row in RULES.values() if _compared(row) and row.name != own.name]
            return [own, *(_within(row) for row in others)]
        settings = [{"name": one} if isinstance(one, str) else dict(one) for one in rules]
        found = [self.attempt(lambda one=one: self._rule(one)) for one in settings]  # type: ignore[misc]
        return [row for row in found if row is not None]

    def _rule(self, settings: dict[str, Any]) -> Rule:
        if settings == {"name": self.scenario.rule.name}:
            return self.scenario.rule
        row = rule(**{"name": "", **settings})
        return row if "ticks" in settings else _within(row)

    def _hardware(self, given: Mapping[str, Any]) -> dict[str, Hardware]:
        changed: dict[str, dict[str, float]] = {row.device: {} for row in HARDWARE.values()}
        known = [row["constant"] for row in constant_rows()]
        for key, value in given.items():
            device, _, constant = str(key).partition(".")
            if key not in known:
                message = f"unknown constant {key!r}" + nearest(str(key), known, "pcsim list constants")
                self.problems.append(Problem(("constants",), message))
            elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                self.problems.append(Problem(("constants", key), f"must be a finite number above 0, got {value!r}"))
            else:
                changed[device][constant] = float(value)
        return {name: with_values(row, changed[row.device]) for name, row in HARDWARE.items()}


def _compared(row: Rule) -> bool:
    """Return whether a rule is compared where none is named: it learns once, from the outputs as they are."""
    return not (row.levelled or row.fires.applies or row.output_variance != 1)


def _within(row: Rule) -> Rule:
    """Return a rule that is given time to converge."""
    return row if row.ticks == "levels" else replace(row, ticks=HORIZON)


@dataclass(frozen=True)
class _Method:
    """Backprop, or a rule with the ticks that it takes; ``why`` there are none that can be counted."""

    name: str
    row: Rule | None
    graph: Graph
    together: Mapping[str, ActorCost]
    single: Mapping[str, ActorCost]
    ticks: int | None = None
    why: str = ""

    @property
    def phases(self) -> tuple[Phase, ...] | None:
        """The phases of an update; None where it never ends."""
        if self.row is None:
            return backprop_phases()
        return None if self.ticks is None else rule_phases(self.row, self.ticks)


@dataclass(frozen=True)
class _Costing:
    """Makes the tables of a report."""

    scenario: Scenario
    rules: Sequence[Rule]
    ticks: int | None
    placement: str
    counts: Sequence[int] | None
    hardware: Mapping[str, Hardware]
    engine: str | None
    kept: dict[Any, Any] = field(default_factory=dict)

    def report(self, progress: Callable[[int, int], None]) -> CostReport:
        """Return all tables; ``progress`` is called with (rules measured, rules)."""
        task = self.scenario.task()
        methods = [self._backprop(task)]
        for number, row in enumerate(self.rules, 1):
            methods.append(self._method(row, task))
            progress(number, len(self.rules))
        own, candidates = methods[1] if self.rules else methods[0], self._candidates(methods)
        meshes = {
            name: self._placed(name, task.graph, self.placement) for name, row in self.hardware.items() if row.mesh
        }
        return CostReport(
            facts=self._facts(task),
            actors=_actor_rows(actor_costs(task), own.row),
            edges=_edge_rows(task, self.scenario.rule, next(iter(meshes.values()), None)),
            times=[_time_row(method, methods[0], task.batch) for method in methods],
            processors=[row for method in methods for row in self._processor_rows(method, task.batch)],
            bounds=[
                _bound_row(one, levels(task.graph)) for one in methods if one.row is not None and not one.row.sweeps
            ],
            placements=[row for name in meshes for row in self._placement_rows(name, own)],
            ranking=self._ranking(candidates),
            turns=self._turns(candidates),
            constants=constant_rows(self.hardware),
            assumptions=list(dict.fromkeys(chain(ASSUMPTIONS, *(row.assumptions for row in self.hardware.values())))),
            placed=meshes,
        )

    # -- methods -----------------------------------------------------------------------------------------------

    def _backprop(self, task: Task) -> _Method:
        return self._method_of(BACKPROP, None, replace(task, graph=self.scenario.graph))

    def _method(self, row: Rule, task: Task) -> _Method:
        method = self._method_of(f"{row.name}, step {row.step_size:g}", row, task)
        ticks, why = (self.ticks, "") if self.ticks is not None else self._measured(row)
        return replace(method, ticks=ticks, why=why)

    def _method_of(self, name: str, row: Rule | None, task: Task) -> _Method:
        one = replace(task, batch=1, dtype=np.dtype(np.float32))
        float32 = replace(one, batch=task.batch)
        key = id(task.graph)
        if key not in self.kept:
            self.kept[key] = actor_costs(float32), actor_costs(one)
        return _Method(name, row, task.graph, *self.kept[key])

    def _measured(self, row: Rule) -> tuple[int | None, str]:
        """Return how many ticks a rule runs until it has converged, the last one included; or why that is not known."""
        asked: Row = {"stop": "converged", "record": [], "measure": ["ticks_to_convergence"], "train": None,
                      "sweep": {}, "solve": "simulate"}  # fmt: skip
        scenario = replace(self.scenario, rule=row, document=self.scenario.document.model_copy(update=asked))
        try:
            run = simulate(scenario, engine=self.engine)
        except PcsimError as error:
            return None, shortened([*str(error).split("\n")])[0]
        if run.manifest["status"] == "interrupted":
            raise KeyboardInterrupt
        ticks = run.summary["ticks_to_convergence"]["ticks"]
        return (None, f"not converged in {run.summary['horizon']:,} ticks") if ticks is None else (ticks + 1, "")

    # -- tables ------------------------------------------------------------------------------------------------

    def _facts(self, task: Task) -> Row:
        return {
            "title": self.scenario.document.title,
            "rule": self.scenario.rule.name,
            "batch": task.batch,
            "actors": len(task.graph.active),
            "edges": len(task.graph.edges),
            "levels": levels(task.graph),
            "placement": self.placement,
            "measured": self.ticks is None,
        }

    def _processor_rows(self, method: _Method, batch: int) -> list[Row]:
        if method.phases is None:
            return []
        times = times_of(method.phases, method.graph, method.together, batch)
        actors = len(method.together)
        counts = self.counts or [*(2**power for power in range(actors.bit_length()) if 2**power < actors), actors]
        return [
            {"method": method.name, "processors": count, "least": least, "scheduled": times.scheduled(count),
             "most": most, "speedup": times.work / times.scheduled(count)}
            for count in counts
            for least, most in [times.brent(count)]
        ]  # fmt: skip

    def _placed(self, hardware: str, graph: Graph, placement: str) -> Placed:
        key = hardware, id(graph), placement
        if key not in self.kept:
            row, actors = self.hardware[hardware], self.kept[id(graph)][1]
            weights = {name: actor.cost.weights for name, actor in actors.items()}
            chip = row.chip(row.values)
            self.kept[key] = put_on_chip(graph, weights, chip, placement, self.scenario.document.seed)
        found: Placed = self.kept[key]
        return found

    def _placement_rows(self, hardware: str, method: _Method) -> list[Row]:
        return [self._placement_row(hardware, name, method) for name in PLACEMENTS]

    def _placement_row(self, hardware: str, placement: str, method: _Method) -> Row:
        named = {"hardware": hardware, "placement": placement}
        try:
            placed = self._placed(hardware, method.graph, placement)
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

    def _model(self, hardware: str, method: _Method, phases: Sequence[Phase], placed: Placed | None) -> Any:
        batch = self.scenario.document.batch
        return self.hardware[hardware].model(
            Demand(method.graph, phases, method.together, method.single, batch, placed)
        )

    # -- rankings ----------------------------------------------------------------------------------------------

    def _candidates(self, methods: Sequence[_Method]) -> dict[str, tuple[Row, Any]]:
        """Return {name: (row, model)} of each method on each hardware."""
        found = {}
        for method in methods:
            for name, row in self.hardware.items():
                if method.phases is not None:
                    placed = self._placed(name, method.graph, self.placement) if row.mesh else None
                    entry = {"method": method.name, "hardware": name, "ticks": method.ticks}
                    found[f"{method.name} on {name}"] = entry, self._model(name, method, method.phases, placed)
        return found

    def _ordered(self, candidates: Mapping[str, tuple[Row, Any]], unit: str) -> list[Candidate]:
        return [
            Candidate(name, partial(_size, model, self.hardware[row["hardware"]].device, unit))
            for name, (row, model) in candidates.items()
        ]

    @property
    def _varied(self) -> dict[tuple[str, str], float]:
        return {
            (row.device, key): constant.value
            for row in self.hardware.values()
            for key, constant in row.constants.items()
            if constant.varied
        }

    def _ranking(self, candidates: Mapping[str, tuple[Row, Any]]) -> list[Row]:
        orders = {unit: [one.name for one, _ in ranked(self._ordered(candidates, unit), self._varied)]
                  for unit in ("joules", "seconds")}  # fmt: skip
        rows = []
        for number, name in enumerate(orders["joules"], 1):
            row, model = candidates[name]
            found = model(self.hardware[row["hardware"]].values)
            rows.append({"energy_rank": number, "latency_rank": orders["seconds"].index(name) + 1, **row,
                         "joules": found.joules, "seconds": found.seconds, "parts": dict(found.energy)})  # fmt: skip
        return rows

    def _turns(self, candidates: Mapping[str, tuple[Row, Any]]) -> list[Row]:
        return [
            {"order": order, "device": turn.constant[0], "constant": turn.constant[1] or "all together",
             "factor": turn.factor, "passes": turn.passes, "passed": turn.passed}
            for order, unit in (("energy", "joules"), ("latency", "seconds"))
            for turn in turns(self._ordered(candidates, unit), self._varied)
        ]  # fmt: skip


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


def _edge_rows(task: Task, row: Rule, placed: Placed | None) -> list[Row]:
    """Return what crosses each edge in a tick: values where they move, and errors but to clamped sources."""
    graph, rows = task.graph, []
    for edge in graph.edges:
        numbers = int(np.prod(graph.vertices[edge.pre].shape, dtype=int)) * task.batch
        moves = row.moving and graph.role(edge.pre) == "free"
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


def _time_row(method: _Method, reference: _Method, batch: int) -> Row:
    """Return the times of a method beside those of backprop, by one processor and by one for each actor."""
    row: Row = {"method": method.name, "ticks": method.ticks, "why": method.why, "work": None, "span": None,
                "span_over_backprop_work": None, "span_over_backprop_span": None}  # fmt: skip
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


def _bound_row(method: _Method, count: int) -> Row:
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


def constant_rows(hardware: Mapping[str, Hardware] = HARDWARE) -> list[Row]:
    """Return every constant of the hardware with its source."""
    known = {f"{row.device}.{key}": one for row in hardware.values() for key, one in row.constants.items()}
    return [
        {"constant": name, "value": one.value, "unit": one.unit, "summary": one.what, "source": one.source}
        for name, one in known.items()
    ]
