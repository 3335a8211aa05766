"""The state of an array engine: the units of a group, and what a step keeps within a tick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.arrays import zeros_in_lines
from pcsim.engines.array.rows import indices
from pcsim.engines.base import gammas

if TYPE_CHECKING:
    from pcsim.arrays import Array, Namespace
    from pcsim.engines.base import Task
    from pcsim.ops.local import Local
    from pcsim.program.program import Rows, ShapeGroup


@dataclass
class Units:
    """The units of one group, (rows, batch, *shape). All but ``start`` and ``value`` cover the active rows only."""

    group: ShapeGroup
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
    keep: Any
    """1 - gamma: a number, or (free, 1, ...) where vertices have step sizes of their own."""
    gain: Any
    """gamma: a number, or (free, 1, ...)."""
    xp: Namespace = np
    targets: tuple[tuple[str, Rows, Array], ...] = ()
    """(loss, rows, target) of outputs whose loss is not a clamp."""
    multiplier: Array = None
    """Where the rule has free vertices keep one, zero at outputs; None where it has not."""
    penalty: Array = None
    """(active, 1, ...): rho of free vertices, 1 of outputs."""
    ascent: Any = None
    """alpha of ``multiplier += alpha eps``."""

    def weighted(self, rows: Rows) -> Array:
        """Return what some rows send back and learn from: Pi eps, or lambda + rho Pi eps."""
        error = self.error[rows]
        weighted = error if self.precision is None else self.precision[rows] * error
        return weighted if self.multiplier is None else self.multiplier[rows] + self.penalty[rows] * weighted

    def move(self, rows: Rows) -> None:
        """Move free values: x += gamma (-Pi eps + sum), written so that gamma = 1 moves what arrived bit for bit."""
        if self.multiplier is not None:
            self._move_with_multipliers(rows)
            return
        deviation, push = self.deviation[rows], self.received[rows]
        shift = None if self.shift is None else self.shift[rows]
        keep, gain = (self.keep[rows], self.gain[rows]) if self.gain.ndim else (self.keep, self.gain)
        if self.precision is None:
            rates = (row.reshape(len(row), 1) if row.ndim else row for row in (keep, gain))
            blend(self.xp, deviation, push, shift, *rates)
        else:
            precision = self.precision[rows]
            push = push if shift is None else push + precision * shift
            deviation *= 1 - precision * gain
            deviation += push * gain
        if not isinstance(rows, slice):
            self.deviation[rows] = deviation

    def _move_with_multipliers(self, rows: Rows) -> None:
        """Move x += gamma (-(lambda + rho Pi eps) + sum), and lambda += alpha eps."""
        gain = self.gain[rows] if self.gain.ndim else self.gain
        self.deviation[rows] += gain * (self.received[rows] - self.weighted(rows))
        self.multiplier[rows] += self.ascent * self.error[rows]

    def clear(self) -> None:
        """Forget a run: nothing has moved, no error, nothing due, no target."""
        for array in (self.deviation, self.shift, self.error, self.received, self.multiplier):
            if array is not None:
                array[...] = 0
        self.targets = ()

    def freeze(self, rows: np.ndarray) -> None:
        """Put vertices back to their feedforward values, with no error; clamped outputs stay clamped."""
        follows = [indices(where) for _, where, _ in self.targets]
        self.deviation[rows[(rows < self.group.free) | np.isin(rows, np.concatenate([[], *follows]))]] = 0
        for array in (self.shift, self.error):
            array[rows] = 0


@dataclass
class Work:
    """What some rows of a step keep from predicting to learning."""

    inputs: tuple[Array, ...] = ()
    mu: Array = None
    saved: tuple[Array, ...] = ()
    start: int = 0
    stop: int = 0
    """The arrays are of the rows ``start`` to ``stop - 1`` of the step."""
    calls: dict[tuple[int, int], Local] = field(default_factory=dict)
    """Calls of some rows, made once where predictions are fixed."""


BLOCK = 1 << 15
"""Numbers worked on at a time where one pass over memory is worth more than one call."""


def blend(xp: Namespace, state: Array, push: Array, shift: Array | None, keep: Any, gain: Any) -> None:
    """Set ``state = keep state + gain (shift + push)`` in place, on the host block by block.

    ``keep`` and ``gain`` are numbers, or one number a row. With keep 0 and gain 1 the state becomes ``shift + push``
    bit for bit.
    """
    rowwise = getattr(gain, "ndim", 0) > 0
    flat = (len(state), -1) if rowwise else (-1,)
    state, push = state.reshape(flat), push.reshape(flat)
    shift = None if shift is None else shift.reshape(flat)
    most = BLOCK if xp is np else state.size
    size = max(1, most // max(1, state.shape[-1])) if rowwise else max(1, most)
    scratch = xp.empty_like(state[:size])
    for start in range(0, len(state), size):
        block = slice(start, start + size)
        here, more = state[block], push[block]
        held, taken = (keep[block], gain[block]) if rowwise else (keep, gain)
        if shift is not None:
            more = xp.add(shift[block], more, out=scratch[: len(here)])
        if rowwise or taken != 1:
            more = xp.multiply(more, taken, out=scratch[: len(here)])
        here *= held
        here += more


def units_of(group: ShapeGroup, task: Task, xp: Namespace) -> Units:
    """Return units with everything at zero."""

    def zeros(rows: int) -> Array:
        return zeros_in_lines(xp, (rows, task.batch, *group.shape), task.dtype)

    start = zeros(len(group.names))
    deviation = zeros(group.active)
    moving = task.rule.moving
    rates = gammas(task, group.names[: group.free]).reshape(-1, *[1] * (1 + len(group.shape)))
    rule, held = task.rule, task.rule.keeps_multipliers
    penalty = np.ones((group.active, *[1] * (1 + len(group.shape))), task.dtype)
    penalty[: group.free] = rule.rho
    alike = bool((rates == rates[:1]).all())
    gamma = np.float64(rates.flat[0] if len(rates) else task.rule.step_size) if alike else xp.asarray(rates)
    return Units(
        group,
        start,
        deviation,
        shift=zeros(group.active) if moving else None,
        error=zeros(group.active) if moving else deviation,
        reference=None,
        value=zeros(len(group.names)) if moving else start,
        received=zeros(group.free),
        precision=None if group.precision is None else xp.asarray(group.precision, task.dtype),
        keep=(1 - gamma).astype(task.dtype),
        gain=gamma.astype(task.dtype),
        xp=xp,
        multiplier=zeros(group.active) if held else None,
        penalty=xp.asarray(penalty) if held else None,
        ascent=task.dtype.type(rule.multiplier_step),
    )
