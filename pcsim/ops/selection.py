"""The largest, the smallest or the chosen of several inputs, which broadcast as NumPy shapes do; and remainders."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from functools import partial, reduce
from typing import TYPE_CHECKING

from pcsim.arrays import Array, align, unbroadcast
from pcsim.ops.arithmetic import aligned, back, broadcast_shape
from pcsim.ops.attributes import boolean
from pcsim.ops.op import Attribute, Call, InputSlot, Op, elementwise

if TYPE_CHECKING:
    from pcsim.arrays import Namespace
    from pcsim.ops.op import Inputs, Params, Saved


# -- extremes --------------------------------------------------------------------------------------------------


def extreme_forward(which: str, xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the largest or the smallest input, element by element; keep the share of each input."""
    x = aligned(call, inputs)
    mu = reduce(getattr(xp, which), x)
    extreme = [(each == mu).astype(mu.dtype) for each in x]
    count = reduce(lambda a, b: a + b, extreme)
    return mu, tuple(each / count for each in extreme)


def shared_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return to each input its share of g."""
    return back(xp, call, inputs, *(share * g for share in saved))


# -- choices ---------------------------------------------------------------------------------------------------


def where_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return the second input where the mask is not 0, else the third."""
    mask, a, b = aligned(call, inputs)
    return xp.where(mask != 0, a, b), ()


def where_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array | None, ...]:
    """Return g to each where it was taken; nothing to the mask."""
    mask = align(inputs[0], len(call.shape)) != 0
    terms = (g * mask, g * ~mask)
    pairs = zip(inputs[1:], aligned(call, inputs)[1:], terms, strict=True)
    return (None, *(unbroadcast(xp, term, wide.shape).reshape(x.shape) for x, wide, term in pairs))


def prelu_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return x where positive, else slope times x."""
    x, slope = aligned(call, inputs)
    return xp.where(x > 0, x, slope * x), ()


def prelu_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g or slope g to x, and to the slope g x where x is not positive."""
    x, slope = aligned(call, inputs)
    return back(xp, call, inputs, xp.where(x > 0, g, slope * g), g * xp.minimum(x, 0))


# -- remainders ------------------------------------------------------------------------------------------------


def mod_forward(xp: Namespace, call: Call, params: Params, inputs: Inputs) -> tuple[Array, Saved]:
    """Return a - n b, with n the quotient rounded down or towards 0; keep n."""
    a, b = aligned(call, inputs)
    mu = xp.fmod(a, b) if call["truncate"] else xp.mod(a, b)
    return mu, (xp.rint((a - mu) / b),)


def mod_to_inputs(
    xp: Namespace, call: Call, params: Params, inputs: Inputs, mu: Array, saved: Saved, g: Array
) -> tuple[Array, ...]:
    """Return g and -n g."""
    return back(xp, call, inputs, g, -saved[0] * g)


def mod_domain(xp: Namespace, call: Call, inputs: Inputs) -> tuple[int, Array]:
    """Return where the divisor is zero."""
    return 1, inputs[1] == 0


TIES = "where several are equal, the error is shared evenly"

ROWS = (
    *(
        Op(
            name=name,
            summary=f"{what} of the inputs, element by element; {TIES}",
            arity=(2, None),
            shape=broadcast_shape,
            forward=partial(extreme_forward, name),
            to_inputs=shared_to_inputs,
            cost=elementwise,
        )
        for name, what in [("maximum", "largest"), ("minimum", "smallest")]
    ),
    Op(
        name="where",
        summary="second input where the mask is not 0, else the third",
        arity=(3, 3),
        shape=broadcast_shape,
        forward=where_forward,
        to_inputs=where_to_inputs,
        inputs=(InputSlot("mask", differentiable=False, format="whole"), InputSlot("if"), InputSlot("else")),
        cost=elementwise,
    ),
    Op(
        name="prelu",
        summary="first input where positive, else times the second, the slope",
        arity=(2, 2),
        shape=broadcast_shape,
        forward=prelu_forward,
        to_inputs=prelu_to_inputs,
        inputs=(InputSlot(), InputSlot("slope")),
        source="He et al. 2015",
        cost=elementwise,
    ),
    Op(
        name="mod",
        summary="remainder of the first divided by the second input; slope -n by the second, with n the whole quotient",
        arity=(2, 2),
        shape=broadcast_shape,
        forward=mod_forward,
        to_inputs=mod_to_inputs,
        attributes={
            "truncate": Attribute(boolean, False, summary="the sign is that of the first input, not of the second")
        },
        domain=mod_domain,
        domain_text="division by zero",
        cost=elementwise,
    ),
)
