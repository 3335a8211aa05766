"""Ops that rearrange, sum, normalise or multiply along axes."""

from __future__ import annotations

from math import exp, log
from typing import Any

from pcsim.engines.jit.common import (
    COUNT,
    EXTENT,
    HIGH,
    INPUTS,
    LOW,
    MAP,
    OWN,
    PER_SAMPLE,
    PREDICT,
    SAVED,
    SAVED_STRIDE,
    SCRATCH,
    SEND,
    SIZE,
    SLOT_COUNT,
    SWEEP,
    input_of,
    settle,
    wake,
    weigh,
)  # fmt: skip
from pcsim.engines.jit.compiled import jit, load, store
from pcsim.engines.jit.native import like


@jit
def rearrange(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Play an op that adds each element of its inputs, times one number, to at most one element of the vertex.

    So do slices, transposes, sums, means. Its own operand is where the number lies; the map of a slot gives, for each
    element of the input, the element of the vertex that it goes to, or -1.
    """
    count, size, slots = table[at + COUNT], table[at + SIZE], table[at + SLOT_COUNT]
    factor = load(memory, table[table[at + OWN]])
    first, near = table[part + LOW], table[part + SCRATCH]
    samples = table[part + HIGH] - first
    for row in range(low, high):
        state = 2 if mode & SWEEP else wake(table, at, row, part, mode)
        if state == 0:
            continue
        if mode & (SWEEP | PREDICT):
            if state == 2:
                for i in range(samples * size):
                    store(memory, near + i, like(memory, 0))
                for number in range(slots):
                    slot = input_of(table, at, number)
                    x = table[slot + INPUTS + (count if mode & SWEEP else 0) + row] + first * table[slot + PER_SAMPLE]
                    for sample in range(samples):
                        for i in range(table[slot + EXTENT]):
                            goal = table[table[slot + MAP] + i]
                            if goal >= 0:
                                goal += near + sample * size
                                store(memory, goal, load(memory, goal) + load(memory, x + i) * factor)
                        x += table[slot + PER_SAMPLE]
            settle(memory, table, at, row, part, mode, near, state == 2)
        if mode & SEND:
            g = weigh(memory, table, at, row, part, near)
            for number in range(slots):
                slot = input_of(table, at, number)
                message = table[slot + INPUTS + 2 * count + row]
                if message >= 0:
                    extent = table[slot + EXTENT]
                    message += first * extent
                    for sample in range(samples):
                        for i in range(extent):
                            goal = table[table[slot + MAP] + i]
                            sent = load(memory, g + sample * size + goal) * factor if goal >= 0 else like(memory, 0)
                            store(memory, message + sample * extent + i, sent)


LOGARITHM, OUTER, ALONG, INNER = range(4)
"""Own operands of a softmax: whether its logarithm is taken; extents before, along and behind the axis."""


@jit
def softmax(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Play softmax or log_softmax along an axis; what is kept is the softmax."""
    own, count, size, slot = table[at + OWN], table[at + COUNT], table[at + SIZE], input_of(table, at, 0)
    first, near = table[part + LOW], table[part + SCRATCH]
    samples = table[part + HIGH] - first
    along, step = table[own + ALONG], table[own + INNER]
    for row in range(low, high):
        state = 2 if mode & SWEEP else wake(table, at, row, part, mode)
        if state == 0:
            continue
        saved = table[at + SAVED] + row * table[at + SAVED_STRIDE] + first * size
        if mode & (SWEEP | PREDICT):
            if state == 2:
                x = table[slot + INPUTS + (count if mode & SWEEP else 0) + row] + first * table[slot + PER_SAMPLE]
                for sample in range(samples):
                    for outer in range(table[own + OUTER]):
                        for inner in range(step):
                            line = sample * size + outer * along * step + inner
                            source = x + sample * table[slot + PER_SAMPLE] + outer * along * step + inner
                            normalise(memory, source, near + line, saved + line, along, step, table[own + LOGARITHM])
            settle(memory, table, at, row, part, mode, near, state == 2)
        message = table[slot + INPUTS + 2 * count + row]
        if mode & SEND and message >= 0:
            g = weigh(memory, table, at, row, part, near)
            for sample in range(samples):
                for outer in range(table[own + OUTER]):
                    for inner in range(step):
                        line = sample * size + outer * along * step + inner
                        out = message + first * size + line
                        normalise_back(memory, saved + line, g + line, out, along, step, table[own + LOGARITHM])


@jit
def normalise(memory: Any, x: int, mu: int, p: int, along: int, step: int, logarithm: int) -> None:
    """Set mu and p for one line of elements, ``step`` apart."""
    highest = load(memory, x)
    for i in range(along):
        highest = max(highest, load(memory, x + i * step))
    total = like(memory, 0)
    for i in range(along):
        weight = exp(load(memory, x + i * step) - highest)
        store(memory, p + i * step, weight)
        total += weight
    whole = log(total)
    for i in range(along):
        p_here = load(memory, p + i * step) / total
        store(memory, p + i * step, p_here)
        store(memory, mu + i * step, load(memory, x + i * step) - highest - whole if logarithm else p_here)


@jit
def normalise_back(memory: Any, p: int, g: int, out: int, along: int, step: int, logarithm: int) -> None:
    """Set p (g - sum(p g)), or g - p sum(g), for one line of elements."""
    total = like(memory, 0)
    for i in range(along):
        total += load(memory, g + i * step) * (load(memory, p + i * step) if not logarithm else like(memory, 1))
    for i in range(along):
        g_here, p_here = load(memory, g + i * step), load(memory, p + i * step)
        store(memory, out + i * step, g_here - p_here * total if logarithm else p_here * (g_here - total))


ROWS, INSIDE, COLUMNS = range(3)
"""Own operands of a matrix product: (rows, inside) times (inside, columns)."""


@jit
def matmul(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Play the product of two inputs, each a matrix or a vector."""
    own, count, size = table[at + OWN], table[at + COUNT], table[at + SIZE]
    left, right = input_of(table, at, 0), input_of(table, at, 1)
    m, k, n = table[own + ROWS], table[own + INSIDE], table[own + COLUMNS]
    first, near = table[part + LOW], table[part + SCRATCH]
    swept = INPUTS + (count if mode & SWEEP else 0)
    for row in range(low, high):
        state = 2 if mode & SWEEP else wake(table, at, row, part, mode)
        if state == 0:
            continue
        a, b = table[left + swept + row], table[right + swept + row]
        if mode & (SWEEP | PREDICT):
            if state == 2:
                for sample in range(first, table[part + HIGH]):
                    here = a + sample * table[left + PER_SAMPLE]
                    there = b + sample * table[right + PER_SAMPLE]
                    times(memory, here, k, 1, there, n, 1, near + (sample - first) * size, m, k, n)
            settle(memory, table, at, row, part, mode, near, state == 2)
        if mode & SEND:
            g = weigh(memory, table, at, row, part, near)
            to_left, to_right = table[left + INPUTS + 2 * count + row], table[right + INPUTS + 2 * count + row]
            for sample in range(first, table[part + HIGH]):
                here, there = a + sample * table[left + PER_SAMPLE], b + sample * table[right + PER_SAMPLE]
                sent = g + (sample - first) * size
                if to_left >= 0:
                    times(memory, sent, n, 1, there, 1, n, to_left + sample * m * k, m, n, k)
                if to_right >= 0:
                    times(memory, here, 1, k, sent, n, 1, to_right + sample * k * n, k, m, n)


@jit
def times(memory: Any, a: int, am: int, ak: int, b: int, bk: int, bn: int, out: int, m: int, k: int, n: int) -> None:
    """Set out (m, n) = a (m, k) b (k, n), each given by where it lies and its two strides."""
    for i in range(m):
        for j in range(n):
            total = like(memory, 0)
            for inside in range(k):
                total += load(memory, a + i * am + inside * ak) * load(memory, b + inside * bk + j * bn)
            store(memory, out + i * n + j, total)
