"""The vertices of a model under way, in an order in which each follows its inputs, and the document that they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.ops import OPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pcsim.ops.op import Call

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class VertexRow:
    """One vertex: what its entry in a document says, and the call that this makes.

    Attributes
    ----------
    attributes : those of the op, as a document writes them
    params : {parameter slot: name of a parameter}
    buffers : {buffer: its numbers}
    """

    op: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]
    call: Call = field(repr=False)
    params: Mapping[str, str] = field(default_factory=dict)
    buffers: Mapping[str, Array] = field(default_factory=dict)

    @property
    def entry(self) -> dict[str, Any]:
        """What a document says of the vertex; attributes that have their default are left out."""
        defaults = {key: row.default for key, row in OPS[self.op].attributes.items() if not row.required}
        made = dict(self.call.attributes)
        said = {
            key: value for key, value in self.attributes.items() if key not in defaults or made[key] != defaults[key]
        }
        linked = {"inputs": list(self.inputs)} if self.inputs else {}
        return {"op": self.op, **linked, **said, **({"params": dict(self.params)} if self.params else {})}


Rows = dict[str, VertexRow]


def reaching(rows: Rows, outputs: Iterable[str]) -> Rows:
    """Return the inputs of a model, and the vertices that an output depends on."""
    wanted = set(outputs)
    for name in reversed(rows):
        if name in wanted:
            wanted.update(rows[name].inputs)
    return {name: row for name, row in rows.items() if name in wanted or row.op == "input"}
