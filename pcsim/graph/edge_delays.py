"""Delays for the edges of a graph: drawn from distributions, from distances in space, from hops on a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import InputError, Problem, nearest, wrong
from pcsim.graph.initialise import stream
from pcsim.graph.names import chosen
from pcsim.ops.attributes import MOST_TICKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import networkx as nx

    from pcsim.graph.graph import Edge, Graph


@dataclass(frozen=True)
class DelayDistribution:
    """One distribution that delays are drawn from."""

    name: str
    summary: str
    draw: Callable[[np.random.Generator, Any], float]
    fits: Callable[[Any], bool]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value) and value >= 0


def _pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_number, value))


DISTRIBUTIONS = {
    row.name: row
    for row in (
        DelayDistribution("uniform", "whole ticks, equally likely: [least, most]",
                          lambda rng, given: float(rng.integers(given[0], given[1], endpoint=True)),
                          lambda given: _pair(given) and given[0] <= given[1]),
        DelayDistribution("normal", "[mean, standard deviation], rounded to whole ticks, 0 or more",
                          lambda rng, given: rng.normal(*given), _pair),
        DelayDistribution("exponential", "the mean, rounded to whole ticks",
                          lambda rng, given: rng.exponential(given), _number),
    )
}  # fmt: skip
"""What ``drawn_delays`` and the key ``delays`` of a scenario draw from."""


def with_delays(graph: Graph, ticks: Mapping[str, int], ways: Iterable[str] = ("value", "error")) -> Graph:
    """Return a graph with other delays on some edges.

    Parameters
    ----------
    ticks : {edge such as ``h1->h2``: delay in ticks}
    ways : ``value``, ``error``, or both: which messages travel so long

    Raises InputError for edges that there are none of, edges from parameters, and delays that are none.
    """
    both = set(ways)
    known = {edge.name: edge for edge in _delayable(graph)}
    problems = [Problem((name,), "is no edge that may have a delay" + nearest(name, known))
                for name in ticks if name not in known]  # fmt: skip
    problems += [
        Problem((name,), f"expected a whole number of ticks from 0 to {MOST_TICKS}, got {value!r}")
        for name, value in ticks.items()
        if not (float(value).is_integer() and 0 <= value <= MOST_TICKS)
    ]
    if problems:
        raise InputError(problems)
    return replace(graph, edges=tuple(_with_delay(edge, ticks.get(edge.name), both) for edge in graph.edges))


def _with_delay(edge: Edge, ticks: int | None, ways: set[str]) -> Edge:
    if ticks is None:
        return edge
    value, error = (int(ticks) if way in ways else old
                    for way, old in (("value", edge.value_delay), ("error", edge.error_delay)))  # fmt: skip
    return replace(edge, value_delay=value, error_delay=error)


def _delayable(graph: Graph) -> list[Edge]:
    return [edge for edge in graph.edges if graph.vertices[edge.pre].op.role != "parameter"]


def drawn_delays(graph: Graph, delays: Mapping[str, Any], seed: int = 0) -> dict[str, int]:
    """Return {edge: ticks}, drawn for each edge by its name and the seed.

    Parameters
    ----------
    delays : {edge or pattern such as ``h*->*``: ticks, or {distribution: what it takes} such as {"uniform": [0, 4]}}

    A later pattern replaces an earlier one. Raises InputError for patterns that match nothing, and for what is no
    distribution.
    """
    names, found, problems = [edge.name for edge in _delayable(graph)], dict[str, int](), list[Problem]()
    for pattern, given in delays.items():
        here = chosen(pattern, names)
        if not here:
            problems.append(
                Problem((pattern,), "no edge that may have a delay has this name" + nearest(pattern, names))
            )
        elif fault := _fault(given):
            problems.append(Problem((pattern,), fault))
        else:
            found |= {name: _drawn(given, stream(seed, "delay", name)) for name in here}
    if problems:
        raise InputError(problems)
    return found


def _fault(given: Any) -> str:
    """Return what is wrong with a delay, or with what it is drawn from; empty where nothing is."""
    if isinstance(given, int) and not isinstance(given, bool):
        return ""
    if not isinstance(given, Mapping) or len(given) != 1:
        return f"expected ticks, or one of {', '.join(DISTRIBUTIONS)} with what it takes, got {given!r:.60}"
    name, value = next(iter(given.items()))
    if name not in DISTRIBUTIONS:
        return f"unknown distribution {name!r}" + nearest(str(name), DISTRIBUTIONS)
    row = DISTRIBUTIONS[name]
    return "" if row.fits(value) else f"{name} takes {row.summary}; got {value!r:.60}"


def _drawn(given: Any, rng: np.random.Generator) -> int:
    if not isinstance(given, Mapping):
        return int(given)
    name, value = next(iter(given.items()))
    return int(np.clip(np.rint(DISTRIBUTIONS[name].draw(rng, value)), 0, MOST_TICKS))


def delays_by_distance(
    graph: Graph, places: Mapping[str, Sequence[float]], ticks_per_unit: float = 1.0, *, along_axes: bool = False
) -> dict[str, int]:
    """Return {edge: ticks} of edges whose ends have places: the distance times ``ticks_per_unit``, rounded.

    ``places`` are {vertex: coordinates}; ``along_axes`` takes the sum of distances along the axes, as on a grid of
    wires, in place of the straight line.
    """
    found = {}
    for edge in _placed(graph, places):
        apart = np.subtract(places[edge.pre], places[edge.post]).astype(np.float64)
        length = np.abs(apart).sum() if along_axes else np.linalg.norm(apart)
        found[edge.name] = int(np.rint(length * ticks_per_unit))
    return found


def delays_by_hops(
    graph: Graph, places: Mapping[str, Any], network: nx.Graph[Any], ticks_per_hop: float = 1.0
) -> dict[str, int]:
    """Return {edge: ticks} of edges whose ends lie on nodes of a network (a chip's cores): shortest paths, in hops.

    ``places`` are {vertex: node}. Raises InputError for nodes that the network has not, or that no path joins.
    """
    import networkx as nx

    edges = _placed(graph, places)
    if missing := sorted({str(places[name]) for edge in edges for name in (edge.pre, edge.post)
                          if places[name] not in network}):  # fmt: skip
        raise wrong("places", f"the network has no node {missing[0]!r}")
    hops = {node: nx.single_source_shortest_path_length(network, node) for node in {places[edge.pre] for edge in edges}}
    for edge in edges:
        if places[edge.post] not in hops[places[edge.pre]]:
            raise wrong("places", f"no path joins the nodes of {edge.name}")
    return {edge.name: int(np.rint(hops[places[edge.pre]][places[edge.post]] * ticks_per_hop)) for edge in edges}


def _placed(graph: Graph, places: Mapping[str, Any]) -> list[Edge]:
    """Return the edges both of whose ends have a place; raises InputError for places of vertices that there are not."""
    problems = [Problem(("places", name), "there is no such vertex" + nearest(name, graph.vertices))
                for name in places if name not in graph.vertices]  # fmt: skip
    if problems:
        raise InputError(problems)
    return [edge for edge in _delayable(graph) if edge.pre in places and edge.post in places]
