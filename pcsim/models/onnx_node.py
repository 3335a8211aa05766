"""One node of an ONNX graph as its translation sees it, and the row of an operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import wrong
from pcsim.models.builder import Builder, Tensor

if TYPE_CHECKING:
    from pcsim.models.builder import Operand

Array = np.ndarray[Any, np.dtype[Any]]

Value = Tensor | tuple[Tensor, ...] | None
"""What a name stands for: a tensor, a sequence of tensors, or nothing where it could not be read."""


def tensor_of(value: Value) -> Tensor:
    """Return a value that must be a tensor."""
    if value is None or isinstance(value, tuple):
        raise wrong((), "takes a sequence, expected a tensor")
    return value


@dataclass
class Node:
    """A node with its inputs as tensors; what it computes becomes vertices named after its outputs.

    Attributes
    ----------
    name : how messages name it
    opset : the version of the operators of its domain
    inputs : None where an optional input is left out
    outputs : names of values; empty where an output is left out
    types : the number type of each input, as ONNX numbers them
    """

    builder: Builder
    operator: str
    name: str
    opset: int
    inputs: Sequence[Tensor | None]
    outputs: Sequence[str]
    attributes: Mapping[str, Any]
    types: Sequence[int] = ()

    def get(self, attribute: str, default: Any = None) -> Any:
        """Return an attribute, or the default where it is not given."""
        return self.attributes.get(attribute, default)

    def need(self, attribute: str) -> Any:
        """Return an attribute that must be given."""
        if attribute not in self.attributes:
            message = f"needs the attribute {attribute!r}"
            raise wrong((), message)
        return self.attributes[attribute]

    def has(self, slot: int) -> bool:
        """Return whether an input is given."""
        return slot < len(self.inputs) and self.inputs[slot] is not None

    def input(self, slot: int) -> Tensor:
        """Return an input that must be given."""
        tensor = self.inputs[slot] if slot < len(self.inputs) else None
        if tensor is None:
            message = f"expected an input number {slot}"
            raise wrong((), message)
        return tensor

    def given(self) -> list[Tensor]:
        """Return all inputs that are given."""
        return [each for each in self.inputs if each is not None]

    def value(self, slot: int, what: str, default: Any = None) -> Any:
        """Return the numbers of an input that must be known, or the default where it is not given."""
        return self.builder.value(self.input(slot), what) if self.has(slot) else default

    def wholes(self, slot: int, what: str, default: Any = None) -> Any:
        """Return whole numbers that must be known as a list, or the default."""
        found = self.value(slot, what)
        return default if found is None else [int(each) for each in np.asarray(found).reshape(-1)]

    def floats(self, slot: int, what: str) -> list[float]:
        """Return numbers that must be known as a list, which is empty where they are not given."""
        return [float(each) for each in np.asarray(self.value(slot, what, [])).reshape(-1)]

    def number(self, slot: int, what: str, default: Any = None) -> Any:
        """Return one number that must be known, or the default."""
        found = self.value(slot, what)
        return default if found is None or not np.size(found) else float(np.asarray(found).reshape(-1)[0])

    def vertex(self, op: str, inputs: Sequence[Operand], output: int = 0, /, **attributes: Any) -> Tensor:
        """Return what the node computes: a vertex named after an output."""
        return self.builder.vertex(op, inputs, attributes, name=self.outputs[output])

    def part(self, op: str, inputs: Sequence[Operand], called: str = "", /, **attributes: Any) -> Tensor:
        """Return a step on the way: a vertex named after the node's value and what it is, by default the op."""
        return self.builder.vertex(op, inputs, attributes, name=f"{self.value_name}.{called or op}")

    def within(self, label: str) -> Node:
        """Return the same node, whose parts are named as parts of a part."""
        return replace(self, outputs=[f"{self.value_name}.{label}"])

    @property
    def value_name(self) -> str:
        """The name of the first output that is wanted."""
        return next((name for name in self.outputs if name), self.name)

    def wants(self, output: int) -> bool:
        """Return whether an output is wanted."""
        return output < len(self.outputs) and bool(self.outputs[output])

    def refuse(self, message: str) -> None:
        """Raise InputError for what this node asks and pcsim does not have."""
        raise wrong((), message)


Translation = Callable[[Node], Tensor | Sequence[Tensor | None]]


@dataclass(frozen=True)
class Operator:
    """How an operator of ONNX is written in ops of pcsim.

    Attributes
    ----------
    translate : (node) -> the tensor of its output, or those of its outputs
    since : the first opset that the translation is right for; the last is the newest that is read
    known : inputs that must be known when the model is read: shapes, axes, indices
    weights : inputs that must be parameters or known
    indices : inputs that may be whole numbers fed while the model runs
    whole : also right for whole numbers and truth values, carried as floating-point numbers
    """

    name: str
    translate: Translation
    since: int = 13
    known: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()
    indices: tuple[int, ...] = ()
    whole: bool = False

    @property
    def summary(self) -> str:
        """From which opset on it is read, and what its inputs must be."""
        parts = {"must be known when the model is read": self.known, "must be a parameter or known": self.weights}
        inputs = [f"input {', '.join(map(str, slots))} {text}" for text, slots in parts.items() if slots]
        return "; ".join([f"from opset {self.since} on", *inputs])
