"""Makes a graph document vertex by vertex: shapes are worked out at once, and so is all that is known already."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.documents.frozen_arrays import FrozenArray, read_only
from pcsim.errors import InputError, Problem, wrong
from pcsim.graph.names import MOST_CHARACTERS
from pcsim.models.batch_axis import without_batch_axis
from pcsim.models.model import Model
from pcsim.models.vertex_rows import Rows, VertexRow, reaching, rewired
from pcsim.ops import OPS, complete

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcsim.arrays import Shape
    from pcsim.ops.op import Call, Format, Op

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value of the model that is read: numbers that are known, a parameter, or a vertex.

    Attributes
    ----------
    array : the numbers, of a known tensor, or those that a parameter starts from; None for a vertex
    parameter : the name of the parameter that it is
    vertex : the name of the vertex that it is
    """

    shape: Shape
    array: Array | None = None
    parameter: str = ""
    vertex: str = ""

    @property
    def known(self) -> bool:
        """Whether its numbers are fixed: it is neither a vertex nor a parameter."""
        return self.array is not None and not self.parameter


MOST_IN_LISTS = 16
"""Constants and indices of more numbers than this are arrays, in a file beside the document."""

LARGEST = 1e30
"""What stands for infinity: a mask of a model adds it to scores, and their exponential is exactly 0."""

Operand = Tensor | Array | float
"""What a vertex takes: a tensor, or numbers, which are known."""


@dataclass
class Builder:
    """The document under way, with literal shapes: the model's own batch axis is an axis like any other.

    Attributes
    ----------
    problems : what could not be read, collected by the reader
    """

    title: str = ""
    source: str = ""
    rows: Rows = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    parameters: dict[str, Array] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    """{the maker's name: vertex}."""
    _constants: dict[tuple[str, Shape, bytes], str] = field(default_factory=dict)
    _vertices_of: dict[str, str] = field(default_factory=dict)
    """{parameter: the vertex that it is, where it is taken as an input}."""

    # -- tensors ---------------------------------------------------------------------------------------------

    def input(self, name: str, shape: Sequence[int], number_format: Format | None = None) -> Tensor:
        """Return an input of the model; without a number format, it has that of the first op that takes it."""
        given = {} if number_format is None else {"format": number_format}
        vertex = self._add(name, "input", (), {"shape": list(shape), **given})
        self.inputs[name] = vertex
        return Tensor(self.rows[vertex].call.shape, vertex=vertex)

    def parameter(self, name: str, array: Array) -> Tensor:
        """Return a parameter of the model that starts from these numbers; one that nothing takes is left out."""
        name = unique(name, self.parameters)
        self.parameters[name] = array
        return Tensor(array.shape, array, parameter=name)

    def constant(self, value: Operand) -> Tensor:
        """Return known numbers as a tensor."""
        if isinstance(value, Tensor):
            return value
        array = np.asarray(value)
        return Tensor(array.shape, array)

    def value(self, tensor: Tensor, what: str) -> Array:
        """Return the numbers of a tensor that must be known; raises InputError saying what they are for."""
        if tensor.array is None:
            raise wrong((), f"{what} must be known: {tensor.vertex!r} is computed while the model runs")
        return tensor.array

    def vertex(
        self,
        op: str,
        inputs: Sequence[Operand] = (),
        attributes: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, Tensor] | None = None,
        buffers: Mapping[str, Array] | None = None,
        name: str = "",
    ) -> Tensor:
        """Return what an op computes of tensors: a new vertex, or numbers where all of them are known.

        Parameters
        ----------
        params : {parameter slot: a parameter, or known numbers}
        buffers : {buffer: its numbers}
        name : a name for the vertex, made unique; default: that of the op

        Raises
        ------
        InputError
            Where the op does not take these inputs or attributes.
        """
        row, tensors = OPS[op], [self.constant(each) for each in inputs]
        given = {key: frozen(value) for key, value in (attributes or {}).items()}
        call = complete(row, tuple(each.shape for each in tensors), given)
        if row.role == "function" and not row.params(call) and all(each.known for each in tensors) and not buffers:
            return self.constant(worked_out(row, call, tensors))
        taken = [self._taken(row, slot, each) for slot, each in enumerate(tensors)]
        slots = {slot: self._slot(f"{name}.{slot}", each) for slot, each in (params or {}).items()}
        vertex = self._add(
            name or op, op, taken, given, slots, {key: np.asarray(a) for key, a in (buffers or {}).items()}
        )
        return Tensor(self.rows[vertex].call.shape, vertex=vertex)

    def _taken(self, op: Op, slot: int, tensor: Tensor) -> str:
        """Return the vertex that an op takes; raises InputError where it would have to be known or fed."""
        takes = op.slot(slot)
        if tensor.vertex and not takes.differentiable and OPS[self.rows[tensor.vertex].op].role != "source":
            message = f"{takes.name!r} of op {op.name!r} must be known or fed: {tensor.vertex!r} is computed"
            raise wrong((), message)
        return self.vertex_of(tensor, takes.format)

    def can_be_whole(self, tensor: Tensor) -> bool:
        """Return whether a tensor is known, or an input that nothing takes as floating-point numbers."""
        if tensor.known:
            return True
        row = self.rows.get(tensor.vertex)
        return row is not None and row.op == "input" and row.attributes.get("format", "whole") == "whole"

    def _slot(self, name: str, tensor: Tensor) -> str:
        """Return the name of the parameter that fills a slot; numbers that are known become one."""
        if tensor.array is None:
            raise wrong(
                (), f"a weight of this op is a parameter, and {tensor.vertex!r} is computed while the model runs"
            )
        kept = tensor if tensor.parameter else self.parameter(name, tensor.array)
        return kept.parameter

    def vertex_of(self, tensor: Tensor, number_format: Format = "float") -> str:
        """Return the vertex that a tensor is; numbers and parameters become one."""
        if tensor.parameter:
            name = tensor.parameter
            if name not in self._vertices_of:
                given = {"shape": list(tensor.shape)}
                self._vertices_of[name] = self._add(name, "parameter", (), given, {"value": name})
            return self._vertices_of[name]
        if tensor.array is not None:
            return self._constant_vertex(tensor.array, number_format)
        row = self.rows[tensor.vertex]
        if row.op == "input":
            said = row.attributes.get("format", number_format)
            if said != number_format:
                raise wrong((), f"input {tensor.vertex!r} is taken as {said} numbers and as {number_format} ones")
            given = {**row.attributes, "format": said}
            self.rows[tensor.vertex] = replace(row, attributes=given, call=complete(OPS["input"], (), given))
        return tensor.vertex

    def _constant_vertex(self, array: Array, number_format: Format) -> str:
        array = np.asarray(array, np.int64 if number_format == "whole" else np.float64)
        if number_format == "float":
            array = np.asarray(finite(array))
        key = (number_format, array.shape, array.tobytes())
        if key not in self._constants:
            given: dict[str, Any] = {"value": frozen(array)}
            if array.size > 1 and (array == array.flat[0]).all():
                given = {"value": array.flat[0].item(), "shape": list(array.shape)}
            if number_format == "whole":
                given["format"] = "whole"
            self._constants[key] = self._add("constant", "constant", (), given)
        return self._constants[key]

    def _add(
        self,
        name: str,
        op: str,
        inputs: Sequence[str],
        attributes: dict[str, Any],
        params: dict[str, str] | None = None,
        buffers: dict[str, Array] | None = None,
    ) -> str:
        call = complete(OPS[op], tuple(self.rows[each].call.shape for each in inputs), attributes)
        self._check_slots(OPS[op], call, params or {})
        name = unique(name, self.rows)
        self.rows[name] = VertexRow(op, tuple(inputs), attributes, call, params or {}, buffers or {})
        return name

    def _check_slots(self, op: Op, call: Call, params: Mapping[str, str]) -> None:
        for slot, spec in op.params(call).items():
            shape = self.parameters[params[slot]].shape if slot in params else spec.shape
            if shape != spec.shape:
                raise wrong(slot, f"{params[slot]!r} has shape {list(shape)}, expected {list(spec.shape)}")

    # -- the model -------------------------------------------------------------------------------------------

    def model(self, outputs: Mapping[str, Tensor], batch_axis: int | None = None) -> Model:
        """Return the model whose outputs are these, by their maker's names; raises InputError with every problem.

        batch_axis : the axis of inputs that is the batch: where its extent is 1 it is left out, and of all that follows
            as far as ops allow
        """
        if self.problems:
            raise InputError(self.problems)
        empty = [name for name, tensor in outputs.items() if not prod(tensor.shape)]
        if empty:
            raise InputError(Problem((), f"output {name!r} has no elements") for name in empty)
        names = [self._output(name, tensor) for name, tensor in outputs.items()]
        rows = reaching(self.rows, names)
        if batch_axis is not None:
            rows = without_batch_axis(rows, batch_axis)
        rows = reaching(rewired(rows, names), names)
        return self._model(rows, names)

    def _model(self, rows: Rows, outputs: list[str]) -> Model:
        taken = {name for row in rows.values() for name in row.params.values()}
        weights = {name: array for name, array in self.parameters.items() if name in taken}
        buffers = {f"{name}.{key}": array for name, row in rows.items() for key, array in row.buffers.items()}
        plain = {
            **({"title": self.title} if self.title else {}),
            **({"source": self.source} if self.source else {}),
            "parameters": {name: {"shape": list(array.shape)} for name, array in weights.items()},
            "vertices": {name: row.entry for name, row in rows.items()},
            "outputs": outputs,
        }
        inputs = {name: rows[name].call.shape for name in self.inputs.values()}
        return Model(
            plain, {name: as_floats(array) for name, array in (weights | buffers).items()}, inputs, tuple(outputs)
        )

    def _output(self, name: str, tensor: Tensor) -> str:
        """Return the vertex that an output is: one of its own, by its name."""
        if name == tensor.vertex and OPS[self.rows[name].op].role == "function":
            return name
        return self._add(name, "identity", [self.vertex_of(tensor)], {})


def unique(name: str, names: Mapping[str, Any]) -> str:
    r"""Return a legal name that is not among others: the one given, as far as may be.

    >>> unique("conv", {"conv": 0}), unique(" a\tb ", {})
    ('conv.2', 'a_b')
    """
    shown = "".join(each if each.isprintable() else "_" for each in name.strip())
    name, number = shown[: MOST_CHARACTERS - 8].strip() or "vertex", 1
    while (made := name if number == 1 else f"{name}.{number}") in names:
        number += 1
    return made


def frozen(value: Any) -> Any:
    """Return an array as an attribute holds it: as it is where it has many numbers, else as lists."""
    if not isinstance(value, np.ndarray | np.generic):
        return value
    array = np.asarray(value)
    return FrozenArray(array) if array.size > MOST_IN_LISTS else array.tolist()


def finite(numbers: Any) -> Any:
    """Return numbers with what stands for infinity in the place of it."""
    return np.nan_to_num(numbers, nan=np.nan, posinf=LARGEST, neginf=-LARGEST)


def worked_out(op: Op, call: Call, tensors: Sequence[Tensor]) -> Array:
    """Return what an op computes of known numbers, in float64."""
    formats = [op.slot(slot).format for slot in range(len(tensors))]
    kinds = [np.int64 if each == "whole" else np.float64 for each in formats]
    inputs = tuple(np.asarray(each.array, kind)[None, None] for each, kind in zip(tensors, kinds, strict=True))
    with np.errstate(all="ignore"):
        mu, _ = op.forward(np, call, {}, inputs)
    numbers: Array = np.broadcast_to(mu, (1, 1, *call.shape))[0, 0]
    return numbers


def as_floats(array: Array) -> Array:
    """Return numbers in a floating-point format that pcsim has, so that no one can write to them."""
    fits = array.dtype in (np.float32, np.float64)
    return read_only(array if fits else array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64))
