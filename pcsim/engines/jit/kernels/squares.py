"""Sums of squares of errors, and of how far they are from what they are compared with.

The samples of a batch fall into blocks, whatever the threads; each block is summed by one thread, and blocks are added
up in their order. So no bit of a sum depends on threads.

A sum is noted in the number format of the run. One that lost something to the ends of that format, as the sum of
squares of small or large numbers may, is noted by its root instead, with a minus sign.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

from pcsim.engines.jit.kernels.common import part_at
from pcsim.engines.jit.kernels.compiled import TYPES, add_reordered, inline, jit, load, store
from pcsim.engines.jit.kernels.native import like, note
from pcsim.engines.jit.kernels.records import Record, address, whole

FLOAT64 = TYPES.float64

SHORT = 1024
"""Elements whose squares float32 sums as well as it holds the result."""

LEAST, MOST = 1e-24, 1e38
"""A sum of squares in float32 between these lost nothing to the ends of the number format."""

TOTALS = Record(
    "totals",
    parts=whole("parts, each with sums of its own"),
    distance=whole("elements from the sums of one part to those of the next"),
    vertices=whole("vertices"),
    room=whole("sums for each vertex, zero beyond those that are noted"),
    sums=address("sums of squares, (ticks, vertices, room)"),
    totals=whole("where in the table, counted in numbers, the totals go, (ticks, vertices)"),
)

totals_at = TOTALS.one()


@inline
def squares(memory: Any, x: int, n: int, zero: Any) -> Any:
    """Return the sum of n squares, in the format of ``zero``."""
    total = zero
    for i in range(n):
        x_here = like(zero, load(memory, x + i))
        total = add_reordered(total, x_here * x_here)
    return total


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


@jit
def note_difference(memory: Any, place: int, x: int, y: int, n: int) -> None:
    """Note the sum of squares of n differences x - y."""
    total = 0.0
    for first in range(0, n, SHORT):
        some = min(SHORT, n - first)
        more = FLOAT64(differences(memory, x + first, y + first, some, like(memory, 0)))
        total += more if LEAST < more < MOST else differences(memory, x + first, y + first, some, 0.0)
    lossless = total == 0 or LEAST < total < MOST
    store(memory, place, like(memory, total if lossless else -sqrt(total)))


@inline
def differences(memory: Any, x: int, y: int, n: int, zero: Any) -> Any:
    """Return the sum of squares of n differences, in the format of ``zero``; each is rounded in that of the run."""
    total = zero
    for i in range(n):
        difference = like(zero, load(memory, x + i) - load(memory, y + i))
        total = add_reordered(total, difference * difference)
    return total


@jit
def add_parts(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Set the totals of ticks ``low`` to ``high`` to the sums of squares over all parts."""
    own = totals_at(table, at)
    room, out, end = own.room, own.totals, own.sums + own.parts * own.distance
    first, last = low * own.vertices, high * own.vertices
    if own.parts * room == 1:
        for row in range(first, last):
            note(table, out + row, noted(memory, own.sums + row))
        return
    for row in range(first, last):
        total = 0.0
        for part_of_row in range(own.sums + row * room, end, own.distance):
            for place in range(part_of_row, part_of_row + room):
                total += noted(memory, place)
        note(table, out + row, total)


@jit
def note_blocks(memory: Any, table: Any, part: int, place: int, x: int, size: int) -> None:
    """Note the sums of squares of each block of samples of a part; x is that of the first sample of all."""
    mine, out = part_at(table, part), place
    begin = table[mine.blocks] * size
    for block in range(mine.blocks + 1, mine.last_block):
        end = table[block] * size
        note_squares(memory, out, x + begin, end - begin)
        begin = end
        out += 1


@jit
def note_differences(memory: Any, table: Any, part: int, place: int, x: int, y: int, size: int) -> None:
    """Note the sums of squares of the differences x - y, likewise."""
    mine, out = part_at(table, part), place
    begin = table[mine.blocks] * size
    for block in range(mine.blocks + 1, mine.last_block):
        end = table[block] * size
        note_difference(memory, out, x + begin, y + begin, end - begin)
        begin = end
        out += 1


@jit
def note_again(memory: Any, place: int, before: int, count: int) -> None:
    """Note what was noted a tick before, so many elements before."""
    for k in range(place, place + count):
        store(memory, k, load(memory, k - before))


@inline
def noted(memory: Any, place: int) -> Any:
    """Return a sum of squares that was noted, in double precision."""
    total = FLOAT64(load(memory, place))
    return total * total if total < 0 else total
