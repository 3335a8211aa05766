"""Leaves the batch axis of a model made elsewhere out of its vertices, as far as their ops allow.

The axis has extent 1, so that a vertex with it and one without it hold the same numbers in the same order. That is all
that is kept: for each vertex a call without the axis is tried, whose shape must be the old one but for one axis of
extent 1 and whose numbers must be those of the old call. Where there is none, the inputs get their axis back by a
``reshape``, and the vertex stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.documents.frozen_arrays import FrozenArray
from pcsim.errors import InputError
from pcsim.models.vertex_rows import Rows, VertexRow
from pcsim.ops import OPS, complete

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcsim.arrays import Shape
    from pcsim.ops.op import Call, Op

Array = np.ndarray[Any, np.dtype[Any]]

MOST_WORK = 3e7
"""Calls of more multiply-adds than this are not tried with numbers: their shapes alone decide."""


def without_batch_axis(rows: Rows, axis: int) -> Rows:
    """Return the rows of a model without its batch axis.

    axis : where the batch axis of inputs is; inputs with another extent there keep all of their axes
    """
    change = _Change(axis)
    for name, row in rows.items():
        change.add(name, row)
    return change.rows


RESHAPING = ("flatten", "squeeze", "unsqueeze")
"""Ops that say in another way what ``reshape`` does."""


def as_reshape(row: VertexRow) -> VertexRow:
    """Return a vertex that reshapes its input as one that says its shape."""
    attributes = {"shape": list(row.call.shape)}
    return VertexRow("reshape", row.inputs, attributes, complete(OPS["reshape"], row.call.shapes, attributes))


def without(shape: Sequence[Any], axis: int) -> list[Any]:
    """Return a shape without an axis."""
    return [*shape[:axis], *shape[axis + 1 :]]


@dataclass
class _Change:
    """The rows so far.

    Attributes
    ----------
    dropped : {vertex: the axis that it is left without}
    shapes : {vertex: shape with the axis}
    """

    axis: int
    rows: Rows = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    reshaped: dict[tuple[str, Shape], str] = field(default_factory=dict)

    def add(self, name: str, row: VertexRow) -> None:
        """Add a vertex, without the axis if it can be."""
        self.shapes[name] = row.call.shape
        row = as_reshape(row) if row.op in RESHAPING else row
        at_axis = row.call.shape[self.axis : self.axis + 1] == (1,)
        if (row.op == "input" and at_axis) or (
            row.op == "reshape" and at_axis and not self.dropped.keys() & set(row.inputs)
        ):
            self._reshape(name, row, self.axis)
        elif not self.dropped.keys() & set(row.inputs):
            self.rows[name] = row
        elif (found := self._smaller(row)) is not None:
            self.rows[name], axis = found
            self.dropped |= {} if axis is None else {name: axis}
        else:
            inputs = tuple(self._with_shape(pre, self.shapes[pre]) for pre in row.inputs)
            self.rows[name] = replace(row, inputs=inputs)

    def _reshape(self, name: str, row: VertexRow, axis: int) -> None:
        """Add a vertex whose attribute says its shape, without an axis."""
        attributes = {**row.attributes, "shape": without(row.call.shape, axis)}
        self.rows[name] = replace(row, attributes=attributes, call=self._call(row.op, row.inputs, attributes))
        self.dropped[name] = axis

    def _call(self, op: str, inputs: Sequence[str], attributes: dict[str, Any]) -> Call:
        return complete(OPS[op], tuple(self.rows[pre].call.shape for pre in inputs), attributes)

    def _with_shape(self, name: str, shape: Shape) -> str:
        """Return a vertex that holds the same numbers in a shape."""
        if self.rows[name].call.shape == shape:
            return name
        if (name, shape) not in self.reshaped:
            made = f"{name}.reshaped" + f".{len(self.reshaped)}" * (f"{name}.reshaped" in self.rows)
            self.rows[made] = self._of_shape(name, shape)
            self.reshaped[name, shape] = made
        return self.reshaped[name, shape]

    def _of_shape(self, name: str, shape: Shape) -> VertexRow:
        """Return a constant in another shape, or a vertex that reshapes another one."""
        row = self.rows[name]
        if row.op != "constant":
            attributes: dict[str, Any] = {"shape": list(shape)}
            return VertexRow("reshape", (name,), attributes, self._call("reshape", [name], attributes))
        value = row.attributes["value"]
        given = {"shape": list(shape)} if np.ndim(value) == 0 else {"value": reshaped(value, shape)}
        attributes = {**row.attributes, **given}
        return VertexRow("constant", (), attributes, self._call("constant", (), attributes))

    def _smaller(self, row: VertexRow) -> tuple[VertexRow, int | None] | None:
        """Return the same vertex without an axis, and which one; None where no such call makes the same numbers."""
        slot = next(slot for slot, pre in enumerate(row.inputs) if pre in self.dropped)
        axis = self.dropped[row.inputs[slot]] - len(self.shapes[row.inputs[slot]])
        options = [
            (shapes, *choice) for shapes in self._shapes_of_inputs(row, axis) for choice in choices(row, slot, axis)
        ]
        for shapes, left_out, attributes in sorted(options, key=lambda option: option[1] is None):
            call = tried(row, shapes, attributes)
            wanted = row.call.shape if left_out is None else tuple(without(row.call.shape, left_out))
            if call is not None and call.shape == wanted and same_numbers(row.op, row.call, call):
                inputs = tuple(map(self._with_shape, row.inputs, shapes))
                return replace(row, inputs=inputs, attributes=attributes, call=call), left_out
        return None

    def _shapes_of_inputs(self, row: VertexRow, axis: int) -> Iterator[tuple[Shape, ...]]:
        """Yield shapes that inputs may have: as they are, and without the axis (counted from behind) in all of them."""
        shapes = [self.rows[pre].call.shape for pre in row.inputs]
        yield tuple(shapes)
        for place, pre in enumerate(row.inputs):
            own = len(shapes[place]) + axis
            if pre not in self.dropped and own >= 0 and shapes[place][own] == 1:
                shapes[place] = tuple(without(shapes[place], own))
        yield tuple(shapes)


def reshaped(value: Any, shape: Shape) -> Any:
    """Return an array, or lists of numbers, in another shape."""
    made = np.reshape(np.asarray(value), shape)
    return FrozenArray(made) if isinstance(value, FrozenArray) else made.tolist()


def choices(row: VertexRow, slot: int, axis: int) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """Yield an axis that a vertex may be left without, and the attributes with which it would be.

    slot, axis : an input without an axis, and which it is, counted from behind
    """
    shape, rank = row.call.shape, len(row.call.shapes[0])
    implied = {key: value for key, value in row.call.attributes if names_axis(key) and key not in row.attributes}
    given = {**row.attributes, **implied}
    if "equation" in given:
        letter = given["equation"].split("->")[0].split(",")[slot].strip()[axis]
        given["equation"] = given["equation"].replace(letter, "")
    first = axis + len(shape)
    ones = sorted((each for each, extent in enumerate(shape) if extent == 1), key=lambda each: each != first)
    for left_out in (*ones, None):
        wanted = list(shape) if left_out is None else without(shape, left_out)
        yield left_out, {key: changed(key, value, axis + rank, rank, wanted) for key, value in given.items()}


def names_axis(key: str) -> bool:
    """Return whether an attribute counts axes."""
    return key in ("axis", "axes") or key.endswith("_axis")


def changed(key: str, value: Any, axis: int, rank: int, shape: Sequence[int]) -> Any:
    """Return an attribute of a vertex for an input without an axis.

    Axes are counted anew, entries for the axis are left out, and a shape is the one wanted.

    >>> changed("axis", 2, 0, 3, ()), changed("axis", -1, 0, 3, ()), changed("axes", [0, 2, 1], 0, 3, ())
    (1, -1, [1, 0])
    """
    if key == "shape":
        return list(shape)
    if key in ("widths", "repeats") and isinstance(value, list) and 0 <= axis < len(value):
        return without(value, axis)
    if not names_axis(key) or value is None:
        return value
    if isinstance(value, list | tuple):
        return [counted(each, axis, rank) for each in value if each % rank != axis]
    return counted(value, axis, rank)


def counted(value: int, axis: int, rank: int) -> int:
    """Return the number of an axis where another one is left out; negative ones are counted from behind."""
    place = value % rank
    after = place - (place > axis)
    return after - (rank - 1) if value < 0 else after


def tried(row: VertexRow, shapes: tuple[Shape, ...], attributes: dict[str, Any]) -> Call | None:
    """Return the call of an op with other inputs and attributes; None where it takes no such."""
    try:
        call = complete(OPS[row.op], shapes, attributes)
    except InputError:
        return None
    op = OPS[row.op]
    return call if op.params(call) == op.params(row.call) and op.buffers(call) == op.buffers(row.call) else None


@lru_cache(maxsize=1_000)
def same_numbers(op: str, old: Call, new: Call) -> bool:
    """Return whether two calls make the same random numbers of the same; too large a call is not tried."""
    if OPS[op].cost(new).multiply_adds > MOST_WORK:
        return True
    made, expected = (worked_out(OPS[op], call).ravel() for call in (new, old))
    return bool(np.allclose(made, expected, rtol=1e-9, atol=1e-12, equal_nan=True))


def worked_out(op: Op, call: Call) -> Array:
    """Return what a call makes of random numbers that depend on how many there are, not on their shape."""
    rng = np.random.default_rng(0)
    inputs = tuple(
        np.zeros((1, 1, *shape), np.int64)
        if op.slot(slot).format == "whole"
        else rng.uniform(0.5, 1.5, shape)[None, None]
        for slot, shape in enumerate(call.shapes)
    )
    params = {name: rng.uniform(0.5, 1.5, (1, *spec.shape)) for name, spec in op.params(call).items()}
    params |= {name: rng.uniform(0.5, 1.5, (1, *spec.shape)) for name, spec in op.buffers(call).items()}
    params |= {name: array[None] for name, array in op.draws(call, 1, rng).items()}
    with np.errstate(all="ignore"):
        mu: Array = op.forward(np, call, params, inputs)[0]
    return np.broadcast_to(mu, (1, 1, *call.shape))
