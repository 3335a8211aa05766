"""A graph in PyTorch: an interpreter that shares no op with pcsim, and the gradients that autograd finds in it.

What treats samples apart is written for one sample and mapped over the batch; what couples them, draws at random or
takes whole numbers is PyTorch's own.
"""

from __future__ import annotations

from functools import partial, reduce

import numpy as np
import pytest
import torch_structure

from pcsim.engines.operands import draws_of

torch = pytest.importorskip("torch", reason="PyTorch is not installed: what is compared with it is skipped")
functional = torch.nn.functional
torch.set_num_threads(1)


def clip(x, min=None, max=None):
    return x if min is max is None else torch.clamp(x, min, max)


def celu(x, alpha=1.0):
    """As written: PyTorch's own derivative takes 1/alpha in float32."""
    return torch.clamp(x, min=0) + torch.clamp(alpha * torch.expm1(x / alpha), max=0)


FUNCTIONS = {
    "none": lambda x: x, "identity": lambda x: x, "negate": torch.neg, "abs": torch.abs, "sign": torch.sign,
    "floor": torch.floor, "ceil": torch.ceil, "round": torch.round, "clip": clip,
    "reciprocal": torch.reciprocal, "sqrt": torch.sqrt, "square": torch.square, "exp": torch.exp,
    "expm1": torch.expm1, "log": torch.log, "log1p": torch.log1p, "erf": torch.erf, "sin": torch.sin,
    "cos": torch.cos, "tan": torch.tan, "asin": torch.asin, "acos": torch.acos, "atan": torch.atan,
    "sinh": torch.sinh, "cosh": torch.cosh, "tanh": torch.tanh, "asinh": torch.asinh, "acosh": torch.acosh,
    "atanh": torch.atanh, "sigmoid": torch.sigmoid, "softsign": functional.softsign, "relu": torch.relu,
    "leaky_relu": lambda x, slope=0.01: functional.leaky_relu(x, slope),
    "thresholded_relu": lambda x, alpha=1.0: functional.threshold(x, alpha, 0.0),
    "hard_sigmoid": lambda x, alpha=1 / 6, beta=0.5: torch.clamp(alpha * x + beta, 0, 1),
    "shrink": lambda x, lambd=0.5, bias=0.0: torch.where(x.abs() > lambd, x - bias * torch.sign(x), 0 * x),
    "elu": functional.elu, "selu": functional.selu, "celu": celu, "gelu": functional.gelu,
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "silu": lambda x, beta=1.0: x * torch.sigmoid(beta * x),
    "hard_swish": functional.hardswish, "mish": functional.mish,
}  # fmt: skip
"""Functions of one input, with their attributes as keywords."""


def affine(call, params, x):
    f, bias = FUNCTIONS[call["activation"]], params.get("bias", 0.0)
    if call["convention"] == "f(Wx+b)":
        return f(x @ params["weight"].T + bias)
    return f(x) @ params["weight"].T + bias


def projection(call, params, *inputs):
    synapses = call["synapses"]
    sent = torch.stack([inputs[synapses.delays.index(d)][n] for d, n in zip(synapses.delay, synapses.pre, strict=True)])
    total = torch.zeros(synapses.units, dtype=sent.dtype).index_add(
        0, torch.as_tensor(np.array(synapses.post, np.int64)), params["weight"] * sent
    )
    return FUNCTIONS[call["activation"]](total + params.get("bias", 0.0))


def weighted_sum(call, params, *inputs):
    total = sum(weight * x for weight, x in zip(params["weight"], inputs, strict=True))
    return FUNCTIONS[call["activation"]](total + params.get("bias", 0.0))


def folded(call, x, how):
    """Return a sum or a mean; of no axis, the thing itself."""
    axes = call["axis"]
    axes = tuple(range(x.ndim)) if axes is None else axes
    return how(x, dim=axes, keepdim=call["keepdims"]) if axes else x


def sliced(call, params, x):
    axis = call["axis"] % x.ndim
    return torch.index_select(x, axis, tensor(np.arange(x.shape[axis])[call["start"] : call["stop"] : call["step"]]))


def padded(call, x, value):
    """Return x with what is around it; the last axis comes first in PyTorch."""
    rank = len(call["kernel"])
    given = call["padding"] if isinstance(call["padding"], tuple) else (call["padding"],) * rank
    around = [side if isinstance(side, tuple) else (side, side) for side in given]
    return functional.pad(x, [width for side in reversed(around) for width in side], value=value)


def spatial(call, name):
    """Return an attribute as PyTorch takes it."""
    return (call[name],) * len(call["kernel"]) if isinstance(call[name], int) else call[name]


def conv(call, params, x):
    run = (functional.conv1d, functional.conv2d, functional.conv3d)[len(call["kernel"]) - 1]
    how = {name: spatial(call, name) for name in ("stride", "dilation")}
    z = run(padded(call, x, 0.0)[None], params["weight"], params.get("bias"), groups=call["groups"], **how)[0]
    return FUNCTIONS[call["activation"]](z)


def windows(call, x, value):
    """Return the windows of the last axis, (..., windows, elements)."""
    stride = spatial(call, "stride") or call["kernel"]
    return padded(call, x, value).unfold(-1, call["kernel"][0], stride[0])


def product(call, params, *factors):
    return factors[0] * (product(call, params, *factors[1:]) if factors[1:] else 1.0)


def reduced(call, x, how):
    """Return what ``how`` makes of the axes, moved last and joined."""
    axes = range(x.ndim) if call["axis"] is None else [axis % x.ndim for axis in call["axis"]]
    stay = [axis for axis in range(x.ndim) if axis not in axes]
    rows = x.permute((*stay, *axes)).reshape((*(x.shape[axis] for axis in stay), -1))
    return how(rows).reshape(call.shape)


def of_reduction(how):
    return lambda call, params, x: reduced(call, x, how)


def group_norm(call, params, x, groups=None):
    """Return group norm, of axes before the channels one by one, as PyTorch's samples."""
    axis = call["axis"] % x.ndim
    samples = x.reshape(-1, *x.shape[axis:])
    twice = torch.cat([samples, samples])  # one number alone is refused
    found = functional.group_norm(
        twice, groups or call["groups"], params.get("weight"), params.get("bias"), call["epsilon"]
    )
    return found[: len(samples)].reshape(x.shape)


def rms_norm(call, params, x):
    return functional.rms_norm(x, x.shape[call["axis"] % x.ndim :], params.get("weight"), call["epsilon"])


def layer_norm(call, params, x):
    shape = x.shape[call["axis"] % x.ndim :]
    return functional.layer_norm(x, shape, params.get("weight"), params.get("bias"), call["epsilon"])


def lrn(call, params, x):
    axis = call["axis"] % x.ndim
    samples = x.movedim(axis, 0).reshape(1, x.shape[axis], -1)
    found = functional.local_response_norm(samples, call["size"], call["alpha"], call["beta"], call["k"])
    return found.reshape(x.movedim(axis, 0).shape).movedim(0, axis)


def scan(call, x, how, first):
    x = x.flip(call["axis"]) if call["reverse"] else x
    y = how(x, dim=call["axis"])
    if call["exclusive"]:
        start = torch.full_like(x.narrow(call["axis"], 0, 1), first)
        y = torch.cat([start, y.narrow(call["axis"], 0, x.shape[call["axis"]] - 1)], dim=call["axis"])
    return y.flip(call["axis"]) if call["reverse"] else y


def norm(call, params, x):
    return reduced(call, x, lambda rows: torch.linalg.vector_norm(rows, call["order"], dim=-1))


def lp_normalise(call, params, x):
    return functional.normalize(x, float(call["p"]), call["axis"], call["epsilon"])


SEPARATE = {
    "maximum": lambda call, params, *x: reduce(torch.maximum, x),
    "minimum": lambda call, params, *x: reduce(torch.minimum, x),
    "where": lambda call, params, mask, a, b: torch.where(mask != 0, a, b),
    "prelu": lambda call, params, x, slope: torch.where(x > 0, x, slope * x),
    "mod": lambda call, params, a, b: (torch.fmod if call["truncate"] else torch.remainder)(a, b),
    "max": of_reduction(lambda rows: torch.amax(rows, -1)),
    "min": of_reduction(lambda rows: torch.amin(rows, -1)),
    "prod": of_reduction(lambda rows: torch.prod(rows, -1)),
    "logsumexp": of_reduction(lambda rows: torch.logsumexp(rows, -1)),
    "log_sum": of_reduction(lambda rows: torch.log(torch.sum(rows, -1))),
    "sum_square": of_reduction(lambda rows: torch.sum(rows**2, -1)),
    "norm": norm,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "instance_norm": lambda call, params, x: group_norm(call, params, x, x.shape[call["axis"]]),
    "lrn": lrn,
    "lp_normalise": lp_normalise,
    "cumsum": lambda call, params, x: scan(call, x, torch.cumsum, 0.0),
    "cumprod": lambda call, params, x: scan(call, x, torch.cumprod, 1.0),
    **{name: (lambda call, params, x, f=f: f(x, **dict(call.attributes))) for name, f in FUNCTIONS.items()},
    "add": lambda call, params, *x: sum(x[1:], x[0]),
    "subtract": lambda call, params, a, b: a - b,
    "multiply": product,
    "divide": lambda call, params, a, b: a / b,
    "power": lambda call, params, x, y=None: torch.exp((call["exponent"] if y is None else y) * torch.log(x)),
    "affine": affine,
    "projection": projection,
    "weighted_sum": weighted_sum,
    "sum": lambda call, params, x: folded(call, x, torch.sum),
    "mean": lambda call, params, x: folded(call, x, torch.mean),
    "concat": lambda call, params, *x: torch.cat(x, dim=call["axis"]),
    "slice": sliced,
    "reshape": lambda call, params, x: x.reshape(call.shape),
    "transpose": lambda call, params, x: x.permute(call["axes"] or tuple(range(x.ndim))[::-1]),
    "softmax": lambda call, params, x: torch.softmax(x, call["axis"]),
    "log_softmax": lambda call, params, x: torch.log_softmax(x, call["axis"]),
    "conv": conv,
    "max_pool": lambda call, params, x: torch.max(windows(call, x, -100.0), -1)[0],
    "average_pool": lambda call, params, x: torch.mean(windows(call, x, 0.0), -1),
    **torch_structure.MEANING,
}


def batch_norm(call, params, x, buffers=None):
    """Return what PyTorch makes of (batch, *shape), and leave the running statistics in ``buffers``."""
    axis = 1 + call["axis"] % (x.ndim - 1)
    kept = buffers or (torch.zeros(x.shape[axis], dtype=x.dtype), torch.ones(x.shape[axis], dtype=x.dtype))
    found = functional.batch_norm(
        x.movedim(axis, 1), *kept, params.get("weight"), params.get("bias"),
        training=call["statistics"] == "batch", momentum=call["momentum"], eps=call["epsilon"],
    )  # fmt: skip
    return found.movedim(1, axis)


WHOLE = {
    "batch_norm": batch_norm,
    "dropout": lambda call, params, x: x * params["mask"] if "mask" in params else x,
    "embedding": lambda call, params, indices: functional.embedding(indices, params["weight"]),
}
LOSS = {
    "squared_error": lambda mu, target: 0.5 * torch.sum((target - mu) ** 2),
    "cross_entropy": lambda mu, target: -torch.sum(target * torch.log_softmax(mu, -1)),
}


def tensor(array, dtype=None):
    return torch.as_tensor(np.array(array), dtype=dtype)


def values_of(task, theta):
    """Return the value of every vertex, (batch, *shape), in a feedforward sweep."""
    graph, drawn, found = task.graph, draws_of(task), {}
    for name, vertex in graph.vertices.items():
        params = {slot: theta[parameter] for slot, parameter in vertex.params}
        if vertex.op.role == "source":
            found[name] = tensor(task.inputs[name])
        elif vertex.op.role == "parameter":
            found[name] = params["value"].expand(task.batch, *vertex.shape)
        else:
            inputs = [found[edge.pre] for edge in graph.incoming[name]]
            params |= {key: tensor(array) for key, array in drawn.get(name, {}).items()}
            found[name] = worked_out(vertex, params, inputs)
    return found


def worked_out(vertex, params, inputs):
    if vertex.op.name in WHOLE:
        return WHOLE[vertex.op.name](vertex.call, params, *inputs)
    return torch.vmap(partial(SEPARATE[vertex.op.name], vertex.call, params))(*inputs)


def gradients(task):
    """Return {parameter: -dL/dp}, and the loss."""
    theta = {name: tensor(value).requires_grad_() for name, value in task.parameters.items()}
    values = values_of(task, theta)
    loss = sum(LOSS[task.losses[name]](values[name], tensor(target)) for name, target in task.targets.items())
    loss = loss + 0 * sum(value.sum() for value in theta.values())  # of a parameter that nothing uses, too
    found = torch.autograd.grad(loss, list(theta.values()))
    return {name: -gradient.numpy() for name, gradient in zip(theta, found, strict=True)}, float(loss.detach())
