"""Windows that slide over the last axes of an array, as convolutions and pooling have them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.ops.attributes import MAX_RANK, listed, positive, takes, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pcsim.arrays import Array, Namespace, Shape
    from pcsim.ops.op import Call

Pair = tuple[int, int]

ONE = {"type": "integer", "minimum": 1}
MANY = {"type": "array", "items": ONE, "minItems": 1, "maxItems": MAX_RANK}
NONE_OR_MORE = {"type": "integer", "minimum": 0}
SIDES = {"type": "array", "items": NONE_OR_MORE, "minItems": 2, "maxItems": 2}
PADDING = {"type": "array", "items": {"anyOf": [NONE_OR_MORE, SIDES]}, "minItems": 1, "maxItems": MAX_RANK}


@takes(**MANY)
def extents(value: Any) -> Shape:
    """Return one positive whole number for each axis that windows slide over."""
    found = tuple(map(positive, listed(value, "expected a list of positive whole numbers, one for each axis")))
    if not found:
        raise ValueError("expected a list of one number or more, one for each axis")
    return found


@takes(ONE, MANY)
def each_axis(value: Any) -> int | Shape:
    """Return a positive whole number for all axes, or a tuple with one for each."""
    return extents(value) if isinstance(value, list | tuple) else positive(value)


@takes(NONE_OR_MORE, {**MANY, "items": NONE_OR_MORE})
def additions(value: Any) -> int | Shape:
    """Return a whole number of at least 0 for all axes, or a tuple with one for each."""
    if not isinstance(value, list | tuple):
        return _not_negative(value)
    return tuple(map(_not_negative, listed(value, "expected a whole number, or a list with one for each axis")))


@takes(NONE_OR_MORE, PADDING)
def padding(value: Any) -> Any:
    """Return what is added before and behind each axis: a number for all, or for each a number or (before, after)."""
    if not isinstance(value, list | tuple):
        return _not_negative(value)
    message = "expected a whole number, or a list with a number or [before, after] for each axis"
    return tuple(
        _sides(side) if isinstance(side, list | tuple) else _not_negative(side) for side in listed(value, message)
    )


def _not_negative(value: Any) -> int:
    if (found := whole(value)) < 0:
        raise ValueError("expected a whole number of at least 0")
    return found


def _sides(value: Any) -> Pair:
    if len(value) != 2:
        raise ValueError("expected [before, after] for an axis")
    return _not_negative(value[0]), _not_negative(value[1])


def spread(name: str, value: Any, rank: int) -> tuple[Any, ...]:
    """Return an attribute's value for each of so many axes; raises ValueError where it has another number of them."""
    if not isinstance(value, tuple):
        return (value,) * rank
    if len(value) != rank:
        message = f"{name} has {len(value)} entries, expected one for each of the {rank} axes of the kernel"
        raise ValueError(message)
    return value


def sides(value: Any, rank: int) -> tuple[Pair, ...]:
    """Return the padding (before, after) of each axis."""
    return tuple(side if isinstance(side, tuple) else (side, side) for side in spread("padding", value, rank))


@dataclass(frozen=True)
class Windows:
    """Windows over the last axes of an array; each field has one entry for each axis.

    Attributes
    ----------
    extents : of the array
    kernel : elements of a window
    stride : from one window to the next
    dilation : from one element of a window to the next
    padding : (before, after), what is added to the array
    counts : windows
    """

    extents: Shape
    kernel: Shape
    stride: Shape
    dilation: Shape
    padding: tuple[Pair, ...]
    counts: Shape

    @property
    def rank(self) -> int:
        """The number of axes that windows slide over."""
        return len(self.kernel)

    @property
    def trivial(self) -> bool:
        """Whether each element is a window of its own."""
        return set(self.kernel + self.stride) == {1} and not any(map(any, self.padding))

    def padded_extents(self) -> Shape:
        """Return how far windows may reach: to the padding's end, or to that of the last window."""
        reach = (
            (count - 1) * stride + (size - 1) * dilation + 1
            for count, stride, size, dilation in zip(self.counts, self.stride, self.kernel, self.dilation, strict=True)
        )
        around = (extent + sum(side) for extent, side in zip(self.extents, self.padding, strict=True))
        return tuple(map(max, reach, around))

    def padded(self, xp: Namespace, x: Array, value: float = 0.0) -> Array:
        """Return x with ``value`` around it; x itself where nothing is added."""
        front, around = x.shape[: x.ndim - self.rank], self.padded_extents()
        if around == self.extents:
            return x
        found = xp.full((*front, *around), value, x.dtype)
        found[self._inside()] = x
        return found

    def cut(self, padded: Array) -> Array:
        """Return what lies inside the padding."""
        return padded[self._inside()]

    def _inside(self) -> tuple[Any, ...]:
        inner = (slice(side[0], side[0] + extent) for side, extent in zip(self.padding, self.extents, strict=True))
        return (..., *inner)

    def view(self, xp: Namespace, padded: Array) -> Array:
        """Return all windows, (..., *counts, *kernel), as a view of what ``padded`` returned."""
        axes = tuple(range(padded.ndim - self.rank, padded.ndim))
        spans = tuple((size - 1) * dilation + 1 for size, dilation in zip(self.kernel, self.dilation, strict=True))
        found = xp.lib.stride_tricks.sliding_window_view(padded, spans, axes)
        steps = (slice(0, (n - 1) * step + 1, step) for n, step in zip(self.counts, self.stride, strict=True))
        return found[(..., *steps, *(slice(None, None, dilation) for dilation in self.dilation))]

    def offsets(self) -> Iterator[tuple[Any, ...]]:
        """Yield an index into what ``padded`` returned for each element of a window, in the order of memory."""
        for element in product(*map(range, self.kernel)):
            firsts = (number * dilation for number, dilation in zip(element, self.dilation, strict=True))
            axes = zip(firsts, self.counts, self.stride, strict=True)
            yield (..., *(slice(first, first + (count - 1) * step + 1, step) for first, count, step in axes))

    def gathered(self, xp: Namespace, parts: Iterable[Array]) -> Array:
        """Return the transpose of taking windows: parts (..., *counts), one for each offset, added where they lie."""
        total = None
        for offset, part in zip(self.offsets(), parts, strict=True):
            if total is None:
                total = xp.zeros((*part.shape[: part.ndim - self.rank], *self.padded_extents()), part.dtype)
            total[offset] += part
        return self.cut(total)

    def held(self, *, padding: bool = False) -> tuple[np.ndarray, ...]:
        """Return for each axis how many elements of each window lie in the array, or in it and its padding."""
        axes = (self.extents, self.kernel, self.stride, self.dilation, self.padding, self.counts)
        return tuple(map(_held, *axes, [padding] * self.rank))


def _held(extent: int, size: int, stride: int, dilation: int, side: Pair, count: int, padding: bool) -> np.ndarray:
    at = np.arange(count)[:, None] * stride + np.arange(size) * dilation - side[0]
    low, high = (-side[0], extent + side[1]) if padding else (0, extent)
    return np.asarray(((at >= low) & (at < high)).sum(axis=1))


def sliding(extents: Shape, call: Call) -> Windows:
    """Return the windows of a call with the attributes kernel, stride, padding, dilation and perhaps ceil.

    Raises
    ------
    ValueError
        An attribute has another number of axes than the kernel, or the kernel is larger than the padded array.
    """
    given = dict(call.attributes)
    kernel = given["kernel"]
    rank = len(kernel)
    stride = kernel if given["stride"] is None else spread("stride", given["stride"], rank)
    dilation = spread("dilation", given["dilation"], rank)
    return _sliding(extents, kernel, stride, dilation, sides(given["padding"], rank), bool(given.get("ceil")))


@lru_cache(maxsize=4096)
def _sliding(
    extents: Shape, kernel: Shape, stride: Shape, dilation: Shape, around: tuple[Pair, ...], up: bool
) -> Windows:
    rows = zip(extents, kernel, stride, dilation, around, strict=True)
    return Windows(extents, kernel, stride, dilation, around, tuple(_count(*row, up) for row in rows))


def _count(extent: int, size: int, stride: int, dilation: int, side: Pair, up: bool) -> int:
    """Return how many windows fit along an axis; with ``up`` the last may stick out, but begins in the array."""
    span, around = (size - 1) * dilation + 1, extent + sum(side)
    if span > around:
        message = f"the kernel spans {span} elements of an axis of {around} with its padding: at most {around} fit"
        raise ValueError(message)
    count = (around - span + (stride - 1 if up else 0)) // stride + 1
    return count - 1 if up and (count - 1) * stride >= extent + side[0] else count


def slid_over(call: Call, front: int) -> tuple[Shape, Shape]:
    """Return the input's shape before and along the axes that windows slide over.

    Raises
    ------
    ValueError
        The input has fewer than ``front`` axes before them.
    """
    shape, rank = call.shapes[0], len(call["kernel"])
    if len(shape) < rank + front:
        axes = f"{rank} axes for the kernel" + (" and one of channels before them" if front else "")
        message = f"expected an input with {axes}"
        raise ValueError(message)
    return shape[: len(shape) - rank], shape[len(shape) - rank :]
