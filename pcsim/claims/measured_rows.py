"""Measured rows: columns by name, and which of them tell the rows apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Rows:
    """What was measured, a mapping of columns for each row; ``keys`` are the columns that tell rows apart."""

    keys: tuple[str, ...]
    rows: tuple[Row, ...]

    def where(self, wanted: Mapping[str, Any]) -> Rows:
        """Return the rows that have these values; a list stands for any of its values."""
        return replace(self, rows=tuple(row for row in self.rows if _fits(row, wanted)))

    def apart(self, columns: list[str]) -> list[tuple[str, Rows]]:
        """Return the rows in groups that agree in these columns, each with its name; one without a name for none."""
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in self.rows:
            groups.setdefault(tuple(str(row.get(column)) for column in columns), []).append(row)
        named = [(", ".join(map(_labelled, columns, key)), replace(self, rows=tuple(g))) for key, g in groups.items()]
        return named or [("", self)]

    def name(self, row: Row) -> str:
        """Return how a row is called: by the columns that differ within these rows."""
        differing = [key for key in self.keys if len({str(other.get(key)) for other in self.rows}) > 1]
        return ", ".join(_labelled(key, _short(row.get(key))) for key in differing) or "the only row"

    def numbers(self, column: str) -> list[tuple[Row, float]]:
        """Return the rows that have a finite number in a column, with it."""
        return [(row, float(row[column])) for row in self.rows if is_number(row.get(column))]

    def without(self, column: str) -> list[Row]:
        """Return the rows that have no finite number in a column."""
        return [row for row in self.rows if not is_number(row.get(column))]

    @property
    def columns(self) -> list[str]:
        """All columns, in the order in which rows have them."""
        return list(dict.fromkeys(column for row in self.rows for column in row))


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number; truth values are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _fits(row: Row, wanted: Mapping[str, Any]) -> bool:
    return all(row.get(key) in value if isinstance(value, list) else row.get(key) == value
               for key, value in wanted.items())  # fmt: skip


def _labelled(column: str, value: Any) -> str:
    """Return a value with its column, unless the value is a text that says enough alone.

    >>> _labelled("graph.T", "8"), _labelled("cases", "MLP")
    ('T 8', 'MLP')
    """
    text = str(value)
    return text if text[:1].isalpha() and text not in ("None", "True", "False") else f"{column.split('.')[-1]} {text}"


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value
