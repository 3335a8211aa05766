"""The feedforward sweep, and where a run begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.engines.array.checks import check
from pcsim.engines.array.predict import feedforward_input, forward, step_input
from pcsim.engines.array.rows import by_depth, inside, take
from pcsim.engines.array.units import Work
from pcsim.ops import LOSSES

if TYPE_CHECKING:
    from pcsim.arrays import Array
    from pcsim.engines.array.array_state import ArrayState
    from pcsim.engines.array.units import Units
    from pcsim.program.program import Step


def sweep(state: ArrayState) -> None:
    """Set the feedforward values, depth by depth; on cycles, the given ones."""
    state.hold()
    for step, rows in by_depth(state.program.swept):
        inputs = tuple(feedforward_input(state, slot, rows) for slot in step.slots)
        params = {name: take(array, rows, len(step.names)) for name, array in state.params[id(step)].items()}
        mu, saved = step.op.forward(state.xp, step.call, params, inputs)
        state.units[step.shape].start[inside(step.rows, rows)] = mu
        if not state.rule.moving:
            _keep(state, step, rows, saved)
    check(state, "value", "start", state.everywhere(), None)


def _keep(state: ArrayState, step: Step, rows: slice, saved: tuple[Array, ...]) -> None:
    """Keep what the derivatives of some rows reuse: fixed predictions pay for it once, in the sweep."""
    count, work = len(step.names), state.work[id(step)]
    if rows.stop - rows.start == count:
        work.saved = saved
        return
    if not work.saved:
        work.saved = tuple(state.xp.empty((count, *part.shape[1:]), part.dtype) for part in saved)
    for whole, part in zip(work.saved, saved, strict=True):
        whole[rows] = part


def settle(state: ArrayState) -> None:
    """Predict from the feedforward values, clamp the outputs, set the values at tick 0."""
    values = {shape: units.start for shape, units in state.units.items()}
    for step in state.program.steps:
        every = slice(0, len(step.names))
        if state.rule.moving:
            forward(state, step, every, values)
        else:
            inputs = tuple(step_input(state, slot, every, values) for slot in step.slots)
            start = state.units[step.shape].start[step.rows]
            state.work[id(step)] = Work(inputs, start, state.work[id(step)].saved, 0, len(step.names))
    for units in state.units.values():
        if state.rule.moving:
            units.value[...] = units.start
            units.reference = _reference(state, units)
        state.set_initial(units)
    for loss, units, rows, target in state.outputs():
        units.deviation[rows] = LOSSES[loss].error(state.xp, units.start[rows], target)
        if not LOSSES[loss].clamps and state.rule.moving:
            units.targets += ((loss, rows, target),)


def _reference(state: ArrayState, units: Units) -> Array:
    """Return predictions from feedforward values: those values themselves where they agree, and on cycles."""
    start = units.start[: units.group.active]
    steps = [step for step in state.program.swept if step.shape == units.group.shape]
    if all(bool((start[step.rows] == state.work[id(step)].mu).all()) for step in steps):
        return start
    reference = start.copy()
    for step in steps:
        reference[step.rows] = state.work[id(step)].mu
    return reference
