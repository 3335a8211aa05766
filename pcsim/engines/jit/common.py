"""What all kernels share: their operands, who is awake, and what becomes of a prediction.

Every kernel has one signature: ``(memory, table, at, low, high, part, mode, tick)``. ``memory`` points to all memory,
counted in elements; ``table`` to whole numbers, which hold at ``at`` the operands of the step as
``layout`` wrote them. ``low`` to ``high`` are vertices of the step; ``part`` is the place in the table that tells the
samples and the scratch to use; ``mode`` what to do. A vertex that has heard nothing new and has not moved
is passed over: what it sent last still stands.
"""
# Numba compiles these: plain loops over offsets, numbers of the table in the order of ``layout``.

from __future__ import annotations

from math import exp
from typing import Any

from pcsim.engines.jit.compiled import inline, jit, load, store
from pcsim.engines.jit.native import like

SWEEP, PREDICT, SEND, ALL, NOTE = 1, 2, 4, 8, 16
"""Modes: set feedforward values; predict; send errors; pass over no vertex; note norms."""

OWN, COUNT, FIRST, SLOTS, SLOT_COUNT, SIZE, STRIDE, START, VALUE, DEVIATION, SHIFT, ERROR, SAVED, SAVED_STRIDE = range(
    14
)
PRECISION, TARGETS, CLASSES, ATTRIBUTE, GAIN, UNWRITTEN, HEARS = range(14, 21)
"""Operands of a step: where its own operands lie; vertices, number of the first; where its slots lie, how many;
elements of a vertex per sample, in all; where its units lie, what it keeps, precisions and targets of outputs that are
no clamps; constants; whether what is sent need not be written down unless it is to be read (``flow``); whether some
input can change."""

HEAD = 21

PER_SAMPLE, EXTENT, MAP, INPUTS = range(4)
"""Of a slot: elements from one sample of the input to the next (0: one for all samples), elements of an input, place of
an index map (-1: none); then, for each vertex, where its input lies, where it does in the sweep, where its message goes
(-1: nowhere), and the number of the vertex that it comes from (-1: it never changes)."""

LOW, HIGH, SCRATCH, REGION, DIRTY, WOKE, HEARD, RINGS, FAULT, NORMS, SINCE, ACTIVE = range(12)
"""Of a part: first sample, last sample + 1; where scratch lies, elements of one of its regions; where it is noted which
vertices have moved, whose error may have changed, when a late message last changed, what rings of projections hold,
that numbers ended; where sums of squares would be noted for tick 0, the first tick noted, how many are in a tick."""


@inline
def input_of(table: Any, at: int, slot: int) -> Any:
    """Return where the rows of a slot begin."""
    place = table[at + SLOTS]
    return place + slot * (INPUTS + 4 * table[at + COUNT])


@jit
def wake(table: Any, at: int, row: int, part: int, mode: int) -> int:
    """Return 0 for a vertex at rest, 1 for one whose error may have changed, 2 for one that must predict as well."""
    heard = False
    if mode & PREDICT and not mode & ALL and table[at + HEARS]:
        dirty, count, place = table[part + DIRTY], table[at + COUNT], table[at + SLOTS] + INPUTS
        for _ in range(table[at + SLOT_COUNT]):
            sender = table[place + 3 * count + row]
            heard |= sender >= 0 and table[dirty + sender] != 0
            place += INPUTS + 4 * count
    return rouse(table, at, row, part, mode, heard)


@inline
def rouse(table: Any, at: int, row: int, part: int, mode: int, heard: bool) -> int:
    """Note whether a vertex is awake, which may have heard something new, and return how far it is as ``wake`` does."""
    vertex, woke = table[at + FIRST] + row, table[part + WOKE]
    if mode & ALL:
        table[woke + vertex] = 1
        return 2
    if not mode & PREDICT and table[at + SHIFT] >= 0:
        return 1 if table[woke + vertex] else 0
    awake = heard or table[table[part + DIRTY] + vertex] != 0
    table[woke + vertex] = awake
    return 2 if heard else int(awake)


@jit
def settle(memory: Any, table: Any, at: int, row: int, part: int, mode: int, mu: int, heard: bool) -> None:
    """Take a prediction, which lies at ``mu``: as feedforward value, or for the error of this tick."""
    size = table[at + SIZE]
    shifted = row * table[at + STRIDE] + table[part + LOW] * size
    n = (table[part + HIGH] - table[part + LOW]) * size
    outputs = table[at + TARGETS] >= 0 and table[table[at + TARGETS] + row] >= 0
    if heard and not mode & SWEEP and not outputs:
        follow_and_differ(memory, table, at, mu, shifted, n)
        return
    follow(memory, table, at, mode, mu, heard, shifted, n)
    if mode & SWEEP:
        table[part + FAULT] |= unbounded(memory, mu, n)
        return
    if outputs:
        lose(memory, table, at, table[table[at + TARGETS] + row] + table[part + LOW] * size, shifted, n)
        return
    differ(memory, table, at, shifted, n)


@jit
def unbounded(memory: Any, x: int, n: int) -> int:
    """Return 1 where some of n numbers is not finite, else 0."""
    bad = False
    for i in range(n):
        number = load(memory, x + i)
        bad |= number - number != 0
    return int(bad)


@jit
def follow(memory: Any, table: Any, at: int, mode: int, mu: int, heard: bool, shifted: int, n: int) -> None:
    """Take n elements of a prediction, ``shifted`` from the step's first, as they are or for how far they moved."""
    start, value, shift = table[at + START] + shifted, table[at + VALUE] + shifted, table[at + SHIFT] + shifted
    if mode & SWEEP:
        for i in range(n):
            store(memory, start + i, load(memory, mu + i))
        if table[at + VALUE] >= 0:
            for i in range(n):
                store(memory, value + i, load(memory, mu + i))
    elif heard:
        for i in range(n):
            store(memory, shift + i, load(memory, mu + i) - load(memory, start + i))


@jit
def follow_and_differ(memory: Any, table: Any, at: int, mu: int, shifted: int, n: int) -> None:
    """Take n elements of a prediction for how far they moved, and set the errors to deviation - shift."""
    start, shift = table[at + START] + shifted, table[at + SHIFT] + shifted
    deviation, error = table[at + DEVIATION] + shifted, table[at + ERROR] + shifted
    for i in range(n):
        moved = load(memory, mu + i) - load(memory, start + i)
        store(memory, shift + i, moved)
        store(memory, error + i, load(memory, deviation + i) - moved)


@jit
def differ(memory: Any, table: Any, at: int, shifted: int, n: int) -> None:
    """Set n errors to deviation - shift."""
    deviation, shift, error = table[at + DEVIATION] + shifted, table[at + SHIFT] + shifted, table[at + ERROR] + shifted
    for i in range(n):
        store(memory, error + i, load(memory, deviation + i) - load(memory, shift + i))


@jit
def lose(memory: Any, table: Any, at: int, target: int, shifted: int, n: int) -> None:
    """Set the error of an output with cross entropy, and its value to match."""
    start, shift, value = table[at + START] + shifted, table[at + SHIFT] + shifted, table[at + VALUE] + shifted
    error, deviation = table[at + ERROR] + shifted, table[at + DEVIATION] + shifted
    for i in range(n):
        store(memory, value + i, load(memory, start + i) + load(memory, shift + i))
    cross_entropy(memory, value, memory, target, memory, error, n, table[at + CLASSES])
    for i in range(n):
        store(memory, deviation + i, load(memory, error + i) + load(memory, shift + i))
        store(memory, value + i, load(memory, value + i) + load(memory, error + i))


@jit
def cross_entropy(mu: Any, om: int, target: Any, ot: int, error: Any, oe: int, n: int, classes: int) -> None:
    """Set n errors to target - softmax(mu) sum(target), by groups of classes."""
    for first in range(0, n, classes):
        highest, whole, total = load(mu, om + first), like(mu, 0), like(mu, 0)
        for i in range(first, first + classes):
            highest = max(highest, load(mu, om + i))
            whole += load(target, ot + i)
        for i in range(first, first + classes):
            weight = exp(load(mu, om + i) - highest)
            store(error, oe + i, weight)
            total += weight
        for i in range(first, first + classes):
            store(error, oe + i, load(target, ot + i) - load(error, oe + i) / total * whole)


@jit
def weigh(memory: Any, table: Any, at: int, row: int, part: int, out: int) -> Any:
    """Return where a vertex's weighted error Pi eps lies: its error, or ``out``, to which it is written."""
    size = table[at + SIZE]
    error = table[at + ERROR] + row * table[at + STRIDE] + table[part + LOW] * size
    if table[at + PRECISION] < 0:
        return error
    precision = table[at + PRECISION] + row * size
    for _ in range(table[part + HIGH] - table[part + LOW]):
        for i in range(size):
            store(memory, out + i, load(memory, precision + i) * load(memory, error + i))
        out += size
        error += size
    return out - (table[part + HIGH] - table[part + LOW]) * size


@inline
def scale_into(memory: Any, a: int, b: int, out: int, n: int) -> None:
    """Set out = a b, element by element."""
    for i in range(n):
        store(memory, out + i, load(memory, a + i) * load(memory, b + i))


@inline
def copy_into(memory: Any, a: int, out: int, n: int) -> None:
    """Set out = a."""
    for i in range(n):
        store(memory, out + i, load(memory, a + i))
