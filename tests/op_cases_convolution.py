"""Cases of convolutions and pooling, each with a reference in autograd's NumPy: a sum over the kernel's elements."""

from __future__ import annotations

from itertools import product
from math import ceil, floor, prod

import autograd.numpy as anp
import numpy as np
from op_case import Case


def each(value, rank):
    return (value,) * rank if isinstance(value, int) else tuple(value)


def parts(x, rank, kernel, stride=1, padding=0, dilation=1, counts=None, value=0.0):
    """Return (element, that element of every window) over the last axes of x, which are padded with ``value``."""
    stride, dilation = each(stride, rank), each(dilation, rank)
    around = [side if isinstance(side, list | tuple) else (side, side) for side in each(padding, rank)]
    x = anp.pad(x, [(0, 0)] * (x.ndim - rank) + [(a, b + 50) for a, b in around], "constant", constant_values=value)
    extents = [n - 50 for n in x.shape[x.ndim - rank :]]
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    counts = counts or [(n - w) // s + 1 for n, w, s in zip(extents, spans, stride, strict=True)]
    for element in product(*map(range, kernel)):
        rows = zip(element, dilation, counts, stride, strict=True)
        yield element, x[(..., *(slice(e * d, e * d + (n - 1) * s + 1, s) for e, d, n, s in rows))]


def how(attributes):
    return {key: attributes[key] for key in ("stride", "padding", "dilation") if key in attributes}


def activated(z, attributes):
    return anp.tanh(z) if attributes.get("activation") == "tanh" else z


def correlated(weight, x, kernel, groups, attributes):
    """Return the convolution with weights (channels, channels in of a group, *kernel), or (..., *kernel, *windows)."""
    rank = len(kernel)
    axis = x.ndim - rank - 1
    total = []
    for inner, outer in zip(anp.split(x, groups, axis), anp.split(weight, groups, 0), strict=True):
        terms = 0.0
        for element, part in parts(inner, rank, kernel, **how(attributes)):
            own = outer[(slice(None), slice(None), *element)]
            own = anp.reshape(own, own.shape if own.ndim > 2 else (*own.shape, *[1] * rank))
            terms = terms + anp.sum(own * anp.expand_dims(part, axis), axis=axis + 1)
        total.append(terms)
    return anp.concatenate(total, axis)


def with_bias(z, params, rank):
    if "bias" not in params:
        return z
    bias = params["bias"]
    return z + anp.reshape(bias, (*bias.shape, *[1] * (1 + rank - bias.ndim)))


def conv_case(op, shape, channels, kernel, **attributes):
    def reference(params, x):
        z = correlated(params["weight"], x, kernel, attributes.get("groups", 1), attributes)
        return activated(with_bias(z, params, len(kernel)), attributes)

    return Case(op, (shape,), reference, {"channels": channels, "kernel": kernel, **attributes})


def transpose_case(shape, channels, kernel, **attributes):
    """Return a case whose reference is the definition: every element of the input adds a kernel to the result."""
    rank, groups = len(kernel), attributes.get("groups", 1)
    stride, dilation = each(attributes.get("stride", 1), rank), each(attributes.get("dilation", 1), rank)
    more = each(attributes.get("output_padding", 0), rank)
    around = [
        side if isinstance(side, list | tuple) else (side, side) for side in each(attributes.get("padding", 0), rank)
    ]
    axes = list(zip(shape[len(shape) - rank :], kernel, stride, dilation, more, strict=True))
    full = [(n - 1) * s + (k - 1) * d + 1 + e for n, k, s, d, e in axes]

    def reference(params, x):
        axis, groups_out = x.ndim - rank - 1, []
        for inner, own in zip(anp.split(x, groups, axis), anp.split(params["weight"], groups, 0), strict=True):
            total = 0.0
            for element in product(*map(range, kernel)):
                weight = own[(slice(None), slice(None), *element)]
                term = anp.moveaxis(anp.dot(anp.moveaxis(inner, axis, -1), weight), -1, axis)
                for k, (n, _, s, d, _) in enumerate(axes):
                    matrix = np.zeros((n, full[k]))
                    matrix[np.arange(n), np.arange(n) * s + element[k] * d] = 1
                    term = anp.moveaxis(anp.dot(anp.moveaxis(term, axis + 1 + k, -1), matrix), -1, axis + 1 + k)
                total = total + term
            groups_out.append(total)
        z = anp.concatenate(groups_out, axis)
        z = z[(..., *(slice(a, n - b) for (a, b), n in zip(around, full, strict=True)))]
        return activated(with_bias(z, params, rank), attributes)

    return Case("conv_transpose", (shape,), reference, {"channels": channels, "kernel": kernel, **attributes})


def unfold_case(shape, kernel, **attributes):
    def reference(params, x):
        rank = len(kernel)
        axis = x.ndim - rank
        stacked = anp.stack([part for _, part in parts(x, rank, kernel, **how(attributes))], axis)
        return anp.reshape(stacked, (*x.shape[: axis - 1], x.shape[axis - 1] * prod(kernel), -1))

    return Case("unfold", (shape,), reference, {"kernel": kernel, **attributes})


def fold_case(shape, kernel, size, **attributes):
    """The reference multiplies by the matrix of ``unfold``."""
    channels = shape[-2] // prod(kernel)
    one = np.eye(channels * prod(size)).reshape(-1, channels, *size)
    matrix = unfold_case(one.shape, kernel, **attributes).reference({}, one).reshape(len(one), -1)

    def reference(params, x):
        front = x.shape[:-2]
        return anp.reshape(anp.dot(anp.reshape(x, (*front, -1)), matrix.T), (*front, channels, *size))

    return Case("fold", (shape,), reference, {"kernel": kernel, "size": size, **attributes})


def pool_case(op, shape, kernel, counts=None, **attributes):
    rank = len(kernel)
    given = {"stride": kernel, **how(attributes), "counts": counts}
    p = attributes.get("p", 2.0)

    def reference(params, x):
        def of(array, value):
            return anp.stack([part for _, part in parts(array, rank, kernel, value=value, **given)])

        if op == "max_pool":
            return anp.max(of(x, -np.inf), axis=0)
        if op == "lp_pool":
            return anp.sum(of(anp.abs(x), 0.0) ** p, axis=0) ** (1 / p)
        if attributes.get("count_padding", True):
            around = [s if isinstance(s, list | tuple) else (s, s) for s in each(attributes.get("padding", 0), rank)]
            ones = np.ones([n + a + b for n, (a, b) in zip(x.shape[x.ndim - rank :], around, strict=True)])
            count = sum(part for _, part in parts(ones, rank, kernel, **{**given, "padding": 0}))
        else:
            count = sum(part for _, part in parts(np.ones(x.shape), rank, kernel, **given))
        return anp.sum(of(x, 0.0), axis=0) / count

    return Case(op, (shape,), reference, {"kernel": kernel, **attributes})


def adaptive_case(op, shape, size):
    rank = len(size)

    def reference(params, x):
        extents = x.shape[x.ndim - rank :]
        chosen = []
        for cell in np.ndindex(*size):
            ends = [(floor(i * n / m), ceil((i + 1) * n / m)) for i, n, m in zip(cell, extents, size, strict=True)]
            part = x[(..., *(slice(*end) for end in ends))]
            how = anp.max if op == "adaptive_max_pool" else anp.mean
            chosen.append(how(part, axis=tuple(range(x.ndim - rank, x.ndim))))
        return anp.reshape(anp.stack(chosen, -1), (*x.shape[: x.ndim - rank], *size))

    return Case(op, (shape,), reference, {"size": size})


CONVOLUTION: list[Case] = [
    *(
        conv_case(op, *row[:3], **row[3])
        for op in ("conv", "local_conv")
        for row in (
            ((2, 5), 3, [2], {"stride": 2, "padding": [[1, 0]], "activation": "tanh"}),
            ((2, 4, 5), 4, [2, 3], {"dilation": [1, 2], "groups": 2}),
            ((2, 2, 3, 2, 2), 1, [2, 2, 1], {"padding": [0, 1, 0], "bias": False, "stride": [1, 2, 1]}),
        )
    ),
    conv_case("conv", (2, 3, 3), 2, [1, 1], activation="tanh"),
    conv_case("conv", (3, 4, 3), 6, [3, 3], padding=1, groups=3, stride=2),
    transpose_case((2, 3), 3, [2], stride=2, output_padding=1, activation="tanh"),
    transpose_case((2, 2, 3), 4, [3, 2], groups=2, padding=[[1, 0], 1], stride=[2, 1], dilation=[1, 2]),
    transpose_case((2, 2, 2, 2), 1, [1, 1], bias=False),
    transpose_case((1, 2, 2, 2), 2, [2, 1, 2], output_padding=[1, 0, 0], stride=2),
    unfold_case((2, 4, 4), [2, 3], stride=[2, 1], padding=1),
    unfold_case((2, 2, 5), [2], dilation=2),
    fold_case((4, 6), [2, 1], [3, 3], stride=[1, 1]),
    fold_case((2, 4, 3), [2], [4]),
    fold_case((4, 9), [2, 2], [3, 3], stride=2, padding=2, dilation=2),
    *(
        case
        for op in ("max_pool", "average_pool", "lp_pool")
        for case in (
            pool_case(op, (2, 4, 5), [2, 2]),
            pool_case(op, (5,), [3], stride=1, padding=1),
            pool_case(op, (2, 5, 4, 2), [2, 3, 1], stride=[2, 1, 1], padding=[[0, 1], 0, 0], dilation=[2, 1, 1]),
            pool_case(op, (2, 5, 6), [2, 3], counts=[3, 4], stride=[2, 2], padding=[0, 1], ceil=True),
        )
    ),
    pool_case("average_pool", (2, 5, 6), [2, 3], stride=2, padding=1, count_padding=False),
    pool_case("lp_pool", (6,), [2], p=3),
    *(
        adaptive_case(op, shape, size)
        for op in ("adaptive_average_pool", "adaptive_max_pool")
        for shape, size in [((2, 6, 4), [3, 1]), ((5,), [3]), ((2, 3, 2), [2, 4])]
    ),
]
