"""The answers of ``pcsim trace``, as plain rows: what a vertex held, what crossed an edge, and when."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.documents.scalars import plain_scalar
from pcsim.errors import nearest, whole, wrong
from pcsim.trace.entries import Entry, arrival_ticks, blocks, entries, first_arrival, how_to_record, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import xarray as xr

FEW = 16
"""Numbers that a row still shows one by one."""


@dataclass(frozen=True)
class Row:
    """One quantity at one tick.

    ``norm`` is Euclidean over all that was recorded; ``values`` is nested lists, where there are few.
    """

    tick: int
    what: str
    name: str | None
    kind: str | None
    min: float
    max: float
    norm: float
    values: Any = None

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Ticks:
    """Ticks ``first`` to ``last``, both included; ``None`` is open."""

    first: int | None = None
    last: int | None = None

    @property
    def label(self) -> slice:
        """The same, as xarray selects by label."""
        return slice(self.first, self.last)

    def holds(self, tick: int) -> bool:
        """Return whether a tick is one of these."""
        return (self.first or 0) <= tick and (self.last is None or tick <= self.last)


def parse_ticks(text: str | int) -> Ticks:
    """Return the ticks that a text such as ``7``, ``3:9``, ``:9`` or ``3:`` names, or a number; ends are included.

    >>> parse_ticks("3:9"), parse_ticks("7")
    (Ticks(first=3, last=9), Ticks(first=7, last=7))

    Raises
    ------
    InputError
        If the text is none of these.
    """
    first, colon, last = text.partition(":") if isinstance(text, str) else (text, "", "")
    try:
        ends = [_tick(end) for end in (first, last if colon else first)]
    except ValueError:
        ends = []
    if not ends or (ends[0] is None and not colon):
        raise wrong("tick", f"got {text!r}; expected a tick or a range of ticks: 7, 3:9, :9 or 3:")
    ticks = Ticks(*ends)
    if ticks.first is not None and ticks.last is not None and ticks.last < ticks.first:
        raise wrong("tick", f"got {text!r}, which ends before it begins; expected {ticks.last}:{ticks.first}")
    return ticks


def _tick(end: Any) -> int | None:
    """Return one end of a range, a number or a text; None where it is left open. Raises ValueError where it is none."""
    if isinstance(end, str):
        if not (word := end.strip()):
            return None
        end = int(word) if word.isascii() and word.isdecimal() else plain_scalar(word)
    if (tick := whole(end)) < 0:
        raise ValueError("expected a tick, 0 or more")
    return tick


def overview(tree: xr.DataTree, arrived: Mapping[str, int | None] | None = None) -> dict[str, Any]:
    """Return what there is without a question: what was recorded, and when the errors first arrived.

    Parameters
    ----------
    arrived : the first arrivals, where they were measured tick by tick; else they are read from the trace,
        and ``first_arrival_note`` says how well it knows
    """
    first = first_arrival(tree) if arrived is None else dict(arrived)
    note = _arrival_note(arrival_ticks(tree)) if arrived is None else ""
    return {"recorded": recorded(tree), "first_arrival": first, "first_arrival_note": note}


NO_TICK = "no tick was recorded"


def _arrival_note(ticks: Mapping[str, list[int]]) -> str:
    """Return how coarse the recordings are in which arrivals were sought; nothing where they are not."""
    if any(not known for known in ticks.values()):
        return NO_TICK
    if any(len(known) == 1 for known in ticks.values()):
        return "to the one tick that was recorded"
    steps = sorted({known[1] - known[0] for known in ticks.values()})
    return f"to the recorded ticks, every {' or '.join(map(str, steps))}" if steps and steps[-1] > 1 else ""


def ask(
    tree: xr.DataTree,
    *,
    ticks: Ticks | int | str | None = None,
    vertex: str | None = None,
    edge: str | None = None,
    kind: str | None = None,
) -> list[Row]:
    """Return what a vertex held, or what crossed an edge, tick by tick.

    Parameters
    ----------
    ticks : a tick, or a range, also as a text; all by default
    vertex : every quantity recorded of it, or the updates of the parameter of that name; with ``kind``, only that one
    edge : every message recorded on it; with ``kind`` (``value`` or ``error``), only those
    kind : of everything recorded, when neither is given

    Raises
    ------
    InputError
        If nothing that was recorded answers; the message says what was.
    """
    span = ticks if isinstance(ticks, Ticks) else Ticks() if ticks is None else parse_ticks(ticks)
    chosen = _chosen(tree, vertex, edge, kind)
    rows = [row for entry, name in chosen for row in _rows(entry, name, span)]
    if not rows:
        raise wrong("tick", _no_rows(span, [entry for entry, _ in chosen]))
    return sorted(rows, key=lambda row: row.tick)


Choice = tuple[Entry, str | None]
"""A variable, and the one name that is asked for (``None``: all of them)."""


def _chosen(tree: xr.DataTree, vertex: str | None, edge: str | None, kind: str | None) -> list[Choice]:
    known = [entry for entry in entries(tree) if "tick" in entry.array.dims]
    found: list[Choice] = []
    if vertex is not None:
        found += _named([entry for entry in known if entry.dim in ("vertex", "parameter")], "vertex", vertex, kind)
    if edge is not None:
        found += _named([entry for entry in known if entry.dim == "edge"], "edge", edge, kind)
    return found or _unnamed(known, kind)


def _named(known: list[Entry], dim: str, name: str, kind: str | None) -> list[Choice]:
    fitting = [entry for entry in known if kind in (None, _kind(entry))]
    found: list[Choice] = [(entry, name) for entry in fitting if name in entry.names]
    if not found:
        names = sorted({other for entry in fitting for other in entry.names})
        said = f"nothing{f' of kind {kind!r}' if kind else ''} was recorded of {dim} {name!r}"
        guess = nearest(name, names) if names else ""
        what = "message" if dim == "edge" else kind or "value, error, update"
        raise wrong(dim, f"{said}{guess}; {how_to_record(what)}")
    return found


def _unnamed(known: list[Entry], kind: str | None) -> list[Choice]:
    found: list[Choice] = [(entry, None) for entry in known if kind in (None, _kind(entry))]
    if not found:
        raise wrong("kind", f"nothing of kind {kind!r} was recorded{nearest(str(kind), set(map(_kind, known)))}")
    return found


def _kind(entry: Entry) -> str:
    return entry.kind or entry.quantity


def _rows(entry: Entry, name: str | None, span: Ticks) -> Iterator[Row]:
    names = entry.names if name is None else (name,)
    array = entry.array.sel(tick=span.label)
    if entry.dim and name is not None:
        array = array.isel({entry.dim: [entry.names.index(name)]})
    for ticks, block in blocks(array):
        yield from _block_rows(entry, names or (None,), ticks, block)


def _block_rows(entry: Entry, names: tuple[str | None, ...], ticks: list[int], block: np.ndarray) -> Iterator[Row]:
    """Yield the rows of a block, (tick, name, ...); numbers beyond the format show as they are."""
    block = block.reshape(len(ticks), len(names), *block.shape[2:])
    axes = tuple(range(2, block.ndim))
    with np.errstate(all="ignore"):
        low, high = block.min(axes, initial=np.inf), block.max(axes, initial=-np.inf)
        norm = np.sqrt(np.square(block).sum(axes))
    few = block[0, 0].size <= FEW
    for i, j in np.ndindex(norm.shape):
        values = block[i, j].tolist() if few else None
        found = float(low[i, j]), float(high[i, j]), float(norm[i, j])
        yield Row(ticks[i], entry.quantity, names[j], entry.kind, *found, values)


def _said(span: Ticks) -> str:
    return f"{0 if span.first is None else span.first} to {'the last' if span.last is None else span.last}"


def _no_rows(span: Ticks, found: list[Entry]) -> str:
    held = [entry.array.coords["tick"].values for entry in found]
    ends = [int(tick) for ticks in held if ticks.size for tick in (ticks[0], ticks[-1])]
    if not ends:
        return NO_TICK
    return f"no tick from {_said(span)} was recorded; recorded: ticks {min(ends)} to {max(ends)}"
