"""Functions, norms, reductions and scans in autograd's NumPy, of one sample, and cases of each."""

from __future__ import annotations

from math import pi, sqrt

import autograd.numpy as anp
from autograd.scipy.special import erf
from op_case import Case


def sigmoid(x):
    return 1 / (1 + anp.exp(-x))


def softplus(x):
    return anp.log(1 + anp.exp(x))


def elu(x, alpha=1.0):
    return anp.where(x > 0, x, alpha * (anp.exp(x) - 1))


def gelu(x, approximate="none"):
    if approximate == "none":
        return 0.5 * x * (1 + erf(x / sqrt(2)))
    return 0.5 * x * (1 + anp.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))


def shrink(x, lambd=0.5, bias=0.0):
    return anp.where(x > lambd, x - bias, anp.where(x < -lambd, x + bias, 0.0 * x))


def clip(x, min=None, max=None):
    x = x if min is None else anp.where(x < min, min, x)
    return x if max is None else anp.where(x > max, max, x)


def hard_sigmoid(x, alpha=1 / 6, beta=0.5):
    return clip(alpha * x + beta, 0.0, 1.0)


FUNCTIONS = {
    "identity": lambda x: 1.0 * x,
    "negate": lambda x: -x,
    "abs": lambda x: anp.where(x > 0, x, -x),
    "sign": lambda x: anp.sign(x) + 0.0 * x,
    "floor": lambda x: anp.floor(x) + 0.0 * x,
    "ceil": lambda x: anp.ceil(x) + 0.0 * x,
    "round": lambda x: anp.round(x) + 0.0 * x,
    "clip": clip,
    "reciprocal": lambda x: x**-1,
    "sqrt": anp.sqrt,
    "square": lambda x: x**2,
    "exp": anp.exp,
    "expm1": lambda x: anp.exp(x) - 1,
    "log": anp.log,
    "log1p": lambda x: anp.log(1 + x),
    "erf": erf,
    "sin": anp.sin,
    "cos": anp.cos,
    "tan": lambda x: anp.sin(x) / anp.cos(x),
    "asin": anp.arcsin,
    "acos": anp.arccos,
    "atan": anp.arctan,
    "sinh": lambda x: (anp.exp(x) - anp.exp(-x)) / 2,
    "cosh": lambda x: (anp.exp(x) + anp.exp(-x)) / 2,
    "tanh": anp.tanh,
    "asinh": lambda x: anp.log(x + anp.sqrt(x * x + 1)),
    "acosh": lambda x: anp.log(x + anp.sqrt(x * x - 1)),
    "atanh": lambda x: 0.5 * anp.log((1 + x) / (1 - x)),
    "sigmoid": sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "softsign": lambda x: x / (1 + anp.abs(x)),
    "relu": lambda x: anp.where(x > 0, x, 0.0),
    "leaky_relu": lambda x, slope=0.01: anp.where(x > 0, x, slope * x),
    "thresholded_relu": lambda x, alpha=1.0: anp.where(x > alpha, x, 0.0),
    "shrink": shrink,
    "elu": elu,
    "selu": lambda x: 1.0507009873554805 * elu(x, 1.6732632423543772),
    "celu": lambda x, alpha=1.0: anp.where(x > 0, x, alpha * (anp.exp(x / alpha) - 1)),
    "softplus": softplus,
    "gelu": gelu,
    "silu": lambda x, beta=1.0: x * sigmoid(beta * x),
    "hard_swish": lambda x: x * hard_sigmoid(x),
    "mish": lambda x: x * anp.tanh(softplus(x)),
}
"""Functions of one input, with their attributes as keywords."""

RANGES = {
    **dict.fromkeys(("sqrt", "log", "reciprocal"), (0.1, 2.0)),
    **dict.fromkeys(("asin", "acos", "atanh"), (-0.9, 0.9)),
    "acosh": (1.1, 3.0),
    "log1p": (-0.9, 2.0),
}
"""Where functions with a restricted domain have values."""

SETTINGS = [
    ("clip", {"min": -0.5, "max": 0.7}),
    ("clip", {"max": 0.7}),
    ("leaky_relu", {"slope": 0.3}),
    ("thresholded_relu", {"alpha": -0.4}),
    ("shrink", {"lambd": 0.3, "bias": 0.3}),
    ("elu", {"alpha": 0.6}),
    ("celu", {"alpha": 0.6}),
    ("hard_sigmoid", {"alpha": 0.4, "beta": 0.3}),
    ("gelu", {"approximate": "tanh"}),
    ("silu", {"beta": 1.702}),
]
"""Functions with other attributes than their defaults."""


def of_function(name):
    """Return what a function means in a graph: (call, params, x) -> value."""
    return lambda call, params, x: FUNCTIONS[name](x, **dict(call.attributes))


MEANING = {name: of_function(name) for name in FUNCTIONS}
"""What each op means, (call, params, *inputs) -> value."""


def case_of(op, *shapes, low=-2.0, high=2.0, **attributes):
    """Return a case whose reference is what the op means."""
    bare = Case(op, shapes, None, attributes)
    return Case(op, shapes, lambda params, *x: MEANING[op](bare.call, params, *x), attributes, low, high)


FUNCTION_CASES: list[Case] = [
    *(case_of(name, shape, low=low, high=high)
      for name in FUNCTIONS for shape in [(), (2, 3)] for low, high in [RANGES.get(name, (-2.0, 2.0))]),
    *(case_of(name, (2, 3), **attributes) for name, attributes in SETTINGS),
]  # fmt: skip
