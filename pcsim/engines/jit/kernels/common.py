"""What all kernels share: their operands, what has changed since the last tick, and what becomes of a prediction.

Every kernel has one signature: ``(memory, table, at, low, high, part, mode, tick)``. ``memory`` points to all memory,
counted in elements; ``table`` to whole numbers, in which records lie: at ``at`` the operands of the step, at ``part``
the samples and the scratch to use. ``low`` to ``high`` are vertices of the step; ``mode`` says what to do. A vertex
that has not moved, and whose inputs have not, is passed over: what it sent last still stands.
"""
# Numba compiles these: plain loops over offsets and records.

from __future__ import annotations

from typing import Any

from pcsim.engines.jit.kernels.compiled import inline, jit, load, store
from pcsim.engines.jit.kernels.native import invoke
from pcsim.engines.jit.kernels.records import Record, address, location, number, whole

SWEEP, PREDICT, SEND, ALL, NOTE, COMPARE = 1, 2, 4, 8, 16, 32
"""Modes: set feedforward values; predict; send errors; pass over no vertex; note squares where values move; note how
far errors are from what they are compared with."""

SAME, ERROR, INPUT = 0, 1, 2
"""How much of a vertex has changed: nothing; its error may have; an input has, so that it predicts anew."""

STEP = Record(
    "step",
    own=location("operands that only its kernel knows"),
    count=whole("vertices"),
    first=number("of its first vertex"),
    slots=location("its slots, one after the other"),
    slot_count=whole("how many"),
    size=whole("elements of a vertex, per sample"),
    stride=whole("elements of a vertex, all samples"),
    start=address("feedforward values"),
    value=address("values; nowhere where predictions are fixed"),
    deviation=address("deviations"),
    shift=address("how far predictions have moved; nowhere where they are fixed"),
    error=address("errors"),
    saved=address("what derivatives reuse"),
    saved_stride=whole("elements of that for a vertex"),
    precision=address("precisions, (vertices, size); nowhere where all are 1"),
    outputs=location("the loss of each vertex; -1: none carries one that a tick must follow"),
    classes=whole("extent of the last axis"),
    attribute=address("the constant of the op: a slope, an exponent"),
    gain=address("what contributions to gradients are multiplied by"),
    unwritten=whole("whether what it sends need not be written down unless it is to be read"),
    may_change=whole("whether some input can change in a run"),
)

SLOT = Record(
    "slot",
    per_sample=whole("elements from one sample of an input to the next; 0: one for all samples"),
    extent=whole("elements of an input"),
    map=location("an index map; -1: none"),
    inputs=location("the inputs, one for each vertex"),
)

EDGE = Record(
    "edge",
    value=address("the value that arrives in a tick"),
    start=address("the value that arrives in the sweep"),
    message=address("where the error message goes; nowhere if none is sent"),
    sender=number("of the vertex that the value comes from; -1: it never changes"),
)

OUTPUT = Record(
    "output",
    target=address("its target; nowhere if it carries no loss that a tick must follow"),
    loss=whole("address of the code that sets its error; 0: none"),
)

PART = Record(
    "part",
    low=whole("first sample"),
    high=whole("last sample + 1"),
    blocks=location("the first samples of its blocks, and where the last one ends"),
    last_block=location("the end of these"),
    single=whole("whether there is but one block, which no threads share"),
    scratch=address("scratch, four regions"),
    region=whole("elements of a region"),
    moved=location("for each vertex, whether it has moved"),
    changed=location("for each vertex, whether its error may have changed"),
    late=location("for each late message, the tick at which it last changed"),
    buffers=location("for each delay buffer of a population, when it last changed, and what it holds"),
    fault=whole("whether some number became NaN or infinite"),
    squares=whole("address of the squares of errors at tick 0, from which those of the others are counted"),
    apart=whole("likewise of errors less what they are compared with"),
    since=whole("first tick whose squares are noted, -1 for tick 0"),
    active=whole("vertices whose squares are noted"),
    sums=whole("sums for each of these vertices: so many as a part has blocks at most"),
)

step_at, slot_at, edge_at, output_at, part_at = STEP.one(), SLOT.each(), EDGE.each(), OUTPUT.each(), PART.one()


@inline
def input_of(table: Any, slot: Any, row: int, mode: int) -> Any:
    """Return where the input of a vertex lies: in the sweep, or in a tick."""
    edge = edge_at(table, slot.inputs, row)
    return edge.start if mode & SWEEP else edge.value


@inline
def message_of(table: Any, slot: Any, row: int) -> Any:
    """Return where the message of a vertex over a slot goes; -1: nowhere."""
    return edge_at(table, slot.inputs, row).message


@inline
def loss_of(table: Any, step: Any, row: int) -> Any:
    """Return the address of the code that sets the error of a vertex from its loss; 0: it is what kernels make it."""
    return output_at(table, step.outputs, row).loss if step.outputs >= 0 else 0


@inline
def sends(step: Any, mode: int) -> Any:
    """Return whether messages are written down."""
    return mode & SEND and (mode & ALL or not step.unwritten)


@jit
def changes(table: Any, step: Any, row: int, mine: Any, mode: int) -> int:
    """Return how much of a vertex has changed: ``SAME``, ``ERROR`` or ``INPUT``; in the sweep all is new."""
    if mode & SWEEP:
        return INPUT
    input_moved = False
    if mode & PREDICT and not mode & ALL and step.may_change:
        for slot in range(step.slot_count):
            sender = edge_at(table, slot_at(table, step.slots, slot).inputs, row).sender
            input_moved |= sender >= 0 and table[mine.moved + sender] != 0
    return mark_changed(table, step, row, mine, mode, input_moved)


@inline
def mark_changed(table: Any, step: Any, row: int, mine: Any, mode: int, input_moved: bool) -> int:
    """Note whether the error of a vertex may have changed, given whether an input has; return what ``changes`` does."""
    vertex = step.first + row
    if mode & ALL:
        table[mine.changed + vertex] = 1
        return INPUT
    if not mode & PREDICT and step.shift >= 0:
        return ERROR if table[mine.changed + vertex] else SAME
    changed = input_moved or table[mine.moved + vertex] != 0
    table[mine.changed + vertex] = changed
    return INPUT if input_moved else int(changed)


@inline
def room_for(step: Any, row: int, mine: Any, mode: int, near: int) -> Any:
    """Return where a prediction is worked out: in the sweep where it stays, as feedforward value, else ``near``."""
    return step.start + row * step.stride + mine.low * step.size if mode & SWEEP else near


@jit
def take_prediction(memory: Any, table: Any, at: int, row: int, part: int, mode: int, mu: int, anew: bool) -> None:
    """Take a prediction, which lies at ``mu``: as feedforward value, or for the error of this tick."""
    step, mine = step_at(table, at), part_at(table, part)
    offset = row * step.stride + mine.low * step.size
    n = (mine.high - mine.low) * step.size
    loss = loss_of(table, step, row)
    if anew and not mode & SWEEP and not loss:
        follow_and_differ(memory, step, mu, offset, n)
        return
    follow(memory, step, mode, mu, anew, offset, n)
    if mode & SWEEP:
        mine.fault |= unbounded(memory, mu, n)
    elif loss:
        invoke(loss, memory, table, at, row, row + 1, part, mode, mode)
    else:
        differ(memory, step, offset, n)


@jit
def unbounded(memory: Any, x: int, n: int) -> int:
    """Return 1 where some of n numbers is not finite, else 0."""
    bad = False
    for i in range(n):
        x_here = load(memory, x + i)
        bad |= x_here - x_here != 0
    return int(bad)


@jit
def follow(memory: Any, step: Any, mode: int, mu: int, anew: bool, offset: int, n: int) -> None:
    """Take n elements of a prediction, ``offset`` from the step's first, as they are or for how far they moved."""
    start, value, shift = step.start + offset, step.value + offset, step.shift + offset
    if mode & SWEEP:
        if mu != start:
            copy_into(memory, mu, start, n)
        if step.value >= 0:
            for i in range(n):
                store(memory, value + i, load(memory, mu + i))
    elif anew:
        for i in range(n):
            store(memory, shift + i, load(memory, mu + i) - load(memory, start + i))


@jit
def follow_and_differ(memory: Any, step: Any, mu: int, offset: int, n: int) -> None:
    """Take n elements of a prediction for how far they moved, and set the errors to deviation - shift."""
    start, shift = step.start + offset, step.shift + offset
    deviation, error = step.deviation + offset, step.error + offset
    for i in range(n):
        moved = load(memory, mu + i) - load(memory, start + i)
        store(memory, shift + i, moved)
        store(memory, error + i, load(memory, deviation + i) - moved)


@jit
def differ(memory: Any, step: Any, offset: int, n: int) -> None:
    """Set n errors to deviation - shift."""
    deviation, shift, error = step.deviation + offset, step.shift + offset, step.error + offset
    for i in range(n):
        store(memory, error + i, load(memory, deviation + i) - load(memory, shift + i))


@jit
def weigh(memory: Any, step: Any, row: int, mine: Any, out: int) -> Any:
    """Return where a vertex's weighted error Pi eps lies: its error, or ``out``, to which it is written."""
    size = step.size
    error = step.error + row * step.stride + mine.low * size
    if step.precision < 0:
        return error
    precision = step.precision + row * size
    for _ in range(mine.high - mine.low):
        for i in range(size):
            store(memory, out + i, load(memory, precision + i) * load(memory, error + i))
        out += size
        error += size
    return out - (mine.high - mine.low) * size


@inline
def saved_of(step: Any, row: int, mine: Any) -> Any:
    """Return where lies what a vertex keeps, from the first sample of the part on, one number an element."""
    return step.saved + row * step.saved_stride + mine.low * step.size


@inline
def scale_into(memory: Any, a: int, b: int, out: int, n: int) -> None:
    """Set out = a b, element by element."""
    for i in range(n):
        store(memory, out + i, load(memory, a + i) * load(memory, b + i))


@inline
def copy_into(memory: Any, a: int, out: int, n: int) -> None:
    """Set out = a."""
    for i in range(n):
        store(memory, out + i, load(memory, a + i))


@inline
def clear(memory: Any, out: int, n: int, zero: Any) -> None:
    """Set n elements to zero."""
    for i in range(n):
        store(memory, out + i, zero)
