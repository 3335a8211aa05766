"""Writes a trace while a run goes on, in bounded memory where it goes to a folder."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pcsim.trace.channel import by_node
from pcsim.trace.columns import Column, Node, chunk_rows
from pcsim.trace.disk_trace import DiskTrace
from pcsim.trace.memory_trace import MemoryTrace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from pcsim.trace.channel import Channel, Static

NO_ATTRS: Mapping[str, Any] = MappingProxyType({})


class TraceWriter:
    """Records channels tick by tick, into a folder that xarray opens as a DataTree, or into memory.

    Parameters
    ----------
    store : a folder that is empty or does not exist yet; ``None`` keeps the trace in memory
    channels : what to record
    ticks : the horizon; no tick from there on can be recorded
    buffer_bytes : bytes held back before they are written, at most (never less than a record of each); packing
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
        groups = by_node(channels)
        self._nodes = [Node(path, group[0].every, group[0].records(ticks)) for path, group in groups.items()]
        self._trace = MemoryTrace(dict(attrs)) if store is None else DiskTrace(store, attrs)
        pairs = [(node, channel) for node in self._nodes for channel in (node.clock(), *groups[node.path])]
        rows = chunk_rows([channel for _, channel in pairs], ticks, buffer_bytes)
        for (node, channel), count in zip(pairs, rows, strict=True):
            node.columns.append(self._column(channel, count, ticks))
        for _, channel in pairs:
            self._label(channel)
        self._trace.announce()

    @property
    def store(self) -> Path | MemoryTrace:
        """What ``open_trace`` opens: the folder, or what is in memory."""
        return self._trace.store

    def record(self, tick: int) -> None:
        """Read every channel that is due at this tick; raises RunError if it cannot be written."""
        full = False
        for node in self._nodes:
            if tick % node.every == 0:
                full |= node.record(tick)
        if full:
            self._trace.take(self._nodes)

    def extend(self, path: str, ticks: np.ndarray, series: Mapping[str, np.ndarray]) -> None:
        """Add many records of one node at once.

        Parameters
        ----------
        ticks : (records,), in order
        series : {variable: (records, *shape)}, all variables of the node but the ticks

        Raises RunError if they cannot be written.
        """
        node = next(node for node in self._nodes if node.path == path)
        while len(ticks):
            taken = node.extend(ticks, series)
            ticks, series = ticks[taken:], {name: rows[taken:] for name, rows in series.items()}
            if any(column.full(node.rows) for column in node.columns):
                self._trace.take(self._nodes)

    def flush(self) -> None:
        """Write all that is buffered; after it, a reader sees every tick so far."""
        self._trace.flush(self._nodes)

    def static(
        self, path: str, variable: str, dims: Sequence[str], array: np.ndarray, names: Sequence[str] = ()
    ) -> None:
        """Write an array that has no ticks, once; ``names`` label its first dimension."""
        if names:
            self._trace.add_static(path, dims[0], (dims[0],), np.asarray(names))
        self._trace.add_static(path, variable, tuple(dims), np.asarray(array))
        self._trace.announce()

    def later(self, make: Callable[[], Iterable[Static]]) -> None:
        """Write arrays that have no ticks: on disk now, in memory once the trace is opened or written."""
        if isinstance(self._trace, MemoryTrace):
            self._trace.pending.append(make)
        else:
            for array in make():
                self.static(*array)

    def close(self, attrs: Mapping[str, Any] = NO_ATTRS) -> None:
        """Flush, add final attributes, and write no more; a writer that failed before does nothing."""
        self._trace.close(self._nodes, attrs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _column(self, channel: Channel, rows: int, ticks: int) -> Column:
        buffer = np.zeros((rows, *channel.shape), channel.dtype)
        return Column(channel, buffer, self._trace.add_series(channel, rows, ticks))

    def _label(self, channel: Channel) -> None:
        if channel.names:
            self._trace.add_static(channel.path, channel.dims[0], (channel.dims[0],), np.asarray(channel.names))
        for name, (dim, values) in channel.coords.items():
            self._trace.add_static(channel.path, name, (dim,), np.asarray(values))
            self._trace.coordinate(channel.path, name)
