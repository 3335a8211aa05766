"""Functions of one input that work element by element; those of any domain are activations too."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.arrays import Array, unbroadcast
from pcsim.ops.attributes import Check, choice, optional
from pcsim.ops.mathematical import MATHEMATICAL
from pcsim.ops.nonlinearities import NONLINEARITIES
from pcsim.ops.op import Call, Cost, Op

if TYPE_CHECKING:
    from pcsim.arrays import Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved
    from pcsim.ops.unary import Unary

UNARY: dict[str, Unary] = MATHEMATICAL | NONLINEARITIES

ACTIVATIONS = {"none": UNARY["identity"]} | {name: f for name, f in UNARY.items() if f.activates}
"""The functions that a layer may apply; each takes its attributes at their defaults."""

_OR_NULL = optional(choice("an activation", ACTIVATIONS))
activation: Check[str] = Check(lambda value: _OR_NULL(value) or "none", _OR_NULL.schema)
"""The check of an activation; null is none."""


def same_shape(call: Call) -> Shape:
    """Return the shape of the only input."""
    return call.shapes[0]


def unary_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return slope times error."""
    g = unbroadcast(xp, g, inputs[0].shape)
    return (saved[0] * g if saved else g,)


def unary_op(name: str, row: Unary) -> Op:
    """Return the op that applies one function to each element of its input."""

    def forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
        x, attributes = inputs[0], dict(call.attributes)
        y = row.f(xp, x, **attributes)
        return y, () if row.slope is None else (row.slope(xp, x, y, **attributes),)

    outside = row.outside
    return Op(
        name=name,
        summary=row.summary,
        arity=(1, 1),
        shape=same_shape,
        forward=forward,
        to_inputs=unary_to_inputs,
        attributes=row.attributes,
        cost=lambda _call: Cost(curved=row.slope is not None),
        domain=None if outside is None else lambda xp, call, inputs: (0, outside(inputs[0])),
        domain_text=row.outside_text,
        source=row.source,
    )


ROWS = tuple(unary_op(name, row) for name, row in UNARY.items())
