"""How ops that choose elements by whole numbers, and those that resize, are written as nodes of ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.arrays import LEAD
from pcsim.models.onnx_vertex import spread
from pcsim.ops.reductions import axis_within
from pcsim.ops.resizing import beyond, maps

if TYPE_CHECKING:
    from pcsim.models.onnx_vertex import Row, Writing

REDUCTIONS = {"none": "none", "add": "add", "multiply": "mul", "max": "max", "min": "min"}


def axis_of(w: Writing) -> int:
    """Return the attribute ``axis`` as an axis of a tensor with the batch in front."""
    return 1 + axis_within(w.call["axis"], w.rank)


def plain(values: Any) -> Any:
    """Return numbers as NumPy reads them."""
    return getattr(values, "array", values)


def indices_of(w: Writing, slot: int) -> tuple[str, int]:
    """Return indices with the batch in front, those fed or those known again for each sample; and their axes."""
    if len(w.inputs) > slot:
        return w.spread(slot), len(w.shapes[slot])
    known = np.asarray(plain(w.call["indices"]))
    name = w.whole(known[None])
    like = [each for each, batched in zip(w.inputs, w.batched, strict=True) if batched]
    return (spread(w, name, known.ndim, like[0]) if like else name), known.ndim


# -- what is taken -------------------------------------------------------------------------------------------


def embedding(w: Writing) -> str:
    """Return rows of the table."""
    return w.node("Gather", w.params["weight"], w.x, axis=0)


def gathered(w: Writing) -> str:
    """Return elements along an axis, chosen by indices: of each sample by its own, where they are fed."""
    axis = axis_of(w)
    if len(w.inputs) == 1:
        return w.node("Gather", w.x, w.whole(plain(w.call["indices"])), axis=axis)
    tuples, count = indices_of(w, 1)
    front = w.moved(w.spread(0), 1 + w.rank, axis, 1)
    found = w.node("GatherND", front, w.node("Unsqueeze", tuples, w.whole([1 + count])), batch_dims=1)
    before, behind = range(1 + count, axis + count), range(axis + count, w.rank + count)
    return w.node("Transpose", found, perm=[0, *before, *range(1, 1 + count), *behind])


def gathered_by_tuples(w: Writing) -> str:
    """Return elements or slices, chosen by tuples of indices."""
    return w.node("GatherND", w.spread(0), indices_of(w, 1)[0], batch_dims=1 + w.call["common"])


def taken_along(w: Writing) -> str:
    """Return elements along an axis, each chosen by an index of its own."""
    return w.node("GatherElements", w.spread(0), indices_of(w, 1)[0], axis=axis_of(w))


def one_hot(w: Writing) -> str:
    """Return 1 for the class that the index names, 0 for the others."""
    axis = 1 + axis_within(w.call["axis"], 1 + w.rank)
    return w.node("OneHot", w.x, w.whole(w.call["classes"]), w.array([0.0, 1.0]), axis=axis)


def largest(w: Writing) -> str:
    """Return the largest or the smallest elements along an axis, by size or in the order of the input."""
    axis, count = axis_of(w), w.whole([w.call["k"]])
    made = w.node("TopK", w.x, count, axis=axis, largest=int(w.call["largest"]))
    places = w.second_output(made)
    if w.call["sorted"]:
        return made
    inorder = w.node("TopK", places, count, axis=axis, largest=0)
    w.second_output(inorder)
    return w.node("GatherElements", w.x, inorder, axis=axis)


def reversed_in_part(w: Writing) -> str:
    """Return sequences whose first elements, as many as their length, are in reverse order."""
    shape, time = w.shapes[0], axis_of(w) - 1
    sequences = axis_within(w.call["sequences"], w.rank)
    length = w.shaped(indices_of(w, 1)[0], [shape[axis] if axis == sequences else 1 for axis in range(w.rank)])
    here = w.whole(np.arange(shape[time]).reshape([1, *(-1 if axis == time else 1 for axis in range(w.rank))]))
    turned = w.node("Sub", w.node("Sub", length, w.whole(1)), here)
    places = w.node("Where", w.node("Less", here, length), turned, here)
    x = w.spread(0)
    return w.node("GatherElements", x, w.node("Expand", places, w.node("Shape", x)), axis=1 + time)


# -- what is written -----------------------------------------------------------------------------------------


def with_batch(w: Writing, tuples: str, rank: int, common: int = 0) -> str:
    """Return tuples of indices, (batch, ..., tuple), that name the batch too, and axes that input and tuples share.

    rank : axes of the tuples, without the batch
    """
    nothing = w.node("Mul", w.node("Slice", tuples, w.whole([0]), w.whole([1]), w.whole([rank])), w.whole(0))
    count = w.node("Squeeze", w.node("Shape", tuples, start=0, end=1), w.whole([0]))
    first = w.node("Range", w.whole(0), count, w.whole(1))
    numbers = [w.node("Reshape", first, w.whole([-1, *[1] * rank]))]
    for axis in range(common):
        shape = [-1 if place == axis else 1 for place in range(rank)]
        numbers.append(w.whole(np.arange(w.shapes[0][axis]).reshape([1, *shape])))
    return w.node("Concat", *(w.node("Add", nothing, each) for each in numbers), tuples, axis=rank)


def scattered(w: Writing) -> str:
    """Return the first input with elements of the second written to places along an axis."""
    reduction = REDUCTIONS[w.call["reduction"]]
    places = indices_of(w, 2)[0]
    return w.node("ScatterElements", w.spread(0), places, w.spread(1), axis=axis_of(w), reduction=reduction)


def scattered_by_tuples(w: Writing) -> str:
    """Return the first input with rows of the second written to places that tuples name."""
    tuples, rank = indices_of(w, 2)
    places = with_batch(w, tuples, rank, w.call["common"])
    return w.node("ScatterND", w.spread(0), places, w.spread(1), reduction=REDUCTIONS[w.call["reduction"]])


def scatter_sums(w: Writing) -> str:
    """Return sums of elements by their places along a new axis."""
    places, count = indices_of(w, 1)
    axis, rank = axis_within(w.call["axis"], len(w.call.shape)), w.rank
    others = [each for each in range(1, 1 + rank) if not axis < each <= axis + count]
    front = w.node("Transpose", w.spread(0), perm=[0, *range(1 + axis, 1 + axis + count), *others])
    rest = [w.shapes[0][each - 1] for each in others]
    batch = w.node("Shape", front, start=0, end=1)
    nothing = w.node("Expand", 0.0, w.node("Concat", batch, w.whole([w.call["extent"], *rest]), axis=0))
    tuples = with_batch(w, w.node("Unsqueeze", places, w.whole([1 + count])), 1 + count)
    made = w.node("ScatterND", nothing, tuples, front, reduction="add")
    return w.moved(made, 2 + len(rest), 1, 1 + axis)


# -- resizing ------------------------------------------------------------------------------------------------


def resized(w: Writing) -> str:
    """Return the input resized along one axis after the other: by elements as they are, or products with matrices."""
    x, rank = w.x, 1 + w.rank
    for place, found in maps(np, w.call, np.float64):
        axis = 1 + place - LEAD
        if w.call["mode"] == "nearest":
            x = w.node("Gather", x, w.whole(found), axis=axis)
        else:
            product = w.node("MatMul", w.moved(x, rank, axis, rank - 1), w.array(found.T))
            x = w.moved(product, rank, rank - 1, axis)
    outside = beyond(np, w.call)
    if outside is None:
        return x
    return w.node("Where", w.model.constant(outside[None]), float(w.call["extrapolation"]), x)


ROWS: dict[str, Row] = {
    "embedding": embedding, "gather": gathered, "gather_nd": gathered_by_tuples, "take_along": taken_along,
    "one_hot": one_hot, "top_k": largest, "reverse_sequence": reversed_in_part, "scatter": scattered,
    "scatter_nd": scattered_by_tuples, "scatter_add": scatter_sums, "resize": resized,
}  # fmt: skip
