"""Sums and means over the axes of a vertex, and how axes are counted."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from pcsim.arrays import LEAD, Array
from pcsim.ops.attributes import axes, boolean, index, optional, takes
from pcsim.ops.leading import fold
from pcsim.ops.op import Attribute, Call, Op, reduction

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcsim.arrays import Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved


def axis_within(axis: int, rank: int) -> int:
    """Return a vertex axis counted from the front."""
    if not -rank <= axis < rank:
        message = f"axis {axis}: expected " + (f"{-rank} to {rank - 1}" if rank else "an input with axes")
        raise ValueError(message)
    return axis % rank


def axes_within(chosen: Iterable[int], rank: int) -> tuple[int, ...]:
    """Return distinct vertex axes counted from the front."""
    found = tuple(axis_within(axis, rank) for axis in chosen)
    if len(set(found)) < len(found):
        raise ValueError("expected each axis once")
    return found


def array_axis(call: Call) -> int:
    """Return the attribute ``axis`` as an axis of the array."""
    return LEAD + axis_within(call["axis"], len(call.shapes[0]))


def reduced(call: Call) -> tuple[int, ...]:
    """Return the vertex axes that a sum or a mean runs over."""
    rank = len(call.shapes[0])
    return tuple(range(rank)) if call["axis"] is None else axes_within(call["axis"], rank)


def kept(call: Call) -> Shape:
    """Return the input's shape with extent 1 along the axes summed."""
    gone = reduced(call)
    return tuple(1 if axis in gone else extent for axis, extent in enumerate(call.shapes[0]))


def reduce_shape(call: Call) -> Shape:
    """Return the shape that a sum or a mean leaves."""
    gone = reduced(call)
    if call["keepdims"]:
        return kept(call)
    return tuple(extent for axis, extent in enumerate(call.shapes[0]) if axis not in gone)


def sum_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the sum over axes."""
    gone = tuple(LEAD + axis for axis in reduced(call))
    return (xp.sum(inputs[0], axis=gone, keepdims=call["keepdims"]) if gone else inputs[0]), ()


def sum_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g, spread over the axes summed."""
    (x,) = inputs
    return (xp.broadcast_to(fold(xp, g, x).reshape(x.shape[:LEAD] + kept(call)), x.shape),)


def count(call: Call) -> int:
    """Return how many elements one mean is taken of."""
    return prod(call.shapes[0][axis] for axis in reduced(call))


def mean_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the mean over axes."""
    return sum_forward(xp, call, params, inputs)[0] / count(call), ()


def mean_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g / n, spread over the axes averaged."""
    return sum_to_inputs(xp, call, params, inputs, mu, saved, g / count(call))


@takes(enum=[1, 2])
def order(value: Any) -> int:
    """Return the order of a norm."""
    if (found := index(value)) not in (1, 2):
        raise ValueError("expected 1 or 2")
    return found


REDUCE = {
    "axis": Attribute(optional(axes), summary="one axis or a list of axes; null for all"),
    "keepdims": Attribute(boolean, False, summary="whether the axes stay, with extent 1"),
}

ROWS = (
    Op("sum", "sum over axes", (1, 1), reduce_shape, sum_forward, sum_to_inputs, attributes=REDUCE, cost=reduction),
    Op("mean", "mean over axes", (1, 1), reduce_shape, mean_forward, mean_to_inputs, attributes=REDUCE, cost=reduction),
)
