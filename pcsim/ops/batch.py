"""What depends on the batch: normalisation by its statistics, and dropout, drawn anew for each batch."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.arrays import LEAD, Array
from pcsim.ops.attributes import boolean, choice, fraction, index, non_negative
from pcsim.ops.leading import fold
from pcsim.ops.op import Attribute, BufferSpec, Call, Op, ParameterSpec, elementwise
from pcsim.ops.reductions import array_axis

if TYPE_CHECKING:
    from pcsim.arrays import Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved

BATCH, FROZEN = "batch", "frozen"


# -- batch normalisation ---------------------------------------------------------------------------------


def normalised_shape(call: Call) -> Shape:
    """Return the shape of the input, which has the axis."""
    array_axis(call)
    return call.shapes[0]


def extent(call: Call) -> int:
    """Return the number of features."""
    return call.shapes[0][array_axis(call) - LEAD]


def affine_params(call: Call) -> dict[str, ParameterSpec]:
    """Return weight and bias, one of each for a feature, where they are wanted."""
    if not call["affine"]:
        return {}
    shape = (extent(call),)
    return {"weight": ParameterSpec(shape, ("constant", 1.0)), "bias": ParameterSpec(shape, ("constant", 0.0))}


def statistics_buffers(call: Call) -> dict[str, BufferSpec]:
    """Return the running mean and variance of each feature."""
    shape = (extent(call),)
    return {"running_mean": BufferSpec(shape, 0.0), "running_variance": BufferSpec(shape, 1.0)}


def pooled(call: Call, x: Array) -> tuple[int, ...]:
    """Return the axes that statistics are taken over: the batch and all but the features."""
    return tuple(axis for axis in range(1, x.ndim) if axis != array_axis(call))


def along(call: Call, rows: Array, x: Array) -> Array:
    """Return (stack, features) so that it broadcasts against x, (stack, batch, *shape)."""
    return rows.reshape(rows.shape[0], *[rows.shape[1] if axis == array_axis(call) else 1 for axis in range(1, x.ndim)])


def moments(xp: Namespace, call: Call, params: Params, x: Array) -> tuple[Array, Array]:
    """Return mean and variance, of the batch or as they were frozen, so that they broadcast against x."""
    if call["statistics"] == FROZEN:
        return along(call, params["running_mean"], x), along(call, params["running_variance"], x)
    axes = pooled(call, x)
    mean = xp.mean(x, axis=axes, keepdims=True)
    return mean, xp.mean(xp.square(x - mean), axis=axes, keepdims=True)


def batch_norm_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return (x - mean) / sqrt(variance + epsilon), times weight plus bias; keep the normalised x and the scale."""
    x = inputs[0]
    mean, variance = moments(xp, call, params, x)
    scale = 1 / xp.sqrt(variance + call["epsilon"])
    normal = (x - mean) * scale
    if not call["affine"]:
        return normal, (normal, scale)
    return normal * along(call, params["weight"], x) + along(call, params["bias"], x), (normal, scale)


def batch_norm_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return scale (g' - mean(g') - normal mean(g' normal)), g' = weight g; scale g' where statistics are frozen."""
    x, (normal, scale) = inputs[0], saved
    g = g * along(call, params["weight"], x) if call["affine"] else g
    if call["statistics"] == FROZEN:
        return (fold(xp, g * scale, x),)
    g, axes = fold(xp, g, x), pooled(call, x)
    means = xp.mean(g, axis=axes, keepdims=True) + normal * xp.mean(g * normal, axis=axes, keepdims=True)
    return (scale * (g - means),)


def batch_norm_to_params(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> dict[str, Array]:
    """Return the sums of g normal and of g over all but the features."""
    if not call["affine"]:
        return {}
    axes = pooled(call, g)
    sums = {"weight": xp.sum(g * saved[0], axis=axes), "bias": xp.sum(g, axis=axes)}
    return {
        name: xp.sum(rows, axis=0, keepdims=True) if params[name].shape[0] == 1 else rows for name, rows in sums.items()
    }


def batch_norm_to_buffers(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> dict[str, Array]:
    """Return the running statistics, moved by ``momentum`` towards those of this batch (variance over n - 1)."""
    if call["statistics"] == FROZEN:
        return {}
    x, axes, momentum = inputs[0], pooled(call, inputs[0]), call["momentum"]
    count = x[0].size // x.shape[array_axis(call)]
    found = {
        "running_mean": xp.mean(x, axis=axes),
        "running_variance": xp.var(x, axis=axes) * count / max(1, count - 1),
    }
    return {name: (1 - momentum) * params[name] + momentum * now for name, now in found.items()}


# -- dropout ---------------------------------------------------------------------------------------------


def same_shape(call: Call) -> Shape:
    """Return the shape of the input."""
    return call.shapes[0]


def dropout_draws(call: Call, batch: int, rng: Any) -> dict[str, Array]:
    """Return the mask: 0 with probability ``rate``, else 1 / (1 - rate); none where nothing is dropped."""
    if not call["active"] or not call["rate"]:
        return {}
    kept = rng.random((batch, *call.shapes[0])) >= call["rate"]
    return {"mask": kept / (1 - call["rate"])}


def dropout_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return x times the mask."""
    return (inputs[0] * params["mask"] if "mask" in params else inputs[0]), ()


def dropout_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g times the mask."""
    return (fold(xp, g * params["mask"] if "mask" in params else g, inputs[0]),)


ROWS = (
    Op(
        name="batch_norm",
        summary="normalised by the mean and the variance of the batch, or by frozen ones, feature by feature",
        arity=(1, 1),
        shape=normalised_shape,
        forward=batch_norm_forward,
        to_inputs=batch_norm_to_inputs,
        to_params=batch_norm_to_params,
        params=affine_params,
        slots={"weight": "(features)", "bias": "(features)"},
        attributes={
            "axis": Attribute(index, 0, summary="axis of the features (0: the first behind the batch)"),
            "statistics": Attribute(
                choice("statistics", (BATCH, FROZEN)), BATCH, summary="of the batch, or the running ones, frozen"
            ),
            "affine": Attribute(boolean, True, summary="whether a weight and a bias follow, one for each feature"),
            "epsilon": Attribute(non_negative, 1e-5, summary="added to the variance"),
            "momentum": Attribute(fraction, 0.1, summary="how far a batch moves the running statistics"),
        },
        couples=lambda call: bool(call["statistics"] == BATCH),
        buffers=statistics_buffers,
        to_buffers=batch_norm_to_buffers,
        after_training={"statistics": FROZEN},
        source="Ioffe & Szegedy 2015",
        cost=elementwise,
    ),
    Op(
        name="dropout",
        summary="numbers are dropped at random, drawn once for each batch",
        arity=(1, 1),
        shape=same_shape,
        forward=dropout_forward,
        to_inputs=dropout_to_inputs,
        attributes={
            "rate": Attribute(fraction, 0.5, summary="probability with which a number is dropped, below 1"),
            "active": Attribute(boolean, True, summary="false: nothing is dropped, as after training"),
        },
        draws=dropout_draws,
        after_training={"active": False},
        source="Srivastava et al. 2014",
        cost=elementwise,
    ),
)
