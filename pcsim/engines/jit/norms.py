"""Norms of errors: squares are summed while ticks are played, by each thread its own, and their roots taken after.

A sum is noted in the number format of the run. One that lost something to the ends of that format, as the sum of
squares of small or large numbers may, is noted by its root instead, with a minus sign.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.arrays import zeros_in_lines
from pcsim.engines.jit import moves
from pcsim.engines.jit.common import ACTIVE, DIRTY, HIGH, LOW, NORMS, SINCE, WOKE
from pcsim.engines.jit.compiled import TYPES, add_reordered, inline, jit, load, store
from pcsim.engines.jit.native import address_of, like, note

if TYPE_CHECKING:
    from pcsim.engines.jit.driver import Crew
    from pcsim.engines.jit.scripts import Scripts

FLOAT64 = TYPES.float64

SHORT = 1024
"""Elements whose squares float32 sums as well as it holds the result."""

LEAST, MOST = 1e-24, 1e38
"""A sum of squares in float32 between these lost nothing to the ends of the number format."""


@jit
def measure(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Note the sum of squares of each active row's error; ``at`` holds a bank as ``moves`` has it.

    What is quiet has the sum of the tick before.
    """
    size, first, active = table[at + moves.SIZE], table[at + moves.FIRST], table[part + ACTIVE]
    begin, n = table[part + LOW] * size, (table[part + HIGH] - table[part + LOW]) * size
    out = table[part + NORMS] + tick * active + first
    woke, dirty = table[part + WOKE] + first, table[part + DIRTY] + first
    error, stride = table[at + moves.ERROR] + begin, table[at + moves.STRIDE]
    for row in range(low, high):
        if tick > table[part + SINCE] and table[woke + row] == 0 and table[dirty + row] == 0:
            store(memory, out + row, load(memory, out + row - active))
        else:
            note_squares(memory, out + row, error + row * stride, n)


@jit
def measure_first(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Do the same at the first tick that is noted; what moves then notes its own sums for the tick after."""
    if tick == max(table[part + SINCE], 0):
        measure(memory, table, at, low, high, part, mode, tick)


@jit
def note_squares(memory: Any, place: int, x: int, n: int) -> None:
    """Note the sum of n squares."""
    total = 0.0
    for first in range(0, n, SHORT):
        some = min(SHORT, n - first)
        more = FLOAT64(squares(memory, x + first, some, like(memory, 0)))
        total += more if LEAST < more < MOST else squares(memory, x + first, some, 0.0)
    lossless = total == 0 or LEAST < total < MOST
    store(memory, place, like(memory, total if lossless else -sqrt(total)))


@inline
def squares(memory: Any, x: int, n: int, zero: Any) -> Any:
    """Return the sum of n squares, in the format of ``zero``."""
    total = zero
    for i in range(n):
        number = like(zero, load(memory, x + i))
        total = add_reordered(total, number * number)
    return total


PARTS, DISTANCE, VERTICES, SUMS, LENGTHS = range(5)
"""Operands of ``lengths``: parts, places from one to the next; vertices; where sums lie, where norms go."""

OPERANDS = 5


@jit
def lengths(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Set the squared norms of ticks ``low`` to ``high`` to the sums of squares over all parts."""
    parts, n = table[at + PARTS], table[at + VERTICES]
    for row in range(low * n, high * n, n):
        here, out = table[at + SUMS] + row, table[at + LENGTHS] + row
        if parts == 1:
            for i in range(n):
                note(table, out + i, noted(memory, here + i))
        elif parts == 2:
            there = here + table[at + DISTANCE]
            for i in range(n):
                note(table, out + i, noted(memory, here + i) + noted(memory, there + i))
        else:
            for i in range(n):
                total = noted(memory, here + i)
                for other in range(1, parts):
                    total += noted(memory, here + other * table[at + DISTANCE] + i)
                note(table, out + i, total)


@inline
def noted(memory: Any, place: int) -> Any:
    """Return a sum of squares that was noted, in double precision."""
    total = FLOAT64(load(memory, place))
    return total * total if total < 0 else total


class Norms:
    """Where sums of squares are noted, (parts, ticks, vertices): threads that share out the samples have a part each.

    Before the first tick played comes one that is zero, as all is that was quiet at tick 0; after the last, one for
    what notes its own when it moves.
    """

    def __init__(self, scripts: Scripts, crew: Crew, parts: np.ndarray, place: int) -> None:
        self.scripts, self.crew, self.parts, self.place = scripts, crew, parts, place
        self.vertices = scripts.places.active
        self.taking: dict[int, np.ndarray] = {}
        """The script that takes so many ticks, as it was last needed."""
        self._make_room(0)

    def begin(self, first: int, ticks: int) -> None:
        """Let ticks from ``first`` on be noted."""
        if self.room < ticks:
            self._make_room(ticks)
        table = self.crew.table
        for number, part in enumerate(self.parts):
            mine = self.sums + number % len(self.records) * self.records[0].size
            table[part + NORMS] = mine - (first - 1) * self.vertices
            table[part + SINCE] = first or -1

    def take(self, norms: np.ndarray) -> None:
        """Set norms (ticks, vertices) to what was noted."""
        found = norms if norms.flags.c_contiguous else np.empty(norms.shape)
        table, ticks = self.crew.table, len(norms)
        out = address_of(found) - address_of(table)
        distance = self.records[0].size
        told = [len(self.records), distance, self.vertices, self.sums + self.vertices, out]
        table[self.place : self.place + len(told)] = told
        if ticks not in self.taking:
            ends = np.linspace(0, ticks, self.crew.threads + 1).astype(np.int64)
            self.taking = {ticks: self.scripts.script([self.scripts.share(lengths, self.place, ends)])}
        self.crew.play(self.taking[ticks], self.parts, 0, 0, 1, work=found.size, together=False)
        if found is not norms:
            norms[...] = found

    def _make_room(self, ticks: int) -> None:
        self.room = ticks
        count = len(self.parts) if self.scripts.by_sample else 1
        self.records = zeros_in_lines(np, (count, ticks + 2, self.vertices), self.crew.memory.dtype)
        self.sums = address_of(self.records)
