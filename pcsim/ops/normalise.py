"""Softmax and its logarithm, along one axis of a vertex."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.ops.attributes import index
from pcsim.ops.leading import fold
from pcsim.ops.op import Attribute, Call, Op, elementwise
from pcsim.ops.reductions import array_axis

if TYPE_CHECKING:
    from pcsim.arrays import Array, Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved


def log_softmax(xp: Namespace, x: Array, axis: int) -> Array:
    """Return x - log(sum(exp(x))) along an axis of the array, safe for large x."""
    shifted = x - xp.max(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


def softmax(xp: Namespace, x: Array, axis: int) -> Array:
    """Return exp(x) / sum(exp(x)) along an axis of the array, safe for large x."""
    weights = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return weights / xp.sum(weights, axis=axis, keepdims=True)


def same_shape(call: Call) -> Shape:
    """Return the shape of the input, which has the axis."""
    array_axis(call)
    return call.shapes[0]


def softmax_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the softmax; it is all that its derivative needs."""
    mu = softmax(xp, inputs[0], array_axis(call))
    return mu, (mu,)


def softmax_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return mu (g - sum(mu g))."""
    p, g = saved[0], fold(xp, g, inputs[0])
    return (p * (g - xp.sum(p * g, axis=array_axis(call), keepdims=True)),)


def log_softmax_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the logarithm of the softmax, and keep the softmax."""
    mu = log_softmax(xp, inputs[0], array_axis(call))
    return mu, (xp.exp(mu),)


def log_softmax_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g - softmax(x) sum(g)."""
    g = fold(xp, g, inputs[0])
    return (g - saved[0] * xp.sum(g, axis=array_axis(call), keepdims=True),)


AXIS = {"axis": Attribute(index, -1, summary="axis along which the exponentials add up to 1")}

ROWS = (
    Op(
        name="softmax",
        summary="exponentials that add up to 1",
        arity=(1, 1),
        shape=same_shape,
        forward=softmax_forward,
        to_inputs=softmax_to_inputs,
        attributes=AXIS,
        cost=elementwise,
    ),
    Op(
        name="log_softmax",
        summary="logarithm of the softmax",
        arity=(1, 1),
        shape=same_shape,
        forward=log_softmax_forward,
        to_inputs=log_softmax_to_inputs,
        attributes=AXIS,
        cost=elementwise,
    ),
)
