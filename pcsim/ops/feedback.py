"""How errors travel back: the operands with which a vertex computes its error messages."""

from __future__ import annotations

from pcsim.ops.op import Feedback

ROWS = (
    Feedback(
        name="symmetric",
        summary="the forward weights, transposed: vector-Jacobian products",
        operands=lambda _xp, params: params,
        symmetric=True,
        source="[M] eq. 2",
    ),
)
