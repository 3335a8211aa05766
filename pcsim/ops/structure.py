"""Ops that rearrange, gather or reduce the axes of a vertex."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING

from pcsim.arrays import LEAD, Array
from pcsim.ops.attributes import axes, boolean, index, optional, partial_shape
from pcsim.ops.leading import fold, lead
from pcsim.ops.op import Attribute, Call, Op, elementwise
from pcsim.ops.reductions import array_axis, axes_within, axis_within

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcsim.arrays import Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved


def concat_shape(call: Call) -> Shape:
    """Return the inputs' shape, with the extents along ``axis`` added up."""
    first = call.shapes[0]
    axis = axis_within(call["axis"], len(first))
    if len({(*shape[:axis], 0, *shape[axis + 1 :]) for shape in call.shapes}) > 1:
        message = f"expected shapes that differ along axis {axis} only"
        raise ValueError(message)
    return (*first[:axis], sum(shape[axis] for shape in call.shapes), *first[axis + 1 :])


def concat_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the inputs one after the other."""
    front = lead(inputs)
    return xp.concatenate([xp.broadcast_to(x, front + x.shape[LEAD:]) for x in inputs], array_axis(call)), ()


def concat_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return to each input its part of g."""
    axis = array_axis(call)
    ends = accumulate(x.shape[axis] for x in inputs)
    parts = (slice(end - x.shape[axis], end) for x, end in zip(inputs, ends, strict=True))
    before = (slice(None),) * axis
    return tuple(fold(xp, g[(*before, part)], x) for x, part in zip(inputs, parts, strict=True))


def taken(call: Call) -> slice:
    """Return the slice that the attributes describe."""
    return slice(call["start"], call["stop"], call["step"])


def slice_shape(call: Call) -> Shape:
    """Return the input's shape with fewer elements along ``axis``."""
    shape = call.shapes[0]
    axis = axis_within(call["axis"], len(shape))
    if call["step"] == 0:
        raise ValueError("expected a step other than 0")
    extent = len(range(shape[axis])[taken(call)])
    if not extent:
        message = f"nothing is left of the {shape[axis]} elements along axis {axis}"
        raise ValueError(message)
    return (*shape[:axis], extent, *shape[axis + 1 :])


def slice_index(call: Call) -> tuple[slice, ...]:
    """Return the index of the slice in the array."""
    return (*(slice(None),) * array_axis(call), taken(call))


def slice_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return part of the input, as a view."""
    return inputs[0][slice_index(call)], ()


def slice_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g where it was taken from, zero elsewhere."""
    to_x = xp.zeros(inputs[0].shape, g.dtype)
    to_x[slice_index(call)] = fold(xp, g, inputs[0])
    return (to_x,)


def reshape_shape(call: Call) -> Shape:
    """Return the new shape, -1 worked out."""
    wanted, size = call["shape"], prod(call.shapes[0])
    blank = size // prod(extent for extent in wanted if extent != -1)
    shape = tuple(blank if extent == -1 else extent for extent in wanted)
    if prod(shape) != size:
        message = f"{wanted} does not hold {size} elements"
        raise ValueError(message)
    return shape


def reshape_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the same elements in another shape, as a view."""
    (x,) = inputs
    return x.reshape(x.shape[:LEAD] + call.shape), ()


def reshape_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g in the input's shape."""
    return (fold(xp, g, inputs[0]).reshape(inputs[0].shape),)


def squeezed_shape(call: Call) -> Shape:
    """Return the input's shape without some axes of extent 1."""
    shape = call.shapes[0]
    ones = [axis for axis, extent in enumerate(shape) if extent == 1]
    gone = ones if call["axes"] is None else axes_within(call["axes"], len(shape))
    if wide := sorted(set(gone) - set(ones)):
        message = f"axis {wide[0]} has extent {shape[wide[0]]}, expected axes of extent 1"
        raise ValueError(message)
    return tuple(extent for axis, extent in enumerate(shape) if axis not in gone)


def unsqueezed_shape(call: Call) -> Shape:
    """Return the input's shape with new axes of extent 1, counted in the result."""
    rank = len(call.shapes[0]) + len(call["axes"])
    new = axes_within(call["axes"], rank)
    extents = iter(call.shapes[0])
    return tuple(1 if axis in new else next(extents) for axis in range(rank))


def flattened_shape(call: Call) -> Shape:
    """Return the input's shape with the axes from ``start`` to ``end`` made one."""
    shape = call.shapes[0] or (1,)
    first, last = (axis_within(call[name], len(shape)) for name in ("start", "end"))
    if first > last:
        message = f"start {first} lies behind end {last}"
        raise ValueError(message)
    return (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :])


def turned(call: Call) -> tuple[slice, ...]:
    """Return the index that turns axes round; all unless given."""
    rank = len(call.shapes[0])
    chosen = range(rank) if call["axes"] is None else axes_within(call["axes"], rank)
    backwards = slice(None, None, -1)
    return (*[slice(None)] * LEAD, *(backwards if axis in chosen else slice(None) for axis in range(rank)))


def flip_shape(call: Call) -> Shape:
    """Return the input's shape; the axes are checked."""
    turned(call)
    return call.shapes[0]


def flip_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the input with the order along axes reversed, as a view."""
    return inputs[0][turned(call)], ()


def flip_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g, turned back."""
    return (fold(xp, g, inputs[0])[turned(call)],)


def trilu_shape(call: Call) -> Shape:
    """Return the input's shape, which has a matrix in its last two axes."""
    if len(call.shapes[0]) < 2:
        raise ValueError("expected an input of two axes or more (the last two are the matrix)")
    return call.shapes[0]


def triangle(xp: Namespace, call: Call, x: Array) -> Array:
    """Return the matrices with zeros beyond a diagonal."""
    return (xp.triu if call["upper"] else xp.tril)(x, call["diagonal"])


def trilu_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return one triangle of each matrix."""
    return triangle(xp, call, inputs[0]), ()


def trilu_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return the same triangle of g."""
    return (triangle(xp, call, fold(xp, g, inputs[0])),)


def order(call: Call) -> tuple[int, ...]:
    """Return where each axis of the result comes from; reversed unless given."""
    rank = len(call.shapes[0])
    chosen = range(rank)[::-1] if call["axes"] is None else call["axes"]
    if len(chosen) != rank:
        message = f"expected {rank} axes"
        raise ValueError(message)
    return axes_within(chosen, rank)


def transpose_shape(call: Call) -> Shape:
    """Return the extents in their new order."""
    return tuple(call.shapes[0][axis] for axis in order(call))


def array_order(chosen: Iterable[int]) -> tuple[int, ...]:
    """Return an order of vertex axes as an order of array axes."""
    return (*range(LEAD), *(LEAD + axis for axis in chosen))


def transpose_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the input with its axes in another order, as a view."""
    return inputs[0].transpose(array_order(order(call))), ()


def transpose_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g with its axes put back."""
    there = order(call)
    back = array_order(there.index(axis) for axis in range(len(there)))
    return (fold(xp, g, inputs[0]).transpose(back),)


SLICE = {
    "start": Attribute(optional(index), summary="first index"),
    "stop": Attribute(optional(index), summary="index after the last"),
    "step": Attribute(index, 1, summary="distance between indices"),
    "axis": Attribute(index, 0, summary="axis to slice"),
}
CONCAT = {"axis": Attribute(index, 0, summary="axis along which the inputs follow each other")}
RESHAPE = {"shape": Attribute(partial_shape, required=True, summary="new shape; one extent may be -1")}
SQUEEZE = {"axes": Attribute(optional(axes), summary="axes of extent 1 to leave out; null for all of them")}
UNSQUEEZE = {"axes": Attribute(axes, required=True, summary="places of the new axes of extent 1, in the result")}
FLATTEN = {
    "start": Attribute(index, 0, summary="first axis of those made one"),
    "end": Attribute(index, -1, summary="last axis of those made one"),
}
FLIP = {"axes": Attribute(optional(axes), summary="one axis or a list of axes; null for all")}
TRILU = {
    "upper": Attribute(boolean, False, summary="whether the upper triangle stays, not the lower one"),
    "diagonal": Attribute(index, 0, summary="the last diagonal that stays; positive above the main one"),
}
TRANSPOSE = {"axes": Attribute(optional(axes), summary="order of the axes; null reverses them")}

ROWS = (
    Op(
        name="concat",
        summary="inputs one after the other along an axis",
        arity=(1, None),
        shape=concat_shape,
        forward=concat_forward,
        to_inputs=concat_to_inputs,
        attributes=CONCAT,
        cost=elementwise,
    ),
    Op(
        name="slice",
        summary="part of the input along an axis",
        arity=(1, 1),
        shape=slice_shape,
        forward=slice_forward,
        to_inputs=slice_to_inputs,
        attributes=SLICE,
        cost=elementwise,
    ),
    Op(
        name="reshape",
        summary="the same elements in another shape",
        arity=(1, 1),
        shape=reshape_shape,
        forward=reshape_forward,
        to_inputs=reshape_to_inputs,
        attributes=RESHAPE,
        cost=elementwise,
    ),
    Op(
        name="squeeze",
        summary="the same elements without axes of extent 1",
        arity=(1, 1),
        shape=squeezed_shape,
        forward=reshape_forward,
        to_inputs=reshape_to_inputs,
        attributes=SQUEEZE,
        cost=elementwise,
    ),
    Op(
        name="unsqueeze",
        summary="the same elements with new axes of extent 1",
        arity=(1, 1),
        shape=unsqueezed_shape,
        forward=reshape_forward,
        to_inputs=reshape_to_inputs,
        attributes=UNSQUEEZE,
        cost=elementwise,
    ),
    Op(
        name="flatten",
        summary="the same elements with several axes made one",
        arity=(1, 1),
        shape=flattened_shape,
        forward=reshape_forward,
        to_inputs=reshape_to_inputs,
        attributes=FLATTEN,
        cost=elementwise,
    ),
    Op(
        name="flip",
        summary="the same elements in reverse order along axes",
        arity=(1, 1),
        shape=flip_shape,
        forward=flip_forward,
        to_inputs=flip_to_inputs,
        attributes=FLIP,
        cost=elementwise,
    ),
    Op(
        name="trilu",
        summary="a triangle of matrices, zeros elsewhere",
        arity=(1, 1),
        shape=trilu_shape,
        forward=trilu_forward,
        to_inputs=trilu_to_inputs,
        attributes=TRILU,
        cost=elementwise,
    ),
    Op(
        name="transpose",
        summary="the same elements with the axes in another order",
        arity=(1, 1),
        shape=transpose_shape,
        forward=transpose_forward,
        to_inputs=transpose_to_inputs,
        attributes=TRANSPOSE,
        cost=elementwise,
    ),
)
