"""Sums of products over named axes: the matrix product, and einsum."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

from pcsim.ops.attributes import takes
from pcsim.ops.op import Attribute, Call, Cost, Op
from pcsim.ops.sums_of_products import MOST_LABELS, Label, Labels, extents_of, planned, sum_of_products

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.arrays import Array, Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved

FRONT: Labels = ("stack", "batch")

Equation = tuple[tuple[Labels, ...], Labels]
"""The labels of each input, and of the vertex; without leading axes."""


# -- what equations say ---------------------------------------------------------------------------------


def labels_of(call: Call) -> Equation:
    """Return the labels of the axes: of a matrix product those that NumPy's rule says, of einsum the equation's."""
    ranks = tuple(map(len, call.shapes))
    equation = dict(call.attributes).get("equation")
    return of_matrices(*ranks) if equation is None else of_equation(equation, ranks)


@lru_cache(maxsize=256)
def of_matrices(a: int, b: int) -> Equation:
    """Return the labels of a matrix product of inputs of so many axes; a vector is a row, or a column."""
    front_a, front_b = broadcast_labels(a - 2), broadcast_labels(b - 2)
    rows: Labels = ("row",) if a > 1 else ()
    columns: Labels = ("column",) if b > 1 else ()
    return ((*front_a, *rows, "inside"), (*front_b, "inside", *columns)), (
        *max(front_a, front_b, key=len),
        *rows,
        *columns,
    )


def broadcast_labels(count: int) -> Labels:
    """Return labels of axes that are counted from the last one."""
    return tuple(range(max(count, 0), 0, -1))


@takes(type="string")
def equation(value: Any) -> str:
    """Return an equation without blanks; its terms are letters, and at most one ellipsis each."""
    if not isinstance(value, str):
        raise ValueError("expected an equation, such as 'ij,jk->ik'")
    text = "".join(value.split())
    left, arrow, right = text.partition("->")
    terms = [*left.split(","), *([right] if arrow else [])]
    bare = [term.replace("...", "", 1) for term in terms]
    if not all(term.isascii() and (term.isalpha() or not term) for term in bare):
        raise ValueError("expected letters, '...', ',' and at most one '->', such as 'ij,jk->ik'")
    if len(set("".join(bare))) > MOST_LABELS:
        message = f"expected at most {MOST_LABELS} labels"
        raise ValueError(message)
    return text


@lru_cache(maxsize=1024)
def of_equation(text: str, ranks: tuple[int, ...]) -> Equation:
    """Return the labels that an equation gives to inputs of so many axes; raises ValueError where it does not fit."""
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        message = f"the equation has {len(terms)} terms for {len(ranks)} inputs"
        raise ValueError(message)
    found = tuple(term_labels(term, rank) for term, rank in zip(terms, ranks, strict=True))
    widest = max((tuple(label for label in each if isinstance(label, int)) for each in found), key=len)
    letters = Counter(label for each in found for label in each if isinstance(label, str))
    if not arrow:
        return found, (*widest, *sorted(label for label, count in letters.items() if count == 1))
    out = tuple(right.replace("...", ""))
    if unknown := [label for label in out if label not in letters]:
        message = f"label {unknown[0]!r} of the result stands in no input"
        raise ValueError(message)
    if len(set(out)) < len(out):
        raise ValueError("expected each label of the result once")
    front, _, behind = right.partition("...")
    return found, (*front, *(widest if "..." in right else ()), *behind)


def term_labels(term: str, rank: int) -> Labels:
    """Return the labels of one input, those of an ellipsis counted from its last axis."""
    front, dots, behind = term.partition("...")
    hidden = rank - len(front) - len(behind)
    if hidden < 0 or (hidden and not dots):
        message = f"the term {term!r} does not fit an input of {rank} axes"
        raise ValueError(message)
    return (*front, *broadcast_labels(hidden), *behind)


def checked_extents(call: Call) -> dict[Label, int]:
    """Return the extent of each label; raises ValueError where axes of one label differ."""
    labels, _ = labels_of(call)
    extents = extents_of(labels, call.shapes)
    for each, shape in zip(labels, call.shapes, strict=True):
        for label, extent in zip(each, shape, strict=True):
            if extent != extents[label] and (extent != 1 or isinstance(label, str)):
                named = f"label {label!r}" if isinstance(label, str) else "an ellipsis"
                message = f"axes of {named} have extents {extent} and {extents[label]}, expected equal ones"
                raise ValueError(message)
    return extents


def einsum_shape(call: Call) -> Shape:
    """Return the extents of the labels of the result."""
    _, out = labels_of(call)
    extents = checked_extents(call)
    return tuple(extents[label] for label in out)


def matmul_shape(call: Call) -> Shape:
    """Return the shape of NumPy's matmul: leading axes broadcast, a vector is a row or a column."""
    a, b = call.shapes
    if not (a and b) or a[-1] != b[max(len(b) - 2, 0)]:
        raise ValueError("expected one axis or more each, the first's last equal to the second's last but one")
    try:
        return einsum_shape(call)
    except ValueError:
        raise ValueError("expected leading axes that broadcast (from the last axis: equal, or 1)") from None


# -- forward and back -----------------------------------------------------------------------------------


def forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the sum of products."""
    labels, out = labels_of(call)
    return sum_of_products(xp, [FRONT + each for each in labels], inputs, FRONT + out), ()


def to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return for each input the sum of products of g and all others."""
    labels, out = labels_of(call)
    terms = [(FRONT + out, g), *((FRONT + each, x) for each, x in zip(labels, inputs, strict=True))]
    return tuple(to_one(xp, *terms[n], terms[:n] + terms[n + 1 :]) for n in range(1, len(terms)))


def to_one(xp: Namespace, labels: Labels, x: Array, others: Sequence[tuple[Labels, Array]]) -> Array:
    """Return the derivative at one input; a label that it has twice is the diagonal of a matrix."""
    distinct = tuple((label, labels[:n].count(label)) for n, label in enumerate(labels))
    there = [tuple((label, 0) for label in each) for each, _ in others]
    arrays = [array for _, array in others]
    for (label, number), extent in zip(distinct, x.shape, strict=True):
        if number:
            there.append(((label, 0), (label, number)))
            arrays.append(xp.eye(extent, dtype=x.dtype))
    extents = extents_of(there, [array.shape for array in arrays])
    full = [
        label in extents and (extent > 1 or extents[label] == 1)
        for label, extent in zip(distinct, x.shape, strict=True)
    ]
    out = tuple(label for label, whole in zip(distinct, full, strict=True) if whole)
    found = sum_of_products(xp, there, arrays, out)
    shape = tuple(extents[label] if whole else 1 for label, whole in zip(distinct, full, strict=True))
    return xp.broadcast_to(found.reshape(shape), x.shape)


def cost(call: Call) -> Cost:
    """Return the multiply-adds of all products."""
    labels, out = labels_of(call)
    return Cost(float(planned(labels, call.shapes, out).work or prod(call.shape)))


def fan_in(call: Call, slot: int) -> int:
    """Return how many products with an input are summed to one number."""
    labels, out = labels_of(call)
    return prod(extent for label, extent in zip(labels[slot], call.shapes[slot], strict=True) if label not in out)


ROWS = (
    Op(
        name="matmul",
        summary="matrix product of two inputs, over the last axis of the first; leading axes broadcast",
        arity=(2, 2),
        shape=matmul_shape,
        forward=forward,
        to_inputs=to_inputs,
        cost=cost,
        fan_in=fan_in,
    ),
    Op(
        name="einsum",
        summary="sum of products over labelled axes",
        arity=(1, None),
        shape=einsum_shape,
        forward=forward,
        to_inputs=to_inputs,
        cost=cost,
        fan_in=fan_in,
        attributes={
            "equation": Attribute(
                equation, required=True, summary="labels of the axes, such as ij,jk->ik; ... stands for any axes"
            )
        },
    ),
)
