"""What is laid out, as a table to be read: steps, kernels, operands by name, and what a tick is to each thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.engines.jit.kernels.common import EDGE, SLOT, STEP
from pcsim.engines.jit.kinds import KINDS
from pcsim.engines.jit.segments import ArrayCall
from pcsim.engines.jit.session import JitSession

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcsim.engines.base import Task
    from pcsim.engines.jit.segments import Instruction, Segment
    from pcsim.engines.jit.table import Spans
    from pcsim.program.program import Step

Row = dict[str, Any]


def kernel_plan(task: Task) -> list[Row]:
    """Return what the compiled engine makes of a task, a row for each step and each instruction.

    Every row has ``part`` (``step``, ``sweep`` or ``tick``), ``number``, ``kernel``, ``on`` (vertices, or what else it
    works on), ``rows``, ``operands`` and ``threads`` (which rows each thread has); what does not apply is empty.
    """
    return describe(JitSession(task))


def describe(session: JitSession) -> list[Row]:
    """Return what a session has laid out, as ``kernel_plan`` does."""
    spans = session.laid_out.memory.spans()
    steps = [_step(session, spans, number, step) for number, step in enumerate(session.program.steps)]
    parts = {"sweep": session.instructions.sweeping, "tick": session.instructions.ticking}
    return steps + [row for part, segments in parts.items() for row in _segments(session, part, segments)]


def _row(part: str, number: str, kernel: str, on: str, rows: int, operands: str = "", threads: str = "") -> Row:
    texts = {"part": part, "number": number, "kernel": kernel, "on": on}
    return {**texts, "rows": rows, "operands": operands, "threads": threads}


def _step(session: JitSession, spans: Spans, number: int, step: Step) -> Row:
    names = step.names[0] if len(step.names) == 1 else f"{step.names[0]} to {step.names[-1]}"
    if array_step := session.laid_out.array_steps.get(id(step)):
        return _row("step", str(number), "array call", names, len(step.names), array_step.why)
    kernel = KINDS[step.op.name].kernel.py_func.__name__
    place = session.laid_out.steps[id(step)]
    operands = "; ".join(_operands(session, spans, place))
    return _row("step", str(number), kernel, names, len(step.names), operands)


def _operands(session: JitSession, spans: Spans, place: int) -> Iterator[str]:
    """Yield what the first vertex of a step reads and writes, by the names of arrays."""
    record = STEP.view(session.table, place)[0]
    slots = SLOT.view(session.table, int(record["slots"]), int(record["slot_count"]))
    for number, slot in enumerate(slots):
        edge = EDGE.view(session.table, int(slot["inputs"]))[0]
        yield f"input {number}: {_name(session, spans, int(edge['value']))}"
        if edge["message"] >= 0:
            yield f"message {number}: {_name(session, spans, int(edge['message']))}"
    for field in ("start", "deviation", "shift", "error", "saved"):
        if record[field] >= 0:
            yield f"{field}: {_name(session, spans, int(record[field]))}"


def _name(session: JitSession, spans: Spans, address: int) -> str:
    """Return the array that an address lies in, and the row."""
    found = spans.find(address * session.laid_out.dtype.itemsize)
    if found is None:
        return "nowhere"
    name, array, behind = found
    return f"{name}[{behind // array.strides[0]}]"


def _segments(session: JitSession, part: str, segments: Sequence[Segment]) -> Iterator[Row]:
    owners = {entry.location: entry for entry in session.laid_out.table.entries}
    for segment_number, segment in enumerate(segments):
        if isinstance(segment, ArrayCall):
            yield _row(part, f"{segment_number}", "array call", segment.label, 1, threads="all samples")
            continue
        for number, instruction in enumerate(segment.instructions):
            entry, label = owners.get(instruction.operands), f"{segment_number}.{number}"
            on = "all threads" if entry is None else f"{entry.record.name} of {entry.owner}"
            rows = int(instruction.ranges[:, 1].max(initial=0) - instruction.ranges[:, 0].min(initial=0))
            yield _row(part, label, instruction.name, on, rows, threads=_threads(instruction))


def _threads(instruction: Instruction) -> str:
    return " ".join(f"{low}-{high}" for low, high in instruction.ranges.tolist())
