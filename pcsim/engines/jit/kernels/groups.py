"""Kernels of shape groups: what happens between sending and the next prediction, delay lines, norms of errors."""

from __future__ import annotations

from typing import Any

from pcsim.engines.jit.kernels.common import COMPARE, clear, copy_into, part_at
from pcsim.engines.jit.kernels.compiled import jit, load, store
from pcsim.engines.jit.kernels.native import like
from pcsim.engines.jit.kernels.records import Record, address, location, number, whole
from pcsim.engines.jit.kernels.squares import note_again, note_blocks, note_differences

GROUP = Record(
    "shape group",
    size=whole("elements of a vertex, per sample"),
    stride=whole("elements of a vertex, all samples"),
    free=whole("free vertices, which come first"),
    start=address("feedforward values"),
    value=address("values; nowhere where predictions are fixed"),
    deviation=address("deviations"),
    shift=address("how far predictions have moved; nowhere where they are fixed"),
    error=address("errors"),
    received=address("sums of what is due"),
    precision=address("precisions, (vertices, size); nowhere where all are 1"),
    keep=address("1 - gamma of each free vertex"),
    gain=address("gamma of each free vertex"),
    first=number("of the first vertex"),
    bounds=location("at which message each free vertex begins, and the end"),
    messages=location("messages by receiver, in the order of their sum"),
    reference=address("what errors are compared with; nowhere if they are not"),
    apart=whole("whether messages are sent to rows of their own, though nothing need be summed"),
)

MESSAGE = Record(
    "message",
    sent=address("where it is sent to"),
    sender=number("of the vertex that sends it"),
    delay=whole("ticks that it travels"),
    line=address("its delay line"),
    late=whole("its number among the late messages"),
)

HISTORY = Record(
    "history",
    group=location("the shape group"),
    lines=location("delay lines, one for each vertex whose value is read late"),
    memory=address("where all of them lie"),
)

LINE = Record(
    "line of a history",
    row=whole("vertex of the group"),
    first=whole("first slot"),
    slots=whole("how many slots"),
)

RECALL = Record(
    "late values",
    group=location("the shape group"),
    history=address("where its delay lines lie"),
    values=address("where the values go"),
    number=number("of the first, as if it were a vertex"),
    edges=location("what is read, one after the other"),
)

LATE = Record(
    "late value",
    row=whole("vertex of the group"),
    first=whole("first slot of its line"),
    slots=whole("how many slots"),
    delay=whole("ticks that it travels"),
)

group_at, message_at, history_at, line_at = GROUP.one(), MESSAGE.each(), HISTORY.one(), LINE.each()
recall_at, late_at = RECALL.one(), LATE.each()


@jit
def move(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Sum what is due to each free vertex of a group, and move its values to the next tick."""
    group, mine = group_at(table, at), part_at(table, part)
    begin, n = mine.low * group.size, (mine.high - mine.low) * group.size
    moved, changed = mine.moved + group.first, mine.changed + group.first
    for row in range(low, high):
        if row >= group.free:
            table[moved + row] = 0
            continue
        first, last = table[group.bounds + row], table[group.bounds + row + 1]
        still = table[moved + row] == 0 and (group.shift < 0 or table[changed + row] == 0)
        if unchanged(table, group, first, last, mine, tick) and still:
            continue
        push = due(memory, table, group, row, first, last, tick, begin, n)
        offset = row * group.stride + begin
        outcome = blend(memory, group, row, push, offset, n)
        table[moved + row] = outcome & 1
        if outcome & 2:
            mine.fault = 1
        if group.value >= 0:
            add_up(memory, group.start + offset, group.deviation + offset, group.value + offset, n)


@jit
def stay(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Blend free vertices of a group with what they have received, when that has been delivered."""
    group, mine = group_at(table, at), part_at(table, part)
    begin, n = mine.low * group.size, (mine.high - mine.low) * group.size
    for row in range(low, min(high, group.free)):
        offset = row * group.stride + begin
        blend(memory, group, row, group.received + offset, offset, n)


@jit
def materialise(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Set values to feedforward values plus deviations."""
    group, mine = group_at(table, at), part_at(table, part)
    begin, n = mine.low * group.size, (mine.high - mine.low) * group.size
    for row in range(low, high):
        offset = row * group.stride + begin
        add_up(memory, group.start + offset, group.deviation + offset, group.value + offset, n)


@jit
def add_up(memory: Any, a: int, b: int, out: int, n: int) -> None:
    """Set out = a + b."""
    for i in range(n):
        store(memory, out + i, load(memory, a + i) + load(memory, b + i))


@jit
def unchanged(table: Any, group: Any, first: int, last: int, mine: Any, tick: int) -> Any:
    """Return whether every message due is what it was a tick ago; a delay line is unchanged when all of it is."""
    still = True
    for n in range(first, last):
        message = message_at(table, group.messages, n)
        changed = table[mine.changed + message.sender] != 0
        if message.delay == 0:
            still &= not changed
        else:
            late = mine.late + message.late
            if changed:
                table[late] = tick
            still &= tick - table[late] > 2 * message.delay
    return still


@jit
def due(memory: Any, table: Any, group: Any, row: int, first: int, last: int, tick: int, begin: int, n: int) -> Any:
    """Return where the sum of what is due to a vertex lies; a late message takes the place of the one that arrives."""
    received = group.received + row * group.stride + begin
    if last - first == 1 and message_at(table, group.messages, first).delay == 0:
        return message_at(table, group.messages, first).sent + begin
    if first == last:
        clear(memory, received, n, like(memory, 0))
    for k in range(first, last):
        message = message_at(table, group.messages, k)
        sent = message.sent + begin
        arrives = sent
        if message.delay > 0:
            arrives = message.line + tick % message.delay * group.stride + begin
        if k == first:
            copy_into(memory, arrives, received, n)
        else:
            add_up(memory, received, arrives, received, n)
        if arrives != sent:
            copy_into(memory, sent, arrives, n)
    return received


@jit
def deliver(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Deliver messages so that they can be read: late ones change places with those due, then vertices sum theirs."""
    group, mine = group_at(table, at), part_at(table, part)
    begin, n = mine.low * group.size, (mine.high - mine.low) * group.size
    for row in range(low, min(high, group.free)):
        received = group.received + row * group.stride + begin
        first, last = table[group.bounds + row], table[group.bounds + row + 1]
        if group.apart or first == last:
            due(memory, table, group, row, first, last, tick, begin, n)
            if first < last and message_at(table, group.messages, first).delay == 0:
                copy_into(memory, message_at(table, group.messages, first).sent + begin, received, n)
            continue
        for k in range(first, last):
            message = message_at(table, group.messages, k)
            sent = message.sent + begin
            if message.delay > 0:
                exchange(memory, sent, message.line + tick % message.delay * group.stride + begin, n)
            if sent != received:
                if k == first:
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
def blend(memory: Any, group: Any, row: int, push: int, offset: int, n: int) -> int:
    """Set deviation = keep deviation + gain (shift + push); return 1 if that changed it, plus 2 if it is not finite.

    With keep 0 and gain 1 the deviation becomes shift + push, bit for bit.
    """
    keep, gain = load(memory, group.keep + row), load(memory, group.gain + row)
    deviation, shift = group.deviation + offset, group.shift + offset
    if group.precision >= 0:
        return blend_weighted(memory, group, row, push, offset, n)
    changed, bad = False, False
    if group.shift < 0:
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
def blend_weighted(memory: Any, group: Any, row: int, push: int, offset: int, n: int) -> int:
    """Do the same where there are precisions: deviation = (1 - gamma Pi) deviation + gamma (Pi shift + push)."""
    gain, size, one = load(memory, group.gain + row), group.size, like(memory, 1)
    deviation, shift, precision = group.deviation + offset, group.shift + offset, group.precision + row * size
    moving = group.shift >= 0
    changed, bad = False, False
    for i in range(n):
        pi, old, more = load(memory, precision + i % size), load(memory, deviation + i), load(memory, push + i)
        if moving:
            more += pi * load(memory, shift + i)
        new = old * (one - gain * pi) + gain * more
        store(memory, deviation + i, new)
        changed |= new != old
        bad |= new - new != 0
    return int(changed) | 2 * int(bad)


# -- values that arrive late --------------------------------------------------------------------------------


@jit
def remember(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Keep deviations that some edge reads late; ``low`` to ``high`` count lines of a history."""
    own, mine = history_at(table, at), part_at(table, part)
    group = group_at(table, own.group)
    begin, n = mine.low * group.size, (mine.high - mine.low) * group.size
    for k in range(low, high):
        line = line_at(table, own.lines, k)
        kept = own.memory + (line.first + tick % line.slots) * group.stride + begin
        copy_into(memory, group.deviation + line.row * group.stride + begin, kept, n)


@jit
def recall(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Set the values that arrive late at this tick; they are noted to have moved as vertices are."""
    own, mine = recall_at(table, at), part_at(table, part)
    group, stride = group_at(table, own.group), group_at(table, own.group).stride
    begin, n = mine.low * group.size, (mine.high - mine.low) * group.size
    for k in range(low, high):
        late = late_at(table, own.edges, k)
        then = own.history + (late.first + (tick - late.delay) % late.slots) * stride + begin
        start, value = group.start + late.row * stride + begin, own.values + k * stride + begin
        changed = False
        for i in range(n):
            new = load(memory, start + i) + load(memory, then + i)
            changed |= new != load(memory, value + i)
            store(memory, value + i, new)
        table[mine.moved + own.number + k] = changed


@jit
def recall_next(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Set the values that arrive late at the tick after this one."""
    recall(memory, table, at, low, high, part, mode, tick + 1)


# -- norms --------------------------------------------------------------------------------------------------


@jit
def measure(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Note the squares of each active vertex's error, and of how far it is from what it is compared with.

    Where nothing has changed, they are those of the tick before.
    """
    group, mine = group_at(table, at), part_at(table, part)
    here = tick * mine.active + group.first
    changed, moved = mine.changed + group.first, mine.moved + group.first
    before, count = mine.active * mine.sums, mine.last_block - mine.blocks - 1
    for row in range(low, high):
        place, error = (here + row) * mine.sums, group.error + row * group.stride
        squares, apart = mine.squares + place, mine.apart + place
        still = tick > mine.since and table[changed + row] == 0 and table[moved + row] == 0
        if still:
            note_again(memory, squares, before, count)
        else:
            note_blocks(memory, table, part, squares, error, group.size)
        if mode & COMPARE and still and tick > max(mine.since, 0):
            note_again(memory, apart, before, count)
        elif mode & COMPARE:
            note_differences(memory, table, part, apart, error, group.reference + row * group.stride, group.size)


@jit
def measure_first(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Do the same at the first tick that is noted; what moves then notes its own sums for the tick after."""
    if tick == max(part_at(table, part).since, 0):
        measure(memory, table, at, low, high, part, mode, tick)
