"""Changes a scenario's document at dotted keys: ``graph.depth``, ``rule.step_size``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.documents import plain, replaced
from pcsim.documents.template import argument
from pcsim.errors import nearest, wrong
from pcsim.graph.graph_document import GraphDocument
from pcsim.scenario.scenario_document import ScenarioDocument

if TYPE_CHECKING:
    from pcsim.documents import Node


def override(node: Node, key: str, value: Any) -> Node:
    """Return a document with the value at a dotted key replaced or added.

    ``graph.NAME`` stands for ``graph.args.NAME`` where NAME is not a key of the graph. What is put in
    has no place in a file. Raises InputError for a key that no scenario has.
    """
    path = _path(key)
    if path[:2] == ("graph", "args") and len(path) > 2 and not _names_file(node):
        value = _checked_argument(node, path, value)
    return replaced(node, path, value)


def _path(key: str) -> tuple[str, ...]:
    parts = str(key).split(".")
    if not all(parts):
        raise wrong((), f"the key {key!r} is not of the form a.b.c")
    if parts[0] not in ScenarioDocument.model_fields:
        raise wrong(tuple(parts), f"unknown key {key!r}" + nearest(parts[0], ScenarioDocument.model_fields))
    if parts[0] == "graph" and len(parts) == 2 and parts[1] not in ("file", *GraphDocument.model_fields):
        parts.insert(1, "args")
    return tuple(parts)


def _names_file(node: Node) -> bool:
    graph = (node.entries or {}).get("graph")
    return graph is None or graph.value.entries is None or "file" in graph.value.entries


def _checked_argument(node: Node, path: tuple[str, ...], value: Any) -> Any:
    """Return the value in the type of the default that it replaces."""
    graph = (node.entries or {})["graph"].value.entries or {}
    defaults = plain(graph["args"].value) if "args" in graph else {}
    try:
        return argument(path[2], value, defaults if isinstance(defaults, dict) else {})
    except ValueError as error:
        raise wrong(path, str(error)) from None
