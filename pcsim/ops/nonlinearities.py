"""The nonlinearities of neural networks, element by element."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from math import pi, sqrt
from typing import TYPE_CHECKING

from pcsim.arrays import Array, special
from pcsim.ops.attributes import above_zero, choice, non_negative, number
from pcsim.ops.op import Attribute
from pcsim.ops.unary import Unary, one_of

if TYPE_CHECKING:
    from pcsim.arrays import Namespace

# -- rectifiers ------------------------------------------------------------------------------------------


def relu(xp: Namespace, x: Array) -> Array:
    """Return the positive part of x."""
    return xp.maximum(x, 0)


def leaky_slope(xp: Namespace, x: Array, y: Array, slope: float = 0.01) -> Array:
    """Return 1 where x > 0 and ``slope`` elsewhere."""
    return one_of(xp, x > 0, x, 1, slope)


def elu(xp: Namespace, x: Array, alpha: float = 1.0) -> Array:
    """Return x where positive, else alpha (exp(x) - 1)."""
    return relu(xp, x) + alpha * xp.expm1(xp.minimum(x, 0))


def elu_slope(xp: Namespace, x: Array, y: Array, alpha: float = 1.0) -> Array:
    """Return 1 where x > 0 and alpha exp(x) elsewhere."""
    return xp.where(x > 0, xp.ones_like(x), alpha * xp.exp(xp.minimum(x, 0)))


SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def celu_slope(xp: Namespace, x: Array, y: Array, alpha: float = 1.0) -> Array:
    """Return 1 where x > 0 and exp(x / alpha) elsewhere."""
    return xp.exp(xp.minimum(x, 0) / alpha)


def shrink(xp: Namespace, x: Array, lambd: float = 0.5, bias: float = 0.0) -> Array:
    """Return x moved towards 0 by ``bias`` where |x| > lambd, else 0."""
    return (x - bias * xp.sign(x)) * (abs(x) > lambd)


# -- gates -----------------------------------------------------------------------------------------------


def gelu(xp: Namespace, x: Array, approximate: str = "none") -> Array:
    """Return x Φ(x), with Φ the normal distribution, exact or by its fit with tanh."""
    if approximate == "none":
        return x * special(xp).ndtr(x)
    return 0.5 * x * (1 + xp.tanh(fitted(x)))


def gelu_slope(xp: Namespace, x: Array, y: Array, approximate: str = "none") -> Array:
    """Return Φ(x) + x φ(x), with φ the density; of the fit, its slope."""
    if approximate == "none":
        return special(xp).ndtr(x) + x * xp.exp(-0.5 * x * x) * (1 / sqrt(2 * pi))
    t = xp.tanh(fitted(x))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (FIT * (1 + 3 * CUBIC * x * x))


FIT, CUBIC = sqrt(2 / pi), 0.044715


def fitted(x: Array) -> Array:
    """Return what the fit of the normal distribution takes the tanh of."""
    return FIT * (x + CUBIC * x * x * x)


def silu(xp: Namespace, x: Array, beta: float = 1.0) -> Array:
    """Return x σ(beta x)."""
    return x * special(xp).expit(beta * x)


def silu_slope(xp: Namespace, x: Array, y: Array, beta: float = 1.0) -> Array:
    """Return s + beta y (1 - s), with s = σ(beta x)."""
    s = special(xp).expit(beta * x)
    return s + beta * y * (1 - s)


def softplus(xp: Namespace, x: Array) -> Array:
    """Return log(1 + exp(x))."""
    return xp.logaddexp(x, xp.zeros_like(x))


def mish_slope(xp: Namespace, x: Array, y: Array) -> Array:
    """Return t + x (1 - t²) σ(x), with t = tanh(softplus(x))."""
    t = xp.tanh(softplus(xp, x))
    return t + x * (1 - t * t) * special(xp).expit(x)


def hard_sigmoid(xp: Namespace, x: Array, alpha: float = 1 / 6, beta: float = 0.5) -> Array:
    """Return alpha x + beta, held between 0 and 1."""
    return xp.minimum(relu(xp, alpha * x + beta), 1)


def hard_sigmoid_slope(xp: Namespace, x: Array, y: Array, alpha: float = 1 / 6, beta: float = 0.5) -> Array:
    """Return alpha where 0 < y < 1 and 0 elsewhere."""
    return one_of(xp, (y > 0) & (y < 1), x, alpha, 0)


def hard_swish_slope(xp: Namespace, x: Array, y: Array) -> Array:
    """Return x/3 + 1/2 between -3 and 3, 0 from -3 down and 1 from 3 up."""
    inner = x / 3 + 0.5
    return xp.where(abs(x) < 3, inner, (x > 0).astype(x.dtype))


ALPHA = {"alpha": Attribute(number, 1.0, summary="minus the limit at minus infinity")}

NONLINEARITIES = {
    "sigmoid": Unary(
        "logistic function 1/(1 + exp(-x))",
        lambda xp, x: special(xp).expit(x),
        lambda xp, x, y: y * (1 - y),
    ),
    "hard_sigmoid": Unary(
        "alpha x + beta, held between 0 and 1; slope 0 at these bounds",
        hard_sigmoid,
        hard_sigmoid_slope,
        attributes={
            "alpha": Attribute(number, 1 / 6, summary="slope between the bounds"),
            "beta": Attribute(number, 0.5, summary="value at 0"),
        },
        source="Courbariaux et al. 2015",
    ),
    "softsign": Unary(
        "x/(1 + |x|)",
        lambda xp, x: x / (1 + abs(x)),
        lambda xp, x, y: 1 / xp.square(1 + abs(x)),
        source="Turian et al. 2009",
    ),
    "relu": Unary("the positive part of x; slope 0 at 0", relu, lambda xp, x, y: (x > 0).astype(x.dtype)),
    "leaky_relu": Unary(
        "x where positive, else slope times x",
        lambda xp, x, slope=0.01: xp.where(x > 0, x, slope * x),
        leaky_slope,
        attributes={"slope": Attribute(number, 0.01, summary="slope where x is not positive")},
        source="Maas et al. 2013",
    ),
    "thresholded_relu": Unary(
        "x where above alpha, else 0",
        lambda xp, x, alpha=1.0: x * (x > alpha),
        lambda xp, x, y, alpha=1.0: (x > alpha).astype(x.dtype),
        attributes={"alpha": Attribute(number, 1.0, summary="threshold")},
        source="Konda et al. 2014",
    ),
    "shrink": Unary(
        "x moved towards 0 by bias where |x| is above lambd, else 0",
        shrink,
        lambda xp, x, y, lambd=0.5, bias=0.0: (abs(x) > lambd).astype(x.dtype),
        attributes={
            "lambd": Attribute(non_negative, 0.5, summary="threshold"),
            "bias": Attribute(number, 0.0, summary="how far x is moved: 0 for hard, lambd for soft shrinkage"),
        },
    ),
    "elu": Unary(
        "x where positive, else alpha (exp(x) - 1)",
        elu,
        elu_slope,
        attributes=ALPHA,
        source="Clevert et al. 2015",
    ),
    "selu": Unary(
        "elu with alpha 1.6733, times 1.0507: activations keep mean 0 and variance 1",
        lambda xp, x: SCALE * elu(xp, x, SELU_ALPHA),
        lambda xp, x, y: SCALE * elu_slope(xp, x, y, SELU_ALPHA),
        source="Klambauer et al. 2017",
    ),
    "celu": Unary(
        "x where positive, else alpha (exp(x / alpha) - 1)",
        lambda xp, x, alpha=1.0: elu(xp, x / alpha) * alpha,
        celu_slope,
        attributes={"alpha": Attribute(above_zero, 1.0, summary="minus the limit at minus infinity")},
        source="Barron 2017",
    ),
    "softplus": Unary("log(1 + exp(x))", softplus, lambda xp, x, y: special(xp).expit(x)),
    "gelu": Unary(
        "x times the normal distribution at x, exact or fitted with tanh",
        gelu,
        gelu_slope,
        attributes={
            "approximate": Attribute(
                choice("an approximation", ("none", "tanh")), "none", summary="none: exact; tanh: the fit with tanh"
            )
        },
        source="Hendrycks & Gimpel 2016",
    ),
    "silu": Unary(
        "x times sigmoid(beta x)",
        silu,
        silu_slope,
        attributes={"beta": Attribute(number, 1.0, summary="factor in the sigmoid; 1.702 is a fit of gelu")},
        source="Elfwing et al. 2018; Ramachandran et al. 2017",
    ),
    "hard_swish": Unary(
        "x times hard_sigmoid(x); slope 0 at -3 and 1 at 3",
        lambda xp, x: x * (xp.minimum(relu(xp, x + 3), 6) / 6),
        hard_swish_slope,
        source="Howard et al. 2019",
    ),
    "mish": Unary(
        "x times tanh(softplus(x))",
        lambda xp, x: x * xp.tanh(softplus(xp, x)),
        mish_slope,
        source="Misra 2019",
    ),
}
