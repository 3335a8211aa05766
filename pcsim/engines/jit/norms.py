"""Norms of errors: squares are summed while ticks run, by each thread its own, and their roots taken after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcsim.arrays import zeros_in_lines
from pcsim.engines.jit.kernels.common import PART
from pcsim.engines.jit.kernels.native import address_of
from pcsim.engines.jit.kernels.squares import NORMS, lengths

if TYPE_CHECKING:
    from pcsim.engines.jit.layout import Layout
    from pcsim.engines.jit.pool import ThreadPool
    from pcsim.engines.jit.segments import Compiled, Sharing


def place_norms(layout: Layout) -> int:
    """Write a record for the operands of ``lengths``, and return its place."""
    return layout.table.write(NORMS, "all", parts=0, distance=0, vertices=0, sums=-1, norms=0)


class Norms:
    """Where sums of squares are noted, (parts, ticks, vertices): threads that share out the samples have a part each.

    Before the first tick comes one that is zero, as all is that was unchanged at tick 0; after the last, one for
    what notes its own when it moves.
    """

    def __init__(self, sharing: Sharing, pool: ThreadPool, parts: np.ndarray, vertices: int, place: int) -> None:
        self.sharing, self.pool, self.parts, self.place = sharing, pool, parts, place
        self.vertices, self.operands = vertices, NORMS.view(pool.table, place)
        self.segments: dict[int, Compiled] = {}
        """What takes so many ticks, as it was last needed."""
        self._make_room(0)

    def begin(self, first: int, ticks: int) -> None:
        """Let ticks from ``first`` on be noted."""
        if self.room < ticks:
            self._make_room(ticks)
        for number, place in enumerate(self.parts):
            part = PART.view(self.pool.table, place)
            mine = address_of(self.sums) + number % len(self.sums) * self.sums[0].size
            part["norms"] = mine - (first - 1) * self.vertices
            part["since"] = first or -1

    def take(self, norms: np.ndarray) -> None:
        """Set norms (ticks, vertices) to what was noted."""
        found = norms if norms.flags.c_contiguous else np.empty(norms.shape)
        ticks, own = len(norms), self.operands
        own["parts"], own["distance"], own["vertices"] = len(self.sums), self.sums[0].size, self.vertices
        own["sums"] = address_of(self.sums) + self.vertices
        own["norms"] = address_of(found) - address_of(self.pool.table)
        if ticks not in self.segments:
            ends = np.linspace(0, ticks, self.pool.threads + 1).astype(np.int64)
            self.segments = {ticks: self.sharing.compiled([self.sharing.between(lengths, self.place, ends)])}
        instructions = self.segments[ticks].numbers
        self.pool.run(instructions, self.parts, 0, 0, 1, work=found.size, in_step=False)
        if found is not norms:
            norms[...] = found

    def _make_room(self, ticks: int) -> None:
        self.room = ticks
        count = len(self.parts) if self.sharing.by_sample else 1
        self.sums = zeros_in_lines(np, (count, ticks + 2, self.vertices), self.pool.memory.dtype)
