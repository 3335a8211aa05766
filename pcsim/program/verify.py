"""Checks that a Program is what the graph says: every vertex computed once, every edge carried once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from pcsim.errors import PcsimError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcsim.arrays import Shape
    from pcsim.program.program import Inbox, Program, Rows


class ProgramError(PcsimError):
    """A lowered program that contradicts its graph: a defect of pcsim, not of the input."""


def verify(program: Program) -> Program:
    """Return the program if every fact about it holds; raises ProgramError naming those that do not."""
    if faults := list(_faults(program)):
        raise ProgramError("; ".join(faults))
    return program


def _faults(program: Program) -> Iterator[str]:
    graph, location = program.graph, program.location
    written = Counter((step.shape, row) for step in program.steps for row in range(step.rows.start, step.rows.stop))
    expected = {location[name] for name in graph.active}
    if set(written) != expected or any(count != 1 for count in written.values()):
        yield "a vertex is not computed exactly once"
    carried = Counter(edge.name for step in program.steps for slot in step.slots for edge in slot.edges)
    if carried != Counter(edge.name for edge in graph.edges):
        yield "an edge is not read exactly once"
    for step in program.steps:
        for slot in step.slots:
            rows = _indices(slot.rows)
            if not slot.is_parameter and [location[edge.pre] for edge in slot.edges] != [
                (slot.shape, row) for row in rows
            ]:
                yield f"a slot of {step.names[0]!r} reads the wrong rows"
    for shape, inbox in program.inboxes.items():
        yield from _inbox_faults(program, shape, inbox)


def _inbox_faults(program: Program, shape: Shape, inbox: Inbox) -> Iterator[str]:
    if [program.location[edge.pre][1] for edge in inbox.edges] != inbox.receivers.tolist():
        yield f"the inbox of {shape} addresses the wrong rows"
    if sorted(inbox.order.tolist()) != list(range(len(inbox.edges))):
        yield f"the inbox of {shape} loses or doubles a message"
    by_receiver = inbox.receivers[inbox.order]
    if np.any(np.diff(by_receiver) < 0):
        yield f"the inbox of {shape} is not sorted by receiver"
    if [inbox.edges[number].error_delay for number in inbox.late] != inbox.delay_buffer.length.tolist():
        yield f"a delay line of {shape} has the wrong length"


def _indices(rows: Rows) -> list[int]:
    return list(range(rows.start, rows.stop)) if isinstance(rows, slice) else [int(row) for row in rows]
