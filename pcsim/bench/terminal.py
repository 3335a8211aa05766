"""Results as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.text import Text

from pcsim.bench.result_rows import baseline_rows, cold_rows, engine_rows, facts, growth_rows, rate_rows
from pcsim.view.text import columns, titled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions

    from pcsim.bench.bench_results import Results


def bench_tables(results: Results) -> list[Any]:
    """Return everything that was measured."""
    tables: list[Any] = [Text(line) for line in facts(results)]
    parts = {
        "this machine": rate_rows(results),
        "engines": engine_rows(results),
        "time over the baseline's time, medians with 95 % intervals": baseline_rows(results),
        "start-up, in a process of its own": cold_rows(results),
        "how cost grows": growth_rows(results),
    }
    for title, rows in parts.items():
        if rows:
            tables += titled(title, Rows(rows))
    return tables + [Text(f"note: {line}", style="yellow") for line in results.missing]


class Rows:
    """Rows as a table where it fits the terminal, else one paragraph for each."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = [{name: str(value) for name, value in row.items()} for row in rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        """Yield a table or paragraphs."""
        names = list(self.rows[0])
        width = sum(max(len(name), *(len(row[name]) for row in self.rows)) + 3 for name in names) + 1
        if width <= options.max_width:
            table = columns(*names)
            for row in self.rows:
                table.add_row(*row.values())
            yield table
            return
        first, *others = names
        for number, row in enumerate(self.rows):
            if number == 0 or row[first] != self.rows[number - 1][first]:
                yield Text(row[first], style="bold")
            text = "; ".join(f"{name} {row[name]}" for name in others)
            yield Padding(Text(text), (0, 0, 0, 2))
