"""Weighted sums f(sum_k w_k x_k + b); those that take the same inputs are run together, as one layer.

Units of a bundle take the same inputs. Their sums are one matrix product, W x; what they send back to an input is
summed where it is sent, W^T g, and counts as one message. Each product is a chain of fused multiply-adds: a message
that is read is rounded by itself, so that the sum may differ from that of the messages in the last place.
"""

from __future__ import annotations

from typing import Any

from pcsim.engines.jit.kernels.common import (
    ALL,
    INPUT,
    PREDICT,
    SAME,
    SEND,
    SWEEP,
    changes,
    clear,
    copy_into,
    input_of,
    mark_changed,
    message_of,
    part_at,
    saved_of,
    scale_into,
    sends,
    slot_at,
    step_at,
    take_prediction,
    weigh,
)
from pcsim.engines.jit.kernels.compiled import inline, jit, load, store
from pcsim.engines.jit.kernels.functions import apply
from pcsim.engines.jit.kernels.native import like
from pcsim.engines.jit.kernels.products import DEPTH, SLAB, panel_width, product_unpacked, slab_of_tiles
from pcsim.engines.jit.kernels.records import Record, address, location, number, whole

WEIGHTED = Record(
    "weighted sum",
    function=whole("activation; 0: none"),
    biased=whole("whether there is a bias"),
    vertices=location("what each vertex has of its own"),
)

WEIGHTED_VERTEX = Record(
    "weighted vertex",
    weights=address("its weights, one for each input"),
    bias=address("its bias"),
    bundle=location("its bundle; -1: none"),
)

BUNDLE = Record(
    "bundle",
    first=whole("first unit in the step"),
    last=whole("last unit + 1"),
    fan_in=whole("inputs"),
    forward=address("W, (units, inputs)"),
    backward=address("W transposed, (receivers, units)"),
    sums=address("sums of what is sent to each receiver"),
    number=number("by which it is noted that the first sum has changed; -1: none is sent"),
    values=location("where each input lies in a tick"),
    starts=location("where each input lies in the sweep"),
)

ANSWER = Record("bundle of a step", step=location("the step"), bundle=location("the bundle"))

weighted_at, vertex_at, bundle_at, answer_at = WEIGHTED.one(), WEIGHTED_VERTEX.each(), BUNDLE.one(), ANSWER.one()

TOGETHER = 48
"""Units that are summed at once."""


@jit
def weighted_sum(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Run f(sum_k w_k x_k + b) of inputs of one shape."""
    step, mine = step_at(table, at), part_at(table, part)
    vertices, writes = weighted_at(table, step.own).vertices, sends(step, mode)
    row = low
    while row < high:
        bundle, last = vertex_at(table, vertices, row).bundle, row + 1
        if bundle >= 0:
            last = min(high, bundle_at(table, bundle).last)
            predict_together(memory, table, at, bundle, row, last, part, mode)
        else:
            change = changes(table, step, row, mine, mode)
            if change and mode & (SWEEP | PREDICT):
                predict(memory, table, at, row, part, mode, change == INPUT)
            if change and writes:
                send(memory, table, step, row, mine)
        for unit in range(row, last) if bundle >= 0 and mode & SEND and mode & ALL else range(0):
            send(memory, table, step, unit, mine)
        row = last


@jit
def predict(memory: Any, table: Any, at: int, row: int, part: int, mode: int, anew: bool) -> None:
    """Sum the inputs of one vertex where they have changed, and take the prediction."""
    step, mine = step_at(table, at), part_at(table, part)
    near, samples, size = mine.scratch, mine.high - mine.low, step.size
    n, offset = samples * size, mine.low * size
    if anew:
        weights = vertex_at(table, weighted_at(table, step.own).vertices, row).weights
        clear(memory, near, n, like(memory, 0))
        slot = 0
        while slot + 4 <= step.slot_count and alike(table, step, slot):
            gather_four(memory, table, step, slot, row, mode, weights + slot, near, offset, n)
            slot += 4
        while slot < step.slot_count:
            per_sample = slot_at(table, step.slots, slot).per_sample
            x = input_of(table, slot_at(table, step.slots, slot), row, mode) + mine.low * per_sample
            gather(memory, load(memory, weights + slot), x, near, samples, size, per_sample)
            slot += 1
        activate(memory, table, step, row, mine, near, n)
    take_prediction(memory, table, at, row, part, mode, near, anew)


@jit
def activate(memory: Any, table: Any, step: Any, row: int, mine: Any, out: int, n: int) -> None:
    """Add the bias of a vertex to n sums and apply the activation; its slope is kept."""
    own = weighted_at(table, step.own)
    if own.biased:
        bias = load(memory, vertex_at(table, own.vertices, row).bias)
        for i in range(n):
            store(memory, out + i, load(memory, out + i) + bias)
    if own.function:
        constant = load(memory, step.attribute)
        apply(own.function, constant, memory, out, memory, out, memory, saved_of(step, row, mine), n)


@jit
def sloped_error(memory: Any, table: Any, step: Any, row: int, mine: Any, out: int) -> Any:
    """Return where f' Pi eps of a vertex lies: its error, or ``out``, to which it is written."""
    g = weigh(memory, step, row, mine, out)
    if not weighted_at(table, step.own).function:
        return g
    scale_into(memory, saved_of(step, row, mine), g, out, (mine.high - mine.low) * step.size)
    return out


@jit
def send(memory: Any, table: Any, step: Any, row: int, mine: Any) -> None:
    """Write down what a vertex sends to each of its inputs."""
    g = sloped_error(memory, table, step, row, mine, mine.scratch)
    n, offset = (mine.high - mine.low) * step.size, mine.low * step.size
    weights = vertex_at(table, weighted_at(table, step.own).vertices, row).weights
    for slot in range(step.slot_count):
        message = message_of(table, slot_at(table, step.slots, slot), row)
        if message >= 0:
            weight = load(memory, weights + slot)
            message += offset
            for i in range(n):
                store(memory, message + i, weight * load(memory, g + i))


@jit
def predict_together(memory: Any, table: Any, at: int, bundle: int, low: int, high: int, part: int, mode: int) -> None:
    """Sum the inputs of some units of a bundle where they have changed, and take their predictions."""
    step, mine = step_at(table, at), part_at(table, part)
    anew = changes(table, step, low, mine, mode) == INPUT
    changed = anew
    for row in range(low, high) if not mode & SWEEP else range(0):
        changed |= mark_changed(table, step, row, mine, mode, anew) != SAME
    if not changed or not mode & (SWEEP | PREDICT):
        return
    near, n = mine.scratch, (mine.high - mine.low) * step.size
    for first in range(low, high, TOGETHER):
        last = min(high, first + TOGETHER)
        if anew:
            sum_together(memory, table, step, bundle, first, last, mine, mode, near)
        for row in range(first, last):
            mu = near + (row - first) * n
            if anew:
                activate(memory, table, step, row, mine, mu, n)
            if anew or table[mine.changed + step.first + row] != 0:
                take_prediction(memory, table, at, row, part, mode, mu, anew)


@jit
def sum_together(
    memory: Any, table: Any, step: Any, bundle: int, first: int, last: int, mine: Any, mode: int, out: int
) -> None:
    """Set out (units, samples) = W x."""
    own = bundle_at(table, bundle)
    size, k = step.size, own.fan_in
    n, begin = (mine.high - mine.low) * size, mine.low * size
    weights = own.forward + (first - own.first) * k
    inputs, scratch = own.starts if mode & SWEEP else own.values, mine.scratch + mine.region
    columns = SLAB // DEPTH
    for deep in range(0, k, DEPTH):
        depth = min(DEPTH, k - deep)
        for left in range(0, n, columns):
            some = min(columns, n - left)
            pack_rows(memory, table, inputs + deep, depth, begin + left, some, scratch)
            w, to = weights + deep, out + left
            slab_of_tiles(memory, w, k, 1, memory, scratch, depth, some, last - first, memory, to, n, deep > 0)


@jit
def pack_rows(memory: Any, table: Any, places: int, k: int, offset: int, n: int, out: int) -> None:
    """Pack n elements of each of k rows, which lie where the table says, ``offset`` from there, for a product."""
    width = panel_width(memory)
    for left in range(0, n, width):
        some = min(width, n - left)
        for row in range(k):
            x = table[places + row] + offset + left
            for i in range(some):
                store(memory, out + i, load(memory, x + i))
            for i in range(some, width):
                store(memory, out + i, like(memory, 0))
            out += width


@jit
def answer_bundle(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Sum what a bundle sends back to some of its inputs, W^T g."""
    if not mode & SEND:
        return
    pair, mine = answer_at(table, at), part_at(table, part)
    step, bundle = step_at(table, pair.step), bundle_at(table, pair.bundle)
    first, last = bundle.first, bundle.last
    flags = (mine.changed if step.shift >= 0 else mine.moved) + step.first
    changed = mode & ALL != 0
    for unit in range(first, last):
        changed |= table[flags + unit] != 0
    for receiver in range(low, high):
        table[mine.changed + bundle.number + receiver] = changed
    if not changed:
        return
    near, scratch = mine.scratch, mine.scratch + mine.region
    n, stride = (mine.high - mine.low) * step.size, step.stride
    sums = bundle.sums + low * stride + mine.low * step.size
    for deep in range(first, last, DEPTH):
        depth = min(DEPTH, last - deep)
        for unit in range(deep, deep + depth):
            row = near + (unit - deep) * n
            g = sloped_error(memory, table, step, unit, mine, row)
            if g != row:
                copy_into(memory, g, row, n)
        units, more = last - first, deep > first
        w, m = bundle.backward + low * units + deep - first, high - low
        product_unpacked(memory, w, units, 1, memory, near, n, depth, n, m, memory, sums, stride, more, memory, scratch)


@inline
def alike(table: Any, step: Any, slot: int) -> bool:
    """Return whether the next four inputs have a value for every sample."""
    found = True
    for k in range(4):
        found &= slot_at(table, step.slots, slot + k).per_sample == step.size
    return found


@inline
def gather_four(
    memory: Any, table: Any, step: Any, slot: int, row: int, mode: int, weights: int, out: int, offset: int, n: int
) -> None:
    """Add four weighted inputs to a sum, in their order."""
    a = input_of(table, slot_at(table, step.slots, slot), row, mode) + offset
    b = input_of(table, slot_at(table, step.slots, slot + 1), row, mode) + offset
    c = input_of(table, slot_at(table, step.slots, slot + 2), row, mode) + offset
    d = input_of(table, slot_at(table, step.slots, slot + 3), row, mode) + offset
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
