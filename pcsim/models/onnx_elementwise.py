"""Operators of ONNX that work element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.models.onnx_file import onnx_module
from pcsim.models.onnx_node import Operator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.models.builder import Tensor
    from pcsim.models.onnx_node import Node, Translation

SELU = (1.67326319217681884765625, 1.05070102214813232421875)
"""The defaults of Selu: alpha and gamma."""


def unary(op: str, attributes: Mapping[str, tuple[str, Any]] | None = None) -> Translation:
    """Return the translation to an op of one input; ``attributes`` are {of ONNX: (of pcsim, default of ONNX)}."""
    given = attributes or {}

    def translate(node: Node) -> Tensor:
        said = {name: node.get(theirs, default) for theirs, (name, default) in given.items()}
        return node.vertex(op, [node.input(0)], **said)

    return translate


def several(op: str) -> Translation:
    """Return the translation to an op of any number of inputs; a single one is the result."""

    def translate(node: Node) -> Tensor:
        given = node.given()
        return node.vertex(op, given) if len(given) > 1 else node.vertex("identity", given)

    return translate


def binary(op: str) -> Translation:
    """Return the translation to an op of two inputs."""
    return lambda node: node.vertex(op, [node.input(0), node.input(1)])


def mean(node: Node) -> Tensor:
    """Return the mean of all inputs."""
    given = node.given()
    total = node.part("add", given) if len(given) > 1 else given[0]
    return node.vertex("multiply", [total, 1 / len(given)])


def power(node: Node) -> Tensor:
    """Return a power, of a known exponent where it is one number."""
    base, exponent = node.input(0), node.input(1)
    if exponent.array is not None and exponent.array.size == 1 and len(exponent.shape) <= len(base.shape):
        return node.vertex("power", [base], exponent=float(exponent.array.reshape(-1)[0]))
    return node.vertex("power", [base, exponent])


def clip(node: Node) -> Tensor:
    """Return the input between bounds, each a number that is known, or computed."""
    x, bounds = node.input(0), [node.inputs[slot] if node.has(slot) else None for slot in (1, 2)]
    fixed = {
        key: float(bound.array.reshape(-1)[0])
        for key, bound in zip(("min", "max"), bounds, strict=True)
        if bound is not None and bound.array is not None
    }
    low, high = bounds
    if low is not None and "min" not in fixed:
        x = node.part("maximum", [x, low])
    if high is not None and "max" not in fixed:
        return node.vertex("minimum", [x if "min" not in fixed else node.part("clip", [x], min=fixed["min"]), high])
    return node.vertex("clip", [x], **fixed) if fixed else node.vertex("identity", [x])


def selu(node: Node) -> Tensor:
    """Return SELU, whose two constants may be others."""
    alpha, gamma = node.get("alpha", SELU[0]), node.get("gamma", SELU[1])
    if np.allclose((alpha, gamma), SELU, rtol=1e-6):
        return node.vertex("selu", [node.input(0)])
    return node.vertex("multiply", [node.part("elu", [node.input(0)], alpha=alpha), gamma])


def gelu(node: Node) -> Tensor:
    """Return GELU, exact or by tanh."""
    return node.vertex("gelu", [node.input(0)], approximate=node.get("approximate", "none"))


def modulo(node: Node) -> Tensor:
    """Return the remainder, with the sign of the divisor, or with ``fmod`` that of the number divided."""
    a, b = node.input(0), node.input(1)
    if not node.get("fmod", 0):
        return node.vertex("mod", [a, b])
    size = node.part("mod", [node.part("abs", [a]), node.part("abs", [b])])
    return node.vertex("multiply", [node.part("sign", [a]), size])


FORMATS = {"FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"}
"""Number types of which a run has one for all numbers."""


def cast(node: Node) -> Tensor:
    """Return the input; on the way to whole numbers its fraction is cut off, as a truth value all but 0 is 1."""
    types = onnx_module().TensorProto.DataType
    x, before = node.input(0), types.Name(node.types[0])
    after = types.Name(node.need("to") if node.operator == "Cast" else node.types[1])
    if after in FORMATS or (before == after):
        return node.vertex("identity", [x])
    if after == "BOOL":
        return node.vertex("abs", [node.part("sign", [x])])
    if after not in ("INT32", "INT64"):
        node.refuse(f"turns numbers into {after} while the model runs")
    if before not in FORMATS:
        return node.vertex("identity", [x])
    size = node.part("floor", [node.part("abs", [x])])
    return node.vertex("multiply", [node.part("sign", [x]), size])


def identity(node: Node) -> Tensor:
    """Return the input itself."""
    return node.input(0)


def dropout(node: Node) -> list[Tensor | None]:
    """Return the input: outside of training nothing is dropped."""
    if node.number(2, "training_mode", 0) and node.number(1, "ratio", 0.5):
        node.refuse("drops numbers at random, as in training; export the model for inference")
    mask = node.builder.constant(np.ones(node.input(0).shape, bool))
    return [node.vertex("identity", [node.input(0)]), mask]


ALPHA = {"alpha": ("alpha", 1.0)}

UNARY: dict[str, Translation] = {
    **{
        name: unary(name.lower())
        for name in (
            "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor",
            "Log", "Mish", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign",
            "Sqrt", "Tan", "Tanh",
        )
    },
    "Celu": unary("celu", ALPHA),
    "Elu": unary("elu", ALPHA),
    "Gelu": gelu,
    "HardSigmoid": unary("hard_sigmoid", {"alpha": ("alpha", 0.2), "beta": ("beta", 0.5)}),
    "HardSwish": unary("hard_swish"),
    "LeakyRelu": unary("leaky_relu", {"alpha": ("slope", 0.01)}),
    "Neg": unary("negate"),
    "Selu": selu,
    "Shrink": unary("shrink", {"lambd": ("lambd", 0.5), "bias": ("bias", 0.0)}),
    "Swish": unary("silu", {"alpha": ("beta", 1.0)}),
    "ThresholdedRelu": unary("thresholded_relu", ALPHA),
}  # fmt: skip

WHOLE = {"Abs", "Ceil", "Floor", "Neg", "Relu", "Round", "Sign"}
"""Functions that are exact on whole numbers."""

ROWS = (
    *(Operator(name, translate, since=6, whole=name in WHOLE) for name, translate in UNARY.items()),
    Operator("Add", several("add"), since=7, whole=True),
    Operator("Sub", binary("subtract"), since=7, whole=True),
    Operator("Mul", several("multiply"), since=7, whole=True),
    Operator("Div", binary("divide"), since=7),
    Operator("Sum", several("add"), since=8, whole=True),
    Operator("Mean", mean, since=8),
    Operator("Max", several("maximum"), since=8, whole=True),
    Operator("Min", several("minimum"), since=8, whole=True),
    Operator("Pow", power, since=7),
    Operator("Mod", modulo, whole=True),
    Operator("PRelu", binary("prelu")),
    Operator("Clip", clip, since=11, whole=True),
    Operator("Cast", cast, since=6, whole=True),
    Operator("CastLike", cast, whole=True),
    Operator("Identity", identity, since=1, whole=True),
    Operator("Dropout", dropout, since=7, known=(1, 2)),
)
