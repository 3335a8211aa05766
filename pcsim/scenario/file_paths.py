"""Files that parameters, synapses and constants are read from, as seen from the folder of the outermost document."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from pcsim.ops import OPS

if TYPE_CHECKING:
    from pcsim.documents.tree import Entry, Key, Node


_FILES = ("file", "types")
"""Keys whose value is the path of a file."""

_ARRAYS = {name for op in OPS.values() for name, attribute in op.attributes.items() if attribute.array}
_NAMING = ("init", "connect", *sorted(_ARRAYS))
"""Keys of a vertex under which a file may be named."""


def rebased(document: Node, prefix: str) -> Node:
    """Return a graph document whose files, of parameters, synapses and constants, are sought along ``prefix``."""
    entries = dict(document.entries or {})
    for section in ("vertices", "parameters"):
        if section in entries and entries[section].value.entries:
            parts = {key: _changed(part, prefix) for key, part in _inside(entries[section]).items()}
            entries[section] = _with(entries[section], parts)
    return replace(document, entries=entries)


def _changed(part: Entry, prefix: str) -> Entry:
    inside = _inside(part)
    named = {key: _moved(inside[key], prefix) for key in _NAMING if key in inside}
    return _with(part, {**inside, **named}) if named else part


def _moved(given: Entry, prefix: str) -> Entry:
    """Change the files of an initialiser, or of each parameter slot's, or of a connection rule."""
    inside = _inside(given)
    if files := {key: inside[key] for key in _FILES if key in inside and isinstance(inside[key].value.value, str)}:
        return _with(given, {**inside, **{key: _sought(file, prefix) for key, file in files.items()}})
    return _with(given, {key: _moved(slot, prefix) for key, slot in inside.items()}) if inside else given


def _sought(file: Entry, prefix: str) -> Entry:
    path = os.path.normpath(os.path.join(prefix, str(file.value.value)))  # noqa: PTH118 - pathlib keeps '..'
    return replace(file, value=replace(file.value, value=path))


def _inside(entry: Entry) -> dict[Key, Entry]:
    return dict(entry.value.entries or {})


def _with(entry: Entry, entries: dict[Key, Entry]) -> Entry:
    return replace(entry, value=replace(entry.value, entries=entries))
