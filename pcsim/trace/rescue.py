"""What is still written of a trace when its disk is full: as many ticks as fit, and their lengths."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.trace.columns import Column, Node
    from pcsim.trace.documents import Documents

ROOM = 16 * 2**10
"""Bytes left for the manifest of the run, beside what the documents of the trace take."""


@dataclass(frozen=True)
class Rescue:
    """The buffers of a writer that could not write on, and the documents that tell what is there."""

    nodes: Sequence[Node]
    documents: Documents

    def keep(self) -> int | None:
        """Write and announce as many ticks as fit; return the last one that is kept, None if there is none."""
        low = min(column.written * node.every for node, column in self._columns())
        high = max(node.rows * node.every for node in self.nodes)
        # all ticks below ``low`` are there; whether those below ``high`` fit, only the disk can tell
        low, high = (high, high) if self._fits(high) else (low, high)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._fits(middle) else (low, middle)
        self._fits(low)
        with suppress(OSError):
            self.documents.announce({node.path: max(node.kept, self._whole(node, low)) for node in self.nodes})
            for node in self.nodes:
                node.kept = max(node.kept, self._whole(node, low))
        return max(((node.kept - 1) * node.every for node in self.nodes if node.kept), default=None)

    def _fits(self, ticks: int) -> bool:
        """Write all records of the ticks before this one and nothing else, and tell whether there was room."""
        try:
            for node, column in self._columns():
                column.erase(node.kept)
            for node, column in self._columns():
                column.rewrite(node.rows_before(ticks))
            self.documents.leave_room(ROOM)
        except OSError:
            return False
        return True

    def _whole(self, node: Node, ticks: int) -> int:
        """Return the records of a node before a tick that are in all its columns."""
        return min(node.rows_before(ticks), *(column.written for column in node.columns))

    def _columns(self) -> list[tuple[Node, Column]]:
        return [(node, column) for node in self.nodes for column in node.columns]
