"""What the local rule of delays found, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from pcsim.view.text import add_rows

if TYPE_CHECKING:
    from pcsim.analysis.delay_learning import DelayLearning


def delay_tables(found: DelayLearning) -> list[Table]:
    """Return a row for each round, and the delays that were learnt."""
    title = "errors arrive together" if found.settled else "errors still arrive apart: allow more --rounds"
    rounds = Table("round", "slack (ticks)", "uneven vertices", "delay on all edges (ticks)", title=title)
    rows = [[row.round, row.slack, row.uneven, row.delay] for row in found.rounds]
    add_rows(rounds, [[f"{number:,}" for number in row] for row in rows])
    delays = Table("edge", "delay of errors", title="learnt delays")
    add_rows(delays, [[name, str(ticks)] for name, ticks in found.plain()["delays"].items()])
    return [rounds, delays]
