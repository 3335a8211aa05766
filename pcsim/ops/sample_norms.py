"""Normalisation of each sample by its own mean and variance: layer, group, instance and root-mean-square norms.

Each norm splits the axes of a vertex in two: statistics are taken over the last ones, apart for each place in the first
ones. Weight and bias lie along some of the vertex's axes.
"""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pcsim.arrays import LEAD, Array, Namespace, Shape, unbroadcast
from pcsim.ops.attributes import boolean, index, non_negative, positive
from pcsim.ops.leading import fold
from pcsim.ops.op import Attribute, Call, Inputs, Op, ParameterSpec, Params, Saved, elementwise
from pcsim.ops.reductions import axis_within

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Norm:
    """How one norm splits the axes of a vertex.

    Attributes
    ----------
    view : (call) -> shape as which the vertex is seen, and its first axis that statistics are taken over; raises
        ValueError.
    weighted : (call) -> first axis of the vertex that weights lie along, and the first one behind.
    centred : whether the mean is taken off.
    """

    view: Callable[[Call], tuple[Shape, int]]
    weighted: Callable[[Call], tuple[int, int]]
    centred: bool = True


def axis_of(call: Call) -> int:
    """Return the attribute ``axis`` counted from the front."""
    return axis_within(call["axis"], len(call.shapes[0]))


# -- how each norm splits the axes ---------------------------------------------------------------------------


def layer_view(call: Call) -> tuple[Shape, int]:
    """Return the shape; statistics are taken from the axis on."""
    return call.shapes[0], axis_of(call)


def layer_weighted(call: Call) -> tuple[int, int]:
    """Return the axes that are normalised: each of their elements has a weight of its own."""
    return axis_of(call), len(call.shapes[0])


def group_view(call: Call) -> tuple[Shape, int]:
    """Return the shape with the channels in groups; statistics are taken within a group and over all axes behind."""
    shape, axis, groups = call.shapes[0], axis_of(call), call["groups"]
    if shape[axis] % groups:
        message = f"{shape[axis]} channels do not fall into {groups} equal groups"
        raise ValueError(message)
    return (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]), axis + 1


def instance_view(call: Call) -> tuple[Shape, int]:
    """Return the shape; statistics are taken over all axes behind the channels."""
    if axis_of(call) == len(call.shapes[0]) - 1:
        raise ValueError("expected axes behind the channels")
    return call.shapes[0], axis_of(call) + 1


def channel_weighted(call: Call) -> tuple[int, int]:
    """Return the axis of the channels: each has a weight."""
    return axis_of(call), axis_of(call) + 1


LAYER = Norm(layer_view, layer_weighted)
ROOT_MEAN_SQUARE = Norm(layer_view, layer_weighted, centred=False)
GROUP = Norm(group_view, channel_weighted)
INSTANCE = Norm(instance_view, channel_weighted)


# -- what all norms share ------------------------------------------------------------------------------------


def norm_shape(norm: Norm, call: Call) -> Shape:
    """Return the shape of the input, which has the axes."""
    norm.view(call)
    return call.shapes[0]


def norm_params(norm: Norm, call: Call) -> dict[str, ParameterSpec]:
    """Return weight and bias, where they are wanted."""
    start, stop = norm.weighted(call)
    shape = call.shapes[0][start:stop]
    found = {"weight": ParameterSpec(shape, ("constant", 1.0)), "bias": ParameterSpec(shape, ("constant", 0.0))}
    wanted = {"weight": call["affine"], "bias": norm.centred and call["affine"] and call["bias"]}
    return {name: spec for name, spec in found.items() if wanted[name]}


def along(norm: Norm, call: Call, rows: Array) -> Array:
    """Return a weight, (stack, ...), so that it broadcasts against (stack, batch, *shape)."""
    start, stop = norm.weighted(call)
    behind = len(call.shapes[0]) - stop
    return rows.reshape(rows.shape[0], *[1] * (1 + start), *rows.shape[1:], *[1] * behind)


def mean(xp: Namespace, norm: Norm, call: Call, x: Array) -> Array:
    """Return the mean over what is normalised, of an array as the norm views it."""
    shape, first = norm.view(call)
    return xp.mean(x, axis=tuple(range(LEAD + first, LEAD + len(shape))), keepdims=True)


def viewed(norm: Norm, call: Call, x: Array) -> Array:
    """Return (stack, batch, *shape) as the norm views it."""
    return x.reshape(*x.shape[:LEAD], *norm.view(call)[0])


def norm_forward(norm: Norm, xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the normalised x, times weight plus bias; keep the normalised x and the scale, as the norm views them."""
    x = viewed(norm, call, inputs[0])
    x = x - mean(xp, norm, call, x) if norm.centred else x
    scale = 1 / xp.sqrt(mean(xp, norm, call, xp.square(x)) + call["epsilon"])
    normal = x * scale
    mu = normal.reshape(inputs[0].shape)
    if "weight" in params:
        mu = mu * along(norm, call, params["weight"])
    if "bias" in params:
        mu = mu + along(norm, call, params["bias"])
    return mu, (normal, scale)


def norm_to_inputs(
    norm: Norm, xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return scale (g' - mean(g') - normal mean(g' normal)), with g' = weight g; without mean(g') if not centred."""
    normal, scale = saved
    g = g * along(norm, call, params["weight"]) if "weight" in params else g
    g = viewed(norm, call, fold(xp, g, inputs[0]))
    d = g - normal * mean(xp, norm, call, g * normal)
    d = d - mean(xp, norm, call, g) if norm.centred else d
    return ((scale * d).reshape(inputs[0].shape),)


def norm_to_params(
    norm: Norm, xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> dict[str, Array]:
    """Return the sums of g normal and of g over the batch and the axes that weights do not lie along."""
    wanted = norm_params(norm, call)
    terms = {"weight": g * saved[0].reshape(inputs[0].shape), "bias": g} if wanted else {}
    return {
        name: unbroadcast(xp, terms[name], along(norm, call, params[name]).shape).reshape(params[name].shape)
        for name in wanted
    }


def norm_op(name: str, norm: Norm, summary: str, attributes: dict[str, Attribute], slot: str, source: str) -> Op:
    """Return the op of a norm."""
    bias = {"bias": Attribute(boolean, True, summary="whether a bias follows the weight")} if norm.centred else {}
    return Op(
        name=name,
        summary=summary,
        arity=(1, 1),
        shape=partial(norm_shape, norm),
        forward=partial(norm_forward, norm),
        to_inputs=partial(norm_to_inputs, norm),
        to_params=partial(norm_to_params, norm),
        params=partial(norm_params, norm),
        slots={"weight": slot} | ({"bias": slot} if norm.centred else {}),
        attributes={
            **attributes,
            "affine": Attribute(boolean, True, summary="whether a weight follows" + (", and a bias" if bias else "")),
            **bias,
            "epsilon": Attribute(non_negative, 1e-5, summary="added to the variance" if bias else "added to the mean"),
        },
        source=source,
        cost=elementwise,
    )


FIRST = {"axis": Attribute(index, -1, summary="first axis that is normalised, with all behind it")}
CHANNELS = {"axis": Attribute(index, 0, summary="axis of the channels; what lies before it is kept apart")}
GROUPS = {"groups": Attribute(positive, required=True, summary="equal groups that the channels fall into")}

ROWS = (
    norm_op(
        "layer_norm",
        LAYER,
        "normalised by mean and variance over the last axes",
        FIRST,
        "(normalised axes)",
        "Ba et al. 2016",
    ),
    norm_op(
        "rms_norm",
        ROOT_MEAN_SQUARE,
        "divided by the root of the mean square over the last axes",
        FIRST,
        "(normalised axes)",
        "Zhang & Sennrich 2019",
    ),
    norm_op(
        "group_norm",
        GROUP,
        "normalised by mean and variance of each group of channels",
        CHANNELS | GROUPS,
        "(channels)",
        "Wu & He 2018",
    ),
    norm_op(
        "instance_norm",
        INSTANCE,
        "normalised by mean and variance of each channel",
        CHANNELS,
        "(channels)",
        "Ulyanov et al. 2016",
    ),
)
