"""Compiled kernels of banks: what happens between sending and the next prediction."""

from __future__ import annotations

from typing import Any

from pcsim.engines.jit.common import DIRTY, FAULT, HEARD, HIGH, LOW, WOKE, copy_into
from pcsim.engines.jit.compiled import jit, load, store
from pcsim.engines.jit.native import like

SIZE, STRIDE, FREE, START, VALUE, DEVIATION, SHIFT, ERROR, RECEIVED, PRECISION = range(10)
KEEP, GAIN, FIRST, BOUNDS, MESSAGES, APART = range(10, 16)
"""Operands of a bank: elements of a row per sample, in all; free rows; where its units lie (-1: none); where the
factors 1 - gamma and gamma of each row lie; the number of its first vertex; where it is said at which message each row
begins, and where the messages are listed; whether they are sent to rows of their own, though nothing need be summed."""

BANK = 16

WHERE, SENDER, DELAY, LINE, NUMBER = range(5)
"""Of a message: where it is sent to, the vertex that sends it, its delay in ticks, the first row of its line, its
number among the late ones."""

MESSAGE = 5


@jit
def move(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Sum what is due to each free row of a bank, and move its values to the next tick."""
    size, stride, free = table[at + SIZE], table[at + STRIDE], table[at + FREE]
    begin = table[part + LOW] * size
    n = (table[part + HIGH] - table[part + LOW]) * size
    vertex, woke = table[part + DIRTY] + table[at + FIRST], table[part + WOKE] + table[at + FIRST]
    for row in range(low, high):
        if row >= free:
            table[vertex + row] = 0
            continue
        first, last = table[table[at + BOUNDS] + row], table[table[at + BOUNDS] + row + 1]
        still = table[vertex + row] == 0 and (table[at + SHIFT] < 0 or table[woke + row] == 0)
        if quiet(table, at, first, last, part, tick) and still:
            continue
        push = due(memory, table, at, row, first, last, tick, begin, n)
        shifted = row * stride + begin
        changed = blend(memory, table, at, row, push, shifted, n)
        table[vertex + row] = changed & 1
        if changed & 2:
            table[part + FAULT] = 1
        if table[at + VALUE] >= 0:
            add_up(memory, table[at + START] + shifted, table[at + DEVIATION] + shifted, table[at + VALUE] + shifted, n)


@jit
def stay(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Blend free rows of a bank with what they have received, when that has been delivered."""
    size, stride, free = table[at + SIZE], table[at + STRIDE], table[at + FREE]
    begin = table[part + LOW] * size
    n = (table[part + HIGH] - table[part + LOW]) * size
    for row in range(low, min(high, free)):
        shifted = row * stride + begin
        blend(memory, table, at, row, table[at + RECEIVED] + shifted, shifted, n)


@jit
def materialise(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Set values to feedforward values plus deviations."""
    begin = table[part + LOW] * table[at + SIZE]
    n = (table[part + HIGH] - table[part + LOW]) * table[at + SIZE]
    for row in range(low, high):
        shifted = row * table[at + STRIDE] + begin
        add_up(memory, table[at + START] + shifted, table[at + DEVIATION] + shifted, table[at + VALUE] + shifted, n)


@jit
def add_up(memory: Any, a: int, b: int, out: int, n: int) -> None:
    """Set out = a + b."""
    for i in range(n):
        store(memory, out + i, load(memory, a + i) + load(memory, b + i))


@jit
def quiet(table: Any, at: int, first: int, last: int, part: int, tick: int) -> Any:
    """Return whether every message that is due is what it was a tick ago; a delay line is quiet when all of it is."""
    still = True
    for number in range(first, last):
        message = table[at + MESSAGES] + number * MESSAGE
        woke = table[table[part + WOKE] + table[message + SENDER]] != 0
        delay = table[message + DELAY]
        if delay == 0:
            still &= not woke
        else:
            heard = table[part + HEARD] + table[message + NUMBER]
            if woke:
                table[heard] = tick
            still &= tick - table[heard] > 2 * delay
    return still


@jit
def due(memory: Any, table: Any, at: int, row: int, first: int, last: int, tick: int, begin: int, n: int) -> Any:
    """Return where the sum of what is due to a row lies; a late message takes the place of the one that arrives."""
    received = table[at + RECEIVED] + row * table[at + STRIDE] + begin
    if last - first == 1 and table[table[at + MESSAGES] + first * MESSAGE + DELAY] == 0:
        return table[table[at + MESSAGES] + first * MESSAGE + WHERE] + begin
    if first == last:
        for i in range(n):
            store(memory, received + i, like(memory, 0))
    for number in range(first, last):
        message = table[at + MESSAGES] + number * MESSAGE
        sent = table[message + WHERE] + begin
        arrives = sent
        if table[message + DELAY] > 0:
            arrives = table[message + LINE] + tick % table[message + DELAY] * table[at + STRIDE] + begin
        if number == first:
            copy_into(memory, arrives, received, n)
        else:
            add_up(memory, received, arrives, received, n)
        if arrives != sent:
            copy_into(memory, sent, arrives, n)
    return received


@jit
def deliver(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Deliver messages so that they can be read: late ones change places with those due, then rows sum theirs."""
    begin = table[part + LOW] * table[at + SIZE]
    n = (table[part + HIGH] - table[part + LOW]) * table[at + SIZE]
    for row in range(low, min(high, table[at + FREE])):
        received = table[at + RECEIVED] + row * table[at + STRIDE] + begin
        first, last = table[table[at + BOUNDS] + row], table[table[at + BOUNDS] + row + 1]
        if table[at + APART] or first == last:
            due(memory, table, at, row, first, last, tick, begin, n)
            if first < last and table[table[at + MESSAGES] + first * MESSAGE + DELAY] == 0:
                copy_into(memory, table[table[at + MESSAGES] + first * MESSAGE + WHERE] + begin, received, n)
            continue
        for number in range(first, last):
            message = table[at + MESSAGES] + number * MESSAGE
            sent = table[message + WHERE] + begin
            if table[message + DELAY] > 0:
                line = table[message + LINE] + tick % table[message + DELAY] * table[at + STRIDE] + begin
                exchange(memory, sent, line, n)
            if sent != received:
                if number == first:
                    copy_into(memory, sent, received, n)
                else:
                    add_up(memory, received, sent, received, n)


@jit
def exchange(memory: Any, a: int, b: int, n: int) -> None:
    """Let two rows change places."""
    for i in range(n):
        kept = load(memory, a + i)
        store(memory, a + i, load(memory, b + i))
        store(memory, b + i, kept)


@jit
def blend(memory: Any, table: Any, at: int, row: int, push: int, shifted: int, n: int) -> int:
    """Set deviation = keep deviation + gain (shift + push); return 1 if that changed it, plus 2 if it is not finite.

    With keep 0 and gain 1 the deviation becomes shift + push, bit for bit.
    """
    keep, gain = load(memory, table[at + KEEP] + row), load(memory, table[at + GAIN] + row)
    deviation, shift = table[at + DEVIATION] + shifted, table[at + SHIFT] + shifted
    if table[at + PRECISION] >= 0:
        return blend_weighted(memory, table, at, row, push, shifted, n)
    changed, bad = False, False
    if table[at + SHIFT] < 0:
        for i in range(n):
            old = load(memory, deviation + i)
            new = old * keep + load(memory, push + i) * gain
            store(memory, deviation + i, new)
            changed |= new != old
            bad |= new - new != 0
    else:
        for i in range(n):
            old = load(memory, deviation + i)
            new = old * keep + (load(memory, push + i) + load(memory, shift + i)) * gain
            store(memory, deviation + i, new)
            changed |= new != old
            bad |= new - new != 0
    return int(changed) | 2 * int(bad)


@jit
def blend_weighted(memory: Any, table: Any, at: int, row: int, push: int, shifted: int, n: int) -> int:
    """Do the same where the row has precisions: deviation = (1 - gamma Pi) deviation + gamma (Pi shift + push)."""
    gain, size, one = load(memory, table[at + GAIN] + row), table[at + SIZE], like(memory, 1)
    deviation, shift = table[at + DEVIATION] + shifted, table[at + SHIFT] + shifted
    precision = table[at + PRECISION] + row * size
    changed, bad = False, False
    for i in range(n):
        pi, old, more = load(memory, precision + i % size), load(memory, deviation + i), load(memory, push + i)
        if table[at + SHIFT] >= 0:
            more += pi * load(memory, shift + i)
        new = old * (one - gain * pi) + gain * more
        store(memory, deviation + i, new)
        changed |= new != old
        bad |= new - new != 0
    return int(changed) | 2 * int(bad)


LINES, HISTORY, ROWS = range(3)
"""Operands of a bank's history: its lines, where they lie; then for each line its row in the bank, its first slot,
its slots."""


@jit
def remember(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Keep deviations that some edge reads late; ``at`` holds the place of a bank, then those of its history."""
    bank, own = table[at], at + 1
    size, stride, lines = table[bank + SIZE], table[bank + STRIDE], table[own + LINES]
    begin, n = table[part + LOW] * size, (table[part + HIGH] - table[part + LOW]) * size
    for line in range(low, high):
        row, offset, length = (
            table[own + ROWS + line],
            table[own + ROWS + lines + line],
            table[own + ROWS + 2 * lines + line],
        )
        kept = table[own + HISTORY] + (offset + tick % length) * stride + begin
        copy_into(memory, table[bank + DEVIATION] + row * stride + begin, kept, n)


@jit
def recall(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Set the values that arrive late at this tick.

    ``at`` holds the place of a bank; where its history lies; where late values lie; number of the first of them; then
    for each its row in the bank, its line's first slot, its slots, its delay.
    """
    bank, history, values, vertex = table[at], table[at + 1], table[at + 2], table[part + DIRTY] + table[at + 3]
    size, stride = table[bank + SIZE], table[bank + STRIDE]
    begin, n = table[part + LOW] * size, (table[part + HIGH] - table[part + LOW]) * size
    for late in range(low, high):
        told = at + 4 + 4 * late
        then = (tick - table[told + 3]) % table[told + 2]
        then = history + (table[told + 1] + then) * stride + begin
        start, value = table[bank + START] + table[told] * stride + begin, values + late * stride + begin
        changed = False
        for i in range(n):
            new = load(memory, start + i) + load(memory, then + i)
            changed |= new != load(memory, value + i)
            store(memory, value + i, new)
        table[vertex + late] = changed


@jit
def recall_next(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Set the values that arrive late at the tick after this one."""
    recall(memory, table, at, low, high, part, mode, tick + 1)
