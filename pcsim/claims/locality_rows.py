"""Rows of the methods ``light_cones``, ``rules_compared`` and ``plasticity`` of claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.analysis.light_cones import measured_cone
from pcsim.claims.locality_report import default_changes, watched_reads
from pcsim.claims.plasticity_report import plasticity
from pcsim.claims.rule_needs import need_rows
from pcsim.claims.rules_compared import compared
from pcsim.rules import RULES
from pcsim.run.task import engine_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcsim.claims.measured_rows import Row
    from pcsim.scenario.scenario import Scenario


def rows_of_cones(scenario: Scenario) -> Iterator[Row]:
    """Yield a row for each change and vertex that it can reach: distance, first tick that differs, and their ratio."""
    _, start = engine_of(scenario, None)
    task = scenario.task()
    for vertex in default_changes(task):
        cone = measured_cone(task, start, vertex)
        early = len(cone.outside)
        for row in cone.rows():
            if row["distance"] is not None:
                yield {**row, "change": f"{row['kind']} of {row['changed']}", "early": early}


def rows_compared(scenario: Scenario) -> Iterator[Row]:
    """Yield a row for each rule: what it learns beside backprop, how it moves, and how many actors need what."""
    task = scenario.task()
    for row in [scenario.rule, *(one for one in RULES.values() if one.name != scenario.rule.name)]:
        needs = {one["need"]: one["actors"] for one in need_rows(task, row, watched_reads(task, row))}
        yield {**compared(scenario, row), **needs, "actors": len(task.graph.active)}


def rows_of_plasticity(scenario: Scenario) -> Iterator[Row]:
    """Yield a row for each parameter, and one for each parameter and tick, told apart by ``at``."""
    found = plasticity(scenario)
    yield from ({"at": "parameter", **row} for row in found.parameters)
    yield from ({"at": "tick", **row} for row in found.ticks)
