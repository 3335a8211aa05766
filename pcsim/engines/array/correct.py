"""The second phase of a tick: errors are sent, delivered and summed, and values move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.array.checks import check
from pcsim.engines.array.rows import inside

if TYPE_CHECKING:
    from pcsim.arrays import Array, Shape
    from pcsim.engines.array.array_state import ArrayState
    from pcsim.program.program import Rows, Step


def send(state: ArrayState) -> None:
    """Compute the error messages of this tick."""
    state.held = _hold(state)
    with np.errstate(all="ignore"):
        for step, rows in state.plan.active:
            if step.sends:
                _send(state, step, rows)


def deliver(state: ArrayState, tick: int) -> None:
    """Take the error messages that are due, and sum them by receiver; raises RunError where one is not finite."""
    with np.errstate(all="ignore"):
        for shape in state.plan.traffic if state.plan.traffic is not None else state.lines:
            _travel(state, shape, tick, state.held.get(shape))
        for (kind, shape), channel in state.channels.items():
            if kind == "error":
                state.messages[shape][channel.rows] = channel.carry(tick, state.messages[shape][channel.rows])
        _sum(state)
    check(state, "error", "received", state.plan.moves, tick, due=1)


def move(state: ArrayState) -> None:
    """Move the free values to the next tick; vertices that do not act stay."""
    inactive = {} if state.inactive is None else state.inactive.rows(state.tick)
    stay = [
        (array, rows, array[rows])
        for shape, rows in inactive.items()
        for array in (state.units[shape].deviation, state.units[shape].multiplier)
        if array is not None
    ]
    with np.errstate(all="ignore"):
        for shape, rows in state.plan.moves:
            state.units[shape].move(state.at(rows))
    for array, rows, before in stay:
        array[rows] = before


def _send(state: ArrayState, step: Step, rows: Rows) -> None:
    rows = state.at(rows)
    back = state.local(step, rows).messages(state.weighted(step, rows))
    for slot, message in zip(step.slots, back, strict=True):
        if slot.messages is not None:
            state.messages[slot.shape][inside(slot.messages, rows)] = message


def _hold(state: ArrayState) -> dict[Shape, Array]:
    """Return the late messages that are due on, where what is sent now takes their place for a moment."""
    inboxes, traffic = state.program.inboxes, state.plan.traffic or {}
    return {
        shape: state.messages[shape][state.at(inboxes[shape].late)[state.at(lines.sent)]]
        for shape, lines in traffic.items()
    }


def _travel(state: ArrayState, shape: Shape, tick: int, held: Array | None) -> None:
    """Put what is sent late on its line, and what is due in its place."""
    delay_buffer, late = state.delay_buffers[shape], state.at(state.program.inboxes[shape].late)
    lines, messages = state.lines[shape], state.messages[shape]
    if held is None or state.plan.traffic is None:
        at = delay_buffer.at(tick)
        due = lines[at]
        lines[at] = messages[late]
        messages[late] = due
        return
    setting_out, arriving = map(state.at, (state.plan.traffic[shape].sent, state.plan.traffic[shape].due))
    due = lines[delay_buffer.at(tick, arriving)]
    sent = late[setting_out]
    lines[delay_buffer.at(tick, setting_out)] = messages[sent]
    messages[sent] = held
    messages[late[arriving]] = due


def _sum(state: ArrayState) -> None:
    """Sum messages by receiver, all of them or those of the rows that may move."""
    if state.plan.traffic is None:
        for shape, add in state.sums.items():
            add(state.messages[shape], out=state.units[shape].received)
        return
    for shape, rows in state.plan.moves:
        if shape in state.sums:
            state.sums[shape](state.messages[shape], out=state.units[shape].received, rows=rows)
