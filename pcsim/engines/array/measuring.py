"""Squared norms of the errors of a tick, for all vertices at once."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from pcsim.engines.array.rows import shifted
from pcsim.engines.array.schedule import EveryRow
from pcsim.engines.squares import squares_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcsim.arrays import Array
    from pcsim.engines.array.array_state import ArrayState


def measuring(
    state: ArrayState, first: int, squares: Array | None, apart: Array | None = None
) -> Callable[[int], None] | None:
    """Return what notes the squares of a tick; those that cannot have changed are carried on."""
    if squares is None and apart is None:
        return None
    active = [units.group.active for units in state.units.values()]
    starts = dict(zip(state.units, accumulate(active, initial=0), strict=False))
    all_rows = EveryRow(state.program).plan.reach

    def note(tick: int) -> None:
        for kept in (squares, apart):
            if kept is not None and tick > first:
                kept[tick - first] = kept[tick - first - 1]
        for shape, rows in state.plan.reach if tick > first else all_rows:
            at = state.at(rows)
            error, here = state.units[shape].error[at], shifted(at, starts[shape])
            if squares is not None:
                squares[tick - first][here] = squares_of(state.xp, error)
            if apart is not None:
                apart[tick - first][here] = squares_of(state.xp, error - state.references[shape][at])

    return note
