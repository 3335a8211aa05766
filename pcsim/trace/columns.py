"""Buffers of a writer: a column holds the open chunk of one variable, a node the columns of equal ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pcsim.trace.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHUNK = 4 * 2**20
"""Bytes of a chunk, at most, where a record is smaller: large enough for a disk, small enough to read one."""

SMALL = 64 * 2**10
"""Bytes up to which a chunk is filled over several flushes, and rewritten by each: few files, little work."""


class Chunked(Protocol):
    """An array whose chunks are kept somewhere: on disk or in memory."""

    def write(self, start: int, rows: np.ndarray, *, tight: bool = False) -> None:
        """Keep the chunks that begin with row ``start``; ``tight``: space matters more than time."""


@dataclass
class Column:
    """The rows of one variable that are not yet in a full chunk.

    The array covers the whole horizon from the start; how much of it a reader sees is announced apart,
    so that what is announced is always already there.

    Attributes
    ----------
    buffer : (rows of a chunk, *shape), the open chunk, from row ``start`` on
    written : rows that are on disk
    """

    channel: Channel
    buffer: np.ndarray
    array: Chunked
    start: int = 0
    written: int = 0

    def full(self, rows: int) -> bool:
        """Tell whether a node of so many rows leaves no room here."""
        return rows - self.start == len(self.buffer)

    def write(self, rows: int) -> None:
        """Write the open chunk as a whole, so that nothing need be read back, if it holds anything."""
        if rows > self.start:
            self.buffer[rows - self.start :] = 0
            self.array.write(self.start, self.buffer)
            self.written = rows

    def turn(self, rows: int) -> None:
        """Begin the next chunk where this one is full."""
        if self.full(rows):
            self.start += len(self.buffer)


@dataclass
class Node:
    """Variables that are recorded at the same ticks: ``rows`` are in every column, ``kept`` are announced."""

    path: str
    every: int
    capacity: int
    columns: list[Column] = field(default_factory=list)
    tick: int = -1
    rows: int = 0
    kept: int = 0

    def record(self, tick: int) -> bool:
        """Add one row to every column and tell whether one is full; an interrupted row does not count."""
        self.admit(tick, 1)
        self.tick = tick
        for column in self.columns:
            column.buffer[self.rows - column.start] = column.channel.read()
        self.rows += 1
        return any(column.full(self.rows) for column in self.columns)

    def extend(self, ticks: np.ndarray, series: Mapping[str, np.ndarray]) -> int:
        """Add as many rows as fit before a column is full, and return how many; ``series`` has all but the ticks."""
        count = min(len(ticks), *(column.start + len(column.buffer) - self.rows for column in self.columns))
        self.admit(int(ticks[count - 1]), count)
        for column in self.columns:
            rows = ticks if column.channel.variable == "tick" else series[column.channel.variable]
            first = self.rows - column.start
            column.buffer[first : first + count] = rows[:count]
        self.tick = int(ticks[count - 1])
        self.rows += count
        return count

    def write(self, *, only_full: bool = False) -> None:
        """Write the open chunks, or those of them that are full."""
        for rows, column in self.open_chunks(only_full=only_full):
            column.write(rows)

    def open_chunks(self, *, only_full: bool = False) -> list[tuple[int, Column]]:
        """Return the columns, or those of them whose chunk is full, each with the rows to be written of it."""
        return [(self.rows, column) for column in self.columns if column.full(self.rows) or not only_full]

    def turn(self) -> None:
        """Begin the next chunks where these are full and written."""
        for column in self.columns:
            column.turn(self.rows)

    def admit(self, tick: int, count: int) -> None:
        """Refuse what the horizon has no room for."""
        if self.rows + count > self.capacity:
            message = f"tick {tick} is beyond the horizon: {self.path} has room for {self.capacity} records"
            raise ValueError(message)

    def rows_before(self, tick: int) -> int:
        """Return how many records there are of the ticks before this one."""
        return min(self.rows, -(-tick // self.every))

    def clock(self) -> Channel:
        """Return the channel of this node's own ticks."""
        ticks = np.dtype(np.int64)
        return Channel(self.path, "tick", (), (), ticks, lambda: np.asarray(self.tick), every=self.every)


def chunk_rows(channels: Sequence[Channel], ticks: int, budget: int) -> list[int]:
    """Return the rows of each channel's buffer, which are those of its chunks.

    All buffers fill in the same number of ticks, so that no chunk is written twice, but for those
    below ``SMALL``. Together they take at most ``budget`` bytes; where one record of each channel is
    more than that, they take this, and at most a quarter of the budget for small chunks.
    """
    densest = max((channel.nbytes / channel.every for channel in channels), default=0)
    window = max(1, min(ticks, int(CHUNK / max(densest, 1))))
    rows = _rows(channels, window, ticks, budget)
    while window > 1 and _total(channels, rows) > budget:
        window = window * 3 // 4
        rows = _rows(channels, window, ticks, budget)
    return rows


def _rows(channels: Sequence[Channel], window: int, ticks: int, budget: int) -> list[int]:
    common = math.lcm(*(channel.every for channel in channels))
    window -= window % common if window > common else 0
    small = min(SMALL, budget // (4 * max(1, len(channels))))
    return [_several(channel, channel.records(window), ticks, small) for channel in channels]


def _several(channel: Channel, rows: int, ticks: int, small: int) -> int:
    times = max(1, small // max(1, rows * channel.nbytes))
    return max(1, min(rows * times, channel.records(ticks)))


def _total(channels: Sequence[Channel], rows: Sequence[int]) -> int:
    return sum(channel.nbytes * n for channel, n in zip(channels, rows, strict=True))


def chunk_shape(rows: int, channel: Channel) -> tuple[int, ...]:
    """Return the shape of a chunk: whole records, or parts along the first axis of a record that is large."""
    shape = tuple(max(1, extent) for extent in channel.shape)
    if channel.nbytes <= CHUNK:
        return (rows, *shape)
    first = max(1, CHUNK // (channel.nbytes // shape[0]))
    return (rows, min(first, shape[0]), *shape[1:])
