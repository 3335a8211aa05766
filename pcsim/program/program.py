"""What happens in a tick, as data: groups of equal shape, steps of equal vertices, delay lines.

A **group** holds all vertices of one shape, one row each: free vertices first, then outputs, then sources.
A **step** computes all vertices of one kind (equal op, shapes and attributes) at once; it owns a slice of
its group. An **inbox** collects the error messages addressed to one group, delays those that travel, and sums
them by receiver. Nothing here knows the batch, the number format or an array library beyond index arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.graph.levels import light_cone
from pcsim.ops.synapses.synapse import Synapses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pcsim.arrays import Shape
    from pcsim.graph.crossings import Crossing, Kind
    from pcsim.graph.graph import Edge, Graph
    from pcsim.ops.op import Call, Feedback, Op
    from pcsim.rules import Rule

Rows = slice | np.ndarray
"""Rows of a group: a slice (a view, no copy) where they are consecutive, else an index array."""


def rows_of(index: NDArray[np.intp]) -> Rows:
    """Return consecutive indices as a slice, any others as they are.

    >>> rows_of(np.array([3, 4, 5]))
    slice(3, 6, None)
    """
    if len(index) and np.array_equal(index, np.arange(index[0], index[0] + len(index))):
        return slice(int(index[0]), int(index[0]) + len(index))
    return index


def _numbers(rows: Rows) -> NDArray[np.intp]:
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


@dataclass(frozen=True)
class ShapeGroup:
    """All vertices of one shape. Rows: ``free`` free ones, outputs up to ``active``, then sources."""

    shape: Shape
    names: tuple[str, ...]
    free: int
    active: int
    precision: NDArray[Any] | None
    """(active, 1, *shape), or None where every precision is 1."""

    @property
    def size(self) -> int:
        """Elements of one row, per sample."""
        return prod(self.shape)


@dataclass(frozen=True)
class DelayBuffer:
    """Delay lines of one shape, laid end to end in one array of ``slots`` rows.

    Line n occupies rows ``offset[n]`` to ``offset[n] + length[n]``; what is written at tick t is read
    ``delay`` ticks later, 1 <= delay <= length, at ``offset + (t - delay) % length``.
    """

    offset: NDArray[np.intp]
    length: NDArray[np.intp]

    @property
    def slots(self) -> int:
        """Rows in all: the messages in flight."""
        return int(self.length.sum())

    def at(self, tick: int, lines: NDArray[np.intp] | slice = slice(None), delay: NDArray[np.intp] | int = 0) -> Any:
        """Return the rows that hold what was written ``delay`` ticks before ``tick``."""
        return self.offset[lines] + (tick - delay) % self.length[lines]


def delay_buffer(lengths: NDArray[np.intp]) -> DelayBuffer:
    """Return a delay buffer with lines of these lengths."""
    return DelayBuffer(np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.intp), lengths)


@dataclass(frozen=True)
class History:
    """Values of one group that some edge reads late: ``delay_buffer`` line n keeps group row ``rows[n]``."""

    rows: NDArray[np.intp]
    delay_buffer: DelayBuffer


@dataclass(frozen=True)
class Late:
    """The inputs of a slot that travel: positions in the slot, lines of the group's history, delays."""

    positions: NDArray[np.intp]
    lines: NDArray[np.intp]
    delay: NDArray[np.intp]


@dataclass(frozen=True)
class Channels:
    """Messages of one kind, to or from the vertices of one shape, that cross channels.

    ``rows[n]`` is the group row of the vertex whose value crossing n carries, or the inbox row of its error.
    """

    crossings: tuple[Crossing, ...]
    rows: NDArray[np.intp]


@dataclass(frozen=True)
class Slot:
    """One input of a step: the rows it reads and the messages it sends back."""

    shape: Shape
    rows: Rows
    is_parameter: bool
    """Rows are of a parameter group; what is sent back is a gradient contribution."""
    messages: slice | None
    """Rows of the inbox of this shape that the step writes; None: nothing travels back (a source)."""
    late: Late | None
    edges: tuple[Edge, ...]
    is_whole: bool = False
    """The sources that it reads hold whole numbers, which lie apart from the groups."""
    channels: Late | None = None
    """The inputs that cross channels: positions in the slot, and which of the crossings of values of the shape."""

    def copied(self, *, moving: bool) -> int:
        """Return the numbers, per sample, that are copied to be read at once: rows apart, or values of other ticks."""
        apart = not isinstance(self.rows, slice) or (moving and not self.late is self.channels is None)
        return len(self.edges) * prod(self.shape) if apart and not self.is_parameter else 0


@dataclass(frozen=True)
class ParameterSlot:
    """One parameter of a step: the rows of the parameter group; one row serves all if it is shared by all."""

    name: str
    shape: Shape
    rows: Rows

    @property
    def copied(self) -> int:
        """The numbers that are copied to be read at once: none where rows are consecutive."""
        return 0 if isinstance(self.rows, slice) else len(self.rows) * prod(self.shape)


@dataclass(frozen=True)
class Step:
    """All vertices of one kind: one forward call and one vector-Jacobian product per tick."""

    op: Op
    call: Call
    feedback: Feedback
    rows: slice
    """Of the group of shape ``call.shape``."""
    names: tuple[str, ...]
    levels: NDArray[np.intp]
    """Level of each vertex in ticks; -1 where no output can be reached."""
    depths: NDArray[np.intp]
    slots: tuple[Slot, ...]
    parameters: tuple[ParameterSlot, ...]

    @property
    def shape(self) -> Shape:
        """Shape of the vertices."""
        return self.call.shape

    @property
    def sends(self) -> bool:
        """Whether errors travel back over some input in every tick."""
        return any(slot.messages is not None for slot in self.slots)

    @property
    def learns(self) -> bool:
        """Whether some parameter receives from these vertices."""
        return bool(self.parameters) or any(slot.is_parameter for slot in self.slots)

    @property
    def joins(self) -> bool:
        """Whether all inputs are vertices of one shape: then one group, one inbox, and one gather serve all slots."""
        return len({slot.shape for slot in self.slots}) == 1 and not any(slot.is_parameter for slot in self.slots)

    @cached_property
    def rows_of_inputs(self) -> NDArray[np.intp]:
        """Row of the group that each input reads: (slots, vertices). Of the parameters where a slot is one."""
        rows = np.empty((len(self.slots), len(self.names)), np.intp)
        for line, slot in zip(rows, self.slots, strict=True):
            line[:] = _numbers(slot.rows)
        return rows

    @cached_property
    def messages_of_inputs(self) -> NDArray[np.intp]:
        """Row of the inbox of the slot's shape that each input's error message takes: (slots, vertices); -1 for none.

        Slots of one shape that send have consecutive messages, in the order of the slots.
        """
        messages = np.full((len(self.slots), len(self.names)), -1, np.intp)
        for line, slot in zip(messages, self.slots, strict=True):
            if slot.messages is not None:
                line[:] = _numbers(slot.messages)
        return messages

    @cached_property
    def value_delays(self) -> NDArray[np.intp]:
        """Ticks that each input's value has travelled: (slots, vertices); 0 where the value now is read."""
        delays = np.zeros((len(self.slots), len(self.names)), np.intp)
        for line, slot in zip(delays, self.slots, strict=True):
            if slot.late is not None:
                line[slot.late.positions] = slot.late.delay
        return delays


@dataclass(frozen=True)
class Inbox:
    """Error messages to the vertices of one shape.

    ``receivers[n]`` is the group row that message n is for. ``order`` lists the messages by receiver and,
    for one receiver, by edge key; ``starts`` cuts it by receiver (CSR). ``direct`` is the slice of rows
    where message n is the only one to row n of the slice: then nothing needs summing.
    """

    receivers: NDArray[np.intp]
    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    direct: slice | None
    late: NDArray[np.intp]
    """Messages that travel for a tick or more."""
    delay_buffer: DelayBuffer
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class Program:
    """A graph and a rule, lowered: what an array engine runs in each tick."""

    graph: Graph
    rule: Rule
    groups: Mapping[Shape, ShapeGroup]
    steps: tuple[Step, ...]
    inboxes: Mapping[Shape, Inbox]
    histories: Mapping[Shape, History]
    parameters: Mapping[Shape, tuple[str, ...]]
    """Names of the parameters of each shape, in the order of their rows."""
    channels: Mapping[tuple[Kind, Shape], Channels] = field(default_factory=dict)
    """What crosses channels, by kind of message and shape."""

    @cached_property
    def location(self) -> dict[str, tuple[Shape, int]]:
        """Shape group and row of each vertex."""
        return {name: (shape, row) for shape, group in self.groups.items() for row, name in enumerate(group.names)}

    @cached_property
    def swept(self) -> tuple[Step, ...]:
        """The steps that a feedforward sweep works out: all but those on cycles."""
        return tuple(step for step in self.steps if step.names[0] not in self.graph.cyclic)

    @cached_property
    def held(self) -> tuple[Step, ...]:
        """The steps on cycles: where they begin is given."""
        return tuple(step for step in self.steps if step.names[0] in self.graph.cyclic)

    @cached_property
    def arrivals(self) -> tuple[NDArray[np.intp], ...]:
        """The first tick at which the error of each vertex can differ from zero, by step; -1 where it never does."""
        cone = light_cone(self.graph, moving=self.rule.moving, learning=self.rule.fires.applies)
        first = {name: -1 if tick is None else tick for name, tick in cone.items()}
        return tuple(np.array([first[name] for name in step.names], np.intp) for step in self.steps)

    def memory(self, batch: int, itemsize: int) -> dict[str, int]:
        """Return the bytes that an array engine holds, by what they are for; a tick takes more for a moment.

        Under ``work`` is what a tick keeps for its derivatives: predictions, inputs that had to be copied, and one
        slope a unit, which most ops keep that are not linear.
        """
        one, moving = batch * itemsize, self.rule.moving
        units = sum(len(group.names) * group.size for group in self.groups.values())
        active = sum(group.active * group.size for group in self.groups.values())
        free = sum(group.free * group.size for group in self.groups.values())
        held = active if self.rule.keeps_multipliers else 0
        precision = sum(group.active * group.size for group in self.groups.values() if group.precision is not None)
        messages = sum(
            len(inbox.receivers) * prod(shape) for shape, inbox in self.inboxes.items() if inbox.direct is None
        )
        flying = sum(inbox.delay_buffer.slots * prod(shape) for shape, inbox in self.inboxes.items())
        history = sum(history.delay_buffer.slots * prod(shape) for shape, history in self.histories.items())
        crossing = sum(
            one.arrays * prod(shape) for (_, shape), found in self.channels.items() for one in found.crossings
        )
        copied = sum(slot.copied(moving=moving) for step in self.steps for slot in step.slots)
        weights = sum(slot.copied for step in self.steps for slot in step.parameters)
        found = {
            "values": (2 if moving else 1) * units * one,
            "state": ((3 if moving else 1) * active + held + free) * one + precision * itemsize,
            "messages": messages * one,
            "in flight": (flying + history + crossing) * one,
            "work": ((2 if moving else 1) * active + copied) * one + weights * itemsize,
            "parameters": sum(len(names) * prod(shape) for shape, names in self.parameters.items()) * itemsize,
        }
        synapses = sum({id(each): each.nbytes for each in self.synapses}.values())
        return found | ({"synapses": synapses} if synapses else {})

    @property
    def synapses(self) -> tuple[Synapses, ...]:
        """Synapses of each projection; equal ones may be the same arrays."""
        calls = (vertex.call.attributes for vertex in self.graph.vertices.values())
        return tuple(value for attributes in calls for _, value in attributes if isinstance(value, Synapses))

    def traffic(self, batch: int, itemsize: int) -> dict[str, int]:
        """Return the bytes and messages that cross edges in one tick, by direction."""
        forward = [edge for step in self.steps for slot in step.slots if not slot.is_parameter for edge in slot.edges]
        back = [edge for edge in forward if self.graph.carries_errors(edge)]
        size = {name: prod(vertex.shape) for name, vertex in self.graph.vertices.items()}
        return {
            "value messages": len(forward),
            "value bytes": sum(size[edge.pre] for edge in forward) * batch * itemsize,
            "error messages": len(back),
            "error bytes": sum(size[edge.pre] for edge in back) * batch * itemsize,
        }
