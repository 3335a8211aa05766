"""The sparse projection f(W x + b): blocks of neurons shared out among threads, errors remembered instead of messages.

A tick takes two phases. In the first, neurons after predict, and what they have to send back, g = f' Pi eps, goes
to a ring of past ticks. In the second, neurons before sum what is due to them, W^T g as g was a delay ago: no message
is in flight. Each delay is summed on its own, then all in the order of their edges, as messages are; where they come
first of what a vertex receives, one sum takes the place of all. Where g was zero nothing is added.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pcsim.engines.jit import sparse
from pcsim.engines.jit.common import (
    ATTRIBUTE,
    COUNT,
    DIRTY,
    ERROR,
    GAIN,
    HIGH,
    INPUTS,
    LOW,
    OWN,
    PRECISION,
    PREDICT,
    RINGS,
    SAVED,
    SAVED_STRIDE,
    SCRATCH,
    SEND,
    SIZE,
    SLOTS,
    STRIDE,
    SWEEP,
    TARGETS,
    WOKE,
    copy_into,
    differ,
    follow,
    lose,
    wake,
)  # fmt: skip
from pcsim.engines.jit.compiled import IR, TYPES, intrinsic, jit, load, store
from pcsim.engines.jit.functions import apply
from pcsim.engines.jit.native import like, onwards
from pcsim.engines.jit.sparse import SENDERS, add_tile, flush, restore

BLOCKS, BOUNDS, STARTS, CODES, ORDER, SEGMENTS, RECEIVERS, WAY = range(8)
"""Of a direction: its blocks; where their bounds and the starts of their tiles are listed; where its codes and the
order of its synapses lie; segments of senders; receivers."""

FORTH, BACK = 0, WAY
KINDS, ACTIVATION, FLUSHED, BATCH, LENGTH, RING, NOTES = range(2 * WAY, 2 * WAY + 7)
"""Own operands: both directions; distinct delays; activation (0: none); whether tiny numbers are taken for zero;
samples of the batch; ticks in the ring of errors (0: nothing is sent back), where it lies, and the number of its first
note."""

COLUMNS = 2 * WAY + 7
"""Then for each vertex: where its weights lie, as a parameter, forth and back, its bias (-1: none), its longest error
delay, where its groups are listed, where weights and bias learn; then for each delay and vertex: the delay of its
errors, that of its values (0: they lie where the slot says), where past values lie, and how many."""

PARAMETER, WEIGHTS, WEIGHTS_BACK, BIAS, LONGEST, GROUPS, LESSON, BIAS_LESSON, VERTEX_COLUMNS = range(9)
ERROR_DELAY, VALUE_DELAY, VALUES, VALUES_LENGTH, KIND_COLUMNS = range(5)

TARGET, NUMBER, MEMBERS = range(3)
"""Of a group of delays that are summed together: where the sum goes, the number by which it is noted that it has
changed, how many delays; then these. Before the first group stands how many there are."""


@intrinsic
def codes_at(typing: Any, place: Any) -> Any:
    """Return the pointer to codes, from where they lie in elements."""
    kind = TYPES.CPointer(TYPES.uint32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.mul(arguments[0], IR.Constant(IR.IntType(64), 4))
        return builder.inttoptr(place, context.get_value_type(kind))

    return kind(TYPES.int64), generate


@jit
def of_vertex(table: Any, at: int, column: int, row: int) -> int:
    """Return what is listed for a vertex."""
    found: int = table[table[at + OWN] + COLUMNS + column * table[at + COUNT] + row]
    return found


@jit
def of_kind(table: Any, at: int, kind: int, column: int, row: int) -> int:
    """Return what is listed for a delay and a vertex."""
    found: int = of_vertex(table, at, VERTEX_COLUMNS + kind * KIND_COLUMNS + column, row)
    return found


@jit
def add_block(
    memory: Any, table: Any, own: int, way: int, weights: int, kind: int, block: int, source: int, apart: int,
    target: int,
    far: int, samples: int,
) -> None:  # fmt: skip
    """Add the products of one delay to the sums of one block, the first of which lies at ``target``."""
    side = own + way
    codes = codes_at(table[side + CODES])
    segments, own_weights = table[side + SEGMENTS], onwards(memory, weights)
    for segment in range(segments):
        tile = table[side + STARTS] + (block * table[own + KINDS] + kind) * segments + segment
        for sample in range(samples):
            sender = source + sample * apart + segment * SENDERS
            add_tile(codes, own_weights, table[tile], table[tile + 1], memory, sender, memory, target + sample * far)


@jit
def clear(memory: Any, place: int, n: int) -> None:
    """Set n elements to zero."""
    for i in range(n):
        store(memory, place + i, like(memory, 0))


@jit
def project(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Predict, and keep what there is to send back; ``low`` to ``high`` count the forward blocks of all vertices."""
    own = table[at + OWN]
    blocks = table[own + FORTH + BLOCKS]
    for row in range(low // blocks, (high + blocks - 1) // blocks):
        first, last = max(low - row * blocks, 0), min(high - row * blocks, blocks)
        state = 2 if mode & SWEEP else wake(table, at, row, part, mode)
        control = flush(memory) if table[own + FLUSHED] else 0
        if mode & (SWEEP | PREDICT) and state == 2:
            sum_inputs(memory, table, at, row, part, mode, tick, first, last)
        bound = table[own + FORTH + BOUNDS]
        left, right = table[bound + first], table[bound + last]
        for sample in range(table[part + LOW], table[part + HIGH]):
            span(memory, table, at, row, part, mode, tick, state, sample, left, right, control)
        if table[own + FLUSHED]:
            restore(memory, control)
        targets = table[at + TARGETS]
        if mode & PREDICT and state and last == blocks and targets >= 0 and table[targets + row] >= 0:
            begin = table[part + LOW] * table[at + SIZE]
            n = (table[part + HIGH] - table[part + LOW]) * table[at + SIZE]
            lose(memory, table, at, table[targets + row] + begin, row * table[at + STRIDE] + begin, n)
        if mode & SEND and table[own + LENGTH]:
            control = flush(memory) if table[own + FLUSHED] else 0
            emit(memory, table, at, row, part, tick, state, left, right)
            if table[own + FLUSHED]:
                restore(memory, control)


@jit
def sum_inputs(
    memory: Any, table: Any, at: int, row: int, part: int, mode: int, tick: int, first: int, last: int
) -> None:
    """Set W x of some blocks, in scratch."""
    own, size = table[at + OWN], table[at + SIZE]
    low, near, before = table[part + LOW], table[part + SCRATCH], table[own + BACK + RECEIVERS]
    sparse.products(
        codes_at(table[own + FORTH + CODES]),
        onwards(table, table[own + FORTH + STARTS]),
        onwards(table, table[own + FORTH + BOUNDS]),
        table[own + KINDS],
        table[own + FORTH + SEGMENTS],
        onwards(memory, of_vertex(table, at, WEIGHTS, row)),
        memory,
        inputs(table, at, row, mode, tick, low * before),
        before,
        memory,
        near,
        size,
        table[part + HIGH] - low,
        first,
        last,
    )


@jit
def inputs(table: Any, at: int, row: int, mode: int, tick: int, begin: int) -> Any:
    """Return where the values lie that arrive over each delay, from the sample that begins at ``begin``."""
    own, count, slot = table[at + OWN], table[at + COUNT], table[at + SLOTS] + INPUTS
    places = np.empty(table[own + KINDS], np.int64)
    for kind in range(len(places)):
        places[kind] = table[slot + (count if mode & SWEEP else 0) + row] + begin
        delay = of_kind(table, at, kind, VALUE_DELAY, row)
        if delay and not mode & SWEEP:
            then = (tick - delay) % of_kind(table, at, kind, VALUES_LENGTH, row)
            values = table[own + BATCH] * table[own + BACK + RECEIVERS]
            places[kind] = of_kind(table, at, kind, VALUES, row) + then * values + begin
        slot += INPUTS + 4 * count
    return places


@jit
def span(
    memory: Any, table: Any, at: int, row: int, part: int, mode: int, tick: int, state: int, sample: int, left: int,
    right: int, control: int,
) -> None:  # fmt: skip
    """Predict some neurons of one sample from the sums in scratch."""
    own, size = table[at + OWN], table[at + SIZE]
    if not mode & (SWEEP | PREDICT) or state == 0:
        return
    near = table[part + SCRATCH] + (sample - table[part + LOW]) * size + left
    n, shifted = right - left, row * table[at + STRIDE] + sample * size + left
    if state == 2:
        bias, code = of_vertex(table, at, BIAS, row), table[own + ACTIVATION]
        if bias >= 0:
            for i in range(n):
                store(memory, near + i, load(memory, near + i) + load(memory, bias + left + i))
        if code:
            saved = table[at + SAVED] + row * table[at + SAVED_STRIDE] + sample * size + left
            apply(code, load(memory, table[at + ATTRIBUTE]), memory, near, memory, near, memory, saved, n)
    if table[own + FLUSHED]:
        restore(memory, control)
    follow(memory, table, at, mode, near, state == 2, shifted, n)
    if not mode & SWEEP:
        differ(memory, table, at, shifted, n)
    if table[own + FLUSHED]:
        flush(memory)


@jit
def emit(memory: Any, table: Any, at: int, row: int, part: int, tick: int, state: int, left: int, right: int) -> None:
    """Write g of some neurons to the ring; a vertex at rest fills it with what it sent last, then leaves it alone."""
    own, size, length = table[at + OWN], table[at + SIZE], table[table[at + OWN] + LENGTH]
    batch, low = table[own + BATCH], table[part + LOW]
    notes = table[part + RINGS] + table[own + NOTES] + row * (1 + length)
    ring = table[own + RING] + (row * length * batch + low) * size + left
    now, then = ring + tick % length * batch * size, ring + (tick - 1) % length * batch * size
    flags, some = notes + 1, False
    if state:
        table[notes] = tick
    elif length > 1 and tick - table[notes] < length:
        for sample in range(table[part + HIGH] - low):
            copy_into(memory, then + sample * size, now + sample * size, right - left)
    if not state:
        some = table[flags + (tick - 1) % length] >= tick
    else:
        saved = table[at + SAVED] + row * table[at + SAVED_STRIDE] + low * size + left
        error = row * table[at + STRIDE] + low * size + left
        for _ in range(table[part + HIGH] - low):
            some |= weigh_span(memory, table, at, row, left, error, saved, now, right - left)
            error, saved, now = error + size, saved + size, now + size
    if some:
        table[flags + tick % length] = tick + 1


@jit
def weigh_span(
    memory: Any, table: Any, at: int, row: int, left: int, shifted: int, saved: int, out: int, n: int
) -> bool:
    """Set out = f' Pi eps of some neurons of one sample; return whether any is not zero."""
    error = table[at + ERROR] + shifted
    if table[at + PRECISION] >= 0:
        precision = table[at + PRECISION] + row * table[at + SIZE] + left
        for i in range(n):
            store(memory, out + i, load(memory, precision + i) * load(memory, error + i))
        error = out
    some = False
    if table[table[at + OWN] + ACTIVATION]:
        for i in range(n):
            g = load(memory, saved + i) * load(memory, error + i)
            store(memory, out + i, g)
            some |= g != 0
    else:
        for i in range(n):
            g = load(memory, error + i)
            store(memory, out + i, g)
            some |= g != 0
    return some


@jit
def answer(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Sum what is due to the neurons before; ``low`` to ``high`` count the backward blocks of all vertices."""
    own = table[at + OWN]
    blocks, length = table[own + BACK + BLOCKS], table[own + LENGTH]
    if not mode & SEND:
        return
    for row in range(low // blocks, (high + blocks - 1) // blocks):
        first, last = max(low - row * blocks, 0), min(high - row * blocks, blocks)
        changed = table[part + RINGS] + table[own + NOTES] + row * (1 + length)
        awake = tick - table[changed] <= of_vertex(table, at, LONGEST, row)
        group = of_vertex(table, at, GROUPS, row)
        for _ in range(table[group - 1]):
            table[table[part + WOKE] + table[group + NUMBER]] = awake
            if awake:
                control = flush(memory) if table[own + FLUSHED] else 0
                sum_group(memory, table, at, row, part, tick, group, first, last)
                if table[own + FLUSHED]:
                    restore(memory, control)
            group += 1 + MEMBERS + table[group + MEMBERS]


@jit
def sum_group(
    memory: Any, table: Any, at: int, row: int, part: int, tick: int, group: int, first: int, last: int
) -> None:
    """Sum what is due over the delays of one group to some blocks: each delay on its own, then all in their order."""
    own, size, low = table[at + OWN], table[at + SIZE], table[part + LOW]
    side, length, batch = own + BACK, table[own + LENGTH], table[own + BATCH]
    samples, before = table[part + HIGH] - low, table[side + RECEIVERS]
    flags = table[part + RINGS] + table[own + NOTES] + row * (1 + length) + 1
    bound, target = table[side + BOUNDS], table[group + TARGET] + low * before
    weights = of_vertex(table, at, WEIGHTS_BACK, row)
    empty = True
    for member in range(table[group + MEMBERS]):
        kind = table[group + MEMBERS + 1 + member]
        sent = tick - of_kind(table, at, kind, ERROR_DELAY, row)
        if table[flags + sent % length] <= sent:
            continue
        source = table[own + RING] + ((row * length + sent % length) * batch + low) * size
        for block in range(first, last):
            left = table[bound + block]
            n, here, far = table[bound + block + 1] - left, target + left, before
            if not empty:
                here, far = table[part + SCRATCH], n
            for sample in range(samples):
                clear(memory, here + sample * far, n)
            add_block(memory, table, own, BACK, weights, kind, block, source, size, here, far, samples)
            for sample in range(0 if empty else samples):
                add_to(memory, here + sample * far, target + sample * before + left, n)
        empty = False
    if empty:
        left, right = table[bound + first], table[bound + last]
        for sample in range(samples):
            clear(memory, target + sample * before + left, right - left)


@jit
def add_to(memory: Any, x: int, out: int, n: int) -> None:
    """Set out += x."""
    for i in range(n):
        store(memory, out + i, load(memory, out + i) + load(memory, x + i))


PAST, PAST_LENGTH, PAST_SIZE, PAST_BATCH, PAST_VALUE, PAST_VERTEX, PAST_LATE, PAST_NOTE = range(8)
"""Operands of past values: where they lie, how many; elements of a vertex per sample; samples of the batch; where its
value lies, its number, the number by which it is noted that past values will have moved, that of the note when it
did."""

PIECES = 64
"""Equal pieces of a population that threads share out where neurons are alike."""


@jit
def remember_values(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Keep the values of a vertex that a projection reads late; ``low`` to ``high`` count its pieces."""
    size, batch, length = table[at + PAST_SIZE], table[at + PAST_BATCH], table[at + PAST_LENGTH]
    note = table[part + RINGS] + table[at + PAST_NOTE]
    if table[table[part + DIRTY] + table[at + PAST_VERTEX]]:
        table[note] = tick
    table[table[part + DIRTY] + table[at + PAST_LATE]] = tick + 1 - table[note] <= length
    if tick - table[note] >= length:
        return
    out = table[at + PAST] + tick % length * batch * size
    left, right = size * low // PIECES, size * high // PIECES
    for sample in range(table[part + LOW], table[part + HIGH]):
        here = sample * size + left
        copy_into(memory, table[at + PAST_VALUE] + here, out + here, right - left)


@jit
def arrange_forth(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Copy weights into the order of the forward blocks ``low`` to ``high`` of all vertices."""
    arrange(memory, table, at, low, high, FORTH, WEIGHTS)


@jit
def arrange_back(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Copy weights into the order of the backward blocks ``low`` to ``high`` of all vertices."""
    arrange(memory, table, at, low, high, BACK, WEIGHTS_BACK)


@jit
def arrange(memory: Any, table: Any, at: int, low: int, high: int, way: int, column: int) -> None:
    """Copy the weights of some blocks."""
    own = table[at + OWN]
    side, blocks = own + way, table[own + way + BLOCKS]
    order, starts = codes_at(table[side + ORDER]), onwards(table, table[side + STARTS])
    for row in range(low // blocks, (high + blocks - 1) // blocks):
        first, last = max(low - row * blocks, 0), min(high - row * blocks, blocks)
        tiles, weights = table[own + KINDS] * table[side + SEGMENTS], onwards(memory, of_vertex(table, at, column, row))
        parameter = of_vertex(table, at, PARAMETER, row)
        sparse.arrange(order, starts, tiles, memory, parameter, weights, first, last)


@jit
def learn(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Add what some neurons teach their weights and biases, over all samples of the part.

    ``low`` to ``high`` count the forward blocks of all vertices, and are of one vertex.
    """
    own, size, begin = table[at + OWN], table[at + SIZE], table[part + LOW]
    side, near, samples = own + FORTH, table[part + SCRATCH], table[part + HIGH] - table[part + LOW]
    row = low // table[side + BLOCKS]
    first, last = low - row * table[side + BLOCKS], high - row * table[side + BLOCKS]
    left, right = table[table[side + BOUNDS] + first], table[table[side + BOUNDS] + last]
    gain, before = load(memory, table[at + GAIN]), table[own + BACK + RECEIVERS]
    weight, bias = of_vertex(table, at, LESSON, row), of_vertex(table, at, BIAS_LESSON, row)
    control = flush(memory) if table[own + FLUSHED] else 0
    for sample in range(samples):
        g = near + sample * size + left
        saved = table[at + SAVED] + row * table[at + SAVED_STRIDE] + (begin + sample) * size + left
        weigh_span(
            memory,
            table,
            at,
            row,
            left,
            row * table[at + STRIDE] + (begin + sample) * size + left,
            saved,
            g,
            right - left,
        )
        for i in range(right - left):
            store(memory, g + i, gain * load(memory, g + i))
        if bias >= 0:
            add_to(memory, g, bias + left, right - left)
    sparse.updates(
        codes_at(table[side + CODES]),
        codes_at(table[side + ORDER]),
        onwards(table, table[side + STARTS]),
        onwards(table, table[side + BOUNDS]),
        table[own + KINDS],
        table[side + SEGMENTS],
        memory,
        near,
        size,
        memory,
        inputs(table, at, row, mode, tick, begin * before),
        before,
        memory,
        weight,
        samples,
        first,
        last,
    )
    if table[own + FLUSHED]:
        restore(memory, control)
