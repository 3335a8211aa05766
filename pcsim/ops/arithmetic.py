"""Sums, products, quotients and powers of several inputs, which broadcast as NumPy shapes do."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from functools import reduce
from operator import add, mul
from typing import TYPE_CHECKING

from numpy import broadcast_shapes

from pcsim.arrays import Array, align, unbroadcast
from pcsim.ops.attributes import number, optional
from pcsim.ops.op import Attribute, Call, Cost, Op, elementwise

if TYPE_CHECKING:
    from pcsim.arrays import Namespace, Shape
    from pcsim.ops.op import Inputs, Params, Saved


def broadcast_shape(call: Call) -> Shape:
    """Return the shape that the inputs broadcast to."""
    try:
        return tuple(broadcast_shapes(*call.shapes))
    except ValueError:
        raise ValueError("expected shapes that broadcast (from the last axis: equal, or 1)") from None


def aligned(call: Call, inputs: Inputs) -> Inputs:
    """Return the inputs with as many axes as the vertex."""
    return tuple(align(x, len(call.shape)) for x in inputs)


def back(xp: Namespace, call: Call, inputs: Inputs, *terms: Array) -> tuple[Array, ...]:
    """Sum each term to the shape of its input."""
    pairs = zip(inputs, aligned(call, inputs), terms, strict=True)
    return tuple(unbroadcast(xp, term, wide.shape).reshape(x.shape) for x, wide, term in pairs)


def add_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the sum of all inputs."""
    return reduce(add, aligned(call, inputs)), ()


def add_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g to each."""
    return back(xp, call, inputs, *[g] * len(inputs))


def subtract_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return a - b."""
    a, b = aligned(call, inputs)
    return a - b, ()


def subtract_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g and -g."""
    to_a, to_b = back(xp, call, inputs, g, g)
    return to_a, -to_b


def multiply_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the product of all inputs."""
    return reduce(mul, aligned(call, inputs)), ()


def multiply_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g times the product of the others (never mu / x, which fails at 0)."""
    x = aligned(call, inputs)
    return back(xp, call, inputs, *(reduce(mul, x[:i] + x[i + 1 :], g) for i in range(len(x))))


def divide_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return a / b."""
    a, b = aligned(call, inputs)
    return a / b, ()


def divide_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g / b and -(g / b) mu."""
    q = g / align(inputs[1], len(call.shape))
    return back(xp, call, inputs, q, -q * mu)


def divide_domain(xp: Namespace, call: Call, inputs: Inputs) -> tuple[int, Array]:
    """Return where the denominator is zero."""
    return 1, inputs[1] == 0


def power_shape(call: Call) -> Shape:
    """Return the shape of a power; the exponent is an attribute or the second input, never both."""
    if (len(call.shapes) == 1) == (call["exponent"] is None):
        raise ValueError("expected one input and the attribute exponent, or two inputs and no exponent")
    return broadcast_shape(call)


def base_and_exponent(call: Call, inputs: Inputs) -> tuple[Array, Array]:
    """Return the base and the exponent, which is a number where it is an attribute."""
    base, *others = aligned(call, inputs)
    return base, others[0] if others else call["exponent"]


def power_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return x ** y and its slopes."""
    x, y = base_and_exponent(call, inputs)
    mu = x**y
    if len(inputs) == 1:
        return mu, (y * x ** (y - 1) if y else xp.zeros_like(x),)
    return mu, power_slopes(xp, x, y, mu)


def power_slopes(xp: Namespace, x: Array, y: Array, mu: Array) -> Saved:
    """Return y x**(y-1), which is 0 for y = 0 even at x = 0, and x**y log x, taken 0 where x is not positive.

    Of a negative base only whole exponents have a power: there is no slope to follow.
    """
    to_base = y * x ** xp.where(y == 0, xp.ones_like(y), y - 1)
    return to_base, mu * xp.log(xp.where(x > 0, x, xp.ones_like(x)))


def power_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return slope times error, for the base and, where it is an input, the exponent."""
    return back(xp, call, inputs, *(slope * g for slope in saved))


def power_domain(xp: Namespace, call: Call, inputs: Inputs) -> tuple[int, Array]:
    """Return where the base has no such power."""
    x, y = base_and_exponent(call, inputs)
    bad = (x < 0) & (y % 1 != 0) | (x == 0) & (y < 0)
    return 0, unbroadcast(xp, bad, x.shape).reshape(inputs[0].shape) > 0


def plain(call: Call) -> Cost:
    """Return the cost of an op whose slopes are 1 or -1: none is kept."""
    return Cost(curved=False)


ROWS = (
    Op("add", "sum of two or more inputs", (2, None), broadcast_shape, add_forward, add_to_inputs, cost=plain),
    Op(
        "subtract",
        "first minus second input",
        (2, 2),
        broadcast_shape,
        subtract_forward,
        subtract_to_inputs,
        cost=plain,
    ),
    Op(
        "multiply",
        "product of inputs",
        (2, None),
        broadcast_shape,
        multiply_forward,
        multiply_to_inputs,
        cost=elementwise,
    ),
    Op(
        name="divide",
        summary="first divided by second input",
        arity=(2, 2),
        shape=broadcast_shape,
        forward=divide_forward,
        to_inputs=divide_to_inputs,
        domain=divide_domain,
        domain_text="division by zero",
        cost=elementwise,
    ),
    Op(
        name="power",
        summary="base to the exponent, an attribute or a second input",
        arity=(1, 2),
        shape=power_shape,
        forward=power_forward,
        to_inputs=power_to_inputs,
        attributes={"exponent": Attribute(optional(number), summary="exponent of a single input")},
        domain=power_domain,
        domain_text="fractional power of a negative number, or negative power of zero",
        cost=elementwise,
    ),
)
