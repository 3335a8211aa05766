"""The first phase of a tick: values that are due become predictions and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.array.checks import check
from pcsim.engines.array.rows import ends, inside, take
from pcsim.engines.array.units import Work
from pcsim.ops import LOSSES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.arrays import Array, Shape
    from pcsim.engines.array.array_state import ArrayState
    from pcsim.engines.array.units import Units
    from pcsim.program.program import Rows, Slot, Step


def predict(state: ArrayState, tick: int) -> None:
    """Take the values due, compute predictions and errors; raises RunError where an error is NaN or infinite."""
    if state.may_freeze:
        check(state, "value", "deviation", state.plan.reach, tick)
    with np.errstate(all="ignore"):
        for (kind, shape), lines in state.channels.items():
            if kind == "value":
                lines.carry(tick, state.units[shape].deviation[lines.rows])
        if state.rule.moving:
            _predict(state)
    for shape, history in state.program.histories.items():
        row = state.clocks[shape].at(tick)
        state.histories[shape][row] = state.units[shape].deviation[state.at(history.rows)]
    if not state.convex or tick == 0:
        check(state, "error", "error", state.plan.reach, tick)


def _predict(state: ArrayState) -> None:
    values = {shape: units.value for shape, units in state.units.items()}
    for shape, rows in state.plan.reach:
        units = state.units[shape]
        state.xp.add(units.start[rows], units.deviation[rows], out=units.value[rows])
    for step, rows in state.plan.active:
        forward(state, step, rows, values)
        units, here = state.units[step.shape], inside(step.rows, rows)
        state.xp.subtract(state.work[id(step)].mu, units.reference[here], out=units.shift[here])
    for shape, rows in state.plan.reach:
        units = state.units[shape]
        state.xp.subtract(units.deviation[rows], units.shift[rows], out=units.error[rows])
    for units in state.units.values():
        _follow_losses(state, units)


def _follow_losses(state: ArrayState, units: Units) -> None:
    """Set the errors of outputs with a loss other than squared error."""
    for loss, outputs, target in units.targets:
        rows = state.at(outputs)
        mu = units.start[rows] + units.shift[rows]
        units.error[rows] = LOSSES[loss].error(state.xp, mu, target)
        units.deviation[rows] = units.error[rows] + units.shift[rows]
        units.value[rows] = mu + units.error[rows]


def forward(state: ArrayState, step: Step, rows: Rows, values: Mapping[Shape, Array]) -> None:
    """Compute the predictions of some rows of a step from values, and keep what their derivatives need."""
    inputs = tuple(step_input(state, slot, rows, values) for slot in step.slots)
    params = {name: take(array, rows, len(step.names)) for name, array in state.params[id(step)].items()}
    mu, saved = step.op.forward(state.xp, step.call, params, inputs)
    state.work[id(step)] = Work(inputs, mu, saved, *ends(rows))


def step_input(state: ArrayState, slot: Slot, rows: Rows, values: Mapping[Shape, Array]) -> Array:
    """Return what some rows of a step take over a slot at this tick, late values included."""
    if slot.is_parameter or slot.is_whole:
        return feedforward_input(state, slot, rows)
    now = values[slot.shape][inside(state.at(slot.rows), rows)]
    if slot.late is slot.channels or not state.rule.moving:  # both None
        return now
    return _with_late(state, slot, rows, now)


def _with_late(state: ArrayState, slot: Slot, rows: Rows, now: Array) -> Array:
    """Replace the values that travel by what was sent as many ticks ago, and those that cross channels by what came."""
    start = state.units[slot.shape].start
    inputs = now.copy() if isinstance(slot.rows, slice) else now
    if slot.late is not None:
        history, clock = state.program.histories[slot.shape], state.clocks[slot.shape]
        here, first = _within(slot.late.positions, rows)
        lines = state.at(slot.late.lines)[here]
        sent = state.histories[slot.shape][clock.at(state.tick, lines, state.at(slot.late.delay)[here])]
        inputs[state.at(slot.late.positions)[here] - first] = start[state.at(history.rows)[lines]] + sent
    if slot.channels is not None:
        channels = state.channels["value", slot.shape]
        here, first = _within(slot.channels.positions, rows)
        lines = state.at(slot.channels.lines)[here]
        inputs[state.at(slot.channels.positions)[here] - first] = start[channels.rows[lines]] + channels.held[lines]
    return inputs


def _within(positions: np.ndarray, rows: Rows) -> tuple[slice, int]:
    """Return which positions of a slot lie within some rows of it, and where these start."""
    start, stop = ends(rows)
    return slice(*np.searchsorted(positions, (start, stop))), start


def feedforward_input(state: ArrayState, slot: Slot, rows: Rows) -> Array:
    """Return what some rows of a step take over a slot in the feedforward sweep."""
    if slot.is_parameter:
        return take(state.theta[slot.shape][state.at(slot.rows)], rows, len(slot.edges))[:, None]
    if slot.is_whole:
        return state.whole[id(slot)][rows]
    return state.units[slot.shape].start[inside(state.at(slot.rows), rows)]
