"""Changes a document at dotted keys: ``graph.depth``, ``rule.step_size``."""

from __future__ import annotations

from typing import Any

from pcsim.errors import nearest, wrong
from pcsim.graph.models import GraphDocument
from pcsim.scenario.models import ScenarioDocument
from pcsim.scenario.nodes import Entry, Key, Node, from_plain, plain
from pcsim.scenario.template import argument


def override(node: Node, key: str, value: Any) -> Node:
    """Return a document with the value at a dotted key replaced or added.

    ``graph.NAME`` stands for ``graph.args.NAME`` where NAME is not a key of the graph. What is put in
    has no place in a file. Raises InputError for a key that no scenario has.
    """
    path = _path(key)
    if path[:2] == ("graph", "args") and len(path) > 2 and not _names_file(node):
        value = _checked_argument(node, path, value)
    return _replaced(node, path, value)


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


def _replaced(node: Node, path: tuple[str, ...], value: Any) -> Node:
    if not path:
        return from_plain(value, "an override")
    entries = _entries(node, path[0])
    key: Key = int(path[0]) if path[0] not in entries and path[0].isdecimal() and int(path[0]) in entries else path[0]
    old = entries.get(key, Entry(key, Node()))
    location = old.location if len(path) > 1 else None
    entries[key] = Entry(key, _replaced(old.value, path[1:], value), location)
    return Node(location=node.location, entries=entries)


def _entries(node: Node, key: str) -> dict[Key, Entry]:
    """Return the entries of a map; ``rule: fpa`` stands for {name: fpa} when ``rule.step_size`` is set."""
    if node.is_scalar and isinstance(node.value, str) and key != "name":
        return {"name": Entry("name", node, node.location)}
    return dict(node.entries or {})
