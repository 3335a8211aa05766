"""How layers, convolutions and pooling are written as nodes of ONNX."""

from __future__ import annotations

from functools import reduce
from math import prod, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.models.onnx_write_functions import activated
from pcsim.ops.linear import INNER
from pcsim.ops.pooling import averaging
from pcsim.ops.sliding import sides, slid_over, sliding, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.models.onnx_vertex import Row, Writing
    from pcsim.ops.sliding import Windows

# -- products ------------------------------------------------------------------------------------------------


def affine(w: Writing) -> str:
    """Return weights, bias and activation, over the last axis."""
    x = activated(w, w.x) if w.call["convention"] == INNER else w.x
    weight, bias = w.params["weight"], w.params.get("bias")
    if w.rank == 1:
        made = w.node("Gemm", x, weight, *([bias] if bias else []), transB=1)
    else:
        made = w.node("MatMul", x, w.node("Transpose", weight, perm=[1, 0]))
        made = w.node("Add", made, bias) if bias else made
    return made if w.call["convention"] == INNER else activated(w, made)


def residual(w: Writing) -> str:
    """Return a weighted function of the input, divided by a root, and the input added."""
    y, weight = activated(w, w.x), w.node("Transpose", w.params["weight"], perm=[1, 0])
    made = w.node("MatMul", y, weight)
    made = made if w.call["divisor"] == 1 else w.node("Mul", made, 1 / sqrt(w.call["divisor"]))
    return w.node("Add", made, w.x) if w.call["skip"] else made


def weighted_sum(w: Writing) -> str:
    """Return a weight times each input, added up, with bias and activation."""
    last = w.whole([1 + w.rank])
    columns = [w.node("Unsqueeze", w.spread(place), last) for place in range(len(w.inputs))]
    made = w.node("MatMul", w.node("Concat", *columns, axis=1 + w.rank), w.params["weight"])
    return activated(w, w.node("Add", made, w.params["bias"]) if "bias" in w.params else made)


def projection(w: Writing) -> str:
    """Return what synapses send, each its weight times the neuron before, added up for each neuron after."""
    synapses = w.call["synapses"]
    names = [w.spread(place) for place in range(len(w.inputs))]
    x = w.node("Concat", *names, axis=1) if len(names) > 1 else names[0]
    sent = w.node("Mul", w.node("Gather", x, w.whole(synapses.columns), axis=1), w.params["weight"])
    batch = w.node("Shape", x, start=0, end=1)
    nothing = w.node("Expand", 0.0, w.node("Concat", w.whole([synapses.units]), batch, axis=0))
    places = w.whole(np.asarray(synapses.post)[:, None])
    rows = w.node("ScatterND", nothing, places, w.node("Transpose", sent, perm=[1, 0]), reduction="add")
    made = w.node("Transpose", rows, perm=[1, 0])
    return activated(w, w.node("Add", made, w.params["bias"]) if "bias" in w.params else made)


# -- windows -------------------------------------------------------------------------------------------------


def windows_of(w: Writing, channels: int) -> Windows:
    """Return the windows over the input, behind so many axes of channels."""
    return sliding(slid_over(w.call, channels)[1], w.call)


def flat(w: Writing, shape: Sequence[int], rank: int) -> str:
    """Return the input as (samples, channels, *extents): axes before the channels join the batch."""
    if len(shape) == rank + 1:
        return w.x
    return w.shaped(w.x, [1] * (rank + 1 - len(shape)) + list(shape[max(0, len(shape) - rank - 1) :]))


def unflat(w: Writing, made: str, rank: int) -> str:
    """Return (samples, channels, *extents) with the axes of the vertex."""
    return made if len(w.call.shape) == rank + 1 else w.shaped(made, w.call.shape)


def ends(pairs: Sequence[Sequence[int]]) -> list[int]:
    """Return what is before each axis, then what is behind each."""
    return [pair[0] for pair in pairs] + [pair[1] for pair in pairs]


def slid(windows: Windows) -> dict[str, Any]:
    """Return the attributes of a node whose windows these are; what a last one sticks out by is padding."""
    rows = zip(windows.counts, windows.stride, windows.kernel, windows.dilation, strict=True)
    spans = [(count - 1) * step + (size - 1) * gap + 1 for count, step, size, gap in rows]
    pairs = [
        (before, max(after, span - extent - before))
        for (before, after), span, extent in zip(windows.padding, spans, windows.extents, strict=True)
    ]
    return {
        "kernel_shape": list(windows.kernel), "strides": list(windows.stride), "dilations": list(windows.dilation),
        "pads": ends(pairs),
    }  # fmt: skip


def with_bias(w: Writing) -> list[str]:
    """Return weight and, where there is one, bias."""
    return [w.params[slot] for slot in ("weight", "bias") if slot in w.params]


def conv(w: Writing) -> str:
    """Return a convolution."""
    windows, rank = windows_of(w, 1), len(w.call["kernel"])
    x = flat(w, w.shapes[0], rank)
    made = w.node("Conv", x, *with_bias(w), group=w.call["groups"], **slid(windows))
    return activated(w, unflat(w, made, rank))


def conv_transpose(w: Writing) -> str:
    """Return a transposed convolution."""
    rank = len(w.call["kernel"])
    stride, dilation, more = (list(spread(key, w.call[key], rank)) for key in ("stride", "dilation", "output_padding"))
    made = w.node(
        "ConvTranspose", flat(w, w.shapes[0], rank), *with_bias(w), group=w.call["groups"],
        kernel_shape=list(w.call["kernel"]), strides=stride, dilations=dilation, output_padding=more,
        pads=ends(sides(w.call["padding"], rank)),
    )  # fmt: skip
    return activated(w, unflat(w, made, rank))


def columns(w: Writing, windows: Windows, channels: int) -> str:
    """Return windows as columns, (samples, channels times kernel, *counts): a convolution whose weights are 0 and 1."""
    size = prod(windows.kernel)
    each = np.eye(size).reshape(size, 1, *windows.kernel)
    weights = w.array(np.tile(each, (channels, 1, *[1] * windows.rank)))
    return w.node("Conv", flat(w, w.shapes[0], windows.rank), weights, group=channels, **slid(windows))


def unfold(w: Writing) -> str:
    """Return windows as columns."""
    windows = windows_of(w, 1)
    return w.shaped(columns(w, windows, w.shapes[0][-windows.rank - 1]), w.call.shape)


def fold(w: Writing) -> str:
    """Return columns added up where their windows overlap."""
    windows = sliding(spread("size", w.call["size"], len(w.call["kernel"])), w.call)
    given = {"strides": list(windows.stride), "dilations": list(windows.dilation), "pads": ends(windows.padding)}
    x = w.x if w.rank == 2 else w.shaped(w.x, w.shapes[0][-2:])
    made = w.node("Col2Im", x, w.whole(windows.extents), w.whole(windows.kernel), **given)
    return unflat(w, made, windows.rank)


def local_conv(w: Writing) -> str:
    """Return windows times weights of their own."""
    windows, groups = windows_of(w, 1), w.call["groups"]
    before, behind = w.shapes[0][-windows.rank - 1], w.call["channels"]
    rows, count = before // groups * prod(windows.kernel), prod(windows.counts)
    seen = w.shaped(columns(w, windows, before), (groups, 1, rows, count))
    weight = w.node("Reshape", w.params["weight"], w.whole([1, groups, behind // groups, rows, count]))
    made = w.node("ReduceSum", w.node("Mul", seen, weight), w.whole([3]), keepdims=0)
    made = w.shaped(made, (behind, *windows.counts))
    made = w.node("Add", made, w.params["bias"]) if "bias" in w.params else made
    return activated(w, unflat(w, made, windows.rank))


# -- pooling -------------------------------------------------------------------------------------------------


def max_pool(w: Writing) -> str:
    """Return the maximum of each window."""
    windows = windows_of(w, 0)
    return unflat(w, w.node("MaxPool", flat(w, w.shapes[0], windows.rank), **slid(windows)), windows.rank)


def average_pool(w: Writing) -> str:
    """Return the average of each window; padding counts as the op says."""
    windows = windows_of(w, 0)
    made = w.node("AveragePool", flat(w, w.shapes[0], windows.rank), count_include_pad=1, **slid(windows))
    share = prod(windows.kernel) / reduce(np.multiply.outer, windows.held(padding=w.call["count_padding"]))
    return unflat(w, made if (share == 1).all() else w.node("Mul", made, w.array(share)), windows.rank)


def lp_pool(w: Writing) -> str:
    """Return (sum of |x|^p)^(1/p) of each window."""
    windows, p = windows_of(w, 0), w.call["p"]
    powers = w.node("Pow", w.node("Abs", flat(w, w.shapes[0], windows.rank)), p)
    total = w.node("Mul", w.node("AveragePool", powers, count_include_pad=1, **slid(windows)), prod(windows.kernel))
    return unflat(w, w.node("Pow", total, 1 / p), windows.rank)


def parts_of(w: Writing) -> tuple[list[int], list[int]]:
    """Return the extents of the axes that are divided, and into how many parts."""
    size = list(w.call["size"])
    return list(w.shapes[0][w.rank - len(size) :]), size


def evenly(w: Writing, kind: str) -> str:
    """Return pooling over parts of equal size."""
    extents, size = parts_of(w)
    kernel = [extent // count for extent, count in zip(extents, size, strict=True)]
    made = w.node(kind, flat(w, w.shapes[0], len(size)), kernel_shape=kernel, strides=kernel)
    return unflat(w, made, len(size))


def is_even(w: Writing) -> bool:
    """Return whether all parts are of equal size."""
    return all(extent % count == 0 for extent, count in zip(*parts_of(w), strict=True))


def adaptive_average_pool(w: Writing) -> str:
    """Return the average of each part: matrices where parts differ in size."""
    if is_even(w):
        return evenly(w, "AveragePool")
    x, rank = w.x, 1 + w.rank
    for place, (extent, count) in enumerate(zip(*parts_of(w), strict=True), rank - len(w.call["size"])):
        product = w.node("MatMul", w.moved(x, rank, place, rank - 1), w.array(averaging(np, extent, count, np.float64)))
        x = w.moved(product, rank, rank - 1, place)
    return x


def adaptive_max_pool(w: Writing) -> str:
    """Return the maximum of each part."""
    if not is_even(w):
        raise ValueError("ONNX has maxima over windows of one size; the parts here differ in size")
    return evenly(w, "MaxPool")


ROWS: dict[str, Row] = {
    "affine": affine, "residual": residual, "weighted_sum": weighted_sum, "projection": projection, "conv": conv,
    "conv_transpose": conv_transpose, "local_conv": local_conv, "unfold": unfold, "fold": fold, "max_pool": max_pool,
    "average_pool": average_pool, "lp_pool": lp_pool, "adaptive_average_pool": adaptive_average_pool,
    "adaptive_max_pool": adaptive_max_pool,
}  # fmt: skip
