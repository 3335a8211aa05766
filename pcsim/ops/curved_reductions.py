"""Reductions over axes whose derivative depends on the values: extremes, products, logarithms and norms."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from pcsim.arrays import LEAD
from pcsim.ops.leading import fold
from pcsim.ops.op import Attribute, Call, Op, reduction
from pcsim.ops.reductions import REDUCE, kept, order, reduce_shape, reduced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pcsim.arrays import Array, Namespace
    from pcsim.ops.op import Inputs, Params, Saved


@dataclass(frozen=True)
class Reduction:
    """What is made of each row of numbers, and its slope.

    Attributes
    ----------
    f : (xp, call, rows) -> one number for each row, along the last axis, which stays with extent 1.
    slope : (xp, call, rows, y) -> the derivative of y by each number of its row.
    outside : (xp, rows) -> mask of the rows that have no value; None where all have one.
    """

    summary: str
    f: Callable[[Namespace, Call, Array], Array]
    slope: Callable[[Namespace, Call, Array, Array], Array]
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))
    outside: Callable[[Namespace, Array], Array] | None = None
    outside_text: str = ""


# -- rows of numbers -------------------------------------------------------------------------------------------


def order_of_axes(call: Call) -> list[int]:
    """Return the axes of the array, those that are reduced last."""
    gone = [LEAD + axis for axis in sorted(reduced(call))]
    return [axis for axis in range(LEAD + len(call.shapes[0])) if axis not in gone] + gone


def rows_of(call: Call, x: Array) -> Array:
    """Return what is reduced as the last axis: (stack, batch, *shape) -> (stack, batch, *kept, n)."""
    axes = order_of_axes(call)
    stay = axes[: len(axes) - len(reduced(call))]
    return x.transpose(axes).reshape(*(x.shape[axis] for axis in stay), -1)


def from_rows(call: Call, rows: Array) -> Array:
    """Return rows as they lay in the input."""
    axes, shape = order_of_axes(call), (*rows.shape[:LEAD], *call.shapes[0])
    back = sorted(range(len(axes)), key=axes.__getitem__)
    return rows.reshape([shape[axis] for axis in axes]).transpose(back)


# -- what is made of each row ----------------------------------------------------------------------------------


def shares(xp: Namespace, call: Call, rows: Array, y: Array) -> Array:
    """Return 1 over the number of elements that are extreme, at each of these; 0 elsewhere."""
    extreme = (rows == y).astype(rows.dtype)
    return extreme / xp.sum(extreme, axis=-1, keepdims=True)


def products_of_others(xp: Namespace, call: Call, rows: Array, y: Array) -> Array:
    """Return the product of the others of each row, also where some are 0."""
    one = xp.ones_like(rows[..., :1])
    before = xp.cumprod(xp.concatenate([one, rows[..., :-1]], axis=-1), axis=-1)
    behind = xp.cumprod(xp.concatenate([one, rows[..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
    return before * behind


def logsumexp(xp: Namespace, call: Call, rows: Array) -> Array:
    """Return log(sum(exp(x))), safe for large x."""
    top = xp.max(rows, axis=-1, keepdims=True)
    return top + xp.log(xp.sum(xp.exp(rows - top), axis=-1, keepdims=True))


def norm(xp: Namespace, call: Call, rows: Array) -> Array:
    """Return the sum of absolute values, or the root of the sum of squares."""
    if call["order"] == 1:
        return xp.sum(abs(rows), axis=-1, keepdims=True)
    return xp.sqrt(xp.sum(xp.square(rows), axis=-1, keepdims=True))


def norm_slope(xp: Namespace, call: Call, rows: Array, y: Array) -> Array:
    """Return the sign of each number, or its part of the norm; 0 where all are 0."""
    return xp.sign(rows) if call["order"] == 1 else rows / xp.where(y > 0, y, xp.ones_like(y))


TIES = "where several are, the error is shared evenly"
REDUCTIONS = {
    "max": Reduction(
        f"largest number over axes; {TIES}", lambda xp, call, rows: xp.max(rows, axis=-1, keepdims=True), shares
    ),
    "min": Reduction(
        f"smallest number over axes; {TIES}", lambda xp, call, rows: xp.min(rows, axis=-1, keepdims=True), shares
    ),
    "prod": Reduction(
        "product over axes", lambda xp, call, rows: xp.prod(rows, axis=-1, keepdims=True), products_of_others
    ),
    "logsumexp": Reduction(
        "logarithm of the sum of exponentials over axes", logsumexp, lambda xp, call, rows, y: xp.exp(rows - y)
    ),
    "log_sum": Reduction(
        "logarithm of the sum over axes",
        lambda xp, call, rows: xp.log(xp.sum(rows, axis=-1, keepdims=True)),
        lambda xp, call, rows, y: xp.ones_like(rows) / xp.sum(rows, axis=-1, keepdims=True),
        outside=lambda xp, rows: xp.sum(rows, axis=-1, keepdims=True) <= 0,
        outside_text="logarithm of a sum that is not positive",
    ),
    "sum_square": Reduction(
        "sum of squares over axes",
        lambda xp, call, rows: xp.sum(xp.square(rows), axis=-1, keepdims=True),
        lambda xp, call, rows, y: 2 * rows,
    ),
    "norm": Reduction(
        "sum of absolute values, or root of the sum of squares, over axes",
        norm,
        norm_slope,
        attributes={"order": Attribute(order, 2, summary="1: absolute values; 2: squares")},
    ),
}


def reduction_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return the slope times g, spread over what was reduced."""
    x, (slope,) = inputs[0], saved
    return (slope * fold(xp, g, x).reshape(*x.shape[:LEAD], *kept(call)),)


def domain_of(outside: Callable[[Namespace, Array], Array]) -> Callable[..., tuple[int, Array]]:
    """Return the domain of a reduction: all elements of a row that has no value are outside."""

    def domain(xp: Namespace, call: Call, inputs: Inputs) -> tuple[int, Array]:
        rows = rows_of(call, inputs[0])
        return 0, from_rows(call, xp.broadcast_to(outside(xp, rows), rows.shape))

    return domain


def reduction_op(name: str, row: Reduction) -> Op:
    """Return the op that reduces over axes."""

    def forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
        x = inputs[0]
        rows = rows_of(call, x)
        y = row.f(xp, call, rows)
        return y.reshape(*x.shape[:LEAD], *call.shape), (from_rows(call, row.slope(xp, call, rows, y)),)

    return Op(
        name=name,
        summary=row.summary,
        arity=(1, 1),
        shape=reduce_shape,
        forward=forward,
        to_inputs=reduction_to_inputs,
        attributes={**REDUCE, **row.attributes},
        domain=None if row.outside is None else domain_of(row.outside),
        domain_text=row.outside_text,
        cost=reduction,
    )


ROWS = tuple(reduction_op(name, row) for name, row in REDUCTIONS.items())
