"""Norms of errors from a trace that holds the errors themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.squares import squares_of
from pcsim.graph.levels import vertex_levels
from pcsim.trace.entries import blocks, entries

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

    from pcsim.graph.graph import Graph
    from pcsim.trace.entries import Entry


def recorded_norms(tree: xr.DataTree, graph: Graph | None) -> xr.DataArray | None:
    """Return the norm of each vertex's error: as it was recorded, and else from the errors that were recorded.

    A norm is taken over the units of a vertex and over the batch, as runs record it.

    Returns
    -------
    dims (tick, vertex), coords tick, vertex and, with a graph, level (-1: reaches no output); None where neither
    was recorded
    """
    known = [entry for entry in entries(tree) if entry.array.size]
    norm = next((entry.array for entry in known if entry.quantity == "norm"), None)
    errors = [entry for entry in known if entry.quantity == "error"]
    if norm is None and not errors:
        return None
    kept = errors[0].array if norm is None else norm
    rows = {} if norm is None else dict(zip(names_of(norm), norm.transpose("vertex", "tick").to_numpy(), strict=True))
    given = len(rows)
    for entry in errors:
        if not rows.keys() >= set(entry.names) and np.array_equal(entry.array["tick"], kept["tick"]):
            rows = {**_norms(entry), **rows}
    return norm if len(rows) == given else _array(rows, kept["tick"].to_numpy(), graph)


def names_of(series: xr.DataArray) -> list[str]:
    """Return the vertices that a series is of."""
    return [str(name) for name in series["vertex"].to_numpy()]


def _norms(entry: Entry) -> dict[str, np.ndarray]:
    """Return the norms of the errors of one shape, by vertex: (ticks,)."""
    found = []
    with np.errstate(over="ignore", invalid="ignore"):
        for ticks, block in blocks(entry.array):
            rows = block.reshape(len(ticks) * len(entry.names), -1)
            found.append(np.sqrt(squares_of(np, rows)).reshape(len(ticks), -1))
    return dict(zip(entry.names, np.concatenate(found).T, strict=True))


def _array(rows: Mapping[str, np.ndarray], ticks: np.ndarray, graph: Graph | None) -> xr.DataArray:
    import xarray as xr

    names = list(rows) if graph is None else [name for name in graph.vertices if name in rows]
    coords = {"tick": ticks, "vertex": names}
    found = xr.DataArray(np.stack([rows[name] for name in names], axis=1), dims=("tick", "vertex"), coords=coords)
    if graph is None:
        return found
    levels = vertex_levels(graph)
    return found.assign_coords(level=("vertex", [-1 if (level := levels[name]) is None else level for name in names]))
