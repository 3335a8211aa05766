"""Errors that flow without messages: where an op works element by element, what it sends is a slope times its error.

In a block of ticks such products are not written down: who receives them takes slope and error from where they lie.
Where predictions are fixed the error is the very state that moves, so receivers come in the order of the graph, before
those that they hear from. Each product is rounded as the message would be, and sums keep their order: the bits are
those of messages.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.jit.common import ACTIVE, DIRTY, FAULT, HIGH, LOW, NORMS, NOTE, SCRATCH, WOKE, unbounded
from pcsim.engines.jit.compiled import add_reordered, inline, jit, load, store
from pcsim.engines.jit.native import address_of, like
from pcsim.engines.jit.norms import LEAST, MOST, SHORT, note_squares

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcsim.engines.jit.layout import Layout
    from pcsim.program.program import Program, Step

VERTEX, SIZE, DEVIATION, SHIFT, VALUE, START, KEEP, GAIN, FIRST, LAST, BRIEF = range(11)
"""Of a row: its vertex; elements per sample; where its units and factors lie (-1: none); which messages it receives;
how many these are where each is a slope times an error, at most two, and predictions are fixed (0: otherwise)."""

ROW = 11

SENT, PLAIN, NEGATED, SLOPED, WEIGHTED, BOTH = range(6)
"""Kinds of messages: written down; the error; the error with the other sign; slope times error; weight times error;
weight times slope times error. Where rows are short, what is no slope is told as slopes of 1 or -1: fewer kinds, less
to choose from for every row."""

KIND, ERROR, SLOPE, WEIGHT, SENDER, NOTES = range(6)
"""Of a message: its kind; where message or error, slope and weight lie; who sends it, and whether that is awake (0) or
has moved (1) tells that it has changed."""

MESSAGE = 6

ROWS, RECEIVED, MESSAGES, NOTING, OUTPUTS, CLAMPED = range(6)
"""Operands: number of rows, where they are listed, where the messages are; whether rows note the squares that they
move to; number of outputs, then the outputs."""


@jit
def flow(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Sum what is due to each row and move its value to the next tick."""
    dirty, begin = table[part + DIRTY], table[part + LOW]
    samples, active = table[part + HIGH] - begin, table[part + ACTIVE]
    noting, noted = mode & NOTE and table[at + NOTING], table[part + NORMS] + (tick + 1) * active
    least, most = like(memory, LEAST), like(memory, MOST)
    received, messages, woke = table[at + RECEIVED], table[at + MESSAGES], table[part + WOKE]
    for number in range(low, high):
        row = received + number * ROW
        place = noted + table[row + VERTEX]
        if not stirred(table, row, messages, dirty, woke):
            if noting:
                store(memory, place, load(memory, place - active))
            continue
        n = samples * table[row + SIZE]
        shifted = begin * table[row + SIZE]
        if n == 1:
            changed, total = move_one(memory, table, messages, row, shifted)
        elif table[row + BRIEF] == 1:
            changed, total = move_by_one(memory, table, messages, row, shifted, n)
        elif table[row + BRIEF] == 2:
            changed, total = move_by_two(memory, table, messages, row, shifted, n)
        else:
            changed, total = move_many(memory, table, messages, row, shifted, part, n)
        table[dirty + table[row + VERTEX]] = changed
        if not total < most and unbounded(memory, table[row + DEVIATION] + shifted, n):
            table[part + FAULT] = 1
        if noting:
            store(memory, place, total)
            if n > SHORT or not least < total < most:
                note_squares(memory, place, table[row + DEVIATION] + shifted, n)
    if high == table[at + ROWS]:
        for output in range(table[at + OUTPUTS]):
            vertex = table[at + CLAMPED + output]
            table[dirty + vertex] = 0
            if noting:
                store(memory, noted + vertex, load(memory, noted + vertex - active))


@inline
def stirred(table: Any, row: int, messages: int, dirty: int, woke: int) -> bool:
    """Return whether a row may move: it has moved, its prediction has, or something that it receives has changed."""
    vertex = table[row + VERTEX]
    if table[dirty + vertex] != 0 or (table[row + SHIFT] >= 0 and table[woke + vertex] != 0):
        return True
    for number in range(table[row + FIRST], table[row + LAST]):
        message = messages + number * MESSAGE
        notes = dirty if table[message + NOTES] else woke
        if table[notes + table[message + SENDER]] != 0:
            return True
    return False


@inline
def term(memory: Any, table: Any, message: int, i: int) -> Any:
    """Return one element of a message."""
    kind, error = table[message + KIND], load(memory, table[message + ERROR] + i)
    if kind <= PLAIN:
        return error
    if kind == NEGATED:
        return -error
    if kind == SLOPED:
        return load(memory, table[message + SLOPE] + i) * error
    if kind == WEIGHTED:
        return load(memory, table[message + WEIGHT]) * error
    return load(memory, table[message + WEIGHT]) * (load(memory, table[message + SLOPE] + i) * error)


@inline
def move_one(memory: Any, table: Any, messages: int, row: int, shifted: int) -> tuple[bool, Any]:
    """Move a row of one element; return what ``move_many`` does."""
    deviation = table[row + DEVIATION] + shifted
    old = load(memory, deviation)
    push = old - old
    for number in range(table[row + FIRST], table[row + LAST]):
        more = term(memory, table, messages + number * MESSAGE, shifted)
        push = more if number == table[row + FIRST] else push + more
    if table[row + SHIFT] >= 0:
        push = push + load(memory, table[row + SHIFT] + shifted)
    new = old * load(memory, table[row + KEEP]) + push * load(memory, table[row + GAIN])
    store(memory, deviation, new)
    if table[row + VALUE] >= 0:
        store(memory, table[row + VALUE] + shifted, load(memory, table[row + START] + shifted) + new)
    return new != old, new * new


@inline
def move_by_one(memory: Any, table: Any, messages: int, row: int, shifted: int, n: int) -> tuple[bool, Any]:
    """Move a row that receives one slope times error; return what ``move_many`` does."""
    deviation = table[row + DEVIATION] + shifted
    keep, gain = load(memory, table[row + KEEP]), load(memory, table[row + GAIN])
    message = messages + table[row + FIRST] * MESSAGE
    slope, error = table[message + SLOPE] + shifted, table[message + ERROR] + shifted
    changed, total = False, like(memory, 0)
    for i in range(n):
        old = load(memory, deviation + i)
        new = old * keep + load(memory, slope + i) * load(memory, error + i) * gain
        store(memory, deviation + i, new)
        changed |= new != old
        total = add_reordered(total, new * new)
    return changed, total


@inline
def move_by_two(memory: Any, table: Any, messages: int, row: int, shifted: int, n: int) -> tuple[bool, Any]:
    """Do the same for a row that receives two of them."""
    deviation = table[row + DEVIATION] + shifted
    keep, gain = load(memory, table[row + KEEP]), load(memory, table[row + GAIN])
    message = messages + table[row + FIRST] * MESSAGE
    sa, ea = table[message + SLOPE] + shifted, table[message + ERROR] + shifted
    message += MESSAGE
    sb, eb = table[message + SLOPE] + shifted, table[message + ERROR] + shifted
    changed, total = False, like(memory, 0)
    for i in range(n):
        old = load(memory, deviation + i)
        push = load(memory, sa + i) * load(memory, ea + i) + load(memory, sb + i) * load(memory, eb + i)
        new = old * keep + push * gain
        store(memory, deviation + i, new)
        changed |= new != old
        total = add_reordered(total, new * new)
    return changed, total


@jit
def move_many(memory: Any, table: Any, messages: int, row: int, shifted: int, part: int, n: int) -> tuple[bool, Any]:
    """Move a row of several elements; what it receives is summed in scratch.

    Returns whether that changed it, and the sum of squares of its elements.
    """
    push, first, last = table[part + SCRATCH], table[row + FIRST], table[row + LAST]
    if first == last:
        for i in range(n):
            store(memory, push + i, like(memory, 0))
    number = first
    while number < last:
        message = messages + number * MESSAGE
        pair = number > first and number + 2 <= last and table[message + KIND] == BOTH
        if pair and table[message + MESSAGE + KIND] == BOTH:
            add_two(memory, table, message, shifted, push, n)
            number += 2
            continue
        if table[message + KIND] == SENT and last - first == 1:
            push = table[message + ERROR] + shifted
        elif number == first:
            begin_sum(memory, table, message, shifted, push, n)
        else:
            add_to_sum(memory, table, message, shifted, push, n)
        number += 1
    deviation, shift = table[row + DEVIATION] + shifted, table[row + SHIFT] + shifted
    keep, gain = load(memory, table[row + KEEP]), load(memory, table[row + GAIN])
    changed, total = False, like(memory, 0)
    if table[row + SHIFT] < 0:
        for i in range(n):
            old = load(memory, deviation + i)
            new = old * keep + load(memory, push + i) * gain
            store(memory, deviation + i, new)
            changed |= new != old
            total = add_reordered(total, new * new)
    else:
        value, start = table[row + VALUE] + shifted, table[row + START] + shifted
        for i in range(n):
            old = load(memory, deviation + i)
            new = old * keep + (load(memory, push + i) + load(memory, shift + i)) * gain
            store(memory, deviation + i, new)
            store(memory, value + i, load(memory, start + i) + new)
            changed |= new != old
            total = add_reordered(total, new * new)
    return changed, total


@inline
def begin_sum(memory: Any, table: Any, message: int, shifted: int, push: int, n: int) -> None:
    """Set push = message."""
    kind, error, slope = table[message + KIND], table[message + ERROR] + shifted, table[message + SLOPE] + shifted
    if kind == SLOPED:
        for i in range(n):
            store(memory, push + i, load(memory, slope + i) * load(memory, error + i))
    elif kind == BOTH:
        weight = load(memory, table[message + WEIGHT])
        for i in range(n):
            store(memory, push + i, weight * (load(memory, slope + i) * load(memory, error + i)))
    else:
        weight = factor(memory, table, message)
        for i in range(n):
            store(memory, push + i, weight * load(memory, error + i))


@inline
def add_to_sum(memory: Any, table: Any, message: int, shifted: int, push: int, n: int) -> None:
    """Set push += message."""
    kind, error, slope = table[message + KIND], table[message + ERROR] + shifted, table[message + SLOPE] + shifted
    if kind == SLOPED:
        for i in range(n):
            store(memory, push + i, load(memory, push + i) + load(memory, slope + i) * load(memory, error + i))
    elif kind == BOTH:
        weight = load(memory, table[message + WEIGHT])
        for i in range(n):
            more = weight * (load(memory, slope + i) * load(memory, error + i))
            store(memory, push + i, load(memory, push + i) + more)
    else:
        weight = factor(memory, table, message)
        for i in range(n):
            store(memory, push + i, load(memory, push + i) + weight * load(memory, error + i))


@inline
def add_two(memory: Any, table: Any, message: int, shifted: int, push: int, n: int) -> None:
    """Set push += two messages that are weights times slopes times errors, one after the other."""
    other = message + MESSAGE
    ea, eb = table[message + ERROR] + shifted, table[other + ERROR] + shifted
    sa, sb = table[message + SLOPE] + shifted, table[other + SLOPE] + shifted
    wa, wb = load(memory, table[message + WEIGHT]), load(memory, table[other + WEIGHT])
    for i in range(n):
        total = load(memory, push + i) + wa * (load(memory, sa + i) * load(memory, ea + i))
        store(memory, push + i, total + wb * (load(memory, sb + i) * load(memory, eb + i)))


@inline
def factor(memory: Any, table: Any, message: int) -> Any:
    """Return the number that an error without a slope is multiplied with."""
    if table[message + KIND] == WEIGHTED:
        return load(memory, table[message + WEIGHT])
    return like(memory, -1 if table[message + KIND] == NEGATED else 1)


def flows(program: Program) -> bool:
    """Return whether a program is simple enough: no precision, no late message, no population."""
    plain = all(bank.precision is None for bank in program.groups.values())
    prompt = not any(len(post.late) for post in program.inboxes.values())
    return plain and prompt and not any(step.op.name == "projection" for step in program.steps)


def unwritten(layout: Layout, step: Step) -> bool:
    """Return whether what a step sends need not be written down: element by element, by slopes that stay."""
    call = step.call
    if id(step) in layout.array_steps:
        return False
    if any(slot.is_parameter or slot.shape != step.shape for slot in step.slots):
        return False
    if step.op.name == "multiply":
        return len(step.slots) == 2 and not layout.session.rule.moving
    return step.op.name in ("add", "subtract", "weighted_sum") or (
        len(call.shapes) == 1 and step.op.name in layout.sloping
    )


def lay_out(layout: Layout) -> int:
    """Return operands of ``flow`` for all free rows of a program, in the order of the graph."""
    program, table = layout.session.program, layout.table
    told = {(shape, number): line for shape in program.inboxes for number, line in _told(layout, shape)}
    rows: list[list[int]] = []
    messages: list[list[int]] = []
    for shape, row in _in_order(layout):
        first = len(messages)
        post = program.inboxes.get(shape)
        if post is not None:
            for number in post.order[post.starts[row] : post.starts[row + 1]].tolist():
                one = layout.summed.get(shape, {}).get(number)
                if one is None:
                    messages.append(_sloped(layout, shape, told[shape, number]))
                elif number == one.messages[0]:
                    messages.append(_sloped(layout, shape, [SENT, one.place, 0, 0, one.number, 0]))
        rows.append(_row(layout, shape, row, messages, first))
    outputs = [
        layout.first[shape] + row for shape, bank in program.groups.items() for row in range(bank.free, bank.active)
    ]
    listed = [table.add(np.array(lines, np.int64).ravel()) for lines in (rows, messages)]
    return table.add([len(rows), *listed, int(not layout.session.rule.moving), len(outputs), *outputs])


def _in_order(layout: Layout) -> Iterator[tuple[Any, int]]:
    """Return bank and row of the free vertices, each before those that it sends values to."""
    graph, place = layout.session.program.graph, layout.session.program.location
    return (place[name] for name in graph.active if graph.role(name) == "free")


def _sloped(layout: Layout, shape: Any, message: list[int]) -> list[int]:
    """Return what is told of a message, as slopes of 1 or -1 if it has none, where a row is short."""
    kind, *others = message
    if kind > NEGATED or layout.batch * prod(shape) > SHORT or layout.session.rule.moving:
        return message
    others[SLOPE - 1] = layout.many(-1 if kind == NEGATED else 1, SHORT)
    return [SLOPED, *others]


def _row(layout: Layout, shape: Any, row: int, messages: list[list[int]], first: int) -> list[int]:
    """Return what is told of a row that receives the messages from ``first`` on."""
    units, stride = layout.session.units[shape], layout.batch * prod(shape)
    moving, count = layout.session.rule.moving, len(messages) - first
    brief = not moving and count <= 2 and all(line[KIND] == SLOPED for line in messages[first:])
    keep, gain = layout.factors[shape]
    return [
        layout.first[shape] + row,
        prod(shape),
        address_of(units.deviation) + row * stride,
        address_of(units.shift) + row * stride if moving else -1,
        address_of(units.value) + row * stride if moving else -1,
        address_of(units.start) + row * stride,
        address_of(keep) + row,
        address_of(gain) + row,
        first,
        len(messages),
        count if brief else 0,
    ]


def _told(layout: Layout, shape: Any) -> Iterator[tuple[int, list[int]]]:
    """Return each message to a bank and how it is told."""
    stride = layout.batch * prod(shape)
    for step in layout.session.program.steps:
        plain = unwritten(layout, step)
        for number, slot in enumerate(step.slots):
            if slot.messages is None or slot.shape != shape:
                continue
            for row, message in enumerate(range(slot.messages.start, slot.messages.stop)):
                sender = layout.first[step.shape] + step.rows.start + row
                where = address_of(layout.sent[shape]) + message * stride
                yield (
                    message,
                    _unwritten(layout, step, row, number, sender) if plain else [SENT, where, 0, 0, sender, 0],
                )


def _unwritten(layout: Layout, step: Step, row: int, number: int, sender: int) -> list[int]:
    """Return kind, error, slope and weight of what a row sends over one of its inputs."""
    units, moving = layout.session.units[step.shape], layout.session.rule.moving
    stride = layout.batch * prod(step.shape)
    error = address_of(units.error) + (step.rows.start + row) * stride
    slope = address_of(layout.saved[id(step)]) + row * stride
    notes = int(not moving)
    if step.op.name == "multiply":
        other = step.slots[1 - number]
        place = int(np.broadcast_to(_indices(other.rows), len(step.names))[row])
        return [SLOPED, error, address_of(layout.session.units[other.shape].start) + place * stride, 0, sender, notes]
    if step.op.name == "weighted_sum":
        sloped = layout.saved[id(step)].size > 1 and layout.activated(step)
        return [BOTH if sloped else WEIGHTED, error, slope, layout.weight_of(step, row) + number, sender, notes]
    if step.op.name in ("add", "subtract", "identity"):
        return [NEGATED if step.op.name == "subtract" and number == 1 else PLAIN, error, 0, 0, sender, notes]
    return [SLOPED, error, slope, 0, sender, notes]


def _indices(rows: Any) -> np.ndarray:
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
