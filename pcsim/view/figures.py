"""Every figure of a run, drawn and saved in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.analysis.recorded_norms import recorded_norms
from pcsim.errors import wrong
from pcsim.graph.levels import light_cone, vertex_levels
from pcsim.run.evaluation import criterion_of
from pcsim.run.provenance import scenario_of
from pcsim.trace.entries import how_to_record, numbers, recorded
from pcsim.view.curves import convergence, norms, series_figure
from pcsim.view.drawing import drawing
from pcsim.view.heat import heat_map
from pcsim.view.space_time import space_time
from pcsim.view.style import save
from pcsim.view.ticks import Point, ticks_against

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import xarray as xr
    from matplotlib.figure import Figure

    from pcsim.graph.graph import Graph
    from pcsim.run.result import Run

__all__ = [
    "Point",
    "cone_by_level",
    "convergence",
    "drawing",
    "heat_map",
    "norms",
    "not_drawn",
    "plot_run",
    "run_figures",
    "series_figure",
    "ticks_against",
]


NEEDS = {
    "convergence": "divergence", "errors": "norm", "heat-map": "norm", "space-time": "norm", "energy": "energy",
}  # fmt: skip
"""The series that each figure of a run shows."""


def run_figures(run: Run, folder: Path) -> list[Path]:
    """Draw every figure that a run allows; return the files."""
    scenario = scenario_of(run)
    criterion, tolerance = criterion_of(scenario)
    return plot_run(
        run.trace,
        scenario.levelled,
        folder,
        run.manifest["title"] or "run",
        tolerance=tolerance if criterion == "gradient" else None,
        moving=scenario.rule.moving,
        sweeps=scenario.rule.sweeps,
    )


def not_drawn(run: Run) -> str:
    """Return which figures of a run are missing and what to record for them; nothing where all are there."""
    known = recorded(run.trace)
    held = {what for what, entry in known.items() if entry["ticks"] is None or entry["ticks"]["count"]}
    held |= {"norm"} if "error" in held else set()
    missing = [name for name, what in NEEDS.items() if what not in held]
    if not missing:
        return ""
    wanted = list(dict.fromkeys(NEEDS[name] for name in missing))
    said = f"not drawn: {', '.join(missing)}"
    if set(wanted) <= set(known):
        return f"{said}: no tick of {' and '.join(wanted)} was recorded"
    return f"{said}; {how_to_record(', '.join(wanted))}"


def plot_run(
    tree: xr.DataTree,
    graph: Graph | None,
    out: Path,
    title: str,
    *,
    tolerance: float | None = None,
    moving: bool = True,
    sweeps: bool = False,
) -> list[Path]:
    """Draw all that a run recorded, as PNG and SVG in ``out``; return the paths.

    Parameters
    ----------
    tree : its node ``series`` may hold energy (tick), and norm, divergence, theory (tick, vertex); norms that it lacks
        are taken from errors that it holds
    graph : drawn, and gives the light cone of the heat map
    tolerance : of the difference from backprop, shown in ``convergence``; None where a run follows another criterion
    moving, sweeps : whether predictions moved, and whether each tick was a sweep, on which the light cone depends;
        True and False bound every other rule

    Raises InputError where there is nothing to draw.
    """
    cone = None if graph is None else cone_by_level(graph, moving=moving, sweeps=sweeps)
    figures = _figures(_series(tree, graph), graph, title, tolerance, cone)
    if not figures:
        raise wrong(
            "series",
            "there is nothing to draw: the run recorded no series (energy, norm, divergence) "
            "and no graph was given; run it again with a 'record' entry",
        )
    return [path for name, draw in figures.items() for path in save(draw(), out / name)]


def _series(tree: xr.DataTree, graph: Graph | None) -> dict[str, xr.DataArray]:
    """Return the series that hold at least one tick (and one vertex)."""
    node = tree.children.get("series")
    found = {} if node is None else {str(name): array for name, array in node.to_dataset().items()}
    for array in found.values():
        numbers(array)  # which are kept with the array
    norm = recorded_norms(tree, graph)
    found |= {} if norm is None else {"norm": norm}
    return {name: array for name, array in found.items() if array.size}


def _figures(
    series: Mapping[str, xr.DataArray],
    graph: Graph | None,
    title: str,
    tolerance: float | None,
    cone: Mapping[int, int] | None,
) -> dict[str, Callable[[], Figure]]:
    """Return how to draw each figure that these series allow, by the name of its files."""
    norm, divergence, theory = (series.get(name) for name in ("norm", "divergence", "theory"))
    found: dict[str, Callable[[], Figure]] = {}
    if divergence is not None:
        found["convergence"] = lambda: convergence(divergence, tolerance, title, theory)
    if norm is not None:
        found["errors"] = lambda: norms(norm, title)
    if norm is not None and "level" in norm.coords and (norm["level"] >= 0).any():
        found["heat-map"] = lambda: heat_map(norm, cone, title)
    if norm is not None and graph is not None and graph.edges:
        found["space-time"] = lambda: space_time(norm, graph, cone, title)
    if "energy" in series:
        found["energy"] = lambda: series_figure(series["energy"], title)
    return found if graph is None else found | {"graph": lambda: drawing(graph)}


def cone_by_level(graph: Graph, *, moving: bool, sweeps: bool = False) -> dict[int, int]:
    """Return the first tick at which the error of any vertex of a level can differ from zero: 1 at most in sweeps."""
    levels, first = vertex_levels(graph), light_cone(graph, moving=moving)
    cone: dict[int, int] = {}
    for name, tick in first.items():
        level = levels[name]
        if level is not None and tick is not None:
            cone[level] = min(tick, 1) if sweeps else min(tick, cone.get(level, tick))
    return cone
