"""What is sent without being written down: products of which rows of the table of kernels say that they send them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.array.rows import indices
from pcsim.engines.jit.kernels.flow import BOTH, NEGATED, PLAIN, SLOPED, WEIGHTED
from pcsim.engines.jit.kernels.functions import activation
from pcsim.engines.jit.kernels.native import address_of

if TYPE_CHECKING:
    from pcsim.engines.jit.layout import Layout
    from pcsim.program.program import Slot, Step

NOWHERE = -1


@dataclass(frozen=True)
class Term:
    """What a vertex receives over one edge: what kind of product it is, and of what, by addresses.

    ``by_move``: it changes when the sender has moved, not when its error may have changed.
    """

    kind: int
    error: int = NOWHERE
    slope: int = NOWHERE
    weight: int = NOWHERE
    sender: int = NOWHERE
    by_move: int = 0


InPlace = Callable[[int, int], tuple[int, int, int]]
"""(row, slot) -> kind of product, where its slope and its weight lie: how what is sent can be had unwritten."""


# -- what rows of the table of kernels say about it ---------------------------------------------------------


def plain(_layout: Layout, _step: Step) -> InPlace:
    """Send the error."""
    return lambda _row, _slot: (PLAIN, NOWHERE, NOWHERE)


def subtracted(_layout: Layout, _step: Step) -> InPlace:
    """Send the error, to the second input with the other sign."""
    return lambda _row, slot: (NEGATED if slot == 1 else PLAIN, NOWHERE, NOWHERE)


def sloped(layout: Layout, step: Step) -> InPlace | None:
    """Send the slope that was kept times the error, to one input."""
    if len(step.slots) != 1:
        return None
    slope, stride = address_of(layout.saved[id(step)]), layout.batch * prod(step.shape)
    return lambda row, _slot: (SLOPED, slope + row * stride, NOWHERE)


def multiplied(layout: Layout, step: Step) -> InPlace | None:
    """Send to one of two inputs the other one times the error, as long as that does not move."""
    if len(step.slots) != 2 or layout.moving:
        return None
    stride = layout.batch * prod(step.shape)

    def other(row: int, slot: int) -> tuple[int, int, int]:
        start = layout.arrays.units[step.slots[1 - slot].shape].start
        return SLOPED, address_of(start) + row_of(step, step.slots[1 - slot], row) * stride, NOWHERE

    return other


def weighted(layout: Layout, step: Step) -> InPlace:
    """Send a weight times the error, or times the slope times the error."""
    curved = bool(activation(step.call["activation"]))
    slope, stride, weights = (
        address_of(layout.saved[id(step)]),
        layout.batch * prod(step.shape),
        layout.weights_of(step),
    )
    kind = BOTH if curved else WEIGHTED
    return lambda row, slot: (kind, slope + row * stride, int(weights[row]) + slot)


def row_of(step: Step, slot: Slot, row: int) -> int:
    """Return which row of its shape group a vertex reads over a slot."""
    return int(np.broadcast_to(indices(slot.rows), len(step.names))[row])
