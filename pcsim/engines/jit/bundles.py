"""Bundles as ``weighted`` plays them: which units of a step take the same inputs, their weights, who sums what."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.array.rows import indices
from pcsim.engines.jit import weighted
from pcsim.engines.jit.native import address_of
from pcsim.engines.jit.products import DEPTH
from pcsim.engines.jit.wiring import Sum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcsim.arrays import Shape
    from pcsim.engines.jit.layout import Layout
    from pcsim.program.program import ParameterSlot, Step

Whole = np.ndarray
"""An array of whole numbers."""

FEWEST = 4
"""Units, and inputs, from which on they are played together."""


@dataclass(frozen=True)
class Bundle:
    """Some units of a step that take the same inputs, in the order of their bank.

    Attributes
    ----------
    weight : where the weights of all units lie, and which ones these are
    columns : (units, inputs), which weight of each unit belongs to each input
    receivers : inputs that hear of errors
    forth, back : (units, inputs) and (receivers, units), the weights
    place : where it is told in the table
    """

    step: Step
    weight: ParameterSlot
    first: int
    columns: Whole
    receivers: Whole
    forth: np.ndarray
    back: np.ndarray
    place: int

    def pack(self, theta: np.ndarray) -> None:
        """Take the weights from their bank, (parameters, inputs)."""
        rows = np.broadcast_to(indices(self.weight.rows), len(self.step.names))
        rows = rows[self.first : self.first + len(self.columns)]
        self.forth[...] = theta[rows[:, None], self.columns]
        self.back[...] = self.forth.T[self.receivers]


def bundle(layout: Layout, step: Step) -> Whole:
    """Lay out the bundles of a step of weighted sums; return for each unit the place of its bundle, -1 for none."""
    places = np.full(len(step.names), -1, np.int64)
    if len(step.slots) < FEWEST or any(slot.is_parameter or slot.shape != step.shape for slot in step.slots):
        return places
    rows = np.stack([np.broadcast_to(indices(slot.rows), len(step.names)) for slot in step.slots])
    order = np.argsort(rows, axis=0, kind="stable")
    rows = np.take_along_axis(rows, order, axis=0)
    prompt = _prompt(layout, step)
    for first, last in _runs(np.vstack([rows, prompt])):
        if last - first >= FEWEST and prompt[first]:
            found = _bundle(layout, step, first, order[:, first:last], rows[:, first])
            places[first:last] = found.place
            layout.bundles.append(found)
    return places


def _prompt(layout: Layout, step: Step) -> Whole:
    """Return which units hear no value and send no error late."""
    prompt = np.ones(len(step.names), bool)
    for slot in step.slots:
        if slot.late is not None:
            prompt[slot.late.positions] = False
        if slot.messages is not None:
            late = layout.session.program.inboxes[slot.shape].late - slot.messages.start
            prompt[late[(late >= 0) & (late < len(step.names))]] = False
    return prompt


def _runs(rows: Whole) -> Iterator[tuple[int, int]]:
    """Return the runs of equal columns of ``rows``, one for each unit: the first and the last + 1."""
    cuts = np.flatnonzero((rows[:, 1:] != rows[:, :-1]).any(axis=0)) + 1
    bounds = [0, *cuts.tolist(), rows.shape[1]]
    return pairwise(bounds)


def _bundle(layout: Layout, step: Step, first: int, order: Whole, inputs: Whole) -> Bundle:
    """Lay out one bundle: ``order`` (inputs, units) is which slot of each unit has each input, a row of the bank."""
    session, (k, n), size = layout.session, order.shape, prod(step.shape)
    free = session.units[step.shape].group.free
    heard = [step.slots[slot].messages is not None for slot in order[:, 0]]
    receivers = np.flatnonzero(np.array(heard) & (inputs < free))
    sums = layout.new(len(receivers), layout.batch, *step.shape)
    numbers = [layout.number() for _ in receivers]
    _register(layout, step, first, order[receivers], address_of(sums), numbers)
    forth, back = layout.new(n, k), layout.new(len(receivers), n)
    layout.widest = max(layout.widest, size * max(weighted.TOGETHER, min(n, DEPTH)))
    told = {
        weighted.FIRST_UNIT: first,
        weighted.LAST_UNIT: first + n,
        weighted.FAN_IN: k,
        weighted.FORTH: address_of(forth),
        weighted.BACK: address_of(back),
        weighted.SUMS: address_of(sums),
        weighted.NUMBER: numbers[0] if numbers else -1,
    }
    units, offset = session.units[step.shape], inputs * layout.batch * size
    head = [told[number] for number in range(weighted.PLACES)]
    place = layout.table.add(
        np.concatenate([head, address_of(units.value) + offset, address_of(units.start) + offset]).astype(np.int64)
    )
    weight = next(slot for slot in step.parameters if slot.name == "weight")
    return Bundle(step, weight, first, np.ascontiguousarray(order.T), receivers, forth, back, place)


def _register(layout: Layout, step: Step, first: int, order: Whole, place: int, numbers: list[int]) -> None:
    """Let the messages of all units to one input count as one."""
    begins = np.array([-1 if slot.messages is None else slot.messages.start for slot in step.slots])
    messages = begins[order] + first + np.arange(order.shape[1])
    summed: dict[Shape, dict[int, Sum]] = layout.summed
    for row, (number, run) in enumerate(zip(numbers, messages.tolist(), strict=True)):
        one = Sum(tuple(run), (), place + row * layout.batch * prod(step.shape), number)
        summed.setdefault(step.shape, {}).update(dict.fromkeys(run, one))
