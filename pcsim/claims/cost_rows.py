"""What updates cost, as rows: times beside bounds, processors, placements, and methods on hardware."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pcsim.claims.cost_report import costing
from pcsim.claims.costing import BACKPROP
from pcsim.errors import wrong
from pcsim.graph.levels import levels
from pcsim.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcsim.claims.costing import Costing
    from pcsim.claims.measured_rows import Row
    from pcsim.graph.graph import Graph
    from pcsim.scenario.scenario import Scenario


def _own(scenario: Scenario) -> Costing:
    """Return the costs of backprop and of the scenario's own rule."""
    return costing(scenario, rules=[scenario.rule.name])


def rows_of_spans(scenario: Scenario) -> Iterator[Row]:
    """Yield the time of the scenario's rule with a processor for each actor, and the bounds of [Z] beside it.

    ``over_backprop`` compares what is counted with backprop as counted, and a bound with eq. 3.31.
    """
    found = _own(scenario)
    reference, own = found.times
    facts = {"levels": found.facts["levels"], "ticks": own["ticks"]}
    yield {**facts, "line": f"{own['method']}: counted", "operations": own["span"],
           "over_backprop": own["span_over_backprop_work"]}  # fmt: skip
    yield {**facts, "line": f"{BACKPROP}: counted", "operations": reference["span"], "over_backprop": 1.0}
    for row in found.bounds:
        lines = {"converged": f"{row['method']}: eq. 3.28", "shortest": "eq. 3.30", "backprop": "eq. 3.31, backprop"}
        for key, line in lines.items():
            over = None if row[key] is None else row[key] / row["backprop"]
            yield {**facts, "line": line, "operations": row[key], "over_backprop": over}


def rows_of_processors(scenario: Scenario) -> Iterator[Row]:
    """Yield the time of backprop and of the scenario's rule for each number of processors.

    ``over_one`` is the time over that of backprop on one processor, ``over_same`` over backprop on as many.
    """
    found = _own(scenario)
    known = {row["processors"]: row["scheduled"] for row in found.processors if row["method"] == BACKPROP}
    for row in found.processors:
        same = known[row["processors"]]
        yield {**row, "over_one": row["scheduled"] / known[1], "over_same": row["scheduled"] / same,
               "share": row["processors"] / max(known)}  # fmt: skip


def rows_of_placements(scenario: Scenario) -> Iterator[Row]:
    """Yield hops, energy and latency of each placement that can be had here, and ticks with the delays that it makes.

    A message travels one hop in a tick; ``ticks`` is measured on the graph with these delays, ``longest_way`` is the
    longest way of an error from an output.
    """
    found = costing(scenario, rules=[scenario.rule.name], ticks=1)
    for row in found.placements:
        if not row["why"]:
            graph = found.placed(row["hardware"], row["placement"]).delayed()
            way, ticks = levels(graph) - 1, _ticks_on(scenario, graph)
            yield {
                **{key: row[key] for key in ("placement", "hardware", "cores", "mean_hops", "most_hops")},
                "tick_us": row["tick_seconds"] * 1e6,
                "tick_nj": row["tick_joules"] * 1e9,
                "longest_way": way,
                "ticks": ticks,
                "share_of_way": None if ticks is None else ticks / way,
            }


def _ticks_on(scenario: Scenario, graph: Graph) -> int | None:
    """Return how many ticks the scenario takes to converge on another graph of the same vertices."""
    asked: dict[str, Any] = {"stop": "converged", "record": [], "measure": ["ticks_to_convergence"]}
    run = simulate(replace(scenario, graph=graph, document=scenario.document.model_copy(update=asked)))
    ticks: int | None = run.summary["ticks_to_convergence"]["ticks"]
    return ticks


def rows_of_ranking(scenario: Scenario) -> Iterator[Row]:
    """Yield energy and latency of every method on every hardware, and how many constants turn its place by energy.

    ``turns`` counts the constants that, within 25 % of their value, swap it with a neighbour.
    """
    found = costing(scenario)
    orders = found.turns
    if len(found.ranking) < 2:
        raise wrong("rule", "there is nothing to rank: no rule has converged")
    for row in found.ranking:
        name = f"{row['method']} on {row['hardware']}"
        turned = [one for one in orders if one["order"] == "energy" and name in (one["passes"], one["passed"])]
        yield {
            "candidate": name,
            "rule": row["method"],
            "hardware": row["hardware"],
            "energy_rank": row["energy_rank"],
            "latency_rank": row["latency_rank"],
            "ticks": row["ticks"],
            "microjoules": row["joules"] * 1e6,
            "microseconds": row["seconds"] * 1e6,
            "turns": len(turned),
            "turned_by": ", ".join(f"{one['device']}.{one['constant']} x {one['factor']:.2f}" for one in turned),
        }
