"""Operators of ONNX that are layers: products with weights, convolution, pooling, normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.models.onnx_node import Operator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.models.builder import Tensor
    from pcsim.models.onnx_node import Node, Translation

# -- products --------------------------------------------------------------------------------------------------


def gemm(node: Node) -> Tensor:
    """Return alpha A' B' + beta C: an affine layer where B is a weight as PyTorch has it, else a matrix product."""
    a, b = node.input(0), node.input(1)
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    c = node.input(2) if node.has(2) and beta else None
    a = node.part("transpose", [a]) if node.get("transA", 0) else a
    if node.get("transB", 0) and b.array is not None and alpha == beta == 1 and is_bias(c, b.shape[0]):
        return affine(node, a, b, c)
    product = [a, node.part("transpose", [b]) if node.get("transB", 0) else b]
    if c is None and alpha == 1:
        return node.vertex("matmul", product)
    made = node.part("matmul", product)
    made = made if alpha == 1 else node.part("multiply", [made, alpha])
    if c is None:
        return node.vertex("identity", [made])
    return node.vertex("add", [made, c if beta == 1 else node.part("multiply", [c, beta])])


def is_bias(c: Tensor | None, units: int) -> bool:
    """Return whether a tensor can be the bias of a layer: a weight for each unit, or none."""
    return c is None or (c.array is not None and c.shape == (units,))


def affine(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return an affine layer; the weight is (units, fan-in)."""
    params = {"weight": weight, **({"bias": bias} if bias is not None else {})}
    given = {"units": weight.shape[0], **({} if bias is not None else {"bias": False})}
    return node.builder.vertex("affine", [x], given, params=params, name=node.outputs[0])


def matmul(node: Node) -> Tensor:
    """Return the matrix product."""
    return node.vertex("matmul", [node.input(0), node.input(1)])


# -- convolution and pooling -----------------------------------------------------------------------------------


def extents(node: Node) -> tuple[int, ...]:
    """Return the extents of the spatial axes of the input."""
    return node.input(0).shape[2:]


def window(node: Node, kernel: Sequence[int]) -> dict[str, Any]:
    """Return kernel, stride, padding and dilation of a window that moves over the spatial axes."""
    rank = len(kernel)
    stride, dilation = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    how = node.get("auto_pad", "NOTSET")
    padding = pads(node, rank)
    if how == "VALID":
        padding = [[0, 0]] * rank
    elif how in ("SAME_UPPER", "SAME_LOWER"):
        padding = same(extents(node), kernel, stride, dilation, upper=how == "SAME_UPPER")
    return said(kernel=list(kernel), stride=list(stride), padding=padding, dilation=list(dilation))


def pads(node: Node, rank: int) -> list[list[int]]:
    """Return the padding before and behind each spatial axis."""
    given = node.get("pads", [0] * 2 * rank)
    return [[given[axis], given[axis + rank]] for axis in range(rank)]


def said(**given: list[Any]) -> dict[str, Any]:
    """Return settings for each axis as a person would write them: one number where all axes agree.

    >>> said(kernel=[3, 3], stride=[2, 2], padding=[[1, 1], [2, 2]])
    {'kernel': [3, 3], 'stride': 2, 'padding': [1, 2]}
    """
    made: dict[str, Any] = {}
    for key, value in given.items():
        even = all(isinstance(each, list) and each[0] == each[1] for each in value)
        short = [each[0] for each in value] if even else value
        one = key != "kernel" and short and all(each == short[0] for each in short) and not isinstance(short[0], list)
        made[key] = short[0] if one else short
    return made


def same(
    shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], *, upper: bool
) -> list[list[int]]:
    """Return the padding with which the result has an element for each stride."""
    padding = []
    for extent, size, step, apart in zip(shape, kernel, stride, dilation, strict=True):
        total = max(0, (-(-extent // step) - 1) * step + (size - 1) * apart + 1 - extent)
        padding.append(cut(total, upper=upper))
    return padding


def conv(node: Node) -> Tensor:
    """Return a convolution."""
    weight = node.input(1)
    given = {"channels": weight.shape[0], **window(node, node.get("kernel_shape", weight.shape[2:]))}
    return with_bias(node, "conv", given, weight)


def with_bias(node: Node, op: str, given: dict[str, Any], weight: Tensor) -> Tensor:
    """Return a layer with a weight, and a bias where there is one."""
    if node.get("group", 1) != 1:
        given["groups"] = node.get("group")
    bias = node.input(2) if node.has(2) else None
    if bias is not None and bias.known and not np.any(bias.array):
        bias = None
    params = {"weight": weight, **({} if bias is None else {"bias": bias})}
    if bias is None:
        given["bias"] = False
    return node.builder.vertex(op, [node.input(0)], given, params=params, name=node.outputs[0])


def conv_transpose(node: Node) -> Tensor:
    """Return a transposed convolution."""
    weight = node.input(1)
    kernel = node.get("kernel_shape", weight.shape[2:])
    rank, groups = len(kernel), node.get("group", 1)
    stride, dilation = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    more, padding = list(node.get("output_padding", [0] * rank)), pads(node, rank)
    how, wanted = node.get("auto_pad", "NOTSET"), node.get("output_shape")
    if how.startswith("SAME") and wanted is None:
        wanted = [extent * step for extent, step in zip(extents(node), stride, strict=True)]
    if wanted is not None:
        sizes = full(node, kernel, stride, dilation, more)
        beyond = [size - extent for extent, size in zip(wanted, sizes, strict=True)]
        padding = [cut(max(0, each), upper=how == "SAME_UPPER") for each in beyond]
        more = [each - min(0, less) for each, less in zip(more, beyond, strict=True)]
    given = said(
        kernel=list(kernel), stride=list(stride), padding=padding, dilation=list(dilation), output_padding=more
    )
    return with_bias(node, "conv_transpose", {"channels": weight.shape[1] * groups, **given}, weight)


def full(
    node: Node, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], more: Sequence[int]
) -> list[int]:
    """Return the extents of a transposed convolution of which nothing is cut off."""
    rows = zip(extents(node), kernel, stride, dilation, more, strict=True)
    return [(extent - 1) * step + (size - 1) * apart + 1 + extra for extent, size, step, apart, extra in rows]


def cut(total: int, *, upper: bool) -> list[int]:
    """Return how much of a total comes before an axis and how much behind; what is odd is behind where ``upper``."""
    less, more = total // 2, total - total // 2
    return [less, more] if upper else [more, less]


def pooling(op: str) -> Translation:
    """Return the translation to a pooling op."""

    def translate(node: Node) -> list[Tensor | None]:
        given = window(node, node.need("kernel_shape"))
        if node.get("ceil_mode", 0):
            given["ceil"] = True
        if op == "average_pool":
            given["count_padding"] = bool(node.get("count_include_pad", 0))
        if op == "lp_pool":
            given["p"] = node.get("p", 2)
        return [node.vertex(op, [node.input(0)], **given), None]

    return translate


def spatial(node: Node) -> list[int]:
    """Return the spatial axes."""
    return list(range(2, len(node.input(0).shape)))


def global_pool(op: str) -> Translation:
    """Return the translation to a reduction over the spatial axes."""
    return lambda node: node.vertex(op, [node.input(0)], axis=spatial(node), keepdims=True)


def global_lp_pool(node: Node) -> Tensor:
    """Return the p-norm over the spatial axes."""
    p = node.get("p", 2)
    if p in (1, 2):
        return node.vertex("norm", [node.input(0)], order=p, axis=spatial(node), keepdims=True)
    powers = node.part("power", [node.part("abs", [node.input(0)])], exponent=p)
    return node.vertex("power", [node.part("sum", [powers], axis=spatial(node), keepdims=True)], exponent=1 / p)


def col_to_im(node: Node) -> Tensor:
    """Return blocks added up at their places in an image."""
    image, kernel = node.wholes(1, "the image's shape"), node.wholes(2, "the block's shape")
    return node.vertex("fold", [node.input(0)], size=image, **window(node, kernel))


# -- normalisation ---------------------------------------------------------------------------------------------


def along(axis: str) -> Translation:
    """Return the translation of a softmax: an op along one axis."""
    return lambda node: node.vertex(axis, [node.input(0)], axis=node.get("axis", -1))


def scaled(node: Node, x: Tensor, weight: Tensor | None, bias: Tensor | None, *, last: bool = True) -> Tensor:
    """Return x times a weight plus a bias, as vertices."""
    terms = [("multiply", weight), ("add", bias)]
    steps = [(op, each) for op, each in terms if each is not None]
    for op, each in steps[: -1 if last else None]:
        x = node.part(op, [x, each])
    if not last:
        return x
    return node.vertex(steps[-1][0], [x, steps[-1][1]]) if steps else node.vertex("identity", [x])


def layer_like(op: str) -> Translation:
    """Return the translation of layer or RMS normalisation from an axis on; its statistics are outputs of their own."""

    def translate(node: Node) -> list[Tensor | None]:
        x = node.input(0)
        axis = node.get("axis", -1) % len(x.shape)
        given = {"axis": axis - len(x.shape), "epsilon": node.get("epsilon", 1e-5)}
        weight, bias = (node.inputs[slot] if node.has(slot) else None for slot in (1, 2))
        statistics = moments(node, x, list(range(axis, len(x.shape))), given["epsilon"])
        slots = {"weight": weight, **({"bias": bias} if op == "layer_norm" else {})}
        if all(each is not None and each.array is not None and each.shape == x.shape[axis:] for each in slots.values()):
            params = {slot: each for slot, each in slots.items() if each is not None}
            return [node.builder.vertex(op, [x], given, params=params, name=node.outputs[0]), *statistics]
        return [scaled(node, node.part(op, [x], **given, affine=False), weight, bias), *statistics]

    return translate


def moments(node: Node, x: Tensor, axes: list[int], epsilon: float) -> list[Tensor | None]:
    """Return the mean over axes and 1 / sqrt(variance + epsilon), where they are wanted."""
    if not (node.wants(1) or node.wants(2)):
        return [None, None]
    mean = node.vertex("mean", [x], 1, axis=axes, keepdims=True)
    squares = node.part("square", [node.part("subtract", [x, mean])])
    variance = node.part("add", [node.part("mean", [squares], axis=axes, keepdims=True), epsilon])
    return [mean, node.vertex("power", [variance], 2, exponent=-0.5) if node.wants(2) else None]


def channel_wise(tensor: Tensor, node: Node, x: Tensor) -> Tensor:
    """Return a number for each channel so that it broadcasts over the spatial axes."""
    return node.part("reshape", [tensor], shape=[-1, *[1] * (len(x.shape) - 2)])


def batch_norm(node: Node) -> list[Tensor | None]:
    """Return batch normalisation by running statistics; those of the batch where it is in training mode."""
    x, statistics = node.input(0), [node.input(3), node.input(4)]
    if node.get("training_mode", 0):
        node.refuse("normalises by the statistics of its batch (training_mode); export the model for inference")
    given = {"axis": 1, "statistics": "frozen", "epsilon": node.get("epsilon", 1e-5)}
    weight, bias = node.input(1), node.input(2)
    if all(each.array is not None for each in (*statistics, weight, bias)):
        buffers = {
            key: node.builder.value(each, key)
            for key, each in zip(("running_mean", "running_variance"), statistics, strict=True)
        }
        params = {"weight": weight, "bias": bias}
        return [node.builder.vertex("batch_norm", [x], given, params=params, buffers=buffers, name=node.outputs[0])]
    mean, variance = (channel_wise(each, node, x) for each in statistics)
    root = node.part("sqrt", [node.part("add", [variance, given["epsilon"]])])
    normal = node.part("divide", [node.part("subtract", [x, mean]), root])
    return [scaled(node, normal, channel_wise(weight, node, x), channel_wise(bias, node, x))]


def instance_norm(node: Node) -> Tensor:
    """Return each channel normalised by its own mean and variance."""
    return grouped(node, node.input(0).shape[1], node.input(1), node.input(2))


def group_norm(node: Node) -> Tensor:
    """Return each group of channels normalised; before opset 21 weights are one for each group."""
    weight, bias, groups = node.input(1), node.input(2), node.need("num_groups")
    channels = node.input(0).shape[1]
    if node.opset < 21 and weight.shape[0] == groups != channels:
        weight, bias = (spread(node, each, channels // groups) for each in (weight, bias))
    return grouped(node, groups, weight, bias)


def spread(node: Node, tensor: Tensor, times: int) -> Tensor:
    """Return a number for each group as one for each of its channels."""
    column = node.part("reshape", [tensor], shape=[-1, 1])
    wide = node.part("multiply", [column, np.ones((1, times))])
    return node.part("reshape", [wide], shape=[-1])


def grouped(node: Node, groups: int, weight: Tensor, bias: Tensor) -> Tensor:
    """Return groups of channels normalised, each by its own mean and variance."""
    x, given = node.input(0), {"groups": groups, "axis": 1, "epsilon": node.get("epsilon", 1e-5)}
    if weight.array is not None and bias.array is not None:
        params = {"weight": weight, "bias": bias}
        return node.builder.vertex("group_norm", [x], given, params=params, name=node.outputs[0])
    normal = node.part("group_norm", [x], **given, affine=False)
    return scaled(node, normal, channel_wise(weight, node, x), channel_wise(bias, node, x))


def lrn(node: Node) -> Tensor:
    """Return local response normalisation across channels."""
    given = {"size": node.need("size"), "alpha": node.get("alpha", 1e-4), "beta": node.get("beta", 0.75)}
    return node.vertex("lrn", [node.input(0)], **given, k=node.get("bias", 1.0), axis=1)


def lp_normalise(node: Node) -> Tensor:
    """Return the input divided by its norm along an axis."""
    return node.vertex("lp_normalise", [node.input(0)], p=node.get("p", 2), axis=node.get("axis", -1))


def mean_variance(node: Node) -> Tensor:
    """Return the input less its mean, divided by its standard deviation, over axes."""
    x, axes = node.input(0), list(node.get("axes", [0, 2, 3]))
    centred = node.part("subtract", [x, node.part("mean", [x], axis=axes, keepdims=True)])
    variance = node.part("mean", [node.part("square", [centred])], axis=axes, keepdims=True)
    return node.vertex("divide", [centred, node.part("add", [node.part("sqrt", [variance]), 1e-9])])


ROWS = (
    Operator("Gemm", gemm),
    Operator("MatMul", matmul),
    Operator("Conv", conv, weights=(1, 2)),
    Operator("ConvTranspose", conv_transpose, weights=(1, 2)),
    Operator("MaxPool", pooling("max_pool"), whole=True),
    Operator("AveragePool", pooling("average_pool")),
    Operator("LpPool", pooling("lp_pool")),
    Operator("GlobalMaxPool", global_pool("max")),
    Operator("GlobalAveragePool", global_pool("mean")),
    Operator("GlobalLpPool", global_lp_pool),
    Operator("Col2Im", col_to_im, since=18, known=(1, 2)),
    Operator("Softmax", along("softmax")),
    Operator("LogSoftmax", along("log_softmax")),
    Operator("LayerNormalization", layer_like("layer_norm"), since=17),
    Operator("RMSNormalization", layer_like("rms_norm"), since=23),
    Operator("BatchNormalization", batch_norm),
    Operator("InstanceNormalization", instance_norm),
    Operator("GroupNormalization", group_norm, since=18),
    Operator("LRN", lrn),
    Operator("LpNormalization", lp_normalise),
    Operator("MeanVarianceNormalization", mean_variance),
)
