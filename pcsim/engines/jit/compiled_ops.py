"""Ops whose array calls are compiled: fewer passes over memory than NumPy takes, for steps without a kernel."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.jit.kernels.normalisation import batch_moments, normalise, normalise_back, sums_of_errors
from pcsim.ops import OPS
from pcsim.ops.batch import BATCH, along
from pcsim.ops.reductions import array_axis

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcsim.arrays import Array, Namespace, Shape
    from pcsim.ops.op import Call, Inputs, Op, Params, Saved

OWN = OPS["batch_norm"]


def suits(call: Call, params: Params, *arrays: Array) -> bool:
    """Return whether statistics are those of the batch, of arrays of one shape, and no operand has more rows."""
    first = arrays[0]
    alike = all((array.shape, array.dtype) == (first.shape, first.dtype) for array in arrays)
    return call["statistics"] == BATCH and alike and all(len(rows) <= len(first) for rows in params.values())


def split(call: Call, array: Array) -> Array:
    """Return an array (stack, batch, *shape) as (stack, lines, features, inner)."""
    axis, shape = array_axis(call), array.shape
    return np.require(array, requirements=["C", "W"]).reshape(len(array), prod(shape[1:axis]), shape[axis], -1)


def by_feature(params: Params, name: str, shape: Shape, absent: float) -> Array:
    """Return an operand as (stack, features), of the number format of x; a number where it is absent."""
    return np.broadcast_to(params.get(name, absent), shape).copy()


def sums(g: Array, normal: Array) -> tuple[Array, Array]:
    """Return the sums of g and of g normal, (stack, features)."""
    plain, along_normal = np.empty(g.shape[::2]), np.empty(g.shape[::2])
    sums_of_errors(g, normal, plain, along_normal)
    return plain, along_normal


def forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the normalised x, times weight plus bias; keep the normalised x and the scale."""
    x = split(call, inputs[0])
    shape = x.shape[::2]
    mean, variance, scale = np.empty(shape), np.empty(shape), np.empty(shape, x.dtype)
    normal, out = np.empty_like(x), np.empty_like(x)
    batch_moments(x, mean, variance)
    weight, bias = (
        by_feature(params, name, shape, x.dtype.type(absent)) for name, absent in (("weight", 1), ("bias", 0))
    )
    normalise(x, mean, variance, call["epsilon"], weight, bias, normal, scale, out)
    wide = inputs[0].shape
    return out.reshape(wide), (normal.reshape(wide), along(call, scale, inputs[0]))


def to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return scale weight (g - mean(g) - normal mean(g normal))."""
    errors, normal = split(call, g), split(call, saved[0])
    shape, out = errors.shape[::2], np.empty_like(errors)
    weight, scale = by_feature(params, "weight", shape, g.dtype.type(1)), saved[1].reshape(shape)
    normalise_back(errors, normal, weight, scale, *sums(errors, normal), out)
    return (out.reshape(g.shape),)


def to_params(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> dict[str, Array]:
    """Return the sums of g normal and of g over all but the features."""
    if not call["affine"]:
        return {}
    found = dict(zip(("bias", "weight"), sums(split(call, g), split(call, saved[0])), strict=True))
    return {
        name: (rows.sum(axis=0, keepdims=True) if len(params[name]) == 1 else rows).astype(g.dtype)
        for name, rows in found.items()
    }


def to_buffers(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> dict[str, Array]:
    """Return the running statistics, moved by ``momentum`` towards those of this batch."""
    x, momentum = split(call, inputs[0]), call["momentum"]
    count = x.shape[1] * x.shape[3]
    mean, variance = np.empty(x.shape[::2]), np.empty(x.shape[::2])
    batch_moments(x, mean, variance)
    found = {"running_mean": mean, "running_variance": variance * count / max(1, count - 1)}
    return {name: ((1 - momentum) * params[name] + momentum * now).astype(x.dtype) for name, now in found.items()}


def where_it_suits(compiled: Callable[..., Any], own: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of an op: compiled where the arrays suit that, else the op's own."""

    def function(xp: Namespace, call: Call, params: Params, inputs: Inputs, *more: Any) -> Any:
        chosen = compiled if suits(call, params, inputs[0], *more[2:]) else own  # g comes after mu and saved
        return chosen(xp, call, params, inputs, *more)

    return function


COMPILED: dict[str, Op] = {
    "batch_norm": replace(
        OWN,
        forward=where_it_suits(forward, OWN.forward),
        to_inputs=where_it_suits(to_inputs, OWN.to_inputs),
        to_params=where_it_suits(to_params, OWN.to_params),
        to_buffers=where_it_suits(to_buffers, OWN.to_buffers),
    )
}
"""Rows of the table of ops with compiled functions, by name."""
