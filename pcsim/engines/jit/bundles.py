"""Bundles as ``weighted`` runs them: which units of a step take the same inputs, their weights, who sums what."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.array.rows import indices
from pcsim.engines.jit.kernels import weighted
from pcsim.engines.jit.kernels.native import address_of
from pcsim.engines.jit.kernels.products import DEPTH
from pcsim.engines.jit.projections import SummedMessages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcsim.engines.jit.layout import Layout
    from pcsim.engines.jit.table import WholeNumbers
    from pcsim.program.program import ParameterSlot, Step

FEWEST = 4
"""Units, and inputs, from which on they are run together."""


@dataclass(frozen=True)
class Bundle:
    """Some units of a step that take the same inputs, in the order of their step.

    Attributes
    ----------
    weight : where the weights of all units lie, and which ones these are
    columns : (units, inputs), which weight of each unit belongs to each input
    receivers : inputs that receive errors
    forward, backward : (units, inputs) and (receivers, units), the weights
    location : where its record lies
    """

    step: Step
    weight: ParameterSlot
    first: int
    columns: WholeNumbers
    receivers: WholeNumbers
    forward: np.ndarray
    backward: np.ndarray
    location: int

    def pack(self, theta: np.ndarray) -> None:
        """Take the weights from all of their shape, (parameters, inputs)."""
        rows = np.broadcast_to(indices(self.weight.rows), len(self.step.names))
        rows = rows[self.first : self.first + len(self.columns)]
        self.forward[...] = theta[rows[:, None], self.columns]
        self.backward[...] = self.forward.T[self.receivers]


def bundle(layout: Layout, step: Step) -> WholeNumbers:
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
            one = _bundle(layout, step, first, order[:, first:last], rows[:, first])
            places[first:last] = one.location
            layout.bundles.append(one)
    return places


def _prompt(layout: Layout, step: Step) -> WholeNumbers:
    """Return which units receive no value and send no error late."""
    prompt = np.ones(len(step.names), bool)
    for slot in step.slots:
        if slot.late is not None:
            prompt[slot.late.positions] = False
        if slot.messages is not None:
            late = layout.arrays.program.inboxes[slot.shape].late - slot.messages.start
            prompt[late[(late >= 0) & (late < len(step.names))]] = False
    return prompt


def _runs(rows: WholeNumbers) -> Iterator[tuple[int, int]]:
    """Return the runs of equal columns of ``rows``, one for each unit: the first and the last + 1."""
    cuts = np.flatnonzero((rows[:, 1:] != rows[:, :-1]).any(axis=0)) + 1
    bounds = [0, *cuts.tolist(), rows.shape[1]]
    return pairwise(bounds)


def _bundle(layout: Layout, step: Step, first: int, order: WholeNumbers, inputs: WholeNumbers) -> Bundle:
    """Lay out one bundle: ``order`` (inputs, units) is which slot of each unit has each input, a row of the group."""
    (k, n), units, owner = order.shape, layout.arrays.units[step.shape], step.names[first]
    stride = layout.batch * prod(step.shape)
    sends = [step.slots[slot].messages is not None for slot in order[:, 0]]
    receivers = np.flatnonzero(np.array(sends) & (inputs < units.group.free))
    sums = layout.memory.new(f"sums of {owner}", len(receivers), layout.batch, *step.shape)
    numbers = [layout.number() for _ in receivers]
    _register(layout, step, first, order[receivers], address_of(sums), numbers)
    forward = layout.memory.new(f"weights of {owner}, by unit", n, k)
    backward = layout.memory.new(f"weights of {owner}, by input", len(receivers), n)
    layout.widest = max(layout.widest, prod(step.shape) * max(weighted.TOGETHER, min(n, DEPTH)))
    place = layout.table.write(
        weighted.BUNDLE,
        owner,
        first=first,
        last=first + n,
        fan_in=k,
        forward=address_of(forward),
        backward=address_of(backward),
        sums=address_of(sums),
        number=numbers[0] if numbers else -1,
        values=layout.table.add(address_of(units.value) + inputs * stride),
        starts=layout.table.add(address_of(units.start) + inputs * stride),
    )
    weight = next(slot for slot in step.parameters if slot.name == "weight")
    return Bundle(step, weight, first, np.ascontiguousarray(order.T), receivers, forward, backward, place)


def _register(layout: Layout, step: Step, first: int, order: WholeNumbers, target: int, numbers: list[int]) -> None:
    """Let the messages of all units to one input count as one."""
    begins = np.array([-1 if slot.messages is None else slot.messages.start for slot in step.slots])
    messages = begins[order] + first + np.arange(order.shape[1])
    for row, (number, run) in enumerate(zip(numbers, messages.tolist(), strict=True)):
        one = SummedMessages(tuple(run), (), target + row * layout.batch * prod(step.shape), number)
        layout.summed.setdefault(step.shape, {}).update(dict.fromkeys(run, one))
