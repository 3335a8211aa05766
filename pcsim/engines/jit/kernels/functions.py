"""Functions of one element, as in ``pcsim.ops.elementwise``, for loops in compiled code.

Each function is branch-free and made of operations that exist for vectors too, so that a loop over it is computed
several elements at a time; only sin, cos, tan and log call the host's library. All have the number format of x, and
follow one signature: ``f(x, attribute)`` and ``f_slope(x, y, attribute)`` with y = f(x), where
``attribute`` is what the row has one of.

``ROWS`` is the one table of them; ``apply`` chooses its loop by the number of a row.
"""

from __future__ import annotations

import math
from typing import Any

from pcsim.engines.jit.kernels.compiled import inline, jit, load, store, switch
from pcsim.engines.jit.kernels.vectors import (
    DENSITY,
    FLAT,
    HIGHEST,
    LN2,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    LOWEST,
    SHIFT,
    TAIL_END,
    TAIL_SCALE,
    choose,
    exp_remainder,
    fma,
    larger,
    log_remainder,
    magnitude,
    power_of_two,
    same,
    scaled,
    tail_factor,
    with_sign,
)

# -- exp and its kin ----------------------------------------------------------------------------------------


@inline
def reduced(x: Any) -> Any:
    """Return n + SHIFT and exp(r) - 1, with x = n log(2) + r and n the nearest whole number."""
    shifted = fma(x, LOG2_E(x), SHIFT(x))
    n = shifted - SHIFT(x)
    exact = fma(-n, LN2_HIGH(x), x)
    r = fma(-n, LN2_LOW(x), exact)
    lost = fma(-n, LN2_LOW(x), exact - r)
    return shifted, r + fma(r * r, exp_remainder(r), lost)


@inline
def reduced_near(x: Any) -> Any:
    """Return the same for an x so near 0, at most 40, that what is lost of n log(2) does not matter to tanh."""
    shifted = fma(x, LOG2_E(x), SHIFT(x))
    r = fma(SHIFT(x) - shifted, LN2(x), x)
    return shifted, fma(r * r, exp_remainder(r), r)


@inline
def exponential(x: Any) -> Any:
    """Return exp(x)."""
    x = choose(x < LOWEST(x), LOWEST(x), x)
    x = choose(x > HIGHEST(x), HIGHEST(x), x)
    shifted, rest = reduced(x)
    return scaled(type(x)(1) + rest, shifted)


@inline
def logistic(x: Any) -> Any:
    """Return 1/(1 + exp(-x)), by the exponential that does not overflow and a reciprocal that is refined once."""
    one = type(x)(1)
    e = exponential(-magnitude(x))
    total = one + e
    lost = e - (total - one)
    reciprocal = one / total
    missing = fma(-reciprocal, lost, fma(-reciprocal, total, one))
    reciprocal = fma(reciprocal, missing, reciprocal)
    return choose(x < 0, e * reciprocal, reciprocal)


@inline
def tail(a: Any, density: Any) -> Any:
    """Return Φ(-a) for a not negative, given exp(-a²/2)."""
    reciprocal = type(a)(1) / (a + TAIL_SCALE(a))
    return density * (tail_factor((a - TAIL_SCALE(a)) * reciprocal) * reciprocal)


@inline
def bell(x: Any) -> Any:
    """Return exp(-x²/2), with what x² loses in rounding."""
    a = magnitude(x)
    a = choose(a > TAIL_END(x), TAIL_END(x), a)
    square = a * a
    half = type(x)(0.5)
    e = exponential(-half * square)
    return fma(-half * fma(a, a, -square), e, e)


@inline
def normal(x: Any) -> Any:
    """Return Φ(x), the normal distribution."""
    a = magnitude(x)
    below = tail(choose(a > TAIL_END(x), TAIL_END(x), a), bell(x))
    return choose(x > 0, type(x)(1) - below, below)


# -- the rows -----------------------------------------------------------------------------------------------


@inline
def identity(x: Any, _: Any) -> Any:
    """Return x."""
    return x


@inline
def identity_slope(x: Any, _y: Any, _: Any) -> Any:
    """Return 1."""
    return type(x)(1)


@inline
def negate(x: Any, _: Any) -> Any:
    """Return -x."""
    return -x


@inline
def negate_slope(x: Any, _y: Any, _: Any) -> Any:
    """Return -1."""
    return type(x)(-1)


@inline
def sqrt(x: Any, _: Any) -> Any:
    """Return the square root; NaN where x is negative."""
    return math.sqrt(x)


@inline
def sqrt_slope(x: Any, y: Any, _: Any) -> Any:
    """Return 1/(2 y)."""
    return type(x)(0.5) / y


@inline
def square(x: Any, _: Any) -> Any:
    """Return x²."""
    return x * x


@inline
def square_slope(x: Any, _y: Any, _: Any) -> Any:
    """Return 2 x."""
    return x + x


@inline
def exp(x: Any, _: Any) -> Any:
    """Return e to the x."""
    return exponential(x)


@inline
def exp_slope(_x: Any, y: Any, _: Any) -> Any:
    """Return y."""
    return y


@inline
def log(x: Any, _: Any) -> Any:
    """Return the natural logarithm; NaN where x is negative."""
    return math.log(x)


@inline
def log_slope(x: Any, _y: Any, _: Any) -> Any:
    """Return 1/x."""
    return type(x)(1) / x


@inline
def sin(x: Any, _: Any) -> Any:
    """Return the sine."""
    return math.sin(x)


@inline
def sin_slope(x: Any, _y: Any, _: Any) -> Any:
    """Return the cosine."""
    return math.cos(x)


@inline
def cos(x: Any, _: Any) -> Any:
    """Return the cosine."""
    return math.cos(x)


@inline
def cos_slope(x: Any, _y: Any, _: Any) -> Any:
    """Return minus the sine."""
    return -math.sin(x)


@inline
def tan(x: Any, _: Any) -> Any:
    """Return the tangent."""
    return math.tan(x)


@inline
def tan_slope(x: Any, y: Any, _: Any) -> Any:
    """Return 1 + y²."""
    return type(x)(1) + y * y


@inline
def tanh(x: Any, _: Any) -> Any:
    """Return the hyperbolic tangent as e/(e + 2), with e = exp(2 |x|) - 1: exact near 0, and one formula for all x.

    The quotient is refined once, with 1/(e + 2) = (1 - quotient)/2.
    """
    zero, one, two = type(x)(0), type(x)(1), type(x)(2)
    twice = magnitude(x) + magnitude(x)
    twice = choose(FLAT(x) < twice, FLAT(x), twice)
    shifted, rest = reduced_near(twice)
    power = power_of_two(shifted)
    e = fma(power, rest, power - one)
    total = e + two
    lost = choose(e > two, zero, e - (total - two))
    quotient = e / total
    missing = fma(-quotient, lost, fma(-quotient, total, e))
    return with_sign(fma(missing, (one - quotient) * type(x)(0.5), quotient), x)


@inline
def tanh_slope(x: Any, y: Any, _: Any) -> Any:
    """Return 1 - y²."""
    return type(x)(1) - y * y


@inline
def sigmoid(x: Any, _: Any) -> Any:
    """Return 1/(1 + exp(-x))."""
    return logistic(x)


@inline
def sigmoid_slope(x: Any, y: Any, _: Any) -> Any:
    """Return y (1 - y)."""
    return y * (type(x)(1) - y)


@inline
def relu(x: Any, _: Any) -> Any:
    """Return the positive part of x."""
    return larger(x, type(x)(0))


@inline
def relu_slope(x: Any, _y: Any, _: Any) -> Any:
    """Return 1 where x is positive, else 0."""
    return choose(x > 0, type(x)(1), type(x)(0))


@inline
def leaky_relu(x: Any, slope: Any) -> Any:
    """Return x where positive, else slope times x."""
    return choose(x > 0, type(x)(1), type(x)(slope)) * x


@inline
def leaky_relu_slope(x: Any, _y: Any, slope: Any) -> Any:
    """Return 1 where x is positive, else ``slope``."""
    return choose(x > 0, type(x)(1), type(x)(slope))


@inline
def softplus(x: Any, _: Any) -> Any:
    """Return log(1 + exp(x)) as the positive part of x plus log(1 + e), with e = exp(-|x|)."""
    e = exponential(-magnitude(x))
    s = e / (type(x)(2) + e)
    z = s * s
    half = type(x)(0.5) * e * e
    return relu(x, x) + (e - (half - s * fma(z, log_remainder(z), half)))


@inline
def softplus_slope(x: Any, _y: Any, _: Any) -> Any:
    """Return 1/(1 + exp(-x))."""
    return logistic(x)


@inline
def gelu(x: Any, _: Any) -> Any:
    """Return x Φ(x)."""
    return x * normal(x)


@inline
def gelu_slope(x: Any, _y: Any, _: Any) -> Any:
    """Return Φ(x) + x φ(x)."""
    return normal(x) + x * (bell(x) * type(x)(DENSITY))


@inline
def silu(x: Any, _: Any) -> Any:
    """Return x/(1 + exp(-x))."""
    return x * logistic(x)


@inline
def silu_slope(x: Any, y: Any, _: Any) -> Any:
    """Return σ(x) + y (1 - σ(x))."""
    s = logistic(x)
    return s + y * (type(x)(1) - s)


@inline
def absolute(x: Any, _: Any) -> Any:
    """Return |x|."""
    return magnitude(x)


@inline
def absolute_slope(x: Any, _y: Any, _: Any) -> Any:
    """Return the sign of x, 0 at 0."""
    return choose(x > 0, type(x)(1), choose(x < 0, type(x)(-1), type(x)(0)))


@inline
def reciprocal(x: Any, _: Any) -> Any:
    """Return 1/x."""
    return type(x)(1) / x


@inline
def reciprocal_slope(_x: Any, y: Any, _: Any) -> Any:
    """Return -y²."""
    return -y * y


@inline
def elu(x: Any, alpha: Any) -> Any:
    """Return x where positive, else alpha (exp(x) - 1), which is -alpha below -40."""
    low = type(x)(-40)
    shifted, rest = reduced(choose(x < low, low, relu(x, x) - magnitude(x)))
    power = power_of_two(shifted)
    return choose(x > 0, x, type(x)(alpha) * fma(power, rest, power - type(x)(1)))


@inline
def elu_slope(x: Any, y: Any, alpha: Any) -> Any:
    """Return 1 where x is positive, else alpha exp(x)."""
    return choose(x > 0, type(x)(1), y + type(x)(alpha))


@inline
def sixth(x: Any) -> Any:
    """Return x/6 + 1/2 held between 0 and 1."""
    above = relu(x + type(x)(3), x)
    return choose(above > 6, type(x)(6), above) / type(x)(6)


@inline
def hard_sigmoid(x: Any, _: Any) -> Any:
    """Return x/6 + 1/2 held between 0 and 1."""
    return sixth(x)


@inline
def hard_sigmoid_slope(x: Any, _y: Any, _: Any) -> Any:
    """Return 1/6 between -3 and 3, else 0."""
    return choose(magnitude(x) < 3, type(x)(1) / type(x)(6), type(x)(0))


@inline
def hard_swish(x: Any, _: Any) -> Any:
    """Return x times its hard sigmoid."""
    return x * sixth(x)


@inline
def hard_swish_slope(x: Any, _y: Any, _: Any) -> Any:
    """Return x/3 + 1/2 between -3 and 3, else 0 or 1."""
    inner = x / type(x)(3) + type(x)(0.5)
    return choose(magnitude(x) < 3, inner, choose(x > 0, type(x)(1), type(x)(0)))


@inline
def softsign(x: Any, _: Any) -> Any:
    """Return x/(1 + |x|)."""
    return x / (type(x)(1) + magnitude(x))


@inline
def softsign_slope(x: Any, _y: Any, _: Any) -> Any:
    """Return 1/(1 + |x|)²."""
    factor = type(x)(1) / (type(x)(1) + magnitude(x))
    return factor * factor


@inline
def clip(x: Any, top: Any) -> Any:
    """Return x held between 0 and the bound."""
    above = relu(x, x)
    return choose(above > type(x)(top), type(x)(top), above)


@inline
def clip_slope(x: Any, y: Any, _: Any) -> Any:
    """Return 1 where x is within the bounds or at one of them, else 0."""
    return choose(x == y, type(x)(1), type(x)(0))


# -- loops --------------------------------------------------------------------------------------------------

ROWS = {
    "identity": (identity, identity_slope),
    "negate": (negate, negate_slope),
    "sqrt": (sqrt, sqrt_slope),
    "square": (square, square_slope),
    "exp": (exp, exp_slope),
    "log": (log, log_slope),
    "sin": (sin, sin_slope),
    "cos": (cos, cos_slope),
    "tan": (tan, tan_slope),
    "tanh": (tanh, tanh_slope),
    "sigmoid": (sigmoid, sigmoid_slope),
    "relu": (relu, relu_slope),
    "leaky_relu": (leaky_relu, leaky_relu_slope),
    "softplus": (softplus, softplus_slope),
    "gelu": (gelu, gelu_slope),
    "silu": (silu, silu_slope),
    "abs": (absolute, absolute_slope),
    "reciprocal": (reciprocal, reciprocal_slope),
    "elu": (elu, elu_slope),
    "hard_sigmoid": (hard_sigmoid, hard_sigmoid_slope),
    "hard_swish": (hard_swish, hard_swish_slope),
    "softsign": (softsign, softsign_slope),
    "clip": (clip, clip_slope),
}
"""Function and slope, by the name of the op; the place in this table is the number of the function, 0 the identity."""

FUNCTIONS = {name: number for number, name in enumerate(ROWS)}


def activation(name: str) -> int:
    """Return the number of a function, or of what a layer calls its activation."""
    return 0 if name == "none" else FUNCTIONS[name]


@inline
def copy(x: Any, ox: int, y: Any, oy: int, n: int) -> None:
    """Copy n elements of x to y, unless they are there already."""
    if not same(x, ox, y, oy):
        for i in range(n):
            store(y, oy + i, load(x, ox + i))


def loop_of(f: Any, slope: Any) -> Any:
    """Return the loop of one row: n elements of y become f of them, and s their slopes.

    It works in place, so that no overlap stands in the way of vectors.
    """

    @inline
    def loop(attribute: float, y: Any, oy: int, s: Any, os: int, n: int) -> None:
        for i in range(n):
            x = load(y, oy + i)
            result = f(x, attribute)
            store(y, oy + i, result)
            store(s, os + i, slope(x, result, attribute))

    return loop


run_loop = switch([loop_of(*row) for row in ROWS.values()])
"""Runs the loop of a row, given its number and what the loop takes."""


@jit
def apply(function: int, attribute: float, x: Any, ox: int, y: Any, oy: int, s: Any, os: int, n: int) -> None:
    """Set n elements of y to a function of those of x, which may be the same ones, and s to the slopes there.

    ``function`` is one of ``FUNCTIONS``; ``ox``, ``oy`` and ``os`` say where the elements start.
    """
    copy(x, ox, y, oy, n)
    run_loop(function, (attribute, y, oy, s, os, n))
