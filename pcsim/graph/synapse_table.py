"""The synapses of a population as a table: a row for each, in the order of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import nearest, wrong
from pcsim.graph.initialise import initialise
from pcsim.ops.synapses.connect import grids_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

    from pcsim.graph.graph import Edge, Graph, Vertex
    from pcsim.ops.synapses.synapse import Synapses

Columns = dict[str, np.ndarray]
"""(synapses,) by name."""

_AXES = ("x", "y", "z")
_UNITS = {
    "value_delay": {"units": "ticks"},
    "error_delay": {"units": "ticks"},
    "distance": {"units": "extents of the grid"},
}
_KNOWN_STARTS = ("connect", "values", "constant")
"""How a weight may start that no seed decides."""


def synapses(graph: Graph, vertex: str, parameters: Mapping[str, np.ndarray] | None = None) -> xr.Dataset:
    """Return the synapses of a population.

    Parameters
    ----------
    vertex : a population, that is, a vertex whose op is ``projection``
    parameters : {parameter: (*shape)}, such as ``pcsim.parameters(scenario)`` or ``run.parameters``; weights are
        taken from them. Without them there are weights only where no seed decides how they start.

    Returns
    -------
    xarray.Dataset
        Dimension ``synapse``, a row for each, in the order of the weights; ``.to_dataframe()`` makes a table of it.
        ``pre`` and ``post`` are the neurons; ``value_delay`` and ``error_delay`` ticks, those of the edge included;
        ``slot`` the edge that carries the synapse, by its place in ``attrs["edges"]``; ``weight`` where it is known.
        Where neurons are on grids, ``pre_x``, ``post_x``, ... are their coordinates and ``distance`` how far apart
        they are, where 1 is the extent.

    Raises
    ------
    InputError
        Where there is no such population.
    """
    import xarray as xr

    found = _population(graph, vertex)
    columns = synapse_columns(graph, vertex)
    if (weight := _weight(graph, graph.vertices[vertex], parameters)) is not None:
        columns["weight"] = weight
    columns |= _positions(graph.vertices[vertex], found)
    attrs = {"population": vertex, "edges": [line.name for line in graph.incoming[vertex]]}
    variables = {name: ("synapse", column, _UNITS.get(name, {})) for name, column in columns.items()}
    return xr.Dataset(variables, attrs=attrs)


def synapse_columns(graph: Graph, vertex: str) -> Columns:
    """Return neuron before, neuron after, the edge that carries the synapse, and the ticks of each synapse."""
    found = _population(graph, vertex)
    kind = np.searchsorted(found.delays, found.delay)
    delays = [_delays_of(graph, line) for line in graph.incoming[vertex]]
    value, error = (np.array([pair[way] for pair in delays], np.int32) for way in (0, 1))
    return {
        "pre": found.pre,
        "post": found.post,
        "value_delay": value[kind],
        "error_delay": error[kind],
        "slot": kind.astype(np.int32),
    }


def synapse_notes(graph: Graph) -> list[str]:
    """Return what a reader should know of the files that synapses are from: what of them is left out."""
    found = (graph.vertices[name].call["synapses"] for name in populations(graph))
    return list(dict.fromkeys(note for every in found for note in every.notes))


def populations(graph: Graph) -> list[str]:
    """Return the vertices that have synapses."""
    return [name for name, vertex in graph.vertices.items() if "synapses" in vertex.op.attributes]


def _population(graph: Graph, vertex: str) -> Synapses:
    there = populations(graph)
    if vertex not in there:
        message = f"there is no vertex {vertex!r}"
        if vertex in graph.vertices:
            message = f"{vertex!r} has op {graph.vertices[vertex].op.name!r}, and only op 'projection' has synapses"
        raise wrong("vertex", message + nearest(vertex, there))
    found: Synapses = graph.vertices[vertex].call["synapses"]
    return found


def _delays_of(graph: Graph, line: Edge) -> tuple[int, int]:
    """Return the ticks of values and of errors over an edge; where identity vertices split it, of all its parts."""
    parts = [line] if line.key == (line.post, line.slot) else [edge for edge in graph.edges if edge.key == line.key]
    return sum(part.value_delay for part in parts), sum(part.error_delay for part in parts)


def _weight(graph: Graph, vertex: Vertex, parameters: Mapping[str, Any] | None) -> np.ndarray | None:
    name = dict(vertex.params)["weight"]
    if parameters is not None:
        if name not in parameters:
            raise wrong("parameters", f"there is no parameter {name!r}" + nearest(name, parameters))
        weight = np.asarray(parameters[name])
        if weight.shape != graph.parameters[name].shape:
            message = f"{name!r} has shape {list(weight.shape)}, expected {list(graph.parameters[name].shape)}"
            raise wrong("parameters", message)
        return weight
    known = graph.parameters[name].init[0] in _KNOWN_STARTS
    return initialise(graph, 0, names=[name])[name] if known else None


def _positions(vertex: Vertex, found: Synapses) -> Columns:
    grids = grids_of(vertex.call["connect"], vertex.call["delays"], found.fan_out, found.units)
    if grids is None:
        return {}
    before, after = grids.positions("before", found.pre), grids.positions("after", found.post)
    named = {f"pre_{axis}": column for axis, column in zip(_AXES, before, strict=False)}
    named |= {f"post_{axis}": column for axis, column in zip(_AXES, after, strict=False)}
    return named | {"distance": grids.distances(found.pre, found.post)}
