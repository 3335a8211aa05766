"""A lowered program as a table of whole numbers: where everything lies that a kernel reads and writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.arrays import zeros_in_lines
from pcsim.engines.array.rows import indices
from pcsim.engines.jit import bundles, common, dense, elements, flow, moves, population, shapes, weighted, wiring
from pcsim.engines.jit.array_steps import ArrayStep
from pcsim.engines.jit.firing import applies
from pcsim.engines.jit.functions import FUNCTIONS
from pcsim.engines.jit.native import address_of
from pcsim.engines.jit.products import packed_size
from pcsim.ops.linear import INNER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pcsim.arrays import Shape
    from pcsim.engines.array.session import ArraySession
    from pcsim.engines.base import Task
    from pcsim.engines.jit.bundles import Bundle
    from pcsim.engines.jit.wiring import Past, Sum, Wired
    from pcsim.ops.op import Call
    from pcsim.program.program import Slot, Step

Whole = np.ndarray
"""An array of whole numbers."""


@dataclass
class Table:
    """Whole numbers in the making, and where each run of them begins."""

    runs: list[Whole] = field(default_factory=lambda: [np.zeros(8, np.int64)])
    size: int = 8
    """The first numbers are for threads that wait for each other."""

    def add(self, numbers: Iterable[int] | Whole) -> int:
        """Append numbers and return the place of the first."""
        run = np.asarray(numbers if isinstance(numbers, np.ndarray) else list(numbers), np.int64)
        place, self.size = self.size, self.size + len(run)
        self.runs.append(run)
        return place

    def array(self) -> Whole:
        """Return all of them."""
        return np.concatenate(self.runs)


@dataclass(frozen=True)
class Kind:
    """How steps of one op are played: the kernel, its own operands, what it keeps for each sample, and who it suits."""

    kernel: Any
    own: Callable[[Layout, Step], list[int] | Whole]
    saved: Callable[[Call], int] = lambda call: prod(call.shape)
    refuses: Callable[[Task, Step], str] = lambda _task, _step: ""
    """Why the kernel does not suit a step; empty if it does."""
    learn: Any = None


@dataclass
class Packed:
    """The weights of a step in both packed forms, and which rows of the parameter bank they are."""

    shape: Shape
    rows: Whole
    forward: np.ndarray
    backward: np.ndarray


@dataclass(frozen=True)
class LateValues:
    """Values that arrive late over one slot: their bank, where they lie, and the number of the first.

    ``told`` says for each its row, the first slot and the slots of its line, and its delay.
    """

    shape: Shape
    place: int
    first: int
    told: Whole


@dataclass
class Layout:
    """Where everything lies, while the table is made; arrays that only compiled code uses are kept here."""

    session: ArraySession
    flowing: bool = False
    """Whether errors flow without messages where they can."""
    table: Table = field(default_factory=Table)
    arrays: list[np.ndarray] = field(default_factory=list)
    packed: list[Packed] = field(default_factory=list)
    sent: dict[Shape, np.ndarray] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)
    array_steps: dict[int, ArrayStep] = field(default_factory=dict)
    """Steps without a kernel."""
    banks: dict[Shape, int] = field(default_factory=dict)
    histories: list[tuple[int, int]] = field(default_factory=list)
    """Place and lines of each history."""
    lates: list[LateValues] = field(default_factory=list)
    targets: dict[str, np.ndarray] = field(default_factory=dict)
    """Targets of outputs whose loss is no clamp."""
    wired: list[Wired] = field(default_factory=list)
    bundles: list[Bundle] = field(default_factory=list)
    kept: list[np.ndarray] = field(default_factory=list)
    rings: list[np.ndarray] = field(default_factory=list)
    """What projections remember of past ticks."""
    pasts: dict[tuple[Shape, int], Past] = field(default_factory=dict)
    """Past values that projections read, by bank and row."""
    summed: dict[Shape, dict[int, Sum]] = field(default_factory=dict)
    """Messages that projections and bundles sum themselves."""
    blank: dict[Shape, int] = field(default_factory=dict)
    saved: dict[int, np.ndarray] = field(default_factory=dict)
    alike: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    """Rows of the same number, by number and length."""
    ring_notes: int = 0
    vertices: int = 0
    late_messages: int = 0
    widest: int = 1
    late_values: dict[int, np.ndarray] = field(default_factory=dict)
    """Values that arrive late, by slot: (late, batch, *shape)."""

    def __post_init__(self) -> None:
        self.batch, self.dtype = self.session.task.batch, self.session.task.dtype
        self.factors: dict[Shape, tuple[np.ndarray, np.ndarray]] = {}
        self.sloping = {name for name, kind in KINDS.items() if kind.kernel is elements.unary} | {"power"}
        self.first: dict[Shape, int] = {}
        for shape, bank in self.session.program.groups.items():
            self.first[shape] = self.vertices
            self.vertices += bank.active
        self.active = self.vertices
        self._separate_messages()
        self.sender = self._senders()
        for step in self.session.program.steps:
            if why := why_no_kernel(self.session, step):
                self.array_steps[id(step)] = ArrayStep(self, step, why)
            else:
                self.steps[id(step)] = self._step(step)
        self.answering = [
            (self.table.add([self.steps[id(one.step)], one.place]), len(one.receivers)) for one in self.bundles
        ]
        for shape in self.session.program.groups:
            self.banks[shape] = self._bank(shape)
        self.histories = [self._history(shape) for shape in self.session.program.histories]
        self.recalls = [(self._recall(late), len(late.told)) for late in self.lates]
        self.keeping = [self._keeping(past) for past in self.pasts.values()]

    def new(self, *shape: int) -> np.ndarray:
        """Return a new array of zeros that lasts as long as the layout."""
        array: np.ndarray = zeros_in_lines(np, shape, self.dtype)
        self.arrays.append(array)
        return array

    def many(self, number: int, count: int) -> int:
        """Return where so many times the same number lie."""
        if (number, count) not in self.alike:
            self.alike[number, count] = self.new(count)
            self.alike[number, count][...] = number
        return address_of(self.alike[number, count])

    def number(self) -> int:
        """Return a number by which it is noted that something has changed, as vertices have one."""
        self.vertices += 1
        return self.vertices - 1

    def note(self, count: int) -> int:
        """Return the first of so many notes about rings."""
        self.ring_notes += count
        return self.ring_notes - count

    def constant(self, value: float) -> int:
        """Return where a number lies."""
        array = self.new(1)
        array[0] = value
        return address_of(array)

    def blanks(self, shape: Shape) -> int:
        """Return where it is noted, for each parameter of a shape, that what it has learnt is still to be replaced."""
        if shape not in self.blank:
            self.blank[shape] = self.table.add(np.ones(len(self.learnt(shape)), np.int64))
        return self.blank[shape]

    def learnt(self, shape: Shape) -> np.ndarray:
        """Return what parameters of a shape have learnt."""
        if shape not in self.session.learnt:
            self.session.learnt[shape] = np.zeros_like(self.session.theta[shape])
        learnt: np.ndarray = self.session.learnt[shape]
        return learnt

    # -- steps ------------------------------------------------------------------------------------------

    def _separate_messages(self) -> None:
        """Give late messages that are not summed rows of their own: what was sent must outlast what arrives."""
        for shape, post in self.session.program.inboxes.items():
            apart = post.direct is not None and len(post.late)
            self.sent[shape] = (
                self.new(len(post.receivers), self.batch, *shape) if apart else self.session.messages[shape]
            )

    def _senders(self) -> dict[Shape, Whole]:
        """Return which vertex sends each message of each post."""
        senders = {
            shape: np.zeros(len(post.receivers), np.int64) for shape, post in self.session.program.inboxes.items()
        }
        for step in self.session.program.steps:
            numbers = self.first[step.shape] + step.rows.start + np.arange(len(step.names))
            for slot in step.slots:
                if slot.messages is not None:
                    senders[slot.shape][slot.messages] = numbers
        return senders

    def _step(self, step: Step) -> int:
        kind, units, row = KINDS[step.op.name], self.session.units[step.shape], step.rows.start
        size, table = prod(step.shape), self.table
        stride = self.batch * size
        kept = kind.saved(step.call)
        self.widest = max([self.widest, size, kept, *(prod(slot.shape) for slot in step.slots)])
        saved = self.new(len(step.names), self.batch, kept) if kept else self.new(1)
        self.saved[id(step)] = saved
        targets = self._targets(step)
        head = {
            common.OWN: table.add(kind.own(self, step)),
            common.COUNT: len(step.names),
            common.FIRST: self.first[step.shape] + row,
            common.SLOTS: self._slots(step),
            common.SLOT_COUNT: len(step.slots),
            common.SIZE: size,
            common.STRIDE: stride,
            common.START: address_of(units.start) + row * stride,
            common.VALUE: address_of(units.value) + row * stride if self.session.rule.moving else -1,
            common.DEVIATION: address_of(units.deviation) + row * stride,
            common.SHIFT: address_of(units.shift) + row * stride if self.session.rule.moving else -1,
            common.ERROR: address_of(units.error) + row * stride,
            common.SAVED: address_of(saved),
            common.SAVED_STRIDE: self.batch * kept,
            common.PRECISION: -1 if units.precision is None else address_of(units.precision) + row * size,
            common.TARGETS: -1 if targets is None else table.add(targets),
            common.CLASSES: step.shape[-1] if step.shape else 1,
            common.ATTRIBUTE: self.constant(attribute(step.call)),
            common.GAIN: self.constant(self.session.rule.output_variance),
            common.UNWRITTEN: int(self.flowing and flow.unwritten(self, step)),
            common.HEARS: int(any(self._changes(slot) for slot in step.slots)),
        }
        return table.add([head[number] for number in range(common.HEAD)])

    def _changes(self, slot: Slot) -> bool:
        """Return whether some input of a slot can change in a run."""
        if slot.is_parameter:
            return False
        return bool((indices(slot.rows) < self.session.units[slot.shape].group.active).any())

    def _targets(self, step: Step) -> Whole | None:
        """Return where the targets of outputs lie whose loss is no clamp; None where there are none."""
        task = self.session.task
        lossy = [task.losses.get(name, "squared_error") != "squared_error" for name in step.names]
        if not self.has_losses(step):
            return None
        for name, has in zip(step.names, lossy, strict=True):
            if has:
                self.targets[name] = self.new(self.batch, *step.shape)
        return np.array([address_of(self.targets[name]) if name in self.targets else -1 for name in step.names])

    def has_losses(self, step: Step) -> bool:
        """Return whether some vertex is an output whose loss is no clamp, under moving predictions."""
        task = self.session.task
        return task.rule.moving and any(
            task.losses.get(name, "squared_error") != "squared_error" for name in step.names
        )

    def _slots(self, step: Step) -> int:
        blocks = [self._slot(step, slot) for slot in step.slots]
        return self.table.add(np.concatenate(blocks) if blocks else np.zeros(0, np.int64))

    def _slot(self, step: Step, slot: Slot) -> Whole:
        count, size = len(step.names), prod(slot.shape)
        mapped = KINDS[step.op.name].kernel in MAPPED and self._map(step, slot)
        head = [
            0 if slot.is_parameter else size,
            size,
            self.table.add(mapped) if isinstance(mapped, np.ndarray) else -1,
        ]
        inputs, swept, senders = self.inputs_of(slot, count, ringed=step.op.name == "projection")
        messages = np.full(count, -1, np.int64)
        if slot.messages is not None:
            rows = np.arange(slot.messages.start, slot.messages.stop)
            messages = address_of(self.sent[slot.shape]) + rows * self.batch * size
        return np.concatenate([np.array(head, np.int64), inputs, swept, messages, senders])

    def inputs_of(self, slot: Slot, count: int, *, ringed: bool) -> tuple[Whole, Whole, Whole]:
        """Return where the inputs of a slot lie in a tick, where in the sweep, and which vertices they are.

        ``ringed``: late ones are read from the past values of their vertex.
        """
        size = prod(slot.shape)
        rows = np.broadcast_to(indices(slot.rows), count).astype(np.int64)
        if slot.is_parameter:
            place = address_of(self.session.theta[slot.shape]) + rows * size
            return place, place, np.full(count, -1, np.int64)
        units, stride = self.session.units[slot.shape], self.batch * size
        swept = address_of(units.start) + rows * stride
        inputs = address_of(units.value) + rows * stride
        senders = np.where(rows < units.group.active, self.first[slot.shape] + rows, -1)
        if slot.late is not None and self.session.rule.moving:
            late = slot.late.positions
            if ringed:
                senders[late] = [self.pasts[slot.shape, int(row)].late for row in rows[late]]
            else:
                inputs[late], senders[late] = self._late(slot, rows[late])
        return inputs, swept, senders

    def _late(self, slot: Slot, rows: Whole) -> tuple[Whole, Whole]:
        """Lay out the values that arrive late over a slot; they count as vertices of their own that may have moved."""
        late = slot.late
        assert late is not None
        values = self.new(len(rows), self.batch, *slot.shape)
        history = self.session.program.histories[slot.shape]
        first, self.vertices = self.vertices, self.vertices + len(rows)
        ring = history.delay_buffer
        told = np.stack([rows, ring.offset[late.lines], ring.length[late.lines], late.delay], axis=1)
        self.late_values[id(slot)] = values
        self.lates.append(LateValues(slot.shape, address_of(values), first, told))
        return address_of(values) + np.arange(len(rows)) * self.batch * prod(slot.shape), first + np.arange(len(rows))

    def _map(self, step: Step, slot: Slot) -> Whole | None:
        if KINDS[step.op.name].kernel is shapes.rearrange:
            number = next(place for place, other in enumerate(step.slots) if other is slot)
            return gathered(step, number)[0]
        return broadcast(slot.shape, step.shape)

    # -- banks ------------------------------------------------------------------------------------------

    def _bank(self, shape: Shape) -> int:
        session, units = self.session, self.session.units[shape]
        bank, size, moving = units.group, prod(shape), self.session.rule.moving
        keep, gain = self.factors[shape] = self._factors(bank.names[: bank.free])
        bounds, messages = self._messages(shape)
        operands = {
            moves.SIZE: size,
            moves.STRIDE: self.batch * size,
            moves.FREE: bank.free,
            moves.START: address_of(units.start),
            moves.VALUE: address_of(units.value) if moving else -1,
            moves.DEVIATION: address_of(units.deviation),
            moves.SHIFT: address_of(units.shift) if moving else -1,
            moves.ERROR: address_of(units.error),
            moves.RECEIVED: address_of(units.received),
            moves.PRECISION: -1 if units.precision is None else address_of(units.precision),
            moves.KEEP: address_of(keep),
            moves.GAIN: address_of(gain),
            moves.FIRST: self.first[shape],
            moves.BOUNDS: self.table.add(bounds),
            moves.MESSAGES: self.table.add(messages.ravel()),
            moves.APART: int(shape in self.sent and self.sent[shape] is not session.messages[shape]),
        }
        return self.table.add([operands[number] for number in range(moves.BANK)])

    def _factors(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return 1 - gamma and gamma of each free row."""
        task = self.session.task
        gamma = [task.step_sizes.get(name, task.rule.step_size) for name in names]
        keep, gain = self.new(len(names)), self.new(len(names))
        keep[:], gain[:] = [1 - size for size in gamma], gamma
        return keep, gain

    def activated(self, step: Step) -> bool:
        """Return whether a step applies a function to what it sums."""
        return activation(step.call["activation"]) != 0

    def weight_of(self, step: Step, row: int) -> int:
        """Return where the first weight of a vertex lies."""
        slot = next(slot for slot in step.parameters if slot.name == "weight")
        place = int(np.broadcast_to(indices(slot.rows), len(step.names))[row])
        return address_of(self.session.theta[slot.shape]) + place * prod(slot.shape)

    def _messages(self, shape: Shape) -> tuple[Whole, Whole]:
        """Return where the messages of each free row begin, and the messages by receiver, in the order of their sum."""
        post = self.session.program.inboxes.get(shape)
        free = self.session.units[shape].group.free
        if post is None:
            return np.zeros(free + 1, np.int64), np.zeros((0, moves.MESSAGE), np.int64)
        stride, count = self.batch * prod(shape), len(post.receivers)
        found = np.zeros((count, moves.MESSAGE), np.int64)
        found[:, moves.WHERE] = address_of(self.sent[shape]) + np.arange(count) * stride
        found[:, moves.SENDER] = self.sender[shape]
        if len(post.late):
            found[post.late, moves.DELAY] = post.delay_buffer.length
            found[post.late, moves.LINE] = address_of(self.session.lines[shape]) + post.delay_buffer.offset * stride
            found[post.late, moves.NUMBER] = self.late_messages + np.arange(len(post.late))
            self.late_messages += len(post.late)
        kept = np.ones(count, bool)
        for message, one in self.summed.get(shape, {}).items():
            found[message, [moves.WHERE, moves.SENDER, moves.DELAY]] = one.place, one.number, 0
            kept[message] = message == one.messages[0]
        listed = kept[post.order]
        return np.concatenate([[0], np.cumsum(listed)])[post.starts], found[post.order[listed]]

    def _keeping(self, past: Past) -> int:
        shape, row = past.rows
        size, units = prod(shape), self.session.units[shape]
        value = address_of(units.value) + row * self.batch * size
        told = [address_of(past.values), len(past.values), size, self.batch, value, self.first[shape] + row]
        return self.table.add([*told, past.late, past.note])

    def _history(self, shape: Shape) -> tuple[int, int]:
        history = self.session.program.histories[shape]
        lines = len(history.rows)
        told = np.concatenate([history.rows, history.delay_buffer.offset, history.delay_buffer.length])
        place = address_of(self.session.histories[shape])
        return self.table.add(np.concatenate([[self.banks[shape], lines, place], told])), lines

    def _recall(self, late: LateValues) -> int:
        history = address_of(self.session.histories[late.shape])
        return self.table.add(
            np.concatenate([[self.banks[late.shape], history, late.place, late.first], late.told.ravel()])
        )


# -- what steps need of their own -------------------------------------------------------------------------


def attribute(call: Call) -> float:
    """Return the constant of an op: a slope, an exponent."""
    found = dict(call.attributes)
    value = found.get("slope", found.get("exponent"))
    return 0.01 if value is None else value


def activation(name: str) -> int:
    """Return the number of a function; 0 is the identity."""
    return 0 if name in ("none", "identity") else FUNCTIONS[name]


def of_unary(layout: Layout, step: Step) -> Whole:
    """Return the function, and room for a list of vertices."""
    return np.concatenate([[activation(step.op.name)], np.zeros(len(step.names), np.int64)])


ARITHMETIC = {
    "add": elements.ADD,
    "subtract": elements.SUBTRACT,
    "multiply": elements.MULTIPLY,
    "divide": elements.DIVIDE,
}


def of_arithmetic(layout: Layout, step: Step) -> list[int]:
    """Return what is done with the inputs."""
    power = elements.POWER if len(step.slots) == 1 else elements.POWER_OF
    return [ARITHMETIC.get(step.op.name, power)]


def of_affine(layout: Layout, step: Step) -> Whole:
    """Return the sizes of a layer and where its weights lie, packed for this step."""
    call, count, session = step.call, len(step.names), layout.session
    units, fan_in = call["units"], call.shapes[0][-1]
    slots = {slot.name: slot for slot in step.parameters}
    weight, bias = slots["weight"], slots.get("bias")
    used = np.broadcast_to(indices(weight.rows), count)
    rows, which = np.unique(used, return_inverse=True)
    like = np.zeros(0, layout.dtype)
    there, back = packed_size(like, fan_in, units), packed_size(like, units, fan_in)
    packed = Packed(weight.shape, rows, layout.new(len(rows) * there), layout.new(len(rows) * back))
    layout.packed.append(packed)
    none = np.full(count, -1, np.int64)
    biases = none if bias is None else np.broadcast_to(indices(bias.rows), count) * units
    head = [prod(call.shape[:-1]), fan_in, units, activation(call["activation"]), int(call["convention"] == INNER)]
    return np.concatenate([
        head,
        address_of(packed.forward) + which * there,
        address_of(packed.backward) + which * back,
        none if bias is None else address_of(session.theta[bias.shape]) + biases,
        address_of(layout.learnt(weight.shape)) + used * units * fan_in,
        none if bias is None else address_of(layout.learnt(bias.shape)) + biases,
        layout.blanks(weight.shape) + used,
        np.zeros(2 * count + 1, np.int64),
    ])  # fmt: skip


def of_projection(layout: Layout, step: Step) -> Whole:
    """Return where the blocks, weights and rings of a projection lie."""
    wired, own = wiring.wire(layout, step, activation(step.call["activation"]))
    layout.wired.append(wired)
    return own


def of_weighted_sum(layout: Layout, step: Step) -> Whole:
    """Return the activation, where weights and biases lie, and bundles."""
    session, count = layout.session, len(step.names)
    slots = {slot.name: slot for slot in step.parameters}
    code = [activation(step.call["activation"]), int("bias" in slots)]
    places = [
        address_of(session.theta[slot.shape]) + np.broadcast_to(indices(slot.rows), count) * prod(slot.shape)
        for slot in (slots["weight"], slots.get("bias", slots["weight"]))
    ]
    return np.concatenate([code, *places, bundles.bundle(layout, step)])


def of_rearranged(layout: Layout, step: Step) -> list[int]:
    """Return where the factor lies."""
    return [layout.constant(gathered(step, 0)[1])]


def gathered(step: Step, slot: int) -> tuple[Whole, float]:
    """Return which element of the vertex each element of an input is added to (-1: none), and the factor.

    A linear op tells by what it sends back.
    """
    inputs = tuple(np.zeros((1, 1, *shape)) for shape in step.call.shapes)
    mu, saved = step.op.forward(np, step.call, {}, inputs)
    numbers = 1.0 + np.arange(mu.size).reshape(mu.shape)
    ones, told = (
        step.op.to_inputs(np, step.call, {}, inputs, mu, saved, g)[slot].ravel() for g in (np.ones_like(mu), numbers)
    )
    factor = float(ones[ones != 0][0]) if ones.any() else 1.0
    return np.where(ones != 0, np.rint(told / factor), 0).astype(np.int64) - 1, factor


def broadcast(inner: Shape, outer: Shape) -> Whole | None:
    """Return which element of an input each element of the vertex takes; None where they are the same."""
    if prod(inner) == prod(outer):
        return None
    places = np.arange(prod(inner)).reshape((1,) * (len(outer) - len(inner)) + inner)
    return np.broadcast_to(places, outer).ravel()


def of_softmax(layout: Layout, step: Step) -> list[int]:
    """Return whether its logarithm is taken, and the extents before, along and behind the axis."""
    shape = step.shape
    axis = step.call["axis"] % len(shape)
    return [int(step.op.name == "log_softmax"), prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])]


def of_matmul(layout: Layout, step: Step) -> list[int]:
    """Return the extents of both matrices; a vector is a matrix of one row, or of one column."""
    a, b = step.call.shapes
    return [a[0] if len(a) == 2 else 1, a[-1], b[-1] if len(b) == 2 else 1]


def layer_saved(call: Call) -> int:
    """Return what a layer keeps: the slope where the function is applied."""
    if not activation(call["activation"]):
        return 0
    return prod(call.shapes[0]) if dict(call.attributes).get("convention") == INNER else prod(call.shape)


def unary_saved(name: str) -> Callable[[Call], int]:
    """Return what a function of one input keeps: its slope."""
    return lambda call: prod(call.shape) if activation(name) else 0


def parameter_inputs(_task: Task, step: Step) -> str:
    """Refuse inputs that are parameters: they have no value for each sample."""
    return "an input is a parameter" if any(slot.is_parameter for slot in step.slots) else ""


def refused_projection(task: Task, step: Step) -> str:
    """Return why a projection is not played: what it sends late is worked out when it arrives, by its weights then."""
    if len(step.call["synapses"]) >= 1 << 32:
        return "more synapses than 32 bits tell apart"
    if applies(task.rule) and any(edge.error_delay for slot in step.slots for edge in slot.edges):
        return "its weights change while errors are on their way"
    return parameter_inputs(task, step)


def nothing(call: Call) -> int:
    """Return that nothing is kept."""
    return 0


POWERS = {"power": lambda call: prod(call.shape) * (1 if len(call.shapes) == 1 else 2)}

KINDS: dict[str, Kind] = {
    "affine": Kind(dense.affine, of_affine, layer_saved, parameter_inputs, dense.affine_learn),
    "projection": Kind(population.project, of_projection, layer_saved, refused_projection, population.learn),
    "weighted_sum": Kind(weighted.weighted_sum, of_weighted_sum),
    "add": Kind(elements.arithmetic, of_arithmetic, nothing),
    "subtract": Kind(elements.arithmetic, of_arithmetic, nothing),
    "multiply": Kind(elements.arithmetic, of_arithmetic, nothing),
    "divide": Kind(elements.arithmetic, of_arithmetic),
    "power": Kind(elements.arithmetic, of_arithmetic, POWERS["power"]),
    "softmax": Kind(shapes.softmax, of_softmax),
    "log_softmax": Kind(shapes.softmax, of_softmax),
    "matmul": Kind(shapes.matmul, of_matmul, nothing),
    **{name: Kind(elements.unary, of_unary, unary_saved(name)) for name in ("identity", *FUNCTIONS)},
    **{
        name: Kind(shapes.rearrange, of_rearranged, nothing)
        for name in ("sum", "mean", "concat", "slice", "reshape", "transpose")
    },
}
"""How each op is played. A step of any other op is one array call."""

LOSS_KERNELS = {"squared_error": None, "cross_entropy": common.cross_entropy}
"""What sets the error of an output within a tick, where predictions move; None: the output is clamped to its target."""

MAPPED = (elements.arithmetic, shapes.rearrange)


def why_no_kernel(session: ArraySession, step: Step) -> str:
    """Return why a step is played by an array call and not by a kernel; empty if it has one."""
    task, kind = session.task, KINDS.get(step.op.name)
    if kind is None:
        return f"op {step.op.name!r} has no kernel"
    losses = {task.losses.get(name, "squared_error") for name in step.names} if task.rule.moving else set()
    if unknown := sorted(losses - set(LOSS_KERNELS)):
        return f"loss {unknown[0]!r} has no kernel"
    return kind.refuses(task, step)
