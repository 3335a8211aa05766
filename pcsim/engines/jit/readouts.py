"""What is read from a compiled session: inputs as they arrived, messages that kernels sum themselves, losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.array.rows import indices
from pcsim.engines.jit.kernels.loss_errors import cross_entropy_error
from pcsim.engines.jit.projections import message
from pcsim.ops import LOSSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.engines.base import Read
    from pcsim.engines.jit.layout import Layout
    from pcsim.engines.jit.projections import Projection
    from pcsim.program.program import Slot, Step


def inputs_of(layout: Layout, step: Step) -> tuple[np.ndarray, ...]:
    """Return what a step has taken as inputs in this tick, (vertices, batch, *shape) each."""
    return tuple(_input(layout, slot) for slot in step.slots)


def _input(layout: Layout, slot: Slot) -> np.ndarray:
    arrays = layout.arrays
    if slot.is_whole:
        return np.asarray(arrays.whole[id(slot)])
    if slot.is_parameter:
        return np.asarray(arrays.theta[slot.shape][slot.rows][:, None])
    units = arrays.units[slot.shape]
    found = (units.value if layout.moving else units.start)[slot.rows]
    if slot.late is None or not layout.moving:
        return np.asarray(found)
    found = found.copy()
    late = layout.late_values.get(id(slot))
    found[slot.late.positions] = _past_values(layout, slot) if late is None else late
    return np.asarray(found)


def _past_values(layout: Layout, slot: Slot) -> list[np.ndarray]:
    """Return the values that arrive late over a slot of a projection."""
    assert slot.late is not None
    rows, tick = indices(slot.rows), layout.arrays.tick
    pasts = [layout.past_values[slot.shape, int(rows[position])].values for position in slot.late.positions]
    return [past[(tick - delay) % len(past)] for past, delay in zip(pasts, slot.late.delay, strict=True)]


def reader(layout: Layout, quantity: str, names: Sequence[str]) -> Read:
    """Return a function that reads a quantity of vertices, or of edges for messages."""
    arrays = layout.arrays
    read = arrays.reader(quantity, names)
    wanted = _summed(layout, names) if quantity == "error message" else {}
    if not wanted:
        return read

    def worked_out() -> np.ndarray:
        found = np.array(read())
        for place, (projection, delay, row) in wanted.items():
            found[place] = message(layout, projection, delay, row, arrays.tick)
        return found

    return worked_out


def _summed(layout: Layout, names: Sequence[str]) -> dict[int, tuple[Projection, int, int]]:
    """Return the edges, by place, whose messages a projection sums itself: step, delay and vertex."""
    found = {
        edge.name: (projection, delay, row)
        for projection in layout.projections.values()
        for delay, slot in enumerate(projection.step.slots)
        for row, edge in enumerate(slot.edges)
    }
    return {place: found[name] for place, name in enumerate(names) if name in found}


def executed(layout: Layout) -> dict[str, str]:
    """Return what works out each vertex: ``numba``, or ``numpy`` and why."""
    found = {name: "numba" for step in layout.arrays.program.steps for name in step.names}
    for array_step in layout.array_steps.values():
        found |= dict.fromkeys(array_step.step.names, f"numpy: {array_step.why}")
    return found


def loss_error(loss: str, mu: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the error of outputs as kernels compute it in a tick, (rows, batch, *shape)."""
    if loss != "cross_entropy":
        found: np.ndarray = LOSSES[loss].error(np, mu, target)
        return found
    error = np.empty_like(mu)
    flat = (np.ascontiguousarray(array).reshape(-1) for array in (mu, target))
    cross_entropy_error(next(flat), 0, next(flat), 0, error.reshape(-1), 0, mu.size, mu.shape[-1])
    return error
