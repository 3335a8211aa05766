"""What a vertex computes: every op and every loss, as rows of two tables.

>>> from pcsim.ops import OPS, complete
>>> complete(OPS["affine"], ((3,),), {"units": 2}).shape
(2,)
"""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any, TypeVar

from pcsim.ops import (
    arithmetic,
    batch,
    contraction,
    convolution,
    curved_reductions,
    elementwise,
    extension,
    feedback,
    indexing,
    linear,
    lookup,
    losses,
    neuron,
    normalise,
    ordering,
    pooling,
    reductions,
    rescaling,
    residual,
    resizing,
    sample_norms,
    scans,
    scattering,
    selection,
    sources,
    structure,
)
from pcsim.ops.calls import Attributes, complete, make_call, parse_attributes
from pcsim.ops.elementwise import ACTIVATIONS
from pcsim.ops.op import Attribute, Call, Feedback, Loss, Op, ParameterSpec
from pcsim.ops.synapses import projection
from pcsim.ops.unary import Unary

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
    selection,
    linear,
    residual,
    neuron,
    projection,
    reductions,
    curved_reductions,
    structure,
    extension,
    normalise,
    sample_norms,
    rescaling,
    batch,
    lookup,
    convolution,
    pooling,
    scans,
    indexing,
    scattering,
    ordering,
    resizing,
    contraction,
)

OPS = table(*(family.ROWS for family in FAMILIES))
LOSSES = table(losses.ROWS)
FEEDBACKS = table(feedback.ROWS)

TABLES: dict[str, dict[str, Any]] = {"op": OPS, "loss": LOSSES, "feedback": FEEDBACKS}


def row_named(kind: str, name: str) -> Op | Loss | Feedback:
    """Return a row by the kind of its table and its name; raises KeyError where this process has none."""
    row: Op | Loss | Feedback = TABLES[kind][name]
    return row


def _by_name(row: Any) -> Any:
    """Let pickle and copy keep the name of a row: its functions cannot be written down."""
    kind = type(row).__name__.lower()
    known = any(row is other for other in TABLES[kind].values())
    return (row_named, (kind, row.name)) if known else row.__reduce_ex__(2)


for _type in (Op, Loss, Feedback):
    copyreg.pickle(_type, _by_name)

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
