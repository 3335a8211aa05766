"""Maxima and averages of windows, which slide over the last axes; any axes may come before them."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from functools import lru_cache, reduce
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.arrays import Array
from pcsim.ops.attributes import boolean, number, optional, takes
from pcsim.ops.leading import fold
from pcsim.ops.op import Attribute, Call, Cost, Op, reduction
from pcsim.ops.sliding import Windows, each_axis, extents, padding, slid_over, sliding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pcsim.arrays import Array, Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved


def windows_of(call: Call) -> Windows:
    """Return the windows over the input."""
    return sliding(slid_over(call, 0)[1], call)


def pool_shape(call: Call) -> Shape:
    """Return (..., *windows); raises ValueError where a window holds nothing but padding."""
    windows = windows_of(call)
    if any((held == 0).any() for held in windows.held()):
        raise ValueError("a window holds nothing but padding: expected less padding than the kernel spans")
    return (*slid_over(call, 0)[0], *windows.counts)


def pool_cost(call: Call) -> Cost:
    """Return an addition or a comparison for each element of each window."""
    return Cost(float(prod(call.shape) * prod(call["kernel"])))


def parts_of(xp: Namespace, windows: Windows, x: Array, value: float = 0.0) -> list[Array]:
    """Return a view for each element of a window: that element of all windows, (..., *counts)."""
    padded = windows.padded(xp, x, value)
    return [padded[offset] for offset in windows.offsets()]


def first_of(xp: Namespace, parts: Iterable[Array], mu: Array) -> tuple[Array, ...]:
    """Return for each element of a window 1 where it is the first that is the maximum ``mu``, else 0."""
    open_ = xp.ones(mu.shape, bool)
    chosen = []
    for part in parts:
        here = (part == mu) & open_
        open_ &= ~here
        chosen.append(here.astype(mu.dtype))
    return tuple(chosen)


# -- maxima ------------------------------------------------------------------------------------------------


def max_pool_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the maximum of each window, and keep which element it is: of equal ones the first."""
    parts = parts_of(xp, windows_of(call), inputs[0], -np.inf)
    mu = reduce(xp.maximum, parts[1:], parts[0].copy())
    return mu, first_of(xp, parts, mu)


def max_pool_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g where the maximum is."""
    g = fold(xp, g, inputs[0])
    return (windows_of(call).gathered(xp, (chosen * g for chosen in saved)),)


# -- averages ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def share(xp: Namespace, call: Call, dtype: Any) -> Array:
    """Return 1 / n for each window, of as many elements as its average is taken of."""
    held = windows_of(call).held(padding=call["count_padding"])
    return xp.asarray(1 / reduce(np.multiply.outer, held), dtype)


def average_pool_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the average of each window."""
    parts = parts_of(xp, windows_of(call), inputs[0])
    return reduce(xp.add, parts[1:], parts[0]) * share(xp, call, inputs[0].dtype), ()


def average_pool_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g / n, spread over each window."""
    windows = windows_of(call)
    each = fold(xp, g, inputs[0]) * share(xp, call, g.dtype)
    return (windows.gathered(xp, (each for _ in range(prod(windows.kernel)))),)


def lp_pool_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return (sum of |x|^p)^(1/p) of each window, and keep its power 1 - p (0 where it is 0)."""
    p = call["p"]
    parts = parts_of(xp, windows_of(call), xp.abs(inputs[0]) ** p)
    total = reduce(xp.add, parts[1:], parts[0])
    some = xp.where(total > 0, total, xp.ones((), total.dtype))
    return total ** (1 / p), (xp.where(total > 0, some ** (1 / p - 1), xp.zeros((), total.dtype)),)


def lp_pool_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g times |x|^(p - 1) sign(x) mu^(1 - p), added up where windows overlap."""
    windows, x, p = windows_of(call), inputs[0], call["p"]
    each = fold(xp, g, x) * saved[0]
    back = windows.gathered(xp, (each for _ in range(prod(windows.kernel))))
    return (back * xp.sign(x) * xp.abs(x) ** (p - 1),)


# -- windows that divide an input into a number of parts -----------------------------------------------------


def divided(call: Call) -> tuple[Shape, Shape]:
    """Return the input's shape before and along the axes that are divided."""
    shape, rank = call.shapes[0], len(call["size"])
    if len(shape) < rank:
        message = f"expected an input of {rank} axes or more: size has {rank} entries"
        raise ValueError(message)
    return shape[: len(shape) - rank], shape[len(shape) - rank :]


def adaptive_shape(call: Call) -> Shape:
    """Return (..., *size)."""
    return (*divided(call)[0], *call["size"])


@lru_cache(maxsize=1024)
def divisions(extent: int, count: int) -> np.ndarray:
    """Return where windows lie that divide an axis: (windows, elements), the last one repeated in shorter ones.

    Window i begins at floor(i n / m) and ends before ceil((i + 1) n / m).
    """
    number = np.arange(count)
    first, end = number * extent // count, -(-(number + 1) * extent // count)
    return np.minimum(first[:, None] + np.arange((end - first).max()), end[:, None] - 1)


@lru_cache(maxsize=256)
def averaging(xp: Namespace, extent: int, count: int, dtype: Any) -> Array:
    """Return the matrix (extent, windows) that averages an axis."""
    places = divisions(extent, count)
    weights = np.zeros((extent, count))
    weights[places, np.arange(count)[:, None]] = 1.0
    return xp.asarray(weights / weights.sum(axis=0), dtype)


def along(xp: Namespace, x: Array, matrices: Sequence[Array]) -> Array:
    """Return x with each of its last axes multiplied by a matrix (before, behind)."""
    for axis, matrix in enumerate(reversed(matrices)):
        x = xp.matmul(x.swapaxes(-1, -1 - axis), matrix).swapaxes(-1, -1 - axis)
    return x


def average_matrices(xp: Namespace, call: Call, dtype: Any) -> list[Array]:
    """Return the matrix of each axis."""
    return [averaging(xp, extent, count, dtype) for extent, count in zip(divided(call)[1], call["size"], strict=True)]


def adaptive_average_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the average of each part."""
    return along(xp, inputs[0], average_matrices(xp, call, inputs[0].dtype)), ()


def adaptive_average_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g / n, spread over each part."""
    matrices = average_matrices(xp, call, g.dtype)
    return (along(xp, fold(xp, g, inputs[0]), [matrix.T for matrix in matrices]),)


def columns(call: Call) -> list[tuple[np.ndarray, ...]]:
    """Return for each element of a part where it lies in all parts: one list of places for each axis."""
    places = (divisions(extent, count) for extent, count in zip(divided(call)[1], call["size"], strict=True))
    return list(product(*(place.T for place in places)))


@lru_cache(maxsize=256)
def elements(xp: Namespace, call: Call) -> tuple[tuple[Array, ...], ...]:
    """Return for each element of a part where it lies in all parts: an index for each axis, to be used together."""
    return tuple(tuple(map(xp.asarray, np.ix_(*chosen))) for chosen in columns(call))


@lru_cache(maxsize=256)
def put_back(xp: Namespace, call: Call, dtype: Any) -> tuple[tuple[Array, ...], ...]:
    """Return for each element of a part the matrices (windows, extent), one for each axis, that put it in its place."""
    extents = divided(call)[1]
    return tuple(
        tuple(
            xp.asarray(places[:, None] == np.arange(extent), dtype)
            for places, extent in zip(chosen, extents, strict=True)
        )
        for chosen in columns(call)
    )


def adaptive_max_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the maximum of each part, and keep which element it is: of equal ones the first."""
    parts = [inputs[0][(..., *where)] for where in elements(xp, call)]
    mu = reduce(xp.maximum, parts[1:], parts[0])
    return mu, first_of(xp, parts, mu)


def adaptive_max_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g where the maximum is, added up where parts overlap."""
    x, g = inputs[0], fold(xp, g, inputs[0])
    back = xp.zeros(x.shape, g.dtype)
    for matrices, chosen in zip(put_back(xp, call, g.dtype), saved, strict=True):
        back += along(xp, chosen * g, matrices)
    return (back,)


# -- the rows ----------------------------------------------------------------------------------------------


@takes(type="number", minimum=1)
def power(value: Any) -> float:
    """Return a number of at least 1."""
    if (result := number(value)) < 1:
        raise ValueError("expected a number of at least 1")
    return result


POOL = {
    "kernel": Attribute(extents, required=True, summary="extents of a window, one for each axis that it slides over"),
    "stride": Attribute(
        optional(each_axis),
        summary="from one window to the next: a number, or one for each axis; else the kernel's",
    ),
    "padding": Attribute(padding, 0, summary="what is around: a number, or for each axis a number or [before, after]"),
    "dilation": Attribute(each_axis, 1, summary="from one element of a window to the next"),
    "ceil": Attribute(boolean, False, summary="whether a last window that sticks out counts too"),
}
SIZE = {"size": Attribute(extents, required=True, summary="extents of the result, one for each axis that is divided")}

ROWS: tuple[Op, ...] = (
    Op(
        name="max_pool",
        summary="the maximum of each window, over the last axes",
        arity=(1, 1),
        shape=pool_shape,
        forward=max_pool_forward,
        to_inputs=max_pool_to_inputs,
        attributes=POOL,
        cost=pool_cost,
    ),
    Op(
        name="average_pool",
        summary="the average of each window, over the last axes",
        arity=(1, 1),
        shape=pool_shape,
        forward=average_pool_forward,
        to_inputs=average_pool_to_inputs,
        attributes={
            **POOL,
            "count_padding": Attribute(boolean, True, summary="whether padding is averaged too, as zeros"),
        },
        cost=pool_cost,
    ),
    Op(
        name="lp_pool",
        summary="(sum of |x|^p)^(1/p) of each window, over the last axes",
        arity=(1, 1),
        shape=pool_shape,
        forward=lp_pool_forward,
        to_inputs=lp_pool_to_inputs,
        attributes={**POOL, "p": Attribute(power, 2.0, summary="the power, at least 1")},
        cost=pool_cost,
    ),
    Op(
        name="adaptive_average_pool",
        summary="the last axes divided into so many parts, the average of each",
        arity=(1, 1),
        shape=adaptive_shape,
        forward=adaptive_average_forward,
        to_inputs=adaptive_average_to_inputs,
        attributes=SIZE,
        cost=reduction,
    ),
    Op(
        name="adaptive_max_pool",
        summary="the last axes divided into so many parts, the maximum of each",
        arity=(1, 1),
        shape=adaptive_shape,
        forward=adaptive_max_forward,
        to_inputs=adaptive_max_to_inputs,
        attributes=SIZE,
        cost=reduction,
    ),
)
