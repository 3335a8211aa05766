"""A layer with its skip connection as one vertex, and weights with a scale of their own.

``mu = x + W f(x) / sqrt(divisor)``. Where weights start from a standard normal distribution, ``divisor`` is how a layer
scales with its width N and the depth L of its net: N_0, the number of inputs, in the first layer, N L in a residual
layer and N^2 in the last one keep the forward pass, and what learning changes of it, of one size however wide and deep
the net is (mu-PC, arXiv 2505.13124, table 1). As one vertex, not as a sum of two, the layer has one error.
"""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from math import prod, sqrt
from typing import TYPE_CHECKING

from pcsim.arrays import LEAD, unbroadcast
from pcsim.ops.attributes import boolean, optional, positive
from pcsim.ops.elementwise import ACTIVATIONS, activation
from pcsim.ops.linear import gram, meet, times
from pcsim.ops.op import Attribute, Call, Cost, Factors, Op, ParameterSpec

if TYPE_CHECKING:
    from pcsim.arrays import Array, Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved


def units_of(call: Call) -> int:
    """Return the extent of the last axis of the result."""
    if not call.shapes[0]:
        raise ValueError("expected an input of one axis or more (the last is the fan-in)")
    fan_in: int = call.shapes[0][-1]
    units = int(call["units"] or fan_in)
    if call["skip"] and units != fan_in:
        message = f"expected units: {fan_in}, as many as the input has, since it is added; or skip: false"
        raise ValueError(message)
    return units


def residual_shape(call: Call) -> Shape:
    """Return the input's shape with ``units`` as its last axis."""
    units = units_of(call)
    return (*call.shapes[0][:-1], units)


def residual_params(call: Call) -> dict[str, ParameterSpec]:
    """Return the weight."""
    fan_in = call.shapes[0][-1]
    return {"weight": ParameterSpec((units_of(call), fan_in), fan_in=fan_in)}


def residual_cost(call: Call) -> Cost:
    """Return a multiply-add for each weight and row of the input."""
    units, fan_in = units_of(call), call.shapes[0][-1]
    curved = call["activation"] not in ("none", "identity")
    return Cost(float(prod(call.shapes[0]) * units), weights=float(units * fan_in), curved=curved)


def scaled(call: Call, array: Array) -> Array:
    """Return an array divided by the square root of ``divisor``."""
    return array if call["divisor"] == 1 else array * array.dtype.type(1 / sqrt(call["divisor"]))


def residual_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return mu, and keep f(x) and its slope; nothing where f is the identity."""
    x, f = inputs[0], ACTIVATIONS[call["activation"]]
    y = f.f(xp, x)
    mu = scaled(call, times(xp, y, params["weight"].swapaxes(1, 2)))
    return (mu + x if call["skip"] else mu), () if f.slope is None else (f.slope(xp, x, y), y)


def residual_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g + f' (W^T g) / sqrt(divisor)."""
    x, weight = inputs[0], params["weight"]
    back = scaled(call, unbroadcast(xp, times(xp, meet(xp, g, x, weight.shape[0]), weight), x.shape))
    back = saved[0] * back if saved else back
    return (back + unbroadcast(xp, g, x.shape) if call["skip"] else back,)


def residual_to_params(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> dict[str, Array]:
    """Return g f(x)^T / sqrt(divisor), summed over the batch."""
    stack, y = params["weight"].shape[0], saved[1] if saved else inputs[0]
    return {"weight": scaled(call, gram(xp, meet(xp, g, y, stack), y, stack))}


def residual_factors(xp: Namespace, call: Call, params: Params, inputs: Inputs, g: Array) -> dict[str, Factors]:
    """Return the error of each unit, and f of each input by its scale, at every row of the input: a row is a site."""
    y = scaled(call, ACTIVATIONS[call["activation"]].f(xp, inputs[0]))
    pre = xp.broadcast_to(y, (*g.shape[:LEAD], *y.shape[LEAD:])).reshape(g.shape[1], -1, y.shape[-1])
    return {"weight": Factors("nsu,nsf->uf", g.reshape(g.shape[1], -1, g.shape[-1]), None, pre)}


ROWS = (
    Op(
        name="residual",
        summary="a residual layer as one vertex: x + W f(x) / sqrt(divisor), over the last axis",
        arity=(1, 1),
        shape=residual_shape,
        forward=residual_forward,
        to_inputs=residual_to_inputs,
        to_params=residual_to_params,
        params=residual_params,
        factors=residual_factors,
        slots={"weight": "(units, fan-in)"},
        cost=residual_cost,
        attributes={
            "units": Attribute(optional(positive), summary="extent of the last axis; default: that of the input"),
            "activation": Attribute(activation, "none", summary="f, before the weights: pcsim list activations"),
            "divisor": Attribute(positive, 1, summary="what is weighted is divided by the square root of this"),
            "skip": Attribute(boolean, True, summary="whether the input is added"),
        },
        source="mu-PC, arXiv 2505.13124, eq. 1 and table 1",
    ),
)
