"""Ops that rearrange, sum, normalise or multiply along axes."""

from __future__ import annotations

from math import exp, log
from typing import Any

from pcsim.engines.jit.kernels.common import (
    INPUT,
    PREDICT,
    SAME,
    SEND,
    SWEEP,
    changes,
    clear,
    input_of,
    message_of,
    part_at,
    slot_at,
    step_at,
    take_prediction,
    weigh,
)
from pcsim.engines.jit.kernels.compiled import jit, load, store
from pcsim.engines.jit.kernels.native import like
from pcsim.engines.jit.kernels.records import Record, address, whole

REARRANGED = Record("rearranged", factor=address("what each element is multiplied by"))

SOFTMAX = Record(
    "softmax",
    logarithm=whole("whether its logarithm is taken"),
    outer=whole("extent before the axis"),
    along=whole("extent along the axis"),
    inner=whole("extent behind the axis"),
)

MATMUL = Record(
    "matrix product",
    rows=whole("rows of the first matrix"),
    inside=whole("extent that both share"),
    columns=whole("columns of the second matrix"),
)

rearranged_at, softmax_at, matmul_at = REARRANGED.one(), SOFTMAX.one(), MATMUL.one()


@jit
def rearrange(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Run an op that adds each element of its inputs, times one number, to at most one element of the vertex.

    So do slices, transposes, sums, means. The map of a slot gives, for each element of the input, the element of the
    vertex that it goes to, or -1.
    """
    step, mine = step_at(table, at), part_at(table, part)
    factor = load(memory, rearranged_at(table, step.own).factor)
    near, samples, size = mine.scratch, mine.high - mine.low, step.size
    for row in range(low, high):
        change = changes(table, step, row, mine, mode)
        if change == SAME:
            continue
        if mode & (SWEEP | PREDICT):
            if change == INPUT:
                clear(memory, near, samples * size, like(memory, 0))
                for number in range(step.slot_count):
                    slot = slot_at(table, step.slots, number)
                    x = input_of(table, slot, row, mode) + mine.low * slot.per_sample
                    for sample in range(samples):
                        for i in range(slot.extent):
                            goal = table[slot.map + i]
                            if goal >= 0:
                                goal += near + sample * size
                                store(memory, goal, load(memory, goal) + load(memory, x + i) * factor)
                        x += slot.per_sample
            take_prediction(memory, table, at, row, part, mode, near, change == INPUT)
        if mode & SEND:
            g = weigh(memory, step, row, mine, near)
            for number in range(step.slot_count):
                slot = slot_at(table, step.slots, number)
                message, extent = message_of(table, slot, row), slot.extent
                if message >= 0:
                    message += mine.low * extent
                    for sample in range(samples):
                        for i in range(extent):
                            goal = table[slot.map + i]
                            sent = load(memory, g + sample * size + goal) * factor if goal >= 0 else like(memory, 0)
                            store(memory, message + sample * extent + i, sent)


@jit
def softmax(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Run softmax or log_softmax along an axis; what is kept is the softmax."""
    step, mine = step_at(table, at), part_at(table, part)
    own, slot = softmax_at(table, step.own), slot_at(table, step.slots, 0)
    near, first, samples, size = mine.scratch, mine.low, mine.high - mine.low, step.size
    along, inner, logarithm = own.along, own.inner, own.logarithm
    for row in range(low, high):
        change = changes(table, step, row, mine, mode)
        if change == SAME:
            continue
        saved = step.saved + row * step.saved_stride + first * size
        if mode & (SWEEP | PREDICT):
            if change == INPUT:
                x = input_of(table, slot, row, mode) + first * slot.per_sample
                for sample in range(samples):
                    for before in range(own.outer):
                        for behind in range(inner):
                            line = sample * size + before * along * inner + behind
                            source = x + sample * slot.per_sample + before * along * inner + behind
                            normalise(memory, source, near + line, saved + line, along, inner, logarithm)
            take_prediction(memory, table, at, row, part, mode, near, change == INPUT)
        message = message_of(table, slot, row)
        if mode & SEND and message >= 0:
            g = weigh(memory, step, row, mine, near)
            for sample in range(samples):
                for before in range(own.outer):
                    for behind in range(inner):
                        line = sample * size + before * along * inner + behind
                        out = message + first * size + line
                        normalise_back(memory, saved + line, g + line, out, along, inner, logarithm)


@jit
def normalise(memory: Any, x: int, mu: int, p: int, along: int, apart: int, logarithm: int) -> None:
    """Set mu and p for one line of elements, ``apart`` from each other."""
    highest = load(memory, x)
    for i in range(along):
        highest = max(highest, load(memory, x + i * apart))
    total = like(memory, 0)
    for i in range(along):
        weight = exp(load(memory, x + i * apart) - highest)
        store(memory, p + i * apart, weight)
        total += weight
    whole_log = log(total)
    for i in range(along):
        p_here = load(memory, p + i * apart) / total
        store(memory, p + i * apart, p_here)
        store(memory, mu + i * apart, load(memory, x + i * apart) - highest - whole_log if logarithm else p_here)


@jit
def normalise_back(memory: Any, p: int, g: int, out: int, along: int, apart: int, logarithm: int) -> None:
    """Set p (g - sum(p g)), or g - p sum(g), for one line of elements."""
    total = like(memory, 0)
    for i in range(along):
        total += load(memory, g + i * apart) * (load(memory, p + i * apart) if not logarithm else like(memory, 1))
    for i in range(along):
        g_here, p_here = load(memory, g + i * apart), load(memory, p + i * apart)
        store(memory, out + i * apart, g_here - p_here * total if logarithm else p_here * (g_here - total))


@jit
def matmul(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Run the product of two inputs, each a matrix or a vector."""
    step, mine = step_at(table, at), part_at(table, part)
    own, left, right = matmul_at(table, step.own), slot_at(table, step.slots, 0), slot_at(table, step.slots, 1)
    m, k, n = own.rows, own.inside, own.columns
    first, near, size = mine.low, mine.scratch, step.size
    for row in range(low, high):
        change = changes(table, step, row, mine, mode)
        if change == SAME:
            continue
        a, b = input_of(table, left, row, mode), input_of(table, right, row, mode)
        if mode & (SWEEP | PREDICT):
            if change == INPUT:
                for sample in range(first, mine.high):
                    here, there = a + sample * left.per_sample, b + sample * right.per_sample
                    times(memory, here, k, 1, there, n, 1, near + (sample - first) * size, m, k, n)
            take_prediction(memory, table, at, row, part, mode, near, change == INPUT)
        if mode & SEND:
            g = weigh(memory, step, row, mine, near)
            to_left, to_right = message_of(table, left, row), message_of(table, right, row)
            for sample in range(first, mine.high):
                here, there = a + sample * left.per_sample, b + sample * right.per_sample
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
