"""Inputs of vertices as nodes of a document: renamed, prefixed, replaced, their delays added."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from pcsim.documents.expression import MAX_NUMBER
from pcsim.documents.tree import Entry, Key, Node
from pcsim.errors import whole

if TYPE_CHECKING:
    from collections.abc import Callable

Outer = Mapping[str, Node]
WAYS = ("value", "error")


def source_of(item: Node) -> str | None:
    """Return the vertex that an input names; None if it names none."""
    if item.entries is not None:
        item = item.entries["from"].value if "from" in item.entries else Node()
    return None if item.value is None else str(item.value)


def rewired(node: Node, key: str, names: Mapping[str, str]) -> Node:
    """Return a vertex (or a document) whose list under ``key`` calls vertices by other names."""
    return _with_items(node, key, lambda item: renamed(item, names))


def renamed(item: Node, names: Mapping[str, str]) -> Node:
    """Return an input under its other name, if it has one."""
    name = source_of(item)
    return with_source(item, names[name]) if name is not None and name in names else item


def prefixed(vertex: Node, name: str, parameters: Mapping[str, str]) -> Node:
    """Return a nested vertex with its inputs and parameters under their outer names."""
    vertex = _with_items(vertex, "inputs", lambda item: with_source(item, f"{name}.{source_of(item)}"))
    params = (vertex.entries or {}).get("params")
    if params is None or params.value.entries is None:
        return vertex
    given = {key: _named(entry, parameters) for key, entry in params.value.entries.items()}
    return _with(vertex, replace(params, value=replace(params.value, entries=given)))


def _named(entry: Entry, names: Mapping[str, str]) -> Entry:
    name = str(entry.value.value)
    return replace(entry, value=replace(entry.value, value=names.get(name, name)))


def wired(vertex: Node, outer: Outer, names: Mapping[str, str]) -> Node:
    """Return a vertex whose inputs that stand for outer vertices are replaced by them, delays added."""

    def wire(item: Node) -> Node:
        stands_for = outer.get(source_of(item) or "")
        return item if stands_for is None else joined(renamed(stands_for, names), item)

    return _with_items(vertex, "inputs", wire)


def joined(outer: Node, inner: Node) -> Node:
    """Return the outer input with the inner one's delay added to its own; what else both say, the outer one decides."""
    there, here = _delay(outer), _delay(inner)
    if inner.entries is not None:
        source = Entry("from", Node(source_of(outer), outer.location), outer.location)
        outer = Node(None, outer.location, None, {**inner.entries, **(outer.entries or {}), "from": source})
    if here is None or there is None:
        return outer
    first, second = _ways(there.value), _ways(here.value)
    if first is None or second is None:
        # Not a delay: left for the model to refuse.
        return outer if first is None else _with(outer, here)
    total: dict[Key, Entry] = {
        way: Entry(way, Node(first[way] + second[way], there.location), there.location) for way in WAYS
    }
    return _with(outer, replace(there, value=Node(None, there.location, None, total)))


def _delay(item: Node) -> Entry | None:
    return item.entries.get("delay") if item.entries is not None else None


def _ways(delay: Node) -> dict[str, int] | None:
    """Return the ticks in each direction; None where this is no delay."""
    values = dict.fromkeys(WAYS, delay.value)
    if delay.entries is not None:
        if not set(delay.entries) <= set(WAYS):
            return None
        values = {way: delay.entries[way].value.value if way in delay.entries else 0 for way in WAYS}
    ticks = {way: int(value) for way, value in values.items() if isinstance(value, int | float) and _counts(value)}
    return ticks if len(ticks) == len(WAYS) else None


def _counts(value: float) -> bool:
    """Return whether a value is a whole number, 0 or more; 3.0 is one, True is not."""
    with suppress(ValueError):
        return 0 <= whole(value) < MAX_NUMBER
    return False


def with_source(item: Node, name: str) -> Node:
    """Return an input that comes from another vertex."""
    if item.entries is not None and "from" in item.entries:
        source = item.entries["from"]
        return _with(item, replace(source, value=replace(source.value, value=name)))
    return item if item.entries is not None or item.items is not None else replace(item, value=name)


def _with_items(node: Node, key: Key, change: Callable[[Node], Node]) -> Node:
    entry = (node.entries or {}).get(key)
    if entry is None or entry.value.items is None:
        return node
    items = tuple(map(change, entry.value.items))
    return _with(node, replace(entry, value=replace(entry.value, items=items)))


def _with(node: Node, entry: Entry) -> Node:
    return replace(node, entries={**(node.entries or {}), entry.key: entry})
