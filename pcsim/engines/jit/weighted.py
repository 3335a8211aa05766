"""Weighted sums f(sum_k w_k x_k + b); those that take the same inputs are played together, as one layer.

Units of a bundle take the same inputs. Their sums are one matrix product, W x; what they send back to an input is
summed where it is sent, W^T g, and counts as one message. Each product is a chain of fused multiply-adds: a message
that is read is rounded by itself, so that the sum may differ from that of the messages in the last place.
"""

from __future__ import annotations

from typing import Any

from pcsim.engines.jit.common import (
    ALL,
    ATTRIBUTE,
    COUNT,
    DIRTY,
    FIRST,
    HIGH,
    INPUTS,
    LOW,
    OWN,
    PER_SAMPLE,
    PREDICT,
    REGION,
    SAVED,
    SAVED_STRIDE,
    SCRATCH,
    SEND,
    SHIFT,
    SIZE,
    SLOT_COUNT,
    SLOTS,
    STRIDE,
    SWEEP,
    UNWRITTEN,
    WOKE,
    copy_into,
    rouse,
    scale_into,
    settle,
    wake,
    weigh,
)  # fmt: skip
from pcsim.engines.jit.compiled import inline, jit, load, store
from pcsim.engines.jit.functions import apply
from pcsim.engines.jit.native import like
from pcsim.engines.jit.products import DEPTH, SLAB, panel_width, product_unpacked, slab_of_tiles

CODE, BIASED, VERTICES = range(3)
"""Own operands: activation (0: none), whether it has a bias; then for each vertex where its weights and its bias lie,
and where its bundle is told (-1: none)."""

FIRST_UNIT, LAST_UNIT, FAN_IN, FORTH, BACK, SUMS, NUMBER, PLACES = range(8)
"""Of a bundle: its first unit in the step, its last + 1; inputs; where weights lie by unit, and by input that hears of
errors; where the sums for these go, and the number by which it is noted that the first has changed; then where the
inputs lie in a tick, and where in the sweep."""

TOGETHER = 48
"""Units that are summed at once."""


@jit
def weighted_sum(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Play f(sum_k w_k x_k + b) of inputs of one shape."""
    bundles = table[at + OWN] + VERTICES + 2 * table[at + COUNT]
    sends = mode & SEND and (mode & ALL or not table[at + UNWRITTEN])
    row = low
    while row < high:
        bundle, last = table[bundles + row], row + 1
        if bundle >= 0:
            last = min(high, table[bundle + LAST_UNIT])
            predict_together(memory, table, at, bundle, row, last, part, mode)
        else:
            state = 2 if mode & SWEEP else wake(table, at, row, part, mode)
            if state and mode & (SWEEP | PREDICT):
                predict(memory, table, at, row, part, mode, state == 2)
            if state and sends:
                send(memory, table, at, row, part)
        for unit in range(row, last) if bundle >= 0 and mode & SEND and mode & ALL else range(0):
            send(memory, table, at, unit, part)
        row = last


@jit
def predict(memory: Any, table: Any, at: int, row: int, part: int, mode: int, heard: bool) -> None:
    """Sum the inputs of one vertex where they have changed, and take the prediction."""
    size, slots, near = table[at + SIZE], table[at + SLOT_COUNT], table[part + SCRATCH]
    samples, shifted = table[part + HIGH] - table[part + LOW], table[part + LOW] * size
    n, width = samples * size, INPUTS + 4 * table[at + COUNT]
    if heard:
        weights = table[table[at + OWN] + VERTICES + row]
        for i in range(n):
            store(memory, near + i, like(memory, 0))
        slot, number = table[at + SLOTS], 0
        column = INPUTS + (table[at + COUNT] if mode & SWEEP else 0) + row
        while number + 4 <= slots and alike(table, slot, width, size):
            gather_four(memory, table, slot + column, width, weights + number, near, shifted, n)
            slot, number = slot + 4 * width, number + 4
        while number < slots:
            x = table[slot + column] + table[part + LOW] * table[slot + PER_SAMPLE]
            gather(memory, load(memory, weights + number), x, near, samples, size, table[slot + PER_SAMPLE])
            slot, number = slot + width, number + 1
        activate(memory, table, at, row, part, near, n)
    settle(memory, table, at, row, part, mode, near, heard)


@jit
def activate(memory: Any, table: Any, at: int, row: int, part: int, out: int, n: int) -> None:
    """Add the bias of a vertex to n sums and apply the activation; its slope is kept."""
    own = table[at + OWN]
    if table[own + BIASED]:
        bias = load(memory, table[own + VERTICES + table[at + COUNT] + row])
        for i in range(n):
            store(memory, out + i, load(memory, out + i) + bias)
    if table[own + CODE]:
        saved = slope_of(table, at, row, part)
        constant = load(memory, table[at + ATTRIBUTE])
        apply(table[own + CODE], constant, memory, out, memory, out, memory, saved, n)


@inline
def slope_of(table: Any, at: int, row: int, part: int) -> Any:
    """Return where the slope of a vertex lies, from the first sample of the part on."""
    return table[at + SAVED] + row * table[at + SAVED_STRIDE] + table[part + LOW] * table[at + SIZE]


@jit
def sloped_error(memory: Any, table: Any, at: int, row: int, part: int, out: int) -> Any:
    """Return where f' Pi eps of a vertex lies: its error, or ``out``, to which it is written."""
    g = weigh(memory, table, at, row, part, out)
    if not table[table[at + OWN] + CODE]:
        return g
    n = (table[part + HIGH] - table[part + LOW]) * table[at + SIZE]
    scale_into(memory, slope_of(table, at, row, part), g, out, n)
    return out


@jit
def send(memory: Any, table: Any, at: int, row: int, part: int) -> None:
    """Write down what a vertex sends to each of its inputs."""
    g = sloped_error(memory, table, at, row, part, table[part + SCRATCH])
    n, shifted = (table[part + HIGH] - table[part + LOW]) * table[at + SIZE], table[part + LOW] * table[at + SIZE]
    weights, slot = table[table[at + OWN] + VERTICES + row], table[at + SLOTS] + INPUTS + 2 * table[at + COUNT] + row
    for number in range(table[at + SLOT_COUNT]):
        if table[slot] >= 0:
            weight, message = load(memory, weights + number), table[slot] + shifted
            for i in range(n):
                store(memory, message + i, weight * load(memory, g + i))
        slot += INPUTS + 4 * table[at + COUNT]


@jit
def predict_together(memory: Any, table: Any, at: int, bundle: int, low: int, high: int, part: int, mode: int) -> None:
    """Sum the inputs of some units of a bundle where they have changed, and take their predictions."""
    heard = mode & SWEEP != 0 or wake(table, at, low, part, mode) == 2
    awake = heard
    for row in range(low, high) if not mode & SWEEP else range(0):
        awake |= rouse(table, at, row, part, mode, heard) != 0
    if not awake or not mode & (SWEEP | PREDICT):
        return
    near, woke = table[part + SCRATCH], table[part + WOKE] + table[at + FIRST]
    n = (table[part + HIGH] - table[part + LOW]) * table[at + SIZE]
    for first in range(low, high, TOGETHER):
        last = min(high, first + TOGETHER)
        if heard:
            sum_together(memory, table, at, bundle, first, last, part, mode, near)
        for row in range(first, last):
            mu = near + (row - first) * n
            if heard:
                activate(memory, table, at, row, part, mu, n)
            if heard or table[woke + row] != 0:
                settle(memory, table, at, row, part, mode, mu, heard)


@jit
def sum_together(
    memory: Any, table: Any, at: int, bundle: int, first: int, last: int, part: int, mode: int, out: int
) -> None:
    """Set out (units, samples) = W x."""
    size, k = table[at + SIZE], table[bundle + FAN_IN]
    n, begin = (table[part + HIGH] - table[part + LOW]) * size, table[part + LOW] * size
    weights = table[bundle + FORTH] + (first - table[bundle + FIRST_UNIT]) * k
    places, scratch = bundle + PLACES + (k if mode & SWEEP else 0), table[part + SCRATCH] + table[part + REGION]
    columns = SLAB // DEPTH
    for deep in range(0, k, DEPTH):
        depth = min(DEPTH, k - deep)
        for left in range(0, n, columns):
            some = min(columns, n - left)
            pack_rows(memory, table, places + deep, depth, begin + left, some, scratch)
            w, to = weights + deep, out + left
            slab_of_tiles(memory, w, k, 1, memory, scratch, depth, some, last - first, memory, to, n, deep > 0)


@jit
def pack_rows(memory: Any, table: Any, places: int, k: int, shifted: int, n: int, out: int) -> None:
    """Pack n elements of each of k rows, which lie where the table says, ``shifted`` from there, for a product."""
    width = panel_width(memory)
    for left in range(0, n, width):
        some = min(width, n - left)
        for row in range(k):
            x = table[places + row] + shifted + left
            for i in range(some):
                store(memory, out + i, load(memory, x + i))
            for i in range(some, width):
                store(memory, out + i, like(memory, 0))
            out += width


@jit
def answer(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Sum what a bundle sends back to some of its inputs, W^T g; ``at`` holds the step, the bundle, its receivers."""
    if not mode & SEND:
        return
    step, bundle = table[at], table[at + 1]
    first, last = table[bundle + FIRST_UNIT], table[bundle + LAST_UNIT]
    notes = table[part + (WOKE if table[step + SHIFT] >= 0 else DIRTY)] + table[step + FIRST]
    stirred = mode & ALL != 0
    for unit in range(first, last):
        stirred |= table[notes + unit] != 0
    for receiver in range(low, high):
        table[table[part + WOKE] + table[bundle + NUMBER] + receiver] = stirred
    if not stirred:
        return
    near, scratch = table[part + SCRATCH], table[part + SCRATCH] + table[part + REGION]
    n, stride = (table[part + HIGH] - table[part + LOW]) * table[step + SIZE], table[step + STRIDE]
    sums = table[bundle + SUMS] + low * stride + table[part + LOW] * table[step + SIZE]
    for deep in range(first, last, DEPTH):
        depth = min(DEPTH, last - deep)
        for unit in range(deep, deep + depth):
            row = near + (unit - deep) * n
            g = sloped_error(memory, table, step, unit, part, row)
            if g != row:
                copy_into(memory, g, row, n)
        units, more = last - first, deep > first
        w, m = table[bundle + BACK] + low * units + deep - first, high - low
        product_unpacked(memory, w, units, 1, memory, near, n, depth, n, m, memory, sums, stride, more, memory, scratch)


@inline
def alike(table: Any, slot: int, width: int, size: int) -> bool:
    """Return whether the next four inputs have a value for every sample."""
    found = True
    for number in range(4):
        found &= table[slot + number * width + PER_SAMPLE] == size
    return found


@inline
def gather_four(memory: Any, table: Any, place: int, width: int, weights: int, out: int, shifted: int, n: int) -> None:
    """Add four weighted inputs to a sum, in their order."""
    a, b = table[place] + shifted, table[place + width] + shifted
    c, d = table[place + 2 * width] + shifted, table[place + 3 * width] + shifted
    wa, wb, wc, wd = (
        load(memory, weights),
        load(memory, weights + 1),
        load(memory, weights + 2),
        load(memory, weights + 3),
    )
    for i in range(n):
        total = load(memory, out + i) + wa * load(memory, a + i)
        total = total + wb * load(memory, b + i)
        total = total + wc * load(memory, c + i)
        store(memory, out + i, total + wd * load(memory, d + i))


@jit
def gather(memory: Any, weight: Any, x: int, out: int, samples: int, size: int, per_sample: int) -> None:
    """Set out += weight x."""
    if per_sample == size:
        samples, size = 1, samples * size
    for _ in range(samples):
        for i in range(size):
            store(memory, out + i, load(memory, out + i) + weight * load(memory, x + i))
        x += per_sample
        out += size
