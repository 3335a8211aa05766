"""Projections as ``population`` plays them: their synapses in blocks, their weights twice, rings, and who sums what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.array.rows import indices
from pcsim.engines.jit import sparse
from pcsim.engines.jit.firing import waits
from pcsim.engines.jit.native import address_of
from pcsim.ops.synapses.projection import transposed_product

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.arrays import Shape
    from pcsim.engines.jit.layout import Layout
    from pcsim.engines.jit.sparse import Blocks
    from pcsim.program.program import Inbox, ParameterSlot, Slot, Step

Whole = np.ndarray
"""An array of whole numbers."""


@dataclass(frozen=True)
class Past:
    """The last values of one vertex, (ticks, batch, neurons); its bank and row; its numbers among notes."""

    values: np.ndarray
    rows: tuple[Shape, int]
    late: int
    note: int


@dataclass(frozen=True)
class Sum:
    """Delays whose messages from one vertex are summed as one: which of the step's, where to, and its number."""

    messages: tuple[int, ...]
    kinds: tuple[int, ...]
    place: int
    number: int


@dataclass(frozen=True)
class Wired:
    """One step of projections.

    Attributes
    ----------
    forward, backward : the synapses, the same for all vertices of the step
    weights, weights_back : (vertices, synapses), in the order of the blocks
    ring : (vertices, ticks, batch, neurons after), what was sent back; no ticks where nothing is
    error_delays : (delays, vertices)
    late : {slot: what it reads, by vertex}
    """

    step: Step
    forward: Blocks
    backward: Blocks
    weights: np.ndarray
    weights_back: np.ndarray
    ring: np.ndarray
    error_delays: Whole
    sums: tuple[tuple[Sum, ...], ...]
    pasts: dict[int, dict[int, Past]]
    whole: bool
    """Whether some error is of all neurons of its vertex together: then one thread has them all."""

    def loads(self, blocks: Blocks) -> Whole:
        """Return the synapses of each block of each vertex."""
        return np.tile(np.diff(blocks.starts[:: blocks.delays * blocks.segments]), len(self.step.names))


def wire(layout: Layout, step: Step, activation: int) -> tuple[Wired, Whole]:
    """Lay out a step of projections; return it and its own operands."""
    synapses, count, session = step.call["synapses"], len(step.names), layout.session
    forward, backward = sparse.forward_blocks(synapses), sparse.backward_blocks(synapses)
    weights, weights_back = layout.new(count, len(synapses)), layout.new(count, len(synapses))
    error_delays = np.array([[edge.error_delay for edge in slot.edges] for slot in step.slots], np.int64)
    length = 1 + int(error_delays.max(initial=0)) if step.sends else 0
    ring = layout.new(count, length, layout.batch, synapses.units)
    layout.rings.append(ring)
    notes = layout.note(count * (1 + length))
    sums = tuple(_sums(layout, step, row) for row in range(count))
    pasts = {number: _pasts(layout, slot) for number, slot in enumerate(step.slots)}
    slots = {slot.name: slot for slot in step.parameters}
    weight, bias = slots["weight"], slots.get("bias")
    none = np.full(count, -1)
    head = [
        *_direction(layout, forward, synapses.units),
        *_direction(layout, backward, synapses.fan_out),
        len(step.slots),
        activation,
        int(not waits(session.rule)),
        layout.batch,
        length,
        address_of(ring),
        notes,
    ]
    each = np.arange(count) * len(synapses)
    columns = [
        _rows(session.theta[weight.shape], weight, count),
        address_of(weights) + each,
        address_of(weights_back) + each,
        none if bias is None else _rows(session.theta[bias.shape], bias, count),
        error_delays.max(axis=0),
        [layout.table.add(_listed(group)) + 1 for group in sums],
        _rows(layout.learnt(weight.shape), weight, count),
        none if bias is None else _rows(layout.learnt(bias.shape), bias, count),
    ]
    for number, slot in enumerate(step.slots):
        columns += [error_delays[number], *_values(slot, pasts[number])]
    wired = Wired(
        step, forward, backward, weights, weights_back, ring, error_delays, sums, pasts, layout.has_losses(step)
    )
    return wired, np.concatenate([head, *columns]).astype(np.int64)


def _rows(bank: np.ndarray, slot: ParameterSlot, count: int) -> Whole:
    """Return where the parameter of each vertex lies in a bank of parameters."""
    found: Whole = np.broadcast_to(indices(slot.rows), count) * bank[0].size + address_of(bank)
    return found


def _direction(layout: Layout, blocks: Blocks, receivers: int) -> list[int]:
    order = blocks.order.astype(np.uint32)
    layout.kept += [blocks.codes, order]
    places = [layout.table.add(array) for array in (blocks.bounds, blocks.starts)]
    return [
        len(blocks.bounds) - 1,
        *places,
        *(array.ctypes.data // 4 for array in (blocks.codes, order)),
        blocks.segments,
        receivers,
    ]


def _listed(sums: Sequence[Sum]) -> list[int]:
    return [len(sums), *(number for one in sums for number in (one.place, one.number, len(one.kinds), *one.kinds))]


def _values(slot: Slot, pasts: dict[int, Past]) -> list[Whole]:
    """Return for each vertex the delay of its value, where past values lie, how many; zeros where none is read."""
    found = np.zeros((3, len(slot.edges)), np.int64)
    if slot.late is not None:
        for position, delay in zip(slot.late.positions, slot.late.delay, strict=True):
            if (past := pasts.get(int(position))) is not None:
                found[:, position] = delay, address_of(past.values), len(past.values)
    return list(found)


def _pasts(layout: Layout, slot: Slot) -> dict[int, Past]:
    """Return the past values that a slot reads, by position; they are kept once for each vertex read."""
    if slot.late is None or not layout.session.rule.moving:
        return {}
    history = layout.session.program.histories[slot.shape]
    found = {}
    for position, line in zip(slot.late.positions, slot.late.lines, strict=True):
        key = slot.shape, int(history.rows[line])
        if key not in layout.pasts:
            values = layout.new(1 + int(history.delay_buffer.length[line]), layout.batch, *slot.shape)
            layout.rings.append(values)
            layout.pasts[key] = Past(values, key, layout.number(), layout.note(1))
        found[int(position)] = layout.pasts[key]
    return found


def _sums(layout: Layout, step: Step, row: int) -> tuple[Sum, ...]:
    """Return how the messages of one vertex are summed: as one where they come first of what their receiver gets."""
    members: dict[tuple[Shape, int], list[tuple[int, int]]] = {}
    for kind, slot in enumerate(step.slots):
        if slot.messages is not None:
            message = slot.messages.start + row
            receiver = int(layout.session.program.inboxes[slot.shape].receivers[message])
            members.setdefault((slot.shape, receiver), []).append((message, kind))
    found = []
    for (shape, receiver), pairs in members.items():
        kinds = dict(pairs)
        runs = _runs(layout.session.program.inboxes[shape], receiver, kinds)
        place = address_of(layout.new(len(runs), layout.batch, *shape))
        for number, run in enumerate(runs):
            there = place + number * layout.batch * step.call["synapses"].fan_out
            one = Sum(run, tuple(kinds[message] for message in run), there, layout.number())
            layout.summed.setdefault(shape, {}).update(dict.fromkeys(run, one))
            found.append(one)
    return tuple(found)


def _runs(post: Inbox, receiver: int, kinds: dict[int, int]) -> list[tuple[int, ...]]:
    """Cut the messages from one vertex to another: those that are first in the sum are one, each later one is alone."""
    order = post.order[post.starts[receiver] : post.starts[receiver + 1]].tolist()
    first = next((number for number, message in enumerate(order) if message not in kinds), len(order))
    return [tuple(order[:first])] * (first > 0) + [(message,) for message in order[first:] if message in kinds]


# -- shares and messages ----------------------------------------------------------------------------------


def shares(loads: Whole, threads: int) -> Whole:
    """Return (threads + 1,), the first unit of each thread, such that loads are nearly equal."""
    ends = np.concatenate([[0], np.cumsum(loads)])
    middles = (ends[1:] + ends[:-1]) / 2
    return np.searchsorted(middles, np.linspace(0, ends[-1] + 1, threads + 1)).astype(np.int64)


def message(layout: Layout, wired: Wired, kind: int, row: int, tick: int) -> np.ndarray:
    """Return the error message that is due over one edge, (batch, neurons before); what is not finite is not shown."""
    synapses = wired.step.call["synapses"]
    weight = next(slot for slot in wired.step.parameters if slot.name == "weight")
    used = int(np.broadcast_to(indices(weight.rows), len(wired.step.names))[row])
    sent = tick - int(wired.error_delays[kind, row])
    g = wired.ring[row, sent % wired.ring.shape[1]]
    back = transposed_product(np, synapses, layout.session.theta[weight.shape][used][None], g[None])[0]
    found = back[:, kind * synapses.fan_out : (kind + 1) * synapses.fan_out]
    return np.where(np.isfinite(found), found, 0)
