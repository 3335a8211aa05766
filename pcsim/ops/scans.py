"""Running sums and products along an axis."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.ops.attributes import boolean, index
from pcsim.ops.leading import fold
from pcsim.ops.op import Attribute, Call, Op, elementwise
from pcsim.ops.reductions import array_axis

if TYPE_CHECKING:
    from pcsim.arrays import Array, Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved


def same_shape(call: Call) -> Shape:
    """Return the shape of the input, which has the axis."""
    array_axis(call)
    return call.shapes[0]


def turned(xp: Namespace, call: Call, x: Array) -> Array:
    """Return the axis as the last one, in the order in which it is run through."""
    x = xp.moveaxis(x, array_axis(call), -1)
    return x[..., ::-1] if call["reverse"] else x


def turned_back(xp: Namespace, call: Call, x: Array) -> Array:
    """Return the axis where it was, in the order in which it was."""
    return xp.moveaxis(x[..., ::-1] if call["reverse"] else x, -1, array_axis(call))


def delayed(xp: Namespace, call: Call, y: Array, first: Array) -> Array:
    """Return y, one place later where a place does not count itself, with ``first`` at the first place."""
    return xp.concatenate([first, y[..., :-1]], axis=-1) if call["exclusive"] else y


def advanced(xp: Namespace, call: Call, g: Array) -> Array:
    """Return g, one place earlier where a place does not count itself: the transpose of ``delayed``."""
    return xp.concatenate([g[..., 1:], xp.zeros_like(g[..., :1])], axis=-1) if call["exclusive"] else g


def cumsum_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the running sum."""
    x = turned(xp, call, inputs[0])
    y = delayed(xp, call, xp.cumsum(x, axis=-1), xp.zeros_like(x[..., :1]))
    return turned_back(xp, call, y), ()


def cumsum_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return the running sum of g, from the other end."""
    g = advanced(xp, call, turned(xp, call, fold(xp, g, inputs[0])))
    return (turned_back(xp, call, xp.cumsum(g[..., ::-1], axis=-1)[..., ::-1]),)


def cumprod_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the running product; keep the product before each place."""
    x = turned(xp, call, inputs[0])
    one = xp.ones_like(x[..., :1])
    y = xp.cumprod(x, axis=-1)
    return turned_back(xp, call, delayed(xp, call, y, one)), (xp.concatenate([one, y[..., :-1]], axis=-1),)


def cumprod_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return before_i r_i, with r_i = g_i + x_(i+1) r_(i+1): right also where some are 0."""
    x, g = turned(xp, call, inputs[0]), advanced(xp, call, turned(xp, call, fold(xp, g, inputs[0])))
    found = [g[..., -1]]
    for place in range(x.shape[-1] - 2, -1, -1):
        found.append(g[..., place] + x[..., place + 1] * found[-1])
    return (turned_back(xp, call, saved[0] * xp.stack(found[::-1], axis=-1)),)


SCAN = {
    "axis": Attribute(index, 0, summary="axis that is run along"),
    "exclusive": Attribute(boolean, False, summary="whether each place counts only those before it"),
    "reverse": Attribute(boolean, False, summary="whether it is run along from the end"),
}

ROWS = (
    Op(
        "cumsum", "running sum", (1, 1), same_shape, cumsum_forward, cumsum_to_inputs, attributes=SCAN, cost=elementwise
    ),
    Op(
        "cumprod",
        "running product",
        (1, 1),
        same_shape,
        cumprod_forward,
        cumprod_to_inputs,
        attributes=SCAN,
        cost=elementwise,
    ),
)
