"""Vertices without inputs: their values come from data, from the document, or from learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from pcsim.ops.attributes import choice, is_whole, numbers, optional, shape
from pcsim.ops.op import Attribute, Call, Op, ParameterSpec

if TYPE_CHECKING:
    from pcsim.arrays import Shape


def not_computed(*arguments: Any) -> NoReturn:
    """Refuse to compute a source: an engine sets its value."""
    message = f"a source computes nothing: its value is set, not predicted (got {len(arguments)} arguments)"
    raise TypeError(message)


def given_shape(call: Call) -> Shape:
    """Return the shape that the document gives."""
    result: Shape = call["shape"]
    return result


def constant_shape(call: Call) -> Shape:
    """Return the shape of a constant: its own, or the one that a single number fills."""
    own, wanted = call["value"].array.shape, call["shape"]
    if call["format"] == "whole" and not is_whole(call["value"].array):
        raise ValueError("expected whole numbers (format: whole)")
    if wanted not in (None, own) and own != ():
        message = f"the value has shape {own}, expected {wanted} or a single number"
        raise ValueError(message)
    return tuple(own) if wanted is None else given_shape(call)


def parameter_params(call: Call) -> dict[str, ParameterSpec]:
    """Return the one parameter of a parameter vertex: its value."""
    return {"value": ParameterSpec(given_shape(call))}


FORMATS = ("float", "whole")

FORMAT = Attribute(choice("a number format", FORMATS), "float", summary="float, or whole for indices")
SHAPE = Attribute(shape, required=True, summary="shape of the vertex, without the batch")

ROWS = (
    Op(
        name="input",
        summary="a value that the data sets",
        arity=(0, 0),
        shape=given_shape,
        forward=not_computed,
        to_inputs=not_computed,
        attributes={
            "shape": SHAPE,
            "format": FORMAT,
        },
        role="source",
    ),
    Op(
        name="constant",
        summary="a value that the document sets",
        arity=(0, 0),
        shape=constant_shape,
        forward=not_computed,
        to_inputs=not_computed,
        attributes={
            "value": Attribute(
                numbers, required=True, summary="a number, nested lists, or {file: w.npz, key: name}", array=True
            ),
            "shape": Attribute(optional(shape), summary="shape that a single number fills"),
            "format": FORMAT,
        },
        role="source",
    ),
    Op(
        name="parameter",
        summary="a learnt value as a vertex of its own, usable as an input",
        arity=(0, 0),
        shape=given_shape,
        forward=not_computed,
        to_inputs=not_computed,
        params=parameter_params,
        slots={"value": "its shape"},
        attributes={"shape": SHAPE},
        role="parameter",
        source="[S] draws parameters as vertices",
    ),
)
