"""Attributes of networkx graphs as text, for files that hold numbers and text only, such as GraphML and GML."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from pcsim.errors import wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STRUCTURED = frozenset({"attributes", "params", "shape", "precision", "init", "part_of", "outputs", "parameters"})
"""What may be lists or mappings."""


def with_text(graph: Any) -> Any:
    """Return a networkx graph with lists and mappings among its attributes as JSON text."""
    return _each(graph, lambda data: {key: _written(value) for key, value in data.items()})


def without_text(graph: Any) -> Any:
    """Return a networkx graph with the JSON text read that ``with_text`` wrote; itself where there is none."""
    if not getattr(graph, "is_directed", bool)():
        return graph
    parts = chain([graph.graph], graph.nodes.values(), (data for *_, data in graph.edges(data=True)))
    if not any(isinstance(data[key], str) for data in parts for key in STRUCTURED & data.keys()):
        return graph
    return _each(graph, lambda data: {key: _read(value) if key in STRUCTURED else value for key, value in data.items()})


def _each(graph: Any, change: Callable[[Mapping[Any, Any]], dict[Any, Any]]) -> Any:
    """Return a graph with the attributes of itself, of its nodes and of its edges changed."""
    made = graph.__class__()
    made.graph.update(change(graph.graph))
    made.add_nodes_from((node, change(data)) for node, data in graph.nodes(data=True))
    keys = {"keys": True} if graph.is_multigraph() else {}
    made.add_edges_from((*ends, change(data)) for *ends, data in graph.edges(data=True, **keys))
    return made


def _written(value: Any) -> Any:
    if not isinstance(value, list | dict):
        return value
    return json.dumps(value, default=as_numbers, ensure_ascii=False)


def as_numbers(value: Any) -> Any:
    """Return an array as lists, for JSON; raises InputError for what text cannot say."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise wrong((), f"{value!r:.80} was made in Python: text cannot say it")


def _read(value: Any) -> Any:
    """Return what JSON text says; what is none stays as it is, and is refused as what it is."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        with suppress(ValueError):
            return json.loads(value)
    return value
