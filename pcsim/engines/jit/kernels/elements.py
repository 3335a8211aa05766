"""Functions of each element: of one input, and of several that broadcast."""

from __future__ import annotations

from math import log
from typing import Any

from pcsim.engines.jit.kernels.common import (
    INPUT,
    PREDICT,
    SAME,
    SWEEP,
    changes,
    clear,
    copy_into,
    input_of,
    message_of,
    part_at,
    room_for,
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
from pcsim.engines.jit.kernels.records import Record, location, whole

UNARY = Record(
    "function",
    function=whole("which function; 0: the identity"),
    listed=location("room for a list of vertices"),
)

unary_at = UNARY.one()


@jit
def unary(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Run one function of one input."""
    step, mine = step_at(table, at), part_at(table, part)
    function, slot = unary_at(table, step.own).function, slot_at(table, step.slots, 0)
    size, samples = step.size, mine.high - mine.low
    scalar = samples * size == 1 and slot.per_sample == 1
    if scalar and not mode & SWEEP and step.precision < 0 and step.outputs < 0:
        unary_scalars(memory, table, at, low, high, part, mode)
        return
    constant, near = load(memory, step.attribute), mine.scratch
    for row in range(low, high):
        change = changes(table, step, row, mine, mode)
        if change == SAME:
            continue
        saved = saved_of(step, row, mine)
        if mode & (SWEEP | PREDICT):
            mu = near
            if change == INPUT:
                x = input_of(table, slot, row, mode) + mine.low * slot.per_sample
                if slot.per_sample == 0:
                    spread(memory, x, near, samples, size)
                    x = near
                mu = x
                if function:
                    mu = room_for(step, row, mine, mode, near)
                    apply(function, constant, memory, x, memory, mu, memory, saved, samples * size)
            take_prediction(memory, table, at, row, part, mode, mu, change == INPUT)
        message = message_of(table, slot, row)
        if sends(step, mode) and message >= 0:
            message += mine.low * size
            g = weigh(memory, step, row, mine, near)
            if function:
                scale_into(memory, saved, g, message, samples * size)
            else:
                copy_into(memory, g, message, samples * size)


@jit
def unary_scalars(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int) -> None:
    """Run scalars with a batch of one: functions of many vertices at once."""
    step, mine = step_at(table, at), part_at(table, part)
    own, slot = unary_at(table, step.own), slot_at(table, step.slots, 0)
    function, listed, near = own.function, own.listed, mine.scratch
    constant, far, first = load(memory, step.attribute), near + mine.region, low
    while first < high:
        last, count = min(high, first + mine.region), 0
        for row in range(first, last):
            change = changes(table, step, row, mine, mode)
            if change == INPUT and mode & PREDICT:
                store(memory, near + count, load(memory, input_of(table, slot, row, mode)))
                table[listed + first + count] = row
                count += 1
            elif change and mode & PREDICT:
                shift = load(memory, step.shift + row)
                store(memory, step.error + row, load(memory, step.deviation + row) - shift)
        if function and count:
            apply(function, constant, memory, near, memory, near, memory, far, count)
        for k in range(count):
            row = table[listed + first + k]
            if function:
                store(memory, step.saved + row, load(memory, far + k))
            shift = load(memory, near + k) - load(memory, step.start + row)
            store(memory, step.shift + row, shift)
            store(memory, step.error + row, load(memory, step.deviation + row) - shift)
        for row in range(first, last) if sends(step, mode) else range(0):
            message = message_of(table, slot, row)
            if message >= 0:
                g = load(memory, step.error + row)
                store(memory, message, load(memory, step.saved + row) * g if function else g)
        first = last


@jit
def spread(memory: Any, x: int, out: int, samples: int, size: int) -> None:
    """Repeat one value for all samples."""
    for _ in range(samples):
        copy_into(memory, x, out, size)
        out += size


# -- several inputs that broadcast --------------------------------------------------------------------------


@inline
def second(a: Any, b: Any) -> Any:
    """Return b."""
    return b


@inline
def plus(a: Any, b: Any) -> Any:
    """Return a + b."""
    return a + b


@inline
def minus(a: Any, b: Any) -> Any:
    """Return a - b."""
    return a - b


@inline
def times(a: Any, b: Any) -> Any:
    """Return a b."""
    return a * b


@inline
def over(a: Any, b: Any) -> Any:
    """Return a / b."""
    return a / b


@inline
def to_the(a: Any, b: Any) -> Any:
    """Return a to the power of b."""
    return a**b


@inline
def combine_row(memory: Any, combine: Any, x: int, out: int, n: int) -> None:
    """Set out = combine(out, x) for n elements in a row."""
    for i in range(n):
        store(memory, out + i, combine(load(memory, out + i), load(memory, x + i)))


@jit
def combine_input(memory: Any, table: Any, combine: Any, slot: Any, x: int, out: int, samples: int, size: int) -> None:
    """Set out = combine(out, x), element by element, x spread over samples and broadcast by the map of its slot."""
    if slot.map < 0 and slot.per_sample == size:
        combine_row(memory, combine, x, out, samples * size)
        return
    for _ in range(samples):
        if slot.map < 0:
            combine_row(memory, combine, x, out, size)
        else:
            for i in range(size):
                combine_row(memory, combine, x + table[slot.map + i], out + i, 1)
        x += slot.per_sample
        out += size


@jit
def write_message(memory: Any, table: Any, slot: Any, term: int, message: int, samples: int, size: int) -> None:
    """Write a derivative as a message: summed where the input was broadcast."""
    if slot.map < 0:
        copy_into(memory, term, message, samples * size)
        return
    clear(memory, message, samples * slot.extent, like(memory, 0))
    for _ in range(samples):
        for i in range(size):
            goal = message + table[slot.map + i]
            store(memory, goal, load(memory, goal) + load(memory, term + i))
        term += size
        message += slot.extent


@inline
def run(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, predict: Any, derive: Any) -> None:
    """Run vertices of several inputs, given how they predict and what each input's derivative is."""
    step, mine = step_at(table, at), part_at(table, part)
    near, samples = mine.scratch, mine.high - mine.low
    term = near + mine.region
    for row in range(low, high):
        change = changes(table, step, row, mine, mode)
        if change == SAME:
            continue
        if mode & (SWEEP | PREDICT):
            mu = room_for(step, row, mine, mode, near)
            if change == INPUT:
                predict(memory, table, step, mine, row, mode, mu)
            take_prediction(memory, table, at, row, part, mode, mu, change == INPUT)
        if sends(step, mode):
            g = weigh(memory, step, row, mine, near)
            for number in range(step.slot_count):
                slot = slot_at(table, step.slots, number)
                message = message_of(table, slot, row)
                if message >= 0:
                    copy_into(memory, g, term, samples * step.size)
                    derive(memory, table, step, mine, row, number, term)
                    write_message(memory, table, slot, term, message + mine.low * slot.extent, samples, step.size)


@inline
def input_at(table: Any, step: Any, mine: Any, row: int, number: int, mode: int) -> Any:
    """Return where an input of a vertex lies, from the first sample of the part on."""
    slot = slot_at(table, step.slots, number)
    return input_of(table, slot, row, mode) + mine.low * slot.per_sample


@inline
def fold(memory: Any, table: Any, step: Any, mine: Any, row: int, mode: int, combine: Any, out: int) -> None:
    """Set out to all inputs combined, one after the other."""
    samples = mine.high - mine.low
    x = input_at(table, step, mine, row, 0, mode)
    combine_input(memory, table, second, slot_at(table, step.slots, 0), x, out, samples, step.size)
    for number in range(1, step.slot_count):
        x = input_at(table, step, mine, row, number, mode)
        combine_input(memory, table, combine, slot_at(table, step.slots, number), x, out, samples, step.size)


@inline
def negate(memory: Any, x: int, n: int) -> None:
    """Set x = -x."""
    for i in range(n):
        store(memory, x + i, -load(memory, x + i))


@jit
def sum_all(memory: Any, table: Any, step: Any, mine: Any, row: int, mode: int, out: int) -> None:
    """Set out to the sum of the inputs."""
    fold(memory, table, step, mine, row, mode, plus, out)


@jit
def derive_sum(memory: Any, table: Any, step: Any, mine: Any, row: int, number: int, out: int) -> None:
    """Leave g as it is."""


@jit
def difference(memory: Any, table: Any, step: Any, mine: Any, row: int, mode: int, out: int) -> None:
    """Set out to the first input less the second."""
    fold(memory, table, step, mine, row, mode, minus, out)


@jit
def derive_difference(memory: Any, table: Any, step: Any, mine: Any, row: int, number: int, out: int) -> None:
    """Turn the sign for the second input."""
    if number == 1:
        negate(memory, out, (mine.high - mine.low) * step.size)


@jit
def product(memory: Any, table: Any, step: Any, mine: Any, row: int, mode: int, out: int) -> None:
    """Set out to the product of the inputs."""
    fold(memory, table, step, mine, row, mode, times, out)


@jit
def derive_product(memory: Any, table: Any, step: Any, mine: Any, row: int, number: int, out: int) -> None:
    """Multiply by all other inputs."""
    for other in range(step.slot_count):
        if other != number:
            x = input_at(table, step, mine, row, other, PREDICT)
            slot = slot_at(table, step.slots, other)
            combine_input(memory, table, times, slot, x, out, mine.high - mine.low, step.size)


@jit
def quotient(memory: Any, table: Any, step: Any, mine: Any, row: int, mode: int, out: int) -> None:
    """Set out to the first input over the second, and keep it."""
    fold(memory, table, step, mine, row, mode, over, out)
    copy_into(memory, out, saved_of(step, row, mine), (mine.high - mine.low) * step.size)


@jit
def derive_quotient(memory: Any, table: Any, step: Any, mine: Any, row: int, number: int, out: int) -> None:
    """Divide by the second input; for that, multiply by the negated quotient as well."""
    n, saved = (mine.high - mine.low) * step.size, saved_of(step, row, mine)
    x = input_at(table, step, mine, row, 1, PREDICT)
    combine_input(memory, table, over, slot_at(table, step.slots, 1), x, out, mine.high - mine.low, step.size)
    if number == 1:
        for i in range(n):
            store(memory, out + i, -load(memory, out + i) * load(memory, saved + i))


@jit
def power_of_constant(memory: Any, table: Any, step: Any, mine: Any, row: int, mode: int, out: int) -> None:
    """Set out to the input raised to the constant, and keep the slope."""
    exponent, slope, n = load(memory, step.attribute), saved_of(step, row, mine), (mine.high - mine.low) * step.size
    fold(memory, table, step, mine, row, mode, second, out)
    for i in range(n):
        x = load(memory, out + i)
        store(memory, slope + i, exponent * x ** (exponent - like(memory, 1)) if exponent != 0 else like(memory, 0))
        store(memory, out + i, x * x if exponent == 2 else x**exponent)


@jit
def power_of_inputs(memory: Any, table: Any, step: Any, mine: Any, row: int, mode: int, out: int) -> None:
    """Set out to the first input raised to the second, and keep the slopes by both."""
    samples, size, one = mine.high - mine.low, step.size, like(memory, 1)
    x, slot = input_at(table, step, mine, row, 1, mode), slot_at(table, step.slots, 1)
    fold(memory, table, step, mine, row, mode, to_the, out)
    by_base = saved_of(step, row, mine)
    by_exponent, base = by_base + step.saved_stride // 2, input_at(table, step, mine, row, 0, mode)
    combine_input(memory, table, second, slot_at(table, step.slots, 0), base, by_base, samples, size)
    for sample in range(samples):
        for i in range(size):
            here = sample * size + i
            y = load(memory, x + sample * slot.per_sample + (i if slot.map < 0 else table[slot.map + i]))
            b = load(memory, by_base + here)
            store(memory, by_exponent + here, b**y * log(b if b > 0 else one))
            store(memory, by_base + here, y * b ** (one if y == 0 else y - one))


@jit
def derive_power(memory: Any, table: Any, step: Any, mine: Any, row: int, number: int, out: int) -> None:
    """Multiply by the slope that was kept."""
    slope = saved_of(step, row, mine) + number * (step.saved_stride // 2)
    scale_into(memory, slope, out, out, (mine.high - mine.low) * step.size)


@jit
def add(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Run sums of inputs."""
    run(memory, table, at, low, high, part, mode, sum_all, derive_sum)


@jit
def subtract(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Run differences of two inputs."""
    run(memory, table, at, low, high, part, mode, difference, derive_difference)


@jit
def multiply(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Run products of inputs."""
    run(memory, table, at, low, high, part, mode, product, derive_product)


@jit
def divide(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Run quotients of two inputs."""
    run(memory, table, at, low, high, part, mode, quotient, derive_quotient)


@jit
def power(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Run powers: of one input by a constant, or of one input by another."""
    if step_at(table, at).slot_count == 1:
        run(memory, table, at, low, high, part, mode, power_of_constant, derive_power)
    else:
        run(memory, table, at, low, high, part, mode, power_of_inputs, derive_power)
