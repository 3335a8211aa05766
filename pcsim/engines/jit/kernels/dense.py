"""The layer f(W x + b), or W f(x) + b: packed products with what goes before and after, while it is near."""

from __future__ import annotations

from math import sqrt
from typing import Any

from pcsim.engines.jit.kernels.common import (
    INPUT,
    PREDICT,
    SAME,
    SEND,
    SWEEP,
    changes,
    copy_into,
    edge_at,
    input_of,
    message_of,
    part_at,
    room_for,
    scale_into,
    slot_at,
    step_at,
    take_prediction,
    unbounded,
    weigh,
)
from pcsim.engines.jit.kernels.compiled import inline, jit, load, store
from pcsim.engines.jit.kernels.functions import apply
from pcsim.engines.jit.kernels.native import like
from pcsim.engines.jit.kernels.products import pack_panel, panel_width, product_packed, product_unpacked
from pcsim.engines.jit.kernels.records import Record, address, location, whole
from pcsim.engines.jit.kernels.squares import squares

LAYER = Record(
    "layer",
    samples=whole("rows of a sample"),
    fan_in=whole("features before"),
    units=whole("features after"),
    function=whole("activation; 0: none"),
    inner=whole("whether it goes before the weights"),
    vertices=location("what each vertex has of its own"),
    users=location("the vertices that contribute to gradients, by weight"),
    starts=location("which of these is the first of each weight"),
)

LAYER_VERTEX = Record(
    "layer vertex",
    forward=address("W transposed, packed"),
    backward=address("W, packed"),
    bias=address("bias; nowhere if there is none"),
    weight_learnt=address("what the weight has learnt"),
    bias_learnt=address("what the bias has learnt"),
    blank=location("whether what lies there is to be replaced, not added to"),
)

layer_at, vertex_at = LAYER.one(), LAYER_VERTEX.each()

SLICES = 8
"""Parts in which what a weight learns is summed, each by one thread."""


@jit
def affine(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Run vertices of one layer shape."""
    step, mine = step_at(table, at), part_at(table, part)
    layer, slot = layer_at(table, step.own), slot_at(table, step.slots, 0)
    k, n, function, inner = layer.fan_in, layer.units, layer.function, layer.inner
    begin = mine.low * layer.samples
    m = mine.high * layer.samples - begin
    near = mine.scratch
    far = near + mine.region
    constant = load(memory, step.attribute)
    for row in range(low, high):
        change = changes(table, step, row, mine, mode)
        if change == SAME:
            continue
        vertex = vertex_at(table, layer.vertices, row)
        saved = step.saved + row * step.saved_stride + begin * (k if inner else n)
        if mode & (SWEEP | PREDICT):
            mu = room_for(step, row, mine, mode, near)
            if change == INPUT:
                x = input_of(table, slot, row, mode) + begin * k
                if inner and function:
                    apply(function, constant, memory, x, memory, far, memory, saved, m * k)
                    x = far
                product_packed(memory, x, k, 1, memory, vertex.forward, k, n, m, memory, mu, n, False)
                if vertex.bias >= 0:
                    add_rows(memory, vertex.bias, mu, m, n)
                if function and not inner:
                    apply(function, constant, memory, mu, memory, mu, memory, saved, m * n)
            take_prediction(memory, table, at, row, part, mode, mu, change == INPUT)
        message = message_of(table, slot, row)
        if mode & SEND and message >= 0:
            g = weigh(memory, step, row, mine, near)
            if function and not inner:
                scale_into(memory, saved, g, near, m * n)
                g = near
            message += begin * k
            product_packed(memory, g, n, 1, memory, vertex.backward, n, k, m, memory, message, k, False)
            if function and inner:
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
    """Add what vertices contribute to the gradients of weight and bias, over all samples of the part.

    ``low`` to ``high`` count slices of weights, ``SLICES`` each: all users of a slice add to it one after the other.
    """
    step, mine = step_at(table, at), part_at(table, part)
    layer = layer_at(table, step.own)
    k = layer.fan_in
    for number in range(low // SLICES, (high + SLICES - 1) // SLICES):
        first, last = max(low - number * SLICES, 0), min(high - number * SLICES, SLICES)
        left, right = first * layer.units // SLICES, last * layer.units // SLICES
        begin, end, bounded = table[layer.starts + number], table[layer.starts + number + 1], True
        for listed in range(begin, end):
            row = table[layer.users + listed]
            blank = listed == begin and table[vertex_at(table, layer.vertices, row).blank] != 0
            bounded &= accumulate(memory, table, at, row, part, left, right, not blank)
        if not bounded:
            learnt = vertex_at(table, layer.vertices, table[layer.users + begin]).weight_learnt
            mine.fault |= unbounded(memory, learnt + left * k, (right - left) * k)


@jit
def accumulate(memory: Any, table: Any, at: int, row: int, part: int, left: int, right: int, add: bool) -> bool:
    """Take what a vertex contributes to some units of its weight and bias: added to what is there, or replacing it.

    Returns whether no number of the weight can have left the number format; one that has never comes back.
    """
    step, mine = step_at(table, at), part_at(table, part)
    layer, slot = layer_at(table, step.own), slot_at(table, step.slots, 0)
    vertex = vertex_at(table, layer.vertices, row)
    k, n, function, inner = layer.fan_in, layer.units, layer.function, layer.inner
    m = (mine.high - mine.low) * layer.samples
    near, region = mine.scratch, mine.region
    slopes, scratch, some = near + region, near + 3 * region, right - left
    constant, gain = load(memory, step.attribute), load(memory, step.gain)
    x, slope = edge_at(table, slot.inputs, row).value, -1
    if function and not inner:
        slope = step.saved + row * step.saved_stride
    slant(memory, weigh(memory, step, row, mine, near), slope, gain, m, n, left, right, slopes)
    if vertex.bias_learnt >= 0:
        sum_rows(memory, slopes, some, m, near, vertex.bias_learnt + left)
    if function and inner:
        apply(function, constant, memory, x, memory, near, memory, near + 2 * region, m * k)
        x = near
    learnt = vertex.weight_learnt + left * k
    product_unpacked(memory, slopes, 1, some, memory, x, k, m, k, some, memory, learnt, k, add, memory, scratch)
    return not add and tame(memory, slopes, some * m, x, m * k)


@inline
def tame(memory: Any, a: int, n: int, b: int, m: int) -> Any:
    """Return whether no sum of products of n numbers and m numbers can leave the number format (Cauchy, Schwarz)."""
    bound = like(memory, 2 * sqrt(squares(memory, a, n, 0.0) * squares(memory, b, m, 0.0)))
    return bound - bound == 0


@jit
def slant(memory: Any, g: int, slope: int, gain: Any, m: int, n: int, left: int, right: int, out: int) -> None:
    """Set out = gain g (m, n), of columns left to right, times the slope where there is one."""
    some = right - left
    for sample in range(m):
        here = sample * n + left
        if slope >= 0:
            for i in range(some):
                store(memory, out + i, gain * (load(memory, slope + here + i) * load(memory, g + here + i)))
        else:
            for i in range(some):
                store(memory, out + i, gain * load(memory, g + here + i))
        out += some


@jit
def sum_rows(memory: Any, g: int, n: int, m: int, total: int, out: int) -> None:
    """Add m rows of n numbers up, one after the other, in ``total``, and that to ``out``."""
    copy_into(memory, g, total, n)
    for sample in range(1, m):
        add_into(memory, g + sample * n, total, n)
    add_into(memory, total, out, n)


@inline
def add_into(memory: Any, a: int, out: int, n: int) -> None:
    """Set out += a, element by element."""
    for i in range(n):
        store(memory, out + i, load(memory, out + i) + load(memory, a + i))


PACKING = Record(
    "packing",
    weight=address("W, (units, fan-in)"),
    units=whole("rows of W"),
    fan_in=whole("columns of W"),
    panels=whole("panels of W^T"),
    forward=address("W^T, packed"),
    backward=address("W, packed; nowhere if no error is sent back"),
)

packing_at = PACKING.one()


@jit
def pack_weight(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Pack panels ``low`` to ``high`` - 1 of a weight: those of W^T, then those of W."""
    own = packing_at(table, at)
    n, k, width = own.units, own.fan_in, panel_width(memory)
    for panel in range(low, high):
        if panel < own.panels:
            first = panel * width
            some, out = min(width, n - first), own.forward + first * k
            pack_panel(memory, own.weight + first * k, 1, k, k, some, memory, out)
        else:
            first = (panel - own.panels) * width
            some, out = min(width, k - first), own.backward + first * n
            pack_panel(memory, own.weight + first, k, 1, n, some, memory, out)
