"""Squares of errors: summed while ticks run, by each thread its own, and added up after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from pcsim.arrays import zeros_in_lines
from pcsim.engines.jit.kernels.common import PART
from pcsim.engines.jit.kernels.native import address_of
from pcsim.engines.jit.kernels.squares import TOTALS, add_parts

if TYPE_CHECKING:
    from pcsim.engines.jit.layout import Layout
    from pcsim.engines.jit.pool import ThreadPool
    from pcsim.engines.jit.segments import Compiled, Sharing


def write_totals(layout: Layout) -> int:
    """Write a record for the operands of ``add_parts``, and return its place."""
    return layout.table.write(TOTALS, "all", parts=0, distance=0, vertices=0, room=0, sums=-1, totals=0)


class Noted:
    """Where squares are noted, (parts, ticks, vertices, sums): threads that share out the samples have a part each.

    Before the first tick comes one that is zero, as all is that was unchanged at tick 0; after the last, one for
    what notes its own when it moves.
    """

    def __init__(
        self,
        what: Literal["squares", "apart"],
        sharing: Sharing,
        pool: ThreadPool,
        parts: np.ndarray,
        vertices: int,
        blocks: int,
        location: int,
    ) -> None:
        self.what, self.sharing, self.pool, self.parts, self.location = what, sharing, pool, parts, location
        self.vertices, self.blocks, self.operands = vertices, blocks, TOTALS.view(pool.table, location)
        self.count = len(parts) if sharing.by_sample else 1
        self.segments: dict[int, Compiled] = {}
        """What adds up so many ticks, as it was last needed."""
        self._make_room(0)

    def begin(self, first: int, ticks: int) -> None:
        """Let ticks from ``first`` on be noted."""
        if self.room < ticks:
            self._make_room(ticks)
        for number, place in enumerate(self.parts):
            part = PART.view(self.pool.table, place)
            mine = address_of(self.sums) + number % len(self.sums) * self.sums[0].size
            part[self.what] = mine - (first - 1) * self.sums[0, 0].size
            part["since"] = first or -1

    def take(self, totals: np.ndarray) -> None:
        """Set totals (ticks, vertices) to what was noted."""
        found = totals if totals.flags.c_contiguous else np.empty(totals.shape)
        ticks, own = len(totals), self.operands
        own["parts"], own["distance"], own["vertices"] = self.count, self.sums[0].size, self.vertices
        own["room"], own["sums"] = self.sums.shape[3], address_of(self.sums) + self.sums[0, 0].size
        own["totals"] = address_of(found) - address_of(self.pool.table)
        if ticks not in self.segments:
            ends = np.linspace(0, ticks, self.pool.threads + 1).astype(np.int64)
            self.segments = {ticks: self.sharing.compiled([self.sharing.between(add_parts, self.location, ends)])}
        instructions = self.segments[ticks].numbers
        self.pool.run(instructions, self.parts, 0, 0, 1, work=found.size, in_step=False)
        if found is not totals:
            totals[...] = found

    def _make_room(self, ticks: int) -> None:
        self.room = ticks
        shape = (self.count, ticks + 2, self.vertices, -(-self.blocks // self.count))
        self.sums = zeros_in_lines(np, shape, self.pool.memory.dtype)
