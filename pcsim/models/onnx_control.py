"""Control flow of ONNX, followed when the model is read: branches are chosen, loops written out, sequences split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import wrong
from pcsim.models.onnx_node import Value, tensor_of

if TYPE_CHECKING:
    from pcsim.models.builder import Tensor
    from pcsim.models.onnx_reader import Reader, Scope

Values = Sequence[Value]
Control = Callable[["Reader", Any, Values, "Scope"], Values]

MOST_STEPS = 10_000
"""A loop of more steps is not written out."""


def graph_attribute(proto: Any, name: str) -> Any:
    """Return a graph that a node holds."""
    return next(attribute.g for attribute in proto.attribute if attribute.name == name)


def number_attribute(proto: Any, name: str, default: Any) -> Any:
    """Return a number or a list of numbers that a node holds, or the default."""
    for attribute in proto.attribute:
        if attribute.name == name:
            return list(attribute.ints) if attribute.ints else attribute.i
    return default


def known_number(value: Value, what: str) -> Any:
    """Return the number of a tensor that must be known; None where the tensor is not given."""
    if value is None:
        return None
    tensor = tensor_of(value)
    if not tensor.known or tensor.array is None:
        message = f"{what} is computed while the model runs: only what is known when it is read can be followed"
        raise wrong((), message)
    return tensor.array.reshape(-1)[0].item()


def branch(reader: Reader, proto: Any, inputs: Values, scope: Scope) -> Values:
    """Read the branch that the condition chooses."""
    chosen = known_number(inputs[0], "the condition")
    return inner(reader, graph_attribute(proto, "then_branch" if chosen else "else_branch"), scope, {})


def inner(reader: Reader, graph: Any, scope: Scope, given: dict[str, Value]) -> list[Value]:
    """Read a graph within a node; its names are its own, and it sees those around it."""
    own = scope.new_child(dict(given))
    reader.initialisers(graph, own)
    reader.walk(graph, own)
    return [own.get(info.name) for info in graph.output]


def loop(reader: Reader, proto: Any, inputs: Values, scope: Scope) -> Values:
    """Write out a loop whose number of steps, and whose condition after each, are known."""
    body = graph_attribute(proto, "body")
    most, going = known_number(inputs[0], "the number of steps"), known_number(inputs[1], "the condition")
    names = [info.name for info in body.input]
    state, rows, step = list(inputs[2:]), [], 0
    while going in (None, True, 1) and (most is None or step < most):
        if step == MOST_STEPS:
            message = f"a loop of more than {MOST_STEPS:,} steps is not written out"
            raise wrong((), message)
        counter = reader.builder.constant(np.asarray(step, np.int64))
        said = reader.builder.constant(np.asarray(True))
        given = dict(zip(names, [counter, said, *state], strict=True))
        condition, *made = inner(reader, body, scope, given)
        going = known_number(condition, "the condition after a step")
        state = made[: len(state)]
        rows.append(made[len(state) :])
        step += 1
    names = proto.output[len(state) :]
    if names and not rows:
        message = "a loop without a step makes tensors without elements"
        raise wrong((), message)
    return [*state, *(stack(reader, name, [row[each] for row in rows], 0) for each, name in enumerate(names))]


def stack(reader: Reader, name: str, parts: Values, axis: int) -> Tensor | None:
    """Return tensors side by side along a new axis; None where one of them could not be read."""
    if not name or any(part is None for part in parts):
        return None
    given = [tensor_of(part) for part in parts]
    axis %= len(given[0].shape) + 1
    shape = [*given[0].shape[:axis], 1, *given[0].shape[axis:]]
    wide = [reader.builder.vertex("reshape", [part], {"shape": shape}, name=f"{name}.step") for part in given]
    return reader.builder.vertex("concat", wide, {"axis": axis}, name=name)


def scan(reader: Reader, proto: Any, inputs: Values, scope: Scope) -> Values:
    """Write out a scan: a step for each element along an axis of its inputs."""
    if reader.opset < 9:
        raise wrong((), f"is read from opset 9 on, and the model has {reader.opset}; onnx.version_converter helps")
    body, count = graph_attribute(proto, "body"), number_attribute(proto, "num_scan_inputs", 0)
    first = len(inputs) - count
    state, scanned = list(inputs[:first]), inputs[first:]
    axes = number_attribute(proto, "scan_input_axes", [0] * count)
    back = number_attribute(proto, "scan_input_directions", [0] * count)
    made_of = proto.output[first:]
    out_axes = number_attribute(proto, "scan_output_axes", [0] * len(made_of))
    out_back = number_attribute(proto, "scan_output_directions", [0] * len(made_of))
    names = [info.name for info in body.input]
    steps = tensor_of(scanned[0]).shape[axes[0]]
    rows = []
    for step in range(steps):
        parts = [
            taken(reader, each, axis, steps - 1 - step if turned else step)
            for each, axis, turned in zip(scanned, axes, back, strict=True)
        ]
        made = inner(reader, body, scope, dict(zip(names, [*state, *parts], strict=True)))
        state = made[:first]
        rows.append(made[first:])
    outputs = zip(made_of, out_axes, out_back, strict=True)
    return [
        *state,
        *(
            stack(reader, name, [row[each] for row in (rows[::-1] if turned else rows)], axis)
            for each, (name, axis, turned) in enumerate(outputs)
        ),
    ]


def taken(reader: Reader, value: Value, axis: int, step: int) -> Tensor:
    """Return one element along an axis."""
    tensor = tensor_of(value)
    axis %= len(tensor.shape)
    part = reader.builder.vertex("slice", [tensor], {"axis": axis, "start": step, "stop": step + 1}, name="step")
    shape = [*part.shape[:axis], *part.shape[axis + 1 :]]
    return reader.builder.vertex("reshape", [part], {"shape": shape}, name="step")


# -- sequences of tensors --------------------------------------------------------------------------------------


def split_to_sequence(reader: Reader, proto: Any, inputs: Values, scope: Scope) -> Values:
    """Return the parts of a tensor along an axis, as a sequence."""
    tensor = tensor_of(inputs[0])
    axis = number_attribute(proto, "axis", 0) % len(tensor.shape)
    given = tensor_of(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else None
    keep = given is not None or number_attribute(proto, "keepdims", 1)
    extent, size = tensor.shape[axis], np.asarray(1 if given is None else reader.builder.value(given, "the lengths"))
    even = [min(int(size), extent - first) for first in range(0, extent, int(size))] if size.ndim == 0 else []
    lengths = even or [int(each) for each in size]
    stops = [int(each) for each in np.cumsum(lengths)]
    cuts = [{"axis": axis, "start": stop - each, "stop": stop} for stop, each in zip(stops, lengths, strict=True)]
    parts = [reader.builder.vertex("slice", [tensor], cut, name=proto.output[0]) for cut in cuts]
    if not keep:
        shape = [*tensor.shape[:axis], *tensor.shape[axis + 1 :]]
        parts = [reader.builder.vertex("reshape", [part], {"shape": shape}, name=proto.output[0]) for part in parts]
    return [tuple(parts)]


def sequence_at(reader: Reader, proto: Any, inputs: Values, scope: Scope) -> Values:
    """Return a tensor of a sequence."""
    return [sequence_of(inputs[0])[int(known_number(inputs[1], "the place in the sequence"))]]


def sequence_construct(reader: Reader, proto: Any, inputs: Values, scope: Scope) -> Values:
    """Return tensors as a sequence."""
    return [tuple(tensor_of(each) for each in inputs)]


def concat_from_sequence(reader: Reader, proto: Any, inputs: Values, scope: Scope) -> Values:
    """Return the tensors of a sequence one behind the other, along an axis or a new one."""
    axis, parts = number_attribute(proto, "axis", 0), sequence_of(inputs[0])
    if number_attribute(proto, "new_axis", 0):
        return [stack(reader, proto.output[0], parts, axis)]
    return [reader.builder.vertex("concat", parts, {"axis": axis}, name=proto.output[0])]


def sequence_of(value: Value) -> tuple[Tensor, ...]:
    """Return a value that must be a sequence."""
    if not isinstance(value, tuple):
        raise wrong((), "takes a tensor, expected a sequence")
    return value


CONTROL: dict[str, Control] = {
    "If": branch,
    "Loop": loop,
    "Scan": scan,
    "SplitToSequence": split_to_sequence,
    "SequenceAt": sequence_at,
    "SequenceConstruct": sequence_construct,
    "ConcatFromSequence": concat_from_sequence,
}
"""Operators that hold graphs, or sequences of tensors."""
