"""Checks that what is laid out is what the lowered program says: every address, every count, every row once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.jit.instructions import RECORDS
from pcsim.engines.jit.kernels.common import EDGE, PART, SLOT, STEP
from pcsim.engines.jit.kernels.flow import FLOW
from pcsim.engines.jit.kernels.groups import GROUP, HISTORY, RECALL
from pcsim.engines.jit.kernels.past import PIECES
from pcsim.engines.jit.kernels.weighted import ANSWER
from pcsim.engines.jit.segments import Compiled
from pcsim.program.verify import ProgramError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcsim.engines.jit.segments import Instruction, Segment
    from pcsim.engines.jit.session import JitSession
    from pcsim.engines.jit.table import Entry, Spans
    from pcsim.program.program import Step


def verify(session: JitSession) -> JitSession:
    """Return the session if everything is laid out as it must be; raises ProgramError naming what is not."""
    if faults := list(_faults(session)):
        raise ProgramError("; ".join(faults))
    return session


def _faults(session: JitSession) -> Iterator[str]:
    spans = session.laid_out.memory.spans()
    for entry in session.laid_out.table.entries:
        yield from _entry_faults(session, spans, entry)
    for step in session.program.steps:
        if id(step) in session.laid_out.steps:
            yield from _step_faults(session, spans, step)
    yield from _sample_faults(session)
    parts = session.instructions
    ticks = ("ticking", "comparing", "noting", "delivering", "staying", "preparing", "acting")
    for name in ("sweeping", *(("returning",) if session.prompt else ticks)):
        yield from (f"{name}: {fault}" for fault in _segment_faults(session, getattr(parts, name)))
    yield from _coverage_faults(session)


# -- records ----------------------------------------------------------------------------------------------


def _entry_faults(session: JitSession, spans: Spans, entry: Entry) -> Iterator[str]:
    """Check every field of every record by what it holds."""
    rows = entry.record.view(session.table, entry.location, entry.count)
    layout = session.laid_out
    for name, field in entry.record.fields.items():
        values, label = rows[name], f"{entry.record.name} of {entry.owner}: {name}"
        if field.kind == "location" and not ((values >= -1) & (values <= layout.table.size)).all():
            yield f"{label} lies outside the table"
        if field.kind == "number" and not ((values >= -1) & (values <= layout.numbers)).all():
            yield f"{label} is no number"
        if field.kind in ("address", "codes"):
            size = layout.dtype.itemsize if field.kind == "address" else 4
            if not all(value == -1 or spans.holds(int(value) * size) for value in values):
                yield f"{label} lies in no array"


@dataclass(frozen=True)
class Reach:
    """How far kernels read and write from an address on, in elements."""

    field: str
    elements: int


def _step_faults(session: JitSession, spans: Spans, step: Step) -> Iterator[str]:
    """Compare a step with the lowered program."""
    layout, place = session.laid_out, session.laid_out.steps[id(step)]
    record, name, count = STEP.view(session.table, place)[0], step.names[0], len(step.names)
    units, size = layout.arrays.units[step.shape], int(np.prod(step.shape, dtype=int))
    expected = {"count": count, "slot_count": len(step.slots), "size": size, "stride": size * layout.batch}
    expected["first"] = int(layout.vertices(step)[0])
    for field, value in expected.items():
        if record[field] != value:
            yield f"step of {name}: {field} is {record[field]}, expected {value}"
    for field in ("start", "deviation", "error"):
        offset = int(record[field]) * layout.dtype.itemsize - getattr(units, field).ctypes.data
        if offset != step.rows.start * size * layout.batch * layout.dtype.itemsize:
            yield f"step of {name}: {field} is not that of its vertices"
    reaches = [Reach(field, count * size * layout.batch) for field in ("start", "value", "deviation", "shift", "error")]
    reaches += [Reach("saved", count * int(record["saved_stride"])), Reach("precision", count * size)]
    yield from (f"step of {name}: {fault}" for fault in _reach_faults(session, spans, record, reaches))
    for number, slot in enumerate(SLOT.view(session.table, int(record["slots"]), len(step.slots))):
        yield from (f"step of {name}: {fault}" for fault in _slot_faults(session, spans, step, number, slot))


def _reach_faults(session: JitSession, spans: Spans, record: Any, reaches: Sequence[Reach]) -> Iterator[str]:
    octets = session.laid_out.dtype.itemsize
    for reach in reaches:
        first = int(record[reach.field])
        if first == -1 or reach.elements == 0:
            continue
        begin, end = spans.find(first * octets), spans.find((first + reach.elements) * octets - 1)
        if begin is None or end is None or begin[1] is not end[1]:
            yield f"{reach.field} reaches beyond its array"


def _slot_faults(session: JitSession, spans: Spans, step: Step, number: int, slot: Any) -> Iterator[str]:
    """Check that the inputs of a slot are those of the lowered program, and where messages go."""
    lowered, layout = step.slots[number], session.laid_out
    edges = EDGE.view(session.table, int(slot["inputs"]), len(step.names))
    size = layout.batch * int(slot["per_sample"]) if slot["per_sample"] else int(slot["extent"])
    for edge in edges:
        reaches = [Reach("start", size), Reach("value", size), Reach("message", layout.batch * int(slot["extent"]))]
        yield from (f"slot {number}: {fault}" for fault in _reach_faults(session, spans, edge, reaches))
    if lowered.is_parameter:
        return
    if (edges["message"] >= 0).all() != (lowered.messages is not None):
        yield f"slot {number} sends where it must not, or does not where it must"
    prompt = np.ones(len(step.names), bool)
    if lowered.late is not None:
        prompt[lowered.late.positions] = False
    rows = np.broadcast_to(step.rows_of_inputs[number], len(step.names))
    active = rows < layout.arrays.units[lowered.shape].group.active
    wanted = np.where(active, layout.first[lowered.shape] + rows, -1)
    if not (edges["sender"] == wanted)[prompt].all():
        yield f"slot {number} reads the wrong vertices"


def _sample_faults(session: JitSession) -> Iterator[str]:
    """Check that the parts of threads hold every sample once, where they share samples out, and else all of them."""
    parts = [PART.view(session.table, place)[0] for place in session.parts.shared]
    bounds = [(int(part["low"]), int(part["high"])) for part in parts]
    batch = session.task.batch
    if session.sharing.by_sample:
        ends = [0, *(high for _, high in bounds)]
        if [low for low, _ in bounds] != ends[:-1] or ends[-1] != batch:
            yield f"samples are not shared out once each: {bounds}"
    elif any(bound != (0, batch) for bound in bounds):
        yield f"a thread does not have all samples: {bounds}"


# -- instructions -----------------------------------------------------------------------------------------


def _segment_faults(session: JitSession, segments: Sequence[Segment]) -> Iterator[str]:
    """Check that every kernel is known and works on its kind of record, and that rows are shared out once."""
    kinds = {entry.location: entry.record for entry in session.laid_out.table.entries}
    for instruction in instructions_of(segments):
        record = RECORDS.get(instruction.name)
        if record is None:
            yield f"kernel {instruction.name!r} is not known"
        elif kinds.get(instruction.operands) is not record:
            yield f"kernel {instruction.name!r} does not work on a {record.name}"
        yield from _range_faults(session, instruction)


def instructions_of(segments: Sequence[Segment]) -> list[Instruction]:
    """Return the instructions of segments that run a kernel."""
    compiled = (segment for segment in segments if isinstance(segment, Compiled))
    return [one for segment in compiled for one in segment.instructions if one.kernel is not None]


def _range_faults(session: JitSession, instruction: Instruction) -> Iterator[str]:
    ranges = instruction.ranges
    if session.sharing.by_sample:
        if (ranges != ranges[0]).any():
            yield f"kernel {instruction.name!r} has other rows on other threads"
    elif (ranges[1:, 0] != ranges[:-1, 1]).any() or (ranges[:, 1] < ranges[:, 0]).any():
        yield f"kernel {instruction.name!r}: rows are not shared out once each"


def _coverage_faults(session: JitSession) -> Iterator[str]:
    """Check that the sweep and a tick have every row of what they work on exactly once."""
    for name in ("sweeping", "returning" if session.prompt else "ticking"):
        rows: dict[tuple[str, int], list[int]] = defaultdict(list)
        for one in instructions_of(getattr(session.instructions, name)):
            first, last = int(one.ranges[0, 0]), int(one.ranges[-1, 1])
            rows[one.name, one.operands] += range(first, last)
        for (kernel, operands), found in rows.items():
            if sorted(found) != list(range(rows_of(session, kernel, operands))):
                yield f"{name}: kernel {kernel!r} does not have every row once"
    swept = {one.operands for one in instructions_of(session.instructions.sweeping)}
    if swept != set(session.laid_out.steps.values()):
        yield "the sweep leaves out a step"


def rows_of(session: JitSession, kernel: str, operands: int) -> int:
    """Return how many rows there are of what a kernel works on."""
    layout, record = session.laid_out, RECORDS[kernel]
    if record is STEP:
        for key, one in layout.projections.items():
            if layout.steps[key] == operands:
                back = kernel in ("answer", "arrange_backward")
                blocks = one.backward if back else one.forward
                return (len(blocks.bounds) - 1) * len(one.step.names)
        return int(STEP.view(session.table, operands)["count"][0])
    if record is GROUP:
        shapes = {place: shape for shape, place in layout.groups.items()}
        return int(session.program.groups[shapes[operands]].active)
    counted = [*layout.histories, *layout.recalls, *((place, len(one.receivers)) for place, one in layout.answering)]
    if record in (HISTORY, RECALL, ANSWER):
        return dict(counted)[operands]
    return int(FLOW.view(session.table, operands)["count"][0]) if record is FLOW else PIECES
