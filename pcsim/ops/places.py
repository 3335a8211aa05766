"""Places in an array, given by whole numbers: what lies there is taken, or added up, sample by sample."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from pcsim.arrays import LEAD, Array
from pcsim.ops.lookup import sums_by_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pcsim.arrays import Namespace, Shape
    from pcsim.documents.frozen_arrays import FrozenArray
    from pcsim.ops.op import Call, Inputs


@lru_cache(maxsize=256)
def on_device(xp: Namespace, frozen: FrozenArray) -> Array:
    """Return an array that never changes, (1, 1, *shape), where the others of a namespace are."""
    return xp.asarray(frozen.array)[None, None]


def indices(xp: Namespace, call: Call, inputs: Inputs, slot: int) -> Array:
    """Return the indices of an op, (stack, batch, *shape): its attribute, or its input in this slot."""
    return inputs[slot] if call["indices"] is None else on_device(xp, call["indices"])


def indices_shape(call: Call, slot: int) -> Shape:
    """Return the shape of the indices; they are an attribute or the input in this slot, never both."""
    if (call["indices"] is None) != (len(call.shapes) == slot + 1):
        message = f"expected {slot} inputs and the attribute indices, or {slot + 1} inputs and no indices"
        raise ValueError(message)
    return call.shapes[slot] if call["indices"] is None else call["indices"].array.shape


def outside(xp: Namespace, found: Array, extents: Sequence[int] | int) -> Array:
    """Return which indices lie outside of so many elements; negative ones count from the end.

    Several extents are those that each index, along the last axis, goes with.
    """
    bound = xp.asarray(extents)
    return (found < -bound) | (found >= bound)


def check_given(call: Call, extents: Sequence[int] | int) -> None:
    """Refuse indices given as an attribute that lie outside."""
    if call["indices"] is not None and (bad := outside(np, call["indices"].array, extents)).any():
        message = f"index {call['indices'].array[bad][0]} is outside of {extents} elements"
        raise ValueError(message)


def judged(xp: Namespace, call: Call, inputs: Inputs, slot: int, wrong: Callable[[Array], Array]) -> tuple[int, Array]:
    """Return in which slot the indices are, and which of them are wrong; those of an attribute were checked before."""
    if call["indices"] is not None:
        return 0, xp.zeros(inputs[0].shape, bool)
    return slot, wrong(inputs[slot])


def numbered(xp: Namespace, count: int, rank: int, axis: int) -> Array:
    """Return 0 to count - 1 along one of so many axes."""
    return xp.arange(count).reshape([-1 if n == axis else 1 for n in range(rank)])


def rows_taken(xp: Namespace, x: Array, places: Array) -> Array:
    """Return (stack, batch, *places, *row) of the rows of x, (stack, batch, rows, *row), at (stack, batch, *places)."""
    stack, batch = (numbered(xp, x.shape[axis], places.ndim, axis) for axis in range(LEAD))
    return x[stack, batch, places]


def rows_added(xp: Namespace, terms: Array, places: Array, shape: Shape) -> Array:
    """Return an array of this shape, (stack, batch, rows, *row), with the sum of the terms of each row, in order.

    terms : (stack, batch, *places, *row); where the result has a leading extent of 1 all are summed.
    """
    front = terms.shape[: places.ndim]
    stack, batch = (numbered(xp, shape[axis], places.ndim, axis) for axis in range(LEAD))
    rows = xp.broadcast_to((stack * shape[1] + batch) * shape[2] + places % shape[2], front)
    found = sums_by_row(xp, rows.reshape(-1), terms.reshape(prod(front), -1), prod(shape[:3]))
    return found.reshape(shape)


def along(xp: Namespace, found: Array, axis: int, shape: Shape) -> Array:
    """Return places in the flattened shape: along one axis as the indices say, along the others where each stands.

    found : (stack, batch, *shape of the indices), of as many axes as the shape
    """
    places = 0
    for number, extent in enumerate(shape):
        here = found % extent if number == axis else numbered(xp, found.shape[LEAD + number], found.ndim, LEAD + number)
        places = places * extent + here
    return places


def of_tuples(xp: Namespace, found: Array, shape: Shape, common: int) -> Array:
    """Return places in the flattened first axes of a shape: ``common`` axes as each stands, the next as tuples say.

    found : (stack, batch, *common, *, tuple)
    """
    places = 0
    for number, extent in enumerate(shape[: common + found.shape[-1]]):
        if number < common:
            here = numbered(xp, extent, found.ndim - 1, LEAD + number)
        else:
            here = found[..., number - common] % extent
        places = places * extent + here
    return places
