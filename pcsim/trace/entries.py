"""Reads a trace: what was recorded, one series of it, and when errors arrived."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import InputError, nearest, wrong
from pcsim.trace.soundness import DAMAGED, check_folder, damaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import xarray as xr

    from pcsim.trace.memory_trace import MemoryTrace

SIDES = ("value", "error")
"""The kinds of message that cross an edge."""

STACKED = ("value", "prediction", "error", "message", "update", "learnt", "multiplier")
"""Quantities that are stacked by shape; all others are series."""

SYNAPSES = "synapses"
"""The node of what synapses are; nothing in it was recorded."""

QUANTITIES = (*STACKED[:-1], "energy", "norm", "divergence", STACKED[-1])
"""What a scenario can ask to be recorded, and what was learnt."""

BLOCK = 2**22
"""Numbers that are looked at in one go."""


@dataclass(frozen=True)
class Entry:
    """One variable of a trace: a quantity of things that have one shape."""

    quantity: str
    kind: str | None
    array: xr.DataArray

    @property
    def title(self) -> str:
        """The quantity, with its kind: ``error message``."""
        return f"{self.kind} {self.quantity}" if self.kind else self.quantity

    @property
    def dim(self) -> str | None:
        """The dimension along which names are, if there is one."""
        return next((str(dim) for dim in self.array.dims if dim != "tick" and dim in self.array.coords), None)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What it was recorded of; nothing for the energy."""
        return tuple(map(str, self.array.coords[self.dim].values)) if self.dim else ()

    def pick(self, name: str | None) -> xr.DataArray:
        """Return the part of one name."""
        return self.array if self.dim is None else self.array.isel({self.dim: self.names.index(str(name))})


def open_trace(store: Path | str | MemoryTrace) -> xr.DataTree:
    """Return a trace as a DataTree; from a folder it reads arrays when they are asked for.

    Raises
    ------
    InputError
        If there is no trace, or a file of it is missing or damaged.
    """
    if not isinstance(store, Path | str):
        return store.tree()
    import xarray as xr

    # zarr 3 takes a missing folder for an empty one
    if not (Path(store) / "zarr.json").is_file():
        raise wrong((), f"{store} is not a trace; expected a folder with zarr.json, as pcsim run --out leaves")
    check_folder(Path(store))
    try:
        return xr.open_datatree(store, engine="zarr")
    except DAMAGED as error:
        raise damaged(store, f"cannot be read ({type(error).__name__}: {str(error)[:80]})") from None


def numbers(array: xr.DataArray) -> np.ndarray:
    """Return the numbers of a part of a trace; raises InputError where its file is damaged."""
    try:
        return np.asarray(array.values)
    except DAMAGED as error:
        what = f"what was recorded as {str(array.name)!r}"
        raise damaged(what, f"cannot be read ({str(error)[:80]})") from None


def entries(tree: xr.DataTree) -> list[Entry]:
    """Return every variable of a trace."""
    found = []
    for node in tree.subtree:
        parts = node.path.strip("/").split("/")
        if parts[0] == SYNAPSES:
            continue
        for variable, array in node.data_vars.items():
            quantity = parts[0] if parts[0] in STACKED else str(variable)
            found.append(Entry(quantity, parts[1] if quantity == "message" else None, array))
    return found


def recorded(tree: xr.DataTree) -> dict[str, dict[str, Any]]:
    """Return what a trace holds, as plain data.

    Returns
    -------
    {quantity: {"names": [...], "ticks": {"first", "last", "every", "count"}}}
        Messages are the quantities ``value message`` and ``error message``; what has no ticks has ``None``.
    """
    found: dict[str, dict[str, Any]] = {}
    for entry in entries(tree):
        row = found.setdefault(entry.title, {"names": [], "ticks": _rhythm(entry.array)})
        row["names"] += entry.names
    return found


def _rhythm(array: xr.DataArray) -> dict[str, int] | None:
    if "tick" not in array.dims:
        return None
    ticks = array.coords["tick"].values.tolist()
    every = ticks[1] - ticks[0] if len(ticks) > 1 else 1
    ends = {"first": ticks[0], "last": ticks[-1]} if ticks else {"first": 0, "last": -1}
    return {**ends, "every": every, "count": len(ticks)}


def series(tree: xr.DataTree, quantity: str, name: str | None = None, kind: str | None = None) -> xr.DataArray:
    """Return one recorded series.

    Parameters
    ----------
    quantity : value, prediction, error, message, update, learnt, or a series such as norm or energy
    name : the vertex, the edge (``a->b``, ``a->b#1``) or the parameter; nothing for the energy
    kind : for messages, ``value`` or ``error``

    Returns
    -------
    xarray.DataArray
        Dimensions tick, then for what a vertex holds batch and the vertex's own axes.

    Raises
    ------
    InputError
        If it was not recorded; the message says what was, and how to record it.
    """
    known = entries(tree)
    if quantity == "message" and kind not in SIDES:
        raise wrong("kind", f"a message is of kind 'value' or 'error', not {kind!r}; say which")
    wanted = [entry for entry in known if _is(entry, quantity, kind)]
    for entry in wanted:
        if entry.dim is None or str(name) in entry.names:
            return entry.pick(name)
    raise _missing(known, wanted, quantity, name, kind)


def _is(entry: Entry, quantity: str, kind: str | None) -> bool:
    return entry.quantity == quantity and (entry.kind is None or entry.kind == kind)


def _missing(known: list[Entry], wanted: list[Entry], quantity: str, name: str | None, kind: str | None) -> InputError:
    title = f"{kind} {quantity}" if quantity == "message" else quantity
    names = list(dict.fromkeys(name for entry in wanted for name in entry.names))
    if quantity not in QUANTITIES and not wanted:
        return wrong("quantity", f"unknown quantity {quantity!r}{nearest(quantity, QUANTITIES)}")
    if not wanted:
        held = ", ".join(sorted({entry.title for entry in known})) or "nothing"
        return wrong((), f"no {title} was recorded; recorded: {held}; {how_to_record(quantity)}")
    if name is None:
        return wrong("name", f"{title} of which {wanted[0].dim}?{nearest('', names)}")
    said = f"{title} of {name!r} was not recorded{nearest(name, names)}"
    return wrong("name", f"{said}; {how_to_record(quantity)}")


def how_to_record(quantity: str, name: str | None = None) -> str:
    """Return the sentence that says how to have a quantity in the next trace, of all there is, or of one name."""
    if quantity == "learnt":
        return "it is kept when a run has ended"
    which = "" if quantity in ("update", "energy") else f", vertices: {'all' if name is None else _quoted(name)}"
    return f"to record it, add 'record: [{{what: [{quantity}]{which}}}]' to the scenario"


def _quoted(name: str) -> str:
    """Return a list of one name as YAML has it, in quotes where it might be read as something else."""
    plain = re.fullmatch(r"[A-Za-z_]\w*", name) and name.lower() not in _RESERVED
    return f"[{name if plain else json.dumps(name, ensure_ascii=False)}]"


_RESERVED = ("true", "false", "yes", "no", "on", "off", "null", "all")


def first_arrival(tree: xr.DataTree) -> dict[str, int | None]:
    """Return for each vertex the first recorded tick at which its error is not exactly zero.

    ``None`` says that it left zero at no recorded tick. Of the recorded errors and their norms, those count
    that were recorded at the most ticks, and else the errors; a trace with neither gives nothing.
    """
    chosen = _finest(tree)
    found: dict[int, dict[str, int | None]] = {id(entry): _arrivals(entry) for entry in _distinct(chosen.values())}
    return {name: found[id(entry)][name] for name, entry in chosen.items()}


def arrival_ticks(tree: xr.DataTree) -> dict[str, list[int]]:
    """Return for each vertex the recorded ticks among which ``first_arrival`` seeks."""
    chosen = _finest(tree)
    ticks = {id(entry): entry.array.coords["tick"].values.tolist() for entry in _distinct(chosen.values())}
    return {name: ticks[id(entry)] for name, entry in chosen.items()}


def _finest(tree: xr.DataTree) -> dict[str, Entry]:
    """Return for each vertex its errors or their norms, whichever has more ticks."""
    found: dict[str, Entry] = {}
    known = entries(tree)
    for entry in (entry for quantity in ("error", "norm") for entry in known if entry.quantity == quantity):
        for name in entry.names:
            if name not in found or entry.array.sizes["tick"] > found[name].array.sizes["tick"]:
                found[name] = entry
    return found


def _distinct(chosen: Iterable[Entry]) -> list[Entry]:
    return list({id(entry): entry for entry in chosen}.values())


def _arrivals(entry: Entry) -> dict[str, int | None]:
    """Look only until every vertex has its tick."""
    first: dict[str, int | None] = dict.fromkeys(entry.names)
    for ticks, block in blocks(entry.array):
        late = [number for number, tick in enumerate(first.values()) if tick is None]
        alive = (block[:, late].reshape(len(ticks), len(late), math.prod(block.shape[2:])) != 0).any(2)
        for column in np.flatnonzero(alive.any(0)):
            first[entry.names[late[column]]] = ticks[alive[:, column].argmax()]
        if None not in first.values():
            break
    return first


def blocks(array: xr.DataArray) -> Iterator[tuple[list[Any], np.ndarray]]:
    """Yield (ticks, numbers) a few ticks at a time, so that a long trace need not fit in memory.

    What has no ticks is one block, of the tick ``None``.
    """
    if "tick" not in array.dims:
        yield [None], numbers(array)[None]
        return
    ticks = array.coords["tick"].values.tolist()
    step = max(1, BLOCK // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(ticks), step):
        yield ticks[start : start + step], numbers(array[start : start + step])
