"""The space-time figure: each error message as a stroke from where and when it was sent to where and when it acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pcsim.graph.levels import vertex_levels
from pcsim.view.heat import cone_line, places_of
from pcsim.view.scales import whole_numbers, whole_ticks
from pcsim.view.style import legend_below, look, new_axes, remark, some

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    from pcsim.graph.graph import Graph

Array = np.ndarray

LEAST_TICKS = 40
FRONTS = 3
"""Shown are the first ``LEAST_TICKS`` ticks, or, if that is more, so many times what the first error takes."""

MOST_STROKES = 6_000
"""Beyond, only the messages of every so many ticks are drawn."""


@dataclass(frozen=True)
class Strokes:
    """Messages with errors other than zero, drawn alike where levels, delay and tick are the same.

    Attributes
    ----------
    ends : (strokes, 2, 2), tick and level where sent, tick and level where it acts: one tick after it arrives
    norms : (strokes,), the largest norm of the errors that were sent
    every : messages sent at every so many ticks
    """

    ends: Array
    norms: Array
    every: int


@look()
def space_time(norm: xr.DataArray, graph: Graph, cone: Mapping[int, int] | None = None, title: str = "") -> Figure:
    """Draw distance from the outputs against tick, error messages as strokes.

    Parameters
    ----------
    norm : norms of the errors, dims (tick, vertex), coords tick and vertex
    graph : its edges carry the messages; levels are longest distances to an output, in ticks
    cone : the first tick at which a level's error can differ from zero; drawn as a line
    """
    levels = vertex_levels(graph)
    highest = max((level for name, level in levels.items() if level is not None and name in graph.active), default=0)
    recorded = norm["tick"].to_numpy()
    shown = recorded[recorded <= recorded[0] + max(LEAST_TICKS, FRONTS * highest)]
    strokes = strokes_of(norm.sel(tick=shown), graph)
    figure, axes = new_axes(3.4, title)
    drawn = _draw(axes, strokes)
    if drawn is not None:
        label = "log₁₀ of the norm of the error sent"
        bar = figure.colorbar(drawn, ax=axes, label=label, ticks=places_of(*drawn.get_clim()), format=whole_numbers())
        bar.outline.set_visible(False)
    _axes(axes, shown, highest, f"the first {len(shown)} of {len(recorded)}" if len(shown) < len(recorded) else "")
    if strokes.every > 1:
        axes.set_title(f"{axes.get_title()}\nmessages of one recorded tick in {strokes.every}", parse_math=False)
    handles: list[Artist] = []
    if cone:
        known = [(tick - 0.5, level) for level, tick in sorted(cone.items())]  # left of the first messages
        handles.append(cone_line(axes, *np.array(known, float).T))
    if missing := _senders(graph) - set(map(str, norm["vertex"].to_numpy())):
        handles.append(remark(f"not recorded: the errors of {some(sorted(missing))}"))
    if np.isinf(norm.sel(tick=shown)).any():
        handles.append(remark("errors that are not finite are not drawn"))
    legend_below(figure, handles)
    return figure


def _senders(graph: Graph) -> set[str]:
    """Return the vertices whose errors are sent to a vertex that is free."""
    levels = vertex_levels(graph)
    return {edge.post for edge in graph.edges if levels[edge.post] is not None and edge.pre in graph.active}


def strokes_of(norm: xr.DataArray, graph: Graph) -> Strokes:
    """Return the error messages that were sent at the ticks of some norms."""
    levels, ticks = vertex_levels(graph), norm["tick"].to_numpy()
    columns = {str(name): number for number, name in enumerate(norm["vertex"].to_numpy())}
    data = norm.transpose("vertex", "tick").to_numpy().astype(float)
    kinds: dict[tuple[int, int, int], set[int]] = {}
    for edge in graph.edges:
        sender, receiver = levels[edge.post], levels[edge.pre]
        if sender is not None and receiver is not None and edge.post in columns and edge.pre in graph.active:
            kinds.setdefault((sender, receiver, edge.error_delay), set()).add(columns[edge.post])
    every = max(1, -(-len(kinds) * len(ticks) // MOST_STROKES))
    ends, norms = [np.zeros((0, 2, 2))], [np.zeros(0)]
    for (sender, receiver, delay), senders in kinds.items():
        largest = np.max(np.nan_to_num(data[sorted(senders)][:, ::every], nan=0.0, posinf=0.0), axis=0)
        sent = ticks[::every][largest > 0]
        low, high = np.full(len(sent), sender), np.full(len(sent), receiver)
        ends.append(np.stack([np.stack([sent, low], 1), np.stack([sent + delay + 1, high], 1)], 1))
        norms.append(largest[largest > 0])
    return Strokes(np.concatenate(ends), np.concatenate(norms), every)


def _draw(axes: Axes, strokes: Strokes) -> LineCollection | None:
    from matplotlib.collections import LineCollection

    if not len(strokes.norms):
        axes.text(0.5, 0.5, "no error was sent to a free vertex", transform=axes.transAxes, ha="center")
        return None
    logs = np.log10(strokes.norms)
    order = np.argsort(logs)  # the strongest on top
    low, high = (logs.min() - 0.5, logs.max() + 0.5) if logs.min() == logs.max() else (logs.min(), logs.max())
    lines = LineCollection(list(strokes.ends[order]), cmap="viridis_r", linewidths=0.9, rasterized=True)
    lines.set_array(logs[order])
    lines.set_clim(low, high)
    axes.add_collection(lines)
    return lines


def _axes(axes: Axes, ticks: Array, highest: int, part: str) -> None:
    from matplotlib.ticker import MaxNLocator

    whole_ticks(axes, ticks)
    axes.set_xlabel(f"tick ({part})" if part else "tick")
    axes.set_xlim(ticks[0] - 0.5, ticks[-1] + 1.5)
    axes.set_ylim(-0.3, highest + 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
    axes.set_ylabel("distance from the outputs (ticks)")
