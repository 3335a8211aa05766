"""The two leading axes, stack and batch, where operands of different extents meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.arrays import LEAD, unbroadcast

if TYPE_CHECKING:
    from pcsim.arrays import Array, Namespace, Shape
    from pcsim.ops.op import Inputs


def lead(inputs: Inputs) -> Shape:
    """Return the (stack, batch) extents that the inputs broadcast to."""
    return tuple(max(x.shape[axis] for x in inputs) for axis in range(LEAD))


def fold(xp: Namespace, g: Array, x: Array) -> Array:
    """Sum a derivative over the leading axes along which the operand ``x`` was broadcast."""
    return unbroadcast(xp, g, x.shape[:LEAD] + g.shape[LEAD:])
