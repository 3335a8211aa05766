"""Where a node of an exported module stands: it names the vertices that the node becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.models.builder import Builder, Operand, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Scope:
    """A node, and the builder that takes its vertices.

    Attributes
    ----------
    path : the module's path, as in ``named_modules``
    alone : the module does nothing else, so that its path alone names the vertex
    node : the node of the exported graph
    """

    builder: Builder
    path: str
    alone: bool
    node: Any

    # -- making vertices -------------------------------------------------------------------------------------

    def vertex(
        self,
        op: str,
        inputs: Sequence[Operand],
        attributes: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, Tensor] | None = None,
        buffers: Mapping[str, Array] | None = None,
        name: str = "",
    ) -> Tensor:
        """Return what an op makes of tensors: ``Builder.vertex``, named after the module's path."""
        own = name or ("" if self.alone and self.path else op)
        full = ".".join(each for each in (self.path, own) if each)
        return self.builder.vertex(op, inputs, attributes, params=params, buffers=buffers, name=full)

    def constant(self, value: Operand) -> Tensor:
        """Return known numbers as a tensor."""
        return self.builder.constant(value)

    def zeros(self, shape: Sequence[int]) -> Tensor:
        """Return a tensor of zeros."""
        return self.builder.constant(np.zeros(tuple(shape)))

    def value(self, tensor: Tensor, what: str) -> Array:
        """Return the numbers of a tensor that must be known; raises InputError saying what they are for."""
        return self.builder.value(tensor, what)

    def entry(self, x: Tensor, axis: int, number: int) -> Tensor:
        """Return one entry along an axis, which is left out."""
        axis, number = axis % len(x.shape), number % x.shape[axis]
        part = self.part(x, axis, number, number + 1)
        row = self.builder.rows.get(part.vertex)
        if row is not None and row.op == "unsqueeze" and row.attributes["axes"] == [axis]:
            return self._tensor(row.inputs[0])
        return self.vertex("squeeze", [part], {"axes": [axis]})

    def part(self, x: Tensor, axis: int, start: int, stop: int, step: int = 1) -> Tensor:
        """Return part of a tensor along an axis; of tensors one after the other, the one that it is."""
        axis %= len(x.shape)
        if (start, stop, step) == (0, x.shape[axis], 1):
            return x
        row = self.builder.rows.get(x.vertex)
        if row is not None and row.op == "concat" and row.attributes["axis"] % len(x.shape) == axis:
            for name in row.inputs:
                piece = self._tensor(name)
                if 0 <= start < stop <= piece.shape[axis]:
                    return self.part(piece, axis, start, stop, step)
                start, stop = start - piece.shape[axis], stop - piece.shape[axis]
            start, stop = start + x.shape[axis], stop + x.shape[axis]
        attributes = {"start": start, "stop": stop, "step": step, "axis": axis}
        return self.vertex("slice", [x], attributes)

    def _tensor(self, name: str) -> Tensor:
        return Tensor(self.builder.rows[name].call.shape, vertex=name)

    # -- what the node says ----------------------------------------------------------------------------------

    @property
    def axes(self) -> range:
        """The axes that an operator such as ``max_pool2d`` works on."""
        return range(int(self.node.target._opname.split("_with")[0][-2]))

    def dtype(self) -> Any:
        """Return NumPy's number format of the result."""
        return numpy_format(self.node.meta["val"].dtype)

    def is_float(self, *argument: int) -> bool:
        """Return whether the result, or an argument, holds floating-point numbers."""
        return bool(self._value(argument).dtype.is_floating_point)

    def is_whole(self, *argument: int) -> bool:
        """Return whether an argument holds whole numbers, and no truth values."""
        return numpy_format(self._value(argument).dtype).kind in "iu"

    def _value(self, argument: Sequence[int]) -> Any:
        found = self.node if not argument else self.node.args
        for at in argument:
            found = found[at]
        return found.meta["val"]


def numpy_format(dtype: Any) -> np.dtype[Any]:
    """Return NumPy's number format for one of PyTorch's; halves, which NumPy lacks or rounds, become float32."""
    name = str(dtype).removeprefix("torch.")
    return np.dtype("float32" if name in ("bfloat16", "float16") else name)
