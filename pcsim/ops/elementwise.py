"""Functions of one input that work element by element; those of any domain are activations too."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from dataclasses import dataclass, field
from math import pi, sqrt
from types import MappingProxyType
from typing import TYPE_CHECKING

from pcsim.arrays import Array, special, unbroadcast
from pcsim.ops.attributes import Check, choice, number, optional
from pcsim.ops.op import Attribute, Call, Cost, Op

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pcsim.arrays import Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved


@dataclass(frozen=True)
class Unary:
    """A function of each element, and its slope.

    Attributes
    ----------
    f : (xp, x, **attributes) -> y, of x's shape and number format.
    slope : (xp, x, y, **attributes) -> dy/dx; None where it is 1, so that nothing is computed or kept.
    outside : (x) -> mask of the elements where f has no value; None where it has one everywhere.
    """

    summary: str
    f: Callable[..., Array]
    slope: Callable[..., Array] | None
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))
    outside: Callable[[Array], Array] | None = None
    outside_text: str = ""
    source: str = ""


def gelu_slope(xp: Namespace, x: Array, y: Array) -> Array:
    """Return Φ(x) + x φ(x), with Φ and φ the normal distribution and its density."""
    return special(xp).ndtr(x) + x * xp.exp(-0.5 * x * x) * (1 / sqrt(2 * pi))


def silu_slope(xp: Namespace, x: Array, y: Array) -> Array:
    """Return σ(x) + y (1 - σ(x))."""
    s = special(xp).expit(x)
    return s + y * (1 - s)


def leaky_slope(xp: Namespace, x: Array, y: Array, slope: float = 0.01) -> Array:
    """Return 1 where x > 0 and ``slope`` elsewhere."""
    return xp.where(x > 0, xp.ones_like(x), xp.full_like(x, slope))


LEAK = {"slope": Attribute(number, 0.01, summary="slope where x is not positive")}

UNARY = {
    "identity": Unary("the input itself", lambda xp, x: x, None),
    "negate": Unary("-x", lambda xp, x: -x, lambda xp, x, y: xp.full_like(x, -1)),
    "sqrt": Unary(
        "square root",
        lambda xp, x: xp.sqrt(x),
        lambda xp, x, y: 0.5 / y,
        outside=lambda x: x < 0,
        outside_text="square root of a negative number",
    ),
    "square": Unary("x times x", lambda xp, x: x * x, lambda xp, x, y: 2 * x),
    "exp": Unary("e to the x", lambda xp, x: xp.exp(x), lambda xp, x, y: y),
    "log": Unary(
        "natural logarithm",
        lambda xp, x: xp.log(x),
        lambda xp, x, y: 1 / x,
        outside=lambda x: x <= 0,
        outside_text="logarithm of a number that is not positive",
    ),
    "sin": Unary("sine", lambda xp, x: xp.sin(x), lambda xp, x, y: xp.cos(x)),
    "cos": Unary("cosine", lambda xp, x: xp.cos(x), lambda xp, x, y: -xp.sin(x)),
    "tan": Unary("tangent", lambda xp, x: xp.tan(x), lambda xp, x, y: 1 + y * y),
    "tanh": Unary("hyperbolic tangent", lambda xp, x: xp.tanh(x), lambda xp, x, y: 1 - y * y),
    "sigmoid": Unary(
        "logistic function 1/(1 + exp(-x))",
        lambda xp, x: special(xp).expit(x),
        lambda xp, x, y: y * (1 - y),
    ),
    "relu": Unary(
        "the positive part of x; slope 0 at 0",
        lambda xp, x: xp.maximum(x, 0),
        lambda xp, x, y: (x > 0).astype(x.dtype),
    ),
    "leaky_relu": Unary(
        "x where positive, else slope times x",
        lambda xp, x, slope=0.01: xp.where(x > 0, x, slope * x),
        leaky_slope,
        attributes=LEAK,
        source="Maas et al. 2013",
    ),
    "softplus": Unary(
        "log(1 + exp(x))",
        lambda xp, x: xp.logaddexp(x, xp.zeros_like(x)),
        lambda xp, x, y: special(xp).expit(x),
    ),
    "gelu": Unary(
        "x times the normal distribution at x (exact, not the tanh fit)",
        lambda xp, x: x * special(xp).ndtr(x),
        gelu_slope,
        source="Hendrycks & Gimpel 2016",
    ),
    "silu": Unary(
        "x times sigmoid(x)",
        lambda xp, x: x * special(xp).expit(x),
        silu_slope,
        source="Elfwing et al. 2018",
    ),
}

ACTIVATIONS = {"none": UNARY["identity"]} | {name: f for name, f in UNARY.items() if f.outside is None}
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
