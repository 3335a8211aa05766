"""ONNX files as models: node by node, what is known worked out, the rest written as vertices."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings

import numpy as np

from pcsim.errors import Attempts, InputError, Problem, nearest, wrong
from pcsim.models.builder import Builder, Tensor
from pcsim.models.onnx_control import CONTROL
from pcsim.models.onnx_file import (
    STANDARD,
    number_types,
    onnx_module,
    opset_of,
    read_model,
    skeleton,
    used_names,
    written_out,
)
from pcsim.models.onnx_node import Node, Value, tensor_of
from pcsim.models.onnx_notes import noted
from pcsim.models.onnx_operators import OPERATORS
from pcsim.ops.attributes import positive

if TYPE_CHECKING:
    from os import PathLike

    from pcsim.models.model import Model
    from pcsim.models.onnx_node import Operator

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = Mapping[str, Any]

RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators that draw numbers anew in each run."""


MALFORMED = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, StopIteration, TypeError, ValueError,
)  # fmt: skip
"""What reading may raise of a tensor that is damaged, or of a node that is not as its operator asks."""


@np.errstate(all="ignore")
def from_onnx(
    source: str | PathLike[str] | bytes | Any,
    dimensions: Mapping[str, int] | None = None,
    *,
    constants: Arrays | Collection[str] = (),
    parameters: Arrays | Collection[str] = (),
    batch_axis: int | None = 0,
) -> Model:
    """Return an ONNX model as a graph with its weights.

    Tensors of floating-point numbers that the file holds as initialisers become parameters, single numbers do not: as
    a rule they are constants of the model. What is computed from shapes, constants and whole numbers alone is worked
    out. What `to_onnx` has written, and nobody has changed since
    but for weights, comes back as the graph that it was, with its delays.

    Parameters
    ----------
    source : a path, the bytes of a file, or a model proto, of opset 13 to 28
    dimensions : {name: extent} of dimensions that the file leaves open; one without a name is ``INPUT.AXIS``. An open
        batch dimension is 1
    constants : {input or initialiser: array} that are known when the model is read; or names of initialisers that are
        no weights
    parameters : {input or initialiser: array} that are parameters and start from these numbers; or names of
        initialisers that are parameters
    batch_axis : the axis of inputs that is the batch; where its extent is 1 it is left out, as far as ops allow. None:
        shapes stay as they are

    Raises
    ------
    InputError
        With every problem found: nodes that cannot be written in ops of pcsim, by name; dimensions that nothing fixes;
        a file that is damaged, or tensors that are missing.
    """
    model, where = read_model(source)
    if not (dimensions or constants or parameters) and (made := noted(model, onnx_module().numpy_helper.to_array)):
        return made
    opset = opset_of(model, where)
    nodes = written_out(skeleton(model), {*OPERATORS, *CONTROL})
    title = where.removesuffix(": ").rpartition("/")[2].removesuffix(".onnx") or model.graph.name
    builder = Builder(title, _source_of(model))
    reader = Reader(builder, where, opset, number_types(nodes), by_name(parameters), by_name(constants))
    reader.used = used_names(nodes.graph)
    reader.check_given(model.graph)
    scope = reader.scope_of(model.graph, Dimensions(dict(dimensions or {}), batch_axis or 0))
    reader.walk(nodes.graph, scope)
    outputs = {info.name: reader.attempt(lambda: reader.output(info.name, scope)) for info in model.graph.output}  # noqa: B023
    if reader.problems:
        raise InputError(reader.problems)
    return builder.model({name: each for name, each in outputs.items() if each is not None}, batch_axis)


def _source_of(model: Any) -> str:
    made_by = f"{model.producer_name} {model.producer_version}".strip()
    return f"ONNX, written by {made_by}" if made_by else "ONNX"


@dataclass
class Dimensions(Attempts):
    """The extents of dimensions that a file leaves open."""

    given: dict[str, Any]
    batch_axis: int
    problems: list[Problem] = field(default_factory=list)
    open: set[str] = field(default_factory=set)

    def shape_of(self, info: Any) -> list[int]:
        """Return the shape of an input; what nothing fixes is a problem."""
        return [self._extent(info.name, axis, dim) for axis, dim in enumerate(info.type.tensor_type.shape.dim)]

    def _extent(self, name: str, axis: int, dim: Any) -> int:
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            return int(dim.dim_value)
        key = dim.dim_param or f"{name}.{axis}"
        self.open.add(key)
        if key not in self.given and axis == self.batch_axis:
            self.given[key] = 1
        if key not in self.given:
            message = f"input {name!r}: nothing fixes its dimension {key!r} (axis {axis}); give it: {key}=16"
            self.problems.append(Problem((), message))
        return self._whole(key)

    def _whole(self, key: str) -> int:
        """Return a given extent; 1 where it is none, which is a problem."""
        given = self.given.get(key, 1)
        try:
            return positive(given)
        except ValueError as error:
            self.problems.append(Problem((), f"dimension {key!r}: got {given!r}, {error}"))
            return 1

    def check(self, where: str) -> None:
        """Raise InputError for inputs that are wrong, extents that are missing, and names that no dimension has."""
        unknown = [name for name in self.given if name not in self.open]
        self.problems += [
            Problem((), f"no input has an open dimension {name!r}{nearest(name, self.open)}") for name in unknown
        ]
        if self.problems:
            raise InputError(Problem((), f"{where}{problem.message}") for problem in self.problems)


Scope = ChainMap[str, Value]
"""{name: value}; None for what a node would have made that cannot be read."""


@dataclass
class Reader(Attempts):
    """The model under way.

    Attributes
    ----------
    where : how messages begin: the file
    types : {value: number type of ONNX}
    used : the values that some node takes, or that are outputs
    """

    builder: Builder
    where: str
    opset: int
    types: Mapping[str, int]
    weights: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    used: frozenset[str] = frozenset()

    # -- what a graph begins with ------------------------------------------------------------------------------

    def check_given(self, graph: Any) -> None:
        """Raise InputError for names of constants and parameters that the model does not have."""
        names = [info.name for info in graph.input] + [tensor.name for tensor in graph.initializer]
        problems = [
            Problem((), f"{self.where}no input or initialiser is named {name!r}{nearest(name, names)}")
            for name in (*self.constants, *self.weights)
            if name not in names
        ]
        if problems:
            raise InputError(problems)

    def scope_of(self, graph: Any, dimensions: Dimensions) -> Scope:
        """Return the inputs and initialisers of the whole model."""
        scope: Scope = ChainMap()
        self.initialisers(graph, scope)
        for info in graph.input:
            if info.name in scope:
                continue
            if info.name in self.constants:
                scope[info.name] = self.builder.constant(np.asarray(self.constants[info.name]))
            elif info.name in self.weights:
                scope[info.name] = self.builder.parameter(info.name, np.asarray(self.weights[info.name]))
            else:
                scope[info.name] = dimensions.attempt(lambda: self._input(info, dimensions))  # noqa: B023
        dimensions.check(self.where)
        return scope

    def _input(self, info: Any, dimensions: Dimensions) -> Tensor:
        if not info.type.HasField("tensor_type"):
            kind = (info.type.WhichOneof("value") or "value without a type").removesuffix("_type")
            raise wrong((), f"input {info.name!r} is a {kind}, expected a tensor of numbers")
        if info.type.tensor_type.elem_type == onnx_module().TensorProto.STRING:
            raise wrong((), f"input {info.name!r} holds text, expected numbers")
        if not info.type.tensor_type.HasField("shape"):
            raise wrong((), f"input {info.name!r} has no shape, not even the number of its axes")
        shape = dimensions.shape_of(info)
        if all(shape):
            return self.builder.input(info.name, shape)
        kind = onnx_module("onnx.helper").tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        return self.builder.constant(np.zeros(shape, kind))

    def initialisers(self, graph: Any, scope: Scope) -> None:
        """Add the tensors that a graph holds: parameters, and such as are known."""
        to_array = onnx_module("onnx.numpy_helper").to_array
        for tensor in graph.initializer:
            try:
                array = to_array(tensor)
            except MALFORMED as error:
                self.wrong(f"tensor {tensor.name!r} is not as ONNX defines it: {said(error)}")
                continue
            given = self.constants.get(tensor.name, self.weights.get(tensor.name))
            array = array if given is None else np.asarray(given)
            learnt = is_float(tensor.data_type) and array.ndim > 0 and bool(np.isfinite(array).all())
            if tensor.name in self.weights or (learnt and tensor.name not in self.constants):
                scope[tensor.name] = self.builder.parameter(tensor.name, array)
            else:
                scope[tensor.name] = self.builder.constant(array)

    def output(self, name: str, scope: Scope) -> Tensor | None:
        """Return an output of the model; None where it could not be read."""
        if name not in scope or isinstance(scope[name], tuple):
            what = "is a sequence, expected a tensor of numbers" if name in scope else "is made by no node"
            raise wrong((), f"{self.where}output {name!r} {what}")
        return tensor_of(scope[name]) if scope[name] is not None else None

    def wrong(self, message: str) -> None:
        """Note a problem."""
        self.problems.append(Problem((), self.where + message))

    # -- nodes -------------------------------------------------------------------------------------------------

    def walk(self, graph: Any, scope: Scope) -> None:
        """Read the nodes of a graph, in which each follows those that it takes from."""
        for number, proto in enumerate(graph.node):
            label = f"node {proto.name!r} ({proto.op_type})" if proto.name else f"node {number} ({proto.op_type})"
            try:
                made = self._made(proto, label, scope)
            except InputError as error:
                self.wrong("; ".join(f"{label}: {problem}" for problem in error.problems))
                made = [None] * len(proto.output)
            except MALFORMED as error:
                self.wrong(f"{label}: is not as ONNX defines it: {said(error)}")
                made = [None] * len(proto.output)
            scope.update({name: each for name, each in zip(proto.output, made, strict=False) if name})

    def _made(self, proto: Any, label: str, scope: Scope) -> Sequence[Value]:
        """Return the value of each output of a node; None where what it takes could not be read."""
        missing = [name for name in proto.input if name and name not in scope]
        if missing:
            message = f"takes {missing[0]!r}, which no node before it makes"
            raise wrong((), message)
        inputs = [scope[name] if name else None for name in proto.input]
        if any(name and each is None for name, each in zip(proto.input, inputs, strict=True)):
            return [None] * len(proto.output)
        if proto.domain in STANDARD and proto.op_type in CONTROL:
            return CONTROL[proto.op_type](self, proto, inputs, scope)
        tensors = [tensor_of(each) if name else None for name, each in zip(proto.input, inputs, strict=True)]
        if all(each is None or each.known for each in tensors) and proto.op_type not in RANDOM:
            return self._folded(proto, tensors)
        return self._translated(proto, label, tensors)

    def _folded(self, proto: Any, inputs: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return what a node computes of known numbers."""
        evaluator = onnx_module("onnx.reference").ReferenceEvaluator
        arrays = {name: each.array for name, each in zip(proto.input, inputs, strict=True) if each is not None}
        try:
            with np.errstate(all="ignore"), catch_warnings(action="ignore"):
                found = evaluator(proto, opsets={"": self.opset}).run(None, arrays)
        except Exception as error:  # noqa: BLE001 - whatever the reference of onnx raises
            self._row(proto)
            message = f"cannot be worked out: {said(error)}"
            raise wrong((), message) from None
        return [self.builder.constant(numbers(each)) for each in found]

    def _translated(self, proto: Any, label: str, inputs: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        row = self._row(proto)
        types = [self.types.get(name, 1) for name in proto.input]
        node = Node(
            self.builder, proto.op_type, label, self.opset, inputs, list(proto.output), attributes_of(proto), types
        )
        if not row.whole and self._computes_whole(proto, inputs, row):
            raise wrong((), "computes with whole numbers or truth values while the model runs")
        for slot in row.known:
            node.value(slot, f"input {slot}")
        made = row.translate(node)
        outputs = [made] if isinstance(made, Tensor) else list(made)
        self._check_outputs(proto, outputs)
        return outputs

    def _row(self, proto: Any) -> Operator:
        """Return the row of an operator; raises InputError where it is not read, or only from a later version on."""
        row = OPERATORS.get(proto.op_type) if proto.domain in STANDARD else None
        if row is None:
            what = "draws random numbers" if proto.op_type in RANDOM else "is not among the operators that are read"
            raise wrong((), f"{what}: pcsim list onnx")
        if self.opset < row.since:
            message = f"is read from opset {row.since} on, and the model has {self.opset}; onnx.version_converter helps"
            raise wrong((), message)
        return row

    def _computes_whole(self, proto: Any, inputs: Sequence[Tensor | None], row: Operator) -> bool:
        """Return whether a node takes whole numbers or truth values that are not known, or makes them."""
        running = [
            name
            for slot, (name, each) in enumerate(zip(proto.input, inputs, strict=True))
            if each is not None and not each.known and slot not in row.indices
        ]
        return not all(is_float(self.types.get(name, 1)) for name in [*running, proto.output[0]])

    def _check_outputs(self, proto: Any, made: Sequence[Tensor | None]) -> None:
        for slot, name in enumerate(proto.output):
            if name in self.used and (slot >= len(made) or made[slot] is None):
                message = f"its output {slot} ({name!r}) is not among what is read"
                raise wrong((), message)


def by_name(given: Arrays | Collection[str]) -> dict[str, Any]:
    """Return arrays by name, None for what was given by its name alone."""
    return dict(given) if isinstance(given, Mapping) else dict.fromkeys(given)


def said(error: Exception) -> str:
    """Return what an error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def attributes_of(proto: Any) -> dict[str, Any]:
    """Return the attributes of a node as Python data: numbers, text, lists, arrays."""
    helper, to_array = onnx_module("onnx.helper"), onnx_module("onnx.numpy_helper").to_array
    found = {}
    for attribute in proto.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        elif isinstance(value, float):
            value = as_written(value)
        elif attribute.HasField("t"):
            value = to_array(value)
        elif isinstance(value, list):
            value = [each.decode(errors="replace") if isinstance(each, bytes) else each for each in value]
        found[attribute.name] = value
    return found


def as_written(value: float) -> float:
    """Return a number as a person wrote it, of which ONNX keeps float32.

    >>> as_written(9.999999747378752e-06)
    1e-05
    """
    return float(str(np.float32(value)))


def numbers(found: Any) -> Array:
    """Return what was worked out as an array of numbers; raises InputError for text, sequences and nothing."""
    if isinstance(found, list | dict) or found is None or np.asarray(found).dtype.kind in "OUS":
        raise wrong((), "makes text, a sequence or an optional value, expected a tensor of numbers")
    return np.asarray(found)


def is_float(kind: int) -> bool:
    """Return whether a number type of ONNX is floating-point numbers."""
    proto = onnx_module().TensorProto
    return kind in (proto.FLOAT, proto.DOUBLE, proto.FLOAT16, proto.BFLOAT16, proto.UNDEFINED)
