"""A trace in a folder, which can be read at any time, and after any end.

Where the disk is full, as many of the buffered ticks are written as fit.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import RunError
from pcsim.trace.columns import chunk_shape
from pcsim.trace.metadata import Documents
from pcsim.trace.rescue import Rescue
from pcsim.trace.store import LARGE, Folder, Target, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pcsim.trace.channel import Channel
    from pcsim.trace.columns import Column, Node

ANNOUNCE_EVERY = 0.5
"""Seconds between announcements of full chunks to readers: each replaces several small files."""

WRITERS = 2
"""Threads that pack and write large chunks: 600 MiB of them take 0.56 s in memory, with one thread 0.85 s."""


class DiskTrace:
    """A new trace in a folder.

    Every method raises RunError where the disk refuses; what was flushed before stays readable, and so much as still
    fits of what was not.
    """

    def __init__(self, path: Path, attrs: Mapping[str, Any]) -> None:
        self.store = path
        self.closed = False
        self._nodes: Sequence[Node] = ()
        self._targets: dict[str, Target] = {}
        self._kept: int | None = None
        self._announced = 0.0
        with self._writing():
            self.documents = Documents(Folder(path), dict(attrs))

    def add_series(self, channel: Channel, rows: int, ticks: int) -> Target:
        """Add what a channel records; chunks have so many rows."""
        name, dims = f"{channel.path}/{channel.variable}", ("tick", *channel.dims)
        target = Target(self.documents.folder, name, chunk_shape(rows, channel), np.dtype(channel.dtype))
        self.documents.add(
            channel.path, channel.variable, target.document((channel.records(ticks), *channel.shape), dims)
        )
        self._targets[name] = target
        return target

    def add_static(self, path: str, variable: str, dims: tuple[str, ...], values: np.ndarray) -> None:
        """Write an array that has no ticks, unless it is there."""
        if not self.documents.has(path, variable):
            with self._writing():
                document = write_whole(self.documents.folder, f"{path}/{variable}", values, dims)
                self.documents.add(path, variable, document)

    def coordinate(self, path: str, name: str) -> None:
        """Say that a variable is a coordinate."""
        self.documents.coordinate(path, name)

    def announce(self) -> None:
        """Let readers see what was added."""
        with self._writing():
            self.documents.announce(dict.fromkeys(self.documents.arrays, 0) | self._lengths())

    def take(self, nodes: Sequence[Node]) -> None:
        """Write the chunks that are full; now and then all that is buffered, and announce it."""
        if time.monotonic() - self._announced > ANNOUNCE_EVERY or all(node.rows == node.capacity for node in nodes):
            self.flush(nodes)
        elif not self.closed:
            self._nodes = nodes
            with self._writing():
                self._write([chunk for node in nodes for chunk in node.open_chunks(only_full=True)])
                _turn(nodes)

    def flush(self, nodes: Sequence[Node]) -> None:
        """Write all that is buffered; after it, a reader sees every tick so far."""
        if self.closed:
            return
        self._nodes = nodes
        with self._writing():
            # data first, lengths second, buffers last: an interrupt anywhere in here can be flushed again
            grown = [node for node in nodes if node.rows > node.kept]
            self._write([chunk for node in grown for chunk in node.open_chunks()])
            self._announce(grown)
            _turn(grown)

    def _write(self, columns: Sequence[tuple[int, Column]]) -> None:
        """Write open chunks, each as far as it is filled; several large ones at once."""
        if sum(column.buffer.nbytes >= LARGE for _, column in columns) < WRITERS:
            for rows, column in columns:
                column.write(rows)
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(WRITERS, "trace") as pool:  # which ends when all have ended
            written = [pool.submit(column.write, rows) for rows, column in columns]
        for each in written:
            each.result()

    def close(self, nodes: Sequence[Node], attrs: Mapping[str, Any]) -> None:
        """Flush, add final attributes, and write no more; does nothing where writing failed before."""
        if self.closed:
            return
        self.flush(nodes)
        with self._writing():
            self.documents.attrs |= attrs
            self.documents.announce({})
        self.closed = True

    def _announce(self, grown: Sequence[Node]) -> None:
        if grown:
            self.documents.announce({node.path: node.rows for node in grown})
            self._kept = max(node.tick for node in grown)
            self._announced = time.monotonic()
        for node in grown:
            node.kept = node.rows

    def _lengths(self) -> dict[str, int]:
        return {node.path: node.kept for node in self._nodes}

    def _rescue(self) -> None:
        """Keep what still fits of that which is buffered."""
        if nodes := [node for node in self._nodes if node.rows]:
            self._kept = Rescue(nodes, self._targets, self.documents).keep()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.closed = True
            self._rescue()
            kept = f"what was written until tick {self._kept} is kept"
            kept = "nothing was written" if self._kept is None else kept
            message = f"cannot write trace to {self.store}: {error.strerror or error}; {kept}"
            raise RunError(message) from error


def _turn(nodes: Sequence[Node]) -> None:
    for node in nodes:
        node.turn()
