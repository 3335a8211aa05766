"""A lowered program as a table of records: where everything lies that a kernel reads and writes."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.array.rows import indices
from pcsim.engines.base import clamped
from pcsim.engines.jit import flows
from pcsim.engines.jit.array_steps import ArrayStep
from pcsim.engines.jit.kernels.common import EDGE, OUTPUT, SLOT, STEP
from pcsim.engines.jit.kernels.groups import GROUP, HISTORY, LATE, LINE, MESSAGE, RECALL
from pcsim.engines.jit.kernels.native import address_of, entry
from pcsim.engines.jit.kernels.past import PAST
from pcsim.engines.jit.kernels.products import SLAB
from pcsim.engines.jit.kernels.weighted import ANSWER
from pcsim.engines.jit.kinds import KINDS, LOSS_KERNELS, attribute, why_no_kernel
from pcsim.engines.jit.table import Memory, Table

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from pcsim.arrays import Shape
    from pcsim.engines.array.array_state import ArrayState
    from pcsim.engines.jit.bundles import Bundle
    from pcsim.engines.jit.kernels.records import Record
    from pcsim.engines.jit.kinds import Kind
    from pcsim.engines.jit.projections import PastValues, Projection, SummedMessages
    from pcsim.engines.jit.table import WholeNumbers
    from pcsim.program.program import Late, Slot, Step


FOREIGN = "errors are on their way that another engine has sent"
"""Why a projection is an array call in a run that another engine has begun."""


class Layout:
    """Where everything of a session lies.

    Attributes
    ----------
    flowing : whether errors flow without messages where they can
    steps, groups : place of each step, by its id, and of each shape group
    array_steps : steps without a kernel, by id
    widest, fixed : numbers that a region of scratch holds, for each sample and beside that
    sent, places : where error messages are written, by shape, (messages, batch, *shape), and in which row each; where
        each is taken once, a row serves one message after another
    numbers : how many numbers there are by which it is noted that something has changed; vertices have the first
    first : the number of the first vertex of each shape
    blank : where it is noted, for each parameter of a shape, that what it has learnt is still to be replaced
    saved : what each step keeps for its derivatives, by id
    late_values : values that arrive late, by id of the slot, (late, batch, *shape)
    delay_buffers : what projections remember of past ticks
    """

    def __init__(
        self,
        arrays: ArrayState,
        *,
        flowing: bool = False,
        by_array_call: Container[int] = (),
        prompt: bool = False,
    ) -> None:
        self.arrays, self.flowing = arrays, flowing
        self.batch, self.dtype, self.moving = arrays.task.batch, arrays.task.dtype, arrays.rule.moving
        self.table, self.memory = Table(), Memory(self.dtype)
        self.numbers = self.late_messages = self.buffer_notes = 0
        self.widest, self.fixed = 1, SLAB
        self.first: dict[Shape, int] = {}
        self.steps: dict[int, int] = {}
        self.groups: dict[Shape, int] = {}
        self.array_steps: dict[int, ArrayStep] = {}
        self.sent: dict[Shape, np.ndarray] = {}
        self.places: dict[Shape, WholeNumbers] = {}
        self.factors: dict[Shape, tuple[np.ndarray, np.ndarray]] = {}
        self.targets: dict[str, np.ndarray] = {}
        self.packing: list[tuple[int, int]] = []
        """How each weight is packed, and how many panels it has."""
        self.bundles: list[Bundle] = []
        self.projections: dict[int, Projection] = {}
        self.delay_buffers: list[np.ndarray] = []
        self.past_values: dict[tuple[Shape, int], PastValues] = {}
        self.summed: dict[Shape, dict[int, SummedMessages]] = {}
        self.blank: dict[Shape, int] = {}
        self.saved: dict[int, np.ndarray] = {}
        self.late_values: dict[int, np.ndarray] = {}
        self._late: list[tuple[Shape, np.ndarray, int, Late, WholeNumbers]] = []
        self._count_vertices()
        self._keep_arrays()
        if prompt:
            self._share_messages()
        else:
            self._separate_messages()
        self._write(by_array_call)

    def _count_vertices(self) -> None:
        for shape, group in self.arrays.program.groups.items():
            self.first[shape] = self.numbers
            self.numbers += group.active
        self.active = self.numbers

    def _keep_arrays(self) -> None:
        """Note the arrays of the session that records point to."""
        arrays = self.arrays
        for shape, units in arrays.units.items():
            for name in ("start", "value", "deviation", "shift", "error", "received", "precision"):
                if (array := getattr(units, name)) is not None:
                    self.memory.keep(f"{name} {list(shape)}", array)
        tables = {"messages": arrays.messages, "delay lines": arrays.lines, "history": arrays.histories}
        for name, found in (*tables.items(), ("parameters", arrays.theta)):
            for shape, array in found.items():
                self.memory.keep(f"{name} {list(shape)}", array)

    def _separate_messages(self) -> None:
        """Give late messages that are not summed rows of their own: what was sent must outlast what arrives."""
        for shape, inbox in self.arrays.program.inboxes.items():
            apart = inbox.direct is not None and len(inbox.late)
            self.places[shape] = np.arange(len(inbox.receivers))
            self.sent[shape] = self.arrays.messages[shape]
            if apart:
                self.sent[shape] = self.memory.new(f"sent {list(shape)}", len(inbox.receivers), self.batch, *shape)

    def _share_messages(self) -> None:
        """Give messages rows for as long as they wait: from the depth of their sender to that of their receiver."""
        depths = self.arrays.program.graph.depths
        for shape, inbox in self.arrays.program.inboxes.items():
            senders, receivers = (
                np.array([depths[name] for name in names], np.intp)
                for names in ([edge.post for edge in inbox.edges], [edge.pre for edge in inbox.edges])
            )
            self.places[shape] = rows_in_turn(senders, receivers)
            count = int(self.places[shape].max(initial=-1)) + 1
            self.sent[shape] = self.memory.new(f"sent {list(shape)}", count, self.batch, *shape)

    def _write(self, by_array_call: Container[int]) -> None:
        """Write all records; those that are pointed to come first."""
        program = self.arrays.program
        self.sender = self._senders()
        for step in program.steps:
            why = FOREIGN if id(step) in by_array_call else why_no_kernel(self.arrays, step)
            if why:
                self.array_steps[id(step)] = ArrayStep(self, step, why)
            else:
                self.steps[id(step)] = self._step(step, KINDS[step.op.name])
        self.answering = [
            (
                self.table.write(ANSWER, one.step.names[one.first], step=self.steps[id(one.step)], bundle=one.location),
                one,
            )
            for one in self.bundles
        ]
        for shape in program.groups:
            self.groups[shape] = self._group(shape)
        self.histories = [self._history(shape) for shape in program.histories]
        self.recalls = [self._recall(*late) for late in self._late]
        self.keeping = [self._past(past) for past in self.past_values.values()]

    # -- numbers by which changes are noted -----------------------------------------------------------------

    def number(self, count: int = 1) -> int:
        """Return the first of so many numbers by which it is noted that something has changed, as vertices have one."""
        self.numbers += count
        return self.numbers - count

    def note(self, count: int) -> int:
        """Return the first of so many notes about delay buffers."""
        self.buffer_notes += count
        return self.buffer_notes - count

    def blanks(self, shape: Shape) -> int:
        """Return where it is noted, for each parameter of a shape, that what it has learnt is still to be replaced."""
        if shape not in self.blank:
            self.blank[shape] = self.table.add(np.ones(len(self.learnt(shape)), np.int64))
        return self.blank[shape]

    def learnt(self, shape: Shape) -> np.ndarray:
        """Return what parameters of a shape have learnt."""
        if shape not in self.arrays.learnt:
            learnt = np.zeros_like(self.arrays.theta[shape])
            self.arrays.learnt[shape] = self.memory.keep(f"learnt {list(shape)}", learnt)
        return np.asarray(self.arrays.learnt[shape])

    def _senders(self) -> dict[Shape, WholeNumbers]:
        """Return which vertex sends each message of each inbox."""
        inboxes = self.arrays.program.inboxes.items()
        senders = {shape: np.zeros(len(inbox.receivers), np.int64) for shape, inbox in inboxes}
        for step in self.arrays.program.steps:
            for slot in step.slots:
                if slot.messages is not None:
                    senders[slot.shape][slot.messages] = self.vertices(step)
        return senders

    def vertices(self, step: Step) -> WholeNumbers:
        """Return the numbers of the vertices of a step."""
        first = self.first[step.shape] + step.rows.start
        return np.arange(first, first + len(step.names))

    # -- steps ----------------------------------------------------------------------------------------------

    def _step(self, step: Step, kind: Kind) -> int:
        units, row, size = self.arrays.units[step.shape], step.rows.start, prod(step.shape)
        stride, kept, owner = self.batch * size, kind.saved(step.call), step.names[0]
        self.widest = max([self.widest, size, kept, *(prod(slot.shape) for slot in step.slots)])
        shape = (len(step.names), self.batch, kept) if kept else (1,)
        saved = self.saved[id(step)] = self.memory.new(f"saved by {owner}", *shape)
        own = kind.operands(self, step)
        slots = [self._slot(step, slot, kind.index_map(step, place)) for place, slot in enumerate(step.slots)]
        return self.table.write(
            STEP,
            owner,
            own=own,
            count=len(step.names),
            first=self.first[step.shape] + row,
            slots=self.listed(SLOT, owner, slots),
            slot_count=len(step.slots),
            size=size,
            stride=stride,
            start=address_of(units.start) + row * stride,
            value=address_of(units.value) + row * stride if self.moving else -1,
            deviation=address_of(units.deviation) + row * stride,
            shift=address_of(units.shift) + row * stride if self.moving else -1,
            error=address_of(units.error) + row * stride,
            saved=address_of(saved),
            saved_stride=self.batch * kept,
            precision=-1 if units.precision is None else address_of(units.precision) + row * size,
            outputs=self._outputs(step),
            classes=step.shape[-1] if step.shape else 1,
            attribute=self.memory.constant(f"attribute of {owner}", attribute(step)),
            gain=self.memory.constant(f"gain of {owner}", self.arrays.rule.output_variance),
            unwritten=int(self.flowing and flows.unwritten(self, step)),
            may_change=int(any(self._may_change(slot) for slot in step.slots)),
        )

    def message(self, shape: Shape, numbers: slice) -> WholeNumbers:
        """Return where some error messages to a shape group are written."""
        found: WholeNumbers = address_of(self.sent[shape]) + self.places[shape][numbers] * self.batch * prod(shape)
        return found

    def listed(self, record: Record, owner: str, rows: Sequence[dict[str, int]]) -> int:
        """Write records that are given one by one."""
        columns = {name: [row[name] for row in rows] for name in record.fields}
        return self.table.write(record, owner, **columns)

    def _may_change(self, slot: Slot) -> bool:
        """Return whether some input of a slot can change in a run."""
        if slot.is_parameter:
            return False
        return bool((indices(slot.rows) < self.arrays.units[slot.shape].group.active).any())

    def _outputs(self, step: Step) -> int:
        """Write the target and the loss of each vertex whose error a loss sets in each tick; -1 where there is none."""
        found = self.losses(step)
        if not found:
            return -1
        for name in found:
            self.targets[name] = self.memory.new(f"target of {name}", self.batch, *step.shape)
        targets = [address_of(self.targets[name]) if name in found else -1 for name in step.names]
        codes = [entry(LOSS_KERNELS[found[name]], self.dtype) if name in found else 0 for name in step.names]
        return self.table.write(OUTPUT, step.names[0], target=targets, loss=codes)

    def losses(self, step: Step) -> dict[str, str]:
        """Return {output: loss} for those outputs of a step whose error is set by a loss in each tick."""
        task = self.arrays.task
        return {name: task.losses[name] for name in step.names if self.moving and not clamped(task, name)}

    def _slot(self, step: Step, slot: Slot, index_map: WholeNumbers | None) -> dict[str, int]:
        count, size = len(step.names), prod(slot.shape)
        values, starts, senders = self.inputs_of(slot, count, past=KINDS[step.op.name].remembers)
        messages = np.full(count, -1, np.int64)
        if slot.messages is not None:
            messages = self.message(slot.shape, slot.messages)
        edges = {"value": values, "start": starts, "message": messages, "sender": senders}
        return {
            "per_sample": 0 if slot.is_parameter else size,
            "extent": size,
            "map": -1 if index_map is None else self.table.add(index_map),
            "inputs": self.table.write(EDGE, step.names[0], **edges),
        }

    def inputs_of(self, slot: Slot, count: int, *, past: bool) -> tuple[WholeNumbers, WholeNumbers, WholeNumbers]:
        """Return where the inputs of a slot lie in a tick, where in the sweep, and which vertices they come from.

        ``past``: late ones are read from the past values of their vertex.
        """
        size = prod(slot.shape)
        rows = np.broadcast_to(indices(slot.rows), count).astype(np.int64)
        if slot.is_parameter:
            places = address_of(self.arrays.theta[slot.shape]) + rows * size
            return places, places, np.full(count, -1, np.int64)
        units, stride = self.arrays.units[slot.shape], self.batch * size
        starts = address_of(units.start) + rows * stride
        values = address_of(units.value) + rows * stride
        senders = np.where(rows < units.group.active, self.first[slot.shape] + rows, -1)
        if slot.late is not None and self.moving:
            late = slot.late.positions
            if past:
                senders[late] = [self.past_values[slot.shape, int(row)].late for row in rows[late]]
            else:
                values[late], senders[late] = self._late_input(slot, slot.late, rows[late])
        return values, starts, senders

    def _late_input(self, slot: Slot, late: Late, rows: WholeNumbers) -> tuple[WholeNumbers, WholeNumbers]:
        """Place the values that arrive late over a slot; they count as vertices of their own that may have moved."""
        values = self.memory.new(f"late values {list(slot.shape)}", len(rows), self.batch, *slot.shape)
        first = self.number(len(rows))
        self.late_values[id(slot)] = values
        self._late.append((slot.shape, values, first, late, rows))
        return address_of(values) + np.arange(len(rows)) * values[0].size, first + np.arange(len(rows))

    def weights_of(self, step: Step) -> WholeNumbers:
        """Return where the first weight of each vertex lies."""
        slot = next(slot for slot in step.parameters if slot.name == "weight")
        rows = np.broadcast_to(indices(slot.rows), len(step.names))
        return address_of(self.arrays.theta[slot.shape]) + rows * prod(slot.shape)

    # -- shape groups -----------------------------------------------------------------------------------------

    def _group(self, shape: Shape) -> int:
        units, size = self.arrays.units[shape], prod(shape)
        keep, gain = self.factors[shape] = self._factors(units.group.names[: units.group.free])
        bounds, messages = self._messages(shape)
        return self.table.write(
            GROUP,
            str(list(shape)),
            size=size,
            stride=self.batch * size,
            free=units.group.free,
            start=address_of(units.start),
            value=address_of(units.value) if self.moving else -1,
            deviation=address_of(units.deviation),
            shift=address_of(units.shift) if self.moving else -1,
            error=address_of(units.error),
            received=address_of(units.received),
            precision=-1 if units.precision is None else address_of(units.precision),
            keep=address_of(keep),
            gain=address_of(gain),
            first=self.first[shape],
            bounds=self.table.add(bounds),
            messages=messages,
            reference=-1,
            apart=int(shape in self.sent and self.sent[shape] is not self.arrays.messages[shape]),
        )

    def _factors(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return 1 - gamma and gamma of each free vertex."""
        task = self.arrays.task
        gamma = [task.step_sizes.get(name, task.rule.step_size) for name in names]
        keep, gain = self.memory.new("1 - gamma", len(names)), self.memory.new("gamma", len(names))
        keep[:], gain[:] = [1 - size for size in gamma], gamma
        return keep, gain

    def _messages(self, shape: Shape) -> tuple[WholeNumbers, int]:
        """Return where the messages of each free vertex begin, and the place of all, in the order of their sum."""
        inbox, owner = self.arrays.program.inboxes.get(shape), str(list(shape))
        if inbox is None:
            columns = dict.fromkeys(MESSAGE.fields, np.zeros(0, np.int64))
            free = self.arrays.units[shape].group.free
            return np.zeros(free + 1, np.int64), self.table.write(MESSAGE, owner, **columns)
        stride, count, late = self.batch * prod(shape), len(inbox.receivers), inbox.late
        sent, sender = self.message(shape, slice(0, count)), self.sender[shape].copy()
        delay, number = np.zeros(count, np.int64), np.full(count, -1)
        line = np.full(count, -1)
        if len(late):
            delay[late], number[late] = inbox.delay_buffer.length, self.late_messages + np.arange(len(late))
            line[late] = address_of(self.arrays.lines[shape]) + inbox.delay_buffer.offset * stride
            self.late_messages += len(late)
        kept = np.ones(count, bool)
        for message, one in self.summed.get(shape, {}).items():
            sent[message], sender[message], delay[message] = one.target, one.number, 0
            kept[message] = message == one.messages[0]
        columns = {"sent": sent, "sender": sender, "delay": delay, "line": line, "late": number}
        listed = kept[inbox.order]
        order = inbox.order[listed]
        place = self.table.write(MESSAGE, owner, **{name: column[order] for name, column in columns.items()})
        return np.concatenate([[0], np.cumsum(listed)])[inbox.starts], place

    # -- values that arrive late ------------------------------------------------------------------------------

    def _history(self, shape: Shape) -> tuple[int, int]:
        """Return the place of a history, and how many lines it has."""
        history, owner = self.arrays.program.histories[shape], str(list(shape))
        buffer = history.delay_buffer
        lines = self.table.write(LINE, owner, row=history.rows, first=buffer.offset, slots=buffer.length)
        memory = address_of(self.arrays.histories[shape])
        place = self.table.write(HISTORY, owner, group=self.groups[shape], lines=lines, memory=memory)
        return place, len(history.rows)

    def _recall(self, shape: Shape, values: np.ndarray, first: int, late: Late, rows: WholeNumbers) -> tuple[int, int]:
        """Return the place of values that arrive late over a slot, and how many these are."""
        buffer, owner = self.arrays.program.histories[shape].delay_buffer, str(list(shape))
        slots = {"first": buffer.offset[late.lines], "slots": buffer.length[late.lines]}
        edges = self.table.write(LATE, owner, row=rows, delay=late.delay, **slots)
        history = address_of(self.arrays.histories[shape])
        addresses = {"group": self.groups[shape], "history": history, "values": address_of(values)}
        return self.table.write(RECALL, owner, number=first, edges=edges, **addresses), len(rows)

    def _past(self, past: PastValues) -> int:
        shape, row = past.vertex
        size, units = prod(shape), self.arrays.units[shape]
        return self.table.write(
            PAST,
            units.group.names[row],
            values=address_of(past.values),
            length=len(past.values),
            size=size,
            batch=self.batch,
            value=address_of(units.value) + row * self.batch * size,
            vertex=self.first[shape] + row,
            late=past.late,
            note=past.note,
        )


def rows_in_turn(begins: WholeNumbers, ends: WholeNumbers) -> WholeNumbers:
    """Return a row for each message that is written at one depth and read at a smaller one: few in all.

    A row that has been read is written again first: it is still near. Depths come in descending order; at each,
    messages are read before others are written.

    >>> rows_in_turn(np.array([5, 5, 4, 3]), np.array([4, 2, 3, 1])).tolist()
    [0, 1, 0, 0]
    """
    rows, count = np.zeros(len(begins), np.intp), 0
    free: list[int] = []
    written, read = (np.argsort(-depths, kind="stable").tolist() for depths in (begins, ends))
    done = 0
    for message in written:
        while done < len(read) and ends[read[done]] >= begins[message]:
            free.append(int(rows[read[done]]))
            done += 1
        if free:
            rows[message] = free.pop()
        else:
            rows[message], count = count, count + 1
    return rows
