"""One call of an op as it stands: what its derivatives are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcsim.arrays import Array, Namespace
    from pcsim.ops.op import Call, Feedback, Inputs, Op, Params, Saved


@dataclass(frozen=True)
class Local:
    """The forward call of some equal vertices, from which messages and contributions follow.

    Attributes
    ----------
    params : operands of the forward call: parameters and buffers (stack, *shape), draws (stack, batch, *shape).
    feedback : operands of the error messages; the same as ``params`` where feedback is symmetric.
    inputs, mu, saved : (stack, batch, *shape), as the op's forward call took and gave them.
    how : the row of the feedback.
    """

    xp: Namespace
    op: Op
    call: Call
    params: Params
    feedback: Params
    inputs: Inputs
    mu: Array
    saved: Saved
    how: Feedback

    def messages(self, g: Array) -> tuple[Array, ...]:
        """Return the error message to each input, J^T g, with the operands of the feedback ([M] eq. 2)."""
        operands = self.feedback
        return self.how.messages(self.xp, self.op, self.call, operands, self.inputs, self.mu, self.saved, g)

    def contributions(self, g: Array) -> dict[str, Array]:
        """Return (d mu / d p)^T g for each parameter slot, summed over the batch ([M] eq. 3)."""
        return self.op.to_params(self.xp, self.call, self.params, self.inputs, self.mu, self.saved, g)

    def to_leaves(self, g: Array) -> tuple[Array, ...]:
        """Return J^T g for each input with the forward operands: what parameters used as inputs receive."""
        return self.op.to_inputs(self.xp, self.call, self.params, self.inputs, self.mu, self.saved, g)
