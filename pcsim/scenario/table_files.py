"""Tables in files: text with commas, semicolons or tabs, Parquet, and arrays of NumPy with named columns."""

from __future__ import annotations

import csv
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import nearest, wrong
from pcsim.graph.array_files import BROKEN, SUFFIXES, read_array, reason
from pcsim.resources import check_file, check_room, library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

Array = np.ndarray
Column = str | int
Columns = Column | list[Column] | None


def read_table(path: Path, key: str | None, columns: Columns) -> Array:
    """Return columns of a table: (rows, columns), or (rows,) for one that is named by itself.

    Parameters
    ----------
    columns : names, or places counted from 0; None: all

    Raises
    ------
    InputError
        Where the file cannot be read, has no such column, or a column holds what is no finite number.
    """
    if path.suffix in SUFFIXES:
        return _of_array(path, read_array(path, key, records=True), columns)
    if path.suffix not in TABLES:
        raise wrong("columns", f"goes with {', '.join([*TABLES, *SUFFIXES[:2]])}, and the file is {path.name}")
    check_file(path)
    check_room(path, path.stat().st_size)
    return TABLES[path.suffix](path, columns)


def _chosen(path: Path, names: Sequence[str], columns: Columns) -> list[int]:
    """Return the places of columns that are named, or counted."""
    wanted = list(range(len(names))) if columns is None else columns if isinstance(columns, list) else [columns]
    found = []
    for column in wanted:
        place = names.index(column) if column in names else column
        if not isinstance(place, int) or place >= len(names):
            raise wrong("columns", f"{path} has no column {column!r}" + nearest(str(column), names))
        found.append(place)
    return found


def _joined(path: Path, parts: dict[str, Array], columns: Columns) -> Array:
    """Return columns side by side; refuse what is no finite number."""
    for name, part in parts.items():
        if part.dtype.kind not in "biuf" or part.ndim != 1:
            some = str(part[:1].tolist())[1:41]
            raise wrong(
                "columns", f"{path}: column {name!r} holds {some}, expected numbers; name others with 'columns'"
            )
        bad = np.flatnonzero(~np.isfinite(part))
        if len(bad):
            raise wrong("file", f"{path}: column {name!r} has no finite number in row {bad[0] + 1}")
    table = np.stack(list(parts.values()), axis=1)
    return table[:, 0] if isinstance(columns, str | int) else table


def _of_array(path: Path, array: Array, columns: Columns) -> Array:
    if array.dtype.names is None and array.ndim != 2:
        raise wrong("columns", f"{path} has shape {list(array.shape)}, expected a table of rows and columns")
    names = array.dtype.names or tuple(map(str, range(array.shape[1])))
    places = _chosen(path, names, columns)
    if array.dtype.names is None:
        return _joined(path, {names[place]: array[:, place] for place in places}, columns)
    return _joined(path, {names[place]: array[names[place]] for place in places}, columns)


def _parquet(path: Path, columns: Columns) -> Array:
    module = library("pyarrow.parquet", "Parquet files", "pyarrow", "files")
    try:
        names = module.read_schema(path).names
        wanted = [names[place] for place in _chosen(path, names, columns)]
        table = module.read_table(path, columns=wanted)
        return _joined(path, {name: table.column(name).to_numpy() for name in wanted}, columns)
    except BROKEN as error:  # those of pyarrow are among them
        raise wrong("file", f"cannot read {path}: {reason(error)}") from None


def _text(path: Path, columns: Columns) -> Array:
    """Return columns of a text; its first line names them, unless it holds numbers alone."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise wrong("file", f"cannot read {path} as text in UTF-8: {error}") from None
    first = next((line for line in lines if line.strip()), "")
    separator = max(",;\t", key=first.count)
    names = next(csv.reader([first], delimiter=separator), [])
    headed = not all(_is_number(cell) for cell in names)
    names = [name.strip() for name in names] if headed else list(map(str, range(len(names))))
    places = _chosen(path, names, columns)
    body = [line for line in lines if line.strip()][headed:]
    if not body:
        raise wrong("file", f"{path} has no row of numbers")
    table = _parsed(body, separator, places)
    if table is None:
        raise wrong("file", f"{path}: {_first_bad(lines, separator, names, places, headed)}")
    return _joined(path, {names[place]: table[:, number] for number, place in enumerate(places)}, columns)


def _parsed(body: list[str], separator: str, places: list[int]) -> Array | None:
    """Return the numbers of some columns, whole ones as such; None where something is no number."""
    for kind in (np.int64, np.float64):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return np.loadtxt(
                    body, kind, comments=None, delimiter=separator, usecols=places, ndmin=2, quotechar='"'
                )
        except (ValueError, OverflowError, Warning):
            continue
    return None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _first_bad(lines: list[str], separator: str, names: list[str], places: list[int], headed: bool) -> str:
    """Return which cell is no number."""
    for number, row in _rows(lines, separator, skip=headed):
        if len(row) < len(names):
            return f"line {number} has {len(row)} columns, expected {len(names)}"
        for place in places:
            if not _is_number(row[place]):
                hint = "" if headed and len(places) < len(names) else "; name the columns of numbers with 'columns'"
                return f"line {number}, column {names[place]!r} holds {row[place][:40]!r}, expected a number{hint}"
    return "its lines are no table of numbers"


def _rows(lines: list[str], separator: str, *, skip: bool) -> Iterator[tuple[int, list[str]]]:
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    for number, line in numbered[skip:]:
        yield number, next(csv.reader([line], delimiter=separator), [])


TABLES: dict[str, Callable[[Path, Any], Array]] = {".csv": _text, ".tsv": _text, ".parquet": _parquet}
"""How the names of files end that hold tables, with what reads them."""
