"""Writes a trace while a run goes on, in bounded memory; it can be read at any time, and after any end."""

from __future__ import annotations

from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pcsim.errors import RunError
from pcsim.trace.channel import Channel, by_node
from pcsim.trace.columns import Column, Node, chunk_rows, chunk_shape
from pcsim.trace.documents import Documents
from pcsim.trace.store import create, create_filled, open_place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from zarr.abc.store import Store

NO_ATTRS: Mapping[str, Any] = MappingProxyType({})


class TraceWriter:
    """Records channels tick by tick into a Zarr store, which xarray opens as a DataTree.

    Parameters
    ----------
    store : a folder that is empty or does not exist yet; ``None`` keeps the trace in memory
    channels : what to record
    ticks : the horizon; no tick from there on can be recorded
    buffer_bytes : bytes held back before they are written, at most (never less than one record of each)
    attrs : JSON-able attributes of the whole trace

    Raises
    ------
    InputError
        If the folder holds something, or channels of one node do not go together.
    RunError
        If it cannot be written, here and in every method; what was flushed before stays readable.
    """

    def __init__(
        self,
        store: Path | None,
        channels: Sequence[Channel],
        *,
        ticks: int,
        buffer_bytes: int = 16 * 2**20,
        attrs: Mapping[str, Any] = NO_ATTRS,
    ) -> None:
        self._path = store
        self._kept: int | None = None
        self._closed = False
        self._nodes = [_node(path, group) for path, group in by_node(channels).items()]
        with self._writing():
            self._documents = Documents(open_place(store), dict(attrs))
            self._open(ticks, buffer_bytes)
            self._documents.announce(self._lengths())

    @property
    def store(self) -> Path | Store:
        """What ``open_trace`` opens: the folder, or the store in memory."""
        return self._documents.place.store if self._path is None else self._path

    def record(self, tick: int) -> None:
        """Read every channel that is due at this tick; raises RunError if it cannot be written."""
        full = False
        for node in self._nodes:
            if tick % node.every == 0:
                full |= node.record(tick)
        if full:
            self.flush()

    def flush(self) -> None:
        """Write all that is buffered; after it, a reader sees every tick so far."""
        grown = [node for node in self._nodes if node.rows > node.kept]
        if grown and not self._closed:
            with self._writing():
                self._write(grown)
            self._kept = max(node.tick for node in grown)

    def static(
        self, path: str, variable: str, dims: Sequence[str], array: np.ndarray, names: Sequence[str] = ()
    ) -> None:
        """Write an array that has no ticks, once; ``names`` label its first dimension."""
        with self._writing():
            self._add(path, variable, tuple(dims), np.asarray(array))
            if names:
                self._add(path, dims[0], (dims[0],), np.asarray(names))
            self._documents.announce({path: self._lengths().get(path, 0)})

    def close(self, attrs: Mapping[str, Any] = NO_ATTRS) -> None:
        """Flush, add final attributes, and write no more; a writer that failed before does nothing."""
        if self._closed:
            return
        self.flush()
        with self._writing():
            self._documents.attrs |= attrs
            self._documents.announce({})
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lengths(self) -> dict[str, int]:
        return {node.path: node.kept for node in self._nodes}

    def _open(self, ticks: int, budget: int) -> None:
        columns = [column for node in self._nodes for column in node.columns]
        channels = [column.channel for column in columns]
        for column, rows in zip(columns, chunk_rows(channels, ticks, budget), strict=True):
            self._allocate(column, rows, ticks)
        for channel in channels:
            self._label(channel)

    def _allocate(self, column: Column, rows: int, ticks: int) -> None:
        channel = column.channel
        name, dims = f"{channel.path}/{channel.variable}", ("tick", *channel.dims)
        shape, chunks = (channel.records(ticks), *channel.shape), chunk_shape(rows, channel)
        column.capacity = channel.records(ticks)
        column.buffer = np.zeros((rows, *channel.shape), channel.dtype)
        column.array = create(self._documents.place, name, shape, chunks, np.dtype(channel.dtype), dims)
        self._documents.adopt(channel.path, channel.variable)

    def _label(self, channel: Channel) -> None:
        if channel.names:
            self._add(channel.path, channel.dims[0], (channel.dims[0],), np.asarray(channel.names))
        for name, (dim, values) in channel.coords.items():
            self._add(channel.path, name, (dim,), np.asarray(values))
            self._documents.coordinate(channel.path, name)

    def _add(self, path: str, variable: str, dims: tuple[str, ...], values: np.ndarray) -> None:
        if not self._documents.has(path, variable):
            create_filled(self._documents.place, f"{path}/{variable}", values, dims)
            self._documents.adopt(path, variable)

    def _write(self, nodes: Sequence[Node]) -> None:
        # data first, lengths second, buffers last: an interrupt anywhere in here can be flushed again
        for node in nodes:
            node.write()
        self._documents.announce({node.path: node.rows for node in nodes})
        for node in nodes:
            node.advance()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._closed = True
            kept = f"what was written until tick {self._kept} is kept"
            kept = "nothing was written" if self._kept is None else kept
            message = f"cannot write trace to {self._path}: {error.strerror or error}; {kept}"
            raise RunError(message) from error


def _node(path: str, channels: Sequence[Channel]) -> Node:
    node = Node(path, channels[0].every)
    node.columns = [Column(channel, np.empty(0)) for channel in (node.clock(), *channels)]
    return node
