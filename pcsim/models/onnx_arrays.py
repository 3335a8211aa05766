"""Operators of ONNX that rearrange, choose and reduce axes."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import wrong
from pcsim.models.builder import finite
from pcsim.models.onnx_node import Operator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.models.builder import Tensor
    from pcsim.models.onnx_node import Node, Translation

# -- shapes ----------------------------------------------------------------------------------------------------


def shape(node: Node) -> Tensor:
    """Return the shape of the input, which is known, or a part of it."""
    extents = node.input(0).shape[node.get("start", 0) : node.get("end", None)]
    return node.builder.constant(np.asarray(extents, np.int64))


def size(node: Node) -> Tensor:
    """Return how many elements the input has."""
    return node.builder.constant(np.asarray(prod(node.input(0).shape), np.int64))


def eye_like(node: Node) -> Tensor:
    """Return ones on a diagonal, in the shape of the input."""
    rows, columns = node.input(0).shape
    return node.builder.constant(np.eye(rows, columns, node.get("k", 0)))


def refuse_unknown(node: Node) -> Tensor:
    """Refuse an operator that is read only where all its inputs are known: then it has been worked out already."""
    raise wrong((), f"the inputs of {node.operator} must be known when the model is read")


def reshape(node: Node) -> Tensor:
    """Return the same elements in another shape; 0 keeps an extent, unless ``allowzero`` says otherwise."""
    x, wanted = node.input(0), node.wholes(1, "the shape")
    if not node.get("allowzero", 0):
        wanted = [x.shape[axis] if extent == 0 else extent for axis, extent in enumerate(wanted)]
    return node.vertex("reshape", [x], shape=wanted)


def flatten(node: Node) -> Tensor:
    """Return a matrix: the axes before ``axis`` by the others."""
    x, axis = node.input(0), node.get("axis", 1)
    axis += len(x.shape) if axis < 0 else 0
    return node.vertex("reshape", [x], shape=[prod(x.shape[:axis]), prod(x.shape[axis:])])


def squeeze(node: Node) -> Tensor:
    """Return the input without axes of extent 1."""
    x = node.input(0)
    ones = [axis for axis, extent in enumerate(x.shape) if extent == 1]
    axes = {axis % len(x.shape) for axis in node.wholes(1, "the axes", ones)}
    return node.vertex("reshape", [x], shape=[extent for axis, extent in enumerate(x.shape) if axis not in axes])


def unsqueeze(node: Node) -> Tensor:
    """Return the input with new axes of extent 1."""
    x, axes = node.input(0), node.wholes(1, "the axes")
    rank, extents = len(x.shape) + len(axes), iter(x.shape)
    new = {axis % rank for axis in axes}
    return node.vertex("reshape", [x], shape=[1 if axis in new else next(extents) for axis in range(rank)])


def transpose(node: Node) -> Tensor:
    """Return the axes in another order."""
    return node.vertex("transpose", [node.input(0)], axes=node.get("perm"))


def expand(node: Node) -> Tensor:
    """Return the input repeated along axes of extent 1, and along new ones before them."""
    x, wanted = node.input(0), node.wholes(1, "the shape")
    return node.vertex("expand", [x], shape=list(np.broadcast_shapes(x.shape, tuple(wanted))))


def tile(node: Node) -> Tensor:
    """Return the input repeated along each axis."""
    return node.vertex("tile", [node.input(0)], repeats=node.wholes(1, "the repeats"))


def concat(node: Node) -> Tensor:
    """Return the inputs one behind the other, those without elements left out."""
    return node.vertex("concat", [each for each in node.given() if prod(each.shape)], axis=node.need("axis"))


def slices(node: Node) -> Tensor:
    """Return part of the input along several axes."""
    x, rank = node.input(0), len(node.input(0).shape)
    starts, ends = node.wholes(1, "the starts"), node.wholes(2, "the ends")
    axes = node.wholes(3, "the axes", list(range(len(starts))))
    steps = node.wholes(4, "the steps", [1] * len(starts))
    cuts = [
        cut for cut in zip((axis % rank for axis in axes), starts, ends, steps, strict=True)
        if range(x.shape[cut[0]])[slice(*bounds(cut, x.shape[cut[0]]))] != range(x.shape[cut[0]])
    ]  # fmt: skip
    nothing = [extent_of(cut, x) for cut in cuts]
    if 0 in nothing:
        left = dict(zip((cut[0] for cut in cuts), nothing, strict=True))
        return empty(node, [left.get(axis, extent) for axis, extent in enumerate(x.shape)])
    for cut in cuts[:-1]:
        x = node.part("slice", [x], **slice_attributes(cut, x))
    return node.vertex("slice", [x], **slice_attributes(cuts[-1], x)) if cuts else node.vertex("identity", [x])


Cut = tuple[int, int, int, int]
"""An axis, and start, end and step along it."""


def bounds(cut: Cut, extent: int) -> tuple[int, int | None, int]:
    """Return start, stop and step of a cut as Python has them; ONNX clamps what lies outside."""
    _, start, end, step = cut
    low, high = (0, extent) if step > 0 else (-1, extent - 1)
    first = min(max(start + extent if start < 0 else start, max(low, 0)), high)
    last = min(max(end + extent if end < 0 else end, low), high + (step < 0))
    return first, None if last == -1 else last, step


def extent_of(cut: Cut, x: Tensor) -> int:
    """Return how many elements a cut leaves along its axis."""
    return len(range(x.shape[cut[0]])[slice(*bounds(cut, x.shape[cut[0]]))])


def empty(node: Node, extents: Sequence[int]) -> Tensor:
    """Return a tensor without elements, which is known."""
    return node.builder.constant(np.zeros(tuple(extents)))


def slice_attributes(cut: Cut, x: Tensor) -> dict[str, Any]:
    """Return the attributes of a slice along one axis."""
    start, stop, step = bounds(cut, x.shape[cut[0]])
    return {"axis": cut[0], "start": start, "stop": stop, "step": step}


def split(node: Node) -> list[Tensor | None]:
    """Return the parts of the input along an axis."""
    x, count = node.input(0), node.get("num_outputs", len(node.outputs))
    axis = node.get("axis", 0) % len(x.shape)
    even = -(-x.shape[axis] // count)
    lengths = node.wholes(1, "the lengths", [min(even, x.shape[axis] - first * even) for first in range(count)])
    stops = [int(each) for each in np.cumsum(lengths)]

    def taken(slot: int) -> Tensor | None:
        if not node.wants(slot):
            return None
        if not lengths[slot]:
            return empty(node, [*x.shape[:axis], 0, *x.shape[axis + 1 :]])
        return node.vertex("slice", [x], slot, axis=axis, start=stops[slot] - lengths[slot], stop=stops[slot])

    return [taken(slot) for slot in range(len(node.outputs))]


def pad(node: Node) -> Tensor:
    """Return the input with something before and behind each axis; what is negative is cut off."""
    x, widths = node.input(0), node.wholes(1, "the widths")
    axes = [axis % len(x.shape) for axis in node.wholes(3, "the axes", list(range(len(x.shape))))]
    pairs = {axis: (widths[place], widths[place + len(axes)]) for place, axis in enumerate(axes)}
    for axis, (before, behind) in pairs.items():
        if min(before, behind) < 0:
            stop = x.shape[axis] + min(behind, 0)
            x = node.part("slice", [x], axis=axis, start=max(-before, 0), stop=stop)
    full = [[max(0, each) for each in pairs.get(axis, (0, 0))] for axis in range(len(x.shape))]
    mode = node.get("mode", "constant")
    value = {"value": finite(node.number(2, "the value", 0.0))} if mode == "constant" else {}
    return node.vertex("pad", [x], widths=full, mode=mode, **value)


def center_crop_pad(node: Node) -> Tensor:
    """Return the middle of the input in another shape, with zeros where it is smaller."""
    x, wanted = node.input(0), node.wholes(1, "the shape")
    axes = [axis % len(x.shape) for axis in node.get("axes", range(len(x.shape)))]
    widths = [[0, 0] for _ in x.shape]
    for axis, extent in zip(axes, wanted, strict=True):
        more = extent - x.shape[axis]
        if more < 0:
            start = -more // 2
            x = node.part("slice", [x], axis=axis, start=start, stop=start + extent)
        else:
            widths[axis] = [more // 2, more - more // 2]
    return node.vertex("pad", [x], widths=widths)


def blocks(node: Node, spread: Sequence[int], order: Sequence[int], merged: Sequence[int]) -> Tensor:
    """Return the input with its axes split, reordered and merged."""
    wide = node.part("reshape", [node.input(0)], shape=list(spread))
    return node.vertex("reshape", [node.part("transpose", [wide], axes=list(order))], shape=list(merged))


def depth_to_space(node: Node) -> Tensor:
    """Return channels spread over blocks of pixels."""
    batch, channels, height, width = node.input(0).shape
    side = node.need("blocksize")
    depth = channels // side**2
    merged = (batch, depth, height * side, width * side)
    if node.get("mode", "DCR") == "DCR":
        return blocks(node, (batch, side, side, depth, height, width), (0, 3, 4, 1, 5, 2), merged)
    return blocks(node, (batch, depth, side, side, height, width), (0, 1, 4, 2, 5, 3), merged)


def space_to_depth(node: Node) -> Tensor:
    """Return blocks of pixels gathered into channels."""
    batch, channels, height, width = node.input(0).shape
    side = node.need("blocksize")
    spread = (batch, channels, height // side, side, width // side, side)
    order = (0, 3, 5, 1, 2, 4) if node.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return blocks(node, spread, order, (batch, channels * side**2, height // side, width // side))


# -- what is chosen by indices ---------------------------------------------------------------------------------


def gather(node: Node) -> Tensor:
    """Return elements along an axis, chosen by indices that are known or fed; rows of a weight are an embedding."""
    x, indices = node.input(0), node.input(1)
    axis = node.get("axis", 0) % len(x.shape)
    if x.parameter and axis == 0 and len(x.shape) == 2 and not indices.known:
        entries, units = x.shape
        return node.builder.vertex(
            "embedding", [indices], {"entries": entries, "units": units}, params={"weight": x}, name=node.outputs[0]
        )
    return at_places(node, "gather", indices, axis=axis)


def at_places(node: Node, op: str, indices: Tensor, **given: Any) -> Tensor:
    """Return what an op takes of the first input at indices, which are an attribute where they are known."""
    if indices.array is None:
        return node.vertex(op, [node.input(0), indices], **given)
    return node.vertex(op, [node.input(0)], indices=indices.array, **given)


def gather_elements(node: Node) -> Tensor:
    """Return elements along an axis, each chosen by an index of its own."""
    return at_places(node, "take_along", node.input(1), axis=node.get("axis", 0))


def gather_nd(node: Node) -> Tensor:
    """Return elements chosen by indices along several axes at once."""
    return at_places(node, "gather_nd", node.input(1), common=node.get("batch_dims", 0))


REDUCTIONS = {"none": "none", "add": "add", "mul": "multiply", "max": "max", "min": "min"}


def scatter_elements(node: Node) -> Tensor:
    """Return the input with elements along an axis replaced, or added to."""
    given = {"axis": node.get("axis", 0), "reduction": REDUCTIONS[node.get("reduction", "none")]}
    return node.vertex("scatter", [node.input(0), node.input(2), node.input(1)], **given)


def scatter_nd(node: Node) -> Tensor:
    """Return the input with elements replaced, or added to, at indices along several axes at once."""
    reduction = REDUCTIONS[node.get("reduction", "none")]
    return node.vertex("scatter_nd", [node.input(0), node.input(2), node.input(1)], reduction=reduction)


def compress(node: Node) -> Tensor:
    """Return the elements along an axis at which a known condition is true."""
    x, axis = node.input(0), node.get("axis")
    if axis is None:
        x, axis = node.part("reshape", [x], shape=[-1]), 0
    chosen = np.flatnonzero(node.value(1, "the condition"))
    return node.vertex("gather", [x], axis=axis, indices=chosen)


def one_hot(node: Node) -> Tensor:
    """Return one of two numbers for each class: on where the index names it, off elsewhere."""
    classes, (off, on) = int(node.number(1, "the number of classes")), node.floats(2, "the numbers")
    hot = node.part("one_hot", [node.input(0)], classes=classes, axis=node.get("axis", -1))
    scaled = hot if on - off == 1 else node.part("multiply", [hot, on - off])
    return node.vertex("add", [scaled, off]) if off else node.vertex("identity", [scaled])


def trilu(node: Node) -> Tensor:
    """Return the part of a matrix above or below a diagonal, with zeros elsewhere."""
    k = int(node.number(1, "the diagonal", 0))
    return node.vertex("trilu", [node.input(0)], upper=bool(node.get("upper", 1)), diagonal=k)


def reverse_sequence(node: Node) -> Tensor:
    """Return sequences turned round, each as far as it is long."""
    axes = {"axis": node.get("time_axis", 0), "sequences": node.get("batch_axis", 1)}
    return at_places(node, "reverse_sequence", node.input(1), **axes)


def top_k(node: Node) -> list[Tensor | None]:
    """Return the largest or the smallest elements along an axis, in their order."""
    given = {"axis": node.get("axis", -1), "largest": bool(node.get("largest", 1))}
    return [node.vertex("top_k", [node.input(0)], k=node.wholes(1, "the number of elements")[0], **given), None]


def resize(node: Node) -> Tensor:
    """Return the input stretched or shrunk along axes, with values between its elements."""
    x, axes, coordinates = node.input(0), node.get("axes"), node.get("coordinate_transformation_mode", "half_pixel")
    scales, size = (found if len(found) else None for found in (node.floats(2, "scales"), node.wholes(3, "size", [])))
    given = {
        "size": size, "scales": scales, "axes": axes, "coordinates": coordinates, "mode": node.get("mode", "nearest"),
        "rounding": node.get("nearest_mode", "round_prefer_floor"), "antialias": bool(node.get("antialias", 0)),
        "aspect": node.get("keep_aspect_ratio_policy", "stretch"),
        "cubic_coefficient": node.get("cubic_coeff_a", -0.75),
        "exclude_outside": bool(node.get("exclude_outside", 0)), "extrapolation": node.get("extrapolation_value", 0.0),
    }  # fmt: skip
    if coordinates == "tf_crop_and_resize":
        region = node.floats(1, "the region")
        half = len(region) // 2
        given["roi"] = [list(pair) for pair in zip(region[:half], region[half:], strict=True)]
    return node.vertex("resize", [x], **{key: value for key, value in given.items() if value is not None})


# -- reductions and scans --------------------------------------------------------------------------------------


def reduction(op: str, since: int, **given: Any) -> Translation:
    """Return the translation of a reduction whose axes are an input from an opset on, and an attribute before."""

    def translate(node: Node) -> Tensor:
        axes = node.wholes(1, "the axes") if node.opset >= since else node.get("axes")
        axes = node.get("axes") if axes is None else axes
        if not axes and node.get("noop_with_empty_axes", 0):
            return reduced_over_nothing(node, op)
        return node.vertex(op, [node.input(0)], axis=axes or None, keepdims=bool(node.get("keepdims", 1)), **given)

    return translate


OVER_NOTHING = {"norm": "abs", "sum_square": "square", "log_sum": "log"}
"""What a reduction over no axis does to each element, where it is not nothing."""


def reduced_over_nothing(node: Node, op: str) -> Tensor:
    """Return what a reduction over no axis makes of each element."""
    return node.vertex(OVER_NOTHING.get(op, "identity"), [node.input(0)])


def scan_along(op: str) -> Translation:
    """Return the translation of a running sum or product."""

    def translate(node: Node) -> Tensor:
        axis = node.wholes(1, "the axis")[0]
        given = {"exclusive": bool(node.get("exclusive", 0)), "reverse": bool(node.get("reverse", 0))}
        return node.vertex(op, [node.input(0)], axis=axis, **given)

    return translate


def einsum(node: Node) -> Tensor:
    """Return a sum of products, as an equation says."""
    return node.vertex("einsum", node.given(), equation=node.need("equation"))


ROWS = (
    Operator("Shape", shape, whole=True),
    Operator("Size", size, whole=True),
    Operator("EyeLike", eye_like, whole=True),
    *(
        Operator(name, refuse_unknown, known=known, whole=True)
        for name, known in {
            "Constant": (), "ConstantOfShape": (0,), "Range": (0, 1, 2), "NonZero": (0,), "Unique": (0,),
            "HannWindow": (0,), "HammingWindow": (0,), "BlackmanWindow": (0,), "MelWeightMatrix": (0, 1, 2, 3, 4),
        }.items()
    ),
    Operator("Reshape", reshape, known=(1,), whole=True),
    Operator("Flatten", flatten, whole=True),
    Operator("Squeeze", squeeze, known=(1,), whole=True),
    Operator("Unsqueeze", unsqueeze, known=(1,), whole=True),
    Operator("Transpose", transpose, whole=True),
    Operator("Expand", expand, known=(1,), whole=True),
    Operator("Tile", tile, known=(1,), whole=True),
    Operator("Concat", concat, whole=True),
    Operator("Slice", slices, known=(1, 2, 3, 4), whole=True),
    Operator("Split", split, known=(1,), whole=True),
    Operator("Pad", pad, known=(1, 2, 3), whole=True),
    Operator("CenterCropPad", center_crop_pad, since=18, known=(1,), whole=True),
    Operator("DepthToSpace", depth_to_space, whole=True),
    Operator("SpaceToDepth", space_to_depth, whole=True),
    Operator("Gather", gather, whole=True),
    Operator("GatherElements", gather_elements, whole=True),
    Operator("GatherND", gather_nd, whole=True),
    Operator("ScatterElements", scatter_elements, since=11, whole=True),
    Operator("Scatter", scatter_elements, since=9, whole=True),
    Operator("ScatterND", scatter_nd, whole=True),
    Operator("Compress", compress, known=(1,), whole=True),
    Operator("OneHot", one_hot, known=(1, 2), indices=(0,), whole=True),
    Operator("Trilu", trilu, since=14, known=(1,), whole=True),
    Operator("ReverseSequence", reverse_sequence, known=(1,), whole=True),
    Operator("TopK", top_k, since=10, known=(1,)),
    Operator("Resize", resize, known=(1, 2, 3)),
    Operator("ReduceSum", reduction("sum", 13), since=1, known=(1,), whole=True),
    Operator("ReduceMean", reduction("mean", 18), since=1, known=(1,)),
    Operator("ReduceMax", reduction("max", 18), since=1, known=(1,), whole=True),
    Operator("ReduceMin", reduction("min", 18), since=1, known=(1,), whole=True),
    Operator("ReduceProd", reduction("prod", 18), since=1, known=(1,), whole=True),
    Operator("ReduceL1", reduction("norm", 18, order=1), since=1, known=(1,), whole=True),
    Operator("ReduceL2", reduction("norm", 18, order=2), since=1, known=(1,)),
    Operator("ReduceLogSum", reduction("log_sum", 18), since=1, known=(1,)),
    Operator("ReduceLogSumExp", reduction("logsumexp", 18), since=1, known=(1,)),
    Operator("ReduceSumSquare", reduction("sum_square", 18), since=1, known=(1,), whole=True),
    Operator("CumSum", scan_along("cumsum"), known=(1,), whole=True),
    Operator("CumProd", scan_along("cumprod"), since=26, known=(1,), whole=True),
    Operator("Einsum", einsum),
)  # fmt: skip
