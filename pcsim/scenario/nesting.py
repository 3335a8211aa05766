"""Nested graph documents: ``use: cell.yaml`` becomes the vertices of that document, named ``NAME.child``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pcsim.errors import InputError, Problem, nearest
from pcsim.scenario.nodes import Entry, Key, Node, plain

Read = Callable[[Path, Mapping[str, Any]], Node]
"""Reads and expands a document: (path, args) -> its node."""

MOST_NESTED = 20
KEYS = ("use", "args", "inputs", "params")


def flatten(document: Node, folder: Path, read: Read, depth: int = 0) -> Node:
    """Return a graph document in which every ``use`` is replaced by the vertices it names.

    A nested document's input vertices are replaced by what ``inputs: {child: outer}`` names; its named parameters by
    what ``params: {child: outer}`` names, or they become ``NAME.parameter``. ``NAME`` alone means the
    nested document's only output. Raises InputError.
    """
    vertices = _entries(document, "vertices")
    if not any("use" in (entry.value.entries or {}) for entry in vertices.values()):
        return document
    if depth == MOST_NESTED:
        raise InputError([Problem(("vertices",), f"graphs are nested deeper than {MOST_NESTED}: does one use itself?", document.location)])
    nests = {
        str(name): _nest(str(name), entry, folder, read, depth)
        for name, entry in vertices.items()
        if "use" in (entry.value.entries or {})
    }
    names = {name: nest.output for name, nest in nests.items() if nest.output}
    made: dict[Key, Entry] = {}
    parameters = dict(_entries(document, "parameters"))
    for name, entry in vertices.items():
        if str(name) in nests:
            made |= nests[str(name)].vertices(names)
            parameters |= nests[str(name)].parameters
        else:
            made[name] = replace(entry, value=_rewired(entry.value, names))
    outputs = _list(document, "outputs", names)
    sections = {"vertices": made, "parameters": parameters}
    entries = {**(document.entries or {}), **{key: _section(document, key, found) for key, found in sections.items() if found}}
    return replace(document, entries={**entries, **outputs})


@dataclass(frozen=True)
class _Nest:
    """One nested document, its names already prefixed."""

    name: str
    made: Mapping[Key, Entry]
    parameters: Mapping[Key, Entry]
    outer: Mapping[str, Node]
    """{prefixed input vertex: what it stands for outside}."""
    output: str | None

    def vertices(self, names: Mapping[str, str]) -> dict[Key, Entry]:
        outer = {name: _renamed(node, names) for name, node in self.outer.items()}
        return {key: replace(entry, value=_wired(entry.value, outer)) for key, entry in self.made.items()}


def _nest(name: str, entry: Entry, folder: Path, read: Read, depth: int) -> _Nest:
    wish = entry.value.entries or {}
    if unknown := [key for key in wish if key not in KEYS]:
        where = wish[unknown[0]].location
        raise InputError([Problem(("vertices", name, unknown[0]), f"unknown key {unknown[0]!r}" + nearest(str(unknown[0]), KEYS), where)])
    path = folder / str(plain(wish["use"].value))
    args = plain(wish["args"].value) if "args" in wish else {}
    inner = flatten(read(path, args), path.parent, read, depth + 1)
    inputs, shared = _map(wish, "inputs"), {str(key): str(node.value) for key, node in _map(wish, "params").items()}
    children, own = _entries(inner, "vertices"), _entries(inner, "parameters")
    for section, given, known in (("inputs", inputs, _inputs(children)), ("params", shared, own)):
        if unknown := [key for key in given if key not in known]:
            message = f"{path.name} has no {section[:-1]} {unknown[0]!r}" + nearest(str(unknown[0]), map(str, known))
            raise InputError([Problem(("vertices", name, section, unknown[0]), message, wish[section].location)])
    renamed = {str(key): shared.get(str(key), f"{name}.{key}") for key in own}
    made = {
        f"{name}.{key}": Entry(f"{name}.{key}", _prefixed(child.value, name, renamed), child.location)
        for key, child in children.items()
        if str(key) not in inputs
    }
    kept = {renamed[str(key)]: replace(old, key=renamed[str(key)]) for key, old in own.items() if str(key) not in shared}
    outputs = [str(item.value) for item in _node(inner, "outputs").items or ()] or _sinks(children)
    output = f"{name}.{outputs[0]}" if len(outputs) == 1 else None
    return _Nest(name, made, kept, {f"{name}.{key}": node for key, node in inputs.items()}, output)


def _inputs(children: Mapping[Key, Entry]) -> list[str]:
    found = ((key, (child.value.entries or {}).get("op")) for key, child in children.items())
    return [str(key) for key, op in found if op is not None and op.value.value == "input"]


def _sinks(children: Mapping[Key, Entry]) -> list[str]:
    fed = {name for child in children.values() for item in _node(child.value, "inputs").items or () if (name := _source(item))}
    return [str(key) for key in children if str(key) not in fed]


def _source(item: Node) -> str | None:
    source = item.entries["from"].value if item.entries and "from" in item.entries else item
    return None if source.value is None else str(source.value)


def _prefixed(vertex: Node, name: str, parameters: Mapping[str, str]) -> Node:
    """Return a child vertex with its inputs and parameters under their outer names."""
    entries = dict(vertex.entries or {})
    if "inputs" in entries:
        items = tuple(_with_source(item, f"{name}.{_source(item)}") for item in entries["inputs"].value.items or ())
        entries["inputs"] = replace(entries["inputs"], value=replace(entries["inputs"].value, items=items))
    if "params" in entries:
        given = {
            key: replace(old, value=replace(old.value, value=parameters.get(str(old.value.value), old.value.value)))
            for key, old in (entries["params"].value.entries or {}).items()
        }
        entries["params"] = replace(entries["params"], value=replace(entries["params"].value, entries=given))
    return replace(vertex, entries=entries)


def _with_source(item: Node, name: str) -> Node:
    if item.entries and "from" in item.entries:
        source = item.entries["from"]
        return replace(item, entries={**item.entries, "from": replace(source, value=replace(source.value, value=name))})
    return replace(item, value=name)


def _wired(vertex: Node, outer: Mapping[str, Node]) -> Node:
    """Replace the inputs that stand for outer vertices; delays inside and outside add nothing: the outer entry wins."""
    entries = dict(vertex.entries or {})
    if "inputs" in entries:
        items = tuple(outer.get(_source(item) or "", item) for item in entries["inputs"].value.items or ())
        entries["inputs"] = replace(entries["inputs"], value=replace(entries["inputs"].value, items=items))
    return replace(vertex, entries=entries)


def _rewired(vertex: Node, names: Mapping[str, str]) -> Node:
    entries = dict(vertex.entries or {})
    if "inputs" in entries:
        items = tuple(_renamed(item, names) for item in entries["inputs"].value.items or ())
        entries["inputs"] = replace(entries["inputs"], value=replace(entries["inputs"].value, items=items))
    return replace(vertex, entries=entries)


def _renamed(item: Node, names: Mapping[str, str]) -> Node:
    name = _source(item)
    return _with_source(item, names[name]) if name in names else item


def _list(document: Node, key: str, names: Mapping[str, str]) -> dict[Key, Entry]:
    entry = (document.entries or {}).get(key)
    if entry is None:
        return {}
    items = tuple(_renamed(item, names) for item in entry.value.items or ())
    return {key: replace(entry, value=replace(entry.value, items=items))}


def _section(document: Node, key: str, entries: Mapping[Key, Entry]) -> Entry:
    old = (document.entries or {}).get(key)
    return Entry(key, Node(location=old.value.location if old else None, entries=entries), old.location if old else None)


def _node(document: Node, key: str) -> Node:
    entry = (document.entries or {}).get(key)
    return entry.value if entry else Node()


def _entries(document: Node, key: str) -> Mapping[Key, Entry]:
    return _node(document, key).entries or {}


def _map(entries: Mapping[Key, Entry], key: str) -> dict[str, Node]:
    entry = entries.get(key)
    return {str(name): inner.value for name, inner in (entry.value.entries or {}).items()} if entry else {}
