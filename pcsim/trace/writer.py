"""Writes a trace while a run goes on, in bounded memory; it can be read at any time, and after any end.

Full chunks are packed and written by a thread of the writer, one batch at a time: the run goes on into the other
half of the buffers, and waits only where that fills before the first is on disk. Where the disk is full, as many
of the buffered ticks are written as fit.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pcsim.errors import RunError
from pcsim.trace.channel import by_node
from pcsim.trace.columns import Column, Node, chunk_rows, chunk_shape
from pcsim.trace.documents import Documents
from pcsim.trace.rescue import Rescue
from pcsim.trace.store import create, create_filled, open_place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor
    from pathlib import Path

    from zarr.abc.store import Store

    from pcsim.trace.channel import Channel
    from pcsim.trace.columns import Chunk

TELL_EVERY = 0.5
"""Seconds between the times that a reader is told of full chunks: saying it replaces several small files."""

NO_ATTRS: Mapping[str, Any] = MappingProxyType({})


class TraceWriter:
    """Records channels tick by tick into a Zarr store, which xarray opens as a DataTree.

    Parameters
    ----------
    store : a folder that is empty or does not exist yet; ``None`` keeps the trace in memory
    channels : what to record
    ticks : the horizon; no tick from there on can be recorded
    buffer_bytes : bytes held back before they are written, at most (never less than two records of each); packing
        takes one chunk more
    attrs : JSON-able attributes of the whole trace

    Raises
    ------
    InputError
        If the folder holds something, or channels of one node do not go together.
    RunError
        If it cannot be written, here and in every method; what was flushed before stays readable, and so
        much as still fits of what was not.
    """

    def __init__(
        self,
        store: Path | None,
        channels: Sequence[Channel],
        *,
        ticks: int,
        buffer_bytes: int = 32 * 2**20,
        attrs: Mapping[str, Any] = NO_ATTRS,
    ) -> None:
        self._path = store
        self._kept: int | None = None
        self._closed = False
        self._channels = by_node(channels)
        self._nodes = [Node(path, group[0].every, group[0].records(ticks)) for path, group in self._channels.items()]
        self._hands: ThreadPoolExecutor | None = None
        self._given: Future[None] | None = None
        self._told = 0.0
        with self._writing():
            self._documents = Documents(open_place(store), dict(attrs))
            self._open(ticks, buffer_bytes // 2)
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
            self._pass_on()

    def extend(self, path: str, ticks: np.ndarray, found: Mapping[str, np.ndarray]) -> None:
        """Add many records of one node at once.

        Parameters
        ----------
        ticks : (records,), in order
        found : {variable: (records, *shape)}, all variables of the node but the ticks

        Raises RunError if they cannot be written.
        """
        node = next(node for node in self._nodes if node.path == path)
        while len(ticks):
            taken = node.extend(ticks, found)
            ticks, found = ticks[taken:], {name: rows[taken:] for name, rows in found.items()}
            if any(column.full(node.rows) for column in node.columns):
                self._pass_on()

    def flush(self) -> None:
        """Write all that is buffered; after it, a reader sees every tick so far."""
        if self._closed:
            return
        with self._writing():
            self._await()
            grown = [node for node in self._nodes if node.rows > node.kept]
            for node in grown:
                for column in node.columns:
                    column.write(node.rows)
            self._announce([(node, node.rows, node.tick) for node in grown])
            self._turn(grown)

    def _pass_on(self) -> None:
        """Write what is full; the last of it before anything else happens."""
        if all(node.rows == node.capacity for node in self._nodes):
            self.flush()
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        """Let the thread write all that is buffered, while the other half of the buffers fills."""
        from concurrent.futures import ThreadPoolExecutor

        if self._closed:
            return
        with self._writing():
            self._await()
            grown = [node for node in self._nodes if node.rows > node.kept]
            told = time.monotonic() - self._told > TELL_EVERY
            columns = [(node, column) for node in grown for column in node.columns]
            chunks = [column.hand_over(node.rows) for node, column in columns if told or column.full(node.rows)]
            rows = [(node, node.rows, node.tick) for node in grown] if told else []
            self._hands = self._hands or ThreadPoolExecutor(1, "trace")
            self._given = self._hands.submit(self._write, chunks, rows)
            self._turn(grown)

    def _await(self) -> None:
        """Wait for what was handed over, and hear of what went wrong with it."""
        if self._given is not None:
            self._given.result()
            self._given = None

    def _write(self, chunks: Sequence[Chunk], rows: Sequence[tuple[Node, int, int]]) -> None:
        # data first, lengths second, buffers last: an interrupt anywhere in here can be flushed again
        for chunk in chunks:
            chunk.write()
        self._announce(rows)

    def _announce(self, rows: Sequence[tuple[Node, int, int]]) -> None:
        if rows:
            self._documents.announce({node.path: count for node, count, _ in rows})
            self._kept = max(tick for _, _, tick in rows)
            self._told = time.monotonic()
        for node, count, _ in rows:
            node.kept = count

    def _turn(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            for column in node.columns:
                column.turn(node.rows)

    def static(
        self, path: str, variable: str, dims: Sequence[str], array: np.ndarray, names: Sequence[str] = ()
    ) -> None:
        """Write an array that has no ticks, once; ``names`` label its first dimension."""
        with self._writing():
            self._await()
            if names:
                self._add(path, dims[0], (dims[0],), np.asarray(names))
            self._add(path, variable, tuple(dims), np.asarray(array))
            self._documents.announce({path: self._lengths().get(path, 0)})

    def close(self, attrs: Mapping[str, Any] = NO_ATTRS) -> None:
        """Flush, add final attributes, and write no more; a writer that failed before does nothing."""
        if self._closed:
            return
        self.flush()
        with self._writing():
            self._documents.attrs |= attrs
            self._documents.announce({})
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lengths(self) -> dict[str, int]:
        return {node.path: node.kept for node in self._nodes}

    def _open(self, ticks: int, budget: int) -> None:
        pairs = [(node, channel) for node in self._nodes for channel in (node.clock(), *self._channels[node.path])]
        channels = [channel for _, channel in pairs]
        for (node, channel), rows in zip(pairs, chunk_rows(channels, ticks, budget), strict=True):
            node.columns.append(self._column(channel, rows, ticks))
        for channel in channels:
            self._label(channel)

    def _column(self, channel: Channel, rows: int, ticks: int) -> Column:
        name, dims = f"{channel.path}/{channel.variable}", ("tick", *channel.dims)
        shape, chunks = (channel.records(ticks), *channel.shape), chunk_shape(rows, channel)
        target = create(self._documents.place, name, shape, chunks, np.dtype(channel.dtype), dims)
        self._documents.adopt(channel.path, channel.variable)
        full = (rows, *channel.shape)
        return Column(channel, np.zeros(full, channel.dtype), target, np.zeros(full, channel.dtype))

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

    def _end(self) -> None:
        self._closed = True
        if self._hands is not None:
            self._hands.shutdown()

    def _rescue(self) -> None:
        """Keep what still fits of that which is buffered."""
        if (nodes := [node for node in self._nodes if node.rows]) and self._path is not None:
            self._kept = Rescue(nodes, self._documents).keep()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._end()
            self._rescue()
            kept = f"what was written until tick {self._kept} is kept"
            kept = "nothing was written" if self._kept is None else kept
            message = f"cannot write trace to {self._path}: {error.strerror or error}; {kept}"
            raise RunError(message) from error
