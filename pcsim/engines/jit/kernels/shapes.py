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
    room_for,
    slot_at,
    step_at,
    take_prediction,
    weigh,
)
from pcsim.engines.jit.kernels.compiled import jit, load, store
from pcsim.engines.jit.kernels.native import like
from pcsim.engines.jit.kernels.products import pack, packed_size, panel_width, product, product_packed
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
    count=whole("products of matrices"),
    left=whole("place of the first matrix of each product, among those of its input"),
    right=whole("place of the second matrix of each product"),
    left_again=whole("place of whether a product before takes the same first matrix"),
    right_again=whole("place of whether a product before takes the same second matrix"),
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
            mu = room_for(step, row, mine, mode, near)
            if change == INPUT:
                clear(memory, mu, samples * size, like(memory, 0))
                for number in range(step.slot_count):
                    slot = slot_at(table, step.slots, number)
                    x = input_of(table, slot, row, mode) + mine.low * slot.per_sample
                    for sample in range(samples):
                        for i in range(slot.extent):
                            goal = table[slot.map + i]
                            if goal >= 0:
                                goal += mu + sample * size
                                store(memory, goal, load(memory, goal) + load(memory, x + i) * factor)
                        x += slot.per_sample
            take_prediction(memory, table, at, row, part, mode, mu, change == INPUT)
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
    """Run the products of the matrices of two inputs; a vector is a matrix of one row, or of one column."""
    step, mine = step_at(table, at), part_at(table, part)
    own, left, right = matmul_at(table, step.own), slot_at(table, step.slots, 0), slot_at(table, step.slots, 1)
    near, samples = mine.scratch, mine.high - mine.low
    for row in range(low, high):
        change = changes(table, step, row, mine, mode)
        if change == SAME:
            continue
        a = input_of(table, left, row, mode) + mine.low * left.per_sample
        b = input_of(table, right, row, mode) + mine.low * right.per_sample
        if mode & (SWEEP | PREDICT):
            if change == INPUT:
                for sample in range(samples):
                    here, there = a + sample * left.per_sample, b + sample * right.per_sample
                    multiply(memory, table, own, here, there, near + sample * step.size)
            take_prediction(memory, table, at, row, part, mode, near, change == INPUT)
        if mode & SEND:
            g = weigh(memory, step, row, mine, near)
            to_left, to_right = message_of(table, left, row), message_of(table, right, row)
            for sample in range(samples):
                here, there = a + sample * left.per_sample, b + sample * right.per_sample
                sent = g + sample * step.size
                if to_left >= 0:
                    out = to_left + (mine.low + sample) * left.extent
                    send_left(memory, table, own, there, sent, out, near + mine.region, mine.region)
                if to_right >= 0:
                    out = to_right + (mine.low + sample) * right.extent
                    send_right(memory, table, own, here, sent, out)


@jit
def multiply(memory: Any, table: Any, own: Any, a: int, b: int, out: int) -> None:
    """Set out to the products a b of one sample."""
    m, k, n, width = own.rows, own.inside, own.columns, panel_width(memory)
    for number in range(own.count):
        here, there = a + table[own.left + number] * m * k, b + table[own.right + number] * k * n
        product(memory, here, k, 1, memory, there, width, n, k, n, m, memory, out, n, False)
        out += m * n


@jit
def send_left(memory: Any, table: Any, own: Any, b: int, g: int, out: int, scratch: int, room: int) -> None:
    """Set out to g b^T; b is packed the other way round where there is room for it."""
    m, k, n = own.rows, own.inside, own.columns
    for number in range(own.count):
        there, goal = b + table[own.right + number] * k * n, out + table[own.left + number] * m * k
        again = table[own.left_again + number] != 0
        if packed_size(memory, n, k) <= room:
            pack(memory, there, 1, n, n, k, memory, scratch)
            product_packed(memory, g, n, 1, memory, scratch, n, k, m, memory, goal, k, again)
        else:
            rows_by_rows(memory, g, there, goal, m, n, k, again)
        g += m * n


@jit
def send_right(memory: Any, table: Any, own: Any, a: int, g: int, out: int) -> None:
    """Set out to a^T g."""
    m, k, n, width = own.rows, own.inside, own.columns, panel_width(memory)
    for number in range(own.count):
        here, goal = a + table[own.left + number] * m * k, out + table[own.right + number] * k * n
        again = table[own.right_again + number] != 0
        product(memory, here, 1, k, memory, g, width, n, m, n, k, memory, goal, n, again)
        g += m * n


@jit
def rows_by_rows(memory: Any, a: int, b: int, out: int, m: int, n: int, k: int, add: bool) -> None:
    """Compute out (m, k) = or += a (m, n) times the transpose of b (k, n)."""
    for i in range(m):
        for j in range(k):
            total = load(memory, out + i * k + j) if add else like(memory, 0)
            for inside in range(n):
                total += load(memory, a + i * n + inside) * load(memory, b + j * n + inside)
            store(memory, out + i * k + j, total)
