"""Results as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from pcsim.bench.words import cold_rows, facts, growth_rows, rate_rows, rival_rows, row_rows
from pcsim.view.text import columns, titled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.bench.results import Results


def bench_tables(results: Results) -> list[Any]:
    """Return everything that was measured."""
    tables: list[Any] = [Text(line) for line in facts(results)]
    parts = {
        "this machine": rate_rows(results),
        "zoo": row_rows(results),
        "time over the rival's time, medians with 95 % intervals": rival_rows(results),
        "start-up, in a process of its own": cold_rows(results),
        "how cost grows": growth_rows(results),
    }
    for title, rows in parts.items():
        if rows:
            tables += titled(title, _table(rows))
    return tables + [Text(f"note: {line}", style="yellow") for line in results.missing]


def _table(rows: Sequence[dict[str, Any]]) -> Any:
    table = columns(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    return table
