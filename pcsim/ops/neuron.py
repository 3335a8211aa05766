"""The neuron: a weighted sum of inputs of equal shape, with its activation."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pcsim.arrays import LEAD, Array, unbroadcast
from pcsim.ops.attributes import boolean
from pcsim.ops.elementwise import ACTIVATIONS, activation
from pcsim.ops.leading import fold, lead
from pcsim.ops.op import Attribute, Call, Cost, Factors, Op, ParameterSpec

if TYPE_CHECKING:
    from pcsim.arrays import Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved


def equal_shape(call: Call) -> Shape:
    """Return the one shape of all inputs."""
    if len(set(call.shapes)) > 1:
        raise ValueError("expected inputs of one shape")
    return call.shapes[0]


def neuron_params(call: Call) -> dict[str, ParameterSpec]:
    """Return one weight for each input and, where wanted, the bias."""
    count = len(call.shapes)
    weight = {"weight": ParameterSpec((count,), fan_in=count)}
    return weight | ({"bias": ParameterSpec((), fan_in=count)} if call["bias"] else {})


def side_by_side(xp: Namespace, inputs: Inputs) -> Array:
    """Return the inputs along a new last axis: (stack, batch, *shape, inputs)."""
    if len({x.shape for x in inputs}) > 1:
        front = lead(inputs)
        inputs = tuple(xp.broadcast_to(x, (*front, *x.shape[LEAD:])) for x in inputs)
    return xp.stack(inputs, axis=-1)


def spread(factor: Array, rank: int) -> Array:
    """Return numbers of each vertex, (stack,), so that they multiply arrays of ``rank`` axes."""
    return factor.reshape(-1, *[1] * (rank - 1))


def neuron_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return f(sum_k w_k x_k + b), and keep the inputs side by side and, where f is not the identity, its slope."""
    x, weight, f = side_by_side(xp, inputs), params["weight"], ACTIVATIONS[call["activation"]]
    tall = x.reshape(x.shape[0], -1, x.shape[-1])
    z = xp.matmul(tall, weight[:, :, None])
    z = z.reshape(z.shape[0], *x.shape[1:-1])
    if "bias" in params:
        z = z + spread(params["bias"], z.ndim)
    mu = f.f(xp, z)
    return mu, (x,) if f.slope is None else (x, f.slope(xp, z, mu))


def at_sum(xp: Namespace, saved: Saved, g: Array) -> Array:
    """Return the error at the weighted sum."""
    return saved[1] * unbroadcast(xp, g, saved[1].shape) if len(saved) > 1 else g


def neuron_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return w_k f' g for each input k."""
    d, weight = at_sum(xp, saved, g), params["weight"]
    back = weight.T.reshape(len(inputs), -1, *[1] * (d.ndim - 1)) * d
    return tuple(fold(xp, message, x) for message, x in zip(back, inputs, strict=True))


def neuron_to_params(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> dict[str, Array]:
    """Return the sum over batch and elements of x_k f' g for each weight, and of f' g for the bias."""
    x, d = saved[0], at_sum(xp, saved, g)
    x = xp.broadcast_to(x, (x.shape[0], *d.shape[1:], x.shape[-1]))
    tall = x.reshape(x.shape[0], -1, x.shape[-1])
    to_weight = xp.matmul(d.reshape(d.shape[0], 1, -1), tall)[:, 0]
    found = {"weight": unbroadcast(xp, to_weight, params["weight"].shape)}
    if "bias" in params:
        found["bias"] = unbroadcast(xp, xp.sum(d.reshape(d.shape[0], -1), axis=1), params["bias"].shape)
    return found


def neuron_factors(xp: Namespace, call: Call, params: Params, inputs: Inputs, g: Array) -> dict[str, Factors]:
    """Return error and slope of each element, and its inputs; every element is a site."""
    saved = neuron_forward(xp, call, params, inputs)[1]
    x = xp.broadcast_to(saved[0], (*g.shape, saved[0].shape[-1])).reshape(g.shape[1], -1, saved[0].shape[-1])
    error = g.reshape(g.shape[1], -1)
    slope = xp.broadcast_to(saved[1], g.shape).reshape(error.shape) if len(saved) > 1 else None
    weight = {"weight": Factors("ns,nsk->k", error, slope, x)}
    return weight | ({"bias": Factors("ns->", error, slope)} if "bias" in params else {})


def neuron_cost(call: Call) -> Cost:
    """Return a multiply-add for each input and element."""
    count, curved = len(call.shapes), call["activation"] not in ("none", "identity")
    return Cost(float(prod(call.shape) * count), back=1 / count, weights=float(count), curved=curved)


ROWS = (
    Op(
        name="weighted_sum",
        summary="a neuron: one weight for each input, bias and activation",
        arity=(1, None),
        shape=equal_shape,
        forward=neuron_forward,
        to_inputs=neuron_to_inputs,
        to_params=neuron_to_params,
        params=neuron_params,
        factors=neuron_factors,
        slots={"weight": "a number for each input", "bias": "one number"},
        cost=neuron_cost,
        attributes={
            "activation": Attribute(activation, "none", summary="function applied to the sum: pcsim list activations"),
            "bias": Attribute(boolean, True, summary="whether a bias is added"),
        },
    ),
)
