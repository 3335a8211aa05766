"""Synapses from files: SciPy's sparse matrices, Parquet tables, SONATA edges."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from pcsim.arrays import sparse
from pcsim.errors import nearest, wrong
from pcsim.ops.attributes import MAX_ELEMENTS, MOST_TICKS

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
    if not path.is_file():
        raise wrong("file", f"cannot read {path}: no such file")
    try:
        columns = _READERS[path.suffix](path, {**given, "shape": (after, before)})
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise wrong("file", f"cannot read {path}: {error}") from None
    return _checked(path, columns, given.get("tick", 1.0), before, after)


def _npz(path: Path, given: Mapping[str, Any]) -> dict[str, Column]:
    """Read weights, (after, before): a synapse for each entry that is stored."""
    matrix = sparse(np).load_npz(path).tocoo()
    if matrix.shape != given["shape"]:
        message = f"shape {matrix.shape}, expected {given['shape']}: rows are neurons after, columns neurons before"
        raise ValueError(message)
    return {"pre": matrix.col, "post": matrix.row, "weight": matrix.data}


def _parquet(path: Path, given: Mapping[str, Any]) -> dict[str, Column]:
    module = _library("pyarrow.parquet", "Parquet files", "pyarrow")
    names = module.read_schema(path).names
    problems = [name for name in ("pre", "post") if name not in names]
    if problems:
        message = f"{path} has no column {problems[0]!r}" + nearest(problems[0], names)
        raise wrong("file", message)
    table = module.read_table(path, columns=[name for name in _COLUMNS if name in names])
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _sonata(path: Path, given: Mapping[str, Any]) -> dict[str, Column]:
    module = _library("h5py", "SONATA files", "h5py")
    with module.File(path, "r") as file:
        return _of_population(path, file, given.get("edges"))


def _of_population(path: Path, file: Any, name: str | None) -> dict[str, Column]:
    populations = list(file["edges"]) if "edges" in file else []
    if name is None and len(populations) == 1:
        name = populations[0]
    if name not in populations:
        message = f"{path} holds the edges {', '.join(populations) or 'of none'}" + nearest(str(name), populations)
        raise wrong("edges", message)
    edges = file["edges"][name]
    found = {"pre": edges["source_node_id"][:], "post": edges["target_node_id"][:]}
    if "edge_group_id" in edges and edges["edge_group_id"][:].any():
        raise wrong("file", f"{path}: /edges/{name} has several groups, expected group 0 alone")
    group = edges.get("0", {})
    rows = edges["edge_group_index"][:] if "edge_group_index" in edges else slice(None)
    names = {"delay": "delay", "weight": "weight", "syn_weight": "weight"}
    return found | {names[key]: group[key][:][rows] for key in names if key in group}


def _library(module: str, what: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise wrong("file", f'{what} need {name}: pip install "pcsim[files]"') from None


_COLUMNS = ("pre", "post", "delay", "weight")
_READERS: dict[str, Callable[[Path, Mapping[str, Any]], dict[str, Column]]] = {
    ".npz": _npz,
    ".parquet": _parquet,
    ".h5": _sonata,
    ".hdf5": _sonata,
}


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
