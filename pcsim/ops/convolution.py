"""Convolutions over one axis or more: shared, unshared and transposed; windows unfolded, and folded back.

A convolution is one matrix product: windows are laid side by side, (channels in times kernel, samples times windows),
and multiplied from the left by the weights.
"""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pcsim.arrays import LEAD, Array, unbroadcast
from pcsim.ops.attributes import boolean, positive
from pcsim.ops.elementwise import ACTIVATIONS, activation
from pcsim.ops.leading import fold
from pcsim.ops.op import Attribute, Call, Cost, Factors, Op, ParameterSpec
from pcsim.ops.sliding import Windows, additions, each_axis, extents, padding, sides, slid_over, sliding, spread

if TYPE_CHECKING:
    from pcsim.arrays import Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved


# -- the shared product ----------------------------------------------------------------------------------


def samples(x: Array, stack: int, rank: int) -> Array:
    """Return x as (stack, samples, channels, *extents); where all vertices share one weight, the stack joins them."""
    return x.reshape(1 if stack == 1 else x.shape[0], -1, *x.shape[x.ndim - rank - 1 :])


def grouped(x: Array, groups: int) -> Array:
    """Return (stack, samples, channels, *extents) as (stack, groups, channels of one, samples times positions)."""
    turned = x.swapaxes(1, 2)
    return turned.reshape(x.shape[0], groups, x.shape[2] // groups, -1)


def separated(x: Array, count: int, extents: Shape) -> Array:
    """Return (stack, groups, channels of one, samples times positions) as (stack, samples, channels, *extents)."""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], count, *extents).swapaxes(1, 2)


def columns(xp: Namespace, windows: Windows, groups: int, x: Array) -> Array:
    """Return the windows of (stack, samples, channels, *extents) side by side.

    Returns
    -------
    (stack, groups, channels of one times kernel, samples times windows)
    """
    if windows.trivial:
        return grouped(x, groups)
    seen, rank = windows.view(xp, windows.padded(xp, x)), windows.rank
    order = (0, 2, *range(3 + rank, 3 + 2 * rank), 1, *range(3, 3 + rank))
    height = x.shape[2] // groups * prod(windows.kernel)
    return seen.transpose(order).reshape(x.shape[0], groups, height, -1)


def matrix(weight: Array, groups: int) -> Array:
    """Return (stack, channels, channels in of a group, *kernel) as (stack, groups, channels of one, their inputs)."""
    return weight.reshape(weight.shape[0], groups, weight.shape[1] // groups, -1)


def correlate(xp: Namespace, windows: Windows, groups: int, weight: Array, x: Array) -> Array:
    """Return the sum of weight times window, (stack, samples, channels, *counts)."""
    found = xp.matmul(matrix(weight, groups), columns(xp, windows, groups, x))
    return separated(found, x.shape[1], windows.counts)


def scatter(xp: Namespace, windows: Windows, groups: int, weight: Array, g: Array) -> Array:
    """Return the transpose of ``correlate``: (stack, samples, channels, *counts) -> (..., channels in, *extents)."""
    found = xp.matmul(matrix(weight, groups).swapaxes(2, 3), grouped(g, groups))
    shape = (found.shape[0], groups * weight.shape[2])
    if windows.trivial:
        return separated(found, g.shape[1], windows.extents)
    parts = found.reshape(*shape, prod(windows.kernel), g.shape[1], *windows.counts)
    return windows.gathered(xp, xp.moveaxis(parts, 2, 0)).swapaxes(1, 2)


def weight_gradient(xp: Namespace, windows: Windows, weight: Array, groups: int, x: Array, g: Array) -> Array:
    """Return the derivative of <g, correlate(weight, x)> at the weight, summed over samples."""
    found = xp.matmul(grouped(g, groups), columns(xp, windows, groups, x).swapaxes(2, 3))
    return found.reshape(found.shape[0], *weight.shape[1:])


def meet(xp: Namespace, g: Array, x: Array, stack: int) -> Array:
    """Sum g over the leading axes along which the product of x and ``stack`` weights was broadcast."""
    return unbroadcast(xp, g, (max(x.shape[0], stack), x.shape[1], *g.shape[LEAD:]))


# -- what layers have in common ----------------------------------------------------------------------------


def channels_of(call: Call) -> tuple[int, int]:
    """Return the channels before and behind; raises ValueError where groups do not divide them."""
    before, behind, groups = slid_over(call, 1)[0][-1], call["channels"], call["groups"]
    bad = [f"{count} channels {where}" for count, where in ((before, "before"), (behind, "behind")) if count % groups]
    if bad:
        message = f"{groups} groups do not divide {' and '.join(bad)}"
        raise ValueError(message)
    return before, behind


def with_bias(call: Call, weight: ParameterSpec, shape: Shape) -> dict[str, ParameterSpec]:
    """Return the weight and, where wanted, the bias."""
    return {"weight": weight} | ({"bias": ParameterSpec(shape, fan_in=weight.fan_in)} if call["bias"] else {})


def activated(xp: Namespace, call: Call, params: Params, z: Array) -> tuple[Array, Saved]:
    """Return f(z + b), and the slope where f is not the identity; z is new: it is added to in place."""
    f = ACTIVATIONS[call["activation"]]
    if "bias" in params:
        bias, own = params["bias"], 1 + len(call["kernel"])
        row = bias.reshape(bias.shape[0], *[1] * (z.ndim - 1 - own), *bias.shape[1:], *[1] * (1 + own - bias.ndim))
        z = z + row if bias.shape[0] > z.shape[0] else xp.add(z, row, out=z)
    y = f.f(xp, z)
    return y, () if f.slope is None else (f.slope(xp, z, y),)


def layer_cost(call: Call, products: int, weight: Shape) -> Cost:
    """Return the cost of a layer of so many multiply-adds with a weight of this shape."""
    curved = call["activation"] not in ("none", "identity")
    return Cost(float(products), weights=float(prod(weight)), curved=curved)


def at_sum(xp: Namespace, saved: Saved, g: Array) -> Array:
    """Return the error before the activation."""
    return saved[0] * unbroadcast(xp, g, saved[0].shape) if saved else g


def of_bias(xp: Namespace, call: Call, params: Params, d: Array) -> dict[str, Array]:
    """Return the derivative at the bias: what reaches the sum, over all but the bias's own axes."""
    if "bias" not in params:
        return {}
    bias, rank = params["bias"], len(call["kernel"])
    flat = d.reshape(d.shape[0], -1, *d.shape[d.ndim - rank - 1 :])
    total = xp.sum(flat, axis=(1, *range(1 + bias.ndim, flat.ndim)))
    return {"bias": unbroadcast(xp, total, bias.shape)}


def by_site(x: Array, groups: int) -> Array:
    """Return (1, samples, channels, *extents) as (groups, channels of one, samples, positions)."""
    found = grouped(x, groups)
    return found.reshape(*found.shape[1:3], x.shape[1], -1)


def windows_by_site(xp: Namespace, windows: Windows, groups: int, x: Array) -> Array:
    """Return the windows of (1, samples, channels, *extents): (groups, channels times kernel, samples, positions)."""
    found = columns(xp, windows, groups, x)
    return found.reshape(*found.shape[1:3], x.shape[1], -1)


def plain_samples(xp: Namespace, call: Call, x: Array, g: Array) -> Array:
    """Return x for each sample that g has, as (1, samples, channels, *extents)."""
    return samples(xp.broadcast_to(x, (*g.shape[:LEAD], *x.shape[LEAD:])), 1, len(call["kernel"]))


def slope_of(xp: Namespace, call: Call, saved: Saved, g: Array) -> Array | None:
    """Return the slope of the activation as ``plain_samples``; None where it is 1."""
    return plain_samples(xp, call, saved[0], g) if saved else None


def bias_factors(params: Params, error: Array, slope: Array | None, to: str) -> dict[str, Factors]:
    """Return the factors of the bias, where there is one."""
    if "bias" not in params:
        return {}
    return {"bias": Factors(f"gcnp->{to}", by_site(error, 1), None if slope is None else by_site(slope, 1))}


def window_factors(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, g: Array, saved: Saved, to: tuple[str, str]
) -> dict[str, Factors]:
    """Return error and slope of each element, and the window that it sees; ``to`` says over which sites they sum."""
    groups = call["groups"]
    x, error, slope = (*(plain_samples(xp, call, part, g) for part in (inputs[0], g)), slope_of(xp, call, saved, g))
    pre = windows_by_site(xp, windows_of(call), groups, x)
    behind = by_site(error, groups), None if slope is None else by_site(slope, groups)
    return {"weight": Factors(f"gcnp,gknp->{to[0]}", *behind, pre), **bias_factors(params, error, slope, to[1])}


# -- convolution -------------------------------------------------------------------------------------------


def conv_shape(call: Call) -> Shape:
    """Return (..., channels, *windows)."""
    channels_of(call)
    front, inner = slid_over(call, 1)
    return (*front[:-1], call["channels"], *sliding(inner, call).counts)


def conv_params(call: Call) -> dict[str, ParameterSpec]:
    """Return the weight (channels, channels in of a group, *kernel) and the bias (channels)."""
    before, behind = channels_of(call)
    groups, size = call["groups"], prod(call["kernel"])
    shape = (behind, before // groups, *call["kernel"])
    weight = ParameterSpec(shape, fan_in=before // groups * size, fan_out=behind // groups * size)
    return with_bias(call, weight, (behind,))


def conv_cost(call: Call) -> Cost:
    """Return a multiply-add for each weight that reaches an element of the vertex."""
    weight = conv_params(call)["weight"].shape
    return layer_cost(call, prod(call.shape) * prod(weight[1:]), weight)


def windows_of(call: Call) -> Windows:
    """Return the windows over the input."""
    return sliding(slid_over(call, 1)[1], call)


def conv_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return f(W * x + b), and keep the slope; nothing where f is the identity."""
    windows, weight, x = windows_of(call), params["weight"], inputs[0]
    stack = weight.shape[0]
    z = correlate(xp, windows, call["groups"], weight, samples(x, stack, windows.rank))
    return activated(xp, call, params, z.reshape(max(stack, x.shape[0]), x.shape[1], *call.shape))


def conv_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return what each window receives, W^T (f' g), added up where windows overlap."""
    windows, weight, x = windows_of(call), params["weight"], inputs[0]
    stack = weight.shape[0]
    d = meet(xp, at_sum(xp, saved, g), x, stack)
    to_x = scatter(xp, windows, call["groups"], weight, samples(d, stack, windows.rank))
    return (unbroadcast(xp, to_x.reshape(*d.shape[:LEAD], *x.shape[LEAD:]), x.shape),)


def conv_to_params(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> dict[str, Array]:
    """Return (f' g) times the windows of x, summed over samples and windows, and the sum of f' g."""
    windows, weight, x = windows_of(call), params["weight"], inputs[0]
    stack, rank, d = weight.shape[0], windows.rank, at_sum(xp, saved, g)
    rows = samples(meet(xp, d, x, stack), stack, rank)
    found = weight_gradient(xp, windows, weight, call["groups"], samples(x, stack, rank), rows)
    return {"weight": found, **of_bias(xp, call, params, d)}


def conv_factors(xp: Namespace, call: Call, params: Params, inputs: Inputs, g: Array) -> dict[str, Factors]:
    """Return error, slope and window of each element; every position is a site."""
    saved = conv_forward(xp, call, params, inputs)[1]
    return window_factors(xp, call, params, inputs, g, saved, ("gck", "gc"))


# -- transposed convolution ----------------------------------------------------------------------------------


def transposed(call: Call) -> Windows:
    """Return the windows over the vertex: as many as its input has elements."""
    counts, kernel = slid_over(call, 1)[1], call["kernel"]
    rank = len(kernel)
    names = ("stride", "dilation", "output_padding")
    stride, dilation, more = (spread(name, call[name], rank) for name in names)
    around = sides(call["padding"], rank)
    rows = zip(counts, kernel, stride, dilation, around, more, strict=True)
    behind = tuple(
        (n - 1) * step + (size - 1) * gap + 1 - sum(side) + extra for n, size, step, gap, side, extra in rows
    )
    if min(behind) < 1:
        message = f"the padding leaves extents of {behind}, expected at least 1 each"
        raise ValueError(message)
    return Windows(behind, kernel, stride, dilation, around, counts)


def transpose_shape(call: Call) -> Shape:
    """Return (..., channels, *extents)."""
    channels_of(call)
    return (*slid_over(call, 1)[0][:-1], call["channels"], *transposed(call).extents)


def transpose_params(call: Call) -> dict[str, ParameterSpec]:
    """Return the weight (channels in, channels of a group, *kernel) and the bias (channels)."""
    before, behind = channels_of(call)
    groups, size = call["groups"], prod(call["kernel"])
    shape = (before, behind // groups, *call["kernel"])
    weight = ParameterSpec(shape, fan_in=behind // groups * size, fan_out=before // groups * size)
    return with_bias(call, weight, (behind,))


def transpose_cost(call: Call) -> Cost:
    """Return a multiply-add for each weight that an element of the input reaches."""
    weight = transpose_params(call)["weight"].shape
    return layer_cost(call, prod(call.shapes[0]) * prod(weight[1:]), weight)


def transpose_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return f(W^T x + b): what a convolution with these weights sends back."""
    windows, weight, x = transposed(call), params["weight"], inputs[0]
    stack = weight.shape[0]
    z = scatter(xp, windows, call["groups"], weight, samples(x, stack, windows.rank))
    return activated(xp, call, params, z.reshape(max(stack, x.shape[0]), x.shape[1], *call.shape))


def transpose_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return the convolution of f' g."""
    windows, weight, x = transposed(call), params["weight"], inputs[0]
    stack = weight.shape[0]
    d = meet(xp, at_sum(xp, saved, g), x, stack)
    to_x = correlate(xp, windows, call["groups"], weight, samples(d, stack, windows.rank))
    return (unbroadcast(xp, to_x.reshape(*d.shape[:LEAD], *x.shape[LEAD:]), x.shape),)


def transpose_to_params(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> dict[str, Array]:
    """Return x times the windows of f' g, summed over samples and windows, and the sum of f' g."""
    windows, weight, x = transposed(call), params["weight"], inputs[0]
    stack, rank, d = weight.shape[0], windows.rank, at_sum(xp, saved, g)
    rows = samples(meet(xp, d, x, stack), stack, rank)
    found = weight_gradient(xp, windows, weight, call["groups"], rows, samples(x, stack, rank))
    return {"weight": found, **of_bias(xp, call, params, d)}


def transpose_factors(xp: Namespace, call: Call, params: Params, inputs: Inputs, g: Array) -> dict[str, Factors]:
    """Return each input, and error and slope of the window that it reaches; every position is a site."""
    saved, groups, windows = transpose_forward(xp, call, params, inputs)[1], call["groups"], transposed(call)
    x, error, slope = (*(plain_samples(xp, call, part, g) for part in (inputs[0], g)), slope_of(xp, call, saved, g))
    behind = [None if part is None else windows_by_site(xp, windows, groups, part) for part in (error, slope)]
    weight = Factors("gknp,gcnp->gck", behind[0], behind[1], by_site(x, groups))
    return {"weight": weight, **bias_factors(params, error, slope, "gc")}


# -- unshared weights ----------------------------------------------------------------------------------------


def local_params(call: Call) -> dict[str, ParameterSpec]:
    """Return the weight (channels, channels in of a group, *kernel, *windows) and the bias (channels, *windows)."""
    before, behind = channels_of(call)
    groups, counts = call["groups"], windows_of(call).counts
    fan_in = before // groups * prod(call["kernel"])
    weight = ParameterSpec((behind, before // groups, *call["kernel"], *counts), fan_in=fan_in)
    return with_bias(call, weight, (behind, *counts))


def local_cost(call: Call) -> Cost:
    """Return a multiply-add for each weight that reaches an element of the vertex."""
    weight = local_params(call)["weight"].shape
    return layer_cost(call, prod(slid_over(call, 1)[0][:-1]) * prod(weight), weight)


def by_position(x: Array, count: int) -> Array:
    """Return (stack, groups, rows, samples times positions) as (stack, groups, positions, rows, samples)."""
    return x.reshape(*x.shape[:3], count, -1).transpose(0, 1, 4, 2, 3)


def local_matrices(weight: Array, windows: Windows, groups: int) -> Array:
    """Return the weight as (stack, groups, positions, channels of one, their inputs)."""
    rows = weight.reshape(weight.shape[0], groups, weight.shape[1] // groups, -1, prod(windows.counts))
    return rows.transpose(0, 1, 4, 2, 3)


def local_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return f(W x + b), with a weight and a bias of its own for each window."""
    windows, weight, x = windows_of(call), params["weight"], inputs[0]
    stack, groups = weight.shape[0], call["groups"]
    rows = samples(x, stack, windows.rank)
    seen = by_position(columns(xp, windows, groups, rows), rows.shape[1])
    z = xp.matmul(local_matrices(weight, windows, groups), seen).transpose(0, 4, 1, 3, 2)
    return activated(xp, call, params, z.reshape(max(stack, x.shape[0]), x.shape[1], *call.shape))


def local_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return what each window receives, added up where windows overlap."""
    windows, weight, x = windows_of(call), params["weight"], inputs[0]
    stack, groups, rank = weight.shape[0], call["groups"], windows.rank
    d = meet(xp, at_sum(xp, saved, g), x, stack)
    rows = samples(d, stack, rank)
    sent = by_position(grouped(rows, groups), rows.shape[1])
    found = xp.matmul(local_matrices(weight, windows, groups).swapaxes(3, 4), sent)
    parts = found.reshape(*found.shape[:3], -1, prod(windows.kernel), rows.shape[1]).transpose(4, 0, 5, 1, 3, 2)
    shape = (len(parts), found.shape[0], rows.shape[1], x.shape[x.ndim - rank - 1])
    to_x = windows.gathered(xp, parts.reshape(*shape, *windows.counts))
    return (unbroadcast(xp, to_x.reshape(*d.shape[:LEAD], *x.shape[LEAD:]), x.shape),)


def local_to_params(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> dict[str, Array]:
    """Return (f' g) times the window of x at each position, summed over samples, and the sum of f' g."""
    windows, weight, x = windows_of(call), params["weight"], inputs[0]
    stack, groups, rank, d = weight.shape[0], call["groups"], windows.rank, at_sum(xp, saved, g)
    rows, seen = samples(meet(xp, d, x, stack), stack, rank), samples(x, stack, rank)
    sent = by_position(grouped(rows, groups), rows.shape[1])
    found = xp.matmul(sent, by_position(columns(xp, windows, groups, seen), seen.shape[1]).swapaxes(3, 4))
    turned = found.transpose(0, 1, 3, 4, 2)
    return {"weight": turned.reshape(found.shape[0], *weight.shape[1:]), **of_bias(xp, call, params, d)}


def local_factors(xp: Namespace, call: Call, params: Params, inputs: Inputs, g: Array) -> dict[str, Factors]:
    """Return error, slope and window of each element; no position shares its weights."""
    saved = local_forward(xp, call, params, inputs)[1]
    return window_factors(xp, call, params, inputs, g, saved, ("gckp", "gcp"))


# -- unfold and fold -------------------------------------------------------------------------------------------


def unfold_shape(call: Call) -> Shape:
    """Return (..., channels times kernel, windows)."""
    front, inner = slid_over(call, 1)
    return (*front[:-1], front[-1] * prod(call["kernel"]), prod(sliding(inner, call).counts))


def unfolded(xp: Namespace, windows: Windows, x: Array) -> Array:
    """Return (..., channels, *extents) as (..., channels times kernel, windows)."""
    rows = x.reshape(1, -1, *x.shape[x.ndim - windows.rank - 1 :])
    found = columns(xp, windows, 1, rows).reshape(-1, rows.shape[1], prod(windows.counts)).swapaxes(0, 1)
    return found.reshape(*x.shape[: x.ndim - windows.rank - 1], *found.shape[1:])


def folded(xp: Namespace, windows: Windows, x: Array) -> Array:
    """Return the transpose: (..., channels times kernel, windows) as (..., channels, *extents), added up."""
    front = x.shape[:-2]
    parts = x.reshape(*front, -1, prod(windows.kernel), *windows.counts)
    return windows.gathered(xp, xp.moveaxis(parts, len(front) + 1, 0))


def folding(call: Call) -> Windows:
    """Return the windows over the vertex that the columns of the input are."""
    return sliding(spread("size", call["size"], len(call["kernel"])), call)


def fold_shape(call: Call) -> Shape:
    """Return (..., channels, *size)."""
    windows, shape = folding(call), call.shapes[0]
    size, count = prod(windows.kernel), prod(windows.counts)
    if len(shape) < 2 or shape[-2] % size or shape[-1] != count:
        message = f"expected an input (..., channels times {size}, {count}): the kernel's elements, and its windows"
        raise ValueError(message)
    return (*shape[:-2], shape[-2] // size, *windows.extents)


def fold_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return columns added up where their windows overlap."""
    return folded(xp, folding(call), inputs[0]), ()


def fold_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return the windows of g."""
    return (unfolded(xp, folding(call), fold(xp, g, inputs[0])),)


def unfold_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return windows as columns."""
    return unfolded(xp, windows_of(call), inputs[0]), ()


def unfold_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return the columns of g, added up."""
    return (folded(xp, windows_of(call), fold(xp, g, inputs[0])),)


# -- the rows --------------------------------------------------------------------------------------------------

SLIDING = {
    "kernel": Attribute(extents, required=True, summary="extents of a window, one for each axis that it slides over"),
    "stride": Attribute(each_axis, 1, summary="from one window to the next: a number, or one for each axis"),
    "padding": Attribute(padding, 0, summary="zeros around: a number, or for each axis a number or [before, after]"),
    "dilation": Attribute(each_axis, 1, summary="from one element of a window to the next, likewise"),
}
LAYER = {
    "channels": Attribute(positive, required=True, summary="channels of the result"),
    **SLIDING,
    "groups": Attribute(positive, 1, summary="groups of channels that do not see each other; divides both counts"),
    "bias": Attribute(boolean, True, summary="whether a bias is added"),
    "activation": Attribute(activation, "none", summary="function applied to each element: pcsim list activations"),
}
OUTPUT_PADDING = Attribute(
    additions, 0, summary="elements behind the last window's end that the result has too, for each axis"
)

ROWS: tuple[Op, ...] = (
    Op(
        name="conv",
        summary="a convolution: the same weights at every window, over the last axes; channels before them",
        arity=(1, 1),
        shape=conv_shape,
        forward=conv_forward,
        to_inputs=conv_to_inputs,
        to_params=conv_to_params,
        params=conv_params,
        factors=conv_factors,
        slots={"weight": "(channels, channels in / groups, *kernel)", "bias": "(channels)"},
        cost=conv_cost,
        attributes=LAYER,
        source="LeCun et al. 1989",
    ),
    Op(
        name="conv_transpose",
        summary="a transposed convolution: what a convolution with these weights sends back",
        arity=(1, 1),
        shape=transpose_shape,
        forward=transpose_forward,
        to_inputs=transpose_to_inputs,
        to_params=transpose_to_params,
        params=transpose_params,
        factors=transpose_factors,
        slots={"weight": "(channels in, channels / groups, *kernel)", "bias": "(channels)"},
        cost=transpose_cost,
        attributes={**LAYER, "output_padding": OUTPUT_PADDING},
        source="Dumoulin & Visin 2016",
    ),
    Op(
        name="local_conv",
        summary="a locally connected layer: a convolution with weights and biases of its own at every window",
        arity=(1, 1),
        shape=conv_shape,
        forward=local_forward,
        to_inputs=local_to_inputs,
        to_params=local_to_params,
        params=local_params,
        factors=local_factors,
        slots={"weight": "(channels, channels in / groups, *kernel, *windows)", "bias": "(channels, *windows)"},
        cost=local_cost,
        attributes=LAYER,
    ),
    Op(
        name="unfold",
        summary="windows as columns: (..., channels, *extents) to (..., channels times kernel, windows)",
        arity=(1, 1),
        shape=unfold_shape,
        forward=unfold_forward,
        to_inputs=unfold_to_inputs,
        attributes=SLIDING,
        cost=lambda _call: Cost(curved=False),
    ),
    Op(
        name="fold",
        summary="columns added up where their windows overlap: the transpose of unfold",
        arity=(1, 1),
        shape=fold_shape,
        forward=fold_forward,
        to_inputs=fold_to_inputs,
        attributes={
            "size": Attribute(extents, required=True, summary="extents of the result behind the channels"),
            **SLIDING,
        },
        cost=lambda _call: Cost(curved=False),
    ),
)
