"""A trace in memory: NumPy arrays, from which xarray's view or a folder is made when somebody asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.trace.columns import chunk_shape
from pcsim.trace.metadata import Documents
from pcsim.trace.store import Folder, Target, is_text, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import xarray as xr

    from pcsim.trace.channel import Channel, Static
    from pcsim.trace.columns import Node


@dataclass
class Series:
    """An array with a row for each recorded tick: its chunks by their first row, and how many rows there are."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    held: dict[int, np.ndarray] = field(default_factory=dict)
    rows: int = 0

    def write(self, start: int, rows: np.ndarray, *, tight: bool = False) -> None:  # noqa: ARG002  in memory none is
        """Keep the chunk that begins with row ``start``."""
        self.held[start] = rows.copy()

    def array(self) -> np.ndarray:
        """Return all rows, (rows, *shape)."""
        if not self.held:
            return np.zeros((0, *self.shape[1:]), self.dtype)
        chunks = [self.held[start] for start in sorted(self.held)]
        return (chunks[0] if len(chunks) == 1 else np.concatenate(chunks))[: self.rows]

    def write_to(self, folder: Folder, name: str) -> dict[str, Any]:
        """Write all chunks, and return the document that says how to read them."""
        target = Target(folder, name, self.chunks, self.dtype)
        for start, rows in self.held.items():
            target.write(start, rows)
        return target.document(self.shape, self.dims)


@dataclass
class StaticArray:
    """An array that has no ticks."""

    dims: tuple[str, ...]
    values: np.ndarray
    rows = 0

    def array(self) -> np.ndarray:
        """Return it as zarr reads it."""
        text = getattr(np.dtypes, "StringDType", lambda: np.dtype(object))
        return self.values.astype(text()) if is_text(self.values) else self.values

    def write_to(self, folder: Folder, name: str) -> dict[str, Any]:
        """Write it, and return the document that says how to read it."""
        return write_whole(folder, name, self.values, self.dims)


@dataclass(eq=False)
class MemoryTrace:
    """What was recorded, by node."""

    attrs: dict[str, Any]
    arrays: dict[str, dict[str, Series | StaticArray]] = field(default_factory=dict)
    coordinates: dict[str, list[str]] = field(default_factory=dict)
    closed: bool = False
    pending: list[Callable[[], Iterable[Static]]] = field(default_factory=list)
    """Makes arrays that have no ticks, when somebody asks for them."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MemoryTrace) and self.tree().identical(other.tree())

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and copy keep: everything, what was still to be made included."""
        self._settle()
        return vars(self)

    @property
    def store(self) -> MemoryTrace:
        """What ``open_trace`` opens."""
        return self

    def add_series(self, channel: Channel, rows: int, ticks: int) -> Series:
        """Add what a channel records; chunks have so many rows."""
        shape, dims = (channel.records(ticks), *channel.shape), ("tick", *channel.dims)
        series = Series(dims, shape, chunk_shape(rows, channel), np.dtype(channel.dtype))
        self.arrays.setdefault(channel.path, {})[channel.variable] = series
        return series

    def add_static(self, path: str, variable: str, dims: tuple[str, ...], values: np.ndarray) -> None:
        """Add an array that has no ticks, unless it is there."""
        self.arrays.setdefault(path, {}).setdefault(variable, StaticArray(dims, values))

    def coordinate(self, path: str, name: str) -> None:
        """Say that a variable is a coordinate."""
        names = self.coordinates.setdefault(path, [])
        names.extend([name] if name not in names else [])

    def take(self, nodes: Sequence[Node]) -> None:
        """Take the chunks that are full."""
        for node in nodes:
            node.write(only_full=True)
            node.turn()

    def flush(self, nodes: Sequence[Node]) -> None:
        """Take all that is buffered."""
        for node in nodes:
            node.write()
            node.turn()
            for array in self.arrays[node.path].values():
                if isinstance(array, Series):
                    array.rows = node.rows

    def announce(self) -> None:
        """Do nothing: who opens it sees what there is."""

    def close(self, nodes: Sequence[Node], attrs: Mapping[str, Any]) -> None:
        """Flush, and add final attributes."""
        self.flush(nodes)
        self.attrs |= attrs
        self.closed = True

    def tree(self) -> xr.DataTree:
        """Return what ``xarray.open_datatree`` returns of the same trace on disk."""
        import xarray as xr

        self._settle()
        nodes = {path: self._dataset(path) for path in self.arrays}
        return xr.DataTree.from_dict({"/": xr.Dataset(attrs=self.attrs), **nodes})

    def _settle(self) -> None:
        """Take in what is still to be made."""
        while self.pending:
            for path, variable, dims, values, names in self.pending.pop(0)():
                if names:
                    self.add_static(path, dims[0], (dims[0],), np.asarray(names))
                self.add_static(path, variable, tuple(dims), np.asarray(values))

    def _dataset(self, path: str) -> xr.Dataset:
        import xarray as xr

        arrays = {name: (array.dims, array.array()) for name, array in self.arrays[path].items()}
        labels = {dim for dims, _ in arrays.values() for dim in dims} | set(self.coordinates.get(path, ()))
        coords = {name: array for name, array in arrays.items() if name in labels}
        return xr.Dataset({name: array for name, array in arrays.items() if name not in labels}, coords)

    def write(self, path: Path) -> None:
        """Write it to a new folder, as a run that records there does."""
        self._settle()
        documents = Documents(Folder(path), self.attrs, coordinates=self.coordinates)
        for node, arrays in self.arrays.items():
            for name, array in arrays.items():
                documents.add(node, name, array.write_to(documents.folder, f"{node}/{name}"))
        rows = {node: max(array.rows for array in arrays.values()) for node, arrays in self.arrays.items()}
        documents.announce(rows)
