"""Powers, exponentials, circular and hyperbolic functions, and rounding, element by element."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from math import pi, sqrt
from typing import TYPE_CHECKING

from pcsim.arrays import Array, special
from pcsim.ops.attributes import number, optional
from pcsim.ops.op import Attribute
from pcsim.ops.unary import Unary, zero_slope

if TYPE_CHECKING:
    from pcsim.arrays import Namespace


def clipped(
    xp: Namespace,
    x: Array,
    min: float | None = None,
    max: float | None = None,
) -> Array:
    """Return x held within bounds; the upper one holds where they cross."""
    x = x if min is None else xp.maximum(x, min)
    return x if max is None else xp.minimum(x, max)


def clip_slope(
    xp: Namespace,
    x: Array,
    y: Array,
    min: float | None = None,
    max: float | None = None,
) -> Array:
    """Return 1 from the lower bound to the upper one, both among them, and 0 elsewhere."""
    inside = xp.ones_like(x) if min is None else (x >= min).astype(x.dtype)
    return inside if max is None else inside * (x <= max)


NOTHING = "zero slope everywhere"
BOUNDS = {
    "min": Attribute(optional(number), summary="lower bound; null for none"),
    "max": Attribute(optional(number), summary="upper bound; null for none"),
}

MATHEMATICAL = {
    "identity": Unary("the input itself", lambda xp, x: x, None),
    "negate": Unary("-x", lambda xp, x: -x, lambda xp, x, y: xp.full_like(x, -1)),
    "abs": Unary("absolute value; slope 0 at 0", lambda xp, x: abs(x), lambda xp, x, y: xp.sign(x)),
    "sign": Unary(f"-1, 0 or 1; {NOTHING}", lambda xp, x: xp.sign(x), zero_slope),
    "floor": Unary(f"largest whole number not above x; {NOTHING}", lambda xp, x: xp.floor(x), zero_slope),
    "ceil": Unary(f"smallest whole number not below x; {NOTHING}", lambda xp, x: xp.ceil(x), zero_slope),
    "round": Unary(f"nearest whole number, halves to the even one; {NOTHING}", lambda xp, x: xp.rint(x), zero_slope),
    "clip": Unary(
        "x held within bounds; slope 1 at the bounds",
        clipped,
        clip_slope,
        attributes=BOUNDS,
        in_layers=False,
    ),
    "reciprocal": Unary(
        "1/x",
        lambda xp, x: 1 / x,
        lambda xp, x, y: -y * y,
        outside=lambda x: x == 0,
        outside_text="reciprocal of zero",
    ),
    "sqrt": Unary(
        "square root",
        lambda xp, x: xp.sqrt(x),
        lambda xp, x, y: 0.5 / y,
        outside=lambda x: x < 0,
        outside_text="square root of a negative number",
    ),
    "square": Unary("x times x", lambda xp, x: x * x, lambda xp, x, y: 2 * x),
    "exp": Unary("e to the x", lambda xp, x: xp.exp(x), lambda xp, x, y: y),
    "expm1": Unary(
        "e to the x, less 1, exact near 0", lambda xp, x: xp.expm1(x), lambda xp, x, y: y + 1
    ),
    "log": Unary(
        "natural logarithm",
        lambda xp, x: xp.log(x),
        lambda xp, x, y: 1 / x,
        outside=lambda x: x <= 0,
        outside_text="logarithm of a number that is not positive",
    ),
    "log1p": Unary(
        "natural logarithm of 1 + x, exact near 0",
        lambda xp, x: xp.log1p(x),
        lambda xp, x, y: 1 / (1 + x),
        outside=lambda x: x <= -1,
        outside_text="logarithm of a number that is not positive",
    ),
    "erf": Unary(
        "error function",
        lambda xp, x: special(xp).erf(x),
        lambda xp, x, y: xp.exp(-x * x) * (2 / sqrt(pi)),
    ),
    "sin": Unary("sine", lambda xp, x: xp.sin(x), lambda xp, x, y: xp.cos(x)),
    "cos": Unary("cosine", lambda xp, x: xp.cos(x), lambda xp, x, y: -xp.sin(x)),
    "tan": Unary("tangent", lambda xp, x: xp.tan(x), lambda xp, x, y: 1 + y * y),
    "asin": Unary(
        "angle of a sine",
        lambda xp, x: xp.arcsin(x),
        lambda xp, x, y: 1 / xp.sqrt((1 - x) * (1 + x)),
        outside=lambda x: abs(x) > 1,
        outside_text="sine outside -1 to 1",
    ),
    "acos": Unary(
        "angle of a cosine",
        lambda xp, x: xp.arccos(x),
        lambda xp, x, y: -1 / xp.sqrt((1 - x) * (1 + x)),
        outside=lambda x: abs(x) > 1,
        outside_text="cosine outside -1 to 1",
    ),
    "atan": Unary("angle of a tangent", lambda xp, x: xp.arctan(x), lambda xp, x, y: 1 / (1 + x * x)),
    "sinh": Unary("hyperbolic sine", lambda xp, x: xp.sinh(x), lambda xp, x, y: xp.cosh(x)),
    "cosh": Unary("hyperbolic cosine", lambda xp, x: xp.cosh(x), lambda xp, x, y: xp.sinh(x)),
    "tanh": Unary("hyperbolic tangent", lambda xp, x: xp.tanh(x), lambda xp, x, y: 1 - y * y),
    "asinh": Unary(
        "inverse of the hyperbolic sine", lambda xp, x: xp.arcsinh(x), lambda xp, x, y: 1 / xp.sqrt(x * x + 1)
    ),
    "acosh": Unary(
        "inverse of the hyperbolic cosine",
        lambda xp, x: xp.arccosh(x),
        lambda xp, x, y: 1 / xp.sqrt((x - 1) * (x + 1)),
        outside=lambda x: x < 1,
        outside_text="hyperbolic cosine below 1",
    ),
    "atanh": Unary(
        "inverse of the hyperbolic tangent",
        lambda xp, x: xp.arctanh(x),
        lambda xp, x, y: 1 / ((1 - x) * (1 + x)),
        outside=lambda x: abs(x) >= 1,
        outside_text="hyperbolic tangent that is not between -1 and 1",
    ),
}  # fmt: skip
