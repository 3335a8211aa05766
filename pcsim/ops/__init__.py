"""What a vertex computes: every op and every loss, as rows of two tables.

>>> from pcsim.ops import OPS, complete
>>> complete(OPS["affine"], ((3,),), {"units": 2}).shape
(2,)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pcsim.ops import (
    arithmetic,
    batch,
    elementwise,
    feedback,
    linear,
    lookup,
    losses,
    neuron,
    normalise,
    reductions,
    sources,
    structure,
)
from pcsim.ops.calls import Attributes, complete, make_call, parse_attributes
from pcsim.ops.elementwise import ACTIVATIONS, Unary
from pcsim.ops.op import Attribute, Call, Feedback, Loss, Op, ParameterSpec
from pcsim.ops.synapses import projection

if TYPE_CHECKING:
    from collections.abc import Iterable

Row = TypeVar("Row", Op, Loss, Feedback)


def table(*families: Iterable[Row]) -> dict[str, Row]:
    """Return rows by name; a name used twice is refused."""
    rows: dict[str, Row] = {}
    for row in (row for family in families for row in family):
        if row.name in rows:
            message = f"two rows are named {row.name!r}"
            raise ValueError(message)
        rows[row.name] = row
    return rows


FAMILIES = (
    sources,
    elementwise,
    arithmetic,
    linear,
    neuron,
    projection,
    reductions,
    structure,
    normalise,
    batch,
    lookup,
)

OPS = table(*(family.ROWS for family in FAMILIES))
LOSSES = table(losses.ROWS)
FEEDBACKS = table(feedback.ROWS)

__all__ = [
    "ACTIVATIONS",
    "FEEDBACKS",
    "LOSSES",
    "OPS",
    "Attribute",
    "Attributes",
    "Call",
    "Feedback",
    "Loss",
    "Op",
    "ParameterSpec",
    "Unary",
    "complete",
    "make_call",
    "parse_attributes",
    "table",
]
