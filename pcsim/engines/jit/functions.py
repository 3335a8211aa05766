"""Functions of one element, as in ``pcsim.ops.elementwise``, for loops in compiled code.

Each function is branch-free and made of operations that exist for vectors too, so that a loop over it is computed
several elements at a time; only sin, cos, tan and log call the host's library. All have the number format of x, and
follow one signature: ``f(x, attribute)`` and ``f_slope(x, y, attribute)`` with y = f(x), where
``attribute`` is what the row has one of.

``FUNCTIONS`` gives each row a number, by which ``apply`` and ``value`` choose their loop.
"""

from __future__ import annotations

import math
from typing import Any

from pcsim.engines.jit.compiled import CGUTILS, IR, TYPES, element, inline, intrinsic, jit, load, store
from pcsim.engines.jit.products import fused

# -- what vectors can do ------------------------------------------------------------------------------------


def is_single(real: Any) -> bool:
    """Return whether LLVM's type of a number is the single format, not the double one."""
    return isinstance(real, IR.FloatType)


def call_llvm(builder: Any, name: str, arguments: list[Any]) -> Any:
    """Return what one of LLVM's own functions makes of numbers of one format."""
    real = arguments[0].type
    kind = IR.FunctionType(real, [real] * len(arguments))
    suffix = "f32" if is_single(real) else "f64"
    return builder.call(CGUTILS.get_or_insert_function(builder.module, kind, f"{name}.{suffix}"), arguments)


@intrinsic
def fma(typing: Any, x: Any, y: Any, z: Any) -> Any:
    """Return x y + z, rounded once where the host can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call_llvm(builder, fused(context), list(arguments))

    return x(x, x, x), generate


@intrinsic
def magnitude(typing: Any, x: Any) -> Any:
    """Return |x|."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call_llvm(builder, "llvm.fabs", list(arguments))

    return x(x), generate


@intrinsic
def with_sign(typing: Any, x: Any, sign: Any) -> Any:
    """Return |x| with the sign of another number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call_llvm(builder, "llvm.copysign", list(arguments))

    return x(x, x), generate


@intrinsic
def larger(typing: Any, x: Any, y: Any) -> Any:
    """Return the larger of two numbers; NaN if one is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call_llvm(builder, "llvm.maximum", list(arguments))

    return x(x, x), generate


@intrinsic
def choose(typing: Any, condition: Any, x: Any, y: Any) -> Any:
    """Return x where a condition holds, else y, without a branch."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return x(TYPES.boolean, x, x), generate


def polynomial(single: tuple[float, ...], double: tuple[float, ...]) -> Any:
    """Return a function of x: the polynomial with coefficients for each format, that of the highest power first.

    Neighbouring terms are joined, then neighbouring pairs, by ever higher powers of x: a short chain of operations.
    """

    def evaluate(typing: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            real = arguments[0].type
            terms = [IR.Constant(real, c) for c in reversed(single if is_single(real) else double)]
            power = arguments[0]
            while len(terms) > 1:
                pairs = zip(terms[::2], terms[1::2], strict=False)
                joined = [call_llvm(builder, fused(context), [high, power, low]) for low, high in pairs]
                terms = joined + terms[2 * len(joined) :]
                power = builder.fmul(power, power)
            return terms[0]

        return x(x), generate

    return intrinsic(evaluate)


def constant(single: float, double: float) -> Any:
    """Return a function of x: a number that depends on x's format only."""
    return polynomial((single,), (double,))


def bits(context: Any, builder: Any, x: Any) -> tuple[Any, int, int]:
    """Return the bits of x as an integer, the bits of its fraction, and the bias of its exponent."""
    single = is_single(x.type)
    return builder.bitcast(x, IR.IntType(32 if single else 64)), 23 if single else 52, 127 if single else 1023


@intrinsic
def power_of_two(typing: Any, shifted: Any) -> Any:
    """Return 2^n for n + SHIFT, where 2^n is a normal number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        n, fraction, bias = bits(context, builder, arguments[0])
        exponent = builder.shl(builder.add(n, n.type(bias)), n.type(fraction))
        return builder.bitcast(exponent, arguments[0].type)

    return shifted(shifted), generate


@intrinsic
def scaled(typing: Any, y: Any, shifted: Any) -> Any:
    """Return y 2^n for n + SHIFT, in two factors, as 2^n may lie outside the number format."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        n, fraction, bias = bits(context, builder, arguments[1])
        mask = n.type((1 << (fraction - 1)) - 1)
        # SHIFT has no bit in the lower part of its fraction, and n + 2 bias is positive
        total = builder.and_(builder.add(n, n.type(2 * bias)), mask)
        half = builder.lshr(total, n.type(1))
        result = arguments[0]
        for exponent in (half, builder.sub(total, half)):
            factor = builder.bitcast(builder.shl(exponent, n.type(fraction)), result.type)
            result = builder.fmul(result, factor)
        return result

    return y(y, y), generate


# -- what is fitted -----------------------------------------------------------------------------------------

SHIFT = constant(1.5 * 2**23, 1.5 * 2**52)
"""A number so large that adding it rounds to a whole one, which then stands in the lowest bits."""

LOG2_E = constant(1 / math.log(2), 1 / math.log(2))

LN2_HIGH = constant(0.693359375, 0.6931471803691238)
"""The logarithm of 2 in so few bits that its product with any exponent is exact."""

LN2 = constant(math.log(2), math.log(2))

LN2_LOW = constant(-0.00021219444005469057, 1.9082149292705877e-10)

LOWEST = constant(-105.0, -747.0)
"""Where exp is 0 for sure."""

HIGHEST = constant(90.0, 711.0)
"""Where exp is infinite for sure."""

FLAT = constant(20.0, 40.0)
"""Twice an x from which tanh is 1."""

exp_rest = polynomial(
    (
        0.0001989198131397769,
        0.0013934541928270264,
        0.008333310024225292,
        0.04166645680967788,
        0.16666666682534356,
        0.5000000014286223,
    ),
    (
        2.0915442297780116e-09,
        2.5106274733573296e-08,
        2.75572718102198e-07,
        2.755725283351691e-06,
        2.4801587327007187e-05,
        0.00019841269876864356,
        0.0013888888888883327,
        0.008333333333325544,
        0.04166666666666667,
        0.1666666666666667,
        0.5,
    ),
)
"""(exp(r) - 1 - r) / r² for |r| up to log(2)/2, by Chebyshev interpolation, as are the others."""

log_rest = polynomial(
    (
        0.2322432922402335,
        0.21706575800880373,
        0.28592357994302836,
        0.3999970633192972,
        0.6666666732052742,
    ),
    (
        0.1563057780092285,
        0.07492143795550767,
        0.10845178394880015,
        0.11734279061303197,
        0.13335178631449257,
        0.1538454396486055,
        0.18181819897962714,
        0.2222222219823677,
        0.285714285716001,
        0.39999999999999525,
        0.6666666666666666,
    ),
)
"""(log((1 + s)/(1 - s)) - 2 s) / s³ in s², for s up to 1/3."""

TAIL_SCALE = constant(3.0, 5.0)

TAIL_END = constant(15.0, 40.0)
"""Where the normal distribution's tail is 0 for sure."""

tail_rest = polynomial(
    (
        5.5491871716794676e-05,
        0.00013332395420363602,
        -0.0002447093207917761,
        -0.0010344765508861836,
        0.0010241573243785498,
        0.006969920150912792,
        -0.01046228896653126,
        -0.04726276192117602,
        0.2300176766741665,
        -0.5093319888345391,
        0.7290836907139794,
    ),
    (
        -1.8073212078146044e-10,
        1.6891057665153782e-09,
        7.667236107202653e-09,
        -9.144502081289173e-09,
        -6.58488684007974e-08,
        4.209183333886914e-08,
        4.329837037415609e-07,
        -3.3651220434990697e-07,
        -2.7691457822822777e-06,
        3.980871285666973e-06,
        1.6681160364586646e-05,
        -4.9762810377903036e-05,
        -5.937571381647131e-05,
        0.000544899065037323,
        -0.0007978694007392487,
        -0.002993376770649268,
        0.02079506680009146,
        -0.06911863870629469,
        0.16502036617037502,
        -0.31353315667130516,
        0.4953056159699766,
        -0.6653825028900567,
        0.769193049750063,
    ),
)
"""(a + c) Φ(-a) exp(a²/2) in (a - c)/(a + c), with c the TAIL_SCALE and a from 0 to TAIL_END."""

DENSITY = 1 / math.sqrt(2 * math.pi)


# -- exp and its kin ----------------------------------------------------------------------------------------


@inline
def reduced(x: Any) -> Any:
    """Return n + SHIFT and exp(r) - 1, with x = n log(2) + r and n the nearest whole number."""
    shifted = fma(x, LOG2_E(x), SHIFT(x))
    n = shifted - SHIFT(x)
    exact = fma(-n, LN2_HIGH(x), x)
    r = fma(-n, LN2_LOW(x), exact)
    lost = fma(-n, LN2_LOW(x), exact - r)
    return shifted, r + fma(r * r, exp_rest(r), lost)


@inline
def reduced_near(x: Any) -> Any:
    """Return the same for an x so near 0, at most 40, that what is lost of n log(2) does not matter to tanh."""
    shifted = fma(x, LOG2_E(x), SHIFT(x))
    r = fma(SHIFT(x) - shifted, LN2(x), x)
    return shifted, fma(r * r, exp_rest(r), r)


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
    return density * (tail_rest((a - TAIL_SCALE(a)) * reciprocal) * reciprocal)


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
    return relu(x, x) + (e - (half - s * fma(z, log_rest(z), half)))


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


# -- loops --------------------------------------------------------------------------------------------------

NAMES = (
    *(
        "identity",
        "negate",
        "sqrt",
        "square",
        "exp",
        "log",
        "sin",
        "cos",
        "tan",
        "tanh",
        "sigmoid",
        "relu",
        "leaky_relu",
    ),
    *("softplus", "gelu", "silu"),
)

FUNCTIONS = {name: code for code, name in enumerate(NAMES)}

IDENTITY, NEGATE, SQRT, SQUARE, EXP, LOG, SIN, COS, TAN, TANH, SIGMOID, RELU, LEAKY_RELU, SOFTPLUS, GELU, SILU = range(
    16
)


@intrinsic
def same(typing: Any, x: Any, ox: Any, y: Any, oy: Any) -> Any:
    """Return whether two elements lie at the same place."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x_, ox, y_, oy = arguments
        places = element(context, builder, x, x_, ox), element(context, builder, y, y_, oy)
        return builder.icmp_unsigned("==", *(builder.ptrtoint(place, IR.IntType(64)) for place in places))

    return TYPES.boolean(x, TYPES.intp, y, TYPES.intp), generate


@inline
def copy(x: Any, ox: int, y: Any, oy: int, n: int) -> None:
    """Copy n elements of x to y, unless they are there already."""
    if not same(x, ox, y, oy):
        for i in range(n):
            store(y, oy + i, load(x, ox + i))


@inline
def values_loop(f: Any, attribute: float, y: Any, oy: int, n: int) -> None:
    """Replace n elements of y by f of them; in place, so that no overlap stands in the way of vectors."""
    for i in range(n):
        store(y, oy + i, f(load(y, oy + i), attribute))


@inline
def slopes_loop(f: Any, slope: Any, attribute: float, y: Any, oy: int, s: Any, os: int, n: int) -> None:
    """Replace n elements of y by f of them, and set s to the slopes."""
    for i in range(n):
        x = load(y, oy + i)
        result = f(x, attribute)
        store(y, oy + i, result)
        store(s, os + i, slope(x, result, attribute))


@jit
def value(code: int, attribute: float, x: Any, ox: int, y: Any, oy: int, n: int) -> None:
    """Set n elements of y to a function of those of x, which may be the same ones.

    ``code`` is one of ``FUNCTIONS``; ``ox`` and ``oy`` say where the elements start.
    """
    copy(x, ox, y, oy, n)
    if code == NEGATE:
        values_loop(negate, attribute, y, oy, n)
    elif code == SQRT:
        values_loop(sqrt, attribute, y, oy, n)
    elif code == SQUARE:
        values_loop(square, attribute, y, oy, n)
    elif code == EXP:
        values_loop(exp, attribute, y, oy, n)
    elif code == LOG:
        values_loop(log, attribute, y, oy, n)
    elif code == SIN:
        values_loop(sin, attribute, y, oy, n)
    elif code == COS:
        values_loop(cos, attribute, y, oy, n)
    elif code == TAN:
        values_loop(tan, attribute, y, oy, n)
    elif code == TANH:
        values_loop(tanh, attribute, y, oy, n)
    elif code == SIGMOID:
        values_loop(sigmoid, attribute, y, oy, n)
    elif code == RELU:
        values_loop(relu, attribute, y, oy, n)
    elif code == LEAKY_RELU:
        values_loop(leaky_relu, attribute, y, oy, n)
    elif code == SOFTPLUS:
        values_loop(softplus, attribute, y, oy, n)
    elif code == GELU:
        values_loop(gelu, attribute, y, oy, n)
    elif code == SILU:
        values_loop(silu, attribute, y, oy, n)


@jit
def apply(code: int, attribute: float, x: Any, ox: int, y: Any, oy: int, s: Any, os: int, n: int) -> None:
    """Set n elements of y to a function of those of x, which may be the same ones, and s to the slopes there.

    ``code`` is one of ``FUNCTIONS``; ``ox``, ``oy`` and ``os`` say where the elements start.
    """
    copy(x, ox, y, oy, n)
    if code == IDENTITY:
        slopes_loop(identity, identity_slope, attribute, y, oy, s, os, n)
    elif code == NEGATE:
        slopes_loop(negate, negate_slope, attribute, y, oy, s, os, n)
    elif code == SQRT:
        slopes_loop(sqrt, sqrt_slope, attribute, y, oy, s, os, n)
    elif code == SQUARE:
        slopes_loop(square, square_slope, attribute, y, oy, s, os, n)
    elif code == EXP:
        slopes_loop(exp, exp_slope, attribute, y, oy, s, os, n)
    elif code == LOG:
        slopes_loop(log, log_slope, attribute, y, oy, s, os, n)
    elif code == SIN:
        slopes_loop(sin, sin_slope, attribute, y, oy, s, os, n)
    elif code == COS:
        slopes_loop(cos, cos_slope, attribute, y, oy, s, os, n)
    elif code == TAN:
        slopes_loop(tan, tan_slope, attribute, y, oy, s, os, n)
    elif code == TANH:
        slopes_loop(tanh, tanh_slope, attribute, y, oy, s, os, n)
    elif code == SIGMOID:
        slopes_loop(sigmoid, sigmoid_slope, attribute, y, oy, s, os, n)
    elif code == RELU:
        slopes_loop(relu, relu_slope, attribute, y, oy, s, os, n)
    elif code == LEAKY_RELU:
        slopes_loop(leaky_relu, leaky_relu_slope, attribute, y, oy, s, os, n)
    elif code == SOFTPLUS:
        slopes_loop(softplus, softplus_slope, attribute, y, oy, s, os, n)
    elif code == GELU:
        slopes_loop(gelu, gelu_slope, attribute, y, oy, s, os, n)
    elif code == SILU:
        slopes_loop(silu, silu_slope, attribute, y, oy, s, os, n)
