"""Errors that flow without messages: where an op works element by element, what it sends is a slope times its error.

In a block of ticks such products are not written down: who receives them takes slope and error from where they lie.
Where predictions are fixed the error is the very state that moves, so receivers come in the order of the graph, before
those that they receive from. Each product is rounded as the message would be, and sums keep their order: the bits are
those of messages.
"""

from __future__ import annotations

from typing import Any

from pcsim.engines.jit.kernels.common import NOTE, clear, part_at, unbounded
from pcsim.engines.jit.kernels.compiled import add_reordered, inline, jit, load, store
from pcsim.engines.jit.kernels.native import like
from pcsim.engines.jit.kernels.records import Record, address, location, number, whole
from pcsim.engines.jit.kernels.squares import LEAST, MOST, SHORT, note_again, note_blocks, note_squares

FLOW = Record(
    "flow",
    count=whole("free vertices"),
    receivers=location("these, in the order in which they move"),
    terms=location("what they receive"),
    notes=whole("whether they note the squares that they move to"),
    output_count=whole("outputs"),
    outputs=location("their numbers"),
)

RECEIVER = Record(
    "receiver",
    vertex=number("of the vertex"),
    size=whole("elements per sample"),
    deviation=address("its deviation"),
    shift=address("how far its prediction has moved; nowhere where it is fixed"),
    value=address("its value; nowhere where predictions are fixed"),
    start=address("its feedforward value"),
    keep=address("1 - gamma"),
    gain=address("gamma"),
    first=whole("first term that it receives"),
    last=whole("last term + 1"),
    brief=whole("how many terms where each is a slope times an error, at most two, and predictions are fixed; else 0"),
)

SENT, PLAIN, NEGATED, SLOPED, WEIGHTED, BOTH = range(6)
"""Kinds of terms: a message; the error; the error with the other sign; slope times error; weight times error; weight
times slope times error. Where rows are short, what has no slope is given slopes of 1 or -1: fewer kinds, less to choose
from for every row."""

TERM = Record(
    "term",
    kind=whole("what it is the product of"),
    error=address("error, or message"),
    slope=address("slope"),
    weight=address("weight"),
    sender=number("of the vertex that sends it"),
    by_move=whole("whether it changes when the sender has moved, not when its error may have changed"),
)

flow_at, receiver_at, term_at = FLOW.one(), RECEIVER.each(), TERM.each()


@jit
def flow(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Sum what is due to each receiver and move its value to the next tick."""
    own, mine = flow_at(table, at), part_at(table, part)
    moved, begin, active, receivers, terms = mine.moved, mine.low, mine.active, own.receivers, own.terms
    samples = mine.high - begin
    noting, noted = mode & NOTE and own.notes and mine.single, mine.squares + (tick + 1) * active
    least, most = like(memory, LEAST), like(memory, MOST)
    for k in range(low, high):
        row = receiver_at(table, receivers, k)
        vertex = row.vertex
        out = noted + vertex
        if not may_move(table, row, terms, mine):
            if noting:
                store(memory, out, load(memory, out - active))
            continue
        n, offset = samples * row.size, begin * row.size
        if n == 1:
            changed, total = move_one(memory, table, terms, row, offset)
        elif row.brief == 1:
            changed, total = move_by_one(memory, table, terms, row, offset, n)
        elif row.brief == 2:
            changed, total = move_by_two(memory, table, terms, row, offset, n)
        else:
            changed, total = move_many(memory, table, terms, row, offset, mine.scratch, n)
        table[moved + vertex] = changed
        if not total < most and unbounded(memory, row.deviation + offset, n):
            mine.fault = 1
        if noting:
            store(memory, out, total)
            if n > SHORT or not least < total < most:
                note_squares(memory, out, row.deviation + offset, n)
    if high == own.count:
        for k in range(own.output_count):
            vertex = table[own.outputs + k]
            table[moved + vertex] = 0
            if noting:
                store(memory, noted + vertex, load(memory, noted + vertex - active))
    if mode & NOTE and own.notes and not mine.single:
        note_moved(memory, table, at, low, high, part, tick + 1)


@jit
def collect(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Set the error of each receiver to the sum of what is due to it: it moves there from zero, at step size 1."""
    own, mine = flow_at(table, at), part_at(table, part)
    for k in range(low, high):
        row = receiver_at(table, own.receivers, k)
        n, offset = (mine.high - mine.low) * row.size, mine.low * row.size
        error = row.deviation + offset
        if row.first == row.last:
            clear(memory, error, n, like(memory, 0))
        for k_term in range(row.first, row.last):
            term = term_at(table, own.terms, k_term)
            if k_term == row.first:
                begin_sum(memory, term, offset, error, n)
            else:
                add_to_sum(memory, term, offset, error, n)
        mine.fault |= settle(memory, error, n)


@jit
def settle(memory: Any, error: int, n: int) -> int:
    """Let n numbers have no negative zero among them, as those that have moved; return 1 where one is not finite."""
    bad = False
    for i in range(n):
        here = load(memory, error + i) + like(memory, 0)
        store(memory, error + i, here)
        bad |= here - here != 0
    return int(bad)


@jit
def note_moved(memory: Any, table: Any, at: int, low: int, high: int, part: int, tick: int) -> None:
    """Note the squares of receivers that have moved to a tick, block by block; of others, what they were before."""
    own, mine = flow_at(table, at), part_at(table, part)
    before, count = mine.active * mine.sums, mine.last_block - mine.blocks - 1
    noted = mine.squares + tick * before
    for k in range(low, high):
        row = receiver_at(table, own.receivers, k)
        out = noted + row.vertex * mine.sums
        if table[mine.moved + row.vertex]:
            note_blocks(memory, table, part, out, row.deviation, row.size)
        else:
            note_again(memory, out, before, count)
    if high == own.count:
        for k in range(own.output_count):
            note_again(memory, noted + table[own.outputs + k] * mine.sums, before, count)


@inline
def may_move(table: Any, row: Any, terms: int, mine: Any) -> bool:
    """Return whether a vertex has moved, its prediction has, or something that it receives has changed."""
    if table[mine.moved + row.vertex] != 0 or (row.shift >= 0 and table[mine.changed + row.vertex] != 0):
        return True
    for k in range(row.first, row.last):
        term = term_at(table, terms, k)
        flags = mine.moved if term.by_move else mine.changed
        if table[flags + term.sender] != 0:
            return True
    return False


@inline
def element_of(memory: Any, term: Any, i: int) -> Any:
    """Return one element of a term."""
    kind, error = term.kind, load(memory, term.error + i)
    if kind <= PLAIN:
        return error
    if kind == NEGATED:
        return -error
    if kind == SLOPED:
        return load(memory, term.slope + i) * error
    if kind == WEIGHTED:
        return load(memory, term.weight) * error
    return load(memory, term.weight) * (load(memory, term.slope + i) * error)


@inline
def move_one(memory: Any, table: Any, terms: int, row: Any, offset: int) -> tuple[bool, Any]:
    """Move a vertex of one element; return what ``move_many`` does."""
    deviation = row.deviation + offset
    old = load(memory, deviation)
    push = old - old
    for k in range(row.first, row.last):
        more = element_of(memory, term_at(table, terms, k), offset)
        push = more if k == row.first else push + more
    if row.shift >= 0:
        push = push + load(memory, row.shift + offset)
    new = old * load(memory, row.keep) + push * load(memory, row.gain)
    store(memory, deviation, new)
    if row.value >= 0:
        store(memory, row.value + offset, load(memory, row.start + offset) + new)
    return new != old, new * new


@inline
def move_by_one(memory: Any, table: Any, terms: int, row: Any, offset: int, n: int) -> tuple[bool, Any]:
    """Move a vertex that receives one slope times error; return what ``move_many`` does."""
    deviation, term = row.deviation + offset, term_at(table, terms, row.first)
    keep, gain = load(memory, row.keep), load(memory, row.gain)
    slope, error = term.slope + offset, term.error + offset
    changed, total = False, like(memory, 0)
    for i in range(n):
        old = load(memory, deviation + i)
        new = old * keep + load(memory, slope + i) * load(memory, error + i) * gain
        store(memory, deviation + i, new)
        changed |= new != old
        total = add_reordered(total, new * new)
    return changed, total


@inline
def move_by_two(memory: Any, table: Any, terms: int, row: Any, offset: int, n: int) -> tuple[bool, Any]:
    """Do the same for a vertex that receives two of them."""
    deviation = row.deviation + offset
    a, b = term_at(table, terms, row.first), term_at(table, terms, row.first + 1)
    keep, gain = load(memory, row.keep), load(memory, row.gain)
    sa, ea = a.slope + offset, a.error + offset
    sb, eb = b.slope + offset, b.error + offset
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
def move_many(memory: Any, table: Any, terms: int, row: Any, offset: int, scratch: int, n: int) -> tuple[bool, Any]:
    """Move a vertex of several elements; what it receives is summed in scratch.

    Returns whether that changed it, and the sum of squares of its elements.
    """
    push, first, last = scratch, row.first, row.last
    if first == last:
        for i in range(n):
            store(memory, push + i, like(memory, 0))
    k = first
    while k < last:
        term = term_at(table, terms, k)
        pair = k > first and k + 2 <= last and term.kind == BOTH
        if pair and term_at(table, terms, k + 1).kind == BOTH:
            add_two(memory, term, term_at(table, terms, k + 1), offset, push, n)
            k += 2
            continue
        if term.kind == SENT and last - first == 1:
            push = term.error + offset
        elif k == first:
            begin_sum(memory, term, offset, push, n)
        else:
            add_to_sum(memory, term, offset, push, n)
        k += 1
    deviation, shift = row.deviation + offset, row.shift + offset
    keep, gain = load(memory, row.keep), load(memory, row.gain)
    changed, total = False, like(memory, 0)
    if row.shift < 0:
        for i in range(n):
            old = load(memory, deviation + i)
            new = old * keep + load(memory, push + i) * gain
            store(memory, deviation + i, new)
            changed |= new != old
            total = add_reordered(total, new * new)
    else:
        value, start = row.value + offset, row.start + offset
        for i in range(n):
            old = load(memory, deviation + i)
            new = old * keep + (load(memory, push + i) + load(memory, shift + i)) * gain
            store(memory, deviation + i, new)
            store(memory, value + i, load(memory, start + i) + new)
            changed |= new != old
            total = add_reordered(total, new * new)
    return changed, total


@inline
def begin_sum(memory: Any, term: Any, offset: int, push: int, n: int) -> None:
    """Set push = term."""
    kind, error, slope = term.kind, term.error + offset, term.slope + offset
    if kind == SLOPED:
        for i in range(n):
            store(memory, push + i, load(memory, slope + i) * load(memory, error + i))
    elif kind == BOTH:
        weight = load(memory, term.weight)
        for i in range(n):
            store(memory, push + i, weight * (load(memory, slope + i) * load(memory, error + i)))
    else:
        weight = factor(memory, term)
        for i in range(n):
            store(memory, push + i, weight * load(memory, error + i))


@inline
def add_to_sum(memory: Any, term: Any, offset: int, push: int, n: int) -> None:
    """Set push += term."""
    kind, error, slope = term.kind, term.error + offset, term.slope + offset
    if kind == SLOPED:
        for i in range(n):
            store(memory, push + i, load(memory, push + i) + load(memory, slope + i) * load(memory, error + i))
    elif kind == BOTH:
        weight = load(memory, term.weight)
        for i in range(n):
            more = weight * (load(memory, slope + i) * load(memory, error + i))
            store(memory, push + i, load(memory, push + i) + more)
    else:
        weight = factor(memory, term)
        for i in range(n):
            store(memory, push + i, load(memory, push + i) + weight * load(memory, error + i))


@inline
def add_two(memory: Any, a: Any, b: Any, offset: int, push: int, n: int) -> None:
    """Set push += two terms that are weights times slopes times errors, one after the other."""
    ea, eb = a.error + offset, b.error + offset
    sa, sb = a.slope + offset, b.slope + offset
    wa, wb = load(memory, a.weight), load(memory, b.weight)
    for i in range(n):
        total = load(memory, push + i) + wa * (load(memory, sa + i) * load(memory, ea + i))
        store(memory, push + i, total + wb * (load(memory, sb + i) * load(memory, eb + i)))


@inline
def factor(memory: Any, term: Any) -> Any:
    """Return the number that an error without a slope is multiplied with."""
    if term.kind == WEIGHTED:
        return load(memory, term.weight)
    return like(memory, -1 if term.kind == NEGATED else 1)
