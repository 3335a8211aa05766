"""The layer f(W x + b), or W f(x) + b: packed products with what goes before and after, while it is near."""

from __future__ import annotations

from math import sqrt
from typing import Any

from pcsim.engines.jit.common import (
    ATTRIBUTE,
    COUNT,
    FAULT,
    GAIN,
    HIGH,
    INPUTS,
    LOW,
    OWN,
    PREDICT,
    REGION,
    SAVED,
    SAVED_STRIDE,
    SCRATCH,
    SEND,
    SLOTS,
    SWEEP,
    scale_into,
    settle,
    unbounded,
    wake,
    weigh,
)  # fmt: skip
from pcsim.engines.jit.compiled import inline, jit, load, store
from pcsim.engines.jit.functions import apply
from pcsim.engines.jit.native import like
from pcsim.engines.jit.norms import squares
from pcsim.engines.jit.products import pack, packed_size, product_packed, product_unpacked

SAMPLES, FAN_IN, UNITS, CODE, INNER, WEIGHTS = range(6)
"""Own operands: rows of a sample, features before and after, activation (0: none), whether it goes before the weights;
then for each vertex: packed W^T, packed W, bias (-1: none), where weight and bias learn, where it is noted that what
lies there is to be replaced; then the vertices that teach, by weight, and the first of each weight."""

COLUMNS = 6

SLICES = 8
"""Parts in which a weight is taught, each by one thread."""


@jit
def affine(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Play vertices of one layer shape."""
    own, count, slot = table[at + OWN], table[at + COUNT], table[at + SLOTS] + INPUTS
    k, n, code, inner = table[own + FAN_IN], table[own + UNITS], table[own + CODE], table[own + INNER]
    begin = table[part + LOW] * table[own + SAMPLES]
    m = table[part + HIGH] * table[own + SAMPLES] - begin
    near = table[part + SCRATCH]
    far = near + table[part + REGION]
    weights = own + WEIGHTS
    inputs = slot + (count if mode & SWEEP else 0)
    constant = load(memory, table[at + ATTRIBUTE])
    for row in range(low, high):
        state = 2 if mode & SWEEP else wake(table, at, row, part, mode)
        if state == 0:
            continue
        saved = table[at + SAVED] + row * table[at + SAVED_STRIDE] + begin * (k if inner else n)
        if mode & (SWEEP | PREDICT):
            if state == 2:
                x = table[inputs + row] + begin * k
                if inner and code:
                    apply(code, constant, memory, x, memory, far, memory, saved, m * k)
                    x = far
                product_packed(memory, x, k, 1, memory, table[weights + row], k, n, m, memory, near, n, False)
                bias = table[weights + 2 * count + row]
                if bias >= 0:
                    add_rows(memory, bias, near, m, n)
                if code and not inner:
                    apply(code, constant, memory, near, memory, near, memory, saved, m * n)
            settle(memory, table, at, row, part, mode, near, state == 2)
        message = table[slot + 2 * count + row]
        if mode & SEND and message >= 0:
            g = weigh(memory, table, at, row, part, near)
            if code and not inner:
                scale_into(memory, saved, g, near, m * n)
                g = near
            message += begin * k
            product_packed(memory, g, n, 1, memory, table[weights + count + row], n, k, m, memory, message, k, False)
            if code and inner:
                scale_into(memory, saved, message, message, m * k)


@jit
def add_rows(memory: Any, bias: int, z: int, m: int, n: int) -> None:
    """Add a bias to each of m rows."""
    for _ in range(m):
        for i in range(n):
            store(memory, z + i, load(memory, z + i) + load(memory, bias + i))
        z += n


@jit
def affine_learn(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Add what vertices teach their weight and bias to what was learnt, over all samples of the part.

    ``low`` to ``high`` count slices of weights, ``SLICES`` each: all users of a slice teach it one after the other.
    """
    own, count = table[at + OWN], table[at + COUNT]
    users = own + WEIGHTS + COLUMNS * count
    starts = users + count
    for number in range(low // SLICES, (high + SLICES - 1) // SLICES):
        first, last = max(low - number * SLICES, 0), min(high - number * SLICES, SLICES)
        left, right = first * table[own + UNITS] // SLICES, last * table[own + UNITS] // SLICES
        for listed in range(table[starts + number], table[starts + number + 1]):
            row = table[users + listed]
            new = listed == table[starts + number] and table[table[own + WEIGHTS + 5 * count + row]] != 0
            teach(memory, table, at, row, part, left, right, not new)


@jit
def teach(memory: Any, table: Any, at: int, row: int, part: int, left: int, right: int, add: bool) -> None:
    """Let a vertex teach some units of its weight and bias; what was learnt is added to, or else replaced."""
    own, count, slot = table[at + OWN], table[at + COUNT], table[at + SLOTS] + INPUTS
    k, n, code, inner = table[own + FAN_IN], table[own + UNITS], table[own + CODE], table[own + INNER]
    m = (table[part + HIGH] - table[part + LOW]) * table[own + SAMPLES]
    near, region = table[part + SCRATCH], table[part + REGION]
    turned, scratch = near + region, near + 3 * region
    constant, gain = load(memory, table[at + ATTRIBUTE]), load(memory, table[at + GAIN])
    x, slope = table[slot + row], -1
    if code and not inner:
        slope = table[at + SAVED] + row * table[at + SAVED_STRIDE]
    turn(memory, weigh(memory, table, at, row, part, near), slope, gain, m, n, left, right, turned)
    if code and inner:
        apply(code, constant, memory, x, memory, near, memory, near + 2 * region, m * k)
        x = near
    weights = own + WEIGHTS + row
    learnt, some = table[weights + 3 * count] + left * k, right - left
    product_unpacked(memory, turned, m, 1, memory, x, k, m, k, some, memory, learnt, k, add, memory, scratch)
    if table[weights + 4 * count] >= 0:
        sum_rows(memory, turned, some, m, table[weights + 4 * count] + left)
    if add or not tame(memory, turned, some * m, x, m * k):
        table[part + FAULT] |= unbounded(memory, learnt, some * k)


@inline
def tame(memory: Any, a: int, n: int, b: int, m: int) -> Any:
    """Return whether no sum of products of n numbers and m numbers can leave the number format (Cauchy, Schwarz)."""
    bound = like(memory, 2 * sqrt(squares(memory, a, n, 0.0) * squares(memory, b, m, 0.0)))
    return bound - bound == 0


@jit
def turn(memory: Any, g: int, slope: int, gain: Any, m: int, n: int, left: int, right: int, out: int) -> None:
    """Set out = gain g (m, n) transposed, of columns left to right, times the slope where there is one."""
    for i in range(left, right):
        if slope >= 0:
            for sample in range(m):
                place = sample * n + i
                store(memory, out + sample, gain * (load(memory, slope + place) * load(memory, g + place)))
        else:
            for sample in range(m):
                store(memory, out + sample, gain * load(memory, g + sample * n + i))
        out += m


@jit
def sum_rows(memory: Any, g: int, n: int, m: int, out: int) -> None:
    """Add each of n rows of m numbers up, one after the other, and to ``out``."""
    for i in range(n):
        total = load(memory, g)
        for sample in range(1, m):
            total += load(memory, g + sample)
        store(memory, out + i, load(memory, out + i) + total)
        g += m


@jit
def pack_all(weights: Any, rows: Any, forward: Any, backward: Any) -> None:
    """Pack W^T and W of some rows of a stack of weights (parameters, units, fan-in), one after the other."""
    n, k = weights.shape[1:]
    there, back = packed_size(forward, k, n), packed_size(backward, n, k)
    for number in range(len(rows)):
        at = rows[number] * n * k
        pack(weights, at, 1, k, k, n, forward, number * there)
        pack(weights, at, k, 1, n, k, backward, number * back)
