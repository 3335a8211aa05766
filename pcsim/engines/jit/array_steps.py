"""Steps without a kernel: each is one array call over the whole batch, between the compiled segments of a tick.

Such a call uses the op's own ``forward`` and ``to_inputs`` on the very arrays that kernels read and write. All vertices
act at once within a tick, so array calls come first in it, and kernels follow. Like kernels, they pass over what has
not changed: a step is called if one of its vertices has moved, or one of its inputs has.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.array.learn import add_contributions
from pcsim.engines.array.predict import feedforward_input
from pcsim.engines.array.rows import inside, take
from pcsim.engines.array.units import Work
from pcsim.engines.base import clamped
from pcsim.engines.jit.kernels.common import ALL, PREDICT, SEND
from pcsim.ops import LOSSES

if TYPE_CHECKING:
    from pcsim.engines.jit.layout import Layout
    from pcsim.engines.jit.parts import Parts
    from pcsim.program.program import Rows, Slot, Step


class ArrayStep:
    """One step without a kernel, on the arrays of a session.

    Attributes
    ----------
    why : the reason why it has none
    vertices : (vertices,), their numbers
    senders : (inputs, vertices), the number of the vertex that each input comes from, -1 where it never changes
    work : the operands of derivatives, as of the last forward call
    """

    def __init__(self, layout: Layout, step: Step, why: str) -> None:
        self.arrays = layout.arrays
        self.step, self.why, self.units = step, why, layout.arrays.units[step.shape]
        self.late_values, self.sent, self.places = layout.late_values, layout.sent, layout.places
        count = len(step.names)
        self.vertices = layout.vertices(step)
        slots = [layout.inputs_of(slot, count, past=False)[2] for slot in step.slots]
        self.senders = np.array(slots, np.int64).reshape(-1, count)
        self.work = Work()
        self.reference: np.ndarray = self.units.start[step.rows]

    # -- start ------------------------------------------------------------------------------------------

    def sweep(self, rows: slice) -> bool:
        """Set the feedforward values of some rows; return whether all are finite."""
        start = self.units.start[inside(self.step.rows, rows)]
        inputs = tuple(feedforward_input(self.arrays, slot, rows) for slot in self.step.slots)
        start[...] = self._forward(inputs, rows)[0]
        return bool(np.isfinite(start).all())

    def settle(self) -> None:
        """Predict from the feedforward values, by the call that predicts in a tick: what has not moved differs by 0."""
        rows = slice(0, len(self.step.names))
        inputs = tuple(feedforward_input(self.arrays, slot, rows) for slot in self.step.slots)
        mu = self._work_out(inputs)
        if self.arrays.rule.moving and self.step not in self.arrays.program.held:
            self.reference = np.array(mu)  # an op may return a view of a parameter, which learns

    def _forward(self, inputs: tuple[np.ndarray, ...], rows: slice) -> tuple[np.ndarray, tuple[Any, ...]]:
        step = self.step
        with np.errstate(all="ignore"):
            mu, saved = step.op.forward(np, step.call, self._parameters(rows), inputs)
        return np.asarray(mu), saved

    def _work_out(self, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        """Return the predictions of all vertices, and keep what derivatives are made of."""
        mu, saved = self._forward(inputs, slice(0, len(self.step.names)))
        self.work = Work(inputs, mu, saved, 0, len(self.step.names))
        return mu

    def _parameters(self, rows: slice) -> dict[str, np.ndarray]:
        kept, count = self.arrays.params[id(self.step)], len(self.step.names)
        return {name: take(array, rows, count) for name, array in kept.items()}

    # -- one tick ---------------------------------------------------------------------------------------

    def act(self, parts: Parts, mode: int) -> bool:
        """Predict and send, as the mode says, where something has changed; return whether all errors are finite."""
        input_moved = self._input_moved(parts, mode)
        changed = self._changed(parts, mode, input_moved)
        parts.mark_changed(self.vertices, changed)
        if not changed.any():
            return True
        if mode & PREDICT:
            self._predict(anew=bool(input_moved.any()))
        if mode & SEND and self.step.sends:
            return self.send(slice(0, len(self.step.names)))
        return bool(np.isfinite(self.units.error[self.step.rows]).all())

    def _input_moved(self, parts: Parts, mode: int) -> np.ndarray:
        """Return which vertices have an input that has changed."""
        if mode & ALL:
            return np.ones(len(self.vertices), bool)
        if not mode & PREDICT:
            return np.zeros(len(self.vertices), bool)
        return np.asarray(parts.moved(self.senders).any(axis=0))

    def _changed(self, parts: Parts, mode: int, input_moved: np.ndarray) -> np.ndarray:
        """Return which vertices have an error, or a message, that may have changed."""
        if self.arrays.rule.moving and not mode & (PREDICT | ALL):
            return parts.changed(self.vertices)
        return np.asarray(input_moved | parts.moved(self.vertices))

    def _predict(self, *, anew: bool) -> None:
        rows, units = self.step.rows, self.units
        if anew:
            mu = self._work_out(tuple(self._input(slot) for slot in self.step.slots))
            with np.errstate(all="ignore"):
                np.subtract(mu, self.reference, out=units.shift[rows])
        with np.errstate(all="ignore"):
            np.subtract(units.deviation[rows], units.shift[rows], out=units.error[rows])
            self._follow_losses()

    def _input(self, slot: Slot) -> np.ndarray:
        """Return what arrives over a slot at this tick, (vertices, batch, *shape)."""
        if slot.is_parameter or slot.is_whole:
            return np.asarray(feedforward_input(self.arrays, slot, slice(0, len(self.step.names))))
        now = self.arrays.units[slot.shape].value[slot.rows]
        late = self.late_values.get(id(slot))
        if late is not None and slot.late is not None:
            now = now.copy() if isinstance(slot.rows, slice) else now
            now[slot.late.positions] = late
        return np.asarray(now)

    def _follow_losses(self) -> None:
        """Set the errors of outputs with a loss other than squared error, and their values to match."""
        task, units = self.arrays.task, self.units
        for loss, rows in self._loss_rows().items():
            here = self.step.rows.start + np.array(rows)
            target = np.stack([np.asarray(task.targets[self.step.names[row]], task.dtype) for row in rows])
            mu = units.start[here] + units.shift[here]
            units.error[here] = LOSSES[loss].error(np, mu, target)
            units.deviation[here] = units.error[here] + units.shift[here]
            units.value[here] = mu + units.error[here]

    def _loss_rows(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for row, name in enumerate(self.step.names):
            if not clamped(self.arrays.task, name):
                found[self.arrays.task.losses[name]].append(row)
        return found

    def send(self, rows: slice) -> bool:
        """Write down what some vertices send back over each input; return whether all of their errors are finite."""
        arrays = self.arrays
        arrays.work[id(self.step)] = self.work
        with np.errstate(all="ignore"):
            back = arrays.local(self.step, rows).messages(arrays.weighted(self.step, rows))
        for slot, message in zip(self.step.slots, back, strict=True):
            if slot.messages is not None:
                self.sent[slot.shape][self.places[slot.shape][inside(slot.messages, rows)]] = message
        return bool(np.isfinite(self.units.error[inside(self.step.rows, rows)]).all())

    # -- learn ------------------------------------------------------------------------------------------

    def accumulate(self, rows: Rows, tick: int) -> None:
        """Add what some rows contribute to the gradients of their parameters."""
        self.arrays.work[id(self.step)] = self.work
        add_contributions(self.arrays, self.step, rows, tick)
