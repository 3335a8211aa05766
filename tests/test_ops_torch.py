"""Ops agree with PyTorch's own functions in float64, to 1e-12: values and derivatives. One table of all."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch_graph
import torch_structure
from op_cases_functions import FUNCTION_CASES
from op_cases_structure import STRUCTURE

from pcsim.ops import OPS, complete

if TYPE_CHECKING:
    from collections.abc import Callable

torch = pytest.importorskip("torch", reason="PyTorch is not installed: what is compared with it is skipped")
F = torch.nn.functional
BATCH = 3


@dataclass(frozen=True)
class Row:
    """An op as a document uses it, and PyTorch's function of a batch of samples.

    ``torch`` is called with inputs (batch, *shape), then with parameters by name; inputs are from ``low`` to ``high``.
    Inputs that take whole numbers are given as ``whole``: {input number: array of the vertex's shape}.
    """

    op: str
    shapes: tuple[tuple[int, ...], ...]
    torch: Callable[..., Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    low: float = -2.0
    high: float = 2.0
    whole: dict[int, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        values = "".join(f"-{v}" for v in self.attributes.values())
        return f"{self.op}{list(self.shapes)}{values}".replace(" ", "")


def with_front(run, rank):
    """Return a function of (batch, *front, channels, *extents), of one of (batch, channels, *extents)."""

    def of_any(x, **params):
        front = x.shape[: x.ndim - rank - 1]
        found = run(x.reshape(-1, *x.shape[x.ndim - rank - 1 :]), **params)
        return found.reshape(*front, *found.shape[1:])

    return of_any


def conv_row(shape, channels, kernel, activation="none", **attributes):
    rank = len(kernel)
    run = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    act = torch.tanh if activation == "tanh" else lambda z: z
    given = {"channels": channels, "kernel": kernel, "activation": activation, **attributes}
    how = {key: value for key, value in attributes.items() if key != "bias"}
    return Row("conv", (shape,), with_front(lambda x, **params: act(run(x, **params, **how)), rank), given)


def transpose_row(shape, channels, kernel, **attributes):
    rank = len(kernel)
    run = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    how = {key: value for key, value in attributes.items() if key != "bias"}
    given = {"channels": channels, "kernel": kernel, **attributes}
    return Row("conv_transpose", (shape,), with_front(lambda x, **params: run(x, **params, **how), rank), given)


def pool_row(op, shape, kernel, **attributes):
    rank = len(kernel)
    functions = {
        "max_pool": (F.max_pool1d, F.max_pool2d, F.max_pool3d),
        "average_pool": (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    }[op]
    names = {"ceil": "ceil_mode", "count_padding": "count_include_pad"}
    how = {names.get(key, key): value for key, value in attributes.items()}
    run = with_front(lambda x: functions[rank - 1](x, tuple(kernel), **how), rank)
    return Row(op, (shape,), run, {"kernel": kernel, **attributes})


def adaptive_row(op, shape, size):
    kind = "max" if op == "adaptive_max_pool" else "avg"
    run = getattr(F, f"adaptive_{kind}_pool{len(size)}d")
    return Row(op, (shape,), with_front(lambda x: run(x, tuple(size)), len(size)), {"size": size})


def unfold_row(shape, kernel, **how):
    return Row("unfold", (shape,), lambda x: F.unfold(x, tuple(kernel), **how), {"kernel": kernel, **how})


def fold_row(shape, size, kernel, **how):
    run = lambda x: F.fold(x, tuple(size), tuple(kernel), **how)  # noqa: E731
    return Row("fold", (shape,), run, {"size": size, "kernel": kernel, **how})


CONVOLUTIONS = [
    conv_row((3, 9), 4, [3], stride=2, padding=1),
    conv_row((3, 8, 9), 5, [3, 5], "tanh", padding=[1, 2]),
    conv_row((4, 9, 9), 6, [3, 3], stride=[2, 3], dilation=2, groups=2, bias=False),
    conv_row((4, 7, 7), 8, [3, 3], padding=1, groups=4),
    conv_row((6, 5, 5), 4, [1, 1]),
    conv_row((2, 5, 6, 5), 3, [2, 3, 2], padding=[0, 1, 1]),
    conv_row((2, 3, 8, 8), 2, [5, 5]),
    transpose_row((4, 5), 3, [3], stride=2, padding=1, output_padding=1),
    transpose_row((4, 5, 4), 6, [3, 4], stride=[2, 1], groups=2, padding=1),
    transpose_row((3, 4, 4), 2, [2, 3], dilation=2, stride=2, output_padding=1, bias=False),
    transpose_row((2, 3, 3, 2), 2, [2, 2, 2], stride=2),
    *(
        pool_row(op, *row)
        for op in ("max_pool", "average_pool")
        for row in [((3, 9), [3]), ((3, 8, 9), [2, 3]), ((2, 6, 6, 6), [2, 2, 3])]
    ),
    pool_row("max_pool", (3, 9, 9), [3, 3], stride=2, padding=1),
    pool_row("max_pool", (3, 10, 9), [3, 2], stride=[2, 3], dilation=[2, 1], ceil=True),
    pool_row("average_pool", (3, 9, 9), [3, 3], stride=2, padding=1, ceil=True),
    pool_row("average_pool", (3, 10, 9), [3, 2], stride=[2, 3], padding=[1, 0], ceil=True, count_padding=False),
    Row("lp_pool", ((2, 6, 7),), lambda x: F.lp_pool2d(x, 2, (2, 3), 2), {"kernel": [2, 3], "stride": 2}),
    *(
        adaptive_row(op, shape, size)
        for op in ("adaptive_average_pool", "adaptive_max_pool")
        for shape, size in [((3, 7), [3]), ((2, 7, 8), [3, 4]), ((2, 6, 5), [1, 1]), ((2, 3, 3), [5, 2])]
    ),
    unfold_row((2, 6, 7), [2, 3], padding=1, stride=2),
    fold_row((12, 16), [5, 6], [2, 3]),
    fold_row((12, 6), [4, 6], [2, 3], padding=[1, 0], stride=2),
]


def structure_row(case):
    """Return a case of what rearranges, indexes or contracts, with PyTorch's function mapped over the batch."""
    run = torch.vmap(partial(torch_structure.MEANING[case.op], case.call, {}))
    return Row(case.op, case.shapes, run, case.attributes, case.low)


def function_row(case):
    """Return a case of a function, norm, reduction or scan, with PyTorch's function mapped over the batch."""

    def run(*x, **params):
        return torch.vmap(partial(torch_graph.SEPARATE[case.op], case.call, params))(*x)

    masks = {0: np.arange(prod(case.shapes[0])).reshape(case.shapes[0]) % 2} if case.op == "where" else {}
    return Row(case.op, case.shapes, run, case.attributes, case.low, case.high, masks)


FUNCTIONS = [function_row(case) for case in FUNCTION_CASES if case.attributes.get("before") is None]
"""All but windows of channels that PyTorch cannot shift."""


def resized_row(size, mode, how, **attributes):
    run = lambda x: torch_structure.interpolated(x, size, **how).reshape(BATCH, 2, *size)  # noqa: E731
    return Row("resize", ((2, 5, 6),), run, {"size": size, "axes": [1, 2], "mode": mode, **attributes})


ALIGNED = {"align_corners": True}
RESIZED = [
    row
    for size in ([8, 9], [3, 4], [2, 13])
    for row in [
        resized_row(size, "nearest", {"mode": "nearest-exact"}, rounding="round_prefer_ceil"),
        resized_row(size, "nearest", {"mode": "nearest"}, rounding="floor", coordinates="asymmetric"),
        resized_row(size, "linear", {"mode": "bilinear"}),
        resized_row(size, "linear", {"mode": "bilinear", **ALIGNED}, coordinates="align_corners"),
        resized_row(size, "linear", {"mode": "bilinear", "antialias": True}, antialias=True, exclude_outside=True),
        resized_row(size, "cubic", {"mode": "bicubic"}),
        resized_row(size, "cubic", {"mode": "bicubic", **ALIGNED}, coordinates="align_corners"),
        resized_row(size, "cubic", {"mode": "bicubic", "antialias": True}, antialias=True, exclude_outside=True,
                    cubic_coefficient=-0.5),
    ]
]  # fmt: skip
ROWS = [*CONVOLUTIONS, *map(structure_row, STRUCTURE), *FUNCTIONS, *RESIZED]


def derivatives(row, inputs, params, g):
    """Return value, derivatives at the inputs and at the parameters, of pcsim's op at (batch, *shape)."""
    op, call = OPS[row.op], complete(OPS[row.op], row.shapes, row.attributes)
    front = {name: value[None] for name, value in params.items()}
    known = (np, call, front, tuple(x[None] for x in inputs))
    mu, saved = op.forward(*known)
    back, learnt = op.to_inputs(*known, mu, saved, g[None]), op.to_params(*known, mu, saved, g[None])
    return mu[0], [x if x is None else x[0] for x in back], {name: value[0] for name, value in learnt.items()}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_agrees_with_pytorch(row):
    rng, op = np.random.default_rng(3), OPS[row.op]
    call = complete(op, row.shapes, row.attributes)
    inputs = [rng.uniform(row.low, row.high, (BATCH, *shape)) for shape in row.shapes]
    for number, array in row.whole.items():
        inputs[number] = np.broadcast_to(np.asarray(array, np.int64), inputs[number].shape)
    params = {name: rng.uniform(-1, 1, spec.shape) for name, spec in op.params(call).items()}
    g = rng.normal(size=(BATCH, *call.shape))
    mu, back, learnt = derivatives(row, inputs, params, g)

    theirs = [torch.as_tensor(np.array(x)).requires_grad_(x.dtype == np.float64) for x in inputs]
    weights = {name: torch.as_tensor(value).requires_grad_() for name, value in params.items()}
    value = row.torch(*theirs, **weights)
    moving = [x for x in theirs if x.requires_grad]
    found = torch.autograd.grad(value, [*moving, *weights.values()], torch.as_tensor(g))
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(mu, value.detach().numpy(), **close)
    for got, want in zip([x for x in back if x is not None], found, strict=False):
        np.testing.assert_allclose(got, want.numpy(), **close)
    for got, want in zip(learnt.values(), found[len(moving) :], strict=True):
        np.testing.assert_allclose(got, want.numpy(), **close)
