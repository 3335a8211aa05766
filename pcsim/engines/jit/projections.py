"""Projections as ``population`` runs them: synapses in blocks, weights twice, delay buffers, and who sums what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.array.rows import indices
from pcsim.engines.jit.kernels import sparse
from pcsim.engines.jit.kernels.native import address_of
from pcsim.engines.jit.kernels.population import DIRECTION, EDGES, PROJECTION, SUM, VERTEX
from pcsim.ops.synapses.projection import transposed_product

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.arrays import Shape
    from pcsim.engines.jit.kernels.sparse import Blocks
    from pcsim.engines.jit.layout import Layout
    from pcsim.engines.jit.table import WholeNumbers
    from pcsim.program.program import Inbox, ParameterSlot, Slot, Step


@dataclass(frozen=True)
class PastValues:
    """The last values of one vertex, (ticks, batch, neurons); its shape and row; the numbers by which it is noted."""

    values: np.ndarray
    vertex: tuple[Shape, int]
    late: int
    note: int


@dataclass(frozen=True)
class SummedMessages:
    """Messages from one vertex that are summed as one.

    Attributes
    ----------
    messages : their numbers in the inbox
    delays : which delays of a projection they are of
    target : where the sum goes
    number : by which it is noted that it has changed
    """

    messages: tuple[int, ...]
    delays: tuple[int, ...]
    target: int
    number: int


@dataclass(frozen=True)
class Projection:
    """One step of projections.

    Attributes
    ----------
    forward, backward : the synapses, the same for all vertices of the step
    weights, weights_back : (vertices, synapses), in the order of the blocks
    errors : (vertices, ticks, batch, neurons after), what was sent back; no ticks where nothing is
    error_delays : (delays, vertices)
    whole : whether some error is of all neurons of its vertex together: then one thread has them all
    """

    step: Step
    forward: Blocks
    backward: Blocks
    weights: np.ndarray
    weights_back: np.ndarray
    errors: np.ndarray
    error_delays: WholeNumbers
    whole: bool

    def loads(self, blocks: Blocks) -> WholeNumbers:
        """Return the synapses of each block of each vertex."""
        return np.tile(np.diff(blocks.starts[:: blocks.delays * blocks.segments]), len(self.step.names))


def lay_out(layout: Layout, step: Step, function: int) -> tuple[Projection, int]:
    """Place what a step of projections needs; return it and the place of its operands."""
    synapses, count, owner = step.call["synapses"], len(step.names), step.names[0]
    forward, backward = sparse.forward_blocks(synapses), sparse.backward_blocks(synapses)
    delays = np.array([[edge.error_delay for edge in slot.edges] for slot in step.slots], np.int64)
    length = 1 + int(delays.max(initial=0)) if step.sends else 0
    new = layout.memory.new
    weights, weights_back = (new(f"weights of {owner}, by neuron {way}", count, len(synapses)) for way in _WAYS)
    errors = new(f"past errors of {owner}", count, length, layout.batch, synapses.units)
    layout.delay_buffers.append(errors)
    found = Projection(step, forward, backward, weights, weights_back, errors, delays, bool(layout.losses(step)))
    own = layout.table.write(
        PROJECTION,
        owner,
        delays=len(step.slots),
        function=function,
        flushed=int(not layout.arrays.rule.fires.waits),
        batch=layout.batch,
        length=length,
        buffer=address_of(errors),
        notes=layout.note(count * (1 + length)),
        forward=_direction(layout, owner, forward, synapses.units),
        backward=_direction(layout, owner, backward, synapses.fan_out),
        vertices=layout.table.write(VERTEX, owner, **_vertices(layout, found)),
        edges=_edges(layout, found),
    )
    return found, own


_WAYS = ("after", "before")


def _vertices(layout: Layout, projection: Projection) -> dict[str, Any]:
    """Return what each vertex has of its own."""
    step = projection.step
    slots, count, theta = {slot.name: slot for slot in step.parameters}, len(step.names), layout.arrays.theta
    weight, bias = slots["weight"], slots.get("bias")
    each = np.arange(count) * projection.weights.shape[1]
    sums = [_sums(layout, step, row) for row in range(count)]
    return {
        "parameter": _addresses(theta[weight.shape], weight, count),
        "forward": address_of(projection.weights) + each,
        "backward": address_of(projection.weights_back) + each,
        "bias": -1 if bias is None else _addresses(theta[bias.shape], bias, count),
        "longest": projection.error_delays.max(axis=0),
        "sums": [_write_sums(layout, step.names[row], found) for row, found in enumerate(sums)],
        "sum_count": [len(found) for found in sums],
        "weight_learnt": _addresses(layout.learnt(weight.shape), weight, count),
        "bias_learnt": -1 if bias is None else _addresses(layout.learnt(bias.shape), bias, count),
    }


def _addresses(parameters: np.ndarray, slot: ParameterSlot, count: int) -> WholeNumbers:
    """Return where the parameter of each vertex lies among those of its shape."""
    found: WholeNumbers = np.broadcast_to(indices(slot.rows), count) * parameters[0].size + address_of(parameters)
    return found


def _direction(layout: Layout, owner: str, blocks: Blocks, receivers: int) -> int:
    order = layout.memory.keep(f"order of synapses of {owner}", blocks.order.astype(np.uint32))
    codes = layout.memory.keep(f"synapses of {owner}", blocks.codes)
    return layout.table.write(
        DIRECTION,
        owner,
        blocks=len(blocks.bounds) - 1,
        bounds=layout.table.add(blocks.bounds),
        starts=layout.table.add(blocks.starts),
        codes=codes.ctypes.data // 4,
        order=order.ctypes.data // 4,
        segments=blocks.segments,
        receivers=receivers,
    )


def _write_sums(layout: Layout, owner: str, sums: Sequence[SummedMessages]) -> int:
    rows = [
        {"target": one.target, "number": one.number, "members": layout.table.add(one.delays), "count": len(one.delays)}
        for one in sums
    ]
    return layout.listed(SUM, owner, rows)


def _edges(layout: Layout, projection: Projection) -> int:
    """Write what each delay and vertex has of its own: how long errors and values travel, where past values lie."""
    columns: dict[str, list[WholeNumbers]] = {name: [] for name in EDGES.fields}
    for delay, slot in enumerate(projection.step.slots):
        value_delay, values, length = _past_of(layout, slot)
        rows = {"error_delay": projection.error_delays[delay], "value_delay": value_delay}
        for name, column in {**rows, "values": values, "length": length}.items():
            columns[name].append(column)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    return layout.table.write(EDGES, projection.step.names[0], **joined)


def _past_of(layout: Layout, slot: Slot) -> WholeNumbers:
    """Return (3, vertices): the delay of each value, where past values lie, how many; 0, -1, 0 where none is read."""
    found = np.zeros((3, len(slot.edges)), np.int64)
    found[1] = -1
    pasts = _past_values(layout, slot)
    if slot.late is not None:
        for position, delay in zip(slot.late.positions, slot.late.delay, strict=True):
            if (past := pasts.get(int(position))) is not None:
                found[:, position] = delay, address_of(past.values), len(past.values)
    return found


def _past_values(layout: Layout, slot: Slot) -> dict[int, PastValues]:
    """Return the past values that a slot reads, by position; they are kept once for each vertex read."""
    if slot.late is None or not layout.moving:
        return {}
    history = layout.arrays.program.histories[slot.shape]
    found = {}
    for position, line in zip(slot.late.positions, slot.late.lines, strict=True):
        vertex = slot.shape, int(history.rows[line])
        if vertex not in layout.past_values:
            ticks = 1 + int(history.delay_buffer.length[line])
            values = layout.memory.new(f"past values {list(slot.shape)}", ticks, layout.batch, *slot.shape)
            layout.delay_buffers.append(values)
            layout.past_values[vertex] = PastValues(values, vertex, layout.number(), layout.note(1))
        found[int(position)] = layout.past_values[vertex]
    return found


def _sums(layout: Layout, step: Step, row: int) -> tuple[SummedMessages, ...]:
    """Return how the messages of one vertex are summed: as one where they come first of what their receiver gets."""
    members: dict[tuple[Shape, int], list[tuple[int, int]]] = {}
    for delay, slot in enumerate(step.slots):
        if slot.messages is not None:
            message = slot.messages.start + row
            receiver = int(layout.arrays.program.inboxes[slot.shape].receivers[message])
            members.setdefault((slot.shape, receiver), []).append((message, delay))
    found = []
    for (shape, receiver), pairs in members.items():
        delays = dict(pairs)
        runs = _runs(layout.arrays.program.inboxes[shape], receiver, delays)
        sums = layout.memory.new(f"sums to {list(shape)}", len(runs), layout.batch, *shape)
        for number, run in enumerate(runs):
            target = address_of(sums) + number * layout.batch * step.call["synapses"].fan_out
            one = SummedMessages(run, tuple(delays[message] for message in run), target, layout.number())
            layout.summed.setdefault(shape, {}).update(dict.fromkeys(run, one))
            found.append(one)
    return tuple(found)


def _runs(inbox: Inbox, receiver: int, delays: dict[int, int]) -> list[tuple[int, ...]]:
    """Cut the messages from one vertex to another: those that are first in the sum are one, each later one is alone."""
    order = inbox.order[inbox.starts[receiver] : inbox.starts[receiver + 1]].tolist()
    first = next((number for number, message in enumerate(order) if message not in delays), len(order))
    return [tuple(order[:first])] * (first > 0) + [(message,) for message in order[first:] if message in delays]


# -- shares and messages ----------------------------------------------------------------------------------


def shares(loads: WholeNumbers, threads: int) -> WholeNumbers:
    """Return (threads + 1,), the first unit of each thread, such that loads are nearly equal."""
    ends = np.concatenate([[0], np.cumsum(loads)])
    middles = (ends[1:] + ends[:-1]) / 2
    return np.searchsorted(middles, np.linspace(0, ends[-1] + 1, threads + 1)).astype(np.int64)


def message(layout: Layout, projection: Projection, delay: int, row: int, tick: int) -> np.ndarray:
    """Return the error message that is due over one edge, (batch, neurons before); what is not finite is not shown."""
    step = projection.step
    synapses = step.call["synapses"]
    weight = next(slot for slot in step.parameters if slot.name == "weight")
    used = int(np.broadcast_to(indices(weight.rows), len(step.names))[row])
    sent = tick - int(projection.error_delays[delay, row])
    g = projection.errors[row, sent % projection.errors.shape[1]]
    back = transposed_product(np, synapses, layout.arrays.theta[weight.shape][used][None], g[None])[0]
    found = back[:, delay * synapses.fan_out : (delay + 1) * synapses.fan_out]
    return np.where(np.isfinite(found), found, 0)
