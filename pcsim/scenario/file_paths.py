"""Files that parameters and synapses are read from, as seen from the folder of the outermost document."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcsim.documents.tree import Entry, Key, Node


_FILES = ("file", "types")
"""Keys whose value is the path of a file."""


def rebased(document: Node, prefix: str) -> Node:
    """Return a graph document whose ``init: {file: ...}`` and ``connect: {file: ...}`` are sought along ``prefix``."""
    entries = dict(document.entries or {})
    for section in ("vertices", "parameters"):
        if section in entries and entries[section].value.entries:
            parts = {
                key: _changed(_changed(part, "init", prefix), "connect", prefix)
                for key, part in _inside(entries[section]).items()
            }
            entries[section] = _with(entries[section], parts)
    return replace(document, entries=entries)


def _changed(part: Entry, key: str, prefix: str) -> Entry:
    inside = _inside(part)
    return _with(part, {**inside, key: _moved(inside[key], prefix)}) if key in inside else part


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
