"""What is not finite: named with its vertex and tick, or frozen where nothing depends on it any more."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.array.rows import take
from pcsim.engines.faults import report
from pcsim.engines.operands import operands_of, source_value
from pcsim.graph.graph import number_format

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pcsim.arrays import Array, Shape
    from pcsim.engines.array.array_state import ArrayState
    from pcsim.graph.graph import Vertex
    from pcsim.program.program import Rows


def check(
    state: ArrayState, what: str, name: str, where: Iterable[tuple[Shape, Rows]], tick: int | None, due: int = 0
) -> None:
    """Name what is not finite; a vertex that has fired before ``tick + due`` is frozen instead."""
    ended: dict[str, str] = {}
    for shape, rows in where:
        array = getattr(state.units[shape], name)
        if state.finite(array[state.at(rows)]):
            continue
        bad = np.nonzero(~np.isfinite(state.host(array)).all(axis=tuple(range(1, array.ndim))))[0]
        if tick is None or not state.may_freeze or _waiting(state, shape, bad, tick, due).any():
            ended.update({state.program.groups[shape].names[row]: what for row in bad})
        else:
            _freeze(state, shape, bad, array, tick)
    if ended:
        _report(state, tick, ended)


def _waiting(state: ArrayState, shape: Shape, rows: np.ndarray, tick: int, due: int) -> np.ndarray:
    """Return which rows have not fired yet, and are not about to: their errors still matter."""
    waiting = state.levels[shape][rows] >= tick + due
    if state.rule.fires.waits:
        error = state.units[shape].error[state.at(rows)]
        fires_now = state.host((error != 0).any(axis=tuple(range(1, error.ndim)))) if due else False
        waiting |= _yet_to_fire(state, shape)[rows] & ~np.asarray(fires_now)
    return np.asarray(waiting)


def _yet_to_fire(state: ArrayState, shape: Shape) -> np.ndarray:
    """Return which active rows of a group contribute to a parameter, and have not fired."""
    waiting = np.zeros(len(state.levels[shape]), bool)
    for step in state.program.steps:
        if step.shape == shape and step.learns:
            waiting[step.rows] = (state.fire_ticks[id(step)] < 0) & (step.levels >= 0)
    return waiting


def _freeze(state: ArrayState, shape: Shape, rows: np.ndarray, array: Array, tick: int) -> None:
    """Freeze vertices that have fired: on a levelled graph nothing that is still to be learnt depends on them.

    One that is due at this very tick still needs its error, so what it received is all that goes.
    """
    if array is state.units[shape].received:
        messages = state.messages[shape]
        messages[~state.xp.isfinite(messages).all(axis=tuple(range(1, messages.ndim)))] = 0
        array[state.at(rows)] = 0
    else:
        state.units[shape].freeze(rows)
    for row in rows:
        state.frozen_at.setdefault(state.program.groups[shape].names[row], tick)


def _report(state: ArrayState, tick: int | None, ended: Mapping[str, str]) -> None:
    theta = {name: value[None] for name, value in state.parameters().items()}
    with np.errstate(all="ignore"):
        values = {vertex.name: _value_of(state, vertex, theta) for vertex in state.task.graph.vertices.values()}
    inputs = partial(_inputs_of, state, values)
    report(state.task.graph, values.__getitem__, inputs, partial(_operands_of, state, theta), tick, ended)


def _operands_of(state: ArrayState, theta: Mapping[str, np.ndarray], vertex: Vertex) -> dict[str, np.ndarray]:
    """Return what the op of a vertex takes beside its inputs, on the host."""
    learnt = {slot: theta[name] for slot, name in vertex.params}
    return learnt | operands_of(state.task).get(vertex.name, {})


def _inputs_of(state: ArrayState, values: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, ...]:
    """Return what a vertex predicted from; where nothing has reached it yet, what stands there."""
    shape, row = state.program.location[name]
    steps = (step for step in state.program.steps if step.shape == shape)
    step = next(step for step in steps if step.rows.start <= row < step.rows.stop)
    work = state.work[id(step)]
    here, count = row - step.rows.start - work.start, work.stop - work.start
    if not work.inputs or not 0 <= here < count:
        return tuple(values[edge.pre] for edge in state.task.graph.incoming[name])
    return tuple(state.host(take(array, slice(here, here + 1), count)) for array in work.inputs)


def _value_of(state: ArrayState, vertex: Vertex, theta: Mapping[str, np.ndarray]) -> np.ndarray:
    if vertex.op.role == "parameter":
        return theta[vertex.params[0][1]][:, None]
    if number_format(vertex) == "whole":
        return source_value(state.task, vertex.name)[None]
    return state.reader("value", [vertex.name])()
