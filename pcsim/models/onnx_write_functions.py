"""How functions of one input are written as nodes of ONNX.

Attributes of nodes are float32: where a model in float64 has a number that this rounds, its function is put together of
nodes that take numbers as tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import TYPE_CHECKING

from pcsim.ops.nonlinearities import CUBIC, FIT, SCALE, SELU_ALPHA

if TYPE_CHECKING:
    from pcsim.models.onnx_vertex import Row, Writing

Function = Callable[..., str]
"""(writing, x, **attributes of the op) -> the tensor f(x)."""


def plain(kind: str) -> Function:
    """Return a function that is one node without attributes."""
    return lambda w, x: w.node(kind, x)


def relu_part(w: Writing, x: str, negative: str) -> str:
    """Return the positive part of x, plus something that is 0 where x is positive."""
    return w.node("Add", w.node("Relu", x), negative)


def elu(w: Writing, x: str, alpha: float = 1.0) -> str:
    """Return x where positive, else alpha (exp(x) - 1)."""
    if w.exact(alpha):
        return w.node("Elu", x, alpha=alpha)
    return relu_part(w, x, w.node("Mul", w.node("Sub", w.node("Exp", w.node("Min", x, 0.0)), 1.0), alpha))


def selu(w: Writing, x: str) -> str:
    """Return elu times a number."""
    if w.exact(SELU_ALPHA, SCALE):
        return w.node("Selu", x, alpha=SELU_ALPHA, gamma=SCALE)
    return w.node("Mul", elu(w, x, SELU_ALPHA), SCALE)


def celu(w: Writing, x: str, alpha: float = 1.0) -> str:
    """Return alpha elu(x / alpha): ONNX has Celu in float32 alone."""
    return w.node("Mul", elu(w, w.node("Div", x, alpha)), alpha)


def leaky_relu(w: Writing, x: str, slope: float = 0.01) -> str:
    """Return x where positive, else slope times x."""
    if w.exact(slope):
        return w.node("LeakyRelu", x, alpha=slope)
    return relu_part(w, x, w.node("Mul", w.node("Min", x, 0.0), slope))


def thresholded_relu(w: Writing, x: str, alpha: float = 1.0) -> str:
    """Return x where above alpha, else 0."""
    if w.exact(alpha):
        return w.node("ThresholdedRelu", x, alpha=alpha)
    return w.node("Where", w.node("Greater", x, alpha), x, 0.0)


def shrink(w: Writing, x: str, lambd: float = 0.5, bias: float = 0.0) -> str:
    """Return x moved towards 0 where |x| is above lambd, else 0."""
    if w.exact(lambd, bias):
        return w.node("Shrink", x, lambd=lambd, bias=bias)
    moved = w.node("Sub", x, w.node("Mul", w.node("Sign", x), bias))
    return w.node("Where", w.node("Greater", w.node("Abs", x), lambd), moved, 0.0)


def hard_sigmoid(w: Writing, x: str, alpha: float = 1 / 6, beta: float = 0.5) -> str:
    """Return alpha x + beta, held between 0 and 1."""
    if w.exact(alpha, beta):
        return w.node("HardSigmoid", x, alpha=alpha, beta=beta)
    return w.node("Clip", w.node("Add", w.node("Mul", x, alpha), beta), 0.0, 1.0)


def hard_swish(w: Writing, x: str) -> str:
    """Return x times hard_sigmoid(x)."""
    return w.node("HardSwish", x) if w.exact(1 / 6) else w.node("Mul", x, hard_sigmoid(w, x))


def silu(w: Writing, x: str, beta: float = 1.0) -> str:
    """Return x sigmoid(beta x)."""
    return w.node("Mul", x, w.node("Sigmoid", x if beta == 1 else w.node("Mul", x, beta)))


def gelu(w: Writing, x: str, approximate: str = "none") -> str:
    """Return x times the normal distribution at x, exact or by its fit with tanh."""
    if w.exact(0.1):
        return w.node("Gelu", x, approximate=approximate)
    if approximate == "none":
        part = w.node("Erf", w.node("Mul", x, 1 / sqrt(2)))
    else:
        cube = w.node("Mul", w.node("Mul", w.node("Mul", x, x), x), CUBIC)
        part = w.node("Tanh", w.node("Mul", w.node("Add", x, cube), FIT))
    return w.node("Mul", w.node("Mul", x, 0.5), w.node("Add", part, 1.0))


def clip(w: Writing, x: str, min: float | None = None, max: float | None = None) -> str:
    """Return x held within bounds."""
    bounds = ["" if bound is None else w.number(bound) for bound in (min, max)]
    return w.node("Clip", x, *bounds)


FUNCTIONS: dict[str, Function] = {
    **{
        op: plain(kind)
        for op, kind in {
            "identity": "Identity", "negate": "Neg", "abs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil",
            "round": "Round", "reciprocal": "Reciprocal", "sqrt": "Sqrt", "exp": "Exp", "log": "Log", "erf": "Erf",
            "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh",
            "cosh": "Cosh", "tanh": "Tanh", "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh",
            "sigmoid": "Sigmoid", "softsign": "Softsign", "relu": "Relu", "softplus": "Softplus", "mish": "Mish",
        }.items()
    },
    "none": lambda _, x: x,
    "square": lambda w, x: w.node("Mul", x, x),
    "expm1": lambda w, x: w.node("Sub", w.node("Exp", x), 1.0),
    "log1p": lambda w, x: w.node("Log", w.node("Add", x, 1.0)),
    "clip": clip,
    "elu": elu,
    "selu": selu,
    "celu": celu,
    "leaky_relu": leaky_relu,
    "thresholded_relu": thresholded_relu,
    "shrink": shrink,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": hard_swish,
    "silu": silu,
    "gelu": gelu,
}  # fmt: skip
"""Functions of one input, and what layers may apply, by their names."""


def written(function: Function) -> Row:
    """Return how a vertex that applies a function is written."""
    return lambda w: function(w, w.x, **dict(w.call.attributes))


def activated(w: Writing, x: str) -> str:
    """Return a tensor with the activation of a layer applied."""
    return FUNCTIONS[w.call["activation"]](w, x)


ROWS: dict[str, Row] = {name: written(function) for name, function in FUNCTIONS.items() if name != "none"}
