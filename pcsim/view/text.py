"""How the command line writes: tables that cut nothing off, numbers, sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def titled(title: str, table: Any) -> list[Any]:
    """Return a table below its title: a title of the table's own is broken to the table's width."""
    return [Text(title, style="bold"), table]


def notes(warnings: Iterable[str]) -> list[Any]:
    """Return warnings as lines below a table."""
    return [Text(f"note: {text}", style="yellow") for text in warnings]


def columns(*names: str) -> Table:
    """Return a table that breaks what is too long for the terminal, and cuts nothing off."""
    table = Table()
    for name in names:
        table.add_column(name, overflow="fold")
    return table


MOST_ROWS = 40
"""Rows of a table of levels or edges; of more the first and the last are shown."""


def add_rows(table: Table, rows: Sequence[Sequence[str]]) -> Table:
    """Return a table with rows added: all of them, or the first, how many more, and the last."""
    half = MOST_ROWS // 2
    if len(rows) > MOST_ROWS:
        gap = ["...", f"{len(rows) - 2 * half:,} more: --json"]
        rows = [*rows[:half], [*gap, *[""] * (len(table.columns) - 2)], *rows[-half:]]
    for row in rows:
        table.add_row(*row)
    return table


def some(names: Iterable[str], most: int = 8) -> str:
    """Return the first names, and how many more there are.

    >>> some(["a", "b", "c", "d"], 2)
    'a, b, ... 2 more'
    """
    names = list(names)
    return ", ".join(names[:most]) + (f", ... {len(names) - most:,} more" if len(names) > most else "")


def json_text(data: Any) -> str:
    """Return data as JSON, which has no infinity: what is no finite number is null.

    >>> print(json_text({"norm": float("inf")}))
    {
     "norm": null
    }
    """
    return json.dumps(_finite(data), indent=1, default=str, allow_nan=False)


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return list(map(_finite, data))
    return None if isinstance(data, float) and not isfinite(data) else data


def number(value: float | None) -> str:
    """Return a number of a measure, short; None is ``undefined``."""
    return "undefined" if value is None else f"{value:.4g}"


def size(number: float) -> str:
    """Return bytes as people write them.

    >>> size(1536)
    '1.5 KiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
