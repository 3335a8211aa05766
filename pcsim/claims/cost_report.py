"""What an update costs: counted work, time with many processors, and a model of its energy and latency on hardware.

Work is counted from the graph (``analysis/cost.py``), ticks are measured by a run of each rule, times follow from both
(``analysis/parallel_time.py``), and hardware is a table of models (``analysis/hardware.py``).

>>> print(cost("scenarios/zil-equals-bp.yaml"))                                              # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pcsim.analysis.hardware import HARDWARE, constant_rows, with_values
from pcsim.analysis.placement import PLACEMENTS
from pcsim.analysis.rankings import MARGIN
from pcsim.claims.costing import Costing
from pcsim.errors import Attempts, InputError, Problem, nearest, whole
from pcsim.rules import RULES, rule
from pcsim.scenario.reader import load
from pcsim.scenario.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pcsim.analysis.hardware import Hardware
    from pcsim.analysis.placement import Placed
    from pcsim.claims.costing import Row
    from pcsim.graph.graph import Graph
    from pcsim.rules import Rule
    from pcsim.scenario.reader import Source

HORIZON = 2000
"""Ticks after which a rule counts as not converged, where the scenario's own does not say how long it runs."""


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
    costing : what the tables were made of
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
    costing: Costing = field(repr=False)

    def as_dict(self) -> Row:
        """Return all tables as plain data."""
        return {row.name: getattr(self, row.name) for row in fields(self) if row.name != "costing"}

    def placed(self, placement: str | None = None, hardware: str | None = None) -> Placed:
        """Return the graph on a mesh: by default the first one, and the placement of the report.

        Raises InputError for an unknown name, or a placement whose library is not here.
        """
        meshes = self.costing.meshes
        name = meshes[0] if hardware is None else hardware
        if name not in meshes:
            raise InputError([Problem(("hardware",), f"no mesh is named {name!r}" + nearest(name, meshes))])
        return self.costing.placed(name, self.costing.placement if placement is None else placement)

    def graph(self, hops_per_tick: int = 1, placement: str | None = None, hardware: str | None = None) -> Graph:
        """Return the graph with the delays that its placement on a mesh makes, to be simulated.

        Messages travel ``hops_per_tick`` hops in a tick.
        """
        return self.placed(placement, hardware).delayed(hops_per_tick)

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
    ticks : so many are counted for each rule; default: those that a run of each takes to converge, within the ticks of
        the scenario's rule, or 2,000 where these are its levels
    placement : a row of ``PLACEMENTS``, for energy and delays on a mesh
    processors : numbers of processors; default: powers of two up to one for each actor
    constants : other values of constants of the hardware: {"loihi.units_per_core": 64}
    engine : for the runs that measure ticks
    progress : called with (rules measured, rules)

    Raises InputError for what is wrong, and for ops that do not declare what they cost, by name.
    """
    found = costing(source, overrides, rules=rules, ticks=ticks, placement=placement, processors=processors,
                    constants=constants)  # fmt: skip
    found = replace(found, engine=engine, progress=progress or found.progress)
    tables = [row.name for row in fields(CostReport) if row.name != "costing"]
    return CostReport(**{name: getattr(found, name) for name in tables}, costing=found)


def costing(
    source: Scenario | Source,
    overrides: Mapping[str, Any] | None = None,
    *,
    rules: Sequence[str | Mapping[str, Any]] | None = None,
    ticks: int | None = None,
    placement: str = "greedy",
    processors: Sequence[int] | None = None,
    constants: Mapping[str, float] | None = None,
) -> Costing:
    """Return what `cost` makes its tables of, checked; nothing is counted or measured yet."""
    scenario = source if isinstance(source, Scenario) else load(source, overrides)
    return _Asked(scenario, rules, ticks, placement, processors, constants).costing()


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

    def costing(self) -> Costing:
        """Return the tables to come; raises InputError with all that is wrong."""
        if self.problems:
            raise InputError(self.problems)
        return Costing(self.scenario, self.rules, self.ticks, self.placement, self.processors, self.hardware)

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
            return [own, *map(self._within, others)]
        settings = [{"name": one} if isinstance(one, str) else dict(one) for one in rules]
        found = [self.attempt(partial(self._rule, number, one)) for number, one in enumerate(settings)]
        return [row for row in found if row is not None]

    def _rule(self, number: int, settings: dict[str, Any]) -> Rule:
        if settings == {"name": self.scenario.rule.name}:
            return self.scenario.rule
        try:
            row = rule(**{"name": "", **settings})
        except InputError as error:
            raise error.map(lambda problem: problem.under("rules", number)) from None
        return row if "ticks" in settings else self._within(row)

    def _within(self, row: Rule) -> Rule:
        """Return a rule that may take as many ticks as the scenario's own, where that is a number."""
        own = self.scenario.rule.ticks
        return row if row.ticks == "levels" else replace(row, ticks=HORIZON if own == "levels" else own)

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
