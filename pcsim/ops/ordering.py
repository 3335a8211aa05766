"""What is chosen by size, or turned round by length."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.arrays import LEAD, Array
from pcsim.ops.attributes import boolean, index, positive
from pcsim.ops.indexing import INDICES
from pcsim.ops.leading import fold, lead
from pcsim.ops.op import Attribute, Call, Cost, InputSlot, Op, elementwise
from pcsim.ops.places import indices, indices_shape, judged, numbered
from pcsim.ops.reductions import array_axis, axis_within

if TYPE_CHECKING:
    from pcsim.arrays import Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved


def top_k_shape(call: Call) -> Shape:
    """Return the input's shape with k elements along the axis."""
    shape = call.shapes[0]
    axis = axis_within(call["axis"], len(shape))
    if call["k"] > shape[axis]:
        message = f"k is {call['k']}, expected at most the {shape[axis]} elements along axis {axis}"
        raise ValueError(message)
    return (*shape[:axis], call["k"], *shape[axis + 1 :])


def top_k_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the largest or smallest elements, and keep where they are; of equal ones the first is taken."""
    (x,), axis = inputs, array_axis(call)
    order = xp.argsort(-x if call["largest"] else x, axis=axis, kind="stable")
    first = order[(*[slice(None)] * axis, slice(call["k"]))]
    places = first if call["sorted"] else xp.sort(first, axis=axis)
    return xp.take_along_axis(x, places, axis), (places,)


def top_k_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g where the elements came from, zero elsewhere."""
    (x,), axis = inputs, array_axis(call)
    where = [numbered(xp, extent, x.ndim, number) for number, extent in enumerate(x.shape)]
    to_x = xp.zeros(x.shape, g.dtype)
    to_x[(*where[:axis], saved[0], *where[axis + 1 :])] = fold(xp, g, x)
    return (to_x,)


# -- sequences turned round -----------------------------------------------------------------------------


def sequence_axes(call: Call) -> tuple[int, int]:
    """Return the axis of time and that of the sequences; raises ValueError where they are one."""
    rank = len(call.shapes[0])
    time, sequences = (axis_within(call[name], rank) for name in ("axis", "sequences"))
    if time == sequences:
        raise ValueError("expected the axis of time and that of the sequences to differ")
    return time, sequences


def reverse_sequence_shape(call: Call) -> Shape:
    """Return the input's shape; there is a length for each sequence."""
    _, sequences = sequence_axes(call)
    found, wanted = indices_shape(call, 1), (call.shapes[0][sequences],)
    if found != wanted:
        message = f"indices, the lengths of sequences, have shape {found}, expected {wanted}"
        raise ValueError(message)
    if call["indices"] is not None and is_no_length(call, call["indices"].array).any():
        message = f"expected lengths of 0 to {call.shapes[0][sequence_axes(call)[0]]}"
        raise ValueError(message)
    return call.shapes[0]


def is_no_length(call: Call, lengths: Array) -> Array:
    """Return which numbers are no length of a sequence."""
    return (lengths < 0) | (lengths > call.shapes[0][sequence_axes(call)[0]])


def reversed_in_part(xp: Namespace, call: Call, x: Array, lengths: Array) -> Array:
    """Return each sequence with its first elements, as many as its length, in reverse order; twice it is as before."""
    time, sequences = sequence_axes(call)
    spread = [1] * len(call.shapes[0])
    spread[sequences] = -1
    length = lengths.reshape(*lengths.shape[:LEAD], *spread)
    here = numbered(xp, call.shapes[0][time], x.ndim, LEAD + time)
    places = xp.where(here < length, length - 1 - here, here)
    full = lead((x, lengths)) + call.shapes[0]
    return xp.take_along_axis(xp.broadcast_to(x, full), xp.broadcast_to(places, full), LEAD + time)


def reverse_sequence_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the sequences, turned round."""
    return reversed_in_part(xp, call, inputs[0], indices(xp, call, inputs, 1)), ()


def reverse_sequence_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g, turned back."""
    to_x = fold(xp, reversed_in_part(xp, call, g, indices(xp, call, inputs, 1)), inputs[0])
    return (to_x,) if call["indices"] is not None else (to_x, None)


def no_length(xp: Namespace, call: Call, inputs: Inputs) -> tuple[int, Array]:
    """Return which lengths lie outside of the axis of time."""
    return judged(xp, call, inputs, 1, lambda lengths: is_no_length(call, lengths))


ROWS = (
    Op(
        name="top_k",
        summary="the largest, or smallest, elements along an axis",
        arity=(1, 1),
        shape=top_k_shape,
        forward=top_k_forward,
        to_inputs=top_k_to_inputs,
        attributes={
            "k": Attribute(positive, required=True, summary="how many"),
            "axis": Attribute(index, -1, summary="axis along which they are chosen"),
            "largest": Attribute(boolean, True, summary="whether the largest, not the smallest"),
            "sorted": Attribute(boolean, True, summary="whether by size, not in the order of the input"),
        },
        cost=lambda call: Cost(curved=False),
    ),
    Op(
        name="reverse_sequence",
        summary="sequences whose first elements, as many as their length, are in reverse order",
        arity=(1, 2),
        shape=reverse_sequence_shape,
        forward=reverse_sequence_forward,
        to_inputs=reverse_sequence_to_inputs,
        attributes={
            "indices": INDICES,
            "axis": Attribute(index, 0, summary="axis of time"),
            "sequences": Attribute(index, 1, summary="axis of the sequences; there is a length for each"),
        },
        inputs=(InputSlot("from"), InputSlot("lengths", differentiable=False, format="whole")),
        domain=no_length,
        domain_text="number that is no length of a sequence",
        cost=elementwise,
    ),
)
