"""Normalisation without parameters: by the squares of neighbouring channels, and by the norm along an axis."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.ops.attributes import above_zero, count, index, non_negative, number, optional, positive
from pcsim.ops.leading import fold
from pcsim.ops.op import Attribute, Call, Op, elementwise
from pcsim.ops.reductions import array_axis, order

if TYPE_CHECKING:
    from pcsim.arrays import Array, Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved


def same_shape(call: Call) -> Shape:
    """Return the shape of the input, which has the axis."""
    array_axis(call)
    return call.shapes[0]


# -- local response normalisation ------------------------------------------------------------------------------


def lrn_shape(call: Call) -> Shape:
    """Return the shape of the input."""
    if call["before"] is not None and call["before"] >= call["size"]:
        raise ValueError("expected fewer channels before than the window has")
    return same_shape(call)


def window(call: Call) -> tuple[int, int]:
    """Return how many channels of the window lie before its own one, and how many behind."""
    before = call["size"] // 2 if call["before"] is None else call["before"]
    return before, call["size"] - 1 - before


def windowed(xp: Namespace, call: Call, x: Array, before: int, behind: int) -> Array:
    """Return the sum of each channel and of so many before and behind it."""
    axis = array_axis(call)
    x = xp.moveaxis(x, axis, -1)
    padded = xp.concatenate([xp.zeros_like(x[..., :1])] * before + [x] + [xp.zeros_like(x[..., :1])] * behind, axis=-1)
    total = sum(padded[..., first : first + x.shape[-1]] for first in range(before + 1 + behind))
    return xp.moveaxis(total, -1, axis)


def lrn_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return x d**-beta, with d = k + alpha/size times the sum of squares; keep d."""
    x = inputs[0]
    d = call["k"] + call["alpha"] / call["size"] * windowed(xp, call, xp.square(x), *window(call))
    return x * d ** -call["beta"], (d,)


def lrn_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g d**-beta - 2 alpha beta/size x times the sum of g x d**(-beta - 1) over whose window has the channel."""
    (x,), (d,) = inputs, saved
    g = fold(xp, g, x)
    scaled = g * d ** -call["beta"]
    others = windowed(xp, call, scaled * x / d, *window(call)[::-1])
    return (scaled - (2 * call["alpha"] * call["beta"] / call["size"]) * x * others,)


# -- the norm along an axis ------------------------------------------------------------------------------------


def length(xp: Namespace, call: Call, x: Array) -> Array:
    """Return the norm along the axis."""
    axis = array_axis(call)
    if call["p"] == 1:
        return xp.sum(abs(x), axis=axis, keepdims=True)
    return xp.sqrt(xp.sum(xp.square(x), axis=axis, keepdims=True))


def lp_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return x / max(norm, epsilon); keep that maximum, and the slope of the norm, 0 where epsilon holds."""
    x = inputs[0]
    norm = length(xp, call, x)
    bound = xp.maximum(norm, call["epsilon"])
    slope = xp.sign(x) if call["p"] == 1 else x / bound
    return x / bound, (bound, slope * (norm >= call["epsilon"]))


def lp_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return (g - slope sum(g x) / norm) / norm."""
    (x,), (bound, slope) = inputs, saved
    g = fold(xp, g, x)
    return ((g - slope * xp.sum(g * (x / bound), axis=array_axis(call), keepdims=True)) / bound,)


ROWS = (
    Op(
        name="lrn",
        summary="divided by a power of the mean square over neighbouring channels",
        arity=(1, 1),
        shape=lrn_shape,
        forward=lrn_forward,
        to_inputs=lrn_to_inputs,
        attributes={
            "size": Attribute(positive, required=True, summary="channels in the window"),
            "alpha": Attribute(non_negative, 1e-4, summary="factor of the mean square"),
            "beta": Attribute(number, 0.75, summary="exponent"),
            "k": Attribute(above_zero, 1.0, summary="added to the mean square"),
            "axis": Attribute(index, 0, summary="axis of the channels"),
            "before": Attribute(
                optional(count), summary="channels of the window before its own one; null for size // 2"
            ),
        },
        source="Krizhevsky et al. 2012",
        cost=elementwise,
    ),
    Op(
        name="lp_normalise",
        summary="divided by the norm along an axis",
        arity=(1, 1),
        shape=same_shape,
        forward=lp_forward,
        to_inputs=lp_to_inputs,
        attributes={
            "p": Attribute(order, 2, summary="order of the norm, 1 or 2"),
            "axis": Attribute(index, -1, summary="axis that the norm is taken along"),
            "epsilon": Attribute(non_negative, 1e-12, summary="least number that x is divided by"),
        },
        cost=elementwise,
    ),
)
