"""How much of backprop's gradient reaches each layer: a row for each parameter of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.graph.levels import levels, vertex_levels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcsim.claims.measured_rows import Row
    from pcsim.run.result import Run
    from pcsim.scenario.scenario import Scenario

MEASURED = ["credit", "parallel_ticks", "energy"]


def rows_of_credit(scenario: Scenario, run: Run) -> Iterator[Row]:
    """Yield share and cosine of each parameter; layers are numbered from the sources, the outputs' is the last one."""
    summary, depth, reached = run.summary, levels(scenario.levelled), vertex_levels(scenario.levelled)
    for parameter, found in summary["credit"]["parameters"].items():
        users = [level for name in scenario.levelled.uses[parameter] if (level := reached[name]) is not None]
        yield {
            "parameter": parameter,
            "layer": depth - max(users) if users else None,
            "share": found["share"],
            "cosine": found["cosine"],
            "ticks": summary["ticks"],
            "parallel_ticks": summary["parallel_ticks"]["parallel_ticks"],
            "energy": summary["energy"]["last"],
        }
