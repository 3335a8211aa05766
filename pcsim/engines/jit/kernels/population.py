"""The sparse projection f(W x + b): blocks of neurons shared out among threads, errors remembered instead of messages.

A tick takes two phases. In the first, neurons after predict, and what they have to send back, g = f' Pi eps, goes
to a delay buffer of past ticks. In the second, neurons before sum what is due to them, W^T g as g was a delay ago: no
message is in flight. Each delay is summed on its own, then all in the order of their edges, as messages are; where they
come first of what a vertex receives, one sum takes the place of all. Where g was zero nothing is added.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pcsim.engines.jit.kernels import sparse
from pcsim.engines.jit.kernels.common import (
    INPUT,
    PREDICT,
    SAME,
    SEND,
    SWEEP,
    changes,
    clear,
    copy_into,
    differ,
    follow,
    input_of,
    loss_of,
    part_at,
    slot_at,
    step_at,
)
from pcsim.engines.jit.kernels.compiled import IR, TYPES, intrinsic, jit, load, store
from pcsim.engines.jit.kernels.functions import apply
from pcsim.engines.jit.kernels.native import invoke, like, onwards
from pcsim.engines.jit.kernels.records import Record, address, codes, location, number, whole
from pcsim.engines.jit.kernels.sparse import SENDERS, add_tile, flush, restore

PROJECTION = Record(
    "projection",
    delays=whole("distinct delays"),
    function=whole("activation; 0: none"),
    flushed=whole("whether tiny numbers are taken for zero"),
    batch=whole("samples of the batch"),
    length=whole("ticks in the delay buffer of errors; 0: nothing is sent back"),
    buffer=address("the delay buffer of errors"),
    notes=whole("first note about it"),
    forward=location("synapses by neuron after"),
    backward=location("synapses by neuron before"),
    vertices=location("what each vertex has of its own"),
    edges=location("what each delay and vertex has of its own, vertex after vertex of one delay"),
)

DIRECTION = Record(
    "direction",
    blocks=whole("blocks of receivers"),
    bounds=location("first receiver of each block, and the end"),
    starts=location("first synapse of each tile, and the end"),
    codes=codes("sender and receiver of each synapse"),
    order=codes("number of each synapse"),
    segments=whole("segments of senders"),
    receivers=whole("neurons that receive"),
)

VERTEX = Record(
    "projection vertex",
    parameter=address("its weights"),
    forward=address("its weights by neuron after"),
    backward=address("its weights by neuron before"),
    bias=address("its bias; nowhere if there is none"),
    longest=whole("its longest error delay"),
    sums=location("sums of what it sends back"),
    sum_count=whole("how many"),
    weight_learnt=address("what its weights have learnt"),
    bias_learnt=address("what its bias has learnt"),
)

EDGES = Record(
    "projection edge",
    error_delay=whole("ticks that errors travel"),
    value_delay=whole("ticks that values travel; 0: they lie where the slot says"),
    values=address("past values"),
    length=whole("how many past ticks"),
)

SUM = Record(
    "sum of delays",
    target=address("where the sum goes"),
    number=number("by which it is noted that it has changed"),
    members=location("which delays are summed"),
    count=whole("how many"),
)

projection_at, direction_at, vertex_at, edges_at = PROJECTION.one(), DIRECTION.one(), VERTEX.each(), EDGES.each()
sum_at = SUM.each()


@intrinsic
def codes_at(typing: Any, place: Any) -> Any:
    """Return the pointer to codes, from where they lie in elements."""
    kind = TYPES.CPointer(TYPES.uint32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.mul(arguments[0], IR.Constant(IR.IntType(64), 4))
        return builder.inttoptr(place, context.get_value_type(kind))

    return kind(TYPES.int64), generate


@jit
def edges_of(table: Any, step: Any, delay: int, row: int) -> Any:
    """Return what a delay and a vertex have of their own."""
    return edges_at(table, projection_at(table, step.own).edges, delay * step.count + row)


@jit
def note_of(table: Any, step: Any, mine: Any, row: int) -> int:
    """Return where it is noted when the errors of a vertex last changed; behind it, for each tick, whether some are."""
    own = projection_at(table, step.own)
    found: int = mine.buffers + own.notes + row * (1 + own.length)
    return found


@jit
def add_block(
    memory: Any, table: Any, own: Any, side: Any, weights: int, delay: int, block: int, source: int, apart: int,
    target: int, far: int, samples: int,
) -> None:  # fmt: skip
    """Add the products of one delay to the sums of one block, the first of which lies at ``target``."""
    synapses, own_weights, segments = codes_at(side.codes), onwards(memory, weights), side.segments
    for segment in range(segments):
        tile = side.starts + (block * own.delays + delay) * segments + segment
        for sample in range(samples):
            sender = source + sample * apart + segment * SENDERS
            add_tile(synapses, own_weights, table[tile], table[tile + 1], memory, sender, memory, target + sample * far)


@jit
def project(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Predict, and keep what there is to send back; ``low`` to ``high`` count the forward blocks of all vertices."""
    step, mine = step_at(table, at), part_at(table, part)
    own = projection_at(table, step.own)
    side = direction_at(table, own.forward)
    blocks = side.blocks
    for row in range(low // blocks, (high + blocks - 1) // blocks):
        first, last = max(low - row * blocks, 0), min(high - row * blocks, blocks)
        change = changes(table, step, row, mine, mode)
        control = flush(memory) if own.flushed else 0
        if mode & (SWEEP | PREDICT) and change == INPUT:
            sum_inputs(memory, table, step, row, mine, mode, tick, first, last)
        left, right = table[side.bounds + first], table[side.bounds + last]
        for sample in range(mine.low, mine.high):
            span(memory, table, step, row, mine, mode, change, sample, left, right, control)
        if own.flushed:
            restore(memory, control)
        loss = loss_of(table, step, row)
        if mode & PREDICT and change and last == blocks and loss:
            invoke(loss, memory, table, at, row, row + 1, part, mode, tick)
        if mode & SEND and own.length:
            control = flush(memory) if own.flushed else 0
            emit(memory, table, step, row, mine, tick, change, left, right)
            if own.flushed:
                restore(memory, control)


@jit
def sum_inputs(
    memory: Any, table: Any, step: Any, row: int, mine: Any, mode: int, tick: int, first: int, last: int
) -> None:
    """Set W x of some blocks, in scratch."""
    own = projection_at(table, step.own)
    side, before = direction_at(table, own.forward), direction_at(table, own.backward).receivers
    sparse.products(
        codes_at(side.codes),
        onwards(table, side.starts),
        onwards(table, side.bounds),
        own.delays,
        side.segments,
        onwards(memory, vertex_at(table, own.vertices, row).forward),
        memory,
        inputs(table, step, row, mode, tick, mine.low * before),
        before,
        memory,
        mine.scratch,
        step.size,
        mine.high - mine.low,
        first,
        last,
    )


@jit
def inputs(table: Any, step: Any, row: int, mode: int, tick: int, begin: int) -> Any:
    """Return where the values lie that arrive over each delay, from the sample that begins at ``begin``."""
    own = projection_at(table, step.own)
    before = direction_at(table, own.backward).receivers
    places = np.empty(own.delays, np.int64)
    for delay in range(len(places)):
        places[delay] = input_of(table, slot_at(table, step.slots, delay), row, mode) + begin
        edges = edges_of(table, step, delay, row)
        if edges.value_delay and not mode & SWEEP:
            then = (tick - edges.value_delay) % edges.length
            places[delay] = edges.values + then * own.batch * before + begin
    return places


@jit
def span(
    memory: Any, table: Any, step: Any, row: int, mine: Any, mode: int, change: int, sample: int, left: int,
    right: int, control: int,
) -> None:  # fmt: skip
    """Predict some neurons of one sample from the sums in scratch."""
    if not mode & (SWEEP | PREDICT) or change == SAME:
        return
    own, size = projection_at(table, step.own), step.size
    near = mine.scratch + (sample - mine.low) * size + left
    n, offset = right - left, row * step.stride + sample * size + left
    if change == INPUT:
        bias, function = vertex_at(table, own.vertices, row).bias, own.function
        if bias >= 0:
            for i in range(n):
                store(memory, near + i, load(memory, near + i) + load(memory, bias + left + i))
        if function:
            saved = step.saved + row * step.saved_stride + sample * size + left
            apply(function, load(memory, step.attribute), memory, near, memory, near, memory, saved, n)
    if own.flushed:
        restore(memory, control)
    follow(memory, step, mode, near, change == INPUT, offset, n)
    if not mode & SWEEP:
        differ(memory, step, offset, n)
    if own.flushed:
        flush(memory)


@jit
def emit(
    memory: Any, table: Any, step: Any, row: int, mine: Any, tick: int, change: int, left: int, right: int
) -> None:
    """Write g of some neurons to the delay buffer; where nothing changes any more, it is left alone once it is full."""
    own, size, length = projection_at(table, step.own), step.size, projection_at(table, step.own).length
    batch, low, note = own.batch, mine.low, note_of(table, step, mine, row)
    buffer = own.buffer + (row * length * batch + low) * size + left
    now, then = buffer + tick % length * batch * size, buffer + (tick - 1) % length * batch * size
    flags, some = note + 1, False
    if change:
        table[note] = tick
    elif length > 1 and tick - table[note] < length:
        for sample in range(mine.high - low):
            copy_into(memory, then + sample * size, now + sample * size, right - left)
    if not change:
        some = table[flags + (tick - 1) % length] >= tick
    else:
        saved = step.saved + row * step.saved_stride + low * size + left
        error = row * step.stride + low * size + left
        for _ in range(mine.high - low):
            some |= weigh_span(memory, table, step, row, left, error, saved, now, right - left)
            error, saved, now = error + size, saved + size, now + size
    if some:
        table[flags + tick % length] = tick + 1


@jit
def weigh_span(
    memory: Any, table: Any, step: Any, row: int, left: int, offset: int, saved: int, out: int, n: int
) -> bool:
    """Set out = f' Pi eps of some neurons of one sample; return whether any is not zero."""
    error = step.error + offset
    if step.precision >= 0:
        precision = step.precision + row * step.size + left
        for i in range(n):
            store(memory, out + i, load(memory, precision + i) * load(memory, error + i))
        error = out
    some = False
    if projection_at(table, step.own).function:
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
    if not mode & SEND:
        return
    step, mine = step_at(table, at), part_at(table, part)
    own = projection_at(table, step.own)
    blocks = direction_at(table, own.backward).blocks
    for row in range(low // blocks, (high + blocks - 1) // blocks):
        first, last = max(low - row * blocks, 0), min(high - row * blocks, blocks)
        vertex = vertex_at(table, own.vertices, row)
        changed = tick - table[note_of(table, step, mine, row)] <= vertex.longest
        for k in range(vertex.sum_count):
            one = sum_at(table, vertex.sums, k)
            table[mine.changed + one.number] = changed
            if changed:
                control = flush(memory) if own.flushed else 0
                sum_delays(memory, table, step, row, mine, tick, one, first, last)
                if own.flushed:
                    restore(memory, control)


@jit
def sum_delays(
    memory: Any, table: Any, step: Any, row: int, mine: Any, tick: int, one: Any, first: int, last: int
) -> None:
    """Sum what is due over some delays to some blocks: each delay on its own, then all in their order."""
    own, size, low = projection_at(table, step.own), step.size, mine.low
    side, length, batch = direction_at(table, own.backward), own.length, own.batch
    samples, before, bound = mine.high - low, side.receivers, side.bounds
    flags, target = note_of(table, step, mine, row) + 1, one.target + low * before
    weights = vertex_at(table, own.vertices, row).backward
    empty = True
    for member in range(one.count):
        delay = table[one.members + member]
        sent = tick - edges_of(table, step, delay, row).error_delay
        if table[flags + sent % length] <= sent:
            continue
        source = own.buffer + ((row * length + sent % length) * batch + low) * size
        for block in range(first, last):
            left = table[bound + block]
            n, here, far = table[bound + block + 1] - left, target + left, before
            if not empty:
                here, far = mine.scratch, n
            for sample in range(samples):
                clear(memory, here + sample * far, n, like(memory, 0))
            add_block(memory, table, own, side, weights, delay, block, source, size, here, far, samples)
            for sample in range(0 if empty else samples):
                add_to(memory, here + sample * far, target + sample * before + left, n)
        empty = False
    if empty:
        left, right = table[bound + first], table[bound + last]
        for sample in range(samples):
            clear(memory, target + sample * before + left, right - left, like(memory, 0))


@jit
def add_to(memory: Any, x: int, out: int, n: int) -> None:
    """Set out += x."""
    for i in range(n):
        store(memory, out + i, load(memory, out + i) + load(memory, x + i))


@jit
def arrange_forward(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Copy weights into the order of the forward blocks ``low`` to ``high`` of all vertices."""
    own = projection_at(table, step_at(table, at).own)
    side = direction_at(table, own.forward)
    for row in range(low // side.blocks, (high + side.blocks - 1) // side.blocks):
        vertex = vertex_at(table, own.vertices, row)
        arrange(memory, table, own, side, vertex.parameter, vertex.forward, low, high, row)


@jit
def arrange_backward(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Copy weights into the order of the backward blocks ``low`` to ``high`` of all vertices."""
    own = projection_at(table, step_at(table, at).own)
    side = direction_at(table, own.backward)
    for row in range(low // side.blocks, (high + side.blocks - 1) // side.blocks):
        vertex = vertex_at(table, own.vertices, row)
        arrange(memory, table, own, side, vertex.parameter, vertex.backward, low, high, row)


@jit
def arrange(
    memory: Any, table: Any, own: Any, side: Any, parameter: int, weights: int, low: int, high: int, row: int
) -> None:
    """Copy the weights of those blocks that are of one vertex."""
    blocks = side.blocks
    first, last = max(low - row * blocks, 0), min(high - row * blocks, blocks)
    order, starts, tiles = codes_at(side.order), onwards(table, side.starts), own.delays * side.segments
    sparse.arrange(order, starts, tiles, memory, parameter, onwards(memory, weights), first, last)


@jit
def learn(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Add what some neurons contribute to the gradients of weights and biases, over all samples of the part.

    ``low`` to ``high`` count the forward blocks of all vertices, and are of one vertex.
    """
    step, mine = step_at(table, at), part_at(table, part)
    own = projection_at(table, step.own)
    side, before = direction_at(table, own.forward), direction_at(table, own.backward).receivers
    size, begin, near, samples = step.size, mine.low, mine.scratch, mine.high - mine.low
    row = low // side.blocks
    first, last = low - row * side.blocks, high - row * side.blocks
    left, right = table[side.bounds + first], table[side.bounds + last]
    vertex, gain = vertex_at(table, own.vertices, row), load(memory, step.gain)
    control = flush(memory) if own.flushed else 0
    for sample in range(samples):
        g, behind = near + sample * size + left, (begin + sample) * size + left
        saved, error = step.saved + row * step.saved_stride + behind, row * step.stride + behind
        weigh_span(memory, table, step, row, left, error, saved, g, right - left)
        for i in range(right - left):
            store(memory, g + i, gain * load(memory, g + i))
        if vertex.bias_learnt >= 0:
            add_to(memory, g, vertex.bias_learnt + left, right - left)
    sparse.updates(
        codes_at(side.codes),
        codes_at(side.order),
        onwards(table, side.starts),
        onwards(table, side.bounds),
        own.delays,
        side.segments,
        memory,
        near,
        size,
        memory,
        inputs(table, step, row, mode, tick, begin * before),
        before,
        memory,
        vertex.weight_learnt,
        samples,
        first,
        last,
    )
    if own.flushed:
        restore(memory, control)
