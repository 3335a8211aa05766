"""What functions of one element are made of: operations that vectors have too, polynomials, and what is fitted.

All have the number format of x. Nothing here branches, so that a loop is computed several elements at a time.
"""

from __future__ import annotations

import math
from typing import Any

from pcsim.engines.jit.kernels.compiled import CGUTILS, IR, TYPES, element, intrinsic
from pcsim.engines.jit.kernels.products import fused

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

exp_remainder = polynomial(
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

log_remainder = polynomial(
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

tail_factor = polynomial(
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


@intrinsic
def same(typing: Any, x: Any, ox: Any, y: Any, oy: Any) -> Any:
    """Return whether two elements lie at the same place."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x_, ox, y_, oy = arguments
        places = element(context, builder, x, x_, ox), element(context, builder, y, y_, oy)
        return builder.icmp_unsigned("==", *(builder.ptrtoint(place, IR.IntType(64)) for place in places))

    return TYPES.boolean(x, TYPES.intp, y, TYPES.intp), generate
