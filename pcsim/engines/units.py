"""The state of an array engine: the units of a bank, and what a step keeps within a tick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from pcsim.arrays import Array, Namespace
    from pcsim.engines.base import Task
    from pcsim.program.program import Bank, Rows


@dataclass
class Units:
    """The units of one bank, (rows, batch, *shape). All but ``start`` and ``value`` cover the active rows only."""

    bank: Bank
    start: Array
    """Feedforward values, sources included."""
    deviation: Array
    """Values less ``start``: the state."""
    shift: Array
    """How far predictions have moved; None where they are fixed."""
    error: Array
    """``deviation - shift``; where predictions are fixed, the same array as ``deviation``."""
    reference: Array
    """Predictions from feedforward values; None where they are fixed."""
    value: Array
    """``start + deviation``, sources included; where predictions are fixed, the same array as ``start``."""
    received: Array
    """(free, batch, *shape): errors due."""
    precision: Array
    """(active, 1, *shape), or None where all are 1."""
    targets: tuple[tuple[str, Rows, Array], ...] = ()
    """(loss, rows, target) of outputs whose loss is not a clamp."""

    def weighted(self, rows: slice) -> Array:
        """Return Pi eps of some rows."""
        error = self.error[rows]
        return error if self.precision is None else self.precision[rows] * error

    def rest(self, rows: np.ndarray) -> None:
        """Put vertices back to their feedforward values, with no error; outputs stay clamped."""
        self.deviation[rows[rows < self.bank.free]] = 0
        for array in (self.shift, self.error):
            array[rows] = 0


@dataclass
class Work:
    """What a step keeps from predicting to learning."""

    inputs: tuple[Array, ...] = ()
    mu: Array = None
    saved: tuple[Array, ...] = ()


BLOCK = 1 << 15
"""Numbers worked on at a time where one pass over memory is worth more than one call."""


def blend(state: Array, push: Array, shift: Array | None, keep: Any, gain: Any) -> None:
    """Set ``state = keep state + gain (shift + push)`` in place, block by block, so that each is read once.

    ``push`` is used up. With keep 0 and gain 1 the state becomes ``shift + push`` bit for bit.
    """
    state, push = state.reshape(-1), push.reshape(-1)
    shift = None if shift is None else shift.reshape(-1)
    for start in range(0, len(state), BLOCK):
        block = slice(start, start + BLOCK)
        here, more = state[block], push[block]
        if shift is not None:
            more += shift[block]
        if gain != 1:
            more *= gain
        here *= keep
        here += more


def units_of(bank: Bank, task: Task, xp: Namespace) -> Units:
    """Return units at rest: sources hold their data, everything else is zero; ``received`` is made later."""
    start: Any = xp.zeros((len(bank.names), task.batch, *bank.shape), task.dtype)
    for row, name in enumerate(bank.names[bank.active :], bank.active):
        start[row] = xp.asarray(task.inputs[name], task.dtype)
    deviation = xp.zeros_like(start[: bank.active])
    moving = task.rule.moving
    return Units(
        bank,
        start,
        deviation,
        shift=xp.zeros_like(deviation) if moving else None,
        error=xp.zeros_like(deviation) if moving else deviation,
        reference=None,
        value=start.copy() if moving else start,
        received=deviation[:0],
        precision=None if bank.precision is None else xp.asarray(bank.precision, task.dtype),
    )
