"""Where two traces differ: by quantity and name, how far, and since when."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.trace.entries import Entry, blocks, entries

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    from pcsim.trace.queries import Ticks


@dataclass(frozen=True)
class Difference:
    """How far one quantity of one vertex, edge or parameter is apart in two traces.

    Attributes
    ----------
    absolute, relative : greatest over all numbers at common ticks; relative to the larger of the two;
        ``None`` where the two cannot be compared, and ``note`` says why
    tick : the first at which they are not exactly equal; ``None`` if there is none
    note : what there is to say besides, such as ``only in the first``
    equal : no number is further away than what was asked for; by default, equal but for the sign of zero
    """

    what: str
    kind: str | None
    name: str | None
    absolute: float | None = None
    relative: float | None = None
    tick: int | None = None
    note: str = ""
    equal: bool = False

    @property
    def title(self) -> str:
        """The quantity, with its kind and its name."""
        return " ".join(part for part in (self.kind, self.what, self.name) if part)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Asked:
    """What is compared: the ticks (None: all), and how far apart numbers are that count as equal."""

    ticks: Ticks | None = None
    tolerance: float = 0.0


EVERYTHING = Asked()

Key = tuple[str, str | None, str | None]
"""Quantity, kind and name."""


def compare(first: xr.DataTree, second: xr.DataTree, asked: Asked = EVERYTHING) -> list[Difference]:
    """Return how two traces differ: a row for each quantity and name that either of them holds.

    Where ticks are asked for, what has none is left out.
    """
    mine, others = (_by_key(tree, asked) for tree in (first, second))
    rows: dict[Key, Difference] = {key: Difference(*key, note="only in the first") for key in mine}
    rows |= {key: Difference(*key, note="only in the second") for key in others if key not in mine}
    pairs: dict[tuple[int, int], list[Key]] = {}
    for key in mine.keys() & others.keys():
        pairs.setdefault((id(mine[key]), id(others[key])), []).append(key)
    for keys in pairs.values():
        rows |= _compared(mine[keys[0]], others[keys[0]], keys, asked)
    return list(rows.values())


def _by_key(tree: xr.DataTree, asked: Asked) -> dict[Key, Entry]:
    known = [entry for entry in entries(tree) if asked.ticks is None or "tick" in entry.array.dims]
    return {(e.quantity, e.kind, name): e for e in known for name in (e.names or (None,))}


def _compared(mine: Entry, other: Entry, keys: Sequence[Key], asked: Asked) -> dict[Key, Difference]:
    a, b = (_selected(entry, [key[2] for key in keys]) for entry in (mine, other))
    if "tick" in a.dims and "tick" in b.dims:
        common = np.intersect1d(a.coords["tick"].values, b.coords["tick"].values)
        if asked.ticks is not None:
            common = np.array([tick for tick in common.tolist() if asked.ticks.holds(tick)], common.dtype)
        a, b = a.sel(tick=common), b.sel(tick=common)
    if a.shape != b.shape:
        note = f"shapes {mine.array.shape[2:]} and {other.array.shape[2:]}"
        return {key: Difference(*key, note=note) for key in keys}
    if a.shape[:1] == (0,):
        return {key: Difference(*key, note="no common tick") for key in keys}
    return _measured(a, b, keys, asked.tolerance)


def _selected(entry: Entry, names: list[str | None]) -> xr.DataArray:
    if entry.dim is None:
        return entry.array
    positions = {name: number for number, name in enumerate(entry.names)}
    return entry.array.isel({entry.dim: [positions[str(name)] for name in names]})


def _measured(a: xr.DataArray, b: xr.DataArray, keys: Sequence[Key], tolerance: float) -> dict[Key, Difference]:
    absolute, relative, differs = np.zeros(len(keys)), np.zeros(len(keys)), np.zeros(len(keys), bool)
    since: dict[int, int | None] = {}
    for (ticks, x), (_, y) in zip(blocks(a), blocks(b), strict=True):
        shape = (len(ticks), len(keys), -1)
        apart, ratio, off = _apart(x.reshape(shape), y.reshape(shape), tolerance)
        for column in np.flatnonzero(off.any(0)):
            since.setdefault(int(column), ticks[int(off[:, column].argmax())])
        absolute, relative = np.maximum(absolute, apart.max(0)), np.maximum(relative, ratio.max(0))
        differs |= off.any(0)
    return {
        key: Difference(*key, float(absolute[n]), float(relative[n]), since.get(n), equal=not differs[n])
        for n, key in enumerate(keys)
    }


def _apart(x: np.ndarray, y: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the greatest absolute and relative difference by (tick, name), and whether a number is beyond tolerance.

    A lone NaN is infinitely far.
    """
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(all="ignore"):
        gap = np.where(same, 0.0, np.nan_to_num(np.abs(x - y), nan=np.inf, posinf=np.inf))
        ratio = np.where(same, 0.0, np.nan_to_num(gap / np.maximum(np.abs(x), np.abs(y)), nan=np.inf))
    off = ~same & (((gap > tolerance) & (ratio > tolerance)) | (tolerance == 0))
    return gap.max(2, initial=0), ratio.max(2, initial=0), off.any(2)
