"""Which updates of a scenario are Hebbian, which are summed over sites, which are neither."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from pcsim.analysis.plasticity import HEBBIAN, OTHER, SHARED, follow, rows_of
from pcsim.errors import wrong
from pcsim.run.task import engine_of
from pcsim.scenario.reader import load
from pcsim.scenario.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.scenario.reader import Source

Row = dict[str, Any]

CLASSES = (HEBBIAN, SHARED, OTHER)


@dataclass(frozen=True)
class PlasticityReport:
    """What every parameter update of a run is made of; every table is a list of plain rows.

    Attributes
    ----------
    facts : title, rule, engine, ticks, parameters and numbers of each class, and the largest difference
    parameters : a row for each parameter: its class and why; vertices that use it and sites in all; ``difference``,
        the largest between its update and what its factors make, relative to its largest number, None without factors;
        ``site_cosine``, the mean cosine between the update of one site and the sum that all sites share, and the norms
        of both: what a locally connected layer would learn, beside what sharing makes of it
    ticks : a row for each parameter and tick: the root mean square over synapses of the correlation of the presynaptic
        value with the postsynaptic value and with the postsynaptic error, over samples and sites
    """

    facts: Row
    parameters: list[Row]
    ticks: list[Row]

    def as_dict(self) -> Row:
        """Return all tables as plain data."""
        return {row.name: getattr(self, row.name) for row in fields(self)}

    def __str__(self) -> str:
        facts = self.facts
        lines = [f"{facts['title'] or 'plasticity'}: rule {facts['rule']}, {facts['ticks']:,} ticks"]
        lines += [f"{kind}: {facts['parameters'][kind]:,} parameters, {facts['numbers'][kind]:,} numbers"
                  for kind in CLASSES]  # fmt: skip
        return "\n".join([*lines, f"built again from their factors to {facts['largest_difference'] or 0:.1e}"])


def plasticity(
    source: Scenario | Source, overrides: Mapping[str, Any] | None = None, *, engine: str | None = None
) -> PlasticityReport:
    """Return what each parameter update is made of, checked by building it again from its factors.

    Parameters
    ----------
    source, overrides : a Scenario, or a path or mapping that ``pcsim.load`` takes, and {dotted key: value}
    engine : what runs it; default: the scenario's own

    Raises InputError for what is wrong, RunError where a value becomes NaN or infinite.
    """
    scenario = source if isinstance(source, Scenario) else load(source, overrides)
    if scenario.document.solve != "simulate":
        raise wrong("solve", f"{scenario.document.solve} has no ticks to look at; leave it out, or say simulate")
    name, start = engine_of(scenario, engine)
    task = scenario.task(keep_values=True)
    session = start(task)
    trails = follow(task, session)
    rows = list(rows_of(trails, session.updates()))
    ticks = [{"parameter": parameter, "tick": tick, "with_value": value, "with_error": error}
             for parameter, trail in trails.items() for tick, value, error in trail.correlations]  # fmt: skip
    known = [row["difference"] for row in rows if row["difference"] is not None]
    counted = Counter(row["plasticity"] for row in rows)
    numbers = {kind: sum(row["numbers"] for row in rows if row["plasticity"] == kind) for kind in CLASSES}
    facts = {
        "title": scenario.document.title,
        "rule": scenario.rule.name,
        "engine": name,
        "ticks": task.ticks,
        "parameters": {kind: counted[kind] for kind in CLASSES},
        "numbers": numbers,
        "largest_difference": max(known, default=None),
    }
    return PlasticityReport(facts, rows, ticks)
