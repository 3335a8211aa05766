"""Functions, norms, reductions and scans in autograd's NumPy, of one sample, and cases of each."""

from __future__ import annotations

from functools import reduce
from math import pi, sqrt

import autograd.numpy as anp
import numpy as np
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


def rows(call, x):
    """Return what is reduced along the last axis."""
    axes = range(x.ndim) if call["axis"] is None else [axis % x.ndim for axis in call["axis"]]
    stay = [axis for axis in range(x.ndim) if axis not in axes]
    return anp.reshape(anp.transpose(x, (*stay, *axes)), (*(x.shape[axis] for axis in stay), -1))


def of_reduction(f):
    return lambda call, params, x: anp.reshape(f(call, rows(call, x)), call.shape)


def norm(call, x):
    return anp.sum(anp.abs(x), axis=-1) if call["order"] == 1 else anp.sqrt(anp.sum(x**2, axis=-1))


def standardised(call, x, axes, centred=True):
    """Return x with mean 0 and variance 1 over some axes."""
    x = x - anp.mean(x, axis=axes, keepdims=True) if centred else x
    return x / anp.sqrt(anp.mean(x**2, axis=axes, keepdims=True) + call["epsilon"])


def weighted(call, params, x, behind):
    """Return x times weight plus bias, which have so many axes behind them."""
    for name, combine in (("weight", anp.multiply), ("bias", anp.add)):
        if name in params:
            x = combine(x, anp.reshape(params[name], params[name].shape + (1,) * behind))
    return x


def of_layer_norm(centred):
    def layer_norm(call, params, x):
        axes = tuple(range(call["axis"] % x.ndim, x.ndim))
        return weighted(call, params, standardised(call, x, axes, centred), 0)

    return layer_norm


def group_norm(call, params, x, groups=None):
    axis = call["axis"] % x.ndim
    groups = groups or call["groups"]
    split = anp.reshape(x, (*x.shape[:axis], groups, -1))
    return weighted(call, params, anp.reshape(standardised(call, split, -1), x.shape), x.ndim - 1 - axis)


def instance_norm(call, params, x):
    return group_norm(call, params, x, x.shape[call["axis"]])


def lrn(call, params, x):
    axis, size = call["axis"] % x.ndim, call["size"]
    before = size // 2 if call["before"] is None else call["before"]
    channels = x.shape[axis]
    near = np.array([[-before <= k - c < size - before for k in range(channels)] for c in range(channels)], float)
    squares = anp.moveaxis(anp.tensordot(near, x**2, axes=(1, axis)), 0, axis)
    return x / (call["k"] + call["alpha"] / size * squares) ** call["beta"]


def lp_normalise(call, params, x):
    total = anp.sum(anp.abs(x) if call["p"] == 1 else x**2, axis=call["axis"], keepdims=True)
    return x / anp.maximum(total if call["p"] == 1 else anp.sqrt(total), call["epsilon"])


def of_scan(f):
    def scan(call, params, x):
        x = anp.moveaxis(x, call["axis"], 0)
        x = x[::-1] if call["reverse"] else x
        late = 0 if call["exclusive"] else 1
        y = anp.stack([f(x[: place + late], axis=0) for place in range(x.shape[0])])
        return anp.moveaxis(y[::-1] if call["reverse"] else y, 0, call["axis"])

    return scan


def of_extreme(f):
    return lambda call, params, x, *others: reduce(f, others, x)


def mod(call, params, a, b):
    return a - b * (anp.trunc(a / b) if call["truncate"] else anp.floor(a / b))


MEANING = {
    **{name: of_function(name) for name in FUNCTIONS},
    "maximum": of_extreme(anp.maximum),
    "minimum": of_extreme(anp.minimum),
    "where": lambda call, params, mask, a, b: (mask != 0) * a + (mask == 0) * b,
    "prelu": lambda call, params, x, slope: x * (x > 0) + slope * x * (x <= 0),
    "mod": mod,
    "max": of_reduction(lambda call, x: anp.max(x, axis=-1)),
    "min": of_reduction(lambda call, x: anp.min(x, axis=-1)),
    "prod": of_reduction(lambda call, x: reduce(anp.multiply, [x[..., n] for n in range(x.shape[-1])])),
    "logsumexp": of_reduction(lambda call, x: anp.log(anp.sum(anp.exp(x), axis=-1))),
    "log_sum": of_reduction(lambda call, x: anp.log(anp.sum(x, axis=-1))),
    "sum_square": of_reduction(lambda call, x: anp.sum(x**2, axis=-1)),
    "norm": of_reduction(norm),
    "layer_norm": of_layer_norm(centred=True),
    "rms_norm": of_layer_norm(centred=False),
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "lrn": lrn,
    "lp_normalise": lp_normalise,
    "cumsum": of_scan(anp.sum),
    "cumprod": of_scan(anp.prod),
}
"""What each op means, (call, params, *inputs) -> value."""


def case_of(op, *shapes, low=-2.0, high=2.0, **attributes):
    """Return a case whose reference is what the op means."""
    bare = Case(op, shapes, None, attributes)
    return Case(op, shapes, lambda params, *x: MEANING[op](bare.call, params, *x), attributes, low, high)


FUNCTION_CASES: list[Case] = [
    *(case_of(name, shape, low=low, high=high)
      for name in FUNCTIONS for shape in [(), (2, 3)] for low, high in [RANGES.get(name, (-2.0, 2.0))]),
    *(case_of(name, (2, 3), **attributes) for name, attributes in SETTINGS),
    *(case_of(name, *shapes)
      for name in ("maximum", "minimum", "prelu")
      for shapes in [((), ()), ((2, 3), (3,)), ((1, 3), (2, 1))]),
    case_of("maximum", (2, 3), (3,), ()),
    case_of("minimum", (3,), (3,), (1,), (3,)),
    *(case_of("mod", (2, 3), (3,), low=0.5, truncate=truncate) for truncate in (False, True)),
    *(case_of("where", *shapes) for shapes in [((), (), ()), ((3,), (2, 3), ()), ((2, 1), (3,), (3,))]),
    *(case_of(name, shape, low=0.3 if name == "log_sum" else -2.0, axis=axis, keepdims=keepdims)
      for name in ("max", "min", "prod", "logsumexp", "log_sum", "sum_square", "norm")
      for shape, axis, keepdims in [((), None, False), ((2, 3), None, True), ((2, 3), 0, False),
                                    ((2, 3, 4), (-1, 0), True)]),
    case_of("norm", (2, 3), order=1, axis=1),
    *(case_of(name, shape, axis=axis, epsilon=0.01, affine=affine)
      for name in ("layer_norm", "rms_norm")
      for shape, axis, affine in [((4,), -1, True), ((2, 3), 0, True), ((2, 3, 2), 1, True), ((2, 3), -1, False)]),
    case_of("layer_norm", (4,), bias=False),
    *(case_of("group_norm", shape, axis=axis, groups=groups, affine=affine)
      for shape, axis, groups, affine in [((4,), 0, 2, True), ((6, 2), 0, 3, True), ((2, 4, 2, 2), 1, 2, True),
                                          ((4, 3), 0, 1, False)]),
    *(case_of("instance_norm", shape, axis=axis, affine=affine)
      for shape, axis, affine in [((2, 4), 0, True), ((2, 3, 2, 2), 1, True), ((2, 5), 0, False)]),
    *(case_of("lrn", shape, size=size, alpha=0.7, beta=0.6, k=1.5, axis=axis, before=before)
      for shape, size, axis, before in [((5,), 3, 0, None), ((5, 2), 4, 0, None), ((2, 5), 4, 1, 1), ((2,), 7, 0, 3)]),
    *(case_of("lp_normalise", (2, 3), p=p, axis=axis) for p in (1, 2) for axis in (0, -1)),
    *(case_of(name, shape, axis=axis, exclusive=exclusive, reverse=reverse)
      for name in ("cumsum", "cumprod")
      for shape, axis, exclusive, reverse in [((4,), 0, False, False), ((2, 4), 1, True, False), ((1,), 0, True, True),
                                              ((4, 2), 0, True, True), ((2, 4), -1, False, True)]),
]  # fmt: skip
