"""Ops that make an input larger: margins around it, and copies of it side by side."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import broadcast_shapes

from pcsim.arrays import LEAD, Array, align, unbroadcast
from pcsim.ops.attributes import choice, listed, number, positive, shape, takes, whole
from pcsim.ops.leading import fold
from pcsim.ops.lookup import sums_along
from pcsim.ops.op import Attribute, Call, Op, elementwise

if TYPE_CHECKING:
    from pcsim.arrays import Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved

MODES = ("constant", "reflect", "edge", "wrap")

PAIR = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}


@takes(type="array", items=PAIR)
def margins(value: Any) -> tuple[tuple[int, int], ...]:
    """Return the elements added before and after each axis; a negative number takes away."""
    message = "expected [before, after] for each axis, such as [[0, 0], [1, 1]]"
    pairs = tuple(listed(pair, message) for pair in listed(value, message))
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(message)
    return tuple((whole(before), whole(after)) for before, after in pairs)


@takes(type="array", items={"type": "integer", "minimum": 1})
def counts(value: Any) -> tuple[int, ...]:
    """Return how many times each axis is repeated."""
    return tuple(map(positive, listed(value, "expected a list of whole numbers, one for each axis")))


# -- pad ------------------------------------------------------------------------------------------------


def pad_shape(call: Call) -> Shape:
    """Return the extents with their margins."""
    extents, widths = call.shapes[0], call["widths"]
    if len(widths) != len(extents):
        message = f"expected [before, after] for each of {len(extents)} axes, got {len(widths)}"
        raise ValueError(message)
    for axis, (extent, (before, after)) in enumerate(zip(extents, widths, strict=True)):
        if extent + min(before, 0) + min(after, 0) < 1:
            message = f"nothing is left of the {extent} elements along axis {axis}"
            raise ValueError(message)
    return tuple(extent + before + after for extent, (before, after) in zip(extents, widths, strict=True))


def core(call: Call) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return which part of the input stays, and where in the result it lies."""
    pairs = list(zip(call.shapes[0], call["widths"], strict=True))
    stays = tuple(slice(max(-before, 0), extent - max(-after, 0)) for extent, (before, after) in pairs)
    lies = tuple(slice(max(before, 0), extent + before + min(after, 0)) for extent, (before, after) in pairs)
    every = (slice(None),) * LEAD
    return every + stays, every + lies


def sources(extent: int, before: int, after: int, mode: str) -> np.ndarray:
    """Return from where along an axis each element of the result comes."""
    stays = np.arange(extent)[max(-before, 0) : extent - max(-after, 0)]
    return np.pad(stays, (max(before, 0), max(after, 0)), mode)  # type: ignore[call-overload, no-any-return]


@lru_cache(maxsize=256)
def sources_by_axis(xp: Namespace, call: Call) -> tuple[tuple[int, Array], ...]:
    """Return (axis of the array, from where each of its elements comes) for each axis with margins."""
    return tuple(
        (LEAD + axis, xp.asarray(sources(extent, before, after, call["mode"])))
        for axis, (extent, (before, after)) in enumerate(zip(call.shapes[0], call["widths"], strict=True))
        if before or after
    )


def pad_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the input with its margins filled."""
    (x,) = inputs
    if call["mode"] != "constant":
        for axis, places in sources_by_axis(xp, call):
            x = xp.take(x, places, axis)
        return x, ()
    stays, lies = core(call)
    padded = xp.full(x.shape[:LEAD] + call.shape, call["value"], x.dtype)
    padded[lies] = x[stays]
    return padded, ()


def pad_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return to each element the sum of g over its copies."""
    g = fold(xp, g, inputs[0])
    if call["mode"] != "constant":
        for axis, places in sources_by_axis(xp, call):
            g = sums_along(xp, places, g, inputs[0].shape[axis], axis)
        return (g,)
    stays, lies = core(call)
    to_x = xp.zeros(inputs[0].shape, g.dtype)
    to_x[stays] = g[lies]
    return (to_x,)


# -- expand ---------------------------------------------------------------------------------------------


def expand_shape(call: Call) -> Shape:
    """Return the shape that the input and the shape asked for broadcast to."""
    try:
        return tuple(broadcast_shapes(call.shapes[0], call["shape"]))
    except ValueError:
        message = (
            f"expected a shape that the input broadcasts to (from the last axis: equal, or 1), got {call['shape']}"
        )
        raise ValueError(message) from None


def expand_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the input, repeated along axes of extent 1, as a view."""
    (x,) = inputs
    return xp.broadcast_to(align(x, len(call.shape)), x.shape[:LEAD] + call.shape), ()


def expand_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return the sum of g over the copies."""
    (x,) = inputs
    return (unbroadcast(xp, g, align(x, len(call.shape)).shape).reshape(x.shape),)


# -- tile -----------------------------------------------------------------------------------------------


def repeats(call: Call) -> tuple[int, ...]:
    """Return how often each axis of the result repeats; missing ones, in front, do not."""
    return (1,) * (len(call.shapes[0]) - len(call["repeats"])) + tuple(call["repeats"])


def original(call: Call) -> Shape:
    """Return the input's shape with as many axes as the result."""
    shape = call.shapes[0]
    return (1,) * (len(call["repeats"]) - len(shape)) + shape


def tile_shape(call: Call) -> Shape:
    """Return the extents times the repeats."""
    return tuple(times * extent for times, extent in zip(repeats(call), original(call), strict=True))


def tile_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the input side by side with itself."""
    return xp.tile(inputs[0].reshape(inputs[0].shape[:LEAD] + original(call)), (1, 1, *repeats(call))), ()


def tile_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return the sum of g over the copies."""
    (x,) = inputs
    g = fold(xp, g, x)
    apart = (pair for pairs in zip(repeats(call), original(call), strict=True) for pair in pairs)
    copies = tuple(range(LEAD, LEAD + 2 * len(call.shape), 2))
    return (xp.sum(g.reshape(*g.shape[:LEAD], *apart), axis=copies).reshape(x.shape),)


ROWS = (
    Op(
        name="pad",
        summary="the input with margins along its axes",
        arity=(1, 1),
        shape=pad_shape,
        forward=pad_forward,
        to_inputs=pad_to_inputs,
        attributes={
            "widths": Attribute(margins, required=True, summary="[before, after] of each axis; negative takes away"),
            "mode": Attribute(choice("a mode", MODES), "constant", summary="what fills the margins, as numpy.pad"),
            "value": Attribute(number, 0.0, summary="number that fills constant margins"),
        },
        cost=elementwise,
    ),
    Op(
        name="expand",
        summary="the input, repeated along axes of extent 1",
        arity=(1, 1),
        shape=expand_shape,
        forward=expand_forward,
        to_inputs=expand_to_inputs,
        attributes={"shape": Attribute(shape, required=True, summary="shape that the input is broadcast with")},
        cost=elementwise,
    ),
    Op(
        name="tile",
        summary="the input side by side with itself",
        arity=(1, 1),
        shape=tile_shape,
        forward=tile_forward,
        to_inputs=tile_to_inputs,
        attributes={"repeats": Attribute(counts, required=True, summary="how many times each axis is repeated")},
        cost=elementwise,
    ),
)
