"""Rows of groups and steps: slices where they are consecutive, index arrays where they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcsim.program.program import rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.arrays import Array
    from pcsim.program.program import Program, Rows, Step


def by_depth(steps: Sequence[Step]) -> list[tuple[Step, slice]]:
    """Cut steps into runs of equal depth, nearest the sources first."""
    runs = []
    for step in steps:
        depths, first = np.unique(step.depths, return_index=True)
        ends = [*first[1:].tolist(), len(step.depths)]
        runs += [(int(depth), step, slice(int(a), b)) for depth, a, b in zip(depths, first, ends, strict=True)]
    return [(step, rows) for _, step, rows in sorted(runs, key=lambda run: run[0])]


def masked(mask: np.ndarray) -> Rows | None:
    """Return the rows that a mask selects; None for none."""
    index = np.nonzero(mask)[0]
    return rows_of(index) if len(index) else None


def spread(rows: Rows, mask: np.ndarray, count: int) -> np.ndarray:
    """Return a mask of so many rows from that of some of them."""
    found = np.zeros(count, bool)
    found[rows] = mask
    return found


def inside(where: Rows, rows: Rows) -> Rows:
    """Return the group rows of some rows of a step."""
    if isinstance(where, slice) and isinstance(rows, slice):
        return slice(where.start + rows.start, where.start + rows.stop)
    return where.start + rows if isinstance(where, slice) else where[rows]


def shifted(rows: Rows, by: int) -> Rows:
    """Return rows counted from another origin."""
    return slice(rows.start + by, rows.stop + by) if isinstance(rows, slice) else rows + by


def overlap(rows: Rows, start: int, stop: int) -> Rows | None:
    """Return the rows from ``start`` to ``stop - 1``; None for none."""
    if isinstance(rows, slice):
        start, stop = max(rows.start, start), min(rows.stop, stop)
        return slice(start, stop) if start < stop else None
    kept = rows[(rows >= start) & (rows < stop)]
    return rows_of(kept) if len(kept) else None


def ends(rows: Rows) -> tuple[int, int]:
    """Return where consecutive rows start and stop."""
    assert isinstance(rows, slice)
    return rows.start, rows.stop


def indices(rows: Rows) -> np.ndarray:
    """Return rows as an index array."""
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


def take(array: Array, rows: Rows, count: int) -> Array:
    """Return some rows of an array that has one row for each of ``count`` vertices, or one row for all."""
    return array if array.shape[0] == 1 != count else array[rows]


def rows_in(program: Program, names: Sequence[str]) -> Rows:
    """Return the group rows of vertices of one shape."""
    return rows_of(np.array([program.location[name][1] for name in names], np.intp))
