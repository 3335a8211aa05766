"""The affine layer: weights, bias and activation."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pcsim.arrays import LEAD, Array, unbroadcast
from pcsim.ops.attributes import boolean, choice, positive
from pcsim.ops.elementwise import ACTIVATIONS, activation
from pcsim.ops.op import Attribute, Call, Cost, Factors, Op, ParameterSpec

if TYPE_CHECKING:
    from pcsim.arrays import Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved

OUTER, INNER = "f(Wx+b)", "W f(x)+b"


def flat(x: Array, stack: int) -> Array:
    """Return the rows of x, (stack, rows, features).

    Where all vertices share one matrix the stack joins the rows: one tall product, not one per vertex.
    """
    return x.reshape(1 if stack == 1 else x.shape[0], -1, x.shape[-1])


def times(xp: Namespace, x: Array, matrix: Array) -> Array:
    """Return x @ matrix: (stack, batch, ..., n) and (stack, n, p) -> (stack, batch, ..., p)."""
    product = xp.matmul(flat(x, matrix.shape[0]), matrix)
    stack = max(x.shape[0], matrix.shape[0])
    return product.reshape(stack, *x.shape[1:-1], matrix.shape[-1])


def gram(xp: Namespace, a: Array, b: Array, stack: int) -> Array:
    """Return a^T b summed over rows: (stack, batch, ..., n) and (stack, batch, ..., p) -> (stack, n, p)."""
    return xp.matmul(flat(a, stack).swapaxes(1, 2), flat(b, stack))


def meet(xp: Namespace, g: Array, x: Array, stack: int) -> Array:
    """Sum g over the leading axes along which the product of x and ``stack`` matrices was broadcast."""
    return unbroadcast(xp, g, (max(x.shape[0], stack), x.shape[1], *g.shape[LEAD:]))


def affine_shape(call: Call) -> Shape:
    """Return the input's shape with ``units`` as its last axis."""
    if not call.shapes[0]:
        raise ValueError("expected an input of one axis or more (the last is the fan-in)")
    return (*call.shapes[0][:-1], call["units"])


def affine_params(call: Call) -> dict[str, ParameterSpec]:
    """Return the weight and, where wanted, the bias."""
    units, fan_in = call["units"], call.shapes[0][-1]
    weight = {"weight": ParameterSpec((units, fan_in), fan_in=fan_in)}
    return weight | ({"bias": ParameterSpec((units,), fan_in=fan_in)} if call["bias"] else {})


def affine_cost(call: Call) -> Cost:
    """Return a multiply-add for each weight and row of the input."""
    units, fan_in = call["units"], call.shapes[0][-1]
    curved = call["activation"] not in ("none", "identity")
    return Cost(float(prod(call.shapes[0]) * units), weights=float(units * fan_in), curved=curved)


def weighted(xp: Namespace, params: Params, x: Array) -> Array:
    """Return W x + b."""
    z = times(xp, x, params["weight"].swapaxes(1, 2))
    if "bias" not in params:
        return z
    bias = params["bias"]
    row = bias.reshape(bias.shape[0], *[1] * (x.ndim - LEAD), bias.shape[-1])
    if bias.shape[0] > z.shape[0]:
        return z + row
    z += row  # z is new: adding in place saves one array of its size
    return z


def affine_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return mu, and keep the slope (and f(x) where f comes first); nothing where f is the identity."""
    x, f = inputs[0], ACTIVATIONS[call["activation"]]
    inner = call["convention"] == INNER
    z = x if inner else weighted(xp, params, x)
    y = f.f(xp, z)
    kept = () if f.slope is None else (f.slope(xp, z, y), y) if inner else (f.slope(xp, z, y),)
    return (weighted(xp, params, y) if inner else y), kept


def at_sum(xp: Namespace, call: Call, saved: Saved, g: Array) -> Array:
    """Return the error at W x + b."""
    if not saved or call["convention"] == INNER:
        return g
    return saved[0] * unbroadcast(xp, g, saved[0].shape)


def affine_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return W^T (f' g), or f' (W^T g)."""
    x, weight = inputs[0], params["weight"]
    d = meet(xp, at_sum(xp, call, saved, g), x, weight.shape[0])
    to_x = unbroadcast(xp, times(xp, d, weight), x.shape)
    return (saved[0] * to_x if saved and call["convention"] == INNER else to_x,)


def affine_to_params(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> dict[str, Array]:
    """Return (f' g) x^T, or g f(x)^T, summed over the batch, and the sum of what reaches W x + b."""
    stack = params["weight"].shape[0]
    x = saved[1] if saved and call["convention"] == INNER else inputs[0]
    d = at_sum(xp, call, saved, g)
    to_weight = {"weight": gram(xp, meet(xp, d, x, stack), x, stack)}
    if "bias" not in params:
        return to_weight
    return to_weight | {"bias": xp.sum(flat(d, params["bias"].shape[0]), axis=1)}


def affine_factors(xp: Namespace, call: Call, params: Params, inputs: Inputs, g: Array) -> dict[str, Factors]:
    """Return error and slope of each unit, and the input of each, at every row of the input: a row is a site."""
    _, saved = affine_forward(xp, call, params, inputs)
    inner = call["convention"] == INNER
    x = saved[1] if saved and inner else inputs[0]
    pre = xp.broadcast_to(x, (*g.shape[:LEAD], *x.shape[LEAD:])).reshape(g.shape[1], -1, x.shape[-1])
    error = g.reshape(g.shape[1], -1, g.shape[-1])
    slope = None if inner or not saved else xp.broadcast_to(saved[0], g.shape).reshape(error.shape)
    weight = {"weight": Factors("nsu,nsf->uf", error, slope, pre)}
    return weight | ({"bias": Factors("nsu->u", error, slope)} if "bias" in params else {})


ROWS = (
    Op(
        name="affine",
        summary="a layer: weights, bias and activation, over the last axis",
        arity=(1, 1),
        shape=affine_shape,
        forward=affine_forward,
        to_inputs=affine_to_inputs,
        to_params=affine_to_params,
        params=affine_params,
        factors=affine_factors,
        slots={"weight": "(units, fan-in)", "bias": "(units)"},
        cost=affine_cost,
        attributes={
            "units": Attribute(positive, required=True, summary="extent of the last axis of the result"),
            "activation": Attribute(
                activation, "none", summary="function applied to each element: pcsim list activations"
            ),
            "bias": Attribute(boolean, True, summary="whether a bias is added"),
            "convention": Attribute(
                choice("a convention", (OUTER, INNER)),
                OUTER,
                summary="activation after the weights, or before",
            ),
        },
        source="[WB] 2017; both conventions as in Millidge et al. 2020, eq. 2-3",
    ),
)
