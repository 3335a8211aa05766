"""Synapses from files: SciPy's sparse matrices, Parquet tables, SONATA edges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from pcsim.arrays import sparse
from pcsim.errors import nearest, slip_of, wrong
from pcsim.ops.attributes import MAX_ELEMENTS, MOST_TICKS
from pcsim.ops.synapses.sonata import Reading, read_population
from pcsim.resources import check_file, check_room, library

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Column = np.ndarray
"""(synapses,) numbers."""


@dataclass(frozen=True)
class SynapseList:
    """Synapses in any order: neuron before, neuron after, and what a file says of their delays and weights."""

    pre: Column
    post: Column
    delay: Column | None = None
    weight: Column | None = None
    notes: tuple[str, ...] = ()
    """What to know of a file: what of it is left out."""


def read_edges(given: Mapping[str, Any], folder: Path, before: int, after: int) -> SynapseList:
    """Return the synapses of a file, checked against the sizes of the populations.

    A SciPy matrix (``.npz``) has shape (after, before): a row for each neuron after.

    Raises
    ------
    InputError
        Where the file is missing, of another kind, or holds what synapses cannot be.
    """
    path = folder / given["file"]
    if path.suffix not in _READERS:
        raise wrong("file", f"expected one of {', '.join(_READERS)}, got {path.name}")
    for key in _KEYS_OF_SOME:
        if key in given and path.suffix not in _KEYS_OF_SOME[key]:
            raise wrong(key, f"is for files that end in {', '.join(_KEYS_OF_SOME[key])}, and the file is {path.name}")
    check_file(path)
    check_room(path, path.stat().st_size)
    try:
        columns, notes = _READERS[path.suffix](path, {**given, "shape": (after, before), "folder": folder})
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, AttributeError, TypeError) as error:
        raise wrong("file", f"cannot read {path}: {error}") from None
    return replace(_checked(path, columns, given.get("tick", 1.0), before, after), notes=notes)


def _npz(path: Path, given: Mapping[str, Any]) -> Reading:
    """Read weights, (after, before): a synapse for each entry that is stored."""
    matrix = sparse(np).load_npz(path).tocoo()
    if matrix.shape != given["shape"]:
        message = f"shape {matrix.shape}, expected {given['shape']}: rows are neurons after, columns neurons before"
        raise ValueError(message)
    return {"pre": matrix.col, "post": matrix.row, "weight": matrix.data}, ()


def _parquet(path: Path, given: Mapping[str, Any]) -> Reading:
    module = library("pyarrow.parquet", "Parquet files", "pyarrow", "files")
    names = module.read_schema(path).names
    for name in given.get("ignore", ()):
        if name not in names:
            raise wrong("ignore", f"{path} has no column {name!r}" + nearest(name, names))
    names = [name for name in names if name not in given.get("ignore", ())]
    problems = [name for name in ("pre", "post") if name not in names]
    if problems:
        message = f"{path} has no column {problems[0]!r}" + nearest(problems[0], names)
        raise wrong("file", message)
    others = sorted({*names} - {*_COLUMNS})
    for name in others:
        if close := slip_of(name, _COLUMNS):
            message = f"{path}: unknown column {name!r}; did you mean {close!r}? (or list it under 'ignore')"
            raise wrong("file", message)
    table = module.read_table(path, columns=[name for name in _COLUMNS if name in names])
    notes = (f"{path.name}: columns that are not read: {', '.join(others)}",) if others else ()
    return {name: table.column(name).to_numpy() for name in table.column_names}, notes


def _sonata(path: Path, given: Mapping[str, Any]) -> Reading:
    module = library("h5py", "SONATA files", "h5py", "files")
    with module.File(path, "r") as file:
        return read_population(path, file, given, given["folder"])


_COLUMNS = ("pre", "post", "delay", "weight")
_READERS: dict[str, Callable[[Path, Mapping[str, Any]], Reading]] = {
    ".npz": _npz,
    ".parquet": _parquet,
    ".h5": _sonata,
    ".hdf5": _sonata,
}


_SONATA = (".h5", ".hdf5")
_KEYS_OF_SOME = {"edges": _SONATA, "types": _SONATA, "ignore": (".parquet", *_SONATA)}
"""Keys that say something of some files only, by how these end."""


def _checked(path: Path, columns: Mapping[str, Column], tick: float, before: int, after: int) -> SynapseList:
    sizes = {len(column) for column in columns.values()}
    if len(sizes) > 1:
        raise wrong("file", f"{path}: columns of different lengths, {sorted(sizes)}")
    if sizes == {0}:
        raise wrong("file", f"{path} holds no synapse")
    if max(sizes) > MAX_ELEMENTS:
        raise wrong("file", f"{path} holds {max(sizes):.1e} synapses, expected at most 10^9")
    for name, column in columns.items():
        _finite(path, name, column)
    pre = _neurons(path, "pre", columns["pre"], before)
    post = _neurons(path, "post", columns["post"], after)
    delay = _ticks(path, columns["delay"], tick) if "delay" in columns else None
    return SynapseList(pre, post, delay, columns.get("weight"))


def _finite(path: Path, name: str, column: Column) -> None:
    """Refuse what is no number, and what is no finite one."""
    if column.dtype.kind not in "iuf":
        some = column[:1].tolist()[0]
        raise wrong("file", f"{path}: column {name} holds what is no number, such as {str(some)[:40]!r}")
    bad = np.flatnonzero(~np.isfinite(column)) if column.dtype.kind == "f" else column[:0]
    if len(bad):
        raise wrong("file", f"{path}: {name} of synapse {bad[0]} is missing or not finite, expected a finite number")


def _neurons(path: Path, name: str, column: Column, size: int) -> Column:
    """Return numbers of neurons; refuse those that there are not."""
    if column.dtype.kind == "f":
        raise wrong("file", f"{path}: column {name} holds {column.dtype} numbers, expected whole numbers")
    bad = np.flatnonzero((column < 0) | (column >= size))
    if len(bad):
        where = f"{name} {column[bad[0]]} of synapse {bad[0]}"
        raise wrong("file", f"{path}: there is no {where}: the population has {size} neurons, counted from 0")
    return column.astype(np.int32)


def _ticks(path: Path, column: Column, tick: float) -> Column:
    """Return delays in ticks; refuse those that are negative or no whole number."""
    ticks = column / tick
    whole = np.rint(ticks)
    bad = np.flatnonzero((np.abs(ticks - whole) > 1e-6) | (whole < 0) | (whole > MOST_TICKS))
    if len(bad):
        got = f"{path}: synapse {bad[0]} has delay {column[bad[0]]}"
        hint = "" if tick != 1 else "; if the unit is not a tick, give its length as 'tick'"
        raise wrong("file", f"{got}, expected a whole number of ticks, 0 to {MOST_TICKS:,}{hint}")
    return whole.astype(np.int32)
