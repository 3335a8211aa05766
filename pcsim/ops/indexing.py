"""What is taken from places given by whole numbers, an attribute or the last input."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pcsim.arrays import LEAD, Array
from pcsim.ops.attributes import index, natural, optional, positive, whole_numbers
from pcsim.ops.leading import fold
from pcsim.ops.lookup import sums_along
from pcsim.ops.op import Attribute, Call, InputSlot, Op, elementwise
from pcsim.ops.places import (
    along,
    check_given,
    indices,
    indices_shape,
    judged,
    of_tuples,
    outside,
    rows_added,
    rows_taken,
)
from pcsim.ops.reductions import axis_within

if TYPE_CHECKING:
    from pcsim.arrays import Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved


def axis_of(call: Call) -> int:
    """Return the vertex axis that indices count along."""
    return axis_within(call["axis"], len(call.shapes[0]))


def along_axis(xp: Namespace, call: Call, inputs: Inputs) -> tuple[int, Array]:
    """Return which indices lie outside of the axis."""
    extent = call.shapes[0][axis_of(call)]
    return judged(xp, call, inputs, 1, lambda found: outside(xp, found, extent))


# -- gather ---------------------------------------------------------------------------------------------


def gather_shape(call: Call) -> Shape:
    """Return the input's shape with the shape of the indices in place of the axis."""
    found, shape, axis = indices_shape(call, 1), call.shapes[0], axis_of(call)
    check_given(call, shape[axis])
    return (*shape[:axis], *found, *shape[axis + 1 :])


def gather_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the elements of the input at the indices."""
    axis, found = axis_of(call), indices(xp, call, inputs, 1)
    if call["indices"] is not None:
        return xp.take(inputs[0], found[0, 0], LEAD + axis), ()
    taken = rows_taken(xp, xp.moveaxis(inputs[0], LEAD + axis, LEAD), found)
    behind = range(found.ndim, found.ndim + axis)
    return xp.moveaxis(taken, behind, range(LEAD, LEAD + axis)), ()


def gather_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return to each element the sum of g over the places where it was taken to."""
    axis, found, x = axis_of(call), indices(xp, call, inputs, 1), inputs[0]
    if call["indices"] is not None:
        g = fold(xp, g, x)
        joined = g.reshape(*g.shape[: LEAD + axis], -1, *x.shape[LEAD + axis + 1 :])
        extent = x.shape[LEAD + axis]
        return (sums_along(xp, found.reshape(-1) % extent, joined, extent, LEAD + axis),)
    behind = range(found.ndim, found.ndim + axis)
    terms = xp.moveaxis(g, range(LEAD, LEAD + axis), behind)
    front = xp.moveaxis(x, LEAD + axis, LEAD)
    return xp.moveaxis(rows_added(xp, terms, found, front.shape), LEAD, LEAD + axis), None


# -- take along an axis ---------------------------------------------------------------------------------


def take_along_shape(call: Call) -> Shape:
    """Return the shape of the indices."""
    found, shape, axis = indices_shape(call, 1), call.shapes[0], axis_of(call)
    check_along(found, shape, axis)
    check_given(call, shape[axis])
    return found


def check_along(found: Shape, shape: Shape, axis: int) -> None:
    """Refuse indices that have other axes than the input, or more elements along those that they do not count along."""
    fits = len(found) == len(shape) and all(
        have <= extent for number, (have, extent) in enumerate(zip(found, shape, strict=True)) if number != axis
    )
    if not fits:
        message = f"indices have shape {found}, expected at most {shape} but along axis {axis}"
        raise ValueError(message)


def flattened(x: Array, axes: int) -> Array:
    """Return (stack, batch, *shape) with so many vertex axes made one."""
    return x.reshape(*x.shape[:LEAD], prod(x.shape[LEAD : LEAD + axes]), *x.shape[LEAD + axes :])


def take_along_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return for each index the element that it means along the axis."""
    places = along(xp, indices(xp, call, inputs, 1), axis_of(call), call.shapes[0])
    return rows_taken(xp, flattened(inputs[0], len(call.shapes[0])), places), ()


def take_along_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return to each element the sum of g over the places where it was taken to."""
    places = along(xp, indices(xp, call, inputs, 1), axis_of(call), call.shapes[0])
    return added_back(xp, call, inputs, g, places, len(call.shapes[0]))


def added_back(xp: Namespace, call: Call, inputs: Inputs, g: Array, places: Array, axes: int) -> tuple[Array, ...]:
    """Return the sums of g by places in the first axes of the first input, and nothing for indices."""
    x = inputs[0]
    shape = flattened(x, axes).shape
    to_x = rows_added(xp, g, places, shape).reshape(x.shape)
    return (to_x,) if call["indices"] is not None else (to_x, None)


# -- tuples of indices ----------------------------------------------------------------------------------


def tuple_axes(call: Call, found: Shape) -> int:
    """Return how many axes of the first input indices of this shape name: common ones, and one for each of a tuple."""
    shape = call.shapes[0]
    common: int = call["common"]
    if not found or common >= len(found) or common + found[-1] > len(shape) or found[:common] != shape[:common]:
        message = (
            f"indices have shape {found}, expected (*common, *any, tuple): the first {common} extents as the input's, "
            f"and tuples of at most {len(shape) - common}"
        )
        raise ValueError(message)
    return common + found[-1]


def gather_nd_shape(call: Call) -> Shape:
    """Return the shape of the indices with what a tuple names in place of their last axis."""
    found = indices_shape(call, 1)
    axes = tuple_axes(call, found)
    check_given(call, call.shapes[0][call["common"] : axes])
    return (*found[:-1], *call.shapes[0][axes:])


def gather_nd_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return what each tuple of indices names."""
    found = indices(xp, call, inputs, 1)
    places = of_tuples(xp, found, call.shapes[0], call["common"])
    return rows_taken(xp, flattened(inputs[0], call["common"] + found.shape[-1]), places), ()


def gather_nd_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return to each element the sum of g over the places where it was taken to."""
    found = indices(xp, call, inputs, 1)
    places = of_tuples(xp, found, call.shapes[0], call["common"])
    return added_back(xp, call, inputs, g, places, call["common"] + found.shape[-1])


def of_tuples_outside(xp: Namespace, call: Call, inputs: Inputs) -> tuple[int, Array]:
    """Return which indices of tuples lie outside of their axes."""
    extents = call.shapes[0][call["common"] :]
    return judged(xp, call, inputs, 1, lambda found: outside(xp, found, extents[: found.shape[-1]]))


# -- one-hot --------------------------------------------------------------------------------------------


def one_hot_shape(call: Call) -> Shape:
    """Return the shape of the indices with a new axis of classes, counted in the result."""
    shape = call.shapes[0]
    axis = axis_within(call["axis"], len(shape) + 1)
    return (*shape[:axis], call["classes"], *shape[axis:])


def one_hot_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return 1 at each index and 0 elsewhere, in float32: exact in any format."""
    axis = LEAD + axis_within(call["axis"], len(call.shape))
    hot = (inputs[0] % call["classes"])[..., None] == xp.arange(call["classes"])
    return xp.moveaxis(hot.astype("float32"), -1, axis), ()


def nothing_back(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return nothing: no message travels back over whole numbers."""
    return (None,)


INDICES = Attribute(
    optional(whole_numbers), summary="whole numbers, in lists or a file; null where they are an input", array=True
)
AXIS = Attribute(index, 0, summary="axis that the indices count along")
FROM = (InputSlot("from"), InputSlot("indices", differentiable=False, format="whole"))
TEXT = "index outside of the input"

ROWS = (
    Op(
        name="gather",
        summary="elements along an axis, chosen by whole numbers",
        arity=(1, 2),
        shape=gather_shape,
        forward=gather_forward,
        to_inputs=gather_to_inputs,
        attributes={"indices": INDICES, "axis": AXIS},
        inputs=FROM,
        domain=along_axis,
        domain_text=TEXT,
        cost=elementwise,
    ),
    Op(
        name="take_along",
        summary="for each index the element that it means along an axis",
        arity=(1, 2),
        shape=take_along_shape,
        forward=take_along_forward,
        to_inputs=take_along_to_inputs,
        attributes={"indices": INDICES, "axis": AXIS},
        inputs=FROM,
        domain=along_axis,
        domain_text=TEXT,
        cost=elementwise,
    ),
    Op(
        name="gather_nd",
        summary="elements or slices, chosen by tuples of whole numbers",
        arity=(1, 2),
        shape=gather_nd_shape,
        forward=gather_nd_forward,
        to_inputs=gather_nd_to_inputs,
        attributes={
            "indices": INDICES,
            "common": Attribute(natural, 0, summary="first axes that input and indices share; tuples name the next"),
        },
        inputs=FROM,
        domain=of_tuples_outside,
        domain_text=TEXT,
        cost=elementwise,
    ),
    Op(
        name="one_hot",
        summary="1 at each whole number and 0 elsewhere, along a new axis",
        arity=(1, 1),
        shape=one_hot_shape,
        forward=one_hot_forward,
        to_inputs=nothing_back,
        attributes={
            "classes": Attribute(positive, required=True, summary="extent of the new axis"),
            "axis": Attribute(index, -1, summary="place of the new axis, in the result"),
        },
        inputs=(InputSlot("indices", differentiable=False, format="whole"),),
        domain=lambda xp, call, inputs: (0, outside(xp, inputs[0], call["classes"])),
        domain_text="index outside of the classes",
        cost=elementwise,
    ),
)
