"""The ``zarr.json`` documents of a trace: what a reader sees of it.

Lengths are announced in one atomic replacement of the root document, which repeats the others as zarr's consolidated
metadata. So a process that dies at any instant leaves a folder that opens, with everything announced so far.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.trace.store import Document, Folder

ROOM = "room"
"""The name of a file that is only written to see whether it fits."""


@dataclass
class Documents:
    """Everything that is said about the arrays of a trace, by node."""

    folder: Folder
    attrs: dict[str, Any]
    arrays: dict[str, dict[str, Document]] = field(default_factory=dict)
    coordinates: dict[str, list[str]] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)

    def has(self, node: str, variable: str) -> bool:
        """Tell whether a node has a variable."""
        return variable in self.arrays.get(node, {})

    def add(self, node: str, variable: str, document: Document) -> None:
        """Add the document of an array; the next announcement tells of it."""
        self.arrays.setdefault(node, {})[variable] = document

    def coordinate(self, node: str, name: str) -> None:
        """Say that a variable is a coordinate."""
        names = self.coordinates.setdefault(node, [])
        names.extend([name] if name not in names else [])

    def announce(self, lengths: Mapping[str, int]) -> None:
        """Say how many records each of these nodes holds now; the root, last, makes it so."""
        for node, rows in lengths.items():
            self._grow(node, rows)
        for parent in self._parents():
            self._put(parent, _group({}))
        self._put("", _group(self.attrs, self._everything()))

    def leave_room(self, more: int) -> None:
        """Raise OSError where there is no room to announce anew, and for so many bytes more."""
        self.folder.put(ROOM, bytes(2 * len(json.dumps(self._everything())) + more))
        self.folder.remove(ROOM)

    def _grow(self, node: str, rows: int) -> None:
        for variable, document in self.arrays[node].items():
            if document["dimension_names"][:1] == ["tick"]:
                document["shape"][0] = rows
            self._put(f"{node}/{variable}", document)
        self._put(node, _group(self._attributes(node), self.arrays[node]))

    def _everything(self) -> dict[str, Document]:
        every = {parent: _group({}) for parent in self._parents()}
        for node, arrays in self.arrays.items():
            every[node] = _group(self._attributes(node))
            every |= {f"{node}/{variable}": document for variable, document in arrays.items()}
        return every

    def _parents(self) -> list[str]:
        """Return the groups between the root and the nodes."""
        parts = [node.split("/") for node in self.arrays]
        above = {"/".join(part[:n]) for part in parts for n in range(1, len(part))}
        return sorted(above - self.arrays.keys())

    def _attributes(self, node: str) -> Document:
        # the CF convention by which xarray tells coordinates from data
        names = self.coordinates.get(node)
        return {"coordinates": " ".join(names)} if names else {}

    def _put(self, path: str, document: Document) -> None:
        key, text = f"{path}/zarr.json" if path else "zarr.json", json.dumps(document)
        # most documents are of names and the like, and stay as they are
        if self.written.get(key) != (stamp := hash(text)):
            self.folder.put(key, text.encode())
            self.written[key] = stamp


def _group(attributes: Mapping[str, Any], members: Mapping[str, Document] | None = None) -> Document:
    group: Document = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
    if members is not None:
        metadata = {"kind": "inline", "must_understand": False, "metadata": dict(members)}
        group["consolidated_metadata"] = metadata
    return group
