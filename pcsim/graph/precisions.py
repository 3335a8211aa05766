"""Precisions that change from run to run: the same graph, with others."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pcsim.errors import Problem, nearest
from pcsim.graph.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Array = np.ndarray

_SAME = tuple(name for name, row in vars(Graph).items() if isinstance(row, cached_property))
"""What is worked out of a graph and does not depend on precisions."""


def with_precisions(graph: Graph, precisions: Mapping[str, Array]) -> Graph:
    """Return the graph with other precisions, {vertex: () or (*shape)}, which sessions may change from run to run."""
    changed = {
        name: replace(graph.vertices[name], precision=_frozen(np.asarray(array, float)), precision_changes=True)
        for name, array in precisions.items()
    }
    new = replace(graph, vertices={**graph.vertices, **changed})
    known = vars(graph)
    vars(new).update({name: known[name] for name in _SAME if name in known})
    return new


def _frozen(array: Array) -> float | tuple[object, ...]:
    return float(array) if array.ndim == 0 else tuple(_frozen(row) for row in array)


def wrong_precisions(graph: Graph, precisions: Mapping[str, Array]) -> Iterator[Problem]:
    """Yield why a session on a graph cannot begin again with these precisions."""
    changing = [name for name, vertex in graph.vertices.items() if vertex.precision_changes]
    for name, array in precisions.items():
        if name not in changing:
            why = f"has a precision that stays, or none{nearest(name, changing)}"
            yield Problem(("precisions", name), f"{why}; make the session on with_precisions(graph, ...)")
            continue
        given, shape = np.asarray(array), graph.vertices[name].shape
        if given.dtype.kind not in "iuf" or not np.all((given > 0) & np.isfinite(given)):
            yield Problem(("precisions", name), "expected finite numbers above 0")
        elif given.shape not in ((), shape):
            yield Problem(("precisions", name), f"has shape {list(given.shape)}, expected [] or {list(shape)}")
