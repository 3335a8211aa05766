"""What operators of PyTorch (ATen) become: one row each, called with the arguments of the operator itself.

Each translation takes the scope of its node, then the operator's own arguments in their order: tensors as ``Tensor``,
all else as Python values. Defaults are those of ATen, where an operator leaves an argument out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import wrong
from pcsim.models.builder import Operand, Tensor
from pcsim.models.torch_recurrent import gru, lstm, rnn_relu, rnn_tanh

if TYPE_CHECKING:
    from pcsim.models.torch_scope import Scope

Translation = Callable[..., Any]
Extents = int | Sequence[int]


# -- one number at a time ----------------------------------------------------------------------------------


def same(_p: Scope, x: Tensor, *_options: Any, **_more: Any) -> Tensor:
    """Return the tensor itself."""
    return x


def unary(op: str, **attributes: Any) -> Translation:
    """Return the translation of an operator that is an op of one input."""

    def translation(scope: Scope, x: Tensor) -> Tensor:
        return scope.vertex(op, [x], attributes)

    return translation


def unary_with(op: str, **defaults: Any) -> Translation:
    """Return the translation of an op of one input whose attributes are the operator's further arguments, in order."""

    def translation(scope: Scope, x: Tensor, *given: Any, **named: Any) -> Tensor:
        return scope.vertex(op, [x], {**defaults, **dict(zip(defaults, given, strict=False)), **named})

    return translation


def converted(scope: Scope, x: Tensor, *_options: Any, **_more: Any) -> Tensor:
    """Return the tensor where it stays a floating-point number, whatever its size; else say that it cannot be done."""
    if scope.is_float(0) and scope.is_float():
        return x
    raise wrong((), "numbers that are computed cannot change between floating point and whole numbers")


def detached(_scope: Scope, _x: Tensor) -> Tensor:
    """Refuse a value that no gradient passes: an edge that carries no error has no op."""
    raise wrong((), "no gradient passes here, and every edge carries errors: leave detach out, or feed the value")


def softplus(scope: Scope, x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """Return log(1 + exp(beta x)) / beta; PyTorch takes x itself above a threshold, within rounding of it."""
    if threshold < 20:
        raise wrong((), f"softplus with threshold {threshold} has no op: expected 20 or more")
    if beta == 1:
        return scope.vertex("softplus", [x])
    return scaled(scope, scope.vertex("softplus", [scaled(scope, x, beta)], name="softplus"), 1 / beta)


def elu(scope: Scope, x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    """Return x where positive, else alpha (exp(x) - 1)."""
    if (scale, input_scale) != (1, 1):
        raise wrong((), "elu with scales of its own has no op")
    return scope.vertex("elu", [x], {"alpha": float(alpha)})


def threshold(scope: Scope, x: Tensor, above: float, value: float) -> Tensor:
    """Return x where it is above a threshold, else 0."""
    if value:
        raise wrong((), f"threshold that puts {value} below has no op: expected 0")
    return scope.vertex("thresholded_relu", [x], {"alpha": float(above)})


def glu(scope: Scope, x: Tensor, axis: int = -1) -> Tensor:
    """Return half of x times the sigmoid of its other half."""
    a, b = chunk(scope, x, 2, axis)
    return scope.vertex("multiply", [a, scope.vertex("sigmoid", [b], name="gate")])


def clamp(scope: Scope, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    """Return x within bounds, which may be numbers or tensors."""
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        above = x if low is None else scope.vertex("maximum", [x, low])
        return above if high is None else scope.vertex("minimum", [above, high])
    bounds = {"min": low, "max": high}
    return scope.vertex("clip", [x], {key: bound for key, bound in bounds.items() if bound is not None})


def hardtanh(scope: Scope, x: Tensor, low: float = -1, high: float = 1) -> Tensor:
    """Return x between two bounds."""
    return clamp(scope, x, low, high)


def dropout(scope: Scope, x: Tensor, rate: float, train: bool) -> Tensor:
    """Return x with numbers dropped at random, where it is trained."""
    return scope.vertex("dropout", [x], {"rate": rate}) if train and rate else x


def native_dropout(scope: Scope, x: Tensor, rate: float, train: bool | None = True) -> tuple[Tensor]:
    """Return what ``dropout`` does; no model reads the mask."""
    return (dropout(scope, x, rate, bool(train)),)


# -- several inputs that broadcast -------------------------------------------------------------------------


def binary(op: str) -> Translation:
    """Return the translation of an operator that is an op of two inputs."""

    def translation(scope: Scope, a: Operand, b: Operand) -> Tensor:
        return scope.vertex(op, [a, b])

    return translation


def add(scope: Scope, a: Operand, b: Operand, alpha: float = 1) -> Tensor:
    """Return a + alpha b."""
    return scope.vertex("add", [a, b if alpha == 1 else scaled(scope, b, alpha)])


def sub(scope: Scope, a: Operand, b: Operand, alpha: float = 1) -> Tensor:
    """Return a - alpha b."""
    return scope.vertex("subtract", [a, b if alpha == 1 else scaled(scope, b, alpha)])


def rsub(scope: Scope, a: Operand, b: Operand, alpha: float = 1) -> Tensor:
    """Return b - alpha a."""
    return sub(scope, b, a, alpha)


def scaled(scope: Scope, x: Operand, factor: float) -> Tensor:
    """Return a multiple of x."""
    return scope.vertex("multiply", [x, factor])


def div(scope: Scope, a: Operand, b: Operand, rounding_mode: str | None = None) -> Tensor:
    """Return a / b, rounded as asked."""
    quotient = scope.vertex("divide", [a, b])
    if rounding_mode is None:
        return quotient
    if rounding_mode == "floor":
        return scope.vertex("floor", [quotient])
    raise wrong((), "a quotient that is cut towards 0 has no op")


def power(scope: Scope, base: Operand, exponent: Operand) -> Tensor:
    """Return the base to the exponent; a number as exponent is an attribute."""
    if not isinstance(exponent, Tensor):
        return scope.vertex("power", [base], {"exponent": float(exponent)})
    return scope.vertex("power", [base, exponent])


def where(scope: Scope, mask: Tensor, a: Operand, b: Operand) -> Tensor:
    """Return a where the mask holds, else b."""
    return scope.vertex("where", [whole(mask), a, b])


def masked_fill(scope: Scope, x: Tensor, mask: Tensor, value: Operand) -> Tensor:
    """Return x with a value where the mask holds."""
    return where(scope, mask, value, x)


def whole(mask: Tensor) -> Tensor:
    """Return a mask as 0 and 1, where it is known."""
    return mask if mask.array is None else Tensor(mask.shape, mask.array.astype(np.int64))


# -- products with weights ---------------------------------------------------------------------------------


def weights(weight: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
    """Return the parameters of a layer."""
    return {"weight": weight} | ({} if bias is None else {"bias": bias})


def linear(scope: Scope, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + b; a weight that is computed is an input like any other."""
    if weight.vertex or (bias is not None and bias.vertex):
        product = scope.vertex("matmul", [x, scope.vertex("transpose", [weight])])
        return product if bias is None else scope.vertex("add", [product, bias])
    attributes = {"units": weight.shape[0], "bias": bias is not None}
    return scope.vertex("affine", [x], attributes, params=weights(weight, bias))


def convolution(
    scope: Scope,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Extents = 1,
    padding: Extents | str = 0,
    dilation: Extents = 1,
    groups: int = 1,
) -> Tensor:
    """Return a convolution over as many axes as the kernel has."""
    kernel, spread = weight.shape[2:], each(dilation, weight.shape[2:])
    if padding == "same":
        spans = [gap * (extent - 1) for gap, extent in zip(spread, kernel, strict=True)]
        around: list[Any] = [[span // 2, span - span // 2] for span in spans]
    else:
        around = each(0 if isinstance(padding, str) else padding, kernel)
    attributes = {
        "channels": weight.shape[0],
        "kernel": list(kernel),
        "stride": each(stride, kernel),
        "padding": around,
        "dilation": spread,
        "groups": groups,
        "bias": bias is not None,
    }
    return scope.vertex("conv", [x], attributes, params=weights(weight, bias))


def conv_transpose(
    scope: Scope,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Extents = 1,
    padding: Extents = 0,
    output_padding: Extents = 0,
    groups: int = 1,
    *dilation: Extents,
) -> Tensor:
    """Return a transposed convolution over as many axes as the kernel has."""
    kernel = weight.shape[2:]
    attributes = {
        "channels": weight.shape[1] * groups,
        "kernel": list(kernel),
        "stride": each(stride, kernel),
        "padding": each(padding, kernel),
        "output_padding": each(output_padding, kernel),
        "dilation": each(dilation[0] if dilation else 1, kernel),
        "groups": groups,
        "bias": bias is not None,
    }
    return scope.vertex("conv_transpose", [x], attributes, params=weights(weight, bias))


def each(value: Extents, axes: Sequence[int]) -> list[int]:
    """Return a value for each axis, of one that may stand for all."""
    given = [value] if isinstance(value, int) else list(value)
    return given * len(axes) if len(given) == 1 else given


def addmm(scope: Scope, c: Operand, a: Operand, b: Operand, beta: float = 1, alpha: float = 1) -> Tensor:
    """Return beta c + alpha a b."""
    product = scope.vertex("matmul", [a, b])
    product = product if alpha == 1 else scaled(scope, product, alpha)
    return scope.vertex("add", [c if beta == 1 else scaled(scope, c, beta), product])


def einsum(scope: Scope, equation: str, operands: Sequence[Tensor], **_path: Any) -> Tensor:
    """Return a sum of products over named axes."""
    return scope.vertex("einsum", list(operands), {"equation": equation})


def embedding(scope: Scope, weight: Tensor, indices: Tensor, padding: int = -1, *_options: Any) -> Tensor:
    """Return the rows of a table that whole numbers choose."""
    if weight.vertex or weight.known:
        return scope.vertex("gather", [weight, indices], {"axis": 0})
    if padding >= 0:
        raise wrong((), "an embedding whose padding_idx is not learnt has no op: make the module without padding_idx")
    entries, units = weight.shape
    return scope.vertex("embedding", [indices], {"entries": entries, "units": units}, params={"weight": weight})


# -- attention ---------------------------------------------------------------------------------------------


def attention(
    scope: Scope,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    rate: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return softmax(scale Q K^T + mask) V, each step a vertex (Vaswani et al. 2017, eq. 1)."""
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = repeated_heads(scope, key, repeats, "key"), repeated_heads(scope, value, repeats, "value")
    rank = len(key.shape)
    turned = scope.vertex("transpose", [key], {"axes": [*range(rank - 2), rank - 1, rank - 2]}, name="key.transpose")
    scores = scope.vertex("matmul", [query, turned], name="scores")
    factor = 1 / sqrt(query.shape[-1]) if scale is None else scale
    scores = scope.vertex("multiply", [scores, float(factor)], name="scaled")
    if is_causal:
        scores = scope.vertex("add", [scores, np.triu(np.full(scores.shape[-2:], -np.inf), 1)], name="masked")
    if mask is not None:
        scores = masked(scope, scores, mask)
    shares = scope.vertex("softmax", [scores], {"axis": -1}, name="shares")
    if rate:
        shares = scope.vertex("dropout", [shares], {"rate": rate}, name="dropout")
    return scope.vertex("matmul", [shares, value], name="mix")


def masked(scope: Scope, scores: Tensor, mask: Tensor) -> Tensor:
    """Return scores with a mask: truth values that keep, or numbers that are added."""
    if mask.array is not None and mask.array.dtype.kind == "b":
        mask = Tensor(mask.shape, np.where(mask.array, 0.0, -np.inf))
    return scope.vertex("add", [scores, mask], name="masked")


def repeated_heads(scope: Scope, x: Tensor, repeats: int, name: str) -> Tensor:
    """Return x with each head repeated, (..., heads repeats, length, width)."""
    *front, heads, length, width = x.shape
    apart = reshaped(scope, x, [*front, heads, 1, length, width], name=f"{name}.apart")
    wide = scope.vertex("expand", [apart], {"shape": [*front, heads, repeats, length, width]}, name=f"{name}.repeated")
    return reshaped(scope, wide, [*front, heads * repeats, length, width], name=f"{name}.heads")


# -- norms, reductions, scans ------------------------------------------------------------------------------


def batch_norm(
    scope: Scope,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    train: bool,
    momentum: float,
    *options: Any,
) -> tuple[Tensor]:
    """Return x normalised by the statistics of the batch or by frozen ones; channels are axis 1."""
    attributes = {
        "axis": 1,
        "statistics": "batch" if train or mean is None else "frozen",
        "affine": weight is not None,
        "epsilon": options[0],
        "momentum": momentum,
    }
    kept = {"running_mean": mean, "running_variance": variance}
    buffers = {name: scope.value(each, name) for name, each in kept.items() if each is not None}
    params = {} if weight is None else {"weight": weight, "bias": scope.zeros(weight.shape) if bias is None else bias}
    return (scope.vertex("batch_norm", [x], attributes, params=params, buffers=buffers),)


def batch_norm_of_training(scope: Scope, x: Tensor, *arguments: Any) -> Tensor:
    """Return what ``aten.batch_norm`` does, which has one result."""
    return batch_norm(scope, x, *arguments)[0]


def frozen_batch_norm(scope: Scope, x: Tensor, *arguments: Any) -> tuple[Tensor]:
    """Return x normalised by frozen statistics."""
    *tensors, momentum, epsilon = arguments
    return batch_norm(scope, x, *tensors, False, momentum, epsilon)


def batch_norm_without_statistics(scope: Scope, x: Tensor, weight: Any, bias: Any, *options: Any) -> tuple[Tensor]:
    """Return x normalised by the statistics of the batch, which nobody keeps."""
    return batch_norm(scope, x, weight, bias, None, None, *options)


def normalised(scope: Scope, op: str, x: Tensor, attributes: dict[str, Any], *affine: Tensor | None) -> Tensor:
    """Return a norm with its weight and bias; where one of both is missing it is 1, or 0, and stays apart."""
    names = dict(zip(("weight", "bias"), affine, strict=False))
    given = {name: each for name, each in names.items() if each is not None}
    if "weight" not in given and "bias" in given:
        raise wrong((), "a norm with a bias and without a weight has no op")
    if "weight" in given and "bias" in names and "bias" not in given:
        given["bias"] = scope.zeros(given["weight"].shape)
    return scope.vertex(op, [x], {**attributes, "affine": bool(given)}, params=given)


def layer_norm(
    scope: Scope,
    x: Tensor,
    shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    epsilon: float = 1e-5,
    *_fast: Any,
) -> Tensor:
    """Return x normalised over its last axes."""
    return normalised(scope, "layer_norm", x, {"axis": -len(shape), "epsilon": epsilon}, weight, bias)


def group_norm(
    scope: Scope, x: Tensor, groups: int, weight: Any = None, bias: Any = None, epsilon: float = 1e-5, *_fast: Any
) -> Tensor:
    """Return groups of channels normalised, each by its own mean and variance; channels are axis 1."""
    return normalised(scope, "group_norm", x, {"groups": groups, "axis": 1, "epsilon": epsilon}, weight, bias)


def instance_norm(scope: Scope, x: Tensor, weight: Any, bias: Any, *options: Any) -> Tensor:
    """Return channels normalised, each by its own mean and variance, or by frozen ones."""
    mean, variance, of_input, momentum, epsilon, *_fast = options
    if not of_input:
        return batch_norm(scope, x, weight, bias, mean, variance, False, momentum, epsilon)[0]
    return normalised(scope, "instance_norm", x, {"axis": 1, "epsilon": epsilon}, weight, bias)


def rms_norm(scope: Scope, x: Tensor, shape: Sequence[int], weight: Any = None, epsilon: float | None = None) -> Tensor:
    """Return x divided by the root of its mean square over its last axes."""
    chosen = float(np.finfo(scope.dtype()).eps) if epsilon is None else epsilon
    return normalised(scope, "rms_norm", x, {"axis": -len(shape), "epsilon": chosen}, weight)


def reduced(op: str) -> Translation:
    """Return the translation of a reduction over axes."""

    def translation(scope: Scope, x: Tensor, axes: Any = None, keepdim: bool = False, **_more: Any) -> Tensor:
        chosen = None if axes is None or axes == [] else axes
        return scope.vertex(op, [x], {"axis": chosen, "keepdims": keepdim})

    return translation


def vector_norm(
    scope: Scope, x: Tensor, order: float = 2, axes: Any = None, keepdim: bool = False, **_m: Any
) -> Tensor:
    """Return the 1-norm or the 2-norm over axes."""
    return scope.vertex("norm", [x], {"order": int(order), "axis": axes, "keepdims": keepdim})


def variance(
    scope: Scope, x: Tensor, axes: Any = None, *options: Any, correction: float | None = 1, keepdim: bool = False
) -> Tensor:
    """Return the mean squared distance from the mean over axes, corrected for how many numbers there are."""
    if options:  # the older form: (unbiased, keepdim)
        correction, keepdim = float(options[0]), bool(options[1:] and options[1])
    if isinstance(axes, bool):
        axes, correction = None, float(axes)
    chosen = range(len(x.shape)) if axes is None else [axes] if isinstance(axes, int) else axes
    count = prod(x.shape[axis] for axis in chosen)
    away = scope.vertex(
        "subtract", [x, scope.vertex("mean", [x], {"axis": axes, "keepdims": True}, name="mean")], name="away"
    )
    spread = scope.vertex("mean", [scope.vertex("square", [away], name="square")], {"axis": axes, "keepdims": keepdim})
    corrected = count - (1 if correction is None else correction)
    return spread if corrected == count else scaled(scope, spread, count / corrected)


def standard_deviation(scope: Scope, x: Tensor, *options: Any, **named: Any) -> Tensor:
    """Return the root of the variance."""
    return scope.vertex("sqrt", [variance(scope, x, *options, **named)])


def softmax(op: str) -> Translation:
    """Return the translation of a softmax along an axis."""

    def translation(scope: Scope, x: Tensor, axis: int, *_dtype: Any, **_more: Any) -> Tensor:
        return scope.vertex(op, [x], {"axis": axis})

    return translation


def scan(op: str) -> Translation:
    """Return the translation of a cumulative sum or product."""

    def translation(scope: Scope, x: Tensor, axis: int, **_dtype: Any) -> Tensor:
        return scope.vertex(op, [x], {"axis": axis})

    return translation


# -- pooling -----------------------------------------------------------------------------------------------


def max_pool(
    scope: Scope,
    x: Tensor,
    kernel: Extents,
    stride: Extents = (),
    padding: Extents = 0,
    dilation: Extents = 1,
    ceil: bool = False,
) -> Tensor:
    """Return the maximum of each window."""
    sizes = window(scope, kernel, stride, padding) | {"dilation": each(dilation, scope.axes), "ceil": ceil}
    return scope.vertex("max_pool", [x], sizes)


def average_pool(
    scope: Scope,
    x: Tensor,
    kernel: Extents,
    stride: Extents = (),
    padding: Extents = 0,
    ceil: bool = False,
    count_padding: bool = True,
    divisor: int | None = None,
) -> Tensor:
    """Return the mean of each window; a divisor of its own multiplies it."""
    sizes = window(scope, kernel, stride, padding) | {"ceil": ceil, "count_padding": count_padding}
    if divisor is None:
        return scope.vertex("average_pool", [x], sizes)
    if any(each(padding, scope.axes)) or ceil:
        raise wrong((), "average pooling with a divisor of its own, and padding, has no op")
    return scaled(scope, scope.vertex("average_pool", [x], sizes), prod(sizes["kernel"]) / divisor)


def window(scope: Scope, kernel: Extents, stride: Extents, padding: Extents) -> dict[str, Any]:
    """Return the attributes of a window that slides over the axes of a pooling operator."""
    sizes = {"kernel": each(kernel, scope.axes), "padding": each(padding, scope.axes)}
    return sizes if stride in ((), []) else {**sizes, "stride": each(stride, scope.axes)}


def adaptive_average_pool(scope: Scope, x: Tensor, size: Extents) -> Tensor:
    """Return means over as many windows as asked."""
    return scope.vertex("adaptive_average_pool", [x], {"size": adaptive(scope, x, size)})


def adaptive_max_pool(scope: Scope, x: Tensor, size: Extents) -> tuple[Tensor]:
    """Return maxima of as many windows as asked; no index of them."""
    return (scope.vertex("adaptive_max_pool", [x], {"size": adaptive(scope, x, size)}),)


def adaptive(scope: Scope, x: Tensor, size: Any) -> list[int]:
    """Return the extents of an adaptive pooling; those left open stay as they are."""
    wanted: list[int | None] = [*each(size, scope.axes)]
    return [old if new is None else new for old, new in zip(x.shape[-len(wanted) :], wanted, strict=True)]


def unfold(
    scope: Scope, x: Tensor, kernel: Sequence[int], dilation: Extents, padding: Extents, stride: Extents
) -> Tensor:
    """Return windows as columns."""
    return scope.vertex("unfold", [x], columns(kernel, dilation, padding, stride))


def fold(scope: Scope, x: Tensor, size: Sequence[int], kernel: Sequence[int], *window_options: Extents) -> Tensor:
    """Return columns added up where their windows overlap."""
    return scope.vertex("fold", [x], {"size": list(size)} | columns(kernel, *window_options))


def columns(kernel: Sequence[int], dilation: Extents, padding: Extents, stride: Extents) -> dict[str, Any]:
    """Return the attributes of windows that become columns."""
    sizes = {"dilation": dilation, "padding": padding, "stride": stride}
    return {"kernel": list(kernel)} | {name: each(value, kernel) for name, value in sizes.items()}


def upsampled(mode: str) -> Translation:
    """Return the translation of resizing to a size, or by factors."""

    def translation(scope: Scope, x: Tensor, size: Any, *options: Any) -> Tensor:
        corners, factors = (options[0], options[1]) if len(options) == 2 else (False, options[0])
        given = {"scales": list(factors)} if size is None else {"size": list(size)}
        rule = "asymmetric" if mode == "nearest" else "align_corners" if corners else "half_pixel"
        axes = list(range(2, len(x.shape)))
        kind = {"mode": mode, "coordinates": rule, **({"rounding": "floor"} if mode == "nearest" else {})}
        return scope.vertex("resize", [x], {"axes": axes, **kind, **given})

    return translation


# -- the same numbers in other places ----------------------------------------------------------------------


def reshaped(scope: Scope, x: Tensor, shape: Sequence[int], name: str = "") -> Tensor:
    """Return the same numbers in another shape, one extent of which may be -1."""
    size = prod(x.shape)
    blank = size // max(1, prod(extent for extent in shape if extent != -1))
    wanted = [blank if extent == -1 else extent for extent in shape]
    return x if tuple(wanted) == x.shape else scope.vertex("reshape", [x], {"shape": wanted}, name=name)


def flatten(scope: Scope, x: Tensor, first: int = 0, last: int = -1) -> Tensor:
    """Return x with several axes made one."""
    rank = len(x.shape)
    first, last = first % max(rank, 1), last % max(rank, 1)
    return reshaped(scope, x, [*x.shape[:first], prod(x.shape[first : last + 1]), *x.shape[last + 1 :]])


def unflatten(scope: Scope, x: Tensor, axis: int, sizes: Sequence[int]) -> Tensor:
    """Return x with one axis made several."""
    axis %= len(x.shape)
    blank = x.shape[axis] // max(1, prod(size for size in sizes if size != -1))
    found = [blank if size == -1 else size for size in sizes]
    return reshaped(scope, x, [*x.shape[:axis], *found, *x.shape[axis + 1 :]])


def permute(scope: Scope, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Return x with its axes in another order."""
    order = [axis % len(x.shape) for axis in axes]
    return x if order == sorted(order) else scope.vertex("transpose", [x], {"axes": order})


def transpose(scope: Scope, x: Tensor, a: int, b: int) -> Tensor:
    """Return x with two axes exchanged."""
    order = list(range(len(x.shape)))
    order[a], order[b] = order[b], order[a]
    return permute(scope, x, order)


def turned(scope: Scope, x: Tensor) -> Tensor:
    """Return a matrix turned."""
    return transpose(scope, x, 0, 1) if len(x.shape) == 2 else x


def unsqueeze(scope: Scope, x: Tensor, axis: int) -> Tensor:
    """Return x with a new axis of extent 1."""
    return scope.vertex("unsqueeze", [x], {"axes": [axis % (len(x.shape) + 1)]})


def squeeze(scope: Scope, x: Tensor, axes: Any = None) -> Tensor:
    """Return x without axes whose extent is 1."""
    chosen = range(len(x.shape)) if axes is None else [axes] if isinstance(axes, int) else axes
    out = sorted({axis % len(x.shape) for axis in chosen if x.shape[axis] == 1})
    return scope.vertex("squeeze", [x], {"axes": out}) if out else x


def expand(scope: Scope, x: Tensor, shape: Sequence[int], **_implicit: Any) -> Tensor:
    """Return x broadcast to a shape, in which -1 leaves an extent as it is."""
    old = (1,) * (len(shape) - len(x.shape)) + x.shape
    wanted = [before if now == -1 else now for before, now in zip(old, shape, strict=True)]
    return x if tuple(wanted) == x.shape else scope.vertex("expand", [x], {"shape": wanted})


def repeat(scope: Scope, x: Tensor, repeats: Sequence[int]) -> Tensor:
    """Return x repeated along its axes, of which there may be new ones."""
    wide = reshaped(scope, x, (1,) * (len(repeats) - len(x.shape)) + x.shape)
    return scope.vertex("tile", [wide], {"repeats": list(repeats)}) if any(n != 1 for n in repeats) else wide


def concat(scope: Scope, parts: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Return tensors one after the other; PyTorch leaves empty ones out."""
    kept = [part for part in parts if part.shape != (0,)]
    return kept[0] if len(kept) == 1 else scope.vertex("concat", kept, {"axis": axis})


def stack(scope: Scope, parts: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Return tensors side by side along a new axis."""
    axis %= len(parts[0].shape) + 1
    return concat(scope, [scope.vertex("unsqueeze", [part], {"axes": [axis]}) for part in parts], axis)


def split(scope: Scope, x: Tensor, size: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Return the parts of x along an axis, each of one size or each of its own."""
    extent = x.shape[axis]
    sizes = [min(size, extent - start) for start in range(0, extent, size)] if isinstance(size, int) else size
    starts = np.cumsum([0, *sizes])
    return [scope.part(x, axis, int(a), int(b)) for a, b in pairwise(starts)]


def chunk(scope: Scope, x: Tensor, chunks: int, axis: int = 0) -> list[Tensor]:
    """Return x in so many parts along an axis."""
    return split(scope, x, -(-x.shape[axis] // chunks), axis)


def unbind(scope: Scope, x: Tensor, axis: int = 0) -> list[Tensor]:
    """Return the entries of x along an axis."""
    return [scope.entry(x, axis, number) for number in range(x.shape[axis])]


def select(scope: Scope, x: Tensor, axis: int, number: int) -> Tensor:
    """Return one entry of x along an axis."""
    return scope.entry(x, axis, number)


def sliced(
    scope: Scope, x: Tensor, axis: int = 0, start: int | None = None, stop: int | None = None, step: int = 1
) -> Tensor:
    """Return part of x along an axis."""
    first, last, _ = slice(start, stop).indices(x.shape[axis])
    return scope.part(x, axis, first, last, step)


def narrow(scope: Scope, x: Tensor, axis: int, start: int, length: int) -> Tensor:
    """Return so many entries of x from one on."""
    return scope.part(x, axis, start, start + length)


def flip(scope: Scope, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Return x backwards along axes."""
    return scope.vertex("flip", [x], {"axes": list(axes)})


def roll(scope: Scope, x: Tensor, shifts: Any, axes: Any = ()) -> Tensor:
    """Return x moved around along axes."""
    if not axes:
        return reshaped(scope, roll(scope, reshaped(scope, x, [-1]), shifts, [0]), x.shape)
    for shift, axis in zip(each(shifts, ()), each(axes, ()), strict=True):
        cut = -shift % x.shape[axis]
        if cut:
            x = concat(scope, [scope.part(x, axis, cut, x.shape[axis]), scope.part(x, axis, 0, cut)], axis)
    return x


def padded(
    scope: Scope, x: Tensor, widths: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Return x with margins; PyTorch lists those of the last axis first."""
    margins = [[widths[at], widths[at + 1]] for at in range(0, len(widths), 2)][::-1]
    every = [[0, 0]] * (len(x.shape) - len(margins)) + margins
    attributes = {"widths": every, "mode": {"replicate": "edge", "circular": "wrap"}.get(mode, mode)}
    return scope.vertex("pad", [x], attributes | ({} if value is None else {"value": float(value)}))


def padded_with(mode: str) -> Translation:
    """Return the translation of padding of one kind."""

    def translation(scope: Scope, x: Tensor, widths: Sequence[int]) -> Tensor:
        return padded(scope, x, widths, mode)

    return translation


def constant_pad(scope: Scope, x: Tensor, widths: Sequence[int], value: float = 0) -> Tensor:
    """Return x with margins of one number."""
    return padded(scope, x, widths, "constant", value)


def gathered(scope: Scope, x: Tensor, axis: int, indices: Tensor) -> Tensor:
    """Return entries of x along an axis, in the order of whole numbers."""
    if indices.array is None:
        return scope.vertex("gather", [x, indices], {"axis": axis})
    return scope.vertex("gather", [x], {"axis": axis, "indices": indices.array.tolist()})


def taken_along(scope: Scope, x: Tensor, axis: int, indices: Tensor, *_sparse: Any, **_more: Any) -> Tensor:
    """Return for each index one number of x along an axis."""
    return scope.vertex("take_along", [x, indices], {"axis": axis})


def indexed(scope: Scope, x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    """Return what whole numbers along neighbouring axes choose, or a known mask of truth values."""
    chosen = {at: each for at, each in enumerate(indices) if each is not None}
    first = min(chosen)
    if any(each.array is None for each in chosen.values()):
        if len(chosen) == 1 and scope.is_whole(1, first):
            return gathered(scope, x, first, chosen[first])
        raise wrong((), "the shape or the place of what is chosen depends on numbers that are computed")
    if list(chosen) != list(range(first, first + len(chosen))):
        raise wrong((), "indices along axes that are no neighbours have no op")
    arrays = [part for each in chosen.values() for part in places_in(scope.value(each, "an index"))]
    extents = x.shape[first : first + len(arrays)]
    inside = [each % extent for each, extent in zip(np.broadcast_arrays(*arrays), extents, strict=True)]
    flat = reshaped(scope, x, [*x.shape[:first], prod(extents), *x.shape[first + len(arrays) :]])
    return gathered(scope, flat, first, scope.constant(np.ravel_multi_index(tuple(inside), extents)))


def places_in(index: np.ndarray[Any, np.dtype[Any]]) -> tuple[np.ndarray[Any, np.dtype[Any]], ...]:
    """Return an index as whole numbers along each of its axes."""
    return np.nonzero(index) if index.dtype.kind == "b" else (index,)


def triangle(upper: bool) -> Translation:
    """Return the translation of a triangle of a matrix."""

    def translation(scope: Scope, x: Tensor, diagonal: int = 0) -> Tensor:
        return scope.vertex("trilu", [x], {"upper": upper, "diagonal": diagonal})

    return translation


def one_hot(scope: Scope, indices: Tensor, classes: int = -1) -> Tensor:
    """Return 1 at the place that each whole number says, else 0."""
    if classes < 0:
        raise wrong((), "the number of classes depends on numbers that are computed: give one_hot num_classes")
    return scope.vertex("one_hot", [indices], {"classes": classes})


def filled_in(scope: Scope, x: Tensor, part: Operand, axis: int, *bounds: Any) -> Tensor:
    """Return x with part of an axis replaced."""
    inside = np.zeros(x.shape[axis], bool)
    inside[slice(*(bounds or (None,)))] = True
    axis %= len(x.shape)
    where_ = np.clip(np.cumsum(inside) - 1, 0, None)
    spread = gathered(scope, scope.constant(part), axis, scope.constant(where_))
    mask = inside.reshape([-1 if each == axis else 1 for each in range(len(x.shape))])
    return scope.vertex("where", [mask.astype(np.int64), spread, x])


def slice_scatter(scope: Scope, x: Tensor, part: Tensor, axis: int = 0, *bounds: Any) -> Tensor:
    """Return x with a slice replaced."""
    return filled_in(scope, x, part, axis, *bounds)


def select_scatter(scope: Scope, x: Tensor, part: Tensor, axis: int, number: int) -> Tensor:
    """Return x with one entry along an axis replaced."""
    number %= x.shape[axis]
    return filled_in(scope, x, unsqueeze(scope, part, axis % len(x.shape)), axis, number, number + 1, 1)


# -- numbers that depend on shapes alone -------------------------------------------------------------------


def full_like(scope: Scope, x: Tensor, value: float, **_options: Any) -> Tensor:
    """Return a tensor of x's shape that holds one number."""
    return scope.constant(np.full(x.shape, value, scope.dtype()))


def like(value: float) -> Translation:
    """Return the translation of a tensor of x's shape, or another, that holds one number."""

    def translation(scope: Scope, x: Tensor, shape: Sequence[int] | None = None, **_options: Any) -> Tensor:
        return scope.constant(np.full(x.shape if shape is None else tuple(shape), value, scope.dtype()))

    return translation


def fill(scope: Scope, x: Tensor, value: Operand) -> Tensor:
    """Return a tensor of x's shape that holds one number."""
    return expand(scope, scope.constant(value), x.shape)


def copied(scope: Scope, x: Tensor, other: Tensor, *_options: Any) -> Tensor:
    """Return another tensor in x's place and of x's shape."""
    return expand(scope, other, x.shape)


def new_full(scope: Scope, _x: Tensor, shape: Sequence[int], value: float, **_options: Any) -> Tensor:
    """Return a tensor of a shape that holds one number."""
    return scope.constant(np.full(tuple(shape), value, scope.dtype()))


SAME_NAME = [
    "abs",
    "sign",
    "floor",
    "ceil",
    "round",
    "reciprocal",
    "erf",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "asin",
    "acos",
    "atan",
    "asinh",
    "acosh",
    "atanh",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "square",
    "tanh",
    "sigmoid",
    "relu",
    "selu",
    "mish",
]
"""Operators that are ops of one input by the same name."""

ROWS: dict[str, Translation] = {
    **{name: unary(name) for name in SAME_NAME},
    "neg": unary("negate"),
    "silu": unary("silu"),
    "softplus": softplus,
    "elu": elu,
    "threshold": threshold,
    "glu": glu,
    "hardswish": unary("hard_swish"),
    "hardsigmoid": unary("hard_sigmoid", alpha=1 / 6),
    "relu6": unary("clip", min=0.0, max=6.0),
    "log_sigmoid": lambda scope, x: scope.vertex("negate", [scope.vertex("softplus", [scope.vertex("negate", [x])])]),
    "rsqrt": unary("power", exponent=-0.5),
    "gelu": unary_with("gelu", approximate="none"),
    "leaky_relu": unary_with("leaky_relu", slope=0.01),
    "celu": unary_with("celu", alpha=1.0),
    "clamp": clamp,
    "clamp_min": clamp,
    "clamp_max": lambda scope, x, high: clamp(scope, x, None, high),
    "hardtanh": hardtanh,
    "dropout": dropout,
    "feature_dropout": dropout,
    "native_dropout": native_dropout,
    "clone": same,
    "contiguous": same,
    "alias": same,
    "detach": detached,
    "lift_fresh_copy": same,
    "_to_copy": converted,
    "to": converted,
    "add": add,
    "sub": sub,
    "rsub": rsub,
    "mul": binary("multiply"),
    "div": div,
    "pow": power,
    "maximum": binary("maximum"),
    "minimum": binary("minimum"),
    "where": where,
    "masked_fill": masked_fill,
    "prelu": lambda scope, x, slope: scope.vertex("prelu", [x, channelwise(scope, x, slope)]),
    "linear": linear,
    "matmul": binary("matmul"),
    "mm": binary("matmul"),
    "bmm": binary("matmul"),
    "mv": binary("matmul"),
    "dot": binary("matmul"),
    "addmm": addmm,
    "baddbmm": addmm,
    "einsum": einsum,
    "embedding": embedding,
    "conv1d": convolution,
    "conv2d": convolution,
    "conv3d": convolution,
    "conv_transpose1d": conv_transpose,
    "conv_transpose2d": conv_transpose,
    "conv_transpose3d": conv_transpose,
    "scaled_dot_product_attention": attention,
    "lstm": lstm,
    "gru": gru,
    "rnn_tanh": rnn_tanh,
    "rnn_relu": rnn_relu,
    "batch_norm": batch_norm_of_training,
    "_native_batch_norm_legit": batch_norm,
    "_native_batch_norm_legit_functional": batch_norm,
    "_native_batch_norm_legit_no_training": frozen_batch_norm,
    "_native_batch_norm_legit.no_stats": batch_norm_without_statistics,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "sum": reduced("sum"),
    "mean": reduced("mean"),
    "amax": reduced("max"),
    "amin": reduced("min"),
    "prod": reduced("prod"),
    "logsumexp": reduced("logsumexp"),
    "linalg_vector_norm": vector_norm,
    "var": variance,
    "std": standard_deviation,
    "softmax": softmax("softmax"),
    "_softmax": softmax("softmax"),
    "log_softmax": softmax("log_softmax"),
    "_log_softmax": softmax("log_softmax"),
    "cumsum": scan("cumsum"),
    "cumprod": scan("cumprod"),
    **{f"max_pool{axes}d": max_pool for axes in (1, 2, 3)},
    **{f"avg_pool{axes}d": average_pool for axes in (1, 2, 3)},
    **{f"adaptive_avg_pool{axes}d": adaptive_average_pool for axes in (1, 2, 3)},
    **{f"adaptive_max_pool{axes}d": adaptive_max_pool for axes in (1, 2, 3)},
    "im2col": unfold,
    "col2im": fold,
    **{f"upsample_nearest{axes}d": upsampled("nearest") for axes in (1, 2, 3)},
    **{
        f"upsample_{kind}{axes}d": upsampled("linear")
        for kind, axes in (("linear", 1), ("bilinear", 2), ("trilinear", 3))
    },
    "upsample_bicubic2d": upsampled("cubic"),
    "view": reshaped,
    "_unsafe_view": reshaped,
    "reshape": reshaped,
    "flatten": flatten,
    "unflatten": unflatten,
    "permute": permute,
    "transpose": transpose,
    "t": turned,
    "unsqueeze": unsqueeze,
    "squeeze": squeeze,
    "expand": expand,
    "repeat": repeat,
    "cat": concat,
    "stack": stack,
    "split": split,
    "split_with_sizes": split,
    "chunk": chunk,
    "unbind": unbind,
    "select": select,
    "slice": sliced,
    "narrow": narrow,
    "flip": flip,
    "roll": roll,
    "pad": padded,
    "constant_pad_nd": constant_pad,
    **{f"reflection_pad{axes}d": padded_with("reflect") for axes in (1, 2, 3)},
    **{f"replication_pad{axes}d": padded_with("edge") for axes in (1, 2, 3)},
    "index_select": gathered,
    "gather": taken_along,
    "index": indexed,
    "tril": triangle(upper=False),
    "triu": triangle(upper=True),
    "one_hot": one_hot,
    "slice_scatter": slice_scatter,
    "select_scatter": select_scatter,
    "full_like": full_like,
    "zeros_like": like(0),
    "ones_like": like(1),
    "new_zeros": like(0),
    "new_ones": like(1),
    "new_full": new_full,
    "fill": fill,
    "copy": copied,
}
"""{operator, or operator.overload: its translation}."""


def channelwise(scope: Scope, x: Tensor, slope: Tensor) -> Tensor:
    """Return a slope for each channel, axis 1, so that it broadcasts against x."""
    return reshaped(scope, slope, [-1, *[1] * (len(x.shape) - 2)], name="slope") if prod(slope.shape) > 1 else slope
