"""The third phase of a tick: parameters whose rule fires take what they receive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.array.rows import indices, inside, masked, overlap, spread
from pcsim.engines.faults import overflowed

if TYPE_CHECKING:
    from pcsim.arrays import Array, Shape
    from pcsim.engines.array.array_state import ArrayState
    from pcsim.program.program import Rows, Step


def learn(state: ArrayState, tick: int, *, last: bool) -> None:
    """Let each parameter whose rule fires at this tick take what it receives."""
    with np.errstate(all="ignore"):
        for step in state.program.steps:
            if step.learns and (rows := firing(state, step, tick, last=last)) is not None:
                _accumulate(state, step, rows, tick)
        if state.rule.fires.applies:
            apply(state)


def firing(state: ArrayState, step: Step, tick: int, *, last: bool) -> Rows | None:
    """Return the rows of a step that fire; None for none."""
    due = np.broadcast_to(state.rule.fires.due(tick, step.levels, last), len(step.names))
    if state.rule.fires.waits:
        return _arriving(state, step, due)
    if not due.any():
        return None
    return slice(0, len(step.names)) if due.all() else masked(due)


def _arriving(state: ArrayState, step: Step, due: np.ndarray) -> Rows | None:
    """Return the rows of a step that are due for the first time with an error that is not zero; None for none.

    An error can leave zero only where the plan has its row; one that was not due then is looked at once it is.
    """
    waiting, changed = state.waiting[id(step)], state.plan.rows.get(id(step))
    if changed is not None:
        waiting[changed] = True
    rows = masked(waiting & due & (state.fire_ticks[id(step)] < 0))
    if rows is None:
        return None
    error = state.units[step.shape].error[inside(step.rows, state.at(rows))]
    waiting[rows] = False
    return masked(spread(rows, state.host((error != 0).any(axis=tuple(range(1, error.ndim)))), len(due)))


def _accumulate(state: ArrayState, step: Step, rows: Rows, tick: int) -> None:
    """Let some vertices fire; those that nothing has reached contribute nothing."""
    state.fire_ticks[id(step)][rows] = tick
    reached = overlap(rows, state.work[id(step)].start, state.work[id(step)].stop)
    if reached is not None:
        add_contributions(state, step, reached, tick)


def add_contributions(state: ArrayState, step: Step, rows: Rows, tick: int) -> None:
    """Add what parameters receive from some rows of a step at this tick."""
    local, g = state.local(step, state.at(rows)), state.weighted(step, state.at(rows))
    made = local.contributions(g) if step.parameters else {}
    received = [(slot.shape, slot.rows, made[slot.name]) for slot in step.parameters]
    if any(slot.is_parameter for slot in step.slots):
        back = zip(step.slots, local.to_leaves(g), strict=True)
        received += [(slot.shape, slot.rows, message[:, 0]) for slot, message in back if slot.is_parameter]
    for shape, where, contribution in received:
        if not state.finite(contribution):
            overflowed(step.names[indices(rows)[0]], tick, "update", state.task.dtype)
        _add(state, shape, where, rows, contribution)


def _add(state: ArrayState, shape: Shape, where: Rows, rows: Rows, contribution: Array) -> None:
    """Add contributions to the parameters they are for; several users of one parameter add up."""
    if state.rule.output_variance != 1:
        contribution = contribution * state.task.dtype.type(state.rule.output_variance)
    if shape not in state.learnt:
        state.learnt[shape] = state.xp.zeros_like(state.theta[shape])
    if isinstance(where, slice) and where.stop - where.start == 1:
        state.learnt[shape][where] += contribution
    else:
        receivers = inside(where, rows)
        if isinstance(receivers, slice):
            state.learnt[shape][receivers] += contribution
        else:
            state.memory.add_at(state.learnt[shape], receivers, contribution)


def apply(state: ArrayState) -> None:
    """Let parameters take what they have learnt since this was last done."""
    rate = state.task.dtype.type(state.rule.learning_rate)
    for shape, learnt in state.learnt.items():
        state.theta[shape] += (learnt - state.applied.get(shape, 0)) * rate
    state.applied = {shape: learnt.copy() for shape, learnt in state.learnt.items()}
    state.gather_parameters()
