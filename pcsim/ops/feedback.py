"""How errors travel back: the operands with which a vertex computes its error messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.ops.op import Feedback

if TYPE_CHECKING:
    from pcsim.arrays import Array
    from pcsim.ops.op import Params


def as_they_are(_xp: Any, params: Params) -> Params:
    """Return the parameters of the forward call."""
    return params


def signs(xp: Any, params: Params) -> Params:
    """Return the sign of each weight times the mean magnitude of its tensor; biases as they are."""
    return {name: array if array.ndim < 3 else _signs(xp, array) for name, array in params.items()}


def _signs(xp: Any, array: Array) -> Array:
    axes = tuple(range(1, array.ndim))
    found: Array = xp.sign(array) * xp.mean(xp.abs(array), axis=axes, keepdims=True)
    return found


ROWS = (
    Feedback(
        name="symmetric",
        summary="the forward weights, transposed: vector-Jacobian products",
        operands=as_they_are,
        symmetric=True,
        source="[M] eq. 2",
    ),
    Feedback(
        name="sign",
        summary="the signs of the forward weights, transposed, at their mean magnitude",
        operands=signs,
        source="Liao, Leibo & Poggio 2016",
    ),
    Feedback(
        name="random",
        summary="weights of its own that never change (feedback alignment)",
        operands=as_they_are,
        own=True,
        source="Lillicrap et al. 2016",
    ),
    Feedback(
        name="learned",
        summary="weights of its own that take the steps of the forward weights; weight decay aligns the two",
        operands=as_they_are,
        own=True,
        learns=True,
        source="Kolen & Pollack 1994; Millidge, Tschantz, Seth & Buckley 2020",
    ),
    Feedback(
        name="straight",
        summary="the forward weights, transposed, without the slope of the activation",
        operands=as_they_are,
        slopes=False,
        source="Millidge, Tschantz, Seth & Buckley 2020",
    ),
)
