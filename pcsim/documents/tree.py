"""A document as a tree in which every value and every key knows its place in the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.documents.frozen_arrays import (
    MOST_WRITTEN_OUT,
    FrozenArray,
    array_of,
    large_array,
    reads_as_array,
)
from pcsim.errors import Location, Path, wrong

if TYPE_CHECKING:
    from collections.abc import Mapping

Scalar = None | bool | int | float | str
Key = str | int

MAX_DEPTH = 100

_SCALARS = frozenset({type(None), bool, int, float, str})


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a document: a scalar or an array, a list (``items``) or a map (``entries``), and where it stands."""

    value: Scalar | FrozenArray = None
    location: Location | None = None
    items: tuple[Node, ...] | None = None
    entries: Mapping[Key, Entry] | None = None

    @property
    def is_scalar(self) -> bool:
        """Whether this is neither a list nor a map."""
        return self.items is None and self.entries is None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a map: the key, its place, and the value."""

    key: Key
    value: Node
    location: Location | None = None


def plain(node: Node) -> Any:
    """Return a node as ordinary Python data."""
    if node.items is not None:
        return [plain(item) for item in node.items]
    if node.entries is not None:
        return {key: plain(entry.value) for key, entry in node.entries.items()}
    return node.value


def locate(node: Node, path: Path, *, key: bool = False) -> Location | None:
    """Return the place of what a path of keys leads to, or of its nearest existing ancestor.

    A scalar is placed at its value, a list or map at the key that holds it; with ``key`` the last
    element of the path is itself what is wrong, and its own place is returned.
    """
    place = node.location
    for index, step in enumerate(path, 1):
        inner = _inner(node, step)
        if inner is None:
            return place
        node = inner.value
        at_value = node.is_scalar and not (key and index == len(path))
        place = node.location if at_value else inner.location
    return place


def from_plain(data: Any, file: str = "<python>", location: Location | None = None) -> Node:
    """Build a tree from Python data: None, bool, int, float, str, list, tuple, dict, and what NumPy reads as an array.

    An array of more than 1,000 numbers stays an array, which never changes; a smaller one becomes a list.

    Parameters
    ----------
    data : what a document would hold.
    file : where the data came from, for messages.
    location : given to every node and key; by default they have none.

    Raises
    ------
    InputError
        For other types, masked values, keys that are not names or whole numbers, and nesting deeper than 100.
    """
    return _from_plain(data, (), file, location)


def _from_plain(data: Any, path: Path, file: str, location: Location | None) -> Node:
    if len(path) > MAX_DEPTH:
        raise wrong(path[:3], f"{file}: nested deeper than {MAX_DEPTH}")
    if type(data) in _SCALARS:
        return Node(data, location)
    if isinstance(data, list | tuple):
        if (array := large_array(data)) is not None:
            return Node(array, location)
        items = (_from_plain(item, (*path, index), file, location) for index, item in enumerate(data))
        return Node(location=location, items=tuple(items))
    if isinstance(data, dict):
        return Node(location=location, entries=_entries_from_plain(data, path, file, location))
    if reads_as_array(data):
        kept = _from_array(data, path, file)
        return Node(kept, location) if isinstance(kept, FrozenArray) else _from_plain(kept, path, file, location)
    if isinstance(data, bool | int | float | str):
        return Node(data, location)
    raise wrong(path, f"{file}: a document cannot hold a {type(data).__name__}; use numbers, text, lists and dicts")


def _from_array(data: Any, path: Path, file: str) -> Any:
    """Return an array as it is kept, or written out."""
    if isinstance(data, FrozenArray):
        return data
    if isinstance(data, np.ndarray | np.generic) and data.dtype.kind not in "iuf" and not np.ma.is_masked(data):
        return data.tolist()
    try:
        array = array_of(data)
    except ValueError as error:
        raise wrong(path, f"{file}: {error}") from None
    return FrozenArray(array) if array.size > MOST_WRITTEN_OUT else array.tolist()


def _entries_from_plain(data: dict[Any, Any], path: Path, file: str, location: Location | None) -> dict[Key, Entry]:
    for key in data:
        if not _is_key(key):
            raise wrong(path, f"{file}: key {key!r} is a {type(key).__name__}; use text or a whole number")
        if isinstance(key, int) and str(key) in data:
            raise wrong(path, f"{file}: key {key} is given twice, as a number and as text; keep one of them")
    found = {str(key): value for key, value in data.items()}
    return {key: Entry(key, _from_plain(value, (*path, key), file, location), location) for key, value in found.items()}


def _inner(node: Node, step: Key) -> Entry | None:
    if node.entries is not None:
        found = node.entries.get(step)
        return found if found is not None else node.entries.get(_other(step))
    if node.items is not None and isinstance(step, int) and 0 <= step < len(node.items):
        return Entry(step, node.items[step], node.items[step].location)
    return None


def _other(step: Key) -> Key:
    """Return the other way to write a key: names that look like numbers are read as numbers."""
    return (
        str(step)
        if isinstance(step, int)
        else int(step)
        if step.isascii() and step.isdigit() and len(step) < 19
        else step
    )


def _is_key(key: object) -> bool:
    return isinstance(key, str | int) and not isinstance(key, bool)
