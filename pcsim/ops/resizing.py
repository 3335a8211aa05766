"""Resizing: along each axis a linear map, a matrix of (elements after, elements before)."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.arrays import LEAD, Array
from pcsim.ops.attributes import axes, boolean, choice, listed, number, optional, shape, takes
from pcsim.ops.leading import fold
from pcsim.ops.lookup import sums_along
from pcsim.ops.op import Attribute, Call, Cost, Op
from pcsim.ops.reductions import axes_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pcsim.arrays import Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved

    Numbers = NDArray[np.float64]

COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
)  # fmt: skip
ROUNDING: dict[str, Callable[[Numbers], Numbers]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
ASPECTS = {"stretch": None, "not_larger": min, "not_smaller": max}


@takes(type="array", items={"type": "number", "exclusiveMinimum": 0})
def factors(value: Any) -> tuple[float, ...]:
    """Return by how much each axis is stretched."""
    found = tuple(map(number, listed(value, "expected a list of numbers above 0, one for each axis")))
    if not all(factor > 0 for factor in found):
        raise ValueError("expected a list of numbers above 0, one for each axis")
    return found


@takes(type="array", items={"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2})
def regions(value: Any) -> tuple[tuple[float, ...], ...]:
    """Return where the part that is resized begins and ends along each axis, as parts of it."""
    message = "expected [start, end] for each axis, such as [[0, 1], [0.25, 0.75]]"
    pairs = tuple(tuple(map(number, listed(pair, message))) for pair in listed(value, message))
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(message)
    return pairs


# -- extents --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stretch:
    """One axis that is resized: its extent before and after, by how much it is stretched, and of which part."""

    axis: int
    before: int
    after: int
    scale: float
    part: tuple[float, float]


def stretches(call: Call) -> tuple[Stretch, ...]:
    """Return the axes that are resized; raises ValueError where the attributes do not fit."""
    extents = call.shapes[0]
    chosen = range(len(extents)) if call["axes"] is None else axes_within(call["axes"], len(extents))
    if (call["size"] is None) == (call["scales"] is None):
        raise ValueError("expected either size or scales")
    for name in ("size", "scales", "roi"):
        if call[name] is not None and len(call[name]) != len(chosen):
            message = f"expected {len(chosen)} entries of {name}, one for each axis, got {len(call[name])}"
            raise ValueError(message)
    if (call["roi"] is None) == (call["coordinates"] == "tf_crop_and_resize"):
        raise ValueError("expected roi with the coordinates tf_crop_and_resize, and only with them")
    before = [extents[axis] for axis in chosen]
    scales = call["scales"] or [after / extent for after, extent in zip(call["size"], before, strict=True)]
    after = call["size"] or [int(scale * extent) for scale, extent in zip(scales, before, strict=True)]
    if call["size"] and (one := ASPECTS[call["aspect"]]):
        scales = [one(scales)] * len(before)
        after = [int(scales[0] * extent + 0.5) for extent in before]
    if min(after, default=1) < 1:
        raise ValueError("nothing is left along an axis")
    parts = call["roi"] or [(0.0, 1.0)] * len(before)
    return tuple(Stretch(*each) for each in zip(chosen, before, after, scales, parts, strict=True))


def resize_shape(call: Call) -> Shape:
    """Return the extents after resizing."""
    after = {each.axis: each.after for each in stretches(call)}
    return tuple(after.get(axis, extent) for axis, extent in enumerate(call.shapes[0]))


# -- maps -----------------------------------------------------------------------------------------------


def positions(how: str, one: Stretch) -> Numbers:
    """Return where each element of the result lies among those of the input, which lie at 0, 1, 2 and so on."""
    place, last, length = np.arange(one.after, dtype=float), one.before - 1, one.scale * one.before
    centred = (place + 0.5) / one.scale - 0.5
    if how == "align_corners":
        return place * last / (length - 1) if length != 1 else 0 * place
    if how == "asymmetric":
        return place / one.scale
    if how == "pytorch_half_pixel":
        return centred if length != 1 else 0 * place - 0.5
    if how == "half_pixel_symmetric":
        return centred + one.before / 2 * (1 - one.after / length)
    if how == "tf_crop_and_resize":
        start, end = one.part
        within = place / (length - 1) if length != 1 else 0 * place + 0.5
        return (
            (start + within * (end - start)) * last if length != 1 else 0 * place + (start + (end - start) / 2) * last
        )
    return centred


def window(mode: str, coefficient: float, distance: Numbers) -> Numbers:
    """Return the weight of an element at some distance: a triangle, or the cubic convolution of Keys 1981."""
    x, a = np.abs(distance), coefficient
    if mode == "linear":
        triangle: Numbers = np.maximum(1 - x, 0)
        return triangle
    near, far = ((a + 2) * x - (a + 3)) * x**2 + 1, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    found: Numbers = np.select([x <= 1, x < 2], [near, far], 0.0)
    return found


def weights(call: Call, one: Stretch) -> Numbers:
    """Return the matrix of one axis, (after, before)."""
    at = positions(call["coordinates"], one)
    wide = max(1.0, 1 / one.scale) if call["antialias"] else 1.0
    reach = ceil(wide * (1 if call["mode"] == "linear" else 2))
    taps = np.floor(at)[:, None] + np.arange(-reach, reach + 2)
    found = window(call["mode"], call["cubic_coefficient"], (taps - at[:, None]) / wide)
    if call["exclude_outside"]:
        found = np.where((taps < 0) | (taps >= one.before), 0, found)
    if call["exclude_outside"] or call["antialias"]:
        total = found.sum(axis=1, keepdims=True)
        found = found / np.where(total == 0, 1, total)
    matrix = np.zeros((one.after, one.before))
    rows = np.broadcast_to(np.arange(one.after)[:, None], taps.shape)
    np.add.at(matrix, (rows, np.clip(taps, 0, one.before - 1).astype(int)), found)
    return matrix


def nearest(call: Call, one: Stretch) -> NDArray[np.int64]:
    """Return from where along one axis each element of the result comes."""
    at = ROUNDING[call["rounding"]](positions(call["coordinates"], one))
    return np.clip(at, 0, one.before - 1).astype(np.int64)


@lru_cache(maxsize=256)
def maps(xp: Namespace, call: Call, dtype: Any) -> tuple[tuple[int, Array], ...]:
    """Return (axis of the array, its matrix, or its places where elements are taken as they are) of each axis."""
    return tuple(
        (LEAD + one.axis, xp.asarray(nearest(call, one)) if call["mode"] == "nearest" else
         xp.asarray(weights(call, one), dtype))
        for one in stretches(call)
        if (one.before, one.scale, one.part) != (one.after, 1.0, (0.0, 1.0))
    )  # fmt: skip


@lru_cache(maxsize=256)
def beyond(xp: Namespace, call: Call) -> Array | None:
    """Return which elements of the result lie outside of the input, where these are to be a number of their own."""
    if call["coordinates"] != "tf_crop_and_resize":
        return None
    outside = np.zeros(call.shape, bool)
    for one in stretches(call):
        at = positions(call["coordinates"], one)
        apart = [1] * len(call.shape)
        apart[one.axis] = -1
        outside |= ((at < 0) | (at > one.before - 1)).reshape(apart)
    return xp.asarray(outside)


def resize_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the input, resized along one axis after the other."""
    (x,) = inputs
    for axis, found in maps(xp, call, x.dtype):
        if call["mode"] == "nearest":
            x = xp.take(x, found, axis)
        else:
            x = xp.moveaxis(xp.matmul(xp.moveaxis(x, axis, -1), found.T), -1, axis)
    outside = beyond(xp, call)
    return (x if outside is None else xp.where(outside, x.dtype.type(call["extrapolation"]), x)), ()


def resize_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g times the transposed maps."""
    (x,), outside = inputs, beyond(xp, call)
    g = fold(xp, g, x)
    if outside is not None:
        g = xp.where(outside, g.dtype.type(0), g)
    for axis, found in maps(xp, call, x.dtype):
        if call["mode"] == "nearest":
            g = sums_along(xp, found, g, x.shape[axis], axis)
        else:
            g = xp.moveaxis(xp.matmul(xp.moveaxis(g, axis, -1), found), -1, axis)
    return (g,)


def cost(call: Call) -> Cost:
    """Return a multiply-add for each element and each row of its axis."""
    total, size = 0.0, float(np.prod(call.shapes[0]))
    for one in stretches(call):
        size *= one.after
        total += size if call["mode"] != "nearest" else 0.0
        size /= one.before
    return Cost(total, curved=False)


ROWS = (
    Op(
        name="resize",
        summary="the input resized along its axes, by linear interpolation and its kin",
        arity=(1, 1),
        shape=resize_shape,
        forward=resize_forward,
        to_inputs=resize_to_inputs,
        cost=cost,
        attributes={
            "size": Attribute(optional(shape), summary="extents of the axes after resizing"),
            "scales": Attribute(optional(factors), summary="by how much each axis is stretched, in place of size"),
            "axes": Attribute(optional(axes), summary="axes that are resized; null for all"),
            "mode": Attribute(choice("a mode", ("nearest", "linear", "cubic")), "nearest", summary="how values between"
                              " elements are made"),
            "coordinates": Attribute(choice("a rule", COORDINATES), "half_pixel", summary="where the elements of the"
                                     " result lie, as ONNX's coordinate_transformation_mode"),
            "rounding": Attribute(choice("a rule", ROUNDING), "round_prefer_floor", summary="which element is nearest"),
            "aspect": Attribute(choice("a rule", ASPECTS), "stretch", summary="whether all axes are stretched by one"
                                " factor, so that none is larger, or none smaller, than size"),
            "antialias": Attribute(boolean, False, summary="whether shrinking averages over all elements"),
            "cubic_coefficient": Attribute(number, -0.75, summary="slope of the cubic window at 1"),
            "exclude_outside": Attribute(boolean, False, summary="whether weights beyond the ends are left out"),
            "roi": Attribute(optional(regions), summary="[start, end] of the part of each axis that is resized"),
            "extrapolation": Attribute(number, 0.0, summary="number that lies beyond the ends, with roi"),
        },
        source="Keys 1981: the cubic window",
    ),
)  # fmt: skip
