"""Functions of each element: of one input, of several that broadcast, and weighted sums."""

from __future__ import annotations

from math import log
from typing import Any

from pcsim.engines.jit.common import (
    ALL,
    ATTRIBUTE,
    COUNT,
    DEVIATION,
    ERROR,
    EXTENT,
    HIGH,
    INPUTS,
    LOW,
    MAP,
    OWN,
    PER_SAMPLE,
    PRECISION,
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
    START,
    SWEEP,
    TARGETS,
    UNWRITTEN,
    copy_into,
    input_of,
    scale_into,
    settle,
    wake,
    weigh,
)  # fmt: skip
from pcsim.engines.jit.compiled import jit, load, store
from pcsim.engines.jit.functions import apply
from pcsim.engines.jit.native import like


@jit
def unary(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Play one function of one input; its own operand is the function (0: the identity)."""
    code, count, size, slot = table[table[at + OWN]], table[at + COUNT], table[at + SIZE], table[at + SLOTS]
    per_sample, first = table[slot + PER_SAMPLE], table[part + LOW]
    samples, near = table[part + HIGH] - first, table[part + SCRATCH]
    constant = load(memory, table[at + ATTRIBUTE])
    slot += INPUTS
    inputs = slot + (count if mode & SWEEP else 0)
    sends = mode & SEND and (mode & ALL or not table[at + UNWRITTEN])
    if samples * size == 1 and per_sample == 1 and not mode & SWEEP and table[at + PRECISION] < 0 > table[at + TARGETS]:
        unary_scalars(memory, table, at, low, high, part, mode, code, constant)
        return
    for row in range(low, high):
        state = 2 if mode & SWEEP else wake(table, at, row, part, mode)
        if state == 0:
            continue
        saved = table[at + SAVED] + row * table[at + SAVED_STRIDE] + first * size
        if mode & (SWEEP | PREDICT):
            mu = near
            if state == 2:
                x = table[inputs + row] + first * per_sample
                if per_sample == 0:
                    spread(memory, x, near, samples, size)
                    x = near
                mu = x
                if code:
                    apply(code, constant, memory, x, memory, near, memory, saved, samples * size)
                    mu = near
            settle(memory, table, at, row, part, mode, mu, state == 2)
        message = table[slot + 2 * count + row]
        if sends and message >= 0:
            message += first * size
            g = weigh(memory, table, at, row, part, near)
            if code:
                scale_into(memory, saved, g, message, samples * size)
            else:
                copy_into(memory, g, message, samples * size)


@jit
def unary_scalars(
    memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, code: int, constant: Any
) -> None:
    """Play scalars with a batch of one: functions of many vertices at once."""
    count, near, listed = table[at + COUNT], table[part + SCRATCH], table[at + OWN] + 1
    slot, far, first = table[at + SLOTS] + INPUTS, near + table[part + REGION], low
    sends = mode & SEND and (mode & ALL or not table[at + UNWRITTEN])
    while first < high:
        last, heard = min(high, first + table[part + REGION]), 0
        for row in range(first, last):
            state = wake(table, at, row, part, mode)
            if state == 2 and mode & PREDICT:
                store(memory, near + heard, load(memory, table[slot + row]))
                table[listed + first + heard] = row
                heard += 1
            elif state and mode & PREDICT:
                shift = load(memory, table[at + SHIFT] + row)
                store(memory, table[at + ERROR] + row, load(memory, table[at + DEVIATION] + row) - shift)
        if code and heard:
            apply(code, constant, memory, near, memory, near, memory, far, heard)
        for number in range(heard):
            row = table[listed + first + number]
            if code:
                store(memory, table[at + SAVED] + row, load(memory, far + number))
            shift = load(memory, near + number) - load(memory, table[at + START] + row)
            store(memory, table[at + SHIFT] + row, shift)
            store(memory, table[at + ERROR] + row, load(memory, table[at + DEVIATION] + row) - shift)
        for row in range(first, last) if sends else range(0):
            message = table[slot + 2 * count + row]
            if message >= 0:
                g = load(memory, table[at + ERROR] + row)
                store(memory, message, load(memory, table[at + SAVED] + row) * g if code else g)
        first = last


@jit
def spread(memory: Any, x: int, out: int, samples: int, size: int) -> None:
    """Repeat one value for all samples."""
    for _ in range(samples):
        copy_into(memory, x, out, size)
        out += size


ADD, SUBTRACT, MULTIPLY, DIVIDE, POWER, POWER_OF = range(1, 7)
"""What ``combine`` does; POWER raises to a constant, POWER_OF to the second input."""


@jit
def combine(memory: Any, table: Any, code: int, slot: int, x: int, out: int, samples: int, size: int) -> None:
    """Set out = out ∘ x, element by element, x spread over samples and broadcast by its map; code 0 sets out = x."""
    per_sample, mapped = table[slot + PER_SAMPLE], table[slot + MAP]
    if mapped < 0 and per_sample == size:
        combine_plain(memory, code, x, out, samples * size)
        return
    for _ in range(samples):
        if mapped < 0:
            combine_plain(memory, code, x, out, size)
        else:
            for i in range(size):
                combine_plain(memory, code, x + table[mapped + i], out + i, 1)
        x += per_sample
        out += size


@jit
def combine_plain(memory: Any, code: int, x: int, out: int, n: int) -> None:
    """Set out = out ∘ x for n elements in a row."""
    if code == 0:
        copy_into(memory, x, out, n)
    elif code == ADD:
        for i in range(n):
            store(memory, out + i, load(memory, out + i) + load(memory, x + i))
    elif code == SUBTRACT:
        for i in range(n):
            store(memory, out + i, load(memory, out + i) - load(memory, x + i))
    elif code == MULTIPLY:
        for i in range(n):
            store(memory, out + i, load(memory, out + i) * load(memory, x + i))
    elif code == DIVIDE:
        for i in range(n):
            store(memory, out + i, load(memory, out + i) / load(memory, x + i))
    else:
        for i in range(n):
            store(memory, out + i, load(memory, out + i) ** load(memory, x + i))


@jit
def deliver(memory: Any, table: Any, slot: int, term: int, message: int, samples: int, size: int) -> None:
    """Write a derivative as a message: summed where the input was broadcast."""
    mapped, extent = table[slot + MAP], table[slot + EXTENT]
    if mapped < 0:
        copy_into(memory, term, message, samples * size)
        return
    for i in range(samples * extent):
        store(memory, message + i, like(memory, 0))
    for _ in range(samples):
        for i in range(size):
            place = message + table[mapped + i]
            store(memory, place, load(memory, place) + load(memory, term + i))
        term += size
        message += extent


@jit
def arithmetic(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Play a sum, difference, product, quotient or power of inputs that broadcast; its own operand says which."""
    count, size, slots = table[at + COUNT], table[at + SIZE], table[at + SLOT_COUNT]
    first, near = table[part + LOW], table[part + SCRATCH]
    samples = table[part + HIGH] - first
    sends = mode & SEND and (mode & ALL or not table[at + UNWRITTEN])
    for row in range(low, high):
        state = 2 if mode & SWEEP else wake(table, at, row, part, mode)
        if state == 0:
            continue
        if mode & (SWEEP | PREDICT):
            if state == 2:
                together(memory, table, at, row, part, mode, near)
            settle(memory, table, at, row, part, mode, near, state == 2)
        if sends:
            g = weigh(memory, table, at, row, part, near)
            for number in range(slots):
                slot = input_of(table, at, number)
                message = table[slot + INPUTS + 2 * count + row]
                if message >= 0:
                    term = near + table[part + REGION]
                    share(memory, table, at, row, part, number, g, term)
                    message += first * table[slot + EXTENT]
                    deliver(memory, table, slot, term, message, samples, size)


@jit
def together(memory: Any, table: Any, at: int, row: int, part: int, mode: int, out: int) -> None:
    """Combine the inputs of a vertex, and keep what its derivatives need."""
    code, count, size = table[table[at + OWN]], table[at + COUNT], table[at + SIZE]
    first = table[part + LOW]
    samples = table[part + HIGH] - first
    column = INPUTS + (count if mode & SWEEP else 0) + row
    slot = input_of(table, at, 0)
    x = table[slot + column] + first * table[slot + PER_SAMPLE]
    combine(memory, table, 0, slot, x, out, samples, size)
    saved = table[at + SAVED] + row * table[at + SAVED_STRIDE] + first * size
    if code == POWER:
        raise_to(memory, load(memory, table[at + ATTRIBUTE]), out, saved, samples * size)
        return
    if code == POWER_OF:
        copy_into(memory, out, saved, samples * size)
    for number in range(1, table[at + SLOT_COUNT]):
        slot = input_of(table, at, number)
        x = table[slot + column] + first * table[slot + PER_SAMPLE]
        if code == POWER_OF:
            slopes_of_power(memory, table, slot, x, saved, saved + table[at + SAVED_STRIDE] // 2, samples, size)
        combine(memory, table, code, slot, x, out, samples, size)
    if code == DIVIDE:
        copy_into(memory, out, saved, samples * size)


@jit
def raise_to(memory: Any, exponent: Any, out: int, slope: int, n: int) -> None:
    """Set out = out ** exponent, and its slope."""
    for i in range(n):
        x = load(memory, out + i)
        store(memory, slope + i, exponent * x ** (exponent - like(memory, 1)) if exponent != 0 else like(memory, 0))
        store(memory, out + i, x * x if exponent == 2 else x**exponent)


@jit
def slopes_of_power(
    memory: Any, table: Any, slot: int, x: int, base: int, exponent: int, samples: int, size: int
) -> None:
    """Set the slopes of base ** x at the base, which lies at ``base`` and is used up, and at the exponent x."""
    for sample in range(samples):
        for i in range(size):
            here = sample * size + i
            place = table[slot + MAP]
            y = load(memory, x + sample * table[slot + PER_SAMPLE] + (i if place < 0 else table[place + i]))
            b = load(memory, base + here)
            one = like(memory, 1)
            store(memory, exponent + here, b**y * log(b if b > 0 else one))
            store(memory, base + here, y * b ** (one if y == 0 else y - one))


@jit
def share(memory: Any, table: Any, at: int, row: int, part: int, number: int, g: int, out: int) -> None:
    """Set out = g times the derivative by one input."""
    code, size = table[table[at + OWN]], table[at + SIZE]
    first = table[part + LOW]
    samples = table[part + HIGH] - first
    saved = table[at + SAVED] + row * table[at + SAVED_STRIDE] + first * size
    if code in (POWER, POWER_OF):
        scale_into(memory, saved + number * (table[at + SAVED_STRIDE] // 2), g, out, samples * size)
        return
    copy_into(memory, g, out, samples * size)
    if code == MULTIPLY:
        for other in range(table[at + SLOT_COUNT]):
            if other != number:
                slot = input_of(table, at, other)
                x = table[slot + INPUTS + row] + first * table[slot + PER_SAMPLE]
                combine(memory, table, MULTIPLY, slot, x, out, samples, size)
    elif code == SUBTRACT and number == 1:
        for i in range(samples * size):
            store(memory, out + i, -load(memory, out + i))
    elif code == DIVIDE:
        slot = input_of(table, at, 1)
        x = table[slot + INPUTS + row] + first * table[slot + PER_SAMPLE]
        combine(memory, table, DIVIDE, slot, x, out, samples, size)
        if number == 1:
            for i in range(samples * size):
                store(memory, out + i, -load(memory, out + i) * load(memory, saved + i))
