"""The table of edge types that stands beside SONATA edges: a CSV file, one row for each type.

Columns are separated by spaces; ``"`` encloses text with spaces in it, and stands twice where it is meant itself.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from pcsim.errors import nearest, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MOST_BYTES = 1 << 26
"""A table of more bytes is refused: it has a row for each type, not for each edge."""

MISSING = frozenset({"", "NULL", "None", "NaN", "nan"})
"""What stands in a table where a type has no value."""


@dataclass(frozen=True)
class EdgeTypes:
    """Properties of edges by type, as text.

    Attributes
    ----------
    path : of the table
    columns : their names, but for edge_type_id
    rows : {edge_type_id: {column: text}}, without missing values
    """

    path: Path
    columns: tuple[str, ...]
    rows: Mapping[int, Mapping[str, str]]

    def number(self, kind: int, column: str) -> float | None:
        """Return a number of a type, None where it is missing; raises InputError for text and what is not finite."""
        text = self.rows[kind].get(column)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not isfinite(value):
            message = f"{column} of edge type {kind} is {text[:40]!r}, expected a finite number"
            raise wrong("types", f"{self.path}: {message}")
        return value


def read_edge_types(path: Path, population: str) -> EdgeTypes:
    """Return the edge types of a population; raises InputError where the file is no such table.

    Where the table has a column ``population``, rows of other populations are left out.
    """
    if not path.is_file():
        raise wrong("types", f"cannot read {path}: no such file")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise wrong("types", f"{path} has {size:,} bytes, expected a table of edge types, at most {MOST_BYTES:,}")
    try:
        lines = list(_lines(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise wrong("types", f"cannot read {path}: {error}") from None
    return _table(path, lines, population)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line that is not empty, and its fields."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader((line.strip() for line in stream), delimiter=" ", skipinitialspace=True, strict=True)
        yield from ((reader.line_num, fields) for fields in reader if fields)


def _table(path: Path, lines: list[tuple[int, list[str]]], population: str) -> EdgeTypes:
    header = lines[0][1] if lines else []
    if "edge_type_id" not in header:
        commas = "; columns are separated by spaces, not by commas" if any("," in name for name in header) else ""
        raise wrong("types", f"{path} has no column 'edge_type_id'{commas or nearest('edge_type_id', header)}")
    if len(set(header)) < len(header):
        raise wrong("types", f"{path} has two columns of one name among {', '.join(header)}")
    rows: dict[int, dict[str, str]] = {}
    for number, fields in lines[1:]:
        if len(fields) != len(header):
            raise wrong("types", f"{path}:{number}: {len(fields)} fields, expected {len(header)}, as in the first line")
        row = {name: text for name, text in zip(header, fields, strict=True) if text not in MISSING}
        if row.get("population", population) != population:
            continue
        kind = _type_id(path, number, row.pop("edge_type_id", ""))
        if kind in rows:
            raise wrong("types", f"{path}:{number}: edge type {kind} is there twice")
        rows[kind] = row
    return EdgeTypes(path, tuple(name for name in header if name != "edge_type_id"), rows)


def _type_id(path: Path, number: int, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise wrong("types", f"{path}:{number}: edge_type_id is {text[:40]!r}, expected a whole number") from None
