"""The vertices of a model under way, in an order in which each follows its inputs, and the document that they make."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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


def rewired(rows: Rows, outputs: Iterable[str]) -> Rows:
    """Return the rows without vertices that change nothing, and with one ``reshape`` where several follow each other.

    Vertices that are read by nothing any more are left where they are.
    """
    stands_for: dict[str, str] = {}
    made: Rows = {}
    kept = set(outputs)
    for name, row in rows.items():
        inputs = tuple(stands_for.get(pre, pre) for pre in row.inputs)
        if row.op == "reshape" and made[inputs[0]].op == "reshape":
            inputs = made[inputs[0]].inputs
        made[name] = replace(
            row, inputs=inputs, call=replace(row.call, shapes=tuple(made[pre].call.shape for pre in inputs))
        )
        if name not in kept and idle(made[name]):
            stands_for[name] = inputs[0]
    return made


def idle(row: VertexRow) -> bool:
    """Return whether a vertex holds just what its input holds."""
    if row.op not in REARRANGING or row.call.shape != row.call.shapes[0]:
        return False
    axes = dict(row.call.attributes).get("axes")
    return row.op != "transpose" or axes == tuple(range(len(row.call.shape)))


REARRANGING = ("reshape", "transpose", "expand")
"""Ops that only rearrange what they are given."""


def reaching(rows: Rows, outputs: Iterable[str]) -> Rows:
    """Return the inputs of a model, and the vertices that an output depends on."""
    wanted = set(outputs)
    for name in reversed(rows):
        if name in wanted:
            wanted.update(rows[name].inputs)
    return {name: row for name, row in rows.items() if name in wanted or row.op == "input"}
