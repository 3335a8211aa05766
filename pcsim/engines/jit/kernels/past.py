"""Past values of a vertex, which projections read late."""

from __future__ import annotations

from typing import Any

from pcsim.engines.jit.kernels.common import copy_into, part_at
from pcsim.engines.jit.kernels.compiled import jit
from pcsim.engines.jit.kernels.records import Record, address, number, whole

PAST = Record(
    "past values",
    values=address("where they lie"),
    length=whole("how many ticks"),
    size=whole("elements of a vertex, per sample"),
    batch=whole("samples of the batch"),
    value=address("the value of the vertex"),
    vertex=number("of the vertex"),
    late=number("by which it is noted that past values will have moved"),
    note=whole("the note of when the vertex last moved"),
)

past_at = PAST.one()

PIECES = 64
"""Equal pieces of a population that threads share out where neurons are alike."""


@jit
def remember_values(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Keep the values of a vertex that a projection reads late; ``low`` to ``high`` count its pieces."""
    past, mine = past_at(table, at), part_at(table, part)
    size, batch, length = past.size, past.batch, past.length
    note = mine.buffers + past.note
    if table[mine.moved + past.vertex]:
        table[note] = tick
    table[mine.moved + past.late] = tick + 1 - table[note] <= length
    if tick - table[note] >= length:
        return
    out = past.values + tick % length * batch * size
    left, right = size * low // PIECES, size * high // PIECES
    for sample in range(mine.low, mine.high):
        here = sample * size + left
        copy_into(memory, past.value + here, out + here, right - left)
