"""The state of a compiled session, taken out between two ticks and put back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.array import snapshot as array_snapshot
from pcsim.engines.jit.projections import message
from pcsim.engines.state import past

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcsim.engines.jit.layout import Layout
    from pcsim.engines.jit.projections import Projection
    from pcsim.engines.state import State

ENGINE = "numba"


def snapshot(layout: Layout) -> State:
    """Return the state before the next tick; arrays are copies.

    Everything that stands still can be worked out again, to the bit, but what populations sent in past ticks.
    """
    state = array_snapshot.snapshot(layout.arrays, ENGINE, lambda _vertex, _tick: True)
    errors = state.errors | dict(_messages(layout, state.tick))
    private = {key: one.errors.copy() for key, one in _remembering(layout)}
    return replace(state, errors=errors, private=private)


def lost(layout: Layout, state: State) -> set[int]:
    """Return the ids of projections whose messages under way a state has, but not the errors they were made of."""
    own = state.own(ENGINE)
    return {id(one.step) for key, one in _remembering(layout) if key not in own}


def restore(layout: Layout, state: State) -> None:
    """Put a state into arrays of a run that has just begun."""
    arrays = layout.arrays
    learnt = dict(arrays.learnt)
    array_snapshot.restore(arrays, state, ENGINE)
    for shape, array in learnt.items():  # kernels know where these lie
        array[...] = arrays.learnt[shape]
        arrays.learnt[shape] = array
    own = state.own(ENGINE)
    for key, one in _remembering(layout):
        one.errors[...] = own[key]
    for (shape, row), kept in layout.past_values.items():
        name, ticks = arrays.program.groups[shape].names[row], len(kept.values)
        found = past(state.values.get(name), ticks, state.deviations[name])
        for number in range(ticks):
            kept.values[(state.tick - ticks + number) % ticks] = arrays.units[shape].start[row] + found[number]


def _remembering(layout: Layout) -> Iterator[tuple[str, Projection]]:
    """Yield the projections whose errors travel for a tick or more, by a name of their own."""
    for one in layout.projections.values():
        if one.errors.shape[1] > 1:
            yield f"errors/{one.step.names[0]}", one


def _messages(layout: Layout, tick: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield edge and messages under way, (ticks, batch, neurons before), where a projection remembers errors."""
    for _, one in _remembering(layout):
        for delay, slot in enumerate(one.step.slots):
            for row, edge in enumerate(slot.edges):
                if edge.error_delay and slot.messages is not None:
                    ticks = range(tick, tick + edge.error_delay)
                    yield edge.name, np.stack([message(layout, one, delay, row, each) for each in ticks])
