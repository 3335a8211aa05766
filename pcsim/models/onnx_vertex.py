"""One vertex while it is written as nodes of ONNX: names of tensors, constants, and shapes with the batch in front.

Every tensor has the batch as its first axis; of what does not depend on the data its extent is 1, which broadcasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pcsim.arrays import Shape
    from pcsim.graph.graph import Vertex
    from pcsim.ops.op import Call

Array = np.ndarray[Any, np.dtype[Any]]
Operand = str | float
"""A tensor by its name, or a number."""


@dataclass
class Nodes:
    """The nodes and the numbers of a model under way.

    Attributes
    ----------
    onnx : the package
    dtype : the number format
    arrays : {initializer: its numbers}
    taken : names of tensors that are in use
    """

    onnx: Any
    dtype: np.dtype[Any]
    nodes: list[Any] = field(default_factory=list)
    arrays: dict[str, Array] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    _numbers: dict[tuple[str, Shape, bytes], str] = field(default_factory=dict)

    def unique(self, name: str) -> str:
        """Return a name that no tensor has: the one given, as far as may be."""
        made, number = name, 1
        while made in self.taken:
            number += 1
            made = f"{name}/{number}"
        self.taken.add(made)
        return made

    def constant(self, array: Array) -> str:
        """Return the name of an initializer with these numbers; equal ones are one."""
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._numbers:
            text = f"{array.item():g}" if not array.shape else "x".join(map(str, array.shape))
            self._numbers[key] = name = self.unique(f"constant/{text}")
            self.arrays[name] = array
        return self._numbers[key]


@dataclass
class Writing:
    """One vertex under way: what it takes, and the nodes that it becomes.

    Attributes
    ----------
    inputs : the tensors that it takes
    batched : for each input whether it depends on the data, so that its batch extent is that of the data
    params : {slot: initializer}, parameters and buffers
    shapes : of the inputs, without the batch
    """

    model: Nodes
    vertex: Vertex
    inputs: tuple[str, ...]
    batched: tuple[bool, ...]
    params: dict[str, str]

    @property
    def call(self) -> Call:
        """The call of the vertex: its shapes and attributes."""
        return self.vertex.call

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of the inputs, without the batch."""
        return self.vertex.call.shapes

    @property
    def x(self) -> str:
        """The first input."""
        return self.inputs[0]

    @property
    def rank(self) -> int:
        """How many axes the first input has, without the batch."""
        return len(self.shapes[0])

    # -- nodes -----------------------------------------------------------------------------------------------

    def node(self, kind: str, *inputs: Operand, **attributes: Any) -> str:
        """Return the tensor that a new node makes; numbers among its inputs become constants of the model's format."""
        names = [each if isinstance(each, str) else self.number(each) for each in inputs]
        made = self.model.unique(f"{self.vertex.name}/{kind}")
        given = {key: value for key, value in attributes.items() if value is not None}
        self.model.nodes.append(self.model.onnx.helper.make_node(kind, names, [made], made, **given))
        return made

    def number(self, value: float) -> str:
        """Return a number as a constant."""
        return self.array(value)

    def array(self, values: Any) -> str:
        """Return numbers as a constant of the model's format."""
        return self.model.constant(np.asarray(values, self.model.dtype))

    def whole(self, values: Any) -> str:
        """Return whole numbers as a constant."""
        return self.model.constant(np.asarray(values, np.int64))

    def exact(self, *values: float) -> bool:
        """Return whether attributes of a node, which are float32, say numbers as exactly as the model's format."""
        return self.model.dtype == np.float32 or all(float(np.float32(value)) == value for value in values)

    # -- shapes ----------------------------------------------------------------------------------------------

    def shaped(self, x: str, shape: Iterable[int]) -> str:
        """Return a tensor with other axes behind the batch."""
        return self.node("Reshape", x, self.whole([-1, *shape]))

    def aligned(self, rank: int | None = None) -> list[str]:
        """Return the inputs with as many axes as the vertex, or as said: new ones stand behind the batch."""
        wanted = len(self.call.shape) if rank is None else rank
        pairs = zip(self.inputs, self.shapes, strict=True)
        return [self.widened(each, shape, wanted) for each, shape in pairs]

    def widened(self, x: str, shape: Shape, rank: int) -> str:
        """Return a tensor with axes of extent 1 behind the batch, as many as are missing."""
        missing = rank - len(shape)
        return self.node("Unsqueeze", x, self.whole(list(range(1, 1 + missing)))) if missing > 0 else x

    def spread(self, place: int) -> str:
        """Return an input with the batch's extent in full, where others have it."""
        name, shape = self.inputs[place], self.shapes[place]
        if self.batched[place] or not any(self.batched):
            return name
        return spread(self, name, len(shape), self.inputs[self.batched.index(True)])

    def moved(self, x: str, rank: int, first: int, second: int) -> str:
        """Return a tensor of so many axes, the batch among them, with one of them moved to another place."""
        order = [axis for axis in range(rank) if axis != first]
        order.insert(second, first)
        return x if first == second else self.node("Transpose", x, perm=order)

    def second_output(self, made: str) -> str:
        """Return another tensor that the last node makes, beside the one given."""
        other = self.model.unique(f"{made}/second")
        self.model.nodes[-1].output.append(other)
        return other

    def part(self, x: str, axis: int, chosen: tuple[int, int, int]) -> str:
        """Return part of a tensor along an axis of it: from, to and step as Python has them."""
        first, last, step = chosen
        end = last if last >= 0 else np.iinfo(np.int64).min  # before the first element
        return self.node("Slice", x, *map(self.whole, ([first], [end], [axis], [step])))

    def chain(self, kind: str, names: Sequence[Operand]) -> str:
        """Return a node of two inputs applied to any number of them, from the left."""
        made = names[0]
        for name in names[1:]:
            made = self.node(kind, made, name)
        return made if isinstance(made, str) else self.number(made)


def spread(writing: Writing, x: str, rank: int, like: str) -> str:
    """Return a tensor of batch extent 1 with that of another one."""
    batch = writing.node("Shape", like, start=0, end=1)
    extents = writing.node("Concat", batch, writing.whole([1] * rank), axis=0) if rank else batch
    return writing.node("Expand", x, extents)


Row = Callable[[Writing], str]
"""How a vertex of an op is written: returns its tensor; raises ValueError where ONNX cannot say it."""
