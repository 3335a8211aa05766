"""Where two traces differ: by quantity and name, how far, and since when."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.trace.entries import Entry, blocks, entries

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr


@dataclass(frozen=True)
class Difference:
    """How far one quantity of one vertex, edge or parameter is apart in two traces.

    Attributes
    ----------
    absolute, relative : greatest over all numbers at common ticks; relative to the larger of the two;
        ``None`` where the two cannot be compared, and ``note`` says why
    tick : the first at which they are not exactly equal; ``None`` if there is none
    note : what there is to say besides, such as ``only in the first``
    """

    what: str
    kind: str | None
    name: str | None
    absolute: float | None = None
    relative: float | None = None
    tick: int | None = None
    note: str = ""

    @property
    def equal(self) -> bool:
        """Tell whether the two are equal, bit for bit but for the sign of zero."""
        return self.absolute == 0

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        return asdict(self)


Key = tuple[str, str | None, str | None]
"""Quantity, kind and name."""


def compare(first: xr.DataTree, second: xr.DataTree) -> list[Difference]:
    """Return how two traces differ: a row for each quantity and name that either of them holds."""
    mine, others = _by_key(first), _by_key(second)
    rows: dict[Key, Difference] = {key: Difference(*key, note="only in the first") for key in mine}
    rows |= {key: Difference(*key, note="only in the second") for key in others if key not in mine}
    pairs: dict[tuple[int, int], list[Key]] = {}
    for key in mine.keys() & others.keys():
        pairs.setdefault((id(mine[key]), id(others[key])), []).append(key)
    for keys in pairs.values():
        rows |= _compared(mine[keys[0]], others[keys[0]], keys)
    return list(rows.values())


def _by_key(tree: xr.DataTree) -> dict[Key, Entry]:
    known = entries(tree)
    return {(e.quantity, e.kind, name): e for e in known for name in (e.names or (None,))}


def _compared(mine: Entry, other: Entry, keys: Sequence[Key]) -> dict[Key, Difference]:
    a, b = (_selected(entry, [key[2] for key in keys]) for entry in (mine, other))
    if "tick" in a.dims and "tick" in b.dims:
        common = np.intersect1d(a.coords["tick"].values, b.coords["tick"].values)
        a, b = a.sel(tick=common), b.sel(tick=common)
    if a.shape != b.shape:
        note = f"shapes {mine.array.shape[2:]} and {other.array.shape[2:]}"
        return {key: Difference(*key, note=note) for key in keys}
    if a.shape[:1] == (0,):
        return {key: Difference(*key, note="no common tick") for key in keys}
    return _measured(a, b, keys)


def _selected(entry: Entry, names: list[str | None]) -> xr.DataArray:
    if entry.dim is None:
        return entry.array
    positions = {name: number for number, name in enumerate(entry.names)}
    return entry.array.isel({entry.dim: [positions[str(name)] for name in names]})


def _measured(a: xr.DataArray, b: xr.DataArray, keys: Sequence[Key]) -> dict[Key, Difference]:
    absolute, relative = np.zeros(len(keys)), np.zeros(len(keys))
    since: dict[int, int | None] = {}
    for (ticks, x), (_, y) in zip(blocks(a), blocks(b), strict=True):
        apart, ratio = _apart(*(side.reshape(len(ticks), len(keys), -1) for side in (x, y)))
        for column in np.flatnonzero(apart.any(0)):
            since.setdefault(int(column), ticks[int((apart[:, column] > 0).argmax())])
        absolute, relative = np.maximum(absolute, apart.max(0)), np.maximum(relative, ratio.max(0))
    return {key: Difference(*key, float(absolute[n]), float(relative[n]), since.get(n)) for n, key in enumerate(keys)}


def _apart(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the greatest absolute and relative difference by (tick, name); a lone NaN is infinitely far."""
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(all="ignore"):
        gap = np.where(same, 0.0, np.nan_to_num(np.abs(x - y), nan=np.inf, posinf=np.inf))
        ratio = np.where(same, 0.0, np.nan_to_num(gap / np.maximum(np.abs(x), np.abs(y)), nan=np.inf))
    return gap.max(2, initial=0), ratio.max(2, initial=0)
