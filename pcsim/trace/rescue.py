"""What is still written of a trace when its disk is full: as many ticks as fit, and their lengths."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcsim.trace.columns import Column, Node
    from pcsim.trace.metadata import Documents
    from pcsim.trace.store import Target

ROOM = 16 * 2**10
"""Bytes left for the manifest of the run, beside what the documents of the trace take."""


@dataclass(frozen=True)
class Rescue:
    """The buffers of a writer that could not write on, its arrays by name, and the documents that say what is there."""

    nodes: Sequence[Node]
    targets: Mapping[str, Target]
    documents: Documents

    def keep(self) -> int | None:
        """Write and announce as many ticks as fit; return the last one that is kept, None if there is none."""
        ticks = self._ticks_that_fit()
        with suppress(OSError):
            self.documents.announce({node.path: max(node.kept, self._whole(node, ticks)) for node in self.nodes})
            for node in self.nodes:
                node.kept = max(node.kept, self._whole(node, ticks))
        return max(((node.kept - 1) * node.every for node in self.nodes if node.kept), default=None)

    def _ticks_that_fit(self) -> int:
        """Write what there is room for: all records of the ticks before the one that is returned."""
        high = max(node.rows * node.every for node in self.nodes)
        if self._fits(high):
            return high
        # before this tick chunks are on disk and no longer at hand: they can be removed, not cut
        low = max(column.start * node.every for node, column in self._columns())
        if not self._fits(low):
            return self._without_chunks(low)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._fits(middle) else (low, middle)
        self._fits(low)
        return low

    def _without_chunks(self, ticks: int) -> int:
        """Give up chunks that were not announced, the last ones first, until there is room."""
        step = min(len(column.buffer) * node.every for node, column in self._columns())
        announced = min(node.kept * node.every for node in self.nodes)
        while ticks > announced and not self._fits(ticks := max(announced, ticks - step)):
            pass
        return ticks

    def _fits(self, ticks: int) -> bool:
        """Write all records of the ticks before this one and nothing else, and tell whether there was room."""
        try:
            for node, column in self._columns():
                self._erase(column, node.kept, node.rows_before(ticks))
            for node, column in self._columns():
                _rewrite(column, node.rows_before(ticks))
            self.documents.leave_room(ROOM)
        except OSError:
            return False
        return True

    def _erase(self, column: Column, kept: int, rows: int) -> None:
        """Remove the chunks that hold none of the ``kept`` rows: the open one, and those beyond ``rows``."""
        target = self.targets[f"{column.channel.path}/{column.channel.variable}"]
        step = len(column.buffer)
        for start in range(-(-kept // step) * step, column.start + 1, step):
            if start >= min(column.start, rows):
                target.erase(start, column.buffer)
                column.written = min(column.written, start)

    def _whole(self, node: Node, ticks: int) -> int:
        """Return the records of a node before a tick that are in all its columns."""
        return min(node.rows_before(ticks), *(column.written for column in node.columns))

    def _columns(self) -> list[tuple[Node, Column]]:
        return [(node, column) for node in self.nodes for column in node.columns]


def _rewrite(column: Column, rows: int) -> None:
    """Write what the open chunk holds of the first ``rows`` rows, and no more."""
    if column.start < rows > column.written:
        part = column.buffer.copy()
        part[rows - column.start :] = 0
        column.array.write(column.start, part, tight=True)
        column.written = rows
