"""What is written, or added, to places given by whole numbers, an attribute or the last input."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.arrays import LEAD, Array
from pcsim.ops.attributes import choice, index, natural, positive
from pcsim.ops.indexing import AXIS, INDICES, axis_of, check_along, flattened, tuple_axes
from pcsim.ops.leading import fold, lead
from pcsim.ops.op import Attribute, Call, InputSlot, Op, elementwise
from pcsim.ops.places import (
    along,
    check_given,
    indices,
    indices_shape,
    judged,
    numbered,
    of_tuples,
    outside,
    rows_added,
    rows_taken,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.arrays import Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved

REDUCTIONS = ("none", "add", "multiply", "max", "min")


# -- where each op writes -------------------------------------------------------------------------------


def written_axes(call: Call) -> int:
    """Return how many first axes of the input places count through: all along an axis, else those that tuples name."""
    return len(call.shapes[0]) if "axis" in dict(call.attributes) else tuple_axes(call, indices_shape(call, 2))


def places_of(xp: Namespace, call: Call, found: Array) -> Array:
    """Return the places in the flattened input that indices mean."""
    if "axis" in dict(call.attributes):
        return along(xp, found, axis_of(call), call.shapes[0])
    return of_tuples(xp, found, call.shapes[0], call["common"])


def bounds(call: Call) -> Sequence[int] | int:
    """Return below what the indices lie."""
    shape: Shape = call.shapes[0]
    return shape[axis_of(call)] if "axis" in dict(call.attributes) else shape[call["common"] : written_axes(call)]


def scatter_shape(call: Call) -> Shape:
    """Return the shape of the first input; the second one has that of the indices."""
    found, shape = indices_shape(call, 2), call.shapes[0]
    check_along(found, shape, axis_of(call))
    return checked(call, found)


def scatter_nd_shape(call: Call) -> Shape:
    """Return the shape of the first input; the second one has a row for each tuple."""
    found = indices_shape(call, 2)
    return checked(call, (*found[:-1], *call.shapes[0][tuple_axes(call, found) :]))


def checked(call: Call, wanted: Shape) -> Shape:
    """Return the shape of the first input; raises ValueError where the second or the given indices do not fit."""
    if call.shapes[1] != wanted:
        message = f"the second input has shape {call.shapes[1]}, expected {wanted} to go with the indices"
        raise ValueError(message)
    check_given(call, bounds(call))
    if call["indices"] is not None and twice(np, call, call["indices"].array[None, None]).any():
        raise ValueError("expected each place once, or a reduction (add, multiply, max, min)")
    return call.shapes[0]


def twice(xp: Namespace, call: Call, found: Array) -> Array:
    """Return which indices mean a place that one before them means too, where nothing says what both make of it."""
    if call["reduction"] != "none":
        return xp.zeros(found.shape, bool)
    places = places_of(xp, call, found)
    flat = places.reshape(*places.shape[:LEAD], -1)
    order = xp.argsort(flat, axis=-1, kind="stable")
    inorder = xp.take_along_axis(flat, order, -1)
    again = xp.zeros(flat.shape, bool)
    xp.put_along_axis(again, order[..., 1:], inorder[..., 1:] == inorder[..., :-1], -1)
    again = again.reshape(places.shape)
    return again if again.ndim == found.ndim else xp.broadcast_to(again[..., None], found.shape)


def not_to_be_written(xp: Namespace, call: Call, inputs: Inputs) -> tuple[int, Array]:
    """Return which indices lie outside, or mean a place twice."""

    def wrong(found: Array) -> Array:
        beyond = outside(xp, found, bounds(call))
        return beyond if beyond.any() else twice(xp, call, found)

    return judged(xp, call, inputs, 2, wrong)


# -- forward and back -----------------------------------------------------------------------------------


def spread(xp: Namespace, call: Call, inputs: Inputs) -> tuple[Array, Array, Array]:
    """Return the first input with flattened axes, the second one, and places, all of full leading extents."""
    found = indices(xp, call, inputs, 2)
    front = lead((inputs[0], inputs[1], found))
    x, places = flattened(inputs[0], written_axes(call)), places_of(xp, call, found)
    return tuple(xp.broadcast_to(each, front + each.shape[LEAD:]) for each in (x, inputs[1], places))


def reached(xp: Namespace, places: Array) -> tuple[Array, Array, Array]:
    """Return the index of places in (stack, batch, rows, *row)."""
    stack, batch = (numbered(xp, places.shape[axis], places.ndim, axis) for axis in range(LEAD))
    return stack, batch, places


def scatter_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the first input with the second one written, or added, multiplied and so on, to places."""
    x, updates, places = spread(xp, call, inputs)
    if call["reduction"] == "add":
        return (x + rows_added(xp, updates, places, x.shape)).reshape(*x.shape[:LEAD], *call.shape), ()
    made = x.copy()
    if call["reduction"] == "none":
        made[reached(xp, places)] = updates
    else:
        ufunc = {"multiply": xp.multiply, "max": xp.maximum, "min": xp.minimum}[call["reduction"]]
        ufunc.at(made, reached(xp, places), updates)
    return made.reshape(*made.shape[:LEAD], *call.shape), ()


def scatter_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g where the first input stays, and to the second one what its places have; in the way of the reduction."""
    x, updates, places = spread(xp, call, inputs)
    full, g = (
        xp.broadcast_to(flattened(each, written_axes(call)), g.shape[:LEAD] + x.shape[LEAD:]) for each in (mu, g)
    )
    to_x, to_updates = BACK[call["reduction"]](xp, x, updates, places, full, g)
    back = (fold(xp, to_x, inputs[0]).reshape(inputs[0].shape), fold(xp, to_updates, inputs[1]))
    return back if call["indices"] is not None else (*back, None)


def back_of_none(xp: Namespace, x: Array, updates: Array, places: Array, mu: Array, g: Array) -> tuple[Array, Array]:
    """Return g where nothing was written, and g where it was."""
    to_x = g.copy()
    to_x[reached(xp, xp.broadcast_to(places, g.shape[:LEAD] + places.shape[LEAD:]))] = 0
    return to_x, rows_taken(xp, g, places)


def back_of_add(xp: Namespace, x: Array, updates: Array, places: Array, mu: Array, g: Array) -> tuple[Array, Array]:
    """Return g, and g at the places."""
    return g, rows_taken(xp, g, places)


def back_of_multiply(
    xp: Namespace, x: Array, updates: Array, places: Array, mu: Array, g: Array
) -> tuple[Array, Array]:
    """Return g times the product of all other factors, also where one is zero."""
    zeros = (x == 0) + rows_added(xp, (updates == 0).astype(x.dtype), places, x.shape)
    rest = xp.where(x == 0, xp.ones_like(x), x).copy()
    xp.multiply.at(rest, reached(xp, places), xp.where(updates == 0, xp.ones_like(updates), updates))

    def others(factor: Array, product: Array, count: Array) -> Array:
        alone = xp.where(factor == 0, count == 1, count == 0)
        return xp.where(alone, product / xp.where(factor == 0, xp.ones_like(factor), factor), xp.zeros_like(product))

    to_updates = others(updates, rows_taken(xp, rest, places), rows_taken(xp, zeros, places))
    return g * others(x, rest, zeros), rows_taken(xp, g, places) * to_updates


def back_of_extreme(xp: Namespace, x: Array, updates: Array, places: Array, mu: Array, g: Array) -> tuple[Array, Array]:
    """Return g to what is the extreme; several that are share it."""
    of_x, of_updates = (x == mu).astype(g.dtype), (updates == rows_taken(xp, mu, places)).astype(g.dtype)
    shared = g / (of_x + rows_added(xp, of_updates, places, g.shape))
    return of_x * shared, of_updates * rows_taken(xp, shared, places)


BACK: dict[str, Any] = {
    "none": back_of_none,
    "add": back_of_add,
    "multiply": back_of_multiply,
    "max": back_of_extreme,
    "min": back_of_extreme,
}


# -- sums by place --------------------------------------------------------------------------------------


def scatter_add_shape(call: Call) -> Shape:
    """Return the shape of the input with ``extent`` elements in place of the axes of the indices."""
    found, shape = indices_shape(call, 1), call.shapes[0]
    axis = call["axis"] + (len(shape) - len(found) + 1 if call["axis"] < 0 else 0)
    if axis < 0 or shape[axis : axis + len(found)] != found:
        message = f"indices have shape {found}, expected the extents of the input from axis {axis} on"
        raise ValueError(message)
    check_given(call, call["extent"])
    return (*shape[:axis], call["extent"], *shape[axis + len(found) :])


def to_front(xp: Namespace, call: Call, x: Array, count: int) -> Array:
    """Return an array with so many axes, from the one of the op on, as the first of a vertex."""
    axis = call["axis"] % len(call.shape)
    return xp.moveaxis(x, range(LEAD + axis, LEAD + axis + count), range(LEAD, LEAD + count))


def scatter_add_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the sum of the elements of each place."""
    found = indices(xp, call, inputs, 1)
    front = lead((inputs[0], found))
    terms = to_front(xp, call, inputs[0], found.ndim - LEAD)
    terms = xp.broadcast_to(terms, front + terms.shape[LEAD:])
    made = rows_added(xp, terms, found, (*front, call["extent"], *terms.shape[found.ndim :]))
    return xp.moveaxis(made, LEAD, LEAD + call["axis"] % len(call.shape)), ()


def scatter_add_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g at the place of each element."""
    found, axis = indices(xp, call, inputs, 1), call["axis"] % len(call.shape)
    taken = rows_taken(xp, to_front(xp, call, g, 1), found)
    count = found.ndim - LEAD
    to_x = fold(xp, xp.moveaxis(taken, range(LEAD, LEAD + count), range(LEAD + axis, LEAD + axis + count)), inputs[0])
    return (to_x,) if call["indices"] is not None else (to_x, None)


def beyond_extent(xp: Namespace, call: Call, inputs: Inputs) -> tuple[int, Array]:
    """Return which indices lie outside of the new axis."""
    return judged(xp, call, inputs, 1, lambda found: outside(xp, found, call["extent"]))


WHOLE = InputSlot("indices", differentiable=False, format="whole")
REDUCTION = Attribute(
    choice("a reduction", REDUCTIONS), "none", summary="what is made of what lies there and what is written"
)
TEXT = "index outside of the input, or a place given twice,"

ROWS = (
    Op(
        name="scatter",
        summary="the first input with elements of the second written to places along an axis",
        arity=(2, 3),
        shape=scatter_shape,
        forward=scatter_forward,
        to_inputs=scatter_to_inputs,
        attributes={"indices": INDICES, "axis": AXIS, "reduction": REDUCTION},
        inputs=(InputSlot("into"), InputSlot("elements"), WHOLE),
        domain=not_to_be_written,
        domain_text=TEXT,
        cost=elementwise,
    ),
    Op(
        name="scatter_nd",
        summary="the first input with rows of the second written to places that tuples name",
        arity=(2, 3),
        shape=scatter_nd_shape,
        forward=scatter_forward,
        to_inputs=scatter_to_inputs,
        attributes={
            "indices": INDICES,
            "common": Attribute(natural, 0, summary="first axes that input and indices share; tuples name the next"),
            "reduction": REDUCTION,
        },
        inputs=(InputSlot("into"), InputSlot("rows"), WHOLE),
        domain=not_to_be_written,
        domain_text=TEXT,
        cost=elementwise,
    ),
    Op(
        name="scatter_add",
        summary="sums of elements by their places along a new axis: the transpose of gather",
        arity=(1, 2),
        shape=scatter_add_shape,
        forward=scatter_add_forward,
        to_inputs=scatter_add_to_inputs,
        attributes={
            "indices": INDICES,
            "axis": Attribute(index, 0, summary="first axis of those that the indices go with"),
            "extent": Attribute(positive, required=True, summary="places along the new axis"),
        },
        inputs=(InputSlot("elements"), WHOLE),
        domain=beyond_extent,
        domain_text="index outside of the new axis",
        cost=elementwise,
    ),
)
