"""Changes one value of a document, found by a path of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.documents.tree import Entry, Key, Node, from_plain

if TYPE_CHECKING:
    from collections.abc import Sequence


def replaced(node: Node, path: Sequence[str], value: Any) -> Node:
    """Return a document with the value at a path replaced or added; what is put in has no place in a file.

    Text is taken for a map with the key ``name`` where the path goes on inside it: ``rule: fpa`` with the path
    ``rule, step_size`` becomes ``rule: {name: fpa, step_size: ...}``.
    """
    if not path:
        return from_plain(value, "an override")
    entries = _entries(node, path[0])
    key: Key = int(path[0]) if path[0] not in entries and path[0].isdecimal() and int(path[0]) in entries else path[0]
    old = entries.get(key, Entry(key, Node()))
    location = old.location if len(path) > 1 else None
    entries[key] = Entry(key, replaced(old.value, path[1:], value), location)
    return Node(location=node.location, entries=entries)


def _entries(node: Node, key: str) -> dict[Key, Entry]:
    if node.is_scalar and isinstance(node.value, str) and key != "name":
        return {"name": Entry("name", node, node.location)}
    return dict(node.entries or {})
